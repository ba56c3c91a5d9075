"""What tests and notebooks share: the environment of the lessons."""

import os

from lessons_lib.runner import environment

# here and not in a fixture: the kernels that nbval starts, and torch in this process, read it once
os.environ.update(environment("quick"))
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the other core is another worker's
