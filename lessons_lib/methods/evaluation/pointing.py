"""Does a map lie where the object is, and where it is of this class?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.methods.evaluation.explainers import one_class_each


def relevance_mass_accuracy(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of a map's positive mass that lies inside a mask.

    "Relevance mass accuracy" (Arras, Osman and Samek, "CLEVR-XAI", Information Fusion 2022), also the "energy-based
    pointing game" of Wang et al., "Score-CAM" (CVPR Workshops 2020, section 4.3). Maps are
    enlarged bilinearly to the masks' size, and negative values count as 0. A map that ignores the picture scores
    the mask's share of the area.

    Args:
        maps: shape (N, h, w).
        masks: bool, shape (N, H, W).

    Returns:
        Shape (N,), each in 0–1; NaN where a map has no positive value.

    Raises:
        TypeError: if the masks are not bool.
        ValueError: if the shapes do not fit.

    >>> relevance_mass_accuracy(torch.tensor([[[3.0, 1.0], [0.0, -5.0]]]), torch.tensor([[[True, False]] * 2]))
    tensor([0.7500], dtype=torch.float64)
    """
    _check_masks(maps, masks)
    positive = maps.cpu().double().clamp(min=0)[:, None]
    enlarged = F.interpolate(positive, size=masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return (enlarged * masks.cpu()).sum(dim=(1, 2)) / enlarged.sum(dim=(1, 2))


def pointing_game(maps: Tensor, masks: Tensor) -> Tensor:
    """Does the map's greatest value lie inside the mask?

    J. Zhang et al., "Top-down Neural Attention by Excitation Backprop" (ECCV 2016, section 4.1), who allow 15 pixels.
    Where several places share the greatest value each counts for its part; so a map that is the same everywhere
    scores the mask's share of the area.

    Args:
        maps: shape (N, H, W), at the masks' size: a point needs a place.
        masks: bool, shape (N, H, W).

    Returns:
        float64, shape (N,): 1 for a hit, 0 for a miss, between them where the greatest value is shared.

    Raises:
        TypeError: if the masks are not bool.
        ValueError: if the shapes do not fit, or a map holds NaN.

    >>> pointing_game(torch.tensor([[[3.0, 1.0], [0.0, -5.0]]]), torch.tensor([[[True, False]] * 2]))
    tensor([1.], dtype=torch.float64)
    """
    _check_masks(maps, masks)
    check_tensor("maps of the masks' size", maps, masks.shape, finite=True)
    greatest = (maps == maps.amax((1, 2), keepdim=True)).cpu()
    return (greatest & masks.cpu()).sum((1, 2)).double() / greatest.sum((1, 2))


@dataclass(frozen=True)
class Grids:
    """Pictures of four classes, two by two, and where each class is.

    Attributes:
        pictures: shape (M, 3, 2 H, 2 W).
        targets: the class to look for, one of the four, int64, shape (M,).
        masks: the quarter it is in, bool, shape (M, 2 H, 2 W).
    """

    pictures: Tensor
    targets: Tensor
    masks: Tensor


def grids(pictures: Tensor, labels: Tensor, count: int, *, seed: int = 0) -> Grids:
    """Put pictures of four different classes into one, for a test that a map can only pass if it knows the class.

    M. Böhle, M. Fritz and B. Schiele, "Convolutional Dynamic Alignment Networks" (CVPR 2021); later called the grid
    pointing game. The quarter that counts is drawn at random, so a map that does not depend on the class scores a
    quarter on average, wherever it points.

    Args:
        pictures: a model's input, float, shape (N, 3, H, W); the model must take twice that size.
        labels: their classes, int64, shape (N,), four different ones or more.
        count: how many grids to make.
        seed: of the draw.

    Raises:
        ValueError: for shapes that do not fit, fewer than four classes, or a count under 1.
    """
    labels = one_class_each(pictures, labels)
    classes = labels.unique()
    check_range("the number of classes", len(classes), 4)
    check_range("count", count, 1)
    generator = torch.Generator().manual_seed(seed)

    def pick(values: Tensor, number: int) -> Tensor:
        return values[torch.randperm(len(values), generator=generator)[:number]]

    chosen = torch.stack(
        [torch.cat([pick((labels == k).nonzero()[:, 0], 1) for k in pick(classes, 4)]) for _ in range(count)]
    )
    quarter = torch.randint(4, (count,), generator=generator)
    height, width = pictures.shape[2:]
    masks = torch.zeros(count, 2, height, 2, width, dtype=torch.bool)
    masks[torch.arange(count), quarter // 2, :, quarter % 2] = True
    two_by_two = pictures[chosen].unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2, 5)
    return Grids(
        two_by_two.reshape(count, 3, 2 * height, 2 * width),
        labels[chosen[torch.arange(count), quarter]],
        masks.view(count, 2 * height, 2 * width),
    )


def _check_masks(maps: Tensor, masks: Tensor) -> None:
    check_tensor("maps", maps, "N h w")
    check_tensor("masks of these maps", masks, f"{len(maps)} H W", torch.bool)
