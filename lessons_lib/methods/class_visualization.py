"""Draw what a class looks like to a network: climb its score, step by step, from a blank picture upwards.

K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification Models
and Saliency Maps" (2014, arXiv:1312.6034), §2: ``argmax_I S_c(I) − λ‖I‖²``, where S_c is the class's score before the
softmax. :func:`ascend` climbs it. What else one may ask of the picture comes in four kinds of small pieces, each a
function of its own:

- a *penalty* is taken off the score: :func:`l2`, :func:`total_variation`;
- a *view* is what the network is shown in place of the picture, another one at each step: :func:`jitter`;
- a *constraint* changes the picture after a step: :func:`blur`, :func:`clip`;
- a *parametrisation* says which numbers are climbed in: :class:`Pixels`, :class:`Fourier`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.methods.activations import differentiating
from lessons_lib.methods.filters import frequencies, spectrum
from lessons_lib.networks import Classes, at_least_float32, class_numbers, logits_of, network_input, run
from lessons_lib.training import evaluating

Score = Callable[[Tensor, Tensor], Tensor]  # logits (N, classes), targets (N,) → (N,)
Penalty = Callable[[Tensor], Tensor]  # pictures (N, 3, H, W) → (N,), differentiable
View = Callable[[Tensor, torch.Generator], Tensor]  # pictures → what the network is shown, differentiable
Constraint = Callable[[Tensor, int], Tensor]  # pictures after step 1, 2, … → pictures
Blank = Literal["black", "grey", "noise"]

BLANKS: tuple[Blank, ...] = get_args(Blank)
_NOISE = 32.0  # standard deviation of a noise picture, of 255 levels


# ---------------------------------------------------------------- what is climbed


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The class's score before the softmax, shape (N,): what the paper climbs."""
    return logits.gather(1, targets[:, None])[:, 0]


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    """The class's share of the softmax, shape (N,): it also rises when the *other* classes' scores fall."""
    return logit(logits.softmax(1), targets)


def log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """The logarithm of :func:`probability`, shape (N,), in nats."""
    return logit(logits.log_softmax(1), targets)


# ---------------------------------------------------------------- penalties


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


# ---------------------------------------------------------------- views and constraints


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


# ---------------------------------------------------------------- parametrisations


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


# ---------------------------------------------------------------- the ascent


@dataclass(frozen=True)
class Ascent:
    """What :func:`ascend` went through. Of F frames and N pictures climbed together.

    Attributes:
        targets: the class of each picture, int64 (N,).
        steps: after how many steps each frame was taken, F of them, from 0.
        frames: the network's input at these steps, shape (F, N, 3, H, W), on the CPU.
        objective: score minus penalties that each step climbed from, shape (T, N), of the picture as it was shown.
        logits: the target's logit for each frame, shown as it is (no view), shape (F, N).
        probabilities: the target's probability, likewise.
        ranks: the target's place among all classes, likewise, int64; 1 is the answer.
        interrupted: whether the user stopped it.
    """

    targets: Tensor
    steps: tuple[int, ...]
    frames: Tensor
    objective: Tensor
    logits: Tensor
    probabilities: Tensor
    ranks: Tensor
    interrupted: bool = False

    @property
    def pictures(self) -> Tensor:
        """The last frame: network input, shape (N, 3, H, W)."""
        return self.frames[-1]


