"""Which numbers are climbed in: pixels, or waves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Parametrisation(Protocol):
    """Which numbers are climbed in."""

    def encode(self, pictures: Tensor) -> Tensor:
        """The numbers that stand for ``pictures`` (N, 3, H, W)."""

    def decode(self, parameters: Tensor) -> Tensor:
        """The pictures that the numbers stand for; differentiable, and the inverse of :meth:`encode`."""


@dataclass(frozen=True)
class Pixels:
    """Each pixel of each channel is a number of its own."""

    def encode(self, pictures: Tensor) -> Tensor:
        """The pictures themselves."""
        return pictures

    def decode(self, parameters: Tensor) -> Tensor:
        """The parameters themselves."""
        return parameters


@dataclass(frozen=True, eq=False)
class Fourier:
    """Waves are climbed in place of pixels, and the slower a wave, the further a step moves it.

    A wave of frequency f (cycles per pixel) is scaled by f^−decay; the flat wave like that of one cycle a side. The
    scales' mean square is 1, so a gradient of white noise makes a step as long as in pixels. Photographs have a
    decay of about 1. With ``colours`` their channels are moved together, too, as they vary together in photographs.
    Nothing is forbidden, as by a penalty: every picture can be reached, only by another way. As slow waves move far,
    rates must be smaller than in pixels.

    The parameters are the picture "whitened" by these scales, which has its shape. In plain gradient ascent that
    is the same as climbing the complex Fourier coefficients, since a turn of the axes changes nothing.

    Attributes:
        decay: 0 moves all waves alike.
        colours: how far a step moves the channels together, shape (3, 3), symmetric, from :func:`natural_colours`.

    Raises:
        ValueError: if ``colours`` has another shape or cannot be inverted.

    Source: C. Olah, A. Mordvintsev and L. Schubert, "Feature Visualization" (Distill 2017),
    "Preconditioning and Parameterization".
    """

    decay: float = 1.0
    colours: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse colours that lose something."""
        if self.colours is not None and (
            self.colours.shape != (3, 3) or not torch.linalg.cond(self.colours.cpu().double()) < 1e6
        ):
            raise ValueError(f"colours must be an invertible matrix (3, 3), not {self.colours}")

    def encode(self, pictures: Tensor) -> Tensor:
        """Whiten: divide each wave by its scale."""
        whitened = self._rescaled(pictures, 1 / self.scales(*pictures.shape[2:]))
        return whitened if self.colours is None else _mixed(whitened, torch.linalg.inv(self.colours))

    def decode(self, parameters: Tensor) -> Tensor:
        """Multiply each wave by its scale."""
        mixed = parameters if self.colours is None else _mixed(parameters, self.colours)
        return self._rescaled(mixed, self.scales(*parameters.shape[2:]))

    def scales(self, height: int, width: int) -> Tensor:
        """How far a step moves each wave, float64, shape (height, width), laid out as ``torch.fft.fft2`` does."""
        down, across = (torch.fft.fftfreq(side, dtype=torch.float64) for side in (height, width))
        slowest = 1 / max(height, width)
        scales = torch.hypot(down[:, None], across[None, :]).clamp(min=slowest) ** -self.decay
        return scales / scales.square().mean().sqrt()

    def _rescaled(self, pictures: Tensor, scales: Tensor) -> Tensor:
        size = pictures.shape[2:]
        half = scales[:, : size[1] // 2 + 1].to(pictures)  # the other half mirrors it, for pictures are real
        return torch.fft.irfft2(torch.fft.rfft2(pictures) * half, s=size)


def _mixed(pictures: Tensor, matrix: Tensor) -> Tensor:
    return torch.einsum("cd,ndhw->nchw", matrix.to(pictures), pictures)


def natural_colours(images: Tensor) -> Tensor:
    """How the channels of photographs vary together: the symmetric root of their covariance.

    Red, green and blue mostly rise and fall together: grey varies much, hue little.

    Args:
        images: uint8 or float, shape (N, 3, H, W), of more than one colour.

    Returns:
        float64, shape (3, 3), symmetric; the mean square of its eigenvalues is 1.

    Raises:
        ValueError: for another shape, or pictures whose colours lie on a plane (grey ones do).
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(f"need pictures of shape (N, 3, H, W), not {tuple(images.shape)}")
    values, axes = torch.linalg.eigh(torch.cov(images.detach().cpu().transpose(0, 1).flatten(1).double()))
    if values.min() <= 1e-6 * values.max():
        raise ValueError("these pictures have too few colours: take photographs in colour")
    return (axes * (values / values.mean()).sqrt()) @ axes.T
