"""Handwritten digits that ship with scikit-learn: small, real, and nothing like an animal."""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from lessons_lib.checks import check_range
from lessons_lib.data.pictures import Pictures


def load(size: int = 32) -> Pictures:
    """All 1,797 handwritten digits as pictures of ``size`` × ``size``, bright on black, in the data set's order.

    The originals are 8 × 8 with 17 grey levels (UCI Optical Recognition of Handwritten Digits); they are enlarged
    by bicubic interpolation and their three channels are equal.

    Raises:
        ValueError: if ``size`` is under 8.
    """
    check_range("size", size, 8)  # that of the originals
    digits = load_digits()
    small = torch.from_numpy(digits.images).float().unsqueeze(1) * (255 / 16)
    large = F.interpolate(small, size=(size, size), mode="bicubic", align_corners=False)
    return Pictures(
        large.round().clamp(0, 255).to(torch.uint8).expand(-1, 3, -1, -1).contiguous(),
        torch.from_numpy(digits.target).long(),
        tuple(str(name) for name in digits.target_names),
        f"1,797 handwritten digits shipped with scikit-learn, enlarged from 8×8 to {size}×{size}",
    )
