"""Whether a student's answer to an exercise is right, and if it is not, what is wrong about it."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

import torch
from torch import Tensor

Answer = Tensor | Sequence[float] | float


def check(answer: Answer | EllipsisType, expected: Answer, *, within: float = 1e-4) -> None:
    """Print whether ``answer`` is right; if it is not, in which respect: kind, shape, NaN, size or sign.

    The expected value is not printed, so that it stays the student's to find.

    Args:
        answer: what the student found; three dots, as the exercise leaves them, mean none yet.
        expected: a number, or numbers of any shape.
        within: how far numbers may be off.

    >>> check(0.25, 0.5)
    Not yet: your answer is half of what it should be.
    >>> check(torch.tensor([1.0, 2.0]), [1, 2])
    Right.
    """
    if isinstance(answer, EllipsisType):
        print("No answer yet: put yours where the three dots are, and run this cell again.")
        return
    try:
        found = torch.as_tensor(answer).double().cpu()
    except (TypeError, ValueError, RuntimeError):
        print(f"Not yet: numbers are asked for, and your answer is a {type(answer).__name__}.")
        return
    wrong = _wrong(found, torch.as_tensor(expected).double().cpu(), within)
    print(f"Not yet: {wrong}." if wrong else "Right.")


def _wrong(found: Tensor, right: Tensor, within: float) -> str:
    """What is wrong with the numbers of an answer; empty if nothing is."""
    if found.shape != right.shape:
        turned = found.ndim == right.ndim and found.shape[::-1] == right.shape
        return (
            f"your answer has shape {tuple(found.shape)}, and {tuple(right.shape)} is asked for"
            + ": swap rows and columns" * turned
        )
    if found.isnan().any():
        return "your answer holds NaN"
    off = (found - right).abs()
    if (off <= within).all():
        return ""
    known = {
        -1.0: "has the wrong sign",
        0.5: "is half of what it should be",
        2.0: "is twice what it should be",
    }
    for factor, words in known.items():
        if ((found - factor * right).abs() <= within).all():
            return f"your answer {words}"
    if not off.ndim:
        return f"your answer is too {'large' if found > right else 'small'}"
    return f"{int((off > within).sum())} of {off.numel()} numbers are off, by {float(off.max()):.2g} at most"
