"""Look inside a network while it runs: layers by name, hooks that leave no trace, and what layers give.

The one place of the library that registers hooks. Every method asks ``hooked`` or ``recording``, so that no
hook outlives the ``with`` block that needed it.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.networks.inputs import network_input
from lessons_lib.networks.running import evaluating, run, uncompiled

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]
"""As PyTorch calls it: with the module, what it was given, and its output."""


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """The names of all layers of ``model`` that can be captured, outermost first; compiling it changes none.

    >>> layer_names(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.ReLU())))
    ('0', '1', '1.0')
    """
    return tuple(name for name, _ in uncompiled(model).named_modules() if name)


def get_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer called ``name``.

    Raises:
        ValueError: if there is none; the message lists the closest and all valid names.

    >>> get_layer(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), "1")
    Linear(in_features=12, out_features=2, bias=True)
    """
    model = uncompiled(model)
    modules = dict(model.named_modules())
    if not name or name not in modules:
        names = layer_names(model)
        close = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{type(model).__name__} has no layer {name!r}.{hint} Its layers: {', '.join(names)}"
        )
    return modules[name]


@contextlib.contextmanager
def hooked(model: nn.Module, hooks: Mapping[str, ForwardHook]) -> Iterator[nn.Module]:
    """Run ``model`` in evaluation mode with forward hooks on named layers, and leave no trace.

    On any exit, an exception in the block or while registering included, all hooks are removed and each
    module has the training flag it came with. Gradients are not touched. What ``torch.compile`` made runs
    uncompiled inside the block, since compiled code passes hooks by.

    A network under activation checkpointing runs parts of itself again in the backward pass, so a backward pass
    belongs inside the block too, or batch norms would learn from it.

    Args:
        model: any module whose layers have names.
        hooks: a forward hook for each layer name, called as ``hook(module, inputs, output)``; what it returns,
            if not ``None``, replaces the output.

    Raises:
        ValueError: for an unknown layer.
        TypeError: for a scripted or traced one.

    >>> model = nn.Sequential(nn.Identity(), nn.Flatten())
    >>> with hooked(model, {"0": lambda module, inputs, output: 2 * output}):
    ...     model(torch.ones(1, 3))
    tensor([[2., 2., 2.]])
    >>> model(torch.ones(1, 3))
    tensor([[1., 1., 1.]])
    """
    with contextlib.ExitStack() as stack:
        if any(_is_compiled(module) for module in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(evaluating(model))
        _refuse_scripted("the network", model)
        for name, hook in hooks.items():
            layer = get_layer(model, name)
            _refuse_scripted(f"layer {name!r}", layer)
            stack.callback(layer.register_forward_hook(hook).remove)
        yield model


def _refuse_scripted(what: str, module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise TypeError(f"{what} is scripted, which calls no hooks: take the network it was made from")


def _is_compiled(module: nn.Module) -> bool:
    return uncompiled(module) is not module or module._compiled_call_impl is not None


@contextlib.contextmanager
def recording(model: nn.Module, layers: Sequence[str], *, graph: bool = False) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of ``layers`` in each forward pass inside the block.

    Outputs are copied, since a later in-place ReLU would overwrite them, and detached from the graph.

    Args:
        model: any module whose layers have names.
        layers: the names of the layers.
        graph: whether to leave the outputs in the graph, so that the network's output can be differentiated with
            respect to them (``torch.autograd.grad``), whether or not its parameters are frozen, and they with respect
            to the input. Do so inside the block.

    Yields:
        A dictionary that holds, after a forward pass, each layer's output by name.

    Raises:
        ValueError: for an unknown layer, for a layer that runs twice in one pass (which output would be meant?)
            and, at the end of the pass, for one that did not run.
        TypeError: for a layer whose output is not a single tensor.
        RuntimeError: for a layer whose output is not floating point, where the graph is wanted.

    >>> model = nn.Sequential(nn.ReLU(), nn.Flatten())
    >>> with recording(model, ["0"]) as outputs:
    ...     _ = model(torch.tensor([[-1.0, 2.0]]))
    >>> outputs["0"]
    tensor([[0., 2.]])
    """
    outputs: dict[str, Tensor] = {}
    runs = dict.fromkeys(layers, 0)
    passing = False

    def record(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"layer {name!r} gives a {type(output).__name__}, not a tensor: choose a layer inside it"
            )
        kept = output.clone() if graph else output.detach().clone()
        if passing:  # and not run again, in the backward pass of a network under activation checkpointing
            runs[name] += 1
            outputs[name] = kept.requires_grad_() if graph else kept
        # nobody but the caller holds the copy kept: the network goes on from another, which it may overwrite
        return kept.clone() if graph else None

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal passing
        passing = True
        runs.update(dict.fromkeys(layers, 0))

    def check(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal passing
        passing = False
        for name, times in runs.items():
            check_ran_once(name, times)

    with hooked(model, {name: partial(record, name) for name in layers}), contextlib.ExitStack() as stack:
        stack.callback(uncompiled(model).register_forward_pre_hook(start).remove)
        stack.callback(uncompiled(model).register_forward_hook(check).remove)
        yield outputs


def check_ran_once(layer: str, times: int) -> None:
    """ValueError unless a layer ran just once in a forward pass."""
    if times == 0:
        raise ValueError(f"layer {layer!r} did not run in this forward pass")
    if times > 1:
        raise ValueError(
            f"layer {layer!r} ran {times} times in one forward pass, so its activation is ambiguous; "
            "give each use a module of its own"
        )


@torch.no_grad()
def capture(
    model: nn.Module, inputs: Tensor, layers: Sequence[str], *, batch_size: int = 250
) -> dict[str, Tensor]:
    """Activations of ``layers`` on ``inputs``, in evaluation mode.

    Args:
        model: any module whose layers have names.
        inputs: the model's input, float, shape (N, ...).
        layers: the names of the layers.
        batch_size: how many inputs to run at once; the result does not depend on it.

    Returns:
        Each layer's output by name, on the CPU: shape (N, C, H, W) for feature maps.

    Raises:
        ValueError: for no inputs, NaN or infinity in them, an unknown layer, or one that runs twice or not at all.
        TypeError: for inputs that are not floating point, or not of the network's precision.

    >>> maps = capture(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.rand(5, 3, 32, 32), ["0", "1"])
    >>> {name: tuple(output.shape) for name, output in maps.items()}
    {'0': (5, 8, 30, 30), '1': (5, 8, 30, 30)}
    """
    batches: dict[str, list[Tensor]] = {name: [] for name in layers}
    with recording(model, layers) as outputs:
        for batch in inputs.split(batch_size):
            run(model, network_input(model, batch))
            for name in layers:
                batches[name].append(outputs[name].cpu())
    return {name: torch.cat(parts) for name, parts in batches.items()}
