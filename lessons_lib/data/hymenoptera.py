"""Hymenoptera: photographs of ants and bees, the small data set of PyTorch's transfer-learning tutorial."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm.contrib.concurrent import thread_map

from lessons_lib.checks import check_choice
from lessons_lib.data.archives import photographs, require
from lessons_lib.data.photos import open_picture, resized
from lessons_lib.data.pictures import Pictures

Split = Literal["train", "val"]

CLASSES = ("ants", "bees")


def folder() -> Path:
    """The folder with train/ and val/, installed first if it is missing (see ``archives.require``).

    Raises:
        ConnectionError: if it is not installed and cannot be downloaded; the text says how to get it.
    """
    return require("hymenoptera")


def files(split: Split) -> list[tuple[Path, int]]:
    """Every photograph of a split and its label (0 ant, 1 bee), sorted; says in one line what was found.

    Files that are no photographs, such as train/ants/imageNotFound.gif, are skipped and named in that line.

    Raises:
        ValueError: if ``split`` is neither "train" nor "val".
    """
    check_choice("split", split, Split)
    found = [photographs(folder() / split / name) for name in CLASSES]
    counts = " and ".join(f"{len(good)} of {name}" for name, (good, _) in zip(CLASSES, found, strict=True))
    others = ", ".join(names for _, names in found if names)
    skipped = f"; skipped as no photographs: {others}" if others else ""
    print(f"Hymenoptera {split}: {counts} photographs from {folder()}{skipped}.")
    return [(path, label) for label, (good, _) in enumerate(found) for path in good]


def load(split: Split, size: int = 224) -> Pictures:
    """The photographs of a split, shorter side resized to ``size`` (antialiased) and the centre cut out.

    Args:
        split: "train" (244 photographs) or "val" (153).
        size: side of the pictures in pixels, at least 1.

    Returns:
        uint8 pictures of shape (N, 3, size, size), ants first.

    Raises:
        ValueError: if ``split`` or ``size`` is not valid, or a photograph is damaged: the text names it.
    """

    def read(path: Path) -> Tensor:
        return resized(open_picture(path), size)

    paths, labels = zip(*files(split), strict=True)
    images = thread_map(read, paths, desc=f"Reading Hymenoptera {split}", unit="picture")
    return Pictures(torch.stack(images), torch.tensor(labels), CLASSES, f"Hymenoptera {split}")
