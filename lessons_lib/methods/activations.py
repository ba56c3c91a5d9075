"""Look at what a network computes on the way: capture activations by layer name, and measure feature maps.

The one place of the library that registers hooks. Every other method asks :func:`hooked` or
:func:`recording`, so that no hook outlives the ``with`` block that needed it.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.training import evaluating

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """The names of all layers of ``model`` that can be captured, outermost first."""
    return tuple(name for name, _ in model.named_modules() if name)


def get_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer called ``name``.

    Raises:
        ValueError: if there is none; the message lists the closest and all valid names.
    """
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
    module has the training flag it came with. Gradients are not touched.

    Args:
        model: any module whose layers have names.
        hooks: a forward hook for each layer name, called as ``hook(module, inputs, output)``; what it returns,
            if not ``None``, replaces the output.

    Raises:
        ValueError: for an unknown layer.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(evaluating(model))
        for name, hook in hooks.items():
            handle = get_layer(model, name).register_forward_hook(hook)
            stack.callback(handle.remove)
        yield model


@contextlib.contextmanager
def recording(model: nn.Module, layers: Sequence[str], *, graph: bool = False) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of ``layers`` in each forward pass inside the block.

    Outputs are copied, since a later in-place ReLU would overwrite them, and detached from the graph.

    Args:
        model: any module whose layers have names.
        layers: the names of the layers.
        graph: whether to leave the outputs in the graph, so that the network's output can be differentiated
            with respect to them (``torch.autograd.grad``), whether or not its parameters are frozen.

    Yields:
        A dictionary that holds, after a forward pass, each layer's output by name.

    Raises:
        ValueError: for an unknown layer, for a layer that runs twice in one pass (which output would be meant?)
            and, when the block ends, for one that did not run.
        TypeError: for a layer whose output is not a single tensor.
    """
    outputs: dict[str, Tensor] = {}
    runs = dict.fromkeys(layers, 0)

    def recorder(name: str) -> ForwardHook:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"layer {name!r} gives a {type(output).__name__}, not a tensor: choose a layer inside it"
                )
            runs[name] += 1
            if not graph:
                outputs[name] = output.detach().clone()
                return None
            outputs[name] = output if output.requires_grad else output.requires_grad_()
            return output.clone()  # the network goes on from a copy, which it may overwrite

        return record

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        runs.update(dict.fromkeys(layers, 0))

    def check(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        for name, times in runs.items():
            if times == 0:
                raise ValueError(f"layer {name!r} did not run in this forward pass")
            if times > 1:
                raise ValueError(
                    f"layer {name!r} ran {times} times in one forward pass, so its activation is ambiguous; "
                    "give each use a module of its own"
                )

    with hooked(model, {name: recorder(name) for name in layers}), contextlib.ExitStack() as stack:
        stack.callback(model.register_forward_pre_hook(start).remove)
        stack.callback(model.register_forward_hook(check).remove)
        yield outputs


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
        ValueError: for no inputs, NaN in the inputs, an unknown layer, or one that runs twice or not at all.
        TypeError: for inputs that are not floating point.
    """
    if not inputs.is_floating_point():
        raise TypeError(f"inputs must be floating point, not {inputs.dtype}: use to_input for uint8 pictures")
    if not len(inputs):
        raise ValueError("there are no inputs to capture activations of")
    if torch.isnan(inputs).any():
        raise ValueError("the inputs hold NaN")
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    batches: dict[str, list[Tensor]] = {name: [] for name in layers}
    with recording(model, layers) as outputs:
        for batch in inputs.split(batch_size):
            model(batch.to(device))
            for name in layers:
                batches[name].append(outputs[name].cpu())
    return {name: torch.cat(parts) for name, parts in batches.items()}


def sparsity(maps: Tensor) -> Tensor:
    """Share of a channel's activations that are zero or below, over all pictures and positions.

    Args:
        maps: feature maps after a ReLU, shape (N, C, H, W).

    Returns:
        Shape (C,), each in 0–1: 0 is dense, 1 is silent.
    """
    _check_maps(maps)
    return (maps <= 0).double().mean(dim=(0, 2, 3))


