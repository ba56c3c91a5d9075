"""Measures of feature maps: how their activation lies, which are dead, how much they look like the picture.

``lessons_lib.networks.capture`` gives the maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lessons_lib.checks import check_tensor
from lessons_lib.statistics import correlation


def neighbour_correlation(maps: Tensor) -> Tensor:
    """How alike neighbouring positions of a feature map are: Moran's I over the pairs of next positions.

    Args:
        maps: feature maps, shape (N, C, H, W).

    Returns:
        Shape (N, C): near 1 for broad blobs, −1 for a chequerboard, −1 / (H·W − 1) on average for a map whose
        positions were shuffled; NaN for a flat map.

    P. A. P. Moran, "Notes on continuous stochastic phenomena", Biometrika 1950.

    >>> neighbour_correlation(torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]))
    tensor([[0.3333]], dtype=torch.float64)
    """
    check_tensor("feature maps", maps, "N C H W", finite=True)
    flat = maps.cpu().double()
    apart = flat - flat.mean((2, 3), keepdim=True)
    beside, above = apart[..., 1:] * apart[..., :-1], apart[:, :, 1:] * apart[:, :, :-1]
    alike, variance = torch.cat([beside.flatten(2), above.flatten(2)], 2).mean(2), apart.square().mean((2, 3))
    return torch.where(variance > 1e-12, alike / variance, torch.nan)


def spread(maps: Tensor) -> Tensor:
    """How far from its own centre a feature map's activation lies: its squared standard distance.

    ``Σ a·|x − c|² / Σ a``, with c the centre ``Σ a·x / Σ a``, over what that is for a map that is equally active
    everywhere. Fewer active positions have a smaller spread on average, even at random places, so compare with
    ``shuffled``.

    Args:
        maps: feature maps after a ReLU, none negative, shape (N, C, H, W), at least two positions each.

    Returns:
        Shape (N, C): 0 for a single active position, 1 for a flat map, more if the activation lies at opposite
        edges; NaN for an all-zero map.

    Raises:
        ValueError: for another shape, a single position or negative values.

    R. Bachi, "Standard distance measures and related methods for spatial analysis", Regional Science 1963.

    >>> spread(torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]))
    tensor([[0.2000]], dtype=torch.float64)
    """
    check_tensor("feature maps", maps, "N C H W", finite=True)
    if maps[0, 0].numel() < 2 or (maps < 0).any():
        raise ValueError(
            "spread is defined for activations after a ReLU, none negative, at two positions or more"
        )
    height, width = maps.shape[2:]
    weights = maps.cpu().double() / maps.cpu().double().sum((2, 3), keepdim=True)
    found = torch.zeros(maps.shape[:2], dtype=torch.float64)
    for along in (weights.sum(3), weights.sum(2)):
        place = torch.arange(along.shape[2], dtype=torch.float64)
        found += along @ place.square() - (along @ place).square()
    return found.clamp(min=0) * 12 / (height**2 + width**2 - 2)


def shuffled(maps: Tensor, *, seed: int = 0) -> Tensor:
    """Each feature map (N, C, H, W) with its positions in a random order of its own, so that nothing lies anywhere.

    >>> sorted(shuffled(torch.arange(4.0).view(1, 1, 2, 2)).flatten().tolist())
    [0.0, 1.0, 2.0, 3.0]
    """
    check_tensor("feature maps", maps, "N C H W", finite=True)
    generator = torch.Generator().manual_seed(seed)
    flat = maps.cpu().flatten(2)
    order = torch.rand(flat.shape, generator=generator).argsort(-1)
    return flat.gather(2, order).view(maps.shape)


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
    check_tensor("feature maps", maps, "N C h w", finite=True)
    check_tensor("pictures", images, f"{len(maps)} 3 H W")
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    grey = torch.einsum("nchw,c->nhw", images.cpu().double(), luma)[:, None]
    shrunken = F.adaptive_avg_pool2d(grey, (maps.shape[2], maps.shape[3])).flatten(2)
    return correlation(maps.cpu().double().flatten(2), shrunken).abs()
