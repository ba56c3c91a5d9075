"""Occlusion: ours against the lecture's loop and against captum, all scaled to the lecture's 50,176 positions."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn

from lessons_lib.data import photos
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.occlusion import Occluder, baseline_picture
from lessons_lib.methods.occlusion.request import blank_map
from lessons_lib.methods.occlusion.sweep import Sweep
from tests.bench import Skipped, Timing, benchmark, seconds

SIZE, PATCH = 224, 32
POSITIONS = SIZE * SIZE
SAMPLED = 1000  # positions that ours is timed on, in whole tiles at random places
ONE_BY_ONE = 32  # passes of the lecture's loop timed in a round
CAPTUM_STRIDE = 24  # 9 × 9 patches
ROUNDS = 3


@cache
def resnet18() -> nn.Module:
    """The lecture's network; random weights take as long as trained ones."""
    from torchvision import models

    torch.manual_seed(0)
    return models.resnet18().eval()


def cat() -> Tensor:
    """A photograph as the network's input."""
    return to_input(photos.resized(photos.photo("chelsea"), SIZE))


def lecture(model: nn.Module, image: Tensor, target: int) -> None:
    """Some rounds of the lecture's loop: copy the picture, put in a zero patch, run the network, read one number."""
    for centre in range(0, SIZE, SIZE // ONE_BY_ONE):
        first = max(0, centre - PATCH // 2)
        patched = image.clone()
        patched[:, first : centre + PATCH // 2, first : centre + PATCH // 2] = 0
        with torch.no_grad():
            model(patched[None]).softmax(1)[0, target].item()


class Sample:
    """Whole tiles at random places of a sweep of every pixel, the border included.

    Attributes:
        set_up: seconds until the rest of the sweep can run.
        sweep: the sweep.
        wanted: the positions, bool (rows, columns).
        work: multiply-adds for one position, on average.
    """

    def __init__(self, model: nn.Module, image: Tensor, target: int) -> None:
        began = time.perf_counter()
        occluder = Occluder(model, image)
        blank = blank_map(occluder, baseline_picture(image, "zero", PATCH), PATCH, 1, "centred", target, None)
        self.sweep = Sweep(occluder, blank)
        every = torch.ones(SIZE, SIZE, dtype=torch.bool)
        self.sweep.tile = self.sweep.choose_tile(every)
        batches = list(self.sweep.batches(every))
        self.set_up = time.perf_counter() - began
        plan = self.sweep.occluder.plan
        assert plan is not None
        self.wanted = torch.zeros(SIZE, SIZE, dtype=torch.bool)
        self.work, self.count = 0.0, 0
        for index in torch.randperm(len(batches), generator=torch.Generator().manual_seed(0)).tolist():
            rows, columns = batches[index]
            self.wanted[rows, columns] = True
            boxes = self.sweep.map.boxes(rows, columns)
            spans = ((int(boxes[:, i].min()), int(boxes[:, i + 2].max())) for i in (0, 1))
            self.work += len(rows) * plan.work(*spans, self.sweep.room)
            self.count += len(rows)
            if self.count >= SAMPLED:
                break
        self.work /= self.count

    def run(self) -> None:
        """Compute the sample."""
        self.sweep.compute(self.wanted)


def duel(ours: Callable[[], object], peer: Callable[[], object]) -> tuple[float, float]:
    """The best seconds of each, in turn: a shared machine slows down and speeds up."""
    rounds = [(seconds(ours), seconds(peer)) for _ in range(ROUNDS)]
    return min(r[0] for r in rounds), min(r[1] for r in rounds)


def matrix_rate() -> float:
    """Floating-point operations a second when this machine multiplies matrices of 2048 × 2048."""
    a, b = torch.randn(2, 2048, 2048)
    return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(8))


def on_resnet18(peer: Callable[[], object], peer_positions: int, name: str) -> Timing:
    """A sweep of every pixel of a picture, ours against a peer that computes ``peer_positions``."""
    sample = Sample(resnet18(), cat(), 0)
    ours_s, peer_s = (
        s / n for s, n in zip(duel(sample.run, peer), (sample.count, peer_positions), strict=True)
    )
    rate = matrix_rate()
    return Timing(
        sample.set_up + ours_s * POSITIONS,
        name,
        peer_s * POSITIONS,
        f"ResNet-18, {SIZE}×{SIZE}, patch {PATCH}, stride 1, scaled to {POSITIONS:,} positions; ours "
        f"{ours_s * 1e3:.2f} ms a position ({sample.count:,} in tiles at random places) after {sample.set_up:.1f} s of "
        f"setting up; by their definition its convolutions are {sample.work / 1e6:.0f} "
        f"million multiply-adds, for which a plain matrix product of {rate / 1e9:,.0f} GFLOP/s would take "
        f"{2e3 * sample.work / rate:.2f} ms; peer {peer_s * 1e3:.1f} ms ({peer_positions})",
    )


@benchmark("occlusion-exact-vs-lecture")
def against_lecture() -> Timing:
    """Ours against the loop, one picture at a time."""
    return on_resnet18(partial(lecture, resnet18(), cat(), 0), ONE_BY_ONE, "lecture, one by one")


@cache
def captum_at_its_best() -> tuple[Callable[[], object], int]:
    """Captum's ``Occlusion`` and the ``perturbations_per_eval`` that it is fastest with."""
    if importlib.util.find_spec("captum") is None:
        raise Skipped("captum is not installed")
    from captum.attr import Occlusion

    attribute = partial(
        Occlusion(resnet18()).attribute,
        cat()[None],
        sliding_window_shapes=(3, PATCH, PATCH),
        strides=(3, CAPTUM_STRIDE, CAPTUM_STRIDE),
        target=0,
    )
    took = {n: seconds(partial(attribute, perturbations_per_eval=n)) for n in (1, 4, 16, 32)}
    best = min(took, key=took.__getitem__)
    return partial(attribute, perturbations_per_eval=best), best


@benchmark("occlusion-exact-vs-captum")
def against_captum() -> Timing:
    """Ours against captum, a position."""
    attribute, best = captum_at_its_best()
    side = (SIZE - PATCH) // CAPTUM_STRIDE + 1
    return on_resnet18(attribute, side * side, f"captum, {best} patches at a time")
