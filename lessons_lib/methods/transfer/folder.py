"""Pictures on the disk, one folder a class: found, checked, divided, and cut anew for every epoch."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision.transforms.v2.functional as T
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from tqdm.contrib.concurrent import thread_map

from lessons_lib.data.photos import open_picture
from lessons_lib.models.imagenet import ImageNetClassifier

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_VALID_NAMES = ("val", "valid", "validation", "test")

Labelled = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PictureFolder:
    """What a folder of class folders holds.

    Attributes:
        classes: names of the class folders, sorted.
        train: pictures to learn from, as (path inside the folder, label), sorted.
        valid: pictures to validate on, likewise.
        skipped: files that are no pictures, as "path: reason".
    """

    classes: tuple[str, ...]
    train: Labelled
    valid: Labelled
    skipped: tuple[str, ...]


def read_folder(
    root: Path, *, valid_share: float = 0.2, seed: int = 0, progress: bool = True
) -> PictureFolder:
    """Find all pictures below ``root`` and decode each once, so that a broken one is known before training begins.

    Args:
        root: a folder with one folder a class, or with two such folders, train/ and val/ (or valid, validation,
            test).
        valid_share: without a val/ folder, the share of each class that is kept to validate on, at least one picture.
        seed: decides that division.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if there is no such folder, no class folders, a single class, a class without pictures or with
            too few to divide, classes that differ between train/ and val/, or a share not between 0 and 1.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    if not 0 < valid_share < 1:
        raise ValueError(f"the share to validate on must lie between 0 and 1, not {valid_share}")
    valid_root = next((root / name for name in _VALID_NAMES if (root / name).is_dir()), None)
    divided = valid_root is not None and (root / "train").is_dir()
    files = _class_files(root / "train" if divided else root)
    others = _class_files(valid_root) if divided and valid_root else {}
    if divided and set(files) != set(others):
        raise ValueError(
            f"the classes of {root / 'train'} ({', '.join(files)}) and {valid_root} ({', '.join(others)}) differ"
        )
    every = [path for group in (*files.values(), *others.values()) for path in group]
    problems = dict(
        zip(
            every,
            thread_map(_problem, every, desc="Checking pictures", disable=None if progress else True),
            strict=True,
        )
    )
    skipped = tuple(f"{path.relative_to(root)}: {why}" for path, why in problems.items() if why)
    good = [
        {name: [p for p in group if not problems[p]] for name, group in part.items()}
        for part in (files, others)
    ]
    for part in good[: 1 + divided]:
        for name, group in part.items():
            if not group:
                raise ValueError(f"class {name!r} has no readable picture: {_reasons(skipped)}")
    train, valid = (good[0], good[1]) if divided else _divided(good[0], valid_share, seed)
    return PictureFolder(tuple(files), _labelled(train, root), _labelled(valid, root), skipped)


def _class_files(root: Path) -> dict[str, list[Path]]:
    """All files of each class folder, hidden ones left out."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    if len(folders) < 2:
        found = f"only {folders[0].name!r}" if folders else "none"
        raise ValueError(
            f"{root} must hold a folder for each class, at least two, such as {root / 'ants'} and "
            f"{root / 'bees'}; there is {found}"
        )
    return {
        folder.name: sorted(path for path in folder.rglob("*") if path.is_file() and path.name[0] != ".")
        for folder in folders
    }


def _problem(path: Path) -> str:
    """Why a file cannot be used, or nothing."""
    if path.suffix.lower() not in SUFFIXES:
        return f"not one of {', '.join(SUFFIXES)}"
    try:
        open_picture(path)
    except (ValueError, OSError) as error:
        return str(error).removeprefix(f"{path} is ")
    return ""


def _divided(
    groups: dict[str, list[Path]], valid_share: float, seed: int
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Each class by itself, at least one picture on either side."""
    lonely = [name for name, group in groups.items() if len(group) < 2]
    if lonely:
        raise ValueError(
            f"class {lonely[0]!r} has a single picture: it needs two or more, at least one to learn from and one to "
            "validate on"
        )
    valid = {
        name: random.Random(f"{seed} {name}").sample(
            group, min(max(round(valid_share * len(group)), 1), len(group) - 1)
        )
        for name, group in groups.items()
    }
    train = {name: [path for path in group if path not in set(valid[name])] for name, group in groups.items()}
    return train, valid


def _labelled(groups: dict[str, list[Path]], root: Path) -> Labelled:
    return tuple(
        (path.relative_to(root).as_posix(), label)
        for label, group in enumerate(groups.values())
        for path in sorted(group)
    )


def _reasons(skipped: Sequence[str]) -> str:
    more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
    return "; ".join(skipped[:3]) + more if skipped else "its folder is empty"


class Views(Dataset[tuple[Tensor, int]]):
    """Pictures as a network's input, either as they are or cut and mirrored at random.

    What is cut out of a picture depends on the seed, the epoch and the picture alone, not on who asks or when: so
    any number of processes, and a run that was stopped and resumed, see the same.

    Attributes:
        epoch: set it before each pass.
    """

    def __init__(
        self,
        root: Path,
        files: Labelled,
        network: ImageNetClassifier,
        *,
        random_crops: bool = False,
        seed: int = 0,
    ) -> None:
        self.root = root
        self.files = files
        self.network = network
        self.random_crops = random_crops
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The input (3, size, size) and the label of one picture."""
        path, label = self.files[index]
        image = open_picture(self.root / path)
        if not self.random_crops:
            return self.network.prepare(image), label
        size = [self.network.size, self.network.size]
        with torch.random.fork_rng([]):
            torch.manual_seed(random.Random(f"{self.seed} {self.epoch} {index}").getrandbits(63))
            top, left, height, width = v2.RandomResizedCrop.get_params(image, [0.35, 1.0], [3 / 4, 4 / 3])
            mirrored = bool(torch.rand(()) < 0.5)
        view = T.resized_crop(
            image, top, left, height, width, size, interpolation=self.network.interpolation, antialias=True
        )
        return self.network.normalise(T.horizontal_flip(view) if mirrored else view), label