def localisation(maps: Tensor) -> Tensor:
    """How much of a feature map's activation sits in few positions.

    The sparseness of Vinje and Gallant ("Sparse coding and decorrelation in primary visual cortex during natural
    vision", Science 2000) taken over space: ``(1 − mean(a)² / mean(a²)) / (1 − 1/n)`` with n positions. The
    division by ``1 − 1/n`` makes maps of different sizes comparable.

    Args:
        maps: feature maps after a ReLU, none negative, shape (N, C, H, W), at least two positions each.

    Returns:
        Shape (N, C), each in 0–1: 0 for a flat map, 1 for a single active position, NaN for an all-zero map.

    Raises:
        ValueError: for another shape, a single position or negative values.
    """
    _check_maps(maps)
    positions = maps.shape[2] * maps.shape[3]
    if positions < 2:
        raise ValueError("localisation needs maps of at least two positions")
    if (maps < 0).any():
        raise ValueError("localisation is defined for activations after a ReLU; these hold negative values")
    flat = maps.flatten(2).double()
    # dividing by the peak first keeps the squares of tiny activations from underflowing
    flat = flat / flat.amax(2, keepdim=True)
    spread = flat.mean(2).square() / flat.square().mean(2)
    return (1 - spread) / (1 - 1 / positions)


def dead_channels(maps: Tensor) -> Tensor:
    """Which channels are zero or below at every position of every picture given.

    "Dead" holds for these pictures only: another one may wake a channel, so use many.

    Args:
        maps: feature maps after a ReLU, shape (N, C, H, W).

    Returns:
        bool, shape (C,).
    """
    _check_maps(maps)
    return (maps <= 0).all(dim=3).all(dim=2).all(dim=0)


def likeness(maps: Tensor, images: Tensor) -> Tensor:
    """How much a feature map looks like the picture: correlation with the picture's brightness, sign ignored.

    The picture is averaged down to the map's size first, so that both have the same detail.

    Args:
        maps: feature maps, shape (N, C, h, w).
        images: the pictures they were made from, shape (N, 3, H, W), any range.

    Returns:
        The absolute Pearson correlation over positions, shape (N, C), in 0–1; NaN where a map or the shrunken
        picture is flat.

    Raises:
        ValueError: if there are not as many pictures as maps.
    """
    _check_maps(maps)
    if images.ndim != 4 or images.shape[1] != 3 or len(images) != len(maps):
        raise ValueError(f"need {len(maps)} pictures of shape (3, H, W), got {tuple(images.shape)}")
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=images.device)
    grey = torch.einsum("nchw,c->nhw", images.double(), luma)[:, None]
    shrunken = F.adaptive_avg_pool2d(grey, (maps.shape[2], maps.shape[3])).flatten(2)
    flat = maps.double().flatten(2)
    return _correlation(flat, shrunken.to(flat.device)).abs()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a = a - a.mean(-1, keepdim=True)
    b = b - b.mean(-1, keepdim=True)
    norms = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norms > 1e-12, (a * b).sum(-1) / norms, torch.nan)


@dataclass(frozen=True)
class Measures:
    """One layer's measures, each a mean in 0–1 over channels (and pictures, where a picture has its own)."""

    sparsity: float
    localisation: float
    dead: float
    likeness: float


def measure(maps: Tensor, images: Tensor) -> Measures:
    """All measures of one layer's feature maps (N, C, H, W) made from ``images`` (N, 3, H, W); silent maps left out."""
    return Measures(
        sparsity=sparsity(maps).mean().item(),
        localisation=localisation(maps).nanmean().item(),
        dead=dead_channels(maps).double().mean().item(),
        likeness=likeness(maps, images).nanmean().item(),
    )


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.numel():
        raise ValueError(
            f"feature maps must have shape (N, C, H, W) and not be empty, got {tuple(maps.shape)}"
        )
    if torch.isnan(maps).any():
        raise ValueError("the feature maps hold NaN")
