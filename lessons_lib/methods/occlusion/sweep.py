"""Sweep the patch over the picture: which positions, in which batches, in which precision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.course import fast_bfloat16
from lessons_lib.methods.occlusion.adaptive import refine
from lessons_lib.methods.occlusion.maps import OcclusionMap
from lessons_lib.methods.occlusion.occluder import Fill, Occluder, filling

Way = Literal["exact", "fast", "adaptive"]
Placement = Literal["centred", "inside"]

Tile = tuple[int, int]


@dataclass(frozen=True)
class Tolerance:
    """What bfloat16 may change, measured on some positions computed both ways.

    Attributes:
        most: of any probability at any of them.
        mean: of the first target's probability, on average.
        classes: share of them whose most probable class may change.
        checked: how many of them, at most.
    """

    most: float
    mean: float
    classes: float
    checked: int


FAST = Tolerance(most=0.02, mean=0.02, classes=0.005, checked=200)
ROUGH = Tolerance(
    most=1.0, mean=0.003, classes=1.0, checked=32
)  # adaptive interpolates with larger errors than that
LEAST_CHECKED = 32
_TOGETHER = 8  # of them in one batch
_SIDE = 4  # within so many rows and columns
_MANY = 2000  # positions from which it pays to prepare, see Plan.many
_OVERHEAD = 0.5  # what a batch costs beside its patches, in passes of the whole network


def occlude(
    model: nn.Module, image: Tensor, targets: int | Sequence[int], *, patch: int = 32, stride: int = 1,
    fill: Fill | float | Tensor = "zero", placement: Placement = "centred", way: Way = "exact",
    layer: str | None = None, channels: Sequence[int] | None = None, resume: OcclusionMap | None = None,
    progress: bool = True,
) -> OcclusionMap:  # fmt: skip
    """Cover each part of a picture in turn and record what the network says.

    - *exact*: the network's own probabilities, within 1e-5. Only what a patch can change is recomputed
      (:mod:`lessons_lib.methods.occlusion.plan`) if the network allows it.
    - *fast*: the same in bfloat16 where the machine is good at it. Some positions are computed both ways; if a
      probability is off by more than 0.02, or more than 0.5 % of the classes change, the sweep is *exact* and its
      ``note`` says so.
    - *adaptive*: a coarse grid first, finer where the map is rough, interpolated in between, until the mean error of
      the first target should be under 0.01; in bfloat16 if that adds no more than 0.003.

    Interrupting it (Ctrl-C, or the stop button) returns what was computed; pass that map back as ``resume`` to go on.

    Args:
        model: a classifier whose output is logits; left as it was.
        image: its input for one picture, float, shape (C, H, W).
        targets: the class, or classes, whose probability is wanted. More of them cost nothing.
        patch: side of the square patch in pixels.
        stride: pixels from one position to the next.
        fill: what stands in the patch, see :func:`filling`.
        placement: "centred": the patch's centre visits every pixel, and the picture's edge clips the patch (the
            lecture). "inside": the patch stays inside the picture.
        way: "exact", "fast" or "adaptive".
        layer: a layer whose channels' total activation is recorded too.
        channels: which; by default the strongest one on the picture without a patch (Zeiler and Fergus, figure 6 b).
        resume: an unfinished map of the same sweep.
        progress: whether to show a progress bar.

    Raises:
        TypeError: for a picture that is not the network's float input.
        ValueError: for a class or channel out of range, a patch larger than the picture, an unknown layer, way,
            filling or placement, NaN, or a map to resume that belongs to another sweep.
    """
    began = time.perf_counter()
    if way not in get_args(Way):
        raise ValueError(f"no way {way!r}; there are {', '.join(get_args(Way))}")
    occluder = Occluder(model, image, layer=layer)
    blank = blank_map(occluder, filling(image, fill, patch), patch, stride, placement, targets, channels)
    sweep = Sweep(occluder, blank if resume is None else _resumable(resume, blank))
    if resume is not None and resume.complete:
        return resume
    interrupted = False
    with tqdm(total=sweep.left, unit="patch", disable=not progress, leave=False) as sweep.bar:
        try:
            if way != "exact":
                sweep.try_bfloat16(FAST if way == "fast" else ROUGH)
            if way == "adaptive":
                refine(sweep)
            else:
                sweep.compute(~sweep.map.computed)
        except KeyboardInterrupt:
            interrupted = True
    done = sweep.result(way, time.perf_counter() - began)
    if interrupted:
        count = int(done.computed.sum())
        print(
            f"Interrupted after {count:,} of {done.positions:,} positions: pass the map back as resume= to go on."
        )
    return done


def starts(length: int, patch: int, stride: int, placement: Placement) -> Tensor:
    """First pixel of the patch at each position along a side of ``length`` pixels, int64; clipped later.

    Raises:
        ValueError: if the patch or stride does not fit, or for an unknown placement.
    """
    if not 1 <= patch <= length:
        raise ValueError(f"patch must be 1–{length} pixels, the picture's side, not {patch}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1 pixel, not {stride}")
    if placement == "centred":
        return torch.arange(0, length, stride) - patch // 2
    if placement == "inside":
        last = length - patch
        return torch.tensor(sorted({*range(0, last + 1, stride), last}))
    raise ValueError(f"no placement {placement!r}; there are {', '.join(get_args(Placement))}")


def blank_map(
    occluder: Occluder, filled: Tensor, patch: int, stride: int, placement: Placement,
    targets: int | Sequence[int], channels: Sequence[int] | None,
) -> OcclusionMap:  # fmt: skip
    """A map that holds nothing yet, once the request is known to make sense."""
    height, width = filled.shape[1:]
    tops, lefts = (starts(length, patch, stride, placement) for length in (height, width))
    clean, sums = occluder.clean
    wanted = (targets,) if isinstance(targets, int) else tuple(int(t) for t in targets)
    if not wanted or not all(0 <= t < len(clean) for t in wanted):
        raise ValueError(f"targets must be one or more classes in 0–{len(clean) - 1}, not {targets}")
    chosen: tuple[int, ...] = ()
    if sums is None:
        if channels is not None:
            raise ValueError("name the layer that the channels belong to: layer=")
        sums = clean.new_empty(0)
    else:
        chosen = (int(sums.argmax()),) if channels is None else tuple(int(c) for c in channels)
        if not all(0 <= c < len(sums) for c in chosen):
            raise ValueError(f"{occluder.layer!r} has channels 0–{len(sums) - 1}, not {channels}")
    shape = len(tops), len(lefts)
    return OcclusionMap(
        targets=wanted,
        probabilities=torch.full((len(wanted), *shape), torch.nan),
        predicted=torch.full(shape, -1),
        channels=chosen,
        activations=torch.full((len(chosen), *shape), torch.nan),
        tops=tops,
        lefts=lefts,
        patch=patch,
        filled=filled,
        computed=torch.zeros(shape, dtype=torch.bool),
        clean_probabilities=clean.float(),
        clean_activations=sums[list(chosen)].float(),
        way="exact",
        note="",
        error=0.0,
        seconds=0.0,
    )


def _resumable(unfinished: OcclusionMap, blank: OcclusionMap) -> OcclusionMap:
    """A copy of ``unfinished`` to go on with, once it is sure that it belongs to the same sweep as ``blank``."""
    for name in ("targets", "channels", "patch"):
        if getattr(unfinished, name) != getattr(blank, name):
            raise ValueError(
                f"the map to resume has {name} {getattr(unfinished, name)}, not {getattr(blank, name)}"
            )
    for name in ("tops", "lefts", "filled", "clean_probabilities"):
        old, new = getattr(unfinished, name), getattr(blank, name)
        if old.shape != new.shape or not torch.allclose(old, new, atol=1e-4):
            raise ValueError(f"the map to resume belongs to another sweep: its {name} differ")
    copies = {
        name: getattr(unfinished, name).clone() for name in ("probabilities", "predicted", "activations")
    }
    return replace(unfinished, computed=unfinished.computed.clone(), **copies)


class Sweep:
    """A map that is being computed.

    Attributes:
        occluder: what computes it; :meth:`try_bfloat16` may put a faster one in place.
        map: what is known so far.
        tile: rows and columns of positions that share a rectangle; kept for the whole sweep, since new sizes cost.
        bar: the progress bar.
        error: mean |Δp| that was measured, see :class:`OcclusionMap`.
        notes: sentences on how it is computed.
    """

    def __init__(self, occluder: Occluder, known: OcclusionMap) -> None:
        self.occluder = occluder
        self.map = known
        self.bar: Any = tqdm(disable=True)
        self.tile: Tile | None = None
        self.error = 0.0
        plan = occluder.whole_because
        self.notes = [f"the whole network ran for each patch, because {plan}" if plan else "incremental"]

    @property
    def left(self) -> int:
        """How many positions are not computed."""
        return int((~self.map.computed).sum())

    def compute(self, wanted: Tensor) -> None:
        """Run the network at the positions ``wanted``, bool (R, C)."""
        if not wanted.any():
            return
        if self.tile is None:
            self.tile = self.choose_tile(wanted)
        for rows, columns in self.batches(wanted):
            probabilities, sums = self.occluder(self.boxes(rows, columns), self.map.filled, self.room)
            known = self.map
            known.probabilities[:, rows, columns] = probabilities[:, list(known.targets)].T.float()
            if sums is not None:
                known.activations[:, rows, columns] = sums[:, list(known.channels)].T.float()
            known.predicted[rows, columns] = probabilities.argmax(1)
            known.computed[rows, columns] = True
            self.bar.update(len(rows))

    def boxes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The patches at these positions of the map, clipped: shape (N, 4)."""
        tops, lefts = self.map.tops[rows], self.map.lefts[columns]
        height, width = self.map.filled.shape[1:]
        ends = (tops + self.map.patch).clamp(max=height), (lefts + self.map.patch).clamp(max=width)
        return torch.stack([tops.clamp(min=0), lefts.clamp(min=0), *ends], 1)

    def batches(self, wanted: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The positions wanted, in batches of neighbours: those that fall into one tile."""
        batch = self.occluder.batch
        rows, columns = wanted.nonzero(as_tuple=True)
        groups = [torch.arange(len(rows))]
        if self.tile is not None:
            numbers = self.numbers(rows, columns, self.tile)
            groups = list(numbers.argsort(stable=True).split(numbers.unique(return_counts=True)[1].tolist()))
        for group in groups:
            for some in group.split(batch):
                yield rows[some], columns[some]

    def numbers(self, rows: Tensor, columns: Tensor, tile: Tile) -> Tensor:
        """The number of the tile that each position falls into."""
        return rows // tile[0] * len(self.map.lefts) + columns // tile[1]

    def room_of(self, tile: Tile) -> Tile:
        """Height and width of the rectangle that the patches of a tile cover together."""
        strides = [
            int(starts.diff().max()) if len(starts) > 1 else 1 for starts in (self.map.tops, self.map.lefts)
        ]
        height, width = (
            min(self.map.patch + (side - 1) * stride, length)
            for side, stride, length in zip(tile, strides, self.map.filled.shape[1:], strict=True)
        )
        return height, width

    @property
    def room(self) -> Tile | None:
        """That of the tiles in use."""
        return None if self.tile is None else self.room_of(self.tile)

    def choose_tile(self, wanted: Tensor) -> Tile | None:
        """Rows and columns of a tile: small tiles have small rectangles, large ones fill their batches."""
        plan, batch = self.occluder.plan, self.occluder.batch
        if plan is None:
            return None
        plan.many = int(wanted.sum()) >= _MANY
        rows, columns = wanted.nonzero(as_tuple=True)
        height, width = self.map.filled.shape[1:]
        whole = plan.work((0, height), (0, width))

        def cost(tile: Tile) -> float:
            counts = self.numbers(rows, columns, tile).unique(return_counts=True)[1]
            passes = int(((counts - 1) // batch + 1).sum())
            room = self.room_of(tile)
            spans = (_middle(side, length) for side, length in zip(room, (height, width), strict=True))
            return len(rows) * plan.work(*spans) + _OVERHEAD * whole * passes

        most = max(len(self.map.tops), len(self.map.lefts)).bit_length()
        return min(((1 << n // 2, 1 << n - n // 2) for n in range(2 * most + 1)), key=cost)

    def try_bfloat16(self, tolerance: Tolerance) -> None:
        """Go on in bfloat16 if the machine is good at it and what comes out is as near as it must be."""
        exact, model, image = self.occluder, self.occluder.model, self.occluder.image
        if not fast_bfloat16(image.device):
            self.notes.append("float32: this machine does not multiply bfloat16 in hardware")
            return
        fast = Occluder(model, image, layer=exact.layer, bfloat16=True, recording=exact.recording)
        count = min(max(LEAST_CHECKED, self.map.positions // 200), tolerance.checked)
        worst, total, changed = 0.0, 0.0, 0
        room = self.room_of((_SIDE, _SIDE))
        for rows, columns in self.sample(count):
            boxes = self.boxes(rows, columns)
            right, rounded = (o(boxes, self.map.filled, room)[0].double() for o in (exact, fast))
            difference = (right - rounded).abs()
            worst = max(worst, difference.max().item())
            total += difference[:, self.map.targets[0]].sum().item()
            changed += int((right.argmax(1) != rounded.argmax(1)).sum())
        found = f"on {count} positions computed both ways |Δp| ≤ {worst:.4f} and {changed} classes changed"
        near = (
            worst <= tolerance.most
            and total <= tolerance.mean * count
            and changed <= tolerance.classes * count
        )
        if near:
            self.occluder, self.error = fast, total / count
            self.notes.append(f"bfloat16: {found}")
        else:
            self.notes.append(f"float32, because bfloat16 is not exact enough here: {found}")

    def sample(self, count: int) -> Iterator[tuple[Tensor, Tensor]]:
        """``count`` positions from all over the map, a few neighbours at a time; the same every time."""
        generator = torch.Generator().manual_seed(0)
        shape = self.map.predicted.shape
        for first in range(0, count, _TOGETHER):
            corner = [int(torch.randint(n, (), generator=generator)) for n in shape]
            offsets = torch.randint(0, _SIDE, (2, min(_TOGETHER, count - first)), generator=generator)
            rows, columns = ((c + o).clamp(max=n - 1) for c, o, n in zip(corner, offsets, shape, strict=True))
            yield rows, columns

    def result(self, way: Way, seconds: float) -> OcclusionMap:
        """The map, finished or not."""
        if way == "fast" and not self.occluder.bfloat16:
            way = "exact"
        note = "; ".join(self.notes)
        return replace(self.map, way=way, note=note, error=self.error, seconds=self.map.seconds + seconds)


def _middle(length: int, whole: int) -> tuple[int, int]:
    """A stretch of ``length`` pixels in the middle of ``whole``."""
    length = min(length, whole)
    first = (whole - length) // 2
    return first, first + length
