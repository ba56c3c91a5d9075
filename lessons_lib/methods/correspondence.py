"""Does hiding the same part of different faces change features in the same way? Zeiler and Fergus's table 1.

M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks" (arXiv:1311.2901), "Correspondence
Analysis". A *box* is a row (top, left, height, width) in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.data.critters import PARTS as CRITTER_PARTS
from lessons_lib.data.critters import Critters
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.activations import capture

PARTS = ("left_eye", "right_eye", "nose")
GREY = 128
Zeros = Literal["third sign", "left out", "positive"]
Marks = dict[str, dict[str, tuple[float, float]]]

_ROUNDING = 1e-5  # of a picture's largest feature: smaller changes are rounding, not the occluder


# ---------------------------------------------------------------- which part lies where


def complete(faces: Critters, parts: Sequence[str] = PARTS, *, share: float = 0.8) -> Tensor:
    """Which faces show all of ``parts``: none has less than ``share`` of its usual area, and none is cut off.

    The usual area of a part is the median over the faces of the same species, in units of the head's.

    Args:
        faces: Critters.
        parts: names from :data:`lessons_lib.data.critters.PARTS`.
        share: 0–1.

    Returns:
        bool, shape (N,).

    Raises:
        ValueError: for an unknown part.
    """
    masks = faces.masks[:, [_part_index(part) for part in parts]]
    head = faces.masks[:, _part_index("head")].sum(dim=(1, 2)).clamp(min=1)
    area = masks.sum(dim=(2, 3)) / head[:, None]
    usual = torch.ones_like(area)
    for label in faces.labels.unique():
        usual[faces.labels == label] = area[faces.labels == label].median(0).values
    border = (
        masks[..., 0, :].any(-1) | masks[..., -1, :].any(-1) | masks[..., 0].any(-1) | masks[..., -1].any(-1)
    )
    return ((area >= share * usual) & (area > 0) & ~border).all(1)


def _part_index(part: str) -> int:
    if part not in CRITTER_PARTS:
        raise ValueError(f"there is no part {part!r}: choose from {', '.join(CRITTER_PARTS)}")
    return CRITTER_PARTS.index(part)


def aligned(faces: Critters, size: int, *, gap: float = 0.32, height: float = 0.45) -> Critters:
    """Faces moved, turned and scaled so that all eyes lie at the same two places, masks with them.

    What lies outside a picture repeats its edge and counts as background in the masks.

    Args:
        faces: Critters that show both eyes, see :func:`complete`.
        size: side of the new pictures in pixels.
        gap: distance between the middles of the eyes, as a share of the new side.
        height: how far down the eyes lie, as a share of the new side.

    Raises:
        ValueError: if an eye is hidden, naming the picture, or a number is out of range.
    """
    left, right = (_centres(bounding_boxes(faces.masks[:, _part_index(part)])) for part in PARTS[:2])
    grid = _face_grid(left, right, faces.images.shape[2:], size, gap, height)
    # outside the picture there is no part
    masks = F.grid_sample(faces.masks.float(), grid, mode="nearest", align_corners=False) > 0.5
    masks[:, _part_index("background")] = ~(masks[:, _part_index("head")] | masks[:, _part_index("ears")])
    return replace(faces, images=_sampled(faces.images, grid), masks=masks)


def aligned_at(
    image: Tensor, points: Tensor, size: int, *, gap: float = 0.32, height: float = 0.45
) -> tuple[Tensor, Tensor]:
    """The same for one picture whose parts are marked by points; returns the new picture and the points in it.

    Args:
        image: uint8, shape (3, H, W).
        points: middles (row, column) in pixels of left eye, right eye and nose, shape (3, 2).
        size: side of the new picture in pixels.
        gap: distance between the eyes, as a share of the new side.
        height: how far down the eyes lie, as a share of the new side.

    Raises:
        ValueError: for other shapes, or eyes at the same point.
    """
    if image.ndim != 3 or points.shape != (3, 2):
        raise ValueError(
            f"need a picture (3, H, W) and points (3, 2), not {tuple(image.shape)}, {tuple(points.shape)}"
        )
    points = points.detach().cpu().double()
    (left, right, _), middle = points, points[:2].mean(0)
    axis = right - left
    if axis.norm() == 0:
        raise ValueError("both eyes are marked at the same point: mark them again")
    grid = _face_grid(left[None], right[None], image.shape[1:], size, gap, height)
    # along and across the line between the eyes, in distances between the eyes
    turned = torch.stack(
        [(points - middle) @ torch.stack([axis[1], -axis[0]]), (points - middle) @ axis], dim=1
    )
    moved = turned / axis.square().sum() * gap * size + torch.tensor([height * size, size / 2])
    return _sampled(image[None], grid)[0], moved


def _face_grid(
    left: Tensor, right: Tensor, shape: Sequence[int], size: int, gap: float, height: float
) -> Tensor:
    """Where each pixel of an aligned face comes from, as grid_sample wants it; eyes given as (row, column)."""
    if size < 1 or not 0 < gap < 1 or not 0 < height < 1:
        raise ValueError(
            f"need a size from 1, a gap and a height between 0 and 1, not {size}, {gap}, {height}"
        )
    middle, axis = (left + right) / 2, (right - left) / (gap * size)
    offset = torch.arange(size, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(offset - height * size, offset - size / 2, indexing="ij")
    down, across = axis[:, 0].view(-1, 1, 1), axis[:, 1].view(-1, 1, 1)
    rows = middle[:, 0].view(-1, 1, 1) + down * x + across * y
    columns = middle[:, 1].view(-1, 1, 1) + across * x - down * y
    return torch.stack([2 * columns / shape[1] - 1, 2 * rows / shape[0] - 1], dim=-1).float()


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    seen = F.grid_sample(images.float(), grid, mode="bicubic", padding_mode="border", align_corners=False)
    return seen.round().clamp(0, 255).to(torch.uint8)


def bounding_boxes(masks: Tensor) -> Tensor:
    """The smallest box around each mask.

    Args:
        masks: bool, shape (N, H, W).

    Returns:
        int64, shape (N, 4): top, left, height, width.

    Raises:
        TypeError: if masks are not bool.
        ValueError: for another shape, or an empty mask, naming it.
    """
    if masks.dtype != torch.bool:
        raise TypeError(f"masks must be bool, not {masks.dtype}")
    if masks.ndim != 3:
        raise ValueError(f"masks must have shape (N, H, W), not {tuple(masks.shape)}")
    rows, columns = masks.any(2), masks.any(1)
    if not rows.any(1).all():
        empty = (~rows.any(1)).nonzero().flatten().tolist()
        raise ValueError(f"the part is not visible in pictures {empty}: leave them out, see complete")
    top, left = rows.int().argmax(1), columns.int().argmax(1)
    bottom, right = (side.shape[1] - side.flip(1).int().argmax(1) for side in (rows, columns))
    return torch.stack([top, left, bottom - top, right - left], dim=1)


def _centres(boxes: Tensor) -> Tensor:
    """Middles (row, column) of boxes (…, 4), in pixels from the corner."""
    return boxes[..., :2].double() + boxes[..., 2:].double() / 2


def boxes_at(points: Tensor, extent: Tensor, shape: Sequence[int]) -> Tensor:
    """Boxes with given middles, moved inside the picture where they would stick out.

    Args:
        points: middles (row, column) in pixels, shape (N, 2) or (N, P, 2).
        extent: height and width, int64, shape (N, 2): one size for all boxes of a picture.
        shape: height and width of the pictures.

    Returns:
        int64, shape (N, 4) or (N, P, 4).

    Raises:
        ValueError: for shapes that do not fit, NaN, or a box larger than the picture.
    """
    if points.shape[-1] != 2 or extent.shape != (len(points), 2) or torch.isnan(points).any():
        raise ValueError(
            f"need points (N, 2) or (N, P, 2) and extents (N, 2) without NaN, not {tuple(points.shape)} and "
            f"{tuple(extent.shape)}"
        )
    limit = torch.tensor(list(shape)) - extent
    if (extent < 1).any() or (limit < 0).any():
        raise ValueError(f"boxes must have at least 1 pixel a side and fit into {tuple(shape)}")
    extent, limit = (part.view(len(points), *[1] * (points.ndim - 2), 2) for part in (extent, limit))
    corner = (points - extent / 2).round().long()
    return torch.cat([corner.clamp(min=0).minimum(limit), extent.expand_as(corner)], dim=-1)


def part_boxes(masks: Tensor) -> Tensor:
    """One box for each part, all boxes of a picture equally large, so that no part is hidden by more grey.

    A picture's boxes have the height of its highest part and the width of its widest, each around the middle of
    its part.

    Args:
        masks: bool, shape (N, P, H, W): where each of the P parts is visible.

    Returns:
        int64, shape (N, P, 4).

    Raises:
        TypeError: if masks are not bool.
        ValueError: for another shape, or if a part is not visible.
    """
    if masks.ndim != 4:
        raise ValueError(f"masks must have shape (N, parts, H, W), not {tuple(masks.shape)}")
    tight = torch.stack([bounding_boxes(masks[:, part]) for part in range(masks.shape[1])], dim=1)
    return boxes_at(_centres(tight), tight[..., 2:].amax(1), masks.shape[2:])


def face_boxes(boxes: Tensor, across: float, down: float, shape: Sequence[int]) -> Tensor:
    """A box at the same place of each face, said in the face's own terms.

    Args:
        boxes: of left eye, right eye and nose, shape (N, 3, 4).
        across: how far to the viewer's right of the middle between the eyes, in distances between the eyes.
        down: how far below it, in distances to the nose; negative is the forehead.
        shape: height and width of the pictures.

    Returns:
        int64, shape (N, 4), as large as the part boxes.

    Raises:
        ValueError: for boxes of another shape.
    """
    if boxes.ndim != 3 or boxes.shape[1:] != (3, 4):
        raise ValueError(f"need the boxes of {', '.join(PARTS)}, shape (N, 3, 4), not {tuple(boxes.shape)}")
    left, right, nose = _centres(boxes).unbind(1)
    middle = (left + right) / 2
    return boxes_at(middle + across * (right - left) + down * (nose - middle), boxes[:, 0, 2:], shape)


def has_room(boxes: Tensor, allowed: Tensor, *, cover: float = 0.75) -> Tensor:
    """Which pictures have a place for a random part, see :func:`random_boxes`: bool, shape (N,)."""
    return torch.tensor([len(places) > 0 for places in _all_places(boxes, allowed, cover)])


def random_boxes(boxes: Tensor, allowed: Tensor, *, cover: float = 0.75, seed: int = 0) -> Tensor:
    """A box at a random place of each face, every picture its own, that touches none of the true parts' boxes.

    Each place that qualifies is equally likely.

    Args:
        boxes: of the true parts, shape (N, P, 4); the new box is as large as they are.
        allowed: bool, shape (N, H, W): the object, for "random parts of the object".
        cover: the least share of the new box that must lie on ``allowed``, 0–1.
        seed: any whole number.

    Returns:
        int64, shape (N, 4).

    Raises:
        ValueError: for shapes that do not fit, or pictures without room, naming them (see :func:`has_room`).
    """
    room = _all_places(boxes, allowed, cover)
    if full := [i for i, places in enumerate(room) if not len(places)]:
        raise ValueError(
            f"pictures {full} have no place for a random part: lower cover ({cover}) or leave them out"
        )
    generator = torch.Generator().manual_seed(seed)
    corners = [places[int(torch.randint(len(places), (1,), generator=generator))] for places in room]
    return torch.cat([torch.stack(corners), boxes[:, 0, 2:]], dim=1)


def _all_places(boxes: Tensor, allowed: Tensor, cover: float) -> list[Tensor]:
    if boxes.ndim != 3 or boxes.shape[2] != 4 or allowed.ndim != 3 or len(allowed) != len(boxes):
        raise ValueError(
            f"need boxes (N, P, 4) and as many masks (N, H, W), not {tuple(boxes.shape)} and {tuple(allowed.shape)}"
        )
    return [_places(own, where, cover) for own, where in zip(boxes, allowed, strict=True)]


def _places(boxes: Tensor, allowed: Tensor, cover: float) -> Tensor:
    """All corners (row, column) where a box of this size is on the object and touches no part."""
    height, width = boxes[0, 2:].tolist()
    taken = torch.zeros_like(allowed)
    for top, left, h, w in boxes.tolist():
        taken[top : top + h, left : left + w] = True
    enough = _box_sums(allowed, height, width) >= cover * height * width
    return (enough & (_box_sums(taken, height, width) == 0)).nonzero()


def _box_sums(mask: Tensor, height: int, width: int) -> Tensor:
    """How many pixels of ``mask`` a box holds at each place, from the integral picture."""
    total = F.pad(mask.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    return (
        total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    )


def occlude(images: Tensor, boxes: Tensor, value: int = GREY) -> Tensor:
    """Copies of the pictures with one box each painted over.

    Args:
        images: uint8, shape (N, 3, H, W).
        boxes: int64, shape (N, 4), inside the pictures.
        value: the grey, 0–255.

    Raises:
        TypeError: if the pictures are not uint8.
        ValueError: for shapes that do not fit, a box that leaves its picture, or a value out of range.
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"images must be uint8 in 0–255, not {images.dtype}")
    if images.ndim != 4 or boxes.shape != (len(images), 4):
        raise ValueError(
            f"{tuple(images.shape)} needs boxes of shape ({len(images)}, 4), not {tuple(boxes.shape)}"
        )
    size = torch.tensor(images.shape[2:])
    if (boxes[:, :2] < 0).any() or (boxes[:, 2:] < 1).any() or (boxes[:, :2] + boxes[:, 2:] > size).any():
        raise ValueError(f"a box is empty or leaves its picture of {tuple(images.shape[2:])}: see boxes_at")
    if not 0 <= value <= 255:
        raise ValueError(f"value must be a grey in 0–255, not {value}")
    hidden = images.clone()
    for image, (top, left, height, width) in zip(hidden, boxes.tolist(), strict=True):
        image[:, top : top + height, left : left + width] = value
    return hidden


