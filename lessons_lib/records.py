"""Results that a lesson has no minute for: run once, kept in data/records/, and drawn in the lesson from there.

A record is a list of rows, one a run. Who has the time runs the missing ones: each row is written as soon as it is
there, so that nothing is lost when interrupted, and a run that is on record is not repeated.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import torch

from lessons_lib import course

Row = dict[str, Any]
SHIPPED = course.SHIPPED / "records"
# an installed library is not written to: a record that grows is copied first
FOLDER = course.data_folder() / "records" if course.INSTALLED else SHIPPED

# instructions that decide how fast a network runs, the newest first, and what a processor that has them is called
_PROCESSORS = {
    "amx_tile": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512_f": "AVX-512",
    "avx2": "AVX2",
}


def processor() -> str:
    """The class of this machine's processor: by the instructions that matter here, not by its name."""
    has = course.processor_capabilities()
    return next((name for flag, name in _PROCESSORS.items() if has.get(flag)), platform.machine())


def read(name: str, *, folder: Path = FOLDER) -> list[Row]:
    """The rows of a record, in the order in which they were made; none if there is no such record.

    Args:
        name: the record's, such as "06_zfnet_deconvnet".
        folder: where records are kept.
    """
    file = folder / f"{name}.json"
    if folder == FOLDER and not file.exists():
        file = SHIPPED / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else []


def once(name: str, key: Mapping[str, Any], run: Callable[[], Row], *, folder: Path = FOLDER) -> Row:
    """The row of a run: from the record, or else by running it now and adding it there.

    Args:
        name: the record's.
        key: the settings that tell this run from others, of types that JSON has.
        run: gives the results.
        folder: where records are kept.

    Returns:
        The settings and the results, with PyTorch's version, the class of the processor and the date.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> once("toy", {"seed": 1}, lambda: {"accuracy": 0.5}, folder=folder)["accuracy"]
    0.5
    >>> once("toy", {"seed": 1}, lambda: {"accuracy": 0.7}, folder=folder)["accuracy"]
    0.5
    """
    rows = read(name, folder=folder)
    for row in rows:
        if all(name in row and row[name] == value for name, value in key.items()):
            return row
    made = {
        "torch": torch.__version__.split("+")[0],
        "processor": processor(),
        "date": date.today().isoformat(),
    }
    row = {**key, **run(), **made}
    file = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    half = file.with_suffix(".tmp")
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in [*rows, row])
    half.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    half.replace(file)
    return row
