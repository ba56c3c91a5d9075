"""Incremental inference: recompute only the part of each feature map that a patch can change.

A network's forward pass is recorded once as a graph of PyTorch's own operators. Each feature map of the clean
picture is kept. For a few patches that lie side by side, the plan follows the rectangle that they can change from
layer to layer, cuts the input of each operation out of the last result and, around it, out of the clean map, and
computes just that rectangle. Where the rectangle has grown to nearly the whole map, the whole map is computed.

The idea is the incremental inference of Nakandala et al., "Incremental and Approximate Inference for Faster
Occlusion-based Deep CNN Explanations" (SIGMOD 2019, section 3). What is ours: patches that are neighbours share a
rectangle, so that batches need no gathering and a border rectangle is cut where the picture ends.
"""

from __future__ import annotations

import math
import weakref
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lessons_lib.networks import evaluating, recording

Span = tuple[int, int]  # first row (or column), and the one after the last
Region = tuple[Span, Span]  # rows and columns

aten = torch.ops.aten

WHOLE = 0.9  # a span of more than this share of the map is computed whole: copying the rest costs as much
_TRACED = 2  # pictures in the batch that is recorded: sizes that depend on it must show


class CannotPlanError(Exception):
    """The network does something that this module does not know how to do in part; the message says what."""


# ---------------------------------------------------------------- recording


@dataclass(frozen=True)
class Ref:
    """Stands for the result of a recorded call; −1 is the picture."""

    call: int


@dataclass(frozen=True)
class Call:
    """One of PyTorch's operators and what it was called with; tensors that depend on the picture are ``Ref``.

    Attributes:
        shape: of its first result, for two pictures.
    """

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...]


@dataclass
class Recording:
    """What a network did with a picture, in order, and which results are its logits and the layer asked for."""

    calls: list[Call] = field(default_factory=list)
    outputs: list[Ref] = field(default_factory=list)

    @cached_property
    def readers(self) -> Counter[int]:
        """How often each call's result is read."""
        read = (ref for call in self.calls for ref in _refs(call.args))
        return Counter(ref.call for ref in (*read, *self.outputs))


def record(model: nn.Module, image: Tensor, layer: str | None = None) -> Recording:
    """The operators that ``model`` runs on ``image``.

    Args:
        model: a classifier.
        image: its input for one picture, shape (C, H, W).
        layer: a layer whose output is wanted as well as the logits.

    Raises:
        CannotPlanError: if what it does depends on the values it sees, or it changes maps under another name.
    """
    with torch.inference_mode(False), torch.no_grad():  # in that mode nobody counts what is changed in place
        return _record(model, torch.stack([image] * _TRACED), layer)


def _record(model: nn.Module, inputs: Tensor, layer: str | None) -> Recording:
    with evaluating(model), _Recorder(inputs) as recorder:
        if layer is None:
            results = [model(inputs)]
        else:
            with recording(model, [layer]) as outputs:
                results = [model(inputs)]
            results.append(outputs[layer])
    recorder.settle()
    recorder.recording.outputs = [recorder.read(result) for result in results]
    return recorder.recording


