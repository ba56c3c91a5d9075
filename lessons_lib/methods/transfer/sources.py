"""Trained networks to reuse, each with all that is needed to reuse it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.checks import check_choice, check_range
from lessons_lib.data.archives import CIFAR_CLASSES
from lessons_lib.data.pictures import to_input
from lessons_lib.models import checkpoints
from lessons_lib.models.small_cnn import BLOCKS, SmallCNN

SMALL_CNN = "small_cnn_cifar10"
"""The name of the course's small CNN, for ``load``."""
RESNET18 = "resnet18_cifar10"
"""The name of the course's ResNet-18, for ``load``."""
_RESNET = ("relu", "layer1", "layer2", "layer3", "layer4", "avgpool")
_IMAGENET = {
    "efficientnet_lite0": (*(f"blocks.{stage}" for stage in range(7)), "global_pool"),
    "resnet50": _RESNET,
}


@dataclass(frozen=True)
class Source:
    """A trained network to reuse.

    Attributes:
        name: what it is called.
        model: in evaluation mode, giving logits.
        transform: turns uint8 pictures (N, 3, H, W) of any size into its input.
        classes: the names of what it was trained to tell apart.
        layers: names to probe, in the order they run; the last is what the head sees.
    """

    name: str
    model: nn.Module
    transform: Callable[[Tensor], Tensor]
    classes: tuple[str, ...]
    layers: tuple[str, ...]


def load(name: str = SMALL_CNN, *, size: int = 96) -> Source:
    """The source network ``name``.

    Args:
        name: "small_cnn_cifar10" or "resnet18_cifar10", both shipped; or "efficientnet_lite0", which comes with the
            dependencies, or "resnet50", both trained on ImageNet.
        size: side in pixels to which pictures are resized for all but the small CNN, at least 32. The ResNet-18
            learned at 96, and those of ImageNet at 224: what they learned carries over to less, at a fraction of the
            cost.

    Raises:
        ValueError: for an unknown name or too small a size.
        ConnectionError: if the weights are neither on this machine nor reachable; the message says how to get them.
    """
    check_choice("source", name, (SMALL_CNN, RESNET18, *_IMAGENET))
    if name == SMALL_CNN:
        small = checkpoints.restore(SmallCNN(), SMALL_CNN)
        return Source(name, small, to_input, CIFAR_CLASSES, (*BLOCKS, "embedding"))
    check_range("size", size, 32)
    if name == RESNET18:
        # imported here, since timm and torchvision take seconds
        from torchvision.models import resnet18  # noqa: PLC0415

        own = checkpoints.restore(resnet18(num_classes=len(CIFAR_CLASSES)), RESNET18)
        return Source(name, own, partial(to_input, size=size), CIFAR_CLASSES, _RESNET)
    from lessons_lib.models import imagenet  # noqa: PLC0415

    classifier = imagenet.load(name)

    def transform(images: Tensor) -> Tensor:
        small = size < max(images.shape[-2:])
        return classifier.normalise(
            F.interpolate(images.float(), (size, size), mode="bilinear", antialias=small)
        )

    return Source(name, classifier.model, transform, classifier.categories, _IMAGENET[name])
