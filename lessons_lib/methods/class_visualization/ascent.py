"""The ascent itself, and the scores it can climb."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.methods.class_visualization.parametrisations import Parametrisation, Pixels
from lessons_lib.methods.class_visualization.regularisers import Constraint, Penalty, View
from lessons_lib.networks import (
    Classes,
    at_least_float32,
    class_numbers,
    differentiating,
    evaluating,
    logits_of,
    network_input,
    run,
)

Score = Callable[[Tensor, Tensor], Tensor]  # logits (N, classes), targets (N,) → (N,)

_PIXELS = Pixels()


def logit(logits: Tensor, targets: Tensor) -> Tensor:
    """The class's score before the softmax, shape (N,): what the paper climbs."""
    return logits.gather(1, targets[:, None])[:, 0]


def probability(logits: Tensor, targets: Tensor) -> Tensor:
    """The class's share of the softmax, shape (N,): it also rises when the *other* classes' scores fall."""
    return logit(logits.softmax(1), targets)


def log_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """The logarithm of :func:`probability`, shape (N,), in nats."""
    return logit(logits.log_softmax(1), targets)


@dataclass(frozen=True)
class Ascent:
    """What :func:`maximise_activation` went through. Of F frames and N pictures climbed together.

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


def maximise_activation(
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
    parametrisation: Parametrisation = _PIXELS,
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
