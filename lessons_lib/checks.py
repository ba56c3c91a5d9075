"""Refuse what a caller got wrong, in one sentence that says what is needed."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any, get_args

import torch
from torch import Tensor

Shape = str | Sequence[str | int]
"""Such as "N 3 H W" or ("N", 3, 32, 32): a number stands for itself, a word for any size from 1 on."""


def check_tensor(
    what: str,
    tensor: Tensor,
    shape: Shape,
    dtype: torch.dtype | type[float] | None = None,
    *,
    finite: bool = False,
) -> None:
    """Refuse a tensor of another type or shape, an empty one and, where that is asked for, NaN and infinity.

    Args:
        what: its name.
        tensor: what was given.
        shape: what is needed.
        dtype: its type; ``float`` stands for any that is floating point.
        finite: whether every value must be finite.

    Raises:
        TypeError: for another type.
        ValueError: for another shape, no numbers at all, or values that are not finite.

    >>> check_tensor("maps", torch.zeros(2, 3), "N C h w")
    Traceback (most recent call last):
        ...
    ValueError: maps must have shape (N, C, h, w) and not be empty, not (2, 3)
    """
    if dtype is float and not tensor.is_floating_point():
        raise TypeError(f"{what} must be floating point, not {tensor.dtype}")
    if isinstance(dtype, torch.dtype) and tensor.dtype != dtype:
        hint = " in 0–255 (data.to_picture makes it of floats)" if dtype == torch.uint8 else ""
        raise TypeError(f"{what} must be {dtype}{hint}, not {tensor.dtype}")
    wanted = [str(size) for size in (shape.split() if isinstance(shape, str) else shape)]
    given = [str(size) for size in tensor.shape]
    fits = all(a == b for a, b in zip(wanted, given, strict=False) if a.isdigit())
    if len(wanted) != len(given) or not fits or not tensor.numel():
        raise ValueError(
            f"{what} must have shape ({', '.join(wanted)}) and not be empty, not ({', '.join(given)})"
        )
    if finite and not torch.isfinite(tensor).all():
        raise ValueError(f"{what} must not hold NaN or infinity")


def check_range(what: str, value: float, least: float, most: float = math.inf) -> None:
    """Refuse a number that is not in ``least`` to ``most``, both included.

    >>> check_range("k", 0, 1, 5)
    Traceback (most recent call last):
        ...
    ValueError: k must be in 1–5, not 0
    """
    if not least <= value <= most:
        allowed = f"at least {least}" if most == math.inf else f"in {least}–{most}"
        raise ValueError(f"{what} must be {allowed}, not {value}")


def check_choice(what: str, value: Any, choices: Any) -> None:
    """Refuse what is not one of ``choices``: a collection, or a ``Literal`` with all that is possible.

    >>> check_choice("mode", "quick", ("exact", "fast"))
    Traceback (most recent call last):
        ...
    ValueError: there is no mode 'quick': choose from 'exact', 'fast'
    """
    known: Collection[Any] = get_args(choices) or choices
    if value not in known:
        raise ValueError(f"there is no {what} {value!r}: choose from {', '.join(map(repr, known))}")
