"""Explanations in one form, an ``Explainer``: those of the course, RISE, and three that look at no network."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.checks import check_tensor
from lessons_lib.methods import cam, deconvnet, occlusion, saliency
from lessons_lib.networks import (
    Classes,
    class_numbers,
    device_of,
    evaluating,
    logits_of,
    network_input,
    uncompiled,
)

Explainer = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Maps for (model, inputs, targets): of this library, of captum, torchcam or pytorch-grad-cam, or your own.

The inputs are the model's, float, shape (N, 3, H, W), the targets their classes, int64, shape (N,). The maps have shape
(N, h, w), of any size, or (N, C, h, w), of which the sum over C is taken. The greater a value, the more that place
speaks *for* the class; a signed one may go below 0 where a place speaks against it.
"""


def gradient_map(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
    """How much each pixel would change the logit: the greatest absolute derivative over the colours.

    See ``lessons_lib.methods.saliency.gradient``; the greatest value is Simonyan et al. 2014, §3.1.

    Returns:
        Shape (N, H, W), none negative.
    """
    return saliency.gradient(*_at_logit(model, inputs, targets)).abs().amax(1)


def guided_backpropagation_map(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
    """``lessons_lib.methods.saliency.guided_backpropagation`` of the logit, its greatest size over the colours.

    Returns:
        Shape (N, H, W), none negative.

    Raises:
        ValueError: if the network has no ReLUs, or other activation functions as well.
    """
    return saliency.guided_backpropagation(*_at_logit(model, inputs, targets)).abs().amax(1)


def deconvnet_map(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
    """The logit projected to pixels by ``lessons_lib.methods.deconvnet``, its greatest size over the colours.

    Returns:
        Shape (N, H, W), none negative.

    Raises:
        ValueError: if the network is no chain of layers that a deconvnet can invert.
    """
    chain, inputs, layer, start = _at_logit(model, inputs, targets)
    return deconvnet.project(deconvnet.trace(chain, inputs, layer), start).pixels.abs().amax(1)


def cam_map(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
    """The class activation maps (``lessons_lib.methods.cam.class_activation_maps``).

    Returns:
        Shape (N, h, w) of the last feature maps, signed, in units of logits.

    Raises:
        ValueError: if the network does not end in average pooling and one linear layer.
    """
    return cam.class_activation_maps(model, inputs).of(targets)


def grad_cam_map(layer: str) -> Explainer:
    """Grad-CAM (``lessons_lib.methods.cam.grad_cam``) at ``layer``; its maps are (h, w) of that layer, ≥ 0."""
    return lambda model, inputs, targets: cam.grad_cam(model, inputs, layer, targets)


def occlusion_map(patch: int, stride: int = 1) -> Explainer:
    """How much probability a grey patch takes (``lessons_lib.methods.occlusion.occlude``), mean over patches.

    Args:
        patch: side of the square patch in pixels.
        stride: pixels from one position to the next.

    Returns:
        An explainer whose maps are (N, H, W), signed, in 0–1 of probability.
    """

    def explain(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
        swept = partial(occlusion.occlude, model, patch=patch, stride=stride, progress=False)
        classes = class_numbers(targets, count=len(inputs)).tolist()
        return torch.stack([swept(*one).attribution() for one in zip(inputs, classes, strict=True)])

    return explain


def rise(
    count: int = 500, cells: int = 7, keep: float = 0.5, *, seed: int = 0, batch_size: int = 250
) -> Explainer:
    """RISE: a place is worth the mean probability of the class over the random masks that leave it visible.

    V. Petsiuk, A. Das and K. Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models" (BMVC 2018,
    section 3, equation 6). A mask multiplies the input, so what it hides becomes 0. The same masks for all pictures.

    Args:
        count: how many masks.
        cells: a mask is drawn as squares, about this many a side, then enlarged smoothly and shifted at random.
        keep: the probability that a square stays visible.
        seed: of the masks.
        batch_size: how many masked pictures to run at once.

    Returns:
        An explainer whose maps are (N, H, W), in 0–1 of probability but for the chance in the masks' number.
    """

    @torch.no_grad()
    def explain(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
        generator, (height, width) = torch.Generator().manual_seed(seed), inputs.shape[2:]
        rows, columns = math.ceil(height / cells), math.ceil(width / cells)
        drawn = (torch.rand(count, 1, cells + 1, cells + 1, generator=generator) < keep).float()
        large = F.interpolate(drawn, scale_factor=(rows, columns), mode="bilinear", align_corners=False)[:, 0]
        top, left = (torch.randint(side, (count,), generator=generator).tolist() for side in (rows, columns))
        cut = [mask[y : y + height, x : x + width] for mask, y, x in zip(large, top, left, strict=True)]
        maps = torch.zeros(len(inputs), height, width)
        with evaluating(model):
            for i, target in enumerate(class_numbers(targets, count=len(inputs)).tolist()):
                for masks in torch.stack(cut).split(batch_size):
                    masked = inputs[i] * masks[:, None].to(inputs)
                    logits = logits_of(model(network_input(model, masked)), softmax=True).float().cpu()
                    maps[i] += torch.einsum("m,mhw->hw", logits.softmax(1)[:, target], masks)
        return maps / (count * keep)

    return explain


def constant(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
    """The same everywhere: what a test gives for area alone."""
    return torch.ones(len(inputs), *inputs.shape[2:])


def centre_gaussian(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
    """A bump in the middle, a quarter of the picture wide (standard deviation), whatever there is to see."""
    rows, columns = ((torch.arange(side) + 0.5 - side / 2) / (side / 4) for side in inputs.shape[2:])
    bump = torch.outer((-rows.square() / 2).exp(), (-columns.square() / 2).exp())
    return bump.expand(len(inputs), -1, -1)


def edges(model: nn.Module, inputs: Tensor, targets: Classes) -> Tensor:
    """Where brightness changes: scikit-image's Sobel filter of a picture's mean over colours, (N, H, W), ≥ 0."""
    from skimage.filters import sobel  # noqa: PLC0415 - takes a second, which most lessons do not need

    greys = inputs.detach().cpu().double().mean(1).numpy()
    return torch.stack([torch.from_numpy(sobel(grey)) for grey in greys]).float()


@torch.no_grad()
def _at_logit(model: nn.Module, inputs: Tensor, targets: Classes) -> tuple[nn.Module, Tensor, str, Tensor]:
    """What a method that goes back from a layer needs: 1 for the target's logit and 0 for all others."""
    with evaluating(model):
        logits = logits_of(model(network_input(model, inputs)))
    own = class_numbers(targets, classes=logits.shape[1], count=len(inputs)).to(logits.device)
    start = torch.zeros_like(logits).scatter_(1, own[:, None], 1)
    return nn.Sequential(uncompiled(model)), inputs, "0", start


def explain(
    explainer: Explainer, model: nn.Module, pictures: Tensor, targets: Classes, *, batch_size: int = 32
) -> Tensor:
    """The maps of an explainer, checked, and enlarged to the pictures' size.

    The explainer is given pictures and classes on the model's device.

    Args:
        explainer: see ``Explainer``.
        model: what is to be explained.
        pictures: its input, float, shape (N, 3, H, W).
        targets: the class to look for, one for all pictures or shape (N,).
        batch_size: how many pictures to give to the explainer at once.

    Returns:
        Shape (N, H, W), on the CPU.

    Raises:
        ValueError: for no pictures, another number of classes, or what is not one map (h, w) a picture or holds NaN.
    """
    classes, maps, device = one_class_each(pictures, targets), [], device_of(model)
    for batch, own in zip(pictures.split(batch_size), classes.split(batch_size), strict=True):
        found = explainer(model, batch.to(device), own.to(device)).detach().cpu()
        if found.ndim == 4:
            found = found.sum(1)
        check_tensor("an explainer's maps", found, f"{len(batch)} h w", finite=True)
        maps.append(cam.upsample(found, (batch.shape[2], batch.shape[3])))
    return torch.cat(maps)


def one_class_each(pictures: Tensor, targets: Classes) -> Tensor:
    """The class of each picture, int64, shape (N,)."""
    check_tensor("pictures", pictures, "N C H W")
    return class_numbers(targets, count=len(pictures))
