"""Look at what a network computes on the way: capture activations by layer name, and measure feature maps.

The one place of the library that registers hooks. Every other method asks :func:`hooked` or
:func:`recording`, so that no hook outlives the ``with`` block that needed it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def sparsity(maps: Tensor) -> Tensor:
    """Share of a channel's activations that are zero or below, over all pictures and positions.

    Args:
        maps: feature maps after a ReLU, shape (N, C, H, W).

    Returns:
        Shape (C,), each in 0–1: 0 is dense, 1 is silent.

    >>> sparsity(torch.tensor([[[[0.0, 2.0]], [[0.0, 0.0]]]]))
    tensor([0.5000, 1.0000], dtype=torch.float64)
    """
    _check_maps(maps)
    return (maps <= 0).cpu().double().mean(dim=(0, 2, 3))


def localisation(maps: Tensor) -> Tensor:
    """How much of a feature map's activation sits in few positions.

    The sparseness of Vinje and Gallant ("Sparse coding and decorrelation in primary visual cortex during natural
    vision", Science 2000) taken over space: ``(1 − mean(a)² / mean(a²)) / (1 − 1/n)`` with n positions. The
    division by ``1 − 1/n`` makes maps of different sizes comparable.

    Args:
        maps: feature maps after a ReLU, none negative, shape (N, C, H, W), at least two positions each.

    Returns:
        Shape (N, C), each in 0–1: 0 for a flat map, 1 for a single active position, NaN for an all-zero map.

    Raises:
        ValueError: for another shape, a single position or negative values.
    """
    _check_maps(maps)
    positions = maps.shape[2] * maps.shape[3]
    if positions < 2:
        raise ValueError("localisation needs maps of at least two positions")
    if (maps < 0).any():
        raise ValueError("localisation is defined for activations after a ReLU; these hold negative values")
    flat = maps.cpu().flatten(2).double()
    # dividing by the peak first keeps the squares of tiny activations from underflowing
    flat = flat / flat.amax(2, keepdim=True)
    spread = flat.mean(2).square() / flat.square().mean(2)
    return (1 - spread) / (1 - 1 / positions)


def dead_channels(maps: Tensor) -> Tensor:
    """Which channels are zero or below at every position of every picture given.

    "Dead" holds for these pictures only: another one may wake a channel, so use many.

    Args:
        maps: feature maps after a ReLU, shape (N, C, H, W).

    Returns:
        bool, shape (C,).
    """
    _check_maps(maps)
    return (maps <= 0).all(dim=3).all(dim=2).all(dim=0)


def likeness(maps: Tensor, images: Tensor) -> Tensor:
    """How much a feature map looks like the picture: correlation with the picture's brightness, sign ignored.

    The picture is averaged down to the map's size first, so that both have the same detail.

    Args:
        maps: feature maps, shape (N, C, h, w).
        images: the pictures they were made from, shape (N, 3, H, W), any range.

    Returns:
        The absolute Pearson correlation over positions, shape (N, C), in 0–1; NaN where a map or the shrunken
        picture is flat.

    Raises:
        ValueError: if there are not as many pictures as maps.
    """
    _check_maps(maps)
    if images.ndim != 4 or images.shape[1] != 3 or len(images) != len(maps):
        raise ValueError(f"need {len(maps)} pictures of shape (3, H, W), got {tuple(images.shape)}")
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    grey = torch.einsum("nchw,c->nhw", images.cpu().double(), luma)[:, None]
    shrunken = F.adaptive_avg_pool2d(grey, (maps.shape[2], maps.shape[3])).flatten(2)
    return _correlation(maps.cpu().double().flatten(2), shrunken).abs()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a = a - a.mean(-1, keepdim=True)
    b = b - b.mean(-1, keepdim=True)
    norms = a.norm(dim=-1) * b.norm(dim=-1)
    return torch.where(norms > 1e-12, (a * b).sum(-1) / norms, torch.nan)


@dataclass(frozen=True)
class Measures:
    """One layer's measures, each a mean in 0–1 over channels (and pictures, where a picture has its own)."""

    sparsity: float
    localisation: float
    dead: float
    likeness: float


def measure(maps: Tensor, images: Tensor) -> Measures:
    """All measures of one layer's feature maps (N, C, H, W) made from ``images`` (N, 3, H, W); silent maps left out."""
    return Measures(
        sparsity=sparsity(maps).mean().item(),
        localisation=localisation(maps).nanmean().item(),
        dead=dead_channels(maps).cpu().double().mean().item(),
        likeness=likeness(maps, images).nanmean().item(),
    )


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 4 or not maps.numel():
        raise ValueError(
            f"feature maps must have shape (N, C, H, W) and not be empty, got {tuple(maps.shape)}"
        )
    if torch.isnan(maps).any():
        raise ValueError("the feature maps hold NaN")