# ---------------------------------------------------------------- what hiding it changes


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
        ValueError: for pictures that are not as many and as large as the originals, or an unknown layer.
    """
    for condition, pictures in hidden.items():
        if pictures.shape != images.shape:
            raise ValueError(
                f"{condition!r} has pictures of {tuple(pictures.shape)}, not {tuple(images.shape)}"
            )

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
    if zeros not in get_args(Zeros):
        raise ValueError(f"zeros must be one of {', '.join(map(repr, get_args(Zeros)))}, not {zeros!r}")
    signs = _signs(changes)
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
            raise ValueError(
                "two pictures share no changed feature: hide more, or count zeros as a third sign"
            )
    return 1 - agree.double() / compared.double()


def _signs(changes: Tensor) -> Tensor:
    if changes.ndim < 2 or not changes.numel() or torch.isnan(changes).any():
        raise ValueError(
            f"changes must have shape (N, …), be no NaN and not be empty, got {tuple(changes.shape)}"
        )
    return changes.flatten(1).sign()


def chance_agreement(changes: Tensor) -> Tensor:
    """The distance by "third sign" that two pictures would have if their signs had nothing to do with each other.

    Each keeps its own shares of +, − and 0. One minus the distance over this is Cohen's kappa.

    Args:
        changes: ε of one condition at one layer, shape (N, …).

    Returns:
        float64, shape (N, N), 0 on the diagonal.

    Raises:
        ValueError: for no pictures or features, or NaN.
    """
    signs = _signs(changes)
    shares = torch.stack([(signs == sign).double().mean(1) for sign in (1, -1, 0)], dim=1)
    return (1 - shares @ shares.T).fill_diagonal_(0)


@dataclass(frozen=True)
class Delta:
    """Δ of one condition at one layer.

    Attributes:
        mean: mean distance over all pairs of different pictures. The paper's Σ over i ≠ j is this times n (n − 1).
        error: the standard error over pairs (standard deviation / √pairs). Pairs share pictures, so it is too
            small; the interval is right.
        low: lower end of the 95 % interval from resampling pictures.
        high: its upper end.
    """

    mean: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much larger Δ is under a control than for a part.

    Attributes:
        mean: Δ(control) − Δ(part); above 0 the part corresponds better than the control.
        low: lower end of the 95 % interval from resampling pictures.
        high: its upper end.
        p: of the permutation test: how often exchanging part and control within random pictures gives a difference
            at least as far from 0.
    """

    mean: float
    low: float
    high: float
    p: float


