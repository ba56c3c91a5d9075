"""Two questions about features: when they settle, and how much of them is aliased."""

from __future__ import annotations

import torch
from torch import Tensor

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.statistics import correlation


def agreement(maps: Tensor, final: Tensor) -> Tensor:
    """How far each feature is already what it will be: its correlation with its final self on the same pictures.

    Args:
        maps: a layer's activations at some time of training, shape (N, C, H, W) or (N, C).
        final: those of the trained network, same shape.

    Returns:
        Pearson's correlation over pictures and positions, shape (C,), in −1 to 1; NaN for a channel that is flat
        at either time.

    Raises:
        ValueError: if the shapes differ.
    """
    check_tensor("activations at the other time", maps, final.shape)
    early, late = (stack.detach().cpu().transpose(0, 1).flatten(1).double() for stack in (maps, final))
    return correlation(early, late)


def aliased(maps: Tensor, stride: int) -> Tensor:
    """Share of each channel's variation that is too fine to survive keeping every ``stride``-th position.

    Keeping every s-th position can tell frequencies apart up to 1/(2s) cycles a position. What is faster does not
    vanish: it folds back and pretends to be a slower pattern. A Hann window keeps the maps' borders from counting as
    edges.

    Args:
        maps: feature maps at every position (stride 1), shape (N, C, H, W), at least 2·stride each way.
        stride: 1 or more.

    Returns:
        Shape (C,), in 0–1: energy above 1/(2·stride) on either axis over all but the mean's; NaN for flat channels.

    Raises:
        ValueError: for another shape, or a stride that does not fit the maps.
    """
    check_tensor("feature maps", maps, "N C H W")
    height, width = maps.shape[2:]
    check_range("stride", stride, 1, min(height, width) // 2)
    windows = [torch.hann_window(side, periodic=False, dtype=torch.float64) for side in (height, width)]
    window = torch.outer(*windows)
    maps = maps.detach().cpu().double()  # not every device has float64
    energy = torch.zeros(maps.shape[1:], dtype=torch.float64)
    for picture in maps:
        # without the weighted mean, which the window would turn into a slow wave
        wave = picture - (picture * window).sum((1, 2), keepdim=True) / window.sum()
        energy += torch.fft.fft2(wave * window).abs().square()
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64).abs() for side in (height, width))
    fast = torch.maximum(rows[:, None], columns[None, :]) > 1 / (2 * stride)
    total = energy.sum((1, 2))
    scale = maps.square().sum((0, 2, 3))
    return torch.where(total > 1e-20 * scale, (energy * fast).sum((1, 2)) / total, torch.nan)
