"""Does a map tell which pixels the network needs? Take them away, or bring them back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.methods.evaluation.explainers import one_class_each
from lessons_lib.networks import (
    Classes,
    at_least_float32,
    class_numbers,
    evaluating,
    logits_of,
    network_input,
)


@dataclass(frozen=True)
class Curve:
    """The target's probability while a picture is taken away, or comes back, pixel by pixel.

    Attributes:
        shares: of the pixels changed so far, float64, shape (S,), from 0 to 1.
        probabilities: of each picture's target, shape (N, S).
    """

    shares: Tensor
    probabilities: Tensor

    @property
    def area(self) -> Tensor:
        """Under the curve, by trapezoids, float64, shape (N,), each in 0–1."""
        return torch.trapezoid(self.probabilities.double(), self.shares, dim=1)


def ranking(maps: Tensor, *, seed: int = 0) -> Tensor:
    """The place of each pixel among all of its map: 0 for the greatest value; what ties is in random order.

    Args:
        maps: shape (N, H, W).
        seed: decides between pixels of one value.

    Returns:
        int64, shape (N, H, W), each map with every number from 0 to H · W − 1 once.

    Raises:
        ValueError: for another shape, no pixels, or NaN.
    """
    check_tensor("maps", maps, "N H W", finite=True)
    shuffle = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(seed))
    # a stable sort of shuffled pixels
    order = shuffle[maps.flatten(1).cpu()[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(1).view(maps.shape)


@torch.no_grad()
def deletion(
    model: nn.Module,
    pictures: Tensor,
    maps: Tensor,
    targets: Classes,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 32,
    seed: int = 0,
    batch_size: int = 256,
) -> Curve:
    """Take away the pixels that a map calls important, the most important first: how fast does the class go?

    V. Petsiuk, A. Das and K. Saenko, "RISE" (BMVC 2018, section 4.1). A *small* area is good. But the pictures on the
    way are unlike any the network was trained on.

    Args:
        model: a classifier; it is left as it was.
        pictures: its input, float, shape (N, 3, H, W).
        maps: shape (N, H, W).
        targets: the class, one for all pictures or shape (N,).
        baseline: what stands where a pixel was taken away, a number or a tensor that fits the pictures.
        steps: how many; in each the same number of pixels goes, as nearly as can be.
        seed: decides between pixels that a map calls equally important.
        batch_size: how many pictures to run at once; the result does not depend on it.

    Raises:
        ValueError: for shapes that do not fit, NaN, a class out of range, no steps, or a network of one logit, whose
            softmax is always 1.
        TypeError: for pictures that are not of the network's precision, or a network that gives no tensor of logits.
    """
    targets = one_class_each(pictures, targets)
    check_tensor("maps of these pictures", maps, (len(pictures), *pictures.shape[2:]))
    check_range("steps", steps, 1, maps[0].numel())
    blank = torch.as_tensor(baseline).detach().to(pictures).expand_as(pictures)
    pixels = maps[0].numel()
    counts = (torch.arange(steps + 1, dtype=torch.float64) * pixels / steps).round()
    rows = []
    together = max(1, batch_size // (steps + 1))
    with evaluating(model):
        for old, new, batch, classes in zip(
            *(stack.split(together) for stack in (pictures, blank, maps, targets)), strict=True
        ):
            place = ranking(batch, seed=seed)[:, None, None]
            gone = (place < counts.view(1, -1, 1, 1, 1)).to(old.device)
            versions = torch.where(gone, new[:, None], old[:, None]).flatten(0, 1)
            inputs = (network_input(model, part) for part in versions.split(batch_size))
            logits = torch.cat([logits_of(model(part), softmax=True).cpu() for part in inputs])
            own = class_numbers(classes, classes=logits.shape[1]).cpu()
            shares = at_least_float32(logits).softmax(1).unflatten(0, (len(batch), steps + 1))
            rows.append(shares[torch.arange(len(batch)), :, own])
    return Curve(counts / pixels, torch.cat(rows))


def insertion(
    model: nn.Module,
    pictures: Tensor,
    maps: Tensor,
    targets: Classes,
    *,
    baseline: float | Tensor = 0.0,
    steps: int = 32,
    seed: int = 0,
    batch_size: int = 256,
) -> Curve:
    """Bring a picture back, the pixels that a map calls most important first: how soon is the class there?

    As ``deletion``, from ``baseline`` to the picture. A *large* area is good. RISE begins with the picture blurred.
    """
    blank = torch.as_tensor(baseline).detach().to(pictures).expand_as(pictures)
    return deletion(
        model, blank, maps, targets, baseline=pictures, steps=steps, seed=seed, batch_size=batch_size
    )
