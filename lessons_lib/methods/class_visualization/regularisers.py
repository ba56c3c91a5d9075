"""What else one may ask of the picture: penalties, views and constraints."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Penalty = Callable[[Tensor], Tensor]  # pictures (N, 3, H, W) → (N,), differentiable
View = Callable[[Tensor, torch.Generator], Tensor]  # pictures → what the network is shown, differentiable
Constraint = Callable[[Tensor, int], Tensor]  # pictures after step 1, 2, … → pictures


def l2(weight: float | Tensor) -> Penalty:
    """The paper's λ‖I‖²: the sum of squares over all pixels and channels, times ``weight``.

    The picture is the network's *input*, in which 0 is the mean of the training pictures, a grey; so this pulls
    towards grey, not towards black.

    Args:
        weight: λ ≥ 0, one for all pictures or shape (N,).

    Raises:
        ValueError: if a weight is negative or not finite.
    """
    weights = _checked_weight(weight)
    return lambda pictures: weights.to(pictures) * pictures.square().sum((1, 2, 3))


def total_variation(weight: float | Tensor) -> Penalty:
    """The length of the step from each pixel to its neighbours right and below, summed, times ``weight``.

    Noise costs much, edges little, slow changes hardly anything.

    Args:
        weight: ≥ 0, one for all pictures or shape (N,).

    Raises:
        ValueError: if a weight is negative or not finite.

    Source: Rudin, Osher and Fatemi (Physica D 1992); for pictures of networks Mahendran and Vedaldi,
    "Understanding Deep Image Representations by Inverting Them" (CVPR 2015), §2.
    """
    weights = _checked_weight(weight)

    def penalty(pictures: Tensor) -> Tensor:
        down = pictures.diff(dim=2, append=pictures[:, :, -1:])
        across = pictures.diff(dim=3, append=pictures[:, :, :, -1:])
        # a root has no derivative at 0, where a flat picture is
        return weights.to(pictures) * (down.square() + across.square() + 1e-12).sqrt().sum((1, 2, 3))

    return penalty


def _checked_weight(weight: float | Tensor) -> Tensor:
    weights = torch.as_tensor(weight, dtype=torch.float64)
    if weights.ndim > 1 or not torch.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"the weight of a penalty must be finite and at least 0, one number or one a picture, not {weight}"
        )
    return weights


def jitter(pixels: int) -> View:
    """Show the network the picture moved by up to ``pixels``, both ways, at random at each step.

    What leaves on one side comes back on the other. All pictures move alike, so a result does not depend on how
    many are climbed together.

    Raises:
        ValueError: if ``pixels`` is negative.

    Source: A. Mordvintsev, C. Olah and M. Tyka, "Inceptionism" (Google Research blog, 2015).
    """
    if pixels < 0:
        raise ValueError(f"pixels must be at least 0, not {pixels}")

    def view(pictures: Tensor, generator: torch.Generator) -> Tensor:
        down, right = torch.randint(-pixels, pixels + 1, (2,), generator=generator).tolist()
        return pictures.roll((down, right), (2, 3))

    return view


def blur(sigma: float, every: int = 4) -> Constraint:
    """Blur the picture a little after every few steps, so that high frequencies cannot build up.

    Args:
        sigma: of the Gaussian, in pixels, above 0.
        every: blur after each so many steps, at least 1.

    Raises:
        ValueError: if one is out of range.

    Source: J. Yosinski et al., "Understanding Neural Networks Through Deep Visualization" (2015), §3.
    """
    if not (math.isfinite(sigma) and sigma > 0 and every >= 1):
        raise ValueError(f"sigma must be above 0 and every at least 1, not {sigma} and {every}")
    reach = math.ceil(3 * sigma)

    def constraint(pictures: Tensor, step: int) -> Tensor:
        if step % every:
            return pictures
        offsets = torch.arange(-reach, reach + 1).to(pictures)
        kernel = (-offsets.square() / (2 * sigma**2)).exp()
        kernel = (kernel / kernel.sum()).expand(3, 1, -1)
        padded = F.pad(pictures, [reach] * 4, mode="replicate")
        return F.conv2d(F.conv2d(padded, kernel[..., None], groups=3), kernel[:, :, None], groups=3)

    return constraint


def clip(mean: Sequence[float], std: Sequence[float]) -> Constraint:
    """Keep the picture within what a screen can show: values between black and white after each step.

    Args:
        mean: what was taken off each channel of a picture in [0, 1] to make the network's input.
        std: what it was divided by after that.
    """
    low, high = ((level - torch.tensor(mean)) / torch.tensor(std) for level in (0, 1))

    def constraint(pictures: Tensor, step: int) -> Tensor:
        limits = (limit.to(pictures)[:, None, None] for limit in (low, high))
        return pictures.clamp(*limits)

    return constraint