def delta(distances: Tensor, *, resamples: int = 2000, seed: int = 0) -> Delta:
    """Mean distance over pairs, with a bootstrap interval that resamples pictures, not pairs.

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
    return Delta(pairs.mean().item(), (pairs.std() / len(pairs) ** 0.5).item(), low, high)


def compare(
    part: Tensor, control: Tensor, *, zeros: Zeros = "third sign", resamples: int = 2000, seed: int = 0
) -> Difference:
    """Is Δ smaller for a part than for a control? Bootstrap interval and permutation test, both over pictures.

    The test asks whether part and control could be exchanged: in each picture by itself a coin decides which of its
    two changes is called the part's.

    Args:
        part: ε when the part is hidden, shape (N, …).
        control: ε when the control is hidden, in the same pictures, same shape.
        zeros: see :func:`sign_distances`.
        resamples: of the bootstrap, and permutations of the test.
        seed: of both.

    Raises:
        ValueError: for shapes that do not fit, or fewer than three pictures.
    """
    if part.shape != control.shape:
        raise ValueError(
            f"part {tuple(part.shape)} and control {tuple(control.shape)} must have the same shape"
        )
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
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or len(distances) < 3:
        raise ValueError(f"need distances (N, N) of at least three pictures, not {tuple(distances.shape)}")
    if torch.isnan(distances).any():
        raise ValueError("the distances hold NaN")
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


# ---------------------------------------------------------------- parts marked by hand


def save_marks(path: Path, marks: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    """Keep marks as JSON; an interrupted write leaves the previous file.

    Args:
        path: the file; its folder is made.
        marks: by picture and part, (row, column) as shares of the picture's sides, 0–1.

    Raises:
        ValueError: for a mark outside the picture.
    """
    checked = _checked_marks(marks, "the marks")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(checked, indent=1, sort_keys=True), encoding="utf-8")
    part.replace(path)


def load_marks(path: Path) -> Marks:
    """The marks kept at ``path``, by picture and part; none if there is no such file.

    Raises:
        ValueError: if the file holds anything else, naming it.
    """
    if not path.exists():
        return {}
    try:
        return _checked_marks(json.loads(path.read_text(encoding="utf-8")), str(path))
    except (json.JSONDecodeError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} holds no marks ({error}): delete it and mark again") from error


def _checked_marks(marks: Mapping[str, Mapping[str, Sequence[float]]], where: str) -> Marks:
    checked: Marks = {}
    for picture, points in marks.items():
        checked[picture] = {}
        for part, point in points.items():
            row, column = (float(value) for value in point)
            if not (0 <= row <= 1 and 0 <= column <= 1):
                raise ValueError(
                    f"{where}: {part} of {picture} must be shares of the sides in 0–1, not {point}"
                )
            checked[picture][part] = (row, column)
    return checked
