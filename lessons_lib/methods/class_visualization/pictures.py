"""Pictures to begin from and to look at, and how fast their power falls with frequency."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from scipy import fft
from torch import Tensor

Blank = Literal["black", "grey", "noise"]

BLANKS: tuple[Blank, ...] = get_args(Blank)
_NOISE = 32.0  # standard deviation of a noise picture, of 255 levels


def blank(kind: Blank, size: int, *, seed: int = 0) -> Tensor:
    """A picture to begin from that shows nothing, uint8, shape (3, size, size).

    Args:
        kind: "black", "grey" (half-way) or "noise" (grey, each value moved at random).
        size: side in pixels.
        seed: of the noise.

    Raises:
        ValueError: for another kind, or a size under 1.
    """
    if kind not in BLANKS or size < 1:
        raise ValueError(
            f"kind must be one of {', '.join(BLANKS)} and size at least 1, not {kind!r} and {size}"
        )
    level = 0 if kind == "black" else 128
    picture = torch.full((3, size, size), float(level))
    if kind == "noise":
        picture += _NOISE * torch.randn(picture.shape, generator=torch.Generator().manual_seed(seed))
    return picture.round().clamp(0, 255).to(torch.uint8)


def displayed(inputs: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Network inputs (…, 3, H, W) as pictures a screen can show: uint8, what is too dark or too bright clipped.

    Args:
        inputs: float.
        mean: what was taken off each channel of a picture in [0, 1].
        std: what it was divided by after that.
    """
    means, stds = (torch.tensor(values).to(inputs)[:, None, None] for values in (mean, std))
    return (255 * (inputs * stds + means)).round().clamp(0, 255).to(torch.uint8)


def frequencies(height: int, width: int) -> Tensor:
    """How fast the cosine wave of each coefficient of :func:`spectrum` varies, in cycles per pixel.

    Wave (i, j) makes i half turns from top to bottom and j from left to right, so its frequency is the length of
    ``(i / 2·height, j / 2·width)``: 0 for the flat wave, towards 0.5 each way for a checkerboard.

    Returns:
        float64, shape (height, width).
    """
    down = torch.arange(height, dtype=torch.float64)[:, None] / (2 * height)
    across = torch.arange(width, dtype=torch.float64)[None, :] / (2 * width)
    return torch.hypot(down, across)


def spectrum(pictures: Tensor) -> Tensor:
    """Share of a picture's energy (its sum of squares) that each cosine wave carries, over all its channels.

    Each plane is expanded in the orthonormal two-dimensional DCT-II, the transform behind JPEG. Unlike the Fourier
    transform it does not wrap around, so that a plain ramp from dark to bright counts as one slow wave.

    Args:
        pictures: float, shape (N, channels, height, width).

    Returns:
        float64, shape (N, height, width), each picture's sum 1; NaN for a picture that is zero. White noise
        has the same expectation, 1 / (height · width), everywhere.
    """
    coefficients = fft.dctn(pictures.detach().cpu().double().numpy(), axes=(-2, -1), norm="ortho")
    energy = torch.from_numpy(coefficients).square().sum(1)
    return energy / energy.sum((1, 2), keepdim=True)


def power_spectrum(pictures: Tensor, bins: int = 12) -> tuple[Tensor, Tensor]:
    """Mean power of a picture's waves by their frequency, in bins of equal width on a logarithmic scale.

    Args:
        pictures: shape (N, 3, H, W), at least 16×16; a change of brightness or contrast changes nothing.
        bins: how many.

    Returns:
        The bins' frequencies in cycles per pixel, shape (bins,), and shape (N, bins), each row's mean power 1 over
        all waves but the flat one; NaN for a flat picture.

    Raises:
        ValueError: for another shape, smaller pictures, or values that are not finite.
    """
    if pictures.ndim != 4 or min(pictures.shape[2:]) < 16:
        raise ValueError(f"need pictures (N, 3, H, W) of at least 16×16, not {tuple(pictures.shape)}")
    values = pictures.detach().cpu().double()
    if not torch.isfinite(values).all():
        raise ValueError("the pictures hold NaN or infinite values")
    energy = spectrum(values - values.mean((2, 3), keepdim=True))
    frequency = frequencies(*pictures.shape[2:])
    slowest = 2 / min(pictures.shape[2:])  # slower waves are too few for a mean
    edges = torch.logspace(math.log10(slowest), math.log10(0.5), bins + 1, dtype=torch.float64)
    power = []
    for low, high in itertools.pairwise(edges):
        power.append(energy[:, (frequency >= low) & (frequency <= high)].mean(1))
    return (edges[1:] * edges[:-1]).sqrt(), torch.stack(power, dim=1) * (frequency.numel() - 1)


def spectrum_slope(pictures: Tensor) -> Tensor:
    """How fast a picture's power falls with frequency: the slope of log power against log frequency.

    About −2 for photographs, 0 for white noise, above 0 for what is finer than noise.

    Args:
        pictures: shape (N, 3, H, W), at least 16×16.

    Returns:
        float64, shape (N,); NaN for a flat picture.

    Raises:
        ValueError: as :func:`power_spectrum`.

    Source: D. Field, "Relations between the statistics of natural images and the response properties of cortical
    cells" (JOSA A 1987).
    """
    frequency, power = power_spectrum(pictures)
    x = frequency.log() - frequency.log().mean()
    return power.clamp(min=1e-300).log().where(~power.isnan(), torch.nan) @ x / x.square().sum()
