"""The deconvnet of Zeiler and Fergus: follow an activation back to the pixels that caused it.

M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014), §2.1 and figure 1. On
the way up, each max pooling records *switches*: where its maxima were. On the way down, from the last layer to the
first, a pooling is *unpooled* with its switches, a ReLU *rectifies* the reconstruction, and a convolution *filters*
it with its own transposed weights. Nothing is left to automatic differentiation, so each step can be looked at.

What the paper does not fix is decided here so:

- *Overlapping pools.* Where several windows chose the same position, their reconstructions are **added**. The
  position caused all of them, so it is owed all of them; a "last window wins" rule would lose some, and which ones
  would depend on the order in which windows are visited. Added up, unpooling is the exact transpose of choosing the
  maxima, as the transposed filters are of filtering.
- *Contrast normalisation* is left out on the way down, as the paper says (arXiv version, §2.1).
- *Batch norm*, which the paper did not have, multiplies each channel by a constant once the network is trained. This
  is treated exactly, as if the constant were part of the filters before it; like their bias, its shift is left out.
- *Average pooling* and *fully connected layers* are linear, and are transposed like filters.

The network must be a chain. Skip connections, branches and computations between the layers that are not modules
(such as ``F.relu``) are found and refused, since a reconstruction without them would be a wrong picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.methods.activations import ForwardHook, get_layer, hooked
from lessons_lib.networks import network_input, uncompiled
from lessons_lib.training import evaluating

# ---------------------------------------------------------------- the three inverse steps


@dataclass(frozen=True)
class Switches:
    """Where the maxima of one max pooling were.

    Attributes:
        index: int64, shape (N, C, h, w): for each pooled value, the position it came from, counted row by row in
            the maps that were pooled.
        height: rows of the maps that were pooled.
        width: their columns.
    """

    index: Tensor
    height: int
    width: int

    @property
    def rows(self) -> Tensor:
        """The row each maximum was in, shape (N, C, h, w)."""
        return self.index // self.width

    @property
    def columns(self) -> Tensor:
        """The column each maximum was in, shape (N, C, h, w)."""
        return self.index % self.width


def max_pool(maps: Tensor, layer: nn.MaxPool2d) -> tuple[Tensor, Switches]:
    """What ``layer`` makes of ``maps``, and its switches.

    Of equal maxima in a window the first counts, row by row.

    Args:
        maps: shape (N, C, H, W).
        layer: gives kernel size, stride, padding, dilation and rounding.

    Returns:
        The pooled maps, shape (N, C, h, w), and their switches.

    Raises:
        ValueError: if the maps have another shape or there are none.
    """
    _check_maps(maps)
    pooled, index = F.max_pool2d(
        maps,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        ceil_mode=layer.ceil_mode,
        return_indices=True,
    )
    return pooled, Switches(index, maps.shape[2], maps.shape[3])


def unpool(pooled: Tensor, switches: Switches) -> Tensor:
    """Put each value back where its maximum was; all other positions are 0.

    Values that go to the same position, as those of overlapping windows can, are added.

    Args:
        pooled: one value for each switch, shape (N, C, h, w).
        switches: what :func:`max_pool` recorded.

    Returns:
        Shape (N, C, H, W), as the maps that were pooled.

    Raises:
        ValueError: if there is not one value for each switch.
    """
    if pooled.shape != switches.index.shape:
        raise ValueError(
            f"need one value for each switch, shape {tuple(switches.index.shape)}, not {tuple(pooled.shape)}"
        )
    count, channels = pooled.shape[:2]
    flat = pooled.new_zeros(count, channels, switches.height * switches.width)
    flat.scatter_add_(2, switches.index.flatten(2), pooled.flatten(2))
    return flat.view(count, channels, switches.height, switches.width)


def rectify(maps: Tensor) -> Tensor:
    """Set negative values to 0: what the convnet's ReLU does to features, done to their reconstruction."""
    return maps.clamp(min=0)


