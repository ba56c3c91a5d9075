"""What tests and notebooks share: the environment of the lessons."""

import os

# before torch is imported, which reads it once; of two workers, each has a core
os.environ["OMP_NUM_THREADS"] = "1" if "PYTEST_XDIST_WORKER" in os.environ else "2"

from lessons_lib.runner import environment  # it imports torch

# here and not in a fixture: the kernels that nbval starts inherit it
os.environ.update(environment("quick") | {"OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]})