class _Recorder(TorchDispatchMode):
    """Notes each operator that reads something that depends on the picture."""

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.recording = Recording()
        self.known: dict[int, tuple[Tensor, Ref]] = {}  # by identity: the tensor and what it stands for
        self.versions: dict[int, int] = {}  # how often each had been changed in place then
        self.fresh: list[
            Tensor
        ] = []  # results of the last operator: it counts as a change only once it has returned
        self.learn(inputs, Ref(-1))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # fmt: skip
        kwargs = kwargs or {}
        self.settle()
        noted = tuple(self.note(argument) for argument in args)
        result = func(*args, **kwargs)
        if any(True for _ in _refs(noted)):
            if func in _BY_VALUE:
                raise CannotPlanError(f"what it does depends on the values it sees ({func})")
            functional = _IN_PLACE.get(func, func)
            if functional._schema.is_mutable:
                raise CannotPlanError(f"it does not know the operator {func}")
            first, *others = result if isinstance(result, tuple | list) else (result,)
            self.recording.calls.append(Call(functional, noted, kwargs, tuple(getattr(first, "shape", ()))))
            ref = Ref(len(self.recording.calls) - 1)
            self.learn(first, ref)
            for other in others:
                self.learn(other, _OTHER)
        return result

    def learn(self, tensor: Any, ref: Ref) -> None:
        """From now on ``tensor`` stands for ``ref``."""
        if isinstance(tensor, Tensor):
            self.known[id(tensor)] = tensor, ref
            self.fresh.append(tensor)

    def settle(self) -> None:
        """Note how often the last results have been changed in place, now that PyTorch has counted it."""
        self.versions |= {id(tensor): tensor._version for tensor in self.fresh}
        self.fresh.clear()

    def note(self, argument: Any) -> Any:
        """An argument with references in place of tensors that depend on the picture."""
        if isinstance(argument, tuple | list):
            return [self.note(a) for a in argument]
        return self.read(argument) if id(argument) in self.known else argument

    def read(self, tensor: Tensor) -> Ref:
        """What a tensor stands for."""
        _, ref = self.known.get(id(tensor), (None, _OTHER))
        if ref is _OTHER:
            raise CannotPlanError(
                "it uses a result that is not the first of its operator, or no tensor of its own"
            )
        if tensor._version != self.versions[id(tensor)]:  # changed under the name of a view of it
            raise CannotPlanError("it changes feature maps that also have another name")
        return ref


_OTHER = Ref(-2)


def _refs(argument: Any) -> Iterator[Ref]:
    """All references among arguments."""
    if isinstance(argument, Ref):
        yield argument
    elif isinstance(argument, tuple | list):
        for a in argument:
            yield from _refs(a)


# ---------------------------------------------------------------- steps


@dataclass(frozen=True)
class _Step(ABC):
    """One operation on feature maps: which steps it reads, and the height and width of its result."""

    inputs: tuple[int, ...]

    def span(self, axis: int, changed: Sequence[Span], size: int) -> Span:
        """What can change of the result's rows (axis 0) or columns (1) if ``changed`` can change of the inputs'."""
        return min(first for first, _ in changed), max(last for _, last in changed)

    def length(self, lengths: Sequence[int], axis: int) -> int:
        """The longest ``span`` that inputs of these lengths can lead to, wherever they lie."""
        return max(lengths)

    @abstractmethod
    def whole(self, *maps: Tensor) -> Tensor:
        """The result for whole maps."""

    @abstractmethod
    def compute(self, run: _Run, region: Region) -> Tensor:
        """The part ``region`` of the result."""

    @property
    def work(self) -> float:
        """Multiply-adds for each number of the result, roughly."""
        return 0


