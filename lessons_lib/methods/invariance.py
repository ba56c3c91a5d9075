"""How far do features move when a picture is shifted, scaled or turned? Zeiler and Fergus's figure 5, measured.

M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks" (ECCV 2014, arXiv:1311.2901),
"Feature Invariance".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.data.pictures import to_input
from lessons_lib.networks import at_least_float32, device_of, logits_of, network_input, recording, run

Kind = Literal["shift", "scale", "rotation"]

KINDS: tuple[Kind, ...] = get_args(Kind)
NEUTRAL: dict[Kind, float] = {"shift": 0.0, "scale": 1.0, "rotation": 0.0}  # leaves a picture as it is
UNITS: dict[Kind, str] = {"shift": "pixels down", "scale": "times", "rotation": "degrees"}
PIXELS = "pixels"  # how results call the network's input, beside its layers
# a turned square never leaves a square this much larger
FRAME = 0.7


def transform(
    images: Tensor,
    kind: Kind,
    amounts: Sequence[float] | Tensor,
    *,
    size: int = 224,
    frame: float = FRAME,
    centre: Tensor | None = None,
) -> Tensor:
    """Look at pictures through a square frame, each shifted, scaled or turned behind it.

    The frame is smaller than the picture, so what comes in from the side is the picture's own surroundings: with
    the frame in the middle and ``frame`` = 0.7, any rotation, any enlargement and any shift of up to 0.21 of
    ``size`` stay inside. What lies outside the picture repeats its edge; :func:`outside` says how much that is.
    The picture is resized once (antialiased bicubic) and then sampled (bicubic), so that shifts by whole pixels
    are exact crops and quarter turns exact too.

    Args:
        images: uint8, shape (N, 3, H, W).
        kind: "shift" moves down by ``amounts`` pixels of the result, "scale" enlarges that many times about the
            frame's middle, "rotation" turns counter-clockwise by degrees.
        amounts: one for each picture; if there is one picture, any number, and if there is one amount, it is
            for all.
        size: side of the result in pixels.
        frame: side of the frame as a share of the picture's shorter side, above 0 and at most 1.
        centre: the frame's middle in each picture as (row, column) in pixels, shape (N, 2); default: the middle.

    Returns:
        uint8, shape (max(N, amounts), 3, size, size).

    Raises:
        TypeError: if the pictures are not uint8.
        ValueError: for an unknown kind, an amount that is not finite (or a scale of 0 or less), shapes that do not
            fit, or a frame out of range.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 in 0–255, not {images.dtype}; see pictures.to_picture")
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(
            f"images must have shape (N, 3, H, W), not {tuple(images.shape)}: use images[None] for one"
        )
    amounts = _checked(kind, amounts)
    if len(images) not in {1, len(amounts)} and len(amounts) != 1:
        raise ValueError(f"{len(images)} pictures need as many amounts or a single one, not {len(amounts)}")
    height, width = _resized_to(images.shape[2:], size, frame)
    pixels = images.float()
    if (height, width) != images.shape[2:]:
        pixels = F.interpolate(pixels, (height, width), mode="bicubic", antialias=True)
    grid = _sources(images.shape[2:], kind, amounts, size, frame, centre)
    count = max(len(pixels), len(grid))
    edges = torch.tensor([width, height], dtype=grid.dtype)
    seen = F.grid_sample(
        pixels.expand(count, -1, -1, -1),
        (2 * grid / edges - 1).float().expand(count, -1, -1, -1),
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    return seen.round().clamp(0, 255).to(torch.uint8)


def outside(
    shape: Sequence[int],
    kind: Kind,
    amounts: Sequence[float] | Tensor,
    *,
    size: int = 224,
    frame: float = FRAME,
    centre: Tensor | None = None,
) -> Tensor:
    """Share of a transformed picture that lies outside the original and had to be filled by repeating the edge.

    Args:
        shape: height and width of the original.
        kind: see :func:`transform`, like all other arguments.
        amounts: one or more.
        size: side of the result in pixels.
        frame: side of the frame as a share of the picture's shorter side.
        centre: the frame's middle, shape (N, 2).

    Returns:
        float64, shape (amounts,) or (N,), each in 0–1.

    Raises:
        ValueError: as :func:`transform`.
    """
    amounts = _checked(kind, amounts)
    grid = _sources(shape, kind, amounts, size, frame, centre)
    height, width = _resized_to(shape, size, frame)
    slack = 1e-6  # of a pixel: rounding, not filling
    columns, rows = grid[..., 0], grid[..., 1]
    inside = (columns >= 0.5 - slack) & (columns <= width - 0.5 + slack)
    inside &= (rows >= 0.5 - slack) & (rows <= height - 0.5 + slack)
    return 1 - inside.double().mean(dim=(1, 2))


def _checked(kind: Kind, amounts: Sequence[float] | Tensor) -> Tensor:
    if kind not in KINDS:
        raise ValueError(f"there is no transformation {kind!r}: choose one of {', '.join(KINDS)}")
    values = torch.as_tensor(amounts, dtype=torch.float64).reshape(-1)
    if not len(values) or not torch.isfinite(values).all() or (kind == "scale" and (values <= 0).any()):
        what = "above 0" if kind == "scale" else "finite"
        raise ValueError(f"amounts of {kind} must be {what}, at least one, not {values.tolist()}")
    return values


def _resized_to(shape: Sequence[int], size: int, frame: float) -> tuple[int, int]:
    """Height and width of the picture when its frame has ``size`` pixels."""
    if size < 1 or not 0 < frame <= 1:
        raise ValueError(f"need a size from 1 and a frame above 0 and at most 1, not {size} and {frame}")
    enlarged = size / (frame * min(shape))
    height, width = (max(size, round(side * enlarged)) for side in shape)
    return height, width


def _sources(
    shape: Sequence[int], kind: Kind, amounts: Tensor, size: int, frame: float, centre: Tensor | None
) -> Tensor:
    """Where each pixel of the result comes from: (x, y) from the resized picture's corner, (A, size, size, 2)."""
    resized = torch.tensor(_resized_to(shape, size, frame), dtype=torch.float64)
    if centre is None:
        middle = resized[None] / 2
    else:
        fits = len(centre) == len(amounts) or 1 in {len(centre), len(amounts)}
        if centre.ndim != 2 or centre.shape[1] != 2 or not fits:
            raise ValueError(f"centre must have shape ({len(amounts)}, 2), not {tuple(centre.shape)}")
        middle = centre.double() * resized / torch.tensor(list(shape), dtype=torch.float64)
    # a frame on whole pixels, or an untransformed picture would be blurred
    middle = (middle - size / 2).round() + size / 2
    offset = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    y, x = torch.meshgrid(offset, offset, indexing="ij")
    amount = amounts.view(-1, 1, 1)
    if kind == "shift":
        rows, columns = y - amount, x.expand(len(amounts), -1, -1)
    elif kind == "scale":
        rows, columns = y / amount, x / amount
    else:
        angle = amount.deg2rad()
        rows, columns = x * angle.sin() + y * angle.cos(), x * angle.cos() - y * angle.sin()
    return torch.stack([columns + middle[:, 1].view(-1, 1, 1), rows + middle[:, 0].view(-1, 1, 1)], dim=-1)


@dataclass(frozen=True)
class Invariance:
    """How features and the answer change with the amount of one transformation.

    Attributes:
        amounts: of the transformation, A of them.
        distances: by layer (and :data:`PIXELS`), the Euclidean distance of the transformed picture's features to
            the untransformed picture's, shape (N, A), as in the paper.
        unit: by layer, the mean distance between the features of two *different* untransformed pictures; NaN if
            there is only one picture.
        probabilities: of the true class, shape (N, A), 0–1.
    """

    amounts: tuple[float, ...]
    distances: dict[str, Tensor]
    unit: dict[str, float]
    probabilities: Tensor

    def relative(self, layer: str) -> Tensor:
        """Distances in units of that between different pictures, shape (N, A): 0 the same, 1 as far as another.

        A layer's Euclidean distance grows with its size and the scale of its features; this one can be compared
        from layer to layer.

        Raises:
            ValueError: for an unknown layer; the message lists those measured.
        """
        if layer not in self.distances:
            raise ValueError(f"{layer!r} was not measured; there are: {', '.join(self.distances)}")
        return self.distances[layer] / self.unit[layer]


@torch.no_grad()
def measure_invariance(
    model: nn.Module,
    originals: Tensor,
    views: Tensor,
    amounts: Sequence[float],
    layers: Sequence[str],
    classes: Sequence[Sequence[int]],
    *,
    to_input: Callable[[Tensor], Tensor] = to_input,
    batch_size: int = 25,
) -> Invariance:
    """Follow features and the true class's probability while pictures are transformed: one row of figure 5.

    Args:
        model: a classifier giving logits (N, classes).
        originals: the untransformed pictures, uint8, shape (N, 3, S, S).
        views: the transformed ones, uint8, shape (N, A, 3, S, S).
        amounts: how much each of the A was transformed, for the record.
        layers: names of the layers whose features are compared, flattened.
        classes: for each picture the classes that count as right; their probabilities are added.
        to_input: turns uint8 pictures into the model's input.
        batch_size: how many pictures to run at once; the result does not depend on it.

    Raises:
        TypeError: if pictures are not uint8, or ``to_input`` gives another precision than the network's, or that gives
            no tensor of logits.
        ValueError: for shapes that do not fit, a class the model does not have, an unknown layer, or a network of one
            logit, whose softmax is always 1.

    Source: Zeiler and Fergus, figure 5.
    """
    _check_views(originals, views, amounts, classes)
    device = device_of(model)

    def looked_at(images: Tensor) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        for batch in images.split(batch_size):
            pixels = network_input(
                model, to_input(batch.to(device)).contiguous(memory_format=torch.channels_last)
            )
            logits = logits_of(run(model, pixels), softmax=True)
            # on the CPU, since not every device has float64
            shares = at_least_float32(logits).softmax(1).cpu().double()
            features = {PIXELS: pixels, **outputs}
            yield {name: at_least_float32(features[name].flatten(1).cpu()) for name in names}, shares

    names = (PIXELS, *layers)
    count, steps = views.shape[:2]
    with recording(model, layers) as outputs:
        references = [features for features, _ in looked_at(originals)]
        reference = {name: torch.cat([batch[name] for batch in references]) for name in names}
        distances: dict[str, list[Tensor]] = {name: [] for name in names}
        shares = []
        start = 0
        for features, answers in looked_at(views.flatten(0, 1)):
            rows = torch.arange(start, start + len(answers)) // steps
            start += len(answers)
            shares.append(answers)
            for name in names:
                distances[name].append((features[name] - reference[name][rows]).norm(dim=1).double())
    answers = torch.cat(shares).view(count, steps, -1)
    for right in classes:
        if not right or not 0 <= min(right) <= max(right) < answers.shape[2]:
            raise ValueError(f"each picture needs classes in 0–{answers.shape[2] - 1}, not {tuple(right)}")
    return Invariance(
        amounts=tuple(float(amount) for amount in amounts),
        distances={name: torch.cat(parts).view(count, steps) for name, parts in distances.items()},
        unit={name: _mean_distance(features) for name, features in reference.items()},
        probabilities=torch.stack(
            [row[:, list(right)].sum(1) for row, right in zip(answers, classes, strict=True)]
        ),
    )


def _check_views(
    originals: Tensor, views: Tensor, amounts: Sequence[float], classes: Sequence[Sequence[int]]
) -> None:
    if originals.dtype != torch.uint8 or views.dtype != torch.uint8:
        raise TypeError(f"pictures must be uint8 in 0–255, not {originals.dtype} and {views.dtype}")
    expected = (len(originals), len(amounts), *originals.shape[1:])
    if originals.ndim != 4 or not originals.numel() or not len(amounts) or views.shape != expected:
        raise ValueError(
            f"originals {tuple(originals.shape)} and {len(amounts)} amounts need views of shape {expected}, at least "
            f"one, not {tuple(views.shape)}"
        )
    if len(classes) != len(originals):
        raise ValueError(
            f"{len(originals)} pictures need the right classes of each, not {len(classes)} lists"
        )


def _mean_distance(features: Tensor) -> float:
    """Mean Euclidean distance between different rows."""
    count = len(features)
    if count < 2:
        return math.nan
    return torch.pdist(features.double()).mean().item()


def linearity(amounts: Sequence[float], distances: Tensor, neutral: float = 0.0) -> Tensor:
    """How straight a distance grows with the size of a transformation: the squared correlation of the two.

    Args:
        amounts: of the transformation, at least three different sizes.
        distances: shape (N, A).
        neutral: the amount that changes nothing.

    Returns:
        Shape (N,), each in 0–1: 1 is a straight line ("quasi-linear"), a curve that jumps and then stays is lower;
        NaN where a distance never changes.

    Raises:
        ValueError: for shapes that do not fit, NaN, or fewer than three sizes.
    """
    extent = (torch.as_tensor(amounts, dtype=torch.float64) - neutral).abs()
    if distances.ndim != 2 or distances.shape[1] != len(extent) or torch.isnan(distances).any():
        raise ValueError(f"need distances (N, {len(extent)}) without NaN, not {tuple(distances.shape)}")
    if len(extent.unique()) < 3:
        raise ValueError("two sizes always lie on a line: give at least three")
    x = extent - extent.mean()
    distances = distances.detach().cpu().double()
    y = distances - distances.mean(1, keepdim=True)
    return (y @ x).square() / (x.square().sum() * y.square().sum(1))
