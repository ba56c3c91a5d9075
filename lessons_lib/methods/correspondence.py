"""Does hiding the same part of different faces change features in the same way? Zeiler and Fergus's table 1.

M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks" (arXiv:1311.2901), "Correspondence
Analysis". Which part lies where, ``lessons_lib.data.face_parts`` knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lessons_lib.checks import check_choice, check_range, check_tensor
from lessons_lib.data.pictures import to_input
from lessons_lib.networks import capture
from lessons_lib.statistics import Interval

GREY = 128
Zeros = Literal["third sign", "left out", "positive"]

_ROUNDING = 1e-5  # of a picture's largest feature: smaller changes are rounding, not the occluder


def cover(images: Tensor, boxes: Tensor, value: int = GREY) -> Tensor:
    """Copies of the pictures with one box each painted over.

    Args:
        images: uint8, shape (N, 3, H, W).
        boxes: int64, shape (N, 4), inside the pictures.
        value: the grey, 0–255.

    Raises:
        TypeError: if the pictures are not uint8.
        ValueError: for shapes that do not fit, or a box that leaves its picture.
    """
    check_tensor("images", images, "N 3 H W", torch.uint8)
    check_tensor("boxes of these images", boxes, f"{len(images)} 4")
    size = torch.tensor(images.shape[2:])
    if (boxes[:, :2] < 0).any() or (boxes[:, 2:] < 1).any() or (boxes[:, :2] + boxes[:, 2:] > size).any():
        raise ValueError(f"a box is empty or leaves its picture of {size.tolist()}: see face_parts.boxes_at")
    hidden = images.clone()
    for image, (top, left, height, width) in zip(hidden, boxes.tolist(), strict=True):
        image[:, top : top + height, left : left + width] = value
    return hidden


def feature_changes(
    model: nn.Module,
    images: Tensor,
    hidden: Mapping[str, Tensor],
    layers: Sequence[str],
    *,
    to_input: Callable[[Tensor], Tensor] = to_input,
    batch_size: int = 25,
) -> dict[str, dict[str, Tensor]]:
    """ε = features of the original − features of the occluded picture, by layer and condition.

    Changes below 1e-5 of the picture's largest feature are rounding and become exactly 0.

    Args:
        model: any module whose layers have names.
        images: the originals, uint8, shape (N, 3, H, W).
        hidden: by condition ("nose", …), the same pictures occluded.
        layers: names of the layers.
        to_input: turns uint8 pictures into the model's input.
        batch_size: how many pictures to run at once; the result does not depend on it.

    Returns:
        By layer, then condition: shape (N, …) as the layer gives it, on the CPU.

    Raises:
        ValueError: for an unknown layer.
    """

    def features(pictures: Tensor) -> dict[str, Tensor]:
        inputs = to_input(pictures).contiguous(memory_format=torch.channels_last)
        return capture(model, inputs, layers, batch_size=batch_size)

    original = features(images)
    changes: dict[str, dict[str, Tensor]] = {layer: {} for layer in layers}
    for condition, pictures in hidden.items():
        occluded = features(pictures)
        for layer in layers:
            before, after = original[layer], occluded[layer]
            change = before - after
            largest = before.flatten(1).abs().amax(1).view(-1, *[1] * (before.ndim - 1))
            changes[layer][condition] = change.masked_fill(change.abs() <= _ROUNDING * largest, 0)
    return changes


def sign_distances(changes: Tensor, zeros: Zeros = "third sign") -> Tensor:
    """Hamming distance between the signs of any two pictures' changes, as a share of the features compared.

    The paper leaves open what the sign of an unchanged feature is, and after a ReLU most features of a picture are
    0 before and after. ``zeros`` chooses:

    - "third sign": 0 is a sign of its own, as NumPy's and MATLAB's ``sign`` have it. Two pictures then agree on
      every feature that neither changes, so the distance is small where few features change.
    - "left out": only features that change in both pictures count; ½ is chance.
    - "positive": 0 counts as +, one bit a feature.

    Args:
        changes: ε of one condition at one layer, shape (N, …).
        zeros: see above.

    Returns:
        float64, shape (N, N), each in 0–1, symmetric, 0 on the diagonal.

    Raises:
        ValueError: for no pictures or features, NaN, an unknown ``zeros``, or, if zeros are left out, two pictures
            that share no changed feature.
    """
    check_choice("zeros", zeros, Zeros)
    check_tensor("changes", changes.flatten(1), "N features", finite=True)
    signs = changes.flatten(1).sign()
    plus, minus, unchanged = ((signs == sign).float() for sign in (1, -1, 0))
    # counts stay exact in float32 as long as there are fewer than 2²⁴ features
    agree = plus @ plus.T + minus @ minus.T
    compared = torch.full_like(agree, signs.shape[1])
    if zeros == "third sign":
        agree += unchanged @ unchanged.T
    elif zeros == "positive":
        agree = minus @ minus.T + (1 - minus) @ (1 - minus).T
    else:
        changed = plus + minus
        compared = changed @ changed.T
        if (compared == 0).any():
            raise ValueError("two pictures share no changed feature: hide more, or take the third sign")
    return 1 - agree.double() / compared.double()


@dataclass(frozen=True)
class Difference(Interval):
    """How much larger Δ is under a control than for a part.

    Attributes:
        mean: Δ(control) − Δ(part); above 0 the part corresponds better than the control.
        low: lower end of the 95 % interval from resampling pictures.
        high: its upper end.
        p: of the permutation test: how often exchanging part and control within random pictures gives a difference
            at least as far from 0.
    """

    p: float

    def __str__(self) -> str:
        """The difference with its interval, and p, to two decimals: 2,000 coins do not tell more."""
        p = "< 0.005" if self.p < 0.005 else f"= {self.p:.2f}"
        return f"{super().__str__()}, p {p}"


def delta(distances: Tensor, *, resamples: int = 2000, seed: int = 0) -> Interval:
    """Mean distance over pairs, with a 95 % bootstrap interval that resamples pictures, not pairs.

    Pairs share pictures, so an interval over pairs would be too narrow. The paper's Σ over i ≠ j is the mean times
    n (n − 1).

    Args:
        distances: shape (N, N), symmetric, at least three pictures.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ValueError: for another shape, fewer than three pictures, or NaN.

    Source: Zeiler and Fergus, table 1 and the equation above it.
    """
    distances = _square(distances)
    count = len(distances)
    pairs = distances[tuple(torch.triu_indices(count, count, offset=1))]
    low, high = _interval(_weighted_mean(distances, _resampled(count, resamples, seed)))
    return Interval(pairs.mean().item(), low, high)


def compare(
    part: Tensor, control: Tensor, *, zeros: Zeros = "third sign", resamples: int = 2000, seed: int = 0
) -> Difference:
    """Is Δ smaller for a part than for a control? Bootstrap interval and permutation test, both over pictures.

    The test asks whether part and control could be exchanged: in each picture by itself a coin decides which of its
    two changes is called the part's.

    Args:
        part: ε when the part is hidden, shape (N, …).
        control: ε when the control is hidden, in the same pictures, same shape.
        zeros: see ``sign_distances``.
        resamples: of the bootstrap, and permutations of the test.
        seed: of both.

    Raises:
        ValueError: for fewer than three pictures, or NaN.
    """
    count = len(part)
    both = _square(sign_distances(torch.cat([part, control]), zeros))
    own, other = _square(both[:count, :count]), both[count:, count:]
    pairs = count * (count - 1)
    observed = ((other.sum() - own.sum()) / pairs).item()
    weights = _resampled(count, resamples, seed)
    low, high = _interval(_weighted_mean(other, weights) - _weighted_mean(own, weights))

    generator = torch.Generator().manual_seed(seed)
    coin = torch.randint(2, (resamples, count), generator=generator).double()
    called_part, called_control = torch.cat([1 - coin, coin], 1), torch.cat([coin, 1 - coin], 1)
    shuffled = [((call @ both) * call).sum(1) / pairs for call in (called_part, called_control)]
    extreme = ((shuffled[1] - shuffled[0]).abs() >= abs(observed) - 1e-12).sum().item()
    return Difference(observed, low, high, (extreme + 1) / (resamples + 1))


def _square(distances: Tensor) -> Tensor:
    check_range("the number of pictures", len(distances), 3)
    check_tensor("distances", distances, (len(distances), len(distances)), finite=True)
    return distances.double().clone().fill_diagonal_(0)


def _resampled(count: int, resamples: int, seed: int) -> Tensor:
    """How often each picture is drawn in each resample, shape (resamples, count)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(count, (resamples, count), generator=generator)
    weights = torch.zeros(resamples, count, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(weights))
    # a resample of a single picture has no pairs
    return weights[(weights > 0).sum(1) > 1]


def _weighted_mean(distances: Tensor, weights: Tensor) -> Tensor:
    """Mean over pairs of different pictures in each resample; a picture drawn twice makes no pair with itself."""
    total = ((weights @ distances) * weights).sum(1)
    return total / (weights.sum(1).square() - weights.square().sum(1))


def _interval(values: Tensor) -> tuple[float, float]:
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return low, high
