"""Score a map against the truth: where in the picture does its mass lie?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of a map's positive mass that lies inside a mask.

    The "energy-based pointing game" of Wang et al., "Score-CAM" (CVPR Workshops 2020, section 4.3). Maps are
    enlarged bilinearly to the masks' size, and negative values count as 0. A map that ignores the picture scores
    the mask's share of the area.

    Args:
        maps: shape (N, h, w).
        masks: bool, shape (N, H, W).

    Returns:
        Shape (N,), each in 0–1; NaN where a map has no positive value.

    Raises:
        TypeError: if the masks are not bool.
        ValueError: if the shapes do not fit.
    """
    if masks.dtype != torch.bool:
        raise TypeError(f"masks must be bool, not {masks.dtype}")
    if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks) or not maps.numel():
        raise ValueError(
            f"need maps (N, h, w) and as many masks (N, H, W), not {tuple(maps.shape)} and {tuple(masks.shape)}"
        )
    positive = maps.double().clamp(min=0)[:, None]
    enlarged = F.interpolate(positive, size=masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return (enlarged * masks).sum(dim=(1, 2)) / enlarged.sum(dim=(1, 2))
