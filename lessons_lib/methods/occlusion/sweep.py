"""Sweep the patch over the picture: which positions, in which batches."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.incremental.ways import ROUNDS, Race
from lessons_lib.methods.occlusion.maps import OcclusionMap
from lessons_lib.methods.occlusion.occluder import CLOSE, Baseline, Occluder, baseline_picture
from lessons_lib.methods.occlusion.request import Placement, blank_map
from lessons_lib.networks import Classes

Tile = tuple[int, int]
Batch = tuple[Tensor, Tensor]  # rows and columns of some positions

_MANY = 2000  # positions from which it pays to prepare, see Plan.many, and to try several ways
# batches after which ways are tried again: another program may have disturbed, and then have ended
_AGAIN = 400
_OVERHEAD = 0.5  # what a batch costs beside its patches, in passes of the whole network
# share of what may be lost in rounding that may be lost where it is tried: elsewhere it can be more
_SPARE = 0.5


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

    Which convolution is fastest hangs on the machine: from two thousand positions on, some are computed by each, and
    the rest by the fastest. The ``note`` says which. One that is further than 5e-6 from PyTorch's own is not taken.

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
        ways: what may compute it, by name, "plain" first: float32, by PyTorch's own convolutions.
        chosen: the way that does.
        map: what is known so far.
        tile: rows and columns of positions that share a rectangle; kept for the whole sweep, since new sizes cost.
        bar: the progress bar.
        prepared: whether Winograd's way has been added, where there is one.
        raced: whether ways have been tried on batches of this sweep.
        notes: sentences on how it is computed.
    """

    def __init__(self, occluder: Occluder, known: OcclusionMap) -> None:
        self.ways, self.chosen = {"plain": occluder}, "plain"
        self.map = known
        self.bar: Any = tqdm(disable=True)
        self.tile: Tile | None = None
        self.prepared = self.raced = False
        plan = occluder.whole_because
        self.notes = [f"the whole network ran for each patch, because {plan}" if plan else "incremental"]

    @property
    def occluder(self) -> Occluder:
        """What computes the map."""
        return self.ways[self.chosen]

    def compute(self, wanted: Tensor) -> None:
        """Run the network at the positions ``wanted``, bool (R, C)."""
        if self.tile is None:
            self.tile = self.choose_tile(wanted)
        batches = list(self.batches(wanted))
        for first in range(0, len(batches), _AGAIN):
            some = batches[first : first + _AGAIN]
            done = self.race(some) if int(wanted.sum()) >= _MANY else set()
            for number, batch in enumerate(some):
                if number not in done:
                    self.enter(batch, self.occluder.run(*self.request(batch)))

    def request(self, batch: Batch) -> tuple[Tensor, Tensor, Tile | None]:
        """What to ask an occluder for some positions."""
        return self.map.boxes(*batch), self.map.filled, self.room

    def enter(self, batch: Batch, answer: tuple[Tensor, Tensor | None]) -> None:
        """Write what an occluder says into the map."""
        (rows, columns), (probabilities, sums), known = batch, answer, self.map
        known.probabilities[:, rows, columns] = probabilities[:, list(known.targets)].T.float()
        if sums is not None:
            known.activations[:, rows, columns] = sums[:, list(known.channels)].T.float()
        known.predicted[rows, columns] = probabilities.argmax(1)
        known.computed[rows, columns] = True
        self.bar.update(len(rows))

    def race(self, batches: Sequence[Batch]) -> set[int]:
        """Compute a few batches of one size in every way, go on in the fastest; which batches they were."""
        sizes = [self.occluder.sizes(self.map.boxes(*batch), self.room or (0, 0)) for batch in batches]
        commonest = Counter(sizes).most_common(1)[0][0]
        chosen = [number for number, size in enumerate(sizes) if size == commonest][:ROUNDS]
        if len(chosen) < ROUNDS:
            return set()
        if not self.prepared:
            self.prepared = True
            self.add_winograd()
        if len(self.ways) == 1:
            return set()
        race, off = Race({name: occluder.run for name, occluder in self.ways.items()}), 0.0
        for number in chosen:
            answers = race.run(*self.request(batches[number]))
            self.enter(batches[number], answers["plain"])
            if "Winograd" in answers:
                off = max(off, float((answers["Winograd"][0] - answers["plain"][0]).abs().max()))
        allowed = [name for name in self.ways if name != "Winograd" or off <= _SPARE * CLOSE]
        self.choose(race, allowed, len(batches[chosen[0]][0]))
        return set(chosen)

    def add_winograd(self) -> None:
        """Winograd's convolutions as another way, if the network has layers for them."""
        plain, plan = self.ways["plain"], self.occluder.plan
        if not plan:
            return
        other = Occluder(
            plain.model, plain.image, layer=plain.layer, winograd=True, recording=plain.recording
        )
        if other.plan and other.plan.winograd:
            other.plan.many = plan.many
            self.ways["Winograd"] = other

    def choose(self, race: Race[Any], allowed: Sequence[str], positions: int) -> None:
        """Go on in the fastest way, forget those not allowed, and note how long each took for so many positions."""
        before, self.chosen = self.chosen, race.fastest(allowed)
        self.ways = {name: self.ways[name] for name in allowed}
        if self.raced and self.chosen == before:
            return
        self.raced = True
        times = ", ".join(f"{name} {seconds / positions * 1e3:.2f}" for name, seconds in race.least.items())
        refused = "".join(f"; {name} is not exact enough" for name in race.ways if name not in allowed)
        self.notes.append(f"{self.chosen}, the fastest here (ms a patch, tried: {times}{refused})")

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
        for other in self.ways.values():
            if other.plan:
                other.plan.many = int(wanted.sum()) >= _MANY
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
        return replace(self.map, note="; ".join(self.notes), seconds=seconds)


def _middle(length: int, whole: int) -> tuple[int, int]:
    """A stretch of ``length`` pixels in the middle of ``whole``."""
    length = min(length, whole)
    first = (whole - length) // 2
    return first, first + length