def transposed_filter(maps: Tensor, layer: nn.Conv2d, size: tuple[int, int]) -> Tensor:
    """Filter ``maps`` with the transposed weights of ``layer``: each value paints its filter, scaled, and all add up.

    The bias is left out. With stride s, s sizes of input give the same size of output, so the input's must be named.

    Args:
        maps: shape (N, C_out, h, w), as the layer's output.
        layer: a convolution whose padding, if any, is zeros.
        size: rows and columns of the layer's input.

    Returns:
        Shape (N, C_in, *size).

    Raises:
        ValueError: if the layer does not make maps of this size from inputs of that.
    """
    if layer.padding_mode != "zeros":
        raise ValueError(
            f"a deconvnet can transpose convolutions padded with zeros, not {layer.padding_mode}"
        )
    _check_maps(maps)
    reach = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    if layer.padding == "same":
        before, padding = [r // 2 for r in reach], reach
    else:
        before = [0, 0] if isinstance(layer.padding, str) else list(layer.padding)
        padding = [2 * b for b in before]
    # rows and columns that the last step of the filter did not reach
    spare = [
        s + p - r - 1 - stride * (m - 1)
        for s, p, r, stride, m in zip(size, padding, reach, layer.stride, maps.shape[2:], strict=True)
    ]
    if maps.shape[1] != layer.out_channels or any(
        not 0 <= extra < stride for extra, stride in zip(spare, layer.stride, strict=True)
    ):
        raise ValueError(
            f"{layer} does not make maps of shape {tuple(maps.shape[1:])} from inputs of {size[0]}×{size[1]}"
        )
    padded = F.conv_transpose2d(
        maps, layer.weight, stride=layer.stride, groups=layer.groups, dilation=layer.dilation
    )
    padded = F.pad(padded, (0, spare[1], 0, spare[0]))
    return padded[:, :, before[0] : before[0] + size[0], before[1] : before[1] + size[1]].contiguous()


# ---------------------------------------------------------------- the way up


@dataclass(frozen=True)
class Step:
    """One layer on the way up.

    Attributes:
        name: the layer's name in the network.
        module: the layer.
        shape: the shape of its input.
        output: what it made of it, shape (N, ...).
        switches: where its maxima were, if it is a max pooling.
    """

    name: str
    module: nn.Module
    shape: torch.Size
    output: Tensor
    switches: Switches | None = None


@dataclass(frozen=True)
class Trace:
    """The way of some pictures up through a chain of layers.

    Attributes:
        inputs: the network's input, shape (N, ...).
        steps: the layers in the order in which they ran, the one asked for last.
    """

    inputs: Tensor
    steps: tuple[Step, ...]

    @property
    def activations(self) -> Tensor:
        """The output of the layer asked for, shape (N, C, H, W), or (N, C) for a fully connected one."""
        return self.steps[-1].output

    @property
    def switches(self) -> dict[str, Switches]:
        """The switches of each max pooling by name."""
        return {step.name: step.switches for step in self.steps if step.switches is not None}


@torch.inference_mode(False)
@torch.no_grad()
def trace(model: nn.Module, inputs: Tensor, layer: str) -> Trace:
    """Run ``inputs`` up to ``layer``, layer by layer, and record the switches.

    The layers are found by running the network in evaluation mode and watching all of its modules that have no
    parts. Each must get exactly what the one before it gave. Then they are run again one after the other, which must
    give the same activations: so what the way down is built on is the network, or an error.

    Args:
        model: a feed-forward network of convolutions, ReLUs, poolings, batch or contrast normalisations and fully
            connected layers, each a module of its own; it is left as it was.
        inputs: the model's input, float, shape (N, C, H, W).
        layer: where to stop.

    Raises:
        ValueError: for no inputs, NaN in them, an unknown layer, or a network that is not a chain of layers which a
            deconvnet can invert; the message names the layer and the reason.
        TypeError: for inputs that are not floating point.
    """
    get_layer(model, layer)
    if inputs.ndim != 4:
        raise ValueError(f"inputs must have shape (N, C, H, W), not {tuple(inputs.shape)}")
    inputs = network_input(model, inputs)
    model = uncompiled(model)
    watch = _Watch(inputs, layer)
    parts = {name: watch.module(name) for name, module in model.named_modules() if _is_leaf(name, module)}
    with hooked(model, parts | ({} if layer in parts else {layer: watch.container})):
        model(watch.last)
    watch.finish()
    with evaluating(model):
        return Trace(inputs, tuple(_again(watch.steps, inputs)))


class _Watch:
    """Follows the data through the modules of one forward pass, and objects where it leaves the chain.

    That a module gets what the one before gave is decided by the memory it lies in and by the version that torch
    counts there, not by value: a ReLU outside a module changes nothing where all values happen to be positive.
    """

    def __init__(self, inputs: Tensor, target: str) -> None:
        self.target = target
        self.steps: list[Step] = []
        self.runs: dict[str, int] = {}
        self.reached = False
        self.pass_on(inputs)

    def pass_on(self, output: Tensor) -> Tensor:
        """A copy to give to the next module: if that works in place, what was recorded stays.

        Its values lie in order, so that flattening it outside a module is a view and not a computation.
        """
        self.last = output.clone(memory_format=torch.contiguous_format)
        self.version = self.last._version
        return self.last

    def module(self, name: str) -> ForwardHook:
        """The hook of a module without parts."""

        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            self.runs[name] = self.runs.get(name, 0) + 1
            if self.reached:
                return None
            before = f"{self.steps[-1].name!r} and {name!r}" if self.steps else f"the input and {name!r}"
            if not inputs or not self._came_from_last(inputs[0], int(getattr(module, "inplace", False))):
                raise ValueError(
                    f"between {before} the network computes something that is not a module: a skip connection, a "
                    "branch, or a function such as F.relu. A deconvnet cannot see it, and needs a chain of modules"
                )
            _check_invertible(name, module)
            if not isinstance(output, Tensor):
                raise TypeError(f"layer {name!r} gives a {type(output).__name__}, not a tensor")
            self.steps.append(Step(name, module, inputs[0].shape, output))
            self.reached = name == self.target
            return self.pass_on(output)

        return record

    def container(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """The hook of the layer asked for, if that has parts: it must give what its last part gave."""
        self.runs[self.target] = self.runs.get(self.target, 0) + 1
        if not self.steps or not self._came_from_last(output, 0):
            raise ValueError(
                f"{self.target!r} does not end with a module: choose a layer inside it, of those that have no parts"
            )
        self.reached = True

    def finish(self) -> None:
        """Check that each layer of the chain ran once."""
        for name in (self.target, *(step.name for step in self.steps)):
            times = self.runs.get(name, 0)
            if times == 0:
                raise ValueError(f"layer {name!r} did not run in this forward pass")
            if times > 1:
                raise ValueError(
                    f"layer {name!r} ran {times} times in one forward pass, so a step of that name is ambiguous; "
                    "give each use a module of its own"
                )

    def _came_from_last(self, tensor: Tensor, own_changes: int) -> bool:
        return (
            isinstance(tensor, Tensor)
            and tensor.untyped_storage().data_ptr() == self.last.untyped_storage().data_ptr()
            and tensor.numel() == self.last.numel()
            and tensor._version - self.version <= own_changes
        )


def _is_leaf(name: str, module: nn.Module) -> bool:
    return bool(name) and not any(module.children())


def _again(steps: list[Step], inputs: Tensor) -> list[Step]:
    """Run the steps one after the other, with switches; ValueError if that is not what the network did."""
    maps, done = inputs, []
    for step in steps:
        maps, switches = maps.reshape(step.shape), None
        if isinstance(step.module, nn.MaxPool2d):
            maps, switches = max_pool(maps, step.module)
        else:
            maps = step.module(maps.clone())  # which may work in place
        # of the layer's precision: 1e-4 in float32
        tolerance = 800 * torch.finfo(maps.dtype).eps
        if maps.shape != step.output.shape or not torch.allclose(
            maps, step.output, rtol=tolerance, atol=tolerance * step.output.abs().max().item() / 10
        ):
            raise ValueError(
                f"run by itself, layer {step.name!r} gives something else than in the network: "
                "part of what the network computes before it is not a module, so a deconvnet cannot invert it"
            )
        done.append(Step(step.name, step.module, step.shape, maps, switches))
    return done


# ---------------------------------------------------------------- the way down


@dataclass(frozen=True)
class Reversal:
    """One layer on the way down.

    Attributes:
        layer: the name of the layer that was inverted.
        operation: what was done: "unpool", "rectify", "filter", "scale" (batch norm), "spread" (average pooling),
            or "pass" where nothing is (contrast normalisation, dropout, flattening).
        maps: the reconstruction of that layer's *input*.
    """

    layer: str
    operation: str
    maps: Tensor


@dataclass(frozen=True)
class Projection:
    """The way of kept activations down to the pixels.

    Attributes:
        start: the activations kept, all others 0, shape of the layer's output.
        reversals: the layers in the order in which they were inverted; the last one's maps are the pixels.
    """

    start: Tensor
    reversals: tuple[Reversal, ...]

    @property
    def pixels(self) -> Tensor:
        """The projection, shape of the network's input; signed, in the units of activation × weights."""
        return self.reversals[-1].maps


def keep(
    activations: Tensor,
    channel: int | Tensor,
    row: int | Tensor | None = None,
    column: int | Tensor | None = None,
) -> Tensor:
    """Set all activations of each picture to 0 but one of ``channel``: by default its greatest.

    Args:
        activations: shape (N, C, H, W), or (N, C) for a fully connected layer.
        channel: for all pictures, or int64 (N,) with one for each.
        row: the position to keep, likewise; needs ``column`` too.
        column: likewise.

    Returns:
        Shape of ``activations``.

    Raises:
        ValueError: for another shape, or a channel or position that is not there.
    """
    if activations.ndim not in {2, 4} or not activations.numel():
        raise ValueError(
            f"activations must have shape (N, C, H, W) or (N, C), not {tuple(activations.shape)}"
        )
    if (row is None) != (column is None):
        raise ValueError("give both row and column, or neither to keep the channel's greatest activation")
    if row is not None and activations.ndim == 2:
        raise ValueError("a fully connected layer has no rows and columns: give the channel only")
    pictures = torch.arange(len(activations), device=activations.device)
    at = [pictures, _index(channel, activations, 1, "channel")]
    if row is not None and column is not None:
        at += [_index(row, activations, 2, "row"), _index(column, activations, 3, "column")]
    elif activations.ndim == 4:
        width = activations.shape[3]
        greatest = activations[at[0], at[1]].flatten(1).argmax(1)
        at += [greatest // width, greatest % width]
    kept = torch.zeros_like(activations)
    kept[tuple(at)] = activations[tuple(at)]
    return kept


@torch.no_grad()
def project(trace: Trace, start: Tensor) -> Projection:
    """Project activations down to pixels: unpool, rectify and filter, from the last layer to the first.

    Twice the activations give twice the projection. But because reconstructions are rectified, the projection of
    several activations together is not the sum of their projections.

    Args:
        trace: the way up, from :func:`trace`.
        start: shape of the trace's activations: what to project. One activation of each picture (:func:`keep`), a
            channel, or any other selection, all else 0.

    Raises:
        ValueError: if ``start`` has another shape or holds NaN.
    """
    if start.shape != trace.activations.shape:
        raise ValueError(
            f"start must have the shape of the activations, {tuple(trace.activations.shape)}, "
            f"not {tuple(start.shape)}"
        )
    if torch.isnan(start).any():
        raise ValueError("start holds NaN")
    maps, reversals = start.to(trace.activations), []
    for step in reversed(trace.steps):
        operation, reverse = _REVERSE[type(step.module)]
        maps = reverse(maps.reshape(step.output.shape), step).reshape(step.shape)
        reversals.append(Reversal(step.name, operation, maps))
    return Projection(start, tuple(reversals))


def deconvnet(
    model: nn.Module,
    inputs: Tensor,
    layer: str,
    channel: int | Tensor,
    row: int | Tensor | None = None,
    column: int | Tensor | None = None,
) -> Projection:
    """Project one activation of each picture to pixels: :func:`trace`, :func:`keep` and :func:`project` in one call.

    Args:
        model: see :func:`trace`.
        inputs: the model's input, float, shape (N, C, H, W).
        layer: the layer the activation is in.
        channel: its channel, for all pictures or int64 (N,).
        row: its position, likewise; by default that of the channel's greatest activation.
        column: likewise.

    Raises:
        ValueError: as those functions do.
        TypeError: for inputs that are not floating point.
    """
    way_up = trace(model, inputs, layer)
    return project(way_up, keep(way_up.activations, channel, row, column))


def _index(value: int | Tensor, activations: Tensor, dimension: int, name: str) -> Tensor:
    """``value`` as one index for each picture, int64 (N,); ValueError if it is out of range."""
    count, size = len(activations), activations.shape[dimension]
    index = torch.as_tensor(value)
    if index.is_floating_point() or index.dtype == torch.bool or index.ndim > 1:
        raise ValueError(f"{name} must be a whole number, or one for each picture, not {value!r}")
    if index.ndim == 1 and len(index) != count:
        raise ValueError(f"{count} pictures need {count} values of {name}, not {len(index)}")
    if not 0 <= int(index.min()) <= int(index.max()) < size:
        raise ValueError(f"{name} must be in 0–{size - 1}, not {value}")
    return index.long().to(activations.device).expand(count)


def _filter(maps: Tensor, step: Step) -> Tensor:
    assert isinstance(step.module, nn.Conv2d)
    return transposed_filter(maps, step.module, (step.shape[2], step.shape[3]))


def _unpool(maps: Tensor, step: Step) -> Tensor:
    assert step.switches is not None
    return unpool(maps, step.switches)


def _connect_back(maps: Tensor, step: Step) -> Tensor:
    assert isinstance(step.module, nn.Linear)
    return maps @ step.module.weight


def _scale(maps: Tensor, step: Step) -> Tensor:
    norm = step.module
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    factor = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight
    return maps * factor[:, None, None]


def _spread(maps: Tensor, step: Step) -> Tensor:
    """The transpose of an average pooling, which is linear, by its derivative."""
    with torch.enable_grad():
        blank = maps.new_zeros(step.shape, requires_grad=True)
        (spread,) = torch.autograd.grad(step.module(blank), blank, maps)
    return spread


def _pass(maps: Tensor, step: Step) -> Tensor:
    return maps


_REVERSE: dict[type[nn.Module], tuple[str, Callable[[Tensor, Step], Tensor]]] = {
    nn.Conv2d: ("filter", _filter),
    nn.Linear: ("filter", _connect_back),
    nn.ReLU: ("rectify", lambda maps, step: rectify(maps)),
    nn.MaxPool2d: ("unpool", _unpool),
    nn.AvgPool2d: ("spread", _spread),
    nn.AdaptiveAvgPool2d: ("spread", _spread),
    nn.BatchNorm2d: ("scale", _scale),
    nn.LocalResponseNorm: ("pass", _pass),
    nn.Dropout: ("pass", _pass),
    nn.Dropout2d: ("pass", _pass),
    nn.Flatten: ("pass", _pass),
    nn.Identity: ("pass", _pass),
}


def _check_invertible(name: str, module: nn.Module) -> None:
    # by exact type: a subclass may compute something else
    if type(module) not in _REVERSE:
        known = ", ".join(kind.__name__ for kind in _REVERSE)
        raise ValueError(
            f"layer {name!r} is a {type(module).__name__}, which a deconvnet has no inverse for; it knows {known}"
        )
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        raise ValueError(
            f"layer {name!r} pads by {module.padding_mode!r}; a deconvnet can invert padding by zeros"
        )
    if isinstance(module, nn.BatchNorm2d) and module.running_var is None:
        raise ValueError(
            f"layer {name!r} keeps no running statistics, so it is no fixed scale that a deconvnet can invert"
        )


# ---------------------------------------------------------------- two questions about features


def agreement(maps: Tensor, final: Tensor) -> Tensor:
    """How far each feature is already what it will be: its correlation with its final self on the same pictures.

    Args:
        maps: a layer's activations at some time of training, shape (N, C, H, W) or (N, C).
        final: those of the trained network, same shape.

    Returns:
        Pearson's correlation over pictures and positions, shape (C,), in −1 to 1; NaN for a channel that is flat
        at either time.

    Raises:
        ValueError: if the shapes differ or are others.
    """
    if maps.shape != final.shape or maps.ndim not in {2, 4} or not maps.numel():
        raise ValueError(
            "need activations of the same pictures at two times, shape (N, C, H, W) or (N, C), "
            f"not {tuple(maps.shape)} and {tuple(final.shape)}"
        )
    early, late = (stack.detach().cpu().transpose(0, 1).flatten(1).double() for stack in (maps, final))
    early, late = (flat - flat.mean(1, keepdim=True) for flat in (early, late))
    norms = early.norm(dim=1) * late.norm(dim=1)
    return torch.where(norms > 1e-12, (early * late).sum(1) / norms, torch.nan)


def aliased(maps: Tensor, stride: int) -> Tensor:
    """Share of each channel's variation that is too fine to survive keeping every ``stride``-th position.

    Keeping every s-th position can tell frequencies apart up to 1/(2s) cycles a position. What is faster does not
    vanish: it folds back and pretends to be a slower pattern. A Hann window keeps the maps' borders from counting as
    edges.

    Args:
        maps: feature maps at every position (stride 1), shape (N, C, H, W), at least 2·stride each way.
        stride: 1 or more.

    Returns:
        Shape (C,), in 0–1: energy above 1/(2·stride) on either axis over all but the mean's; NaN for flat channels.

    Raises:
        ValueError: for another shape, or a stride that does not fit the maps.
    """
    _check_maps(maps)
    height, width = maps.shape[2:]
    if not 1 <= stride <= min(height, width) // 2:
        raise ValueError(
            f"stride must be in 1–{min(height, width) // 2} for maps of {height}×{width}, not {stride}"
        )
    windows = [torch.hann_window(side, periodic=False, dtype=torch.float64) for side in (height, width)]
    window = torch.outer(*windows)
    maps = maps.detach().cpu().double()  # not every device has float64
    energy = torch.zeros(maps.shape[1:], dtype=torch.float64)
    for picture in maps:
        # without the weighted mean, which the window would turn into a slow wave
        wave = picture - (picture * window).sum((1, 2), keepdim=True) / window.sum()
        energy += torch.fft.fft2(wave * window).abs().square()
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64).abs() for side in (height, width))
    fast = torch.maximum(rows[:, None], columns[None, :]) > 1 / (2 * stride)
    total = energy.sum((1, 2))
    scale = maps.square().sum((0, 2, 3))
    return torch.where(total > 1e-20 * scale, (energy * fast).sum((1, 2)) / total, torch.nan)


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.numel():
        raise ValueError(
            f"feature maps must have shape (N, C, H, W) and not be empty, got {tuple(maps.shape)}"
        )
