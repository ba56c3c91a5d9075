"""What tests and notebooks share: the environment of the lessons."""

import os

from tests.machines import MACHINE, Machine

machine = Machine.numbered(int(os.environ.get(MACHINE, "0")))
imitated = machine.environment() if machine.number else {}
# of two workers, each has a core
threads = {"OMP_NUM_THREADS": "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"}
# before torch is imported, which reads it once
os.environ.update({"GOMP_SPINCOUNT": "1000"} | imitated | threads)

from lessons_lib.runner import environment  # noqa: E402 - it imports torch

# here and not in a fixture: the kernels that nbval starts inherit it
os.environ.update(environment("quick") | threads | imitated)