@dataclass(frozen=True)
class _Slide(_Step):
    """A kernel that slides over the map: a convolution or pooling.

    Attributes:
        apply: the operation on a tensor with a padding, (rows, columns).
        fill: what the operation sees outside the map.
    """

    apply: Callable[[Tensor, tuple[int, int]], Tensor]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    fill: float
    taps: float  # numbers that go into one result

    def reach(self, axis: int) -> int:
        """Pixels from the first to the last that one result reads, minus 1."""
        return self.dilation[axis] * (self.kernel[axis] - 1)

    def span(self, axis: int, changed: Sequence[Span], size: int) -> Span:
        first, last = changed[0]
        first = -((self.reach(axis) - first - self.padding[axis]) // self.stride[axis])
        last = (last - 1 + self.padding[axis]) // self.stride[axis] + 1
        # a stride can jump over what changed: then compute one row that stays as it was
        first = min(max(first, 0), size - 1)
        return first, max(min(last, size), first + 1)

    def length(self, lengths: Sequence[int], axis: int) -> int:
        return (lengths[0] - 1 + self.reach(axis)) // self.stride[axis] + 1

    def source(self, axis: int, wanted: Span) -> Span:
        """What to read for the results ``wanted``; parts may lie outside the map."""
        first = wanted[0] * self.stride[axis] - self.padding[axis]
        return first, (wanted[1] - 1) * self.stride[axis] - self.padding[axis] + self.reach(axis) + 1

    def whole(self, *maps: Tensor) -> Tensor:
        return self.apply(maps[0], self.padding)

    def compute(self, run: _Run, region: Region) -> Tensor:
        (source,) = self.inputs
        if run.regions[source] == run.plan.whole(source) and region == run.plan.whole(run.now):
            return self.whole(run.values[source])
        window = (self.source(0, region[0]), self.source(1, region[1]))
        return self.apply(run.read(source, window, self.fill)[0], (0, 0))

    @property
    def work(self) -> float:
        return self.taps


@dataclass(frozen=True)
class _Shift(_Step):
    """Constant padding: nothing that a patch changes, but everything moves."""

    amounts: tuple[int, ...]  # left, right, top, bottom
    value: float

    def span(self, axis: int, changed: Sequence[Span], size: int) -> Span:
        offset = self.amounts[2 - 2 * axis]
        return changed[0][0] + offset, changed[0][1] + offset

    def whole(self, *maps: Tensor) -> Tensor:
        return F.pad(maps[0], self.amounts, value=self.value)

    def compute(self, run: _Run, region: Region) -> Tensor:
        (top, bottom), (left, right) = region
        across, _, down, _ = self.amounts
        window = ((top - down, bottom - down), (left - across, right - across))
        value, own = run.read(self.inputs[0], window, self.value)
        if not own:
            run.shared.add(run.now)
        return value


@dataclass(frozen=True)
class _Pointwise(_Step):
    """An operation on each position by itself; ``apply_`` does it in the place of its first operand."""

    apply: Callable[..., Tensor]
    apply_: Callable[..., Tensor] | None

    def whole(self, *maps: Tensor) -> Tensor:
        return self.apply(*maps)

    def compute(self, run: _Run, region: Region) -> Tensor:
        operands, own = zip(*(run.read(source, region) for source in self.inputs), strict=True)
        return self.apply_(*operands) if self.apply_ and own[0] else self.apply(*operands)

    @property
    def work(self) -> float:
        return 1


# ---------------------------------------------------------------- what is known of PyTorch's operators

_UNARY: dict[Any, Callable[..., Tensor] | None] = {
    aten.relu.default: torch.relu_,
    aten.hardtanh.default: F.hardtanh_,
    aten.clamp.default: torch.clamp_,
    aten.clamp_min.default: torch.clamp_min_,
    **dict.fromkeys(
        [
            aten.sigmoid.default,
            aten.tanh.default,
            aten.silu.default,
            aten.hardswish.default,
            aten.hardsigmoid.default,
            aten.gelu.default,
            aten.elu.default,
            aten.leaky_relu.default,
            aten.softplus.default,
            aten.neg.default,
            aten.abs.default,
            aten.rsub.Scalar,
        ]
    ),
}
_BINARY: dict[Any, Callable[..., Tensor] | None] = {
    aten.add.Tensor: Tensor.add_,
    aten.mul.Tensor: Tensor.mul_,
    aten.sub.Tensor: Tensor.sub_,
    aten.div.Tensor: Tensor.div_,
}
_SAME = {aten.clone.default, aten.detach.default, aten.alias.default}
_NORMS = {
    aten.native_batch_norm.default,
    aten.cudnn_batch_norm.default,
    aten._native_batch_norm_legit_no_training.default,
}
_VIEWS = {aten.view.default, aten._unsafe_view.default}
_SUMMARIES = {
    *_VIEWS,
    aten.mean.dim,
    aten._adaptive_avg_pool2d.default,
    aten.adaptive_max_pool2d.default,
}
_PRODUCTS = {aten.addmm.default: 1, aten.mm.default: 0}  # the argument that may depend on the picture
_BY_VALUE = {aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default}
_IN_PLACE = {
    getattr(packet, name): getattr(getattr(aten, packet.__name__[:-1]), name)
    for packet in (
        *(getattr(aten, f"{op._schema.name.split('::')[1]}_", None) for op in (*_UNARY, *_BINARY)),
    )
    if packet is not None
    for name in packet.overloads()
    if hasattr(getattr(aten, packet.__name__[:-1]), name)
}


@dataclass(frozen=True)
class _Late:
    """An operation after the last feature map; ``args`` hold ``_Map`` and ``_Vector`` for what it reads."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Map:
    """Stands for the feature maps of a step."""

    step: int


@dataclass(frozen=True)
class _Vector:
    """Stands for the result of a late operation."""

    index: int


# ---------------------------------------------------------------- the plan


@dataclass
class Plan:
    """How to compute logits, and the total activation of a layer, for patches that lie side by side.

    Attributes:
        steps: the operations on feature maps; the first, ``None``, is the picture.
        clean: each step's feature maps for the picture without a patch, shape (1, C, H, W).
        late: the operations after the last feature map.
        logits: the late operation that gives them.
        layer: the step of the layer that was asked for, if one was.
        many: whether thousands of positions will be asked for, so that it pays to prepare. Windows are then cut as
            small as they can be; otherwise all windows of a step have one size, the largest that it may ever need,
            since for each new size oneDNN builds kernels, which takes milliseconds a layer.
    """

    steps: list[_Step | None]
    clean: list[Tensor]
    late: list[_Late] = field(default_factory=list)
    logits: int = 0
    layer: int | None = None
    many: bool = False

    def __post_init__(self) -> None:
        """Remember spans: tiles in a row share them."""
        # of the method itself it would hold the plan, and so its maps, until Python looks for circles
        self._remembered = lru_cache(maxsize=4096)(partial(Plan._spans, cast(Plan, weakref.proxy(self))))

    def whole(self, step: int) -> Region:
        """All rows and columns of a step's maps."""
        height, width = self.clean[step].shape[2:]
        return (0, height), (0, width)

    def spans(self, axis: int, changed: Span, room: int) -> list[Span]:
        """For each step the rows (axis 0) or columns (1) to compute if ``changed`` of the picture's can change.

        Args:
            axis: which.
            changed: within the picture.
            room: the most pixels that change in any call with the same sizes of windows.
        """
        return self._remembered(axis, changed, room, self.many)

    def _spans(self, axis: int, changed: Span, room: int, many: bool) -> list[Span]:
        spans: list[Span] = []
        longest: list[int] = []
        for step, clean in zip(self.steps, self.clean, strict=True):
            size = clean.shape[2 + axis]
            if step is None:
                span, most = changed, room
            else:
                span = step.span(axis, [spans[i] for i in step.inputs], size)
                most = step.length([longest[i] for i in step.inputs], axis)
            longest.append(min(most, size))
            spans.append(_fitted(span, 0 if many else longest[-1], size))
        return spans

    def work(self, rows: Span, columns: Span, room: tuple[int, int] | None = None) -> float:
        """Multiply-adds for one patch if the rectangle ``rows`` × ``columns`` of the picture can change."""
        height, width = room or (rows[1] - rows[0], columns[1] - columns[0])
        return sum(
            (bottom - top) * (right - left) * clean.shape[1] * step.work
            for step, clean, (top, bottom), (left, right) in zip(
                self.steps,
                self.clean,
                self.spans(0, rows, height),
                self.spans(1, columns, width),
                strict=True,
            )
            if step is not None
        )

    @cached_property
    def last_use(self) -> dict[int, int]:
        """For each step the last step that reads it; those that late operations or the caller read are absent."""
        kept = {ref.step for late in self.late for ref in late.args if isinstance(ref, _Map)} | {self.layer}
        uses = {i: n for n, step in enumerate(self.steps) if step is not None for i in step.inputs}
        return {step: use for step, use in uses.items() if step not in kept}

    def region(self, rows: Span, columns: Span, room: tuple[int, int]) -> Region:
        """The part of the picture to hand over if ``rows`` × ``columns`` of it can change; see ``spans``."""
        return self.spans(0, rows, room[0])[0], self.spans(1, columns, room[1])[0]

    def __call__(
        self, patched: Tensor, rows: Span, columns: Span, room: tuple[int, int]
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Logits, and the layer's total activation in each channel, for pictures that differ in a rectangle only.

        Args:
            patched: the part ``region`` of the pictures, shape (N, C, height, width).
            rows: the rows that differ.
            columns: the columns that differ.
            room: height and width of the largest rectangle of all calls, see ``spans``.

        Returns:
            Logits (N, classes) and sums (N, C), float32 at least; no sums if no layer was asked for.
        """
        run = _Run(
            self,
            patched,
            list(zip(self.spans(0, rows, room[0]), self.spans(1, columns, room[1]), strict=True)),
        )
        for number, step in enumerate(self.steps):
            if step is not None:
                run.advance(number, step)
        results: list[Tensor] = []
        for late in self.late:
            args = [run.resolve(argument, results) for argument in late.args]
            result = late.function(*args, **late.kwargs)
            results.append(result[0] if isinstance(result, tuple) else result)
        return results[self.logits], None if self.layer is None else run.total(self.layer)


@dataclass
class _Run:
    """The state of one forward pass through a plan."""

    plan: Plan
    values: dict[int, Tensor]
    regions: list[Region]

    def __init__(self, plan: Plan, patched: Tensor, regions: list[Region]) -> None:
        self.plan = plan
        self.values = {0: patched.contiguous(memory_format=torch.channels_last)}
        self.regions = regions
        self.shared: set[int] = set()  # values that lie in the memory of another one
        self.now = 0

    def advance(self, number: int, step: _Step) -> None:
        """Compute a step and forget what nobody will read any more."""
        self.now = number
        self.values[number] = step.compute(self, self.regions[number])
        for source in set(step.inputs):
            if self.plan.last_use.get(source) == number:
                del self.values[source]

    def read(self, source: int, wanted: Region, fill: float = 0) -> tuple[Tensor, bool]:
        """A step's maps in the region ``wanted``, ``fill`` outside the map, and whether they may be overwritten."""
        value, here = self.values[source], self.regions[source]
        if here == wanted:
            return value, self.plan.last_use.get(source) == self.now and source not in self.shared
        inner = _overlap(here[0], wanted[0]), _overlap(here[1], wanted[1])
        cut = _cut(value, inner, here)
        if inner == wanted:
            return cut, False
        around = _window(self.plan.clean[source], wanted, fill)
        size = (len(value), *around.shape[1:])
        buffer = torch.empty(size, dtype=value.dtype, device=value.device, memory_format=torch.channels_last)
        buffer.copy_(around.expand(size))
        _cut(buffer, inner, wanted).copy_(cut)
        return buffer, True

    def resolve(self, argument: Any, results: Sequence[Tensor]) -> Any:
        """What a late operation's argument stands for."""
        if isinstance(argument, _Map):
            maps = self.read(argument.step, self.plan.whole(argument.step))[0]
            return precise(maps)  # few numbers: no reason to round them
        return results[argument.index] if isinstance(argument, _Vector) else argument

    def total(self, step: int) -> Tensor:
        """The sum over all positions of each channel, shape (N, C)."""
        clean = self.plan.clean[step]
        before = totals(clean) - totals(_cut(clean, self.regions[step]))
        return before + totals(self.values[step])


def precise(maps: Tensor) -> Tensor:
    """The same numbers in float32, unless they are float64."""
    return maps.to(torch.promote_types(maps.dtype, torch.float32))


def totals(maps: Tensor) -> Tensor:
    """The sum over all positions of each channel, shape (N, C), added up in float32 at least.

    Not in float64, which Apple's devices do not have.
    """
    return maps.sum((2, 3), dtype=torch.promote_types(maps.dtype, torch.float32))


def _fitted(span: Span, least: int, size: int) -> Span:
    """A span around ``span`` of an even length of at least ``least``, or the whole map if that is little more."""
    length = max(span[1] - span[0], least)
    length += length % 2
    if length > WHOLE * size:
        return 0, size
    first = min(span[0], size - length)
    return first, first + length


def _window(clean: Tensor, wanted: Region, fill: float) -> Tensor:
    """The region ``wanted`` of a clean map, with ``fill`` where it lies outside."""
    (top, bottom), (left, right) = wanted
    height, width = clean.shape[2:]
    outside = max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height)
    inside = _cut(clean, ((max(0, top), bottom), (max(0, left), right)))
    return F.pad(inside, outside, value=fill) if any(outside) else inside


def _overlap(one: Span, other: Span) -> Span:
    """What two spans share."""
    return max(one[0], other[0]), min(one[1], other[1])


def _cut(maps: Tensor, region: Region, within: Region = ((0, 0), (0, 0))) -> Tensor:
    """The part ``region`` of maps that begin where ``within`` does; a view."""
    (top, bottom), (left, right) = region
    (first_row, _), (first_column, _) = within
    return maps[..., top - first_row : bottom - first_row, left - first_column : right - first_column]


# ---------------------------------------------------------------- from the recording to the plan


def make_plan(recording: Recording, image: Tensor) -> Plan:
    """Turn recorded operators into a plan for ``image``.

    Batch norm is folded into the convolution before it where nothing else reads that convolution.

    Args:
        recording: from ``record``.
        image: the picture, shape (C, H, W); its dtype and device are those the plan computes with.

    Raises:
        CannotPlanError: for an operator it does not know, or a global one before the last feature map.
    """
    builder = _Builder(recording, image)
    for number, call in enumerate(recording.calls):
        builder.known[number] = builder.translate(number, call)
    logits, *layer = (builder.known[ref.call] for ref in recording.outputs)
    if not isinstance(logits, _Vector):
        raise CannotPlanError("its output is made of feature maps")
    builder.plan.logits = logits.index
    if layer:
        if not isinstance(layer[0], _Map):
            raise CannotPlanError("the layer asked for comes after the last feature map")
        builder.plan.layer = layer[0].step
    return builder.plan


class _Builder:
    """Translates calls in order, with the clean picture's feature maps in hand."""

    def __init__(self, recording: Recording, image: Tensor) -> None:
        self.recording = recording
        self.dtype = image.dtype
        self.plan = Plan([None], [image[None].contiguous(memory_format=torch.channels_last)])
        self.known: dict[int, _Map | _Vector] = {-1: _Map(0)}  # what each call's result is
        self.folded: set[int] = set()  # batch norms that are part of their convolution

    def translate(self, number: int, call: Call) -> _Map | _Vector:
        """Add a call to the plan."""
        target = call.operator
        args = cast(list[Any], self.look_up(list(call.args)))
        read = [self.known[ref.call] for ref in _refs(call.args)]
        if target in _SAME:
            return args[0]
        if all(isinstance(r, _Map) for r in read):
            return self.late(call, args) if target in _SUMMARIES else self.spatial(number, call, args)
        if any(isinstance(r, _Map) for r in read):
            raise CannotPlanError(
                f"a summary of the whole picture goes back into its feature maps ({target})"
            )
        if target not in _SUMMARIES | _PRODUCTS.keys() | _UNARY.keys() | _BINARY.keys():
            raise CannotPlanError(f"it does not know the operator {target}")
        return self.late(call, args)

    def look_up(self, argument: Any) -> Any:
        """An argument with maps and vectors in place of references."""
        if isinstance(argument, list):
            return [self.look_up(a) for a in argument]
        return self.known[argument.call] if isinstance(argument, Ref) else argument

    def late(self, call: Call, args: list[Any]) -> _Vector:
        """Add an operation after the last feature map, once it is sure that it treats each picture alone."""
        target = call.operator
        if target in _VIEWS:
            if call.shape[0] != _TRACED:
                raise CannotPlanError("it mixes the pictures of a batch")
            args[1], target = [-1, *call.shape[1:]], torch.reshape  # maps lie channels-last in memory
        if target is aten.mean.dim and not {d % 4 for d in args[1]} <= {2, 3}:
            raise CannotPlanError("it takes a mean over channels or pictures")
        if target in _PRODUCTS and any(
            isinstance(a, _Vector) != (i == _PRODUCTS[target]) for i, a in enumerate(args)
        ):
            raise CannotPlanError("it multiplies matrices that both depend on the picture")
        if target in _BINARY and any(isinstance(a, Tensor) and a.ndim > 1 for a in args):
            raise CannotPlanError("it combines its features with a constant for each picture of a batch")
        dtype = torch.promote_types(self.dtype, torch.float32)
        self.plan.late.append(_Late(target, tuple(_cast(a, dtype) for a in args), call.kwargs))
        return _Vector(len(self.plan.late) - 1)

    def spatial(self, number: int, call: Call, args: list[Any]) -> _Map:
        """Add an operation on feature maps."""
        target, kwargs = call.operator, call.kwargs
        operations: dict[Any, Callable[..., _Map]] = {
            aten.convolution.default: partial(self.convolution, number),
            **dict.fromkeys(_NORMS, partial(self.norm, number)),
            aten.max_pool2d_with_indices.default: self.max_pool,
            aten.avg_pool2d.default: self.average_pool,
            aten.constant_pad_nd.default: self.pad,
            aten.cat.default: self.concatenate,
            **{operator: partial(self.binary, operator) for operator in _BINARY},
        }
        translate = operations.get(target)
        if translate and not kwargs:
            return translate(*args)
        if target in _UNARY and isinstance(args[0], _Map):
            apply, apply_ = (f and partial(_with, f, args[1:], kwargs) for f in (target, _UNARY[target]))
            return self.add(_Pointwise((args[0].step,), cast(Callable[..., Tensor], apply), apply_))
        raise CannotPlanError(f"it does not know the operator {target}")

    def add(self, step: _Step) -> _Map:
        """Append a step and its clean maps."""
        clean = step.whole(*(self.plan.clean[i] for i in step.inputs))
        self.plan.steps.append(step)
        self.plan.clean.append(clean.contiguous(memory_format=torch.channels_last))
        return _Map(len(self.plan.steps) - 1)

    def convolution(
        self, number: int, x: _Map, weight: Any, bias: Any, stride: list[int], padding: list[int],
        dilation: list[int], transposed: bool, output_padding: list[int], groups: int,
    ) -> _Map:  # fmt: skip
        if transposed or weight.ndim != 4:
            raise CannotPlanError("it has a transposed, one- or three-dimensional convolution")
        norm = self.norm_after(number)
        if norm is not None:
            factor, offset = _norm_constants(self.recording.calls[norm])
            bias = offset if bias is None else bias * factor + offset
            weight = weight * factor[:, None, None, None]
            self.folded.add(norm)
        weight = weight.to(self.dtype).contiguous(memory_format=torch.channels_last)
        bias = _cast(bias, self.dtype)

        def apply(maps: Tensor, padding: tuple[int, int]) -> Tensor:
            return F.conv2d(maps, weight, bias, tuple(stride), padding, tuple(dilation), groups)

        return self.slide(x, apply, weight.shape[2:], stride, padding, dilation, 0, weight[0].numel())

    def norm_after(self, number: int) -> int | None:
        """The batch norm that is the only one to read the result of call ``number``."""
        if self.recording.readers[number] != 1:
            return None
        calls = enumerate(self.recording.calls)
        return next((n for n, c in calls if c.operator in _NORMS and c.args[0] == Ref(number)), None)

    def norm(self, number: int, x: _Map, *rest: Any) -> _Map:
        if number in self.folded:
            return x
        constants = _norm_constants(self.recording.calls[number])
        factor, offset = (c.to(self.dtype)[:, None, None] for c in constants)
        return self.add(_Pointwise((x.step,), lambda maps: maps * factor + offset, None))

    def slide(
        self, x: _Map, apply: Callable[[Tensor, tuple[int, int]], Tensor], kernel: Sequence[int], stride: Sequence[int],
        padding: Sequence[int], dilation: Sequence[int], fill: float, taps: float,
    ) -> _Map:  # fmt: skip
        # PyTorch lets one number stand for both sides
        sides, step, pad, gap = ((p[0], p[-1]) for p in (kernel, stride or kernel, padding, dilation))
        return self.add(_Slide((x.step,), apply, sides, step, pad, gap, fill, taps))

    def max_pool(
        self, x: _Map, kernel: list[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1), ceil: bool = False,
    ) -> _Map:  # fmt: skip
        def apply(maps: Tensor, padding: tuple[int, int]) -> Tensor:
            return F.max_pool2d(maps, kernel, list(stride) or kernel, padding, list(dilation), ceil)

        return self.slide(x, apply, kernel, stride, padding, dilation, -math.inf, math.prod(kernel))

    def average_pool(
        self, x: _Map, kernel: list[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0),
        ceil: bool = False, *rest: Any,
    ) -> _Map:  # fmt: skip
        if any(padding) or ceil:
            raise CannotPlanError("it averages over the border")

        def apply(maps: Tensor, padding: tuple[int, int]) -> Tensor:
            return F.avg_pool2d(maps, kernel, list(stride) or kernel)

        return self.slide(x, apply, kernel, stride, (0, 0), (1, 1), 0, math.prod(kernel))

    def pad(self, x: _Map, amounts: list[int], value: float = 0) -> _Map:
        if len(amounts) != 4 or min(amounts) < 0:
            raise CannotPlanError("it cuts its feature maps or pads channels")
        return self.add(_Shift((x.step,), tuple(amounts), value))

    def concatenate(self, maps: list[Any], axis: int = 0) -> _Map:
        if axis != 1 or not all(isinstance(m, _Map) for m in maps):
            raise CannotPlanError("it joins its feature maps, but not by their channels")
        return self.add(_Pointwise(tuple(m.step for m in maps), lambda *parts: torch.cat(parts, 1), None))

    def binary(self, target: Any, a: Any, b: Any) -> _Map:
        if isinstance(a, _Map) and isinstance(b, _Map):
            if self.plan.clean[a.step].shape != self.plan.clean[b.step].shape:
                raise CannotPlanError("it combines feature maps of different sizes")
            return self.add(_Pointwise((a.step, b.step), target, _BINARY[target]))
        constant = _cast(b if isinstance(a, _Map) else a, self.dtype)
        varies = isinstance(constant, Tensor) and constant.numel() > 1
        if varies and (constant.shape[-2:] != (1, 1) or constant.shape[:-3].numel() != 1):
            raise CannotPlanError("it combines feature maps with a constant that differs from place to place")
        if isinstance(a, _Map):
            return self.add(_Pointwise((a.step,), lambda x: target(x, constant), None))
        return self.add(_Pointwise((b.step,), lambda x: target(constant, x), None))


def _norm_constants(call: Call) -> tuple[Tensor, Tensor]:
    """A batch norm's factor and offset for each channel, in float32 at least."""
    weight, bias, mean, variance, *rest = call.args[1:]
    if call.operator is not aten._native_batch_norm_legit_no_training.default and rest[0]:
        raise CannotPlanError("its batch norm depends on the other pictures of a batch")
    factor = (precise(variance) + rest[-1]).rsqrt() * (1 if weight is None else weight)
    return factor, (0 if bias is None else bias) - mean * factor


def _cast(argument: Any, dtype: torch.dtype) -> Any:
    """A constant in another precision."""
    return argument.to(dtype) if isinstance(argument, Tensor) and argument.is_floating_point() else argument


def _with(function: Callable[..., Tensor], args: Sequence[Any], kwargs: dict[str, Any], x: Tensor) -> Tensor:
    return function(x, *args, **kwargs)
