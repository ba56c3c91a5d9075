"""Parts of pictures marked by hand, kept as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

Marks = dict[str, dict[str, tuple[float, float]]]


def save_marks(path: Path, marks: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    """Keep marks as JSON; an interrupted write leaves the previous file.

    Args:
        path: the file; its folder is made.
        marks: by picture and part, (row, column) as shares of the picture's sides, 0–1.

    Raises:
        ValueError: for a mark outside the picture.
    """
    checked = _checked_marks(marks, "the marks")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(checked, indent=1, sort_keys=True), encoding="utf-8")
    part.replace(path)


def load_marks(path: Path) -> Marks:
    """The marks kept at ``path``, by picture and part; none if there is no such file.

    Raises:
        ValueError: if the file holds anything else, naming it.
    """
    if not path.exists():
        return {}
    try:
        return _checked_marks(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} holds no marks ({error}): delete it and mark again") from error


def _checked_marks(marks: Mapping[str, Mapping[str, Sequence[float]]], where: str) -> Marks:
    checked: Marks = {}
    for picture, points in marks.items():
        checked[picture] = {}
        for part, point in points.items():
            row, column = (float(value) for value in point)
            if not (0 <= row <= 1 and 0 <= column <= 1):
                raise ValueError(
                    f"{where}: {part} of {picture} must be shares of the sides in 0–1, not {point}"
                )
            checked[picture][part] = (row, column)
    return checked