def ascend(
    model: nn.Module,
    start: Tensor,
    targets: Classes,
    *,
    steps: int = 64,
    rate: float = 1.0,
    score: Score = logit,
    penalties: Sequence[Penalty] = (),
    views: Sequence[View] = (),
    constraints: Sequence[Constraint] = (),
    parametrisation: Parametrisation = Pixels(),
    frames: int = 17,
    seed: int = 0,
    progress: bool = True,
) -> Ascent:
    """Climb a class's score: plain gradient ascent on the picture, the network's weights fixed.

    Each step adds ``rate`` times the gradient of *score − penalties*. Nothing else is hidden in it: no momentum, no
    scaling of the gradient, so that λ means what it means in the paper. The N pictures do not influence each other.
    The model is left as it was: training flags, gradients and ``requires_grad`` of its parameters. Interrupting
    (Ctrl-C, or the stop button) returns what has been reached.

    Args:
        model: a classifier, (N, 3, H, W) → logits (N, classes); evaluated in evaluation mode.
        start: the pictures to begin from, as the model's input, float, shape (N, 3, H, W).
        targets: the class, or one for each picture.
        steps: how many.
        rate: the step size. With an L2 penalty λ it must stay below 1/λ in pixels, and further below in Fourier,
            or the pictures blow up.
        score: what to climb: :func:`logit`, :func:`log_probability`, :func:`probability` or your own.
        penalties: what is taken off the score.
        views: applied one after the other before the network is shown the picture.
        constraints: applied one after the other after each step.
        parametrisation: :class:`Pixels` or :class:`Fourier`.
        frames: how many pictures on the way to keep, evenly spaced, the first and the last among them; at least 2.
        seed: of the views.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for no or misshapen pictures, NaN, a class the model does not have, numbers out of range, or a
            network of one logit, whose softmax is always 1.
        TypeError: for pictures that are not floating point or not of the network's precision, classes that are not
            whole numbers, or a network that gives no tensor of logits.
        FloatingPointError: if the score becomes NaN or infinite.
    """
    _check_start(start)
    if steps < 1 or frames < 2 or not (math.isfinite(rate) and rate > 0):
        raise ValueError(
            f"steps must be at least 1, frames at least 2 and rate above 0, not {steps}, {frames}, {rate}"
        )
    kept = _evenly(steps, frames)
    generator = torch.Generator().manual_seed(seed)
    collected: dict[int, Tensor] = {}
    climbed: list[Tensor] = []
    interrupted = False
    wanted = class_numbers(targets, count=len(start))
    with differentiating(model), evaluating(model):
        pictures = network_input(model, start)
        classes = wanted.to(pictures.device, copy=True)
        collected[0] = pictures.cpu()
        parameters = parametrisation.encode(pictures)
        try:
            for step in tqdm(range(1, steps + 1), disable=not progress, unit="step"):
                objective, slope = _slope(
                    model, parameters, classes, parametrisation, score, penalties, views, generator
                )
                if not torch.isfinite(objective).all() or not torch.isfinite(slope).all():
                    raise FloatingPointError(
                        f"at step {step} the objective became {objective.tolist()}: take a smaller rate than {rate}, "
                        "a smaller penalty, or another start"
                    )
                moved = parameters + rate * slope
                if constraints:
                    pictures = parametrisation.decode(moved)
                    for constraint in constraints:
                        pictures = constraint(pictures, step)
                    moved = parametrisation.encode(pictures)
                parameters = moved
                climbed.append(objective.cpu())
                if step in kept:
                    collected[step] = parametrisation.decode(parameters).cpu()
        except KeyboardInterrupt:
            interrupted = True
            print(f"Interrupted after {len(climbed)} of {steps} steps; here is what was reached.")
            collected[len(climbed)] = parametrisation.decode(parameters).cpu()
        stack = torch.stack(list(collected.values()))
        logits, probabilities, ranks = _answers(model, stack, classes)
    return Ascent(
        targets=classes.cpu(),
        steps=tuple(collected),
        frames=stack,
        objective=torch.stack(climbed) if climbed else stack.new_empty(0, len(start)),
        logits=logits,
        probabilities=probabilities,
        ranks=ranks,
        interrupted=interrupted,
    )


def _slope(
    model: nn.Module,
    parameters: Tensor,
    targets: Tensor,
    parametrisation: Parametrisation,
    score: Score,
    penalties: Sequence[Penalty],
    views: Sequence[View],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The objective of each picture (N,), and its gradient with respect to the parameters."""
    leaf = parameters.detach().requires_grad_()
    pictures = parametrisation.decode(leaf)
    shown = pictures
    for view in views:
        shown = view(shown, generator)
    logits = logits_of(run(model, shown.contiguous(memory_format=torch.channels_last)), softmax=True)
    class_numbers(targets, classes=logits.shape[1])
    objective = score(logits, targets)
    for penalty in penalties:
        objective = objective - penalty(pictures)
    # only the picture's gradient: those of the parameters stay as they are
    (slope,) = torch.autograd.grad(objective.sum(), leaf)
    return objective.detach(), slope


@torch.no_grad()
def _answers(model: nn.Module, frames: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The targets' logits, probabilities and ranks for each frame, shape (F, N) each."""
    answers = []
    for pictures in frames:
        shown = pictures.to(targets.device).contiguous(memory_format=torch.channels_last)
        logits = at_least_float32(run(model, shown))
        own = logit(logits, targets)
        ranks = (logits > own[:, None]).sum(1) + 1
        answers.append((own.cpu(), probability(logits, targets).cpu(), ranks.cpu()))
    logits, probabilities, ranks = (torch.stack(values) for values in zip(*answers, strict=True))
    return logits, probabilities, ranks


def _evenly(steps: int, frames: int) -> set[int]:
    """Up to ``frames`` step numbers from 0 to ``steps``, both among them."""
    return {round(i * steps / (frames - 1)) for i in range(frames)}


def _check_start(start: Tensor) -> None:
    if not start.is_floating_point():
        raise TypeError(
            f"start must be the network's input, floating point, not {start.dtype}: normalise pictures"
        )
    if start.ndim != 4 or start.shape[1] != 3 or not start.numel():
        raise ValueError(
            f"start must have shape (N, 3, H, W), not {tuple(start.shape)}: use start[None] for one picture"
        )
    if not torch.isfinite(start).all():
        raise ValueError("start holds NaN or infinite values")


# ---------------------------------------------------------------- pictures in, pictures out


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
