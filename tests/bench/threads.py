"""Two kernels at work on the same two cores, as on a shared machine: one thread each against two."""

from __future__ import annotations

import os
import subprocess
import sys

from lessons_lib.course import REPOSITORY
from tests.bench import Skipped, Timing, benchmark

CORES = 2
STEPS = 40

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


def at_once(kernels: int, threads: int) -> float:
    """Seconds that so many trainings of :data:`STEPS` steps took at once, on average."""
    variables = os.environ | {"OMP_NUM_THREADS": str(threads)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", TRAINING], cwd=REPOSITORY, env=variables, stdout=subprocess.PIPE, text=True
        )
        for _ in range(kernels)
    ]
    return sum(float(process.communicate()[0]) for process in running) / kernels


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
