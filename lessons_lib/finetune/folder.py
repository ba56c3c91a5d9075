"""Pictures on the disk, one folder a class: found, checked, divided, and cut anew for every epoch."""

from __future__ import annotations

import hashlib
import json
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
from lessons_lib.networks import seeded

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
# folders of a divided set, whatever their case; of several to validate on, the first one here is taken
_TRAIN_NAMES = ("train", "training")
_VALID_NAMES = ("val", "valid", "validation", "dev", "eval", "test", "testing")
# what Jupyter, a Mac and a network drive put beside or into folders: copies and thumbnails of the pictures
_HIDDEN = (".", "__MACOSX", "@eaDir")

Labelled = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PictureFolder:
    """What a folder of class folders holds.

    Attributes:
        classes: names of the class folders, sorted.
        train: pictures to learn from, as (path inside the folder, label), sorted.
        valid: pictures to validate on, likewise.
        skipped: files that are no pictures, as "path: reason".
        twins: how many pictures are, byte for byte, both among those to learn from and those to validate on.
        fingerprint: a checksum of which pictures, with what content, are to be learned from and validated on, and of
            their labels.
    """

    classes: tuple[str, ...]
    train: Labelled
    valid: Labelled
    skipped: tuple[str, ...]
    twins: int
    fingerprint: str


def read_folder(
    root: Path, *, valid_share: float = 0.2, seed: int = 0, progress: bool = True
) -> PictureFolder:
    """Find all pictures below ``root`` and decode each once, so that a broken one is known before training begins.

    Hidden files and folders are left out, and so are those that Macs and network drives make.

    Args:
        root: a folder with one folder a class, or with two such folders, train/ (or training) and val/ (or valid,
            validation, dev, eval, test, testing), in upper or lower case.
        valid_share: without a val/ folder, the share of each class that is kept to validate on, at least one picture.
        seed: decides that division.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if there is no such folder, no class folders, a single class, a class without pictures or with
            too few to divide, classes that differ between train/ and val/, one of these two alone, or a share not
            between 0 and 1.
    """
    if not root.is_dir():
        raise ValueError(f"there is no folder {root}")
    if not 0 < valid_share < 1:
        raise ValueError(f"the share to validate on must lie between 0 and 1, not {valid_share}")
    parts = _parts(root)
    files = [_class_files(part) for part in parts]
    if set(files[0]) != set(files[-1]):
        names = " and ".join(f"{part} ({', '.join(group)})" for part, group in zip(parts, files, strict=True))
        raise ValueError(f"the classes of {names} differ")
    every = [path for groups in files for group in groups.values() for path in group]
    checks = thread_map(_check, every, desc="Checking pictures", disable=None if progress else True)
    problems, checksums = (
        {path: check[i] for path, check in zip(every, checks, strict=True)} for i in (0, 1)
    )
    skipped = tuple(f"{path.relative_to(root)}: {why}" for path, why in problems.items() if why)
    good = [{name: [p for p in group if not problems[p]] for name, group in part.items()} for part in files]
    for part in good:
        for name, group in part.items():
            if not group:
                raise ValueError(f"class {name!r} has no readable picture: {_reasons(skipped)}")
    train, valid = (
        _labelled(part, root) for part in (good if len(good) == 2 else _divided(good[0], valid_share, seed))
    )
    learned, kept = ([checksums[root / path] for path, _ in part] for part in (train, valid))
    listed = json.dumps([list(files[0]), train, learned, valid, kept])
    return PictureFolder(
        tuple(files[0]),
        train,
        valid,
        skipped,
        twins=len(set(learned) & set(kept)),
        fingerprint=hashlib.sha256(listed.encode()).hexdigest(),
    )


def _parts(root: Path) -> tuple[Path, ...]:
    """The folder to learn from and the one to validate on, or ``root`` alone if it is not divided."""
    train, valid = (
        [folder for name in names for folder in _folders(root) if folder.name.lower() == name]
        for names in (_TRAIN_NAMES, _VALID_NAMES)
    )
    if train and valid:
        if len(train) > 1:
            raise ValueError(f"{train[0]} or {train[1]}: which is to be learned from? Rename the other")
        return train[0], valid[0]
    for folder in (*train, *valid):  # a class may have such a name; but it holds pictures, not only folders
        if _folders(folder) and not any(path.suffix.lower() in SUFFIXES for path in folder.iterdir()):
            raise ValueError(
                f"{folder} looks like one part of a divided set, but {root} has no other: put train/ and val/ beside "
                f"each other, or give {folder} itself as the folder of class folders"
            )
    return (root,)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(_HIDDEN))


def _class_files(root: Path) -> dict[str, list[Path]]:
    """All files of each class folder, hidden ones left out."""
    folders = _folders(root)
    if len(folders) < 2:
        found = f"only {folders[0].name!r}" if folders else "none"
        raise ValueError(
            f"{root} must hold a folder for each class, at least two, such as {root / 'ants'} and "
            f"{root / 'bees'}; there is {found}"
        )
    return {
        folder.name: sorted(
            path
            for path in folder.rglob("*")
            if (path.is_file() or path.is_symlink())
            and not any(part.startswith(_HIDDEN) for part in path.relative_to(root).parts)
        )
        for folder in folders
    }


def _check(path: Path) -> tuple[str, str]:
    """Why a file cannot be used, or nothing, and a checksum of its content."""
    if not path.is_file():
        return "a link to a folder, which is not followed, or to nothing", ""
    if path.suffix.lower() not in SUFFIXES:
        return f"not one of {', '.join(SUFFIXES)}", ""
    try:
        open_picture(path)
        return "", hashlib.sha256(path.read_bytes()).hexdigest()
    except (ValueError, OSError) as error:
        return str(error).removeprefix(f"{path} is "), ""


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
        with seeded(random.Random(f"{self.seed} {self.epoch} {index}").getrandbits(63)):
            top, left, height, width = v2.RandomResizedCrop.get_params(image, [0.35, 1.0], [3 / 4, 4 / 3])
            mirrored = bool(torch.rand(()) < 0.5)
        view = T.resized_crop(
            image, top, left, height, width, size, interpolation=self.network.interpolation, antialias=True
        )
        return self.network.normalise(T.horizontal_flip(view) if mirrored else view), label
