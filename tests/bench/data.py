"""Loading data."""

from __future__ import annotations

import os
from pathlib import Path

from torchvision.datasets import ImageFolder

from lessons_lib.data import archives, cifar10
from tests.bench import Skipped, Timing, benchmark, seconds


def installed_cifar10() -> Path:
    """The folder of CIFAR-10, installed from ``LESSONS_ARCHIVES`` if need be; skips where it would be downloaded."""
    installed = any(status.folder for status in archives.status() if status.archive.name == "cifar10")
    if not installed and not os.environ.get("LESSONS_ARCHIVES"):
        raise Skipped(f"CIFAR-10 is not installed; {archives.REGISTRY['cifar10'].command} does that")
    return archives.require("cifar10")


@benchmark("cifar10-load")
def cifar10_load() -> Timing:
    """All 60,000 pictures of CIFAR-10: the array kept from the first load against decoding every file again."""
    folder = installed_cifar10()
    if not (folder / "train").is_dir():
        raise Skipped("CIFAR-10 is installed as Krizhevsky's batches, which need no decoding")
    splits: tuple[cifar10.Split, ...] = ("train", "test")

    def load() -> None:
        for split in splits:
            cifar10.load(split)

    def decode() -> None:
        for split in splits:
            for _ in ImageFolder(str(folder / split)):
                pass

    load()  # the first load decodes and keeps
    return Timing(seconds(load), "torchvision ImageFolder", seconds(decode))
