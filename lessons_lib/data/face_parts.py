"""Where the parts of a Critter's face lie, as boxes: for the true parts, and for random places to compare with.

A *box* is a row (top, left, height, width) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lessons_lib.checks import check_choice, check_tensor
from lessons_lib.data.critters import PARTS as CRITTER_PARTS
from lessons_lib.data.critters import Critters

PARTS = ("left_eye", "right_eye", "nose")
"""The parts of a face that lessons compare between animals."""


def complete(faces: Critters, parts: Sequence[str] = PARTS, *, share: float = 0.8) -> Tensor:
    """Which faces show all of ``parts``: none has less than ``share`` of its usual area, and none is cut off.

    The usual area of a part is the median over the faces of the same species, in units of the head's.

    Args:
        faces: Critters.
        parts: names from ``lessons_lib.data.critters.PARTS``.
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
    inside = F.pad(masks[..., 1:-1, 1:-1], (1, 1, 1, 1))
    border = (masks & ~inside).any(-1).any(-1)
    return ((area >= share * usual) & (area > 0) & ~border).all(1)


def _part_index(part: str) -> int:
    check_choice("part", part, CRITTER_PARTS)
    return CRITTER_PARTS.index(part)


def aligned(faces: Critters, size: int, *, gap: float = 0.32, height: float = 0.45) -> Critters:
    """Faces moved, turned and scaled so that all eyes lie at the same two places, masks with them.

    What lies outside a picture repeats its edge and counts as background in the masks.

    Args:
        faces: Critters that show both eyes, see ``complete``.
        size: side of the new pictures in pixels.
        gap: distance between the middles of the eyes, as a share of the new side.
        height: how far down the eyes lie, as a share of the new side.

    Raises:
        ValueError: if an eye is hidden, naming the picture.
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
        ValueError: for another number of points, or eyes at the same point.
    """
    check_tensor("points", points, "3 2")
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
    middle, axis = (left + right) / 2, (right - left) / (gap * size)
    offset = torch.arange(size, dtype=torch.float64) + 0.5
    y, x = torch.meshgrid(offset - height * size, offset - size / 2, indexing="ij")
    (down, across), (row, column) = (part.T[..., None, None] for part in (axis, middle))
    rows, columns = row + down * x + across * y, column + across * x - down * y
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
    check_tensor("masks", masks, "N H W", torch.bool)
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
        ValueError: for a box larger than the picture.
    """
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
    check_tensor("masks", masks, "N P H W")
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
    check_tensor(f"the boxes of {', '.join(PARTS)}", boxes, "N 3 4")
    left, right, nose = _centres(boxes).unbind(1)
    middle = (left + right) / 2
    return boxes_at(middle + across * (right - left) + down * (nose - middle), boxes[:, 0, 2:], shape)


def has_room(boxes: Tensor, allowed: Tensor, *, cover: float = 0.75) -> Tensor:
    """Which pictures have a place for a random part, see ``random_boxes``: bool, shape (N,)."""
    return torch.tensor([len(_places(*one, cover)) > 0 for one in zip(boxes, allowed, strict=True)])


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
        ValueError: for pictures without room, naming them (see ``has_room``).
    """
    room = [_places(*one, cover) for one in zip(boxes, allowed, strict=True)]
    if full := [i for i, places in enumerate(room) if not len(places)]:
        raise ValueError(f"pictures {full} have no place for a random part: lower cover or leave them out")
    generator = torch.Generator().manual_seed(seed)
    corners = [places[int(torch.randint(len(places), (1,), generator=generator))] for places in room]
    return torch.cat([torch.stack(corners), boxes[:, 0, 2:]], dim=1)


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
    rows = total[height:] - total[:-height]
    return rows[:, width:] - rows[:, :-width]
