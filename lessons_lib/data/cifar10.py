"""CIFAR-10: 60,000 pictures of 32×32 in ten classes, from Krizhevsky's batches or from one folder a class."""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.contrib.concurrent import thread_map

from lessons_lib.checks import check_choice
from lessons_lib.course import data_folder
from lessons_lib.data.archives import CIFAR_CLASSES, REGISTRY, require
from lessons_lib.data.photos import open_picture
from lessons_lib.data.pictures import Pictures

Split = Literal["train", "test"]

CLASSES = CIFAR_CLASSES
"""The ten classes, in the order of their labels."""
SIZE = 32
BATCHES = "cifar-10-batches-py"  # the folder of Krizhevsky's own files
BLOCK = 250  # pictures a thread decodes at a time: one by one, handing them out costs more than decoding


def load(split: Split) -> Pictures:
    """One half of CIFAR-10, downloaded first if it is not installed; says in one line what was loaded.

    Krizhevsky's batches keep their own order, which is random. One folder a class has lost it: those pictures
    are dealt out in turn, one of each class, so that any beginning of the set is balanced. They are decoded
    once and kept as one array in the data folder.

    Args:
        split: "train" (50,000 pictures) or "test" (10,000).

    Returns:
        uint8 pictures of shape (N, 3, 32, 32), in the same order every time.

    Raises:
        ValueError: if ``split`` is neither, or a class folder or picture is missing or damaged.
        ConnectionError: if it is not installed and cannot be downloaded; the text says how to get it.

    Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
    """
    check_choice("split", split, Split)
    folder = require("cifar10")
    pictures = (_from_batches if folder.name == BATCHES else _from_folders)(folder, split)
    print(f"{pictures.source}: {len(pictures):,} pictures of {SIZE}×{SIZE} in 10 classes, from {folder}.")
    return pictures


def _from_batches(folder: Path, split: Split) -> Pictures:
    """Krizhevsky's own files, which torchvision checks (MD5) before it reads them."""
    from torchvision import datasets  # noqa: PLC0415 - importing it takes seconds, and only this layout needs it

    try:
        with warnings.catch_warnings():
            # NumPy 2.4 warns of the way Python 2 pickled these arrays in 2009
            warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
            batches = datasets.CIFAR10(folder.parent, train=split == "train")
    except RuntimeError as error:
        raise ValueError(
            f"{folder} is damaged ({error}): move it away and run `{REGISTRY['cifar10'].command}`"
        ) from None
    images = torch.from_numpy(batches.data).permute(0, 3, 1, 2).contiguous()
    return Pictures(images, torch.tensor(batches.targets), CLASSES, f"CIFAR-10 {split}")


def _from_folders(folder: Path, split: Split) -> Pictures:
    """One folder a class, decoded or from the cache: the first of each class, then the second of each, and so on."""
    classes = [sorted(_pictures(folder / split / name), key=lambda file: file.name) for name in CLASSES]
    files = [file for turn in zip(*classes, strict=True) for file in turn]
    source = _fingerprint(files)
    cache = data_folder() / "cache" / f"cifar10-{split}.safetensors"
    images = _recall(cache, source)
    if images is None:
        images = _decode([file.path for file in files], f"Decoding CIFAR-10 {split}")
        _keep(cache, images, source)
    jpeg = any(file.name.endswith(".jpg") for file in files)
    note = " (re-encoded as JPEG: accuracies can sit a little under the original's)" if jpeg else ""
    labels = torch.arange(len(files)) % len(CLASSES)
    return Pictures(images, labels, CLASSES, f"CIFAR-10 {split}{note}")


def _pictures(folder: Path) -> list[os.DirEntry[str]]:
    """The pictures in one class folder (directory entries, because 50,000 Path objects take a second)."""
    with os.scandir(folder) as files:
        return [file for file in files if file.name.endswith((".png", ".jpg")) and file.name[0] != "."]


def _fingerprint(files: list[os.DirEntry[str]]) -> str:
    """A checksum of the names, sizes and times of files: another if any of them is exchanged."""
    lines = (f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _decode(paths: list[str], title: str) -> Tensor:
    """Read pictures in parallel, with a progress bar; ValueError names one that is damaged or not 32×32."""
    images = torch.empty(len(paths), 3, SIZE, SIZE, dtype=torch.uint8)

    def decode(start: int) -> None:
        for i, path in enumerate(paths[start : start + BLOCK], start):
            picture = open_picture(path)
            if picture.shape != images.shape[1:]:
                height, width = picture.shape[1:]
                raise ValueError(f"{path} is {width}×{height}: CIFAR-10's pictures are {SIZE}×{SIZE}")
            images[i] = picture

    thread_map(decode, range(0, len(paths), BLOCK), desc=title, unit="picture", unit_scale=BLOCK)
    return images


def _recall(cache: Path, source: str) -> Tensor | None:
    """The decoded pictures, if the cache is whole and was made from ``source``."""
    try:
        with safe_open(cache, "pt") as file:
            metadata = file.metadata() or {}
            images: Tensor = file.get_tensor("images")
    except (OSError, SafetensorError):
        return None
    return images if metadata == {"source": source, "content": _checksum(images)} else None


def _keep(cache: Path, images: Tensor, source: str) -> None:
    """Write the cache in one step; if that is not possible, warn and go on without."""
    part = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_file({"images": images}, part, metadata={"source": source, "content": _checksum(images)})
        part.replace(cache)
    except (OSError, SafetensorError) as error:
        warnings.warn(
            f"the decoded pictures could not be kept in {cache} ({error}): the next load decodes them again. "
            "Set LESSONS_DATA to a folder you may write to.",
            stacklevel=2,
        )
        with suppress(OSError):
            part.unlink()


def _checksum(images: Tensor) -> str:
    """SHA-256 of the pixels."""
    return hashlib.sha256(images.numpy().data).hexdigest()
