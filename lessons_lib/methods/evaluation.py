"""Mark explanations right or wrong: against the truth, against the network, and against a network that knows nothing.

Every explanation of the course answers the same question, "where in the picture does the network see this class?",
and is brought here into one form, an :data:`Explainer`. Three kinds of questions are asked of it:

- does it lie where the object is? :func:`pointing_game`, :func:`energy_inside`; and of this class? :func:`grids`
- does it tell which pixels the network needs? :func:`deletion`, :func:`insertion`
- does it notice when the network forgets all it has learned? :func:`randomisation_check`

Two explainers look at no network at all, :func:`centre_gaussian` and :func:`edges`: one that is worth its price beats
them.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage, stats
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.methods import cam, deconvnet, occlusion, saliency
from lessons_lib.methods.activations import get_layer
from lessons_lib.networks import (
    Classes,
    at_least_float32,
    class_numbers,
    logits_of,
    network_input,
    seeded,
    uncompiled,
)
from lessons_lib.training import evaluating

Explainer = Callable[[nn.Module, Tensor, int], Tensor]
"""A map for (model, picture, class).

The picture is the model's input, float, shape (3, H, W). The map has shape (h, w), of any size: the greater a value,
the more that place speaks *for* the class; a signed one may go below 0 where a place speaks against it.
"""


# ---------------------------------------------------------------- the explainers


def gradient_map(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """How much each pixel would change the logit: the greatest absolute derivative over the colours.

    See :func:`lessons_lib.methods.saliency.gradient`; the greatest value is Simonyan et al. 2014, §3.1.

    Returns:
        Shape (H, W), none negative.
    """
    return _by_pixels(saliency.gradient, model, picture, target)


def guided_backpropagation_map(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """:func:`lessons_lib.methods.saliency.guided_backpropagation` of the logit, its greatest size over the colours.

    Returns:
        Shape (H, W), none negative.

    Raises:
        ValueError: if the network has no ReLUs, or other activation functions as well.
    """
    return _by_pixels(saliency.guided_backpropagation, model, picture, target)


def _by_pixels(
    method: Callable[[nn.Module, Tensor, str, Tensor], Tensor], model: nn.Module, picture: Tensor, target: int
) -> Tensor:
    start = _one_hot(model, picture, target)
    return method(nn.Sequential(uncompiled(model)), picture[None], "0", start)[0].abs().amax(0)


def deconvnet_map(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """The logit projected to pixels by :mod:`lessons_lib.methods.deconvnet`, its greatest size over the colours.

    Returns:
        Shape (H, W), none negative.

    Raises:
        ValueError: if the network is no chain of layers that a deconvnet can invert.
    """
    start = _one_hot(model, picture, target)
    way_up = deconvnet.trace(nn.Sequential(uncompiled(model)), picture[None], "0")
    return deconvnet.project(way_up, start).pixels[0].abs().amax(0)


def cam_map(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """The class activation map (:func:`lessons_lib.methods.cam.class_activation_maps`).

    Returns:
        Shape (h, w) of the last feature maps, signed, in units of logits.

    Raises:
        ValueError: if the network does not end in average pooling and one linear layer.
    """
    evidence = cam.class_activation_maps(model, picture[None])
    return evidence.of(target)[0]


def grad_cam_map(layer: str) -> Explainer:
    """Grad-CAM (:func:`lessons_lib.methods.cam.grad_cam`) at ``layer``; its maps are (h, w) of that layer, ≥ 0."""

    def explain(model: nn.Module, picture: Tensor, target: int) -> Tensor:
        return cam.grad_cam(model, picture[None], layer, target)[0]

    return explain


def occlusion_map(patch: int, stride: int = 1) -> Explainer:
    """How much probability a grey patch takes (:func:`lessons_lib.methods.occlusion.occlude`), mean over patches.

    Args:
        patch: side of the square patch in pixels.
        stride: pixels from one position to the next.

    Returns:
        An explainer whose maps are (H, W), signed, in 0–1 of probability.
    """

    def explain(model: nn.Module, picture: Tensor, target: int) -> Tensor:
        swept = occlusion.occlude(model, picture, target, patch=patch, stride=stride, progress=False)
        return swept.attribution()

    return explain


def centre_gaussian(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """A bump in the middle, a quarter of the picture wide (standard deviation), whatever there is to see."""
    height, width = picture.shape[-2:]
    rows, columns = ((torch.arange(side) + 0.5 - side / 2) / (side / 4) for side in (height, width))
    return torch.outer((-rows.square() / 2).exp(), (-columns.square() / 2).exp())


def edges(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """Where brightness changes: scikit-image's Sobel filter of the picture's mean over colours, (H, W), ≥ 0."""
    from skimage.filters import sobel  # noqa: PLC0415 - takes a second, which most lessons do not need

    return torch.from_numpy(sobel(picture.detach().cpu().double().mean(0).numpy())).float()


@torch.no_grad()
def _one_hot(model: nn.Module, picture: Tensor, target: int) -> Tensor:
    """1 for the class and 0 for all others, in the shape of the logits of one picture."""
    if picture.ndim != 3 or not picture.is_floating_point():
        raise ValueError(
            f"picture must be the model's input for one picture, float (3, H, W), not {picture.dtype} "
            f"{tuple(picture.shape)}"
        )
    with evaluating(model):
        logits = logits_of(model(network_input(model, picture[None])))
    start = torch.zeros_like(logits)
    start[0, class_numbers(target, classes=logits.shape[1], count=1)] = 1
    return start


def explain(
    explainer: Explainer,
    model: nn.Module,
    pictures: Tensor,
    targets: Classes,
    *,
    progress: bool = False,
) -> Tensor:
    """Explain picture after picture, each map enlarged to the picture's size.

    Args:
        explainer: see :data:`Explainer`.
        model: what is to be explained.
        pictures: its input, float, shape (N, 3, H, W).
        targets: the class to look for, one for all pictures or shape (N,).
        progress: whether to show a progress bar.

    Returns:
        Shape (N, H, W), on the CPU.

    Raises:
        ValueError: for no pictures, another number of classes, or a map that is no (h, w) or holds NaN.
    """
    classes = _check_pictures(pictures, targets)
    maps = []
    for picture, target in zip(
        tqdm(pictures, disable=not progress, unit="map", leave=False), classes.tolist(), strict=True
    ):
        found = explainer(model, picture, target).detach().cpu()
        if found.ndim != 2 or not found.numel() or not torch.isfinite(found).all():
            raise ValueError(
                f"an explainer must give a finite map (h, w), but this one gave {tuple(found.shape)}"
                + (" with values that are not finite" if found.numel() else "")
            )
        maps.append(cam.upsample(found[None], (picture.shape[1], picture.shape[2]))[0])
    return torch.stack(maps)


# ---------------------------------------------------------------- against the truth


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Share of a map's positive mass that lies inside a mask.

    The "energy-based pointing game" of Wang et al., "Score-CAM" (CVPR Workshops 2020, section 4.3). Maps are
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
    """
    _check_masks(maps, masks)
    positive = maps.cpu().double().clamp(min=0)[:, None]
    enlarged = F.interpolate(positive, size=masks.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return (enlarged * masks.cpu()).sum(dim=(1, 2)) / enlarged.sum(dim=(1, 2))


def pointing_game(maps: Tensor, masks: Tensor, *, tolerance: float = 0) -> Tensor:
    """Does the map's greatest value lie inside the mask, or near it?

    J. Zhang et al., "Top-down Neural Attention by Excitation Backprop" (ECCV 2016, section 4.1), who allow 15 pixels.
    Where several places share the greatest value each counts for its part; so a map that is the same everywhere
    scores the mask's share of the area.

    Args:
        maps: shape (N, H, W), at the masks' size: a point needs a place.
        masks: bool, shape (N, H, W).
        tolerance: how many pixels outside still count as a hit.

    Returns:
        float64, shape (N,): 1 for a hit, 0 for a miss, between them where the greatest value is shared.

    Raises:
        TypeError: if the masks are not bool.
        ValueError: if the shapes do not fit, a map holds NaN, or the tolerance is negative.
    """
    _check_masks(maps, masks)
    if maps.shape != masks.shape:
        raise ValueError(
            f"maps {tuple(maps.shape)} must have the masks' size {tuple(masks.shape)}: use cam.upsample"
        )
    if torch.isnan(maps).any() or not tolerance >= 0:
        raise ValueError(f"the maps hold NaN, or the tolerance is negative ({tolerance})")
    if tolerance:
        # an empty mask has no distance to anything
        masks = torch.stack([_near(mask, tolerance) if mask.any() else mask for mask in masks])
    greatest = (maps == maps.amax((1, 2), keepdim=True)).cpu()
    return (greatest & masks.cpu()).sum((1, 2)).double() / greatest.sum((1, 2))


def _near(mask: Tensor, tolerance: float) -> Tensor:
    return torch.from_numpy(ndimage.distance_transform_edt(~mask.cpu().numpy()) <= tolerance)


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
    labels = _check_pictures(pictures, labels)
    classes = labels.unique()
    if len(classes) < 4 or count < 1:
        raise ValueError(f"a grid needs four classes, not {len(classes)}, and count at least 1, not {count}")
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


# ---------------------------------------------------------------- against the network


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
    if maps.ndim != 3 or not maps.numel() or torch.isnan(maps).any():
        raise ValueError(f"need maps (N, H, W) without NaN, at least one, not {tuple(maps.shape)}")
    shuffle = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(seed))
    # a stable sort of shuffled pixels
    order = shuffle[maps.flatten(1).cpu()[:, shuffle].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(1).view(maps.shape)


def deletion(
    model: nn.Module,
    pictures: Tensor,
    maps: Tensor,
    targets: Classes,
    *,
    fill: float | Tensor = 0.0,
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
        fill: what stands where a pixel was taken away, a number or a tensor that fits the pictures.
        steps: how many; in each the same number of pixels goes, as nearly as can be.
        seed: decides between pixels that a map calls equally important.
        batch_size: how many pictures to run at once; the result does not depend on it.

    Raises:
        ValueError: for shapes that do not fit, NaN, a class out of range, no steps, or a network of one logit, whose
            softmax is always 1.
        TypeError: for pictures that are not of the network's precision, or a network that gives no tensor of logits.
    """
    classes = _check_curve(pictures, maps, targets, steps)
    return _exchange(model, pictures, _filled(pictures, fill), maps, classes, steps, seed, batch_size)


def insertion(
    model: nn.Module,
    pictures: Tensor,
    maps: Tensor,
    targets: Classes,
    *,
    fill: float | Tensor = 0.0,
    steps: int = 32,
    seed: int = 0,
    batch_size: int = 256,
) -> Curve:
    """Bring a picture back, the pixels that a map calls most important first: how soon is the class there?

    As :func:`deletion`, from ``fill`` to the picture. A *large* area is good. RISE begins with the picture blurred.
    """
    classes = _check_curve(pictures, maps, targets, steps)
    return _exchange(model, _filled(pictures, fill), pictures, maps, classes, steps, seed, batch_size)


def _filled(pictures: Tensor, fill: float | Tensor) -> Tensor:
    return torch.as_tensor(fill).detach().to(pictures).expand_as(pictures)


@torch.no_grad()
def _exchange(
    model: nn.Module,
    before: Tensor,
    after: Tensor,
    maps: Tensor,
    targets: Tensor,
    steps: int,
    seed: int,
    batch_size: int,
) -> Curve:
    """Replace the pixels of ``before`` by those of ``after``, in the order of the maps."""
    pixels = maps[0].numel()
    counts = (torch.arange(steps + 1, dtype=torch.float64) * pixels / steps).round()
    rows = []
    together = max(1, batch_size // (steps + 1))
    with evaluating(model):
        for old, new, batch, classes in zip(
            *(stack.split(together) for stack in (before, after, maps, targets)), strict=True
        ):
            place = ranking(batch, seed=seed)[:, None, None]
            gone = (place < counts.view(1, -1, 1, 1, 1)).to(old.device)
            versions = torch.where(gone, new[:, None], old[:, None]).flatten(0, 1)
            logits = torch.cat(
                [
                    logits_of(model(network_input(model, part)), softmax=True).cpu()
                    for part in versions.split(batch_size)
                ]
            )
            own = class_numbers(classes, classes=logits.shape[1]).cpu()
            shares = at_least_float32(logits).softmax(1).unflatten(0, (len(batch), steps + 1))
            rows.append(shares[torch.arange(len(batch)), :, own])
    return Curve(counts / pixels, torch.cat(rows))


# ---------------------------------------------------------------- against a network that has forgotten


@contextlib.contextmanager
def randomised(model: nn.Module, layers: Sequence[str], *, seed: int = 0) -> Iterator[nn.Module]:
    """Hold ``model`` with some layers re-initialised; give it all its weights back on any exit.

    Each part of a layer draws new weights by its own ``reset_parameters``: PyTorch's default, and not another
    initialisation that the network's author chose. They are drawn on the CPU, so they are the same on every device.

    Args:
        model: any module whose layers have names.
        layers: which; a layer that has parts stands for all of them. The same seed gives the first layers of a
            longer list the same new weights.
        seed: of the new weights; the caller's random generators are left as they were, those of all devices.

    Raises:
        ValueError: for an unknown layer, one without parameters, or one that does not know how to initialise itself.
    """
    parts = [(name, part) for name in layers for part in _parts(name, get_layer(model, name))]
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        with seeded(seed):
            for name, part in parts:
                _reset(name, part)
        yield model
    finally:
        model.load_state_dict(saved)


def _reset(name: str, part: nn.Module) -> None:
    kind, own = type(part).__name__, dict(part.named_parameters(recurse=False))
    try:
        fresh = copy.deepcopy(part).cpu()
    except RuntimeError as error:
        raise ValueError(f"in layer {name!r}, {kind} cannot be copied: {error}") from error
    with torch.no_grad():
        for parameter in fresh.parameters(recurse=False):
            parameter.fill_(torch.nan)
    cast(Callable[[], None], fresh.reset_parameters)()
    forgotten = [key for key in own if torch.isnan(fresh.get_parameter(key)).any()]
    if forgotten:
        raise ValueError(
            f"in layer {name!r}, reset_parameters() of {kind} leaves {', '.join(forgotten)} as it is "
            "(weight_norm, for example, computes the weights from others): leave that layer out"
        )
    part.load_state_dict(fresh.state_dict())


def _parts(name: str, layer: nn.Module) -> list[nn.Module]:
    """The parts of a layer that have parameters of their own and know how to initialise them."""
    parts = [part for part in layer.modules() if any(True for _ in part.parameters(recurse=False))]
    if not parts:
        raise ValueError(f"layer {name!r} has no parameters to randomise")
    for part in parts:
        if not hasattr(part, "reset_parameters"):
            raise ValueError(
                f"in layer {name!r}, {type(part).__name__} has parameters but no reset_parameters()"
            )
    return parts


@dataclass(frozen=True)
class Randomisation:
    """How much maps change while the network loses its weights, L layers of them, for N pictures.

    Attributes:
        layers: in the order they were randomised; row i has the first i + 1 of them random.
        rank_correlation: Spearman's, of each map with the trained network's, float64 (L, N), in −1 to 1; NaN where
            a map is the same everywhere.
        similarity: structural similarity (SSIM) of the two maps, each stretched to 0–1, float64 (L, N), at most 1.
        maps: of the trained network, shape (N, H, W).
        randomised: of the network with the layers random, shape (L, N, H, W).
    """

    layers: tuple[str, ...]
    rank_correlation: Tensor
    similarity: Tensor
    maps: Tensor
    randomised: Tensor


def randomisation_check(
    explainer: Explainer,
    model: nn.Module,
    pictures: Tensor,
    targets: Classes,
    layers: Sequence[str] | None = None,
    *,
    seed: int = 0,
    progress: bool = False,
) -> Randomisation:
    """Randomise a network from the top layer down and watch a map: one that stays does not explain the network.

    J. Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018, section 3.1, "cascading randomization"). The
    model has its weights back afterwards, to the bit.

    Args:
        explainer: see :data:`Explainer`.
        model: a trained network.
        pictures: its input, float, shape (N, 3, H, W), at least 7×7.
        targets: the class to explain, one for all pictures or shape (N,): the same before and after.
        layers: the order; by default every layer with parameters of its own, the last one first.
        seed: of the new weights.
        progress: whether to show a progress bar.

    Raises:
        ValueError: as :func:`randomised` and :func:`explain`.
    """
    if layers is None:
        own = [
            name
            for name, part in uncompiled(model).named_modules()
            if name and [*part.parameters(recurse=False)]
        ]
        layers = own[::-1]
    if not layers:
        raise ValueError("name at least one layer to randomise")
    maps = explain(explainer, model, pictures, targets)
    changed = []
    for count in tqdm(range(1, len(layers) + 1), disable=not progress, unit="layer", leave=False):
        with randomised(model, layers[:count], seed=seed):
            changed.append(explain(explainer, model, pictures, targets))
    return Randomisation(
        layers=tuple(layers),
        rank_correlation=torch.stack([rank_correlation(stack, maps) for stack in changed]),
        similarity=torch.stack([structural_similarity(stack, maps) for stack in changed]),
        maps=maps,
        randomised=torch.stack(changed),
    )


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Spearman's rank correlation of each map with its other, over pixels.

    Args:
        maps: shape (N, H, W).
        others: same shape.

    Returns:
        float64, shape (N,), in −1 to 1; NaN where a map is the same everywhere.

    Raises:
        ValueError: if the shapes differ.
    """
    _check_pairs(maps, others)
    flat = (at_least_float32(stack.detach().cpu()).flatten(1).numpy() for stack in (maps, others))
    ranks = [torch.from_numpy(stats.rankdata(values, axis=1)) for values in flat]
    a, b = (rank - rank.mean(1, keepdim=True) for rank in ranks)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def structural_similarity(maps: Tensor, others: Tensor) -> Tensor:
    """scikit-image's SSIM of each map and its other, both stretched to 0–1: 1 if they are the same.

    Args:
        maps: shape (N, H, W), at least 7×7.
        others: same shape.

    Returns:
        float64, shape (N,).

    Raises:
        ValueError: if the shapes differ, or maps are smaller.

    Source: Z. Wang et al., "Image quality assessment" (IEEE Transactions on Image Processing 2004).
    """
    from skimage.metrics import structural_similarity as ssim  # noqa: PLC0415 - as in edges

    _check_pairs(maps, others)
    if min(maps.shape[1:]) < 7:
        raise ValueError(f"SSIM looks at squares of 7×7, so maps of {tuple(maps.shape[1:])} are too small")
    pairs = zip(_stretched(maps), _stretched(others), strict=True)
    return torch.tensor([ssim(a, b, data_range=1.0) for a, b in pairs], dtype=torch.float64)


def _stretched(maps: Tensor) -> np.ndarray:
    """Each map from its least value, 0, to its greatest, 1; all 0 if it is the same everywhere."""
    values = maps.detach().cpu().double()
    low, high = values.amin((1, 2), keepdim=True), values.amax((1, 2), keepdim=True)
    spread = torch.where(high > low, high - low, 1.0)
    return ((values - low) / spread).numpy()


# ---------------------------------------------------------------- checks


def _check_masks(maps: Tensor, masks: Tensor) -> None:
    if masks.dtype != torch.bool:
        raise TypeError(f"masks must be bool, not {masks.dtype}")
    if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks) or not maps.numel():
        raise ValueError(
            f"need maps (N, h, w) and as many masks (N, H, W), not {tuple(maps.shape)} and {tuple(masks.shape)}"
        )


