"""The settings every lesson shares: the profile, seeds, the device and the figure style."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import random
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib.pyplot as plt
import numpy as np
import torch
from platformdirs import user_cache_path
from threadpoolctl import threadpool_limits

from lessons_lib.checks import check_choice

Profile = Literal["quick", "full"]
"""How much a lesson computes: *quick* with what ships with the course, *full* with the real data."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

# in a checkout; where pip has installed the library there is none, and what it needs of data/ lies beside this file
REPOSITORY = Path(__file__).resolve().parents[1]
INSTALLED = Path(__file__).with_name("shipped").is_dir()
SHIPPED = Path(__file__).with_name("shipped") if INSTALLED else REPOSITORY / "data"
CHECKPOINTS = SHIPPED / "checkpoints"
"""The folder of the shipped networks."""


def data_folder() -> Path:
    """Where downloads and caches go: the environment variable ``LESSONS_DATA``, else the repository's data/.

    Where the library is installed and there is no repository, it is the user's cache folder, as
    ``python -m lessons_lib.data status`` says.
    """
    return Path(os.environ.get("LESSONS_DATA") or (user_cache_path("lessons-lib") if INSTALLED else SHIPPED))


@dataclass(frozen=True)
class Course:
    """What ``setup`` decided; lessons branch on ``full`` and compute on ``device``."""

    profile: Profile
    device: torch.device
    seed: int

    @property
    def full(self) -> bool:
        """Whether this is the *full* profile: real data sets and the settings of the source lectures."""
        return self.profile == "full"


def resolve_profile(name: str | None = None) -> Profile:
    """The profile asked for: ``name``, else the environment variable ``LESSONS_PROFILE``, else *quick*.

    Raises:
        ValueError: for anything but "quick" and "full".
    """
    chosen = name or os.environ.get("LESSONS_PROFILE") or "quick"
    check_choice("PROFILE or LESSONS_PROFILE", chosen, Profile)
    return cast(Profile, chosen)


def setup(profile: str | None = None, seed: int = 0) -> Course:
    """Begin a lesson: choose the profile and device, seed every random generator, set the figure style.

    *quick* always computes on the CPU, so that its figures repeat; *full* takes an accelerator if there is one.
    The matrix products of NumPy and SciPy (scikit-learn's fits) get one thread, PyTorch keeps its own.
    Calling it again puts everything back, so cells can be run in any order after it.
    """
    chosen = resolve_profile(profile)
    accelerator = torch.accelerator.current_accelerator(check_available=True) if chosen == "full" else None
    device = accelerator or torch.device("cpu")
    seed_everything(seed)
    # NumPy's and SciPy's threads would wait for torch's and theirs for them: many small fits take several times as long
    threadpool_limits(1, user_api="blas")
    _keep_freed_memory()
    figure_style()
    what = "nothing is downloaded" if chosen == "quick" else f"real data sets, computing on {device.type}"
    print(f"Profile {chosen}: {what}. Seed {seed}.")
    return Course(chosen, device, seed)


def environment() -> dict[str, str]:
    """What this machine computes with: versions, device, threads and whether bfloat16 is fast, by name."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    folder = data_folder()
    parts = filter(find_spec, ("torch", "torchvision", "fastai", "jupyterlab"))  # Colab has no JupyterLab
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in parts},
        "quick runs on": f"cpu, {torch.get_num_threads()} threads",
        "full runs on": str(device),
        "fast bfloat16": "yes" if fast_bfloat16(device) else "no",
        "data folder": str(folder.relative_to(REPOSITORY) if folder.is_relative_to(REPOSITORY) else folder),
    }


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch, and ask torch for deterministic algorithms and for all of float32's digits."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries the lessons use still read the global generator
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # what is overwritten need not be filled with NaN first: that took a fifth of a small network's step
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = False  # by default a GPU's convolutions round to ten bits


def processor_capabilities() -> dict[str, Any]:
    """What this machine's processor can do, by the names of PyTorch; empty for a PyTorch too old to say."""
    return cast(dict[str, Any], getattr(torch.cpu, "get_capabilities", dict)())


def fast_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 matrices in hardware (AMX or AVX-512 BF16, or a GPU that says so).

    That is what it could do: held back by ``ONEDNN_MAX_CPU_ISA``, for one, it does not. Whether it pays, measure.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = processor_capabilities() if device.type == "cpu" else {}
    return bool(known.get("amx_bf16") or known.get("avx512_bf16"))


def figure_style() -> None:
    """One look for every figure: legible in light and dark pages, colours that colour-blind readers can tell."""
    plt.rcdefaults()
    plt.rc("figure", dpi=96, facecolor="white")  # a transparent figure loses its black labels on a dark page
    plt.rc("figure.constrained_layout", use=True)
    plt.rc("savefig", dpi=96)
    plt.rc("font", size=10)
    colours = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000"]
    plt.rc("axes", titlesize=10, prop_cycle=plt.cycler(color=colours))
    plt.rc("axes.spines", top=False, right=False)
    plt.rc("image", interpolation="nearest")
    plt.rc("legend", frameon=False)


def _keep_freed_memory() -> None:
    """Let this process keep the memory that tensors of up to 64 MB give back; does nothing where there is no glibc.

    By default glibc returns each large block to the system, which fills the next one with zeros, page by page: up to
    half of the time of a network's pass; see mallopt(3).
    """
    if platform.libc_ver()[0] == "glibc":
        for option, megabytes in ((_MMAP_THRESHOLD, 64), (_TRIM_THRESHOLD, 256)):
            ctypes.CDLL(None).mallopt(option, megabytes << 20)
