"""Draw what a class looks like to a network: climb its score, step by step, from a blank picture upwards.

K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models
and Saliency Maps" (2014, arXiv:1312.6034), §2: ``argmax_I S_c(I) − λ‖I‖²``, where S_c is the class's score before the
softmax. ``maximise_activation`` climbs it ("activation maximization"); ``spectrum_slope`` says how smooth the
result is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from scipy import fft
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.networks import (
    Classes,
    class_numbers,
    differentiating,
    evaluating,
    logits_of,
    network_input,
    run,
)


def maximise_activation(
    model: nn.Module,
    start: Tensor,
    targets: Classes,
    *,
    steps: int = 36,
    rate: float = 0.02,
    weight: float = 0.0,
    jitter: int = 0,
    paint: Callable[[Tensor], Tensor] = lambda numbers: numbers,
    seed: int = 0,
    progress: bool = True,
) -> Tensor:
    """Climb a class's logit: gradient ascent on the picture, the network's weights fixed.

    Each step goes along the gradient of *logit − weight · ‖picture‖²* and changes the picture by ``rate`` (root mean
    square, to first order where ``paint`` is not linear), however steep it is there and whatever is climbed. The
    pictures do not influence each other. The model is left as it was: training flags, gradients and ``requires_grad``
    of its parameters.

    Args:
        model: a classifier, (N, 3, H, W) → logits (N, classes); evaluated in evaluation mode.
        start: the numbers to begin from, float, shape (N, 3, H, W); without ``paint``, the model's input.
        targets: the class, or one for each picture.
        steps: how many.
        rate: how far each moves the model's input.
        weight: λ of the paper. The input's 0, often a grey, is where it pulls to.
        jitter: show the network the picture rolled by up to so many pixels both ways, at random at each step
            (A. Mordvintsev, C. Olah and M. Tyka, "Inceptionism", 2015).
        paint: from the numbers that are climbed to the model's input, such as the waves of lesson 09; differentiable.
        seed: of the jitter.
        progress: whether to show a progress bar.

    Returns:
        The pictures as the model's input, shape (N, 3, H, W), on the CPU.

    Raises:
        ValueError: for no or misshapen pictures, NaN, a class the model does not have, or numbers out of range.
        TypeError: for pictures that are not floating point or not of the network's precision, classes that are not
            whole numbers, or a network that gives no tensor of logits.
        FloatingPointError: if the score or its gradient is NaN or infinite.

    >>> picture = maximise_activation(nn.Flatten(), torch.zeros(1, 3, 2, 2), 4, steps=3, rate=1, progress=False)
    >>> print(picture.flatten().nonzero().tolist())
    [[4]]
    """
    check_tensor("start", start, "N 3 H W", float)
    check_range("steps", steps, 1)
    generator = torch.Generator().manual_seed(seed)
    wanted = class_numbers(targets, count=len(start))
    with differentiating(model), evaluating(model):
        numbers = network_input(model, start)
        classes = wanted.to(numbers.device, copy=True)
        for step in tqdm(range(1, steps + 1), disable=not progress, unit="step"):
            leaf = numbers.detach().requires_grad_()
            picture = paint(leaf)
            shift = torch.randint(-jitter, jitter + 1, (2,), generator=generator).tolist()
            logits = logits_of(run(model, picture.roll(shift, (2, 3))), softmax=False)
            class_numbers(classes, classes=logits.shape[1])
            goal = logits.gather(1, classes[:, None])[:, 0] - weight * picture.square().sum((1, 2, 3))
            (slope,) = torch.autograd.grad(goal.sum(), leaf)
            if not (torch.isfinite(goal).all() and torch.isfinite(slope).all()):
                raise FloatingPointError(f"at step {step} the score is {goal.tolist()}: take another start")
            _, change = torch.autograd.functional.jvp(paint, leaf.detach(), slope)
            length = change.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
            numbers = leaf.detach() + rate * slope / length
        return paint(numbers).detach().cpu()


def frequencies(height: int, width: int) -> Tensor:
    """How fast the cosine wave of each coefficient of ``spectrum`` varies, in cycles per pixel.

    Wave (i, j) makes i half turns from top to bottom and j from left to right, so its frequency is the length of
    ``(i / 2·height, j / 2·width)``: 0 for the flat wave, towards 0.5 each way for a checkerboard.

    Returns:
        float64, shape (height, width).
    """
    down, across = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (height, width))
    return torch.hypot(down[:, None], across)


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
    check_tensor("pictures", pictures, "N 3 H W", finite=True)
    check_range("the side of the pictures", min(pictures.shape[2:]), 16)
    values, frequency = pictures.detach().cpu().double(), frequencies(*pictures.shape[2:])
    energy = spectrum(values - values.mean((2, 3), keepdim=True))
    slowest = math.log10(2 / min(pictures.shape[2:]))  # slower waves are too few for a mean
    edges = torch.logspace(slowest, math.log10(0.5), bins + 1, dtype=torch.float64)
    bands = ((frequency >= low) & (frequency <= high) for low, high in itertools.pairwise(edges))
    power = torch.stack([energy[:, band].mean(1) for band in bands], dim=1)
    return (edges[1:] * edges[:-1]).sqrt(), power * (frequency.numel() - 1)


def spectrum_slope(pictures: Tensor) -> Tensor:
    """How fast a picture's power falls with frequency: the slope of log power against log frequency.

    About −2 for photographs, 0 for white noise, above 0 for what is finer than noise.

    Args:
        pictures: shape (N, 3, H, W), at least 16×16.

    Returns:
        float64, shape (N,); NaN for a flat picture.

    Raises:
        ValueError: as ``power_spectrum``.

    Source: D. Field, "Relations between the statistics of natural images and the response properties of cortical
    cells" (JOSA A 1987).
    """
    frequency, power = power_spectrum(pictures)
    x = frequency.log() - frequency.log().mean()
    return power.clamp(min=1e-300).log().where(~power.isnan(), torch.nan) @ x / x.square().sum()