def _check_pairs(maps: Tensor, others: Tensor) -> None:
    if maps.ndim != 3 or maps.shape != others.shape or not maps.numel():
        raise ValueError(
            f"need two stacks of maps of one shape (N, H, W), not {tuple(maps.shape)} and {tuple(others.shape)}"
        )


def _check_pictures(pictures: Tensor, targets: Classes) -> Tensor:
    """The class of each picture, int64, shape (N,)."""
    if pictures.ndim != 4 or not pictures.numel():
        raise ValueError(f"need pictures (N, 3, H, W), at least one, not {tuple(pictures.shape)}")
    return class_numbers(targets, count=len(pictures))


def _check_curve(pictures: Tensor, maps: Tensor, targets: Classes, steps: int) -> Tensor:
    """The class of each picture, int64, shape (N,)."""
    classes = _check_pictures(pictures, targets)
    if maps.shape != (len(pictures), *pictures.shape[2:]):
        raise ValueError(f"maps must be of the pictures' size, (N, H, W), not {tuple(maps.shape)}")
    if torch.isnan(maps).any() or torch.isnan(pictures).any():
        raise ValueError("the maps or the pictures hold NaN")
    if not 1 <= steps <= maps[0].numel():
        raise ValueError(f"steps must be in 1–{maps[0].numel()}, not {steps}")
    return classes
