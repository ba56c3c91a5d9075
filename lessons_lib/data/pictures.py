"""The one form every data set of the course comes in: a stack of pictures, their labels, the class names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from lessons_lib.checks import check_range, check_tensor


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures held in memory.

    Attributes:
        images: uint8, shape (N, 3, H, W), values 0–255, channels red, green, blue.
        labels: int64, shape (N,), each an index into ``classes``.
        classes: the class names.
        source: where the pictures come from, in a few words.

    Raises:
        TypeError: if images are not uint8 or labels are not int64.
        ValueError: if the shapes do not fit each other, or a label has no class name.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        """Check that the tensors fit together."""
        if not self.images.numel() and not self.labels.numel():
            return  # what is left out of a set may be nothing
        check_tensor("images", self.images, "N 3 H W", torch.uint8)
        check_tensor("labels of these images", self.labels, f"{len(self.images)}", torch.int64)
        for label in self.labels.aminmax():
            check_range("a label", int(label), 0, len(self.classes) - 1)

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.images)

    def subset(self, index: Tensor | slice | Sequence[int]) -> Self:
        """The pictures at ``index`` (a slice, positions or a boolean mask), classes unchanged."""
        return replace(self, images=self.images[index], labels=self.labels[index])

    def fingerprint(self) -> str:
        """A checksum of pixels, labels and class names (SHA-256): another if any of them or their order differs."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), self.classes)).encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy().data)
        return digest.hexdigest()


def to_input(images: Tensor, size: int | None = None) -> Tensor:
    """Turn uint8 pictures (0–255) into what the course's own networks take: float32 in [−1, 1].

    Args:
        images: uint8, shape (N, 3, H, W); any shape if ``size`` is ``None``.
        size: the side in pixels to which the pictures are resized (bilinear), for networks that want larger
            pictures than the data set has; by default they keep their size.

    Raises:
        TypeError: if ``images`` is not uint8, so that nothing is scaled twice.

    >>> to_input(torch.tensor([0, 255], dtype=torch.uint8))
    tensor([-1.,  1.])
    """
    if images.dtype != torch.uint8:
        raise TypeError(f"to_input expects uint8 pictures in 0–255, got {images.dtype}: already scaled?")
    scaled = images.float().div_(127.5).sub_(1)
    if size is None or images.shape[-2:] == (size, size):
        return scaled
    return F.interpolate(scaled, (size, size), mode="bilinear", antialias=size < max(images.shape[-2:]))


def to_picture(inputs: Tensor) -> Tensor:
    """Undo ``to_input``: float in [−1, 1] back to uint8 in 0–255, values outside clipped."""
    return inputs.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
