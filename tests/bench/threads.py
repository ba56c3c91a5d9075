"""Two kernels at work on the same two cores, as on a shared machine: how many threads, and how they wait."""

from __future__ import annotations

import os
import subprocess
import sys

from lessons_lib.course import REPOSITORY
from lessons_lib.runner import SPINS
from tests.bench import Skipped, Timing, benchmark

CORES = 2
STEPS = 40
PASSES = 10

# trains once to warm up, then says how many seconds the second time took
TRAINING = f"""
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{CORES}])
from lessons_lib.data import critters
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.training import Settings, fit
pictures, model = critters.generate(16 * {STEPS}, 32, seed=0), SmallCNN()
for part in (pictures.subset(slice(0, 160)), pictures):
    run = fit(model, part, None, Settings(1, batch_size=16), progress=False)
print(run.seconds)
"""


# passes of one picture through EfficientNet-Lite0, the least of three rounds
SINGLE = f"""
import os, time, torch
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{CORES}])
from lessons_lib.models import imagenet
model, picture, rounds = imagenet.load("efficientnet_lite0").model.eval(), torch.zeros(1, 3, 224, 224), []
for _ in range(4):
    began = time.perf_counter()
    with torch.no_grad():
        for _ in range({PASSES}):
            model(picture)
    rounds.append(time.perf_counter() - began)
print(min(rounds[1:]))
"""


def at_once(kernels: int, threads: int, work: str = TRAINING, spins: str | None = SPINS) -> float:
    """Seconds that so many kernels took for the same work at once, on average; ``spins`` of None is OpenMP's own."""
    variables = os.environ | {"OMP_NUM_THREADS": str(threads)}
    variables.pop("GOMP_SPINCOUNT", None)
    if spins is not None:
        variables["GOMP_SPINCOUNT"] = spins
    running = [
        subprocess.Popen(
            [sys.executable, "-c", work], cwd=REPOSITORY, env=variables, stdout=subprocess.PIPE, text=True
        )
        for _ in range(kernels)
    ]
    return sum(float(process.communicate()[0].splitlines()[-1]) for process in running) / kernels


@benchmark("one-thread-vs-two-on-shared-cores")
def shared_cores() -> Timing:
    """What a thread more costs two students who share two cores, and what it gives one who is alone."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < CORES:
        raise Skipped(f"needs Linux, and {CORES} cores")
    alone, four = {threads: at_once(1, threads) for threads in (1, 2)}, at_once(4, 1)
    return Timing(
        at_once(2, 1),
        "two threads each",
        at_once(2, 2),
        f"small CNN, {STEPS} steps of 16 pictures, {CORES} cores, two kernels at once; alone {alone[1]:.1f} s on one "
        f"thread and {alone[2]:.1f} s on two; four kernels at once, a thread each, {four:.1f} s",
    )


@benchmark("short-spin-vs-long")
def short_spin() -> Timing:
    """What long spinning costs two kernels of two threads each, and what short spinning costs one that is alone."""
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < CORES:
        raise Skipped(f"needs Linux, and {CORES} cores")
    seconds = {
        (what, kernels, spins): at_once(kernels, CORES, work, spins)
        for what, work in {"training": TRAINING, "single pictures": SINGLE}.items()
        for kernels in (1, 2)
        for spins in (SPINS, None)
    }
    notes = [
        f"{what}: alone {seconds[what, 1, SPINS]:.2f} s, with OpenMP's own count {seconds[what, 1, None]:.2f} s; two "
        f"at once {seconds[what, 2, SPINS]:.2f} and {seconds[what, 2, None]:.2f} s"
        for what in ("training", "single pictures")
    ]
    return Timing(
        seconds["single pictures", 2, SPINS],
        "spinning as long as OpenMP does by default",
        seconds["single pictures", 2, None],
        f"{CORES} kernels of {CORES} threads each on {CORES} cores. {'. '.join(notes)}",
    )
