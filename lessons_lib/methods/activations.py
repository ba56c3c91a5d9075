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

from lessons_lib.networks import network_input, run, uncompiled
from lessons_lib.training import evaluating

ForwardHook = Callable[[nn.Module, tuple[Any, ...], Any], Any]


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """The names of all layers of ``model`` that can be captured, outermost first; compiling it changes none."""
    return tuple(name for name, _ in uncompiled(model).named_modules() if name)


def get_layer(model: nn.Module, name: str) -> nn.Module:
    """The layer called ``name``.

    Raises:
        ValueError: if there is none; the message lists the closest and all valid names.
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
        TypeError: for a layer whose output is not a single tensor, or not floating point where the graph is wanted.
    """
    outputs: dict[str, Tensor] = {}
    runs = dict.fromkeys(layers, 0)
    passing = False

    def recorder(name: str) -> ForwardHook:
        def record(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Tensor | None:
            if not isinstance(output, Tensor):
                raise TypeError(
                    f"layer {name!r} gives a {type(output).__name__}, not a tensor: choose a layer inside it"
                )
            kept = output.clone() if graph else output.detach().clone()
            if passing:  # and not run again, in the backward pass of a network under activation checkpointing
                runs[name] += 1
                outputs[name] = _differentiable(kept, name) if graph else kept
            # nobody but the caller holds the copy kept: the network goes on from another, which it may overwrite
            return kept.clone() if graph else None

        return record

    def start(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        nonlocal passing
        passing = True
        runs.update(dict.fromkeys(layers, 0))

    def check(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal passing
        passing = False
        for name, times in runs.items():
            if times == 0:
                raise ValueError(f"layer {name!r} did not run in this forward pass")
            if times > 1:
                raise ValueError(
                    f"layer {name!r} ran {times} times in one forward pass, so its activation is ambiguous; "
                    "give each use a module of its own"
                )

    with hooked(model, {name: recorder(name) for name in layers}), contextlib.ExitStack() as stack:
        stack.callback(uncompiled(model).register_forward_pre_hook(start).remove)
        stack.callback(uncompiled(model).register_forward_hook(check).remove)
        yield outputs


def _differentiable(output: Tensor, name: str) -> Tensor:
    if not output.is_floating_point():
        raise TypeError(f"layer {name!r} gives {output.dtype}, which has no gradient: choose another layer")
    return output if output.requires_grad else output.requires_grad_()


@contextlib.contextmanager
def differentiating(model: nn.Module) -> Iterator[None]:
    """Let gradients be computed inside the block, whatever the caller has switched off.

    Raises:
        ValueError: if the network was built under ``torch.inference_mode``, which no gradient can pass.
    """
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "the network was built under torch.inference_mode, so that no gradient can pass its weights: "
            "build or load it outside"
        )
    with torch.inference_mode(False), torch.enable_grad():
        yield


def feature_maps(output: Tensor, layer: str, inputs: Tensor) -> Tensor:
    """The output of a layer, once it is sure that it is feature maps with channels first.

    Some networks (Swin) keep channels last, (N, h, w, C), and a method that takes h for the channels would answer
    something else in silence. Pictures and their maps have about the same proportions, which tells the two apart,
    unless all three sizes are equal.

    Args:
        output: what the layer gave.
        layer: its name, for the message.
        inputs: the network's input, shape (N, channels, H, W).

    Returns:
        ``output``, shape (N, C, h, w).

    Raises:
        ValueError: for another shape, or maps that only fit the pictures with their channels last.
    """
    if output.ndim != 4:
        raise ValueError(f"layer {layer!r} gives shape {tuple(output.shape)}, not feature maps (N, C, h, w)")
    picture, (_, first, second, third) = inputs.shape[-2:], output.shape
    if not _fits(picture, (second, third)) and _fits(picture, (first, second)):
        raise ValueError(
            f"layer {layer!r} gives shape {tuple(output.shape)}, which fits pictures of {picture[0]}×{picture[1]} only "
            "with its channels last: choose or add a layer that puts them first, "
            "such as torchvision.ops.Permute([0, 3, 1, 2])"
        )
    return output


def _fits(picture: Sequence[int], maps: tuple[int, int]) -> bool:
    """Whether maps could have been made from the picture."""
    (height, width), (rows, columns) = picture, maps
    if abs(rows * width - columns * height) <= max(height, width):
        return True  # the same proportions, to within one position
    # without padding, convolutions take as much off either side, but hardly more than half of it
    stride = (width - height) / (columns - rows) if columns != rows else 0
    return stride >= 1 and stride * rows >= height / 2


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
    """
    batches: dict[str, list[Tensor]] = {name: [] for name in layers}
    with recording(model, layers) as outputs:
        for batch in inputs.split(batch_size):
            run(model, network_input(model, batch))
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
    return (maps <= 0).cpu().double().mean(dim=(0, 2, 3))


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
    flat = maps.cpu().flatten(2).double()
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
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    grey = torch.einsum("nchw,c->nhw", images.cpu().double(), luma)[:, None]
    shrunken = F.adaptive_avg_pool2d(grey, (maps.shape[2], maps.shape[3])).flatten(2)
    return _correlation(maps.cpu().double().flatten(2), shrunken).abs()


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
        dead=dead_channels(maps).cpu().double().mean().item(),
        likeness=likeness(maps, images).nanmean().item(),
    )


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.numel():
        raise ValueError(
            f"feature maps must have shape (N, C, H, W) and not be empty, got {tuple(maps.shape)}"
        )
    if torch.isnan(maps).any():
        raise ValueError("the feature maps hold NaN")
