"""Sweep the patch over the picture: which positions, in which batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.methods.occlusion.maps import OcclusionMap
from lessons_lib.methods.occlusion.occluder import Baseline, Occluder, baseline_picture
from lessons_lib.methods.occlusion.request import Placement, blank_map
from lessons_lib.networks import Classes

Tile = tuple[int, int]
Batch = tuple[Tensor, Tensor]  # rows and columns of some positions

_MANY = 2000  # positions from which it pays to prepare, see Plan.many
_OVERHEAD = 0.5  # what a batch costs beside its patches, in passes of the whole network


def occlude(
    model: nn.Module, image: Tensor, targets: Classes, *, patch: int = 32, stride: int = 1,
    baseline: Baseline | float | Tensor = "zero", placement: Placement = "centred",
    layer: str | None = None, channels: Sequence[int] | None = None, progress: bool = True,
) -> OcclusionMap:  # fmt: skip
    """Cover each part of a picture in turn and record what the network says.

    The probabilities are the network's own but for rounding, as they also differ from one size of batch to another.
    Only what a patch can change is recomputed (``lessons_lib.incremental.plan``) if the network allows it and if at
    three places, computed both ways, no probability is off by more than 1e-5; otherwise the whole network runs for
    each patch.

    Interrupting it (Ctrl-C, or the stop button) returns what was computed.

    Args:
        model: a classifier whose output is logits; left as it was.
        image: its input for one picture, float, shape (C, H, W).
        targets: the class, or classes, whose probability is wanted. More of them cost nothing.
        patch: side of the square patch in pixels.
        stride: pixels from one position to the next.
        baseline: what stands in the patch, see ``baseline_picture``.
        placement: "centred": the patch's centre visits every pixel, and the picture's edge clips the patch (the
            lecture). "inside": the patch stays inside the picture.
        layer: a layer whose channels' total activation is recorded too.
        channels: which; by default the strongest one on the picture without a patch (Zeiler and Fergus, figure 6 b).
        progress: whether to show a progress bar.

    Raises:
        TypeError: for a picture that is not the network's float input, a class that is no whole number, or a network
            whose output is not one tensor.
        ValueError: for a class or channel out of range, a patch larger than the picture, an unknown layer,
            baseline or placement, NaN or infinity in the picture, NaN in the answer, or a network that does not give
            at least two logits for each picture.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> found = occlude(net, torch.rand(3, 32, 32), 1, patch=8, stride=8, progress=False)
    >>> found.drop().shape
    torch.Size([4, 4])
    """
    began = time.perf_counter()
    occluder, filled = Occluder(model, image, layer=layer), baseline_picture(image, baseline, patch)
    blank = blank_map(occluder, filled, patch, stride, placement, targets, channels)
    sweep = Sweep(occluder, blank)
    with tqdm(total=blank.positions, unit="patch", disable=not progress, leave=False) as sweep.bar:
        try:
            sweep.compute(~blank.computed)
        except KeyboardInterrupt:
            print(f"Interrupted after {int(blank.computed.sum()):,} of {blank.positions:,} positions.")
    return sweep.result(time.perf_counter() - began)


class Sweep:
    """A map that is being computed.

    Attributes:
        occluder: what computes it.
        map: what is known so far.
        tile: rows and columns of positions that share a rectangle; kept for the whole sweep, since new sizes cost.
        bar: the progress bar.
    """

    def __init__(self, occluder: Occluder, known: OcclusionMap) -> None:
        self.occluder, self.map = occluder, known
        self.bar: Any = tqdm(disable=True)
        self.tile: Tile | None = None

    def compute(self, wanted: Tensor) -> None:
        """Run the network at the positions ``wanted``, bool (R, C)."""
        if self.tile is None:
            self.tile = self.choose_tile(wanted)
        for batch in self.batches(wanted):
            self.enter(batch, self.occluder.run(self.map.boxes(*batch), self.map.filled, self.room))

    def enter(self, batch: Batch, answer: tuple[Tensor, Tensor | None]) -> None:
        """Write what an occluder says into the map."""
        (rows, columns), (probabilities, sums), known = batch, answer, self.map
        known.probabilities[:, rows, columns] = probabilities[:, list(known.targets)].T.float()
        if sums is not None:
            known.activations[:, rows, columns] = sums[:, list(known.channels)].T.float()
        known.predicted[rows, columns] = probabilities.argmax(1)
        known.computed[rows, columns] = True
        self.bar.update(len(rows))

    def batches(self, wanted: Tensor) -> Iterator[Batch]:
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

    @property
    def room(self) -> Tile | None:
        """That of the tiles in use."""
        return None if self.tile is None else self.map.room_of(self.tile)

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
            room = self.map.room_of(tile)
            spans = (_middle(side, length) for side, length in zip(room, (height, width), strict=True))
            return len(rows) * plan.work(*spans) + _OVERHEAD * whole * passes

        most = max(len(self.map.tops), len(self.map.lefts)).bit_length()
        return min(((1 << n // 2, 1 << n - n // 2) for n in range(2 * most + 1)), key=cost)

    def result(self, seconds: float) -> OcclusionMap:
        """The map, finished or not."""
        reason = self.occluder.whole_because
        note = f"the whole network ran for each patch, because {reason}" if reason else "incremental"
        return replace(self.map, note=note, seconds=seconds)


def _middle(length: int, whole: int) -> tuple[int, int]:
    """A stretch of ``length`` pixels in the middle of ``whole``."""
    length = min(length, whole)
    first = (whole - length) // 2
    return first, first + length
