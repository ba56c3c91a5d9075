"""Oxford-IIIT Pets: photographs of 37 breeds, whose file names say breed and species."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from lessons_lib.data.archives import photographs, require


def folder() -> Path:
    """The folder with the photographs, installed first if it is missing (see ``archives.require``).

    Raises:
        ConnectionError: if it is not installed and cannot be downloaded; the text says how to get it.
    """
    return require("oxford-iiit-pet") / "images"


def breed(filename: str | Path) -> str:
    """The breed a file name stands for: "Egyptian_Mau_139.jpg" → "Egyptian_Mau".

    Raises:
        ValueError: if the name is not Breed_number.
    """
    match = re.fullmatch(r"([A-Za-z][A-Za-z_]*)_\d+", Path(filename).stem)
    if not match:
        raise ValueError(f"{str(filename)!r} is not named like a pet: expected Breed_number.jpg")
    return match[1]


def is_cat(filename: str | Path) -> bool:
    """Whether a file shows a cat: their breeds are written with a capital letter, those of dogs without.

    Raises:
        ValueError: if the name is not Breed_number.
    """
    return breed(filename)[0].isupper()


def files() -> list[Path]:
    """Every photograph, sorted by name; says in one line how many there are and what was skipped.

    The full set holds a few .mat files, which are skipped, and GIFs named .jpg, which are kept: Pillow, and
    with it fastai and ``photos.open_picture``, reads them.
    """
    good, others = photographs(folder())
    cats = sum(map(is_cat, good))
    skipped = f"; skipped as no photographs: {others}" if others else ""
    print(
        f"Oxford-IIIT Pets: {len(good):,} photographs of {len(set(map(breed, good)))} breeds "
        f"({cats:,} of cats, {len(good) - cats:,} of dogs) from {folder()}{skipped}."
    )
    return good


def split(
    files: Iterable[str | Path], valid_share: float = 0.2, seed: int = 0
) -> tuple[list[Path], list[Path]]:
    """Divide photographs into training and validation, every breed in the same proportion.

    A breed's division depends on nothing but its own photographs and the seed.

    Args:
        files: paths or names like Breed_number.jpg, in any order: it does not change the result.
        valid_share: the share to validate on, between 0 and 1; each breed keeps at least one on either side.
        seed: another seed makes another division.

    Returns:
        The training files and the validation files, sorted.

    Raises:
        ValueError: if there are no files, a breed has a single one, or ``valid_share`` is not between 0 and 1.
    """
    if not 0 < valid_share < 1:
        raise ValueError(f"valid_share must lie between 0 and 1, not {valid_share}")
    breeds: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(map(Path, files)):
        breeds[breed(path)].append(path)
    lonely = [name for name, group in breeds.items() if len(group) < 2]
    if lonely or not breeds:
        raise ValueError(f"every breed needs two photographs or more to be divided: {lonely or 'no files'}")
    valid = {
        path
        for name, group in breeds.items()
        for path in random.Random(f"{seed} {name}").sample(
            group, min(max(round(valid_share * len(group)), 1), len(group) - 1)
        )
    }
    everything = sorted(path for group in breeds.values() for path in group)
    return [path for path in everything if path not in valid], sorted(valid)
