"""Every explanation of the course in one form, an :data:`Explainer`, and two that look at no network at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.methods import cam, deconvnet, occlusion, saliency
from lessons_lib.networks import Classes, class_numbers, evaluating, logits_of, network_input, uncompiled

Explainer = Callable[[nn.Module, Tensor, int], Tensor]
"""A map for (model, picture, class).

The picture is the model's input, float, shape (3, H, W). The map has shape (h, w), of any size: the greater a value,
the more that place speaks *for* the class; a signed one may go below 0 where a place speaks against it.
"""


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
    classes = one_class_each(pictures, targets)
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


def one_class_each(pictures: Tensor, targets: Classes) -> Tensor:
    """The class of each picture, int64, shape (N,)."""
    if pictures.ndim != 4 or not pictures.numel():
        raise ValueError(f"need pictures (N, 3, H, W), at least one, not {tuple(pictures.shape)}")
    return class_numbers(targets, count=len(pictures))
