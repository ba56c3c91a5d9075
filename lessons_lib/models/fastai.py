"""The bridge to fastai: the course's ImageNet networks as architectures, pictures in memory as DataLoaders.

Import it before fastai itself: it keeps fastai's import from printing a warning of its own.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from lessons_lib.checks import check_range
from lessons_lib.data.pictures import Pictures
from lessons_lib.models import imagenet

with warnings.catch_warnings():
    # fastai 2.8 calls torch.jit.script when it is imported, which torch 2.15 deprecates
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning)
    from fastai.callback.core import Callback, TrainEvalCallback
    from fastai.data.core import DataLoaders, TfmdDL
    from fastai.data.transforms import IntToFloatTensor, Transform
    from fastai.torch_core import TensorCategory, TensorImage
    from fastai.vision.learner import default_split, model_meta


@dataclass(frozen=True, eq=False)
class Backbone:
    """An ImageNet network as fastai's ``arch``: a function that makes the network, pretrained or not.

    Those of the same name are equal, so that fastai finds what ``backbone`` told it without keeping a network.

    Attributes:
        classifier: the network and how to prepare pictures for it.
    """

    classifier: imagenet.ImageNetClassifier

    def __call__(self, pretrained: bool = True) -> nn.Module:
        """A fresh copy of the pretrained network, or one with random weights."""
        network = (
            copy.deepcopy(self.classifier.model) if pretrained else imagenet.untrained(self.classifier.name)
        )
        # faster on a processor
        return network.to(memory_format=torch.channels_last)

    def __eq__(self, other: object) -> bool:
        """Whether both are of the same name."""
        return isinstance(other, Backbone) and other.classifier.name == self.classifier.name

    def __hash__(self) -> int:
        """The name's."""
        return hash(self.classifier.name)


def backbone(name: str = imagenet.OFFLINE) -> Backbone:
    """One of the course's ImageNet networks as an architecture for ``vision_learner``; says what was loaded.

    By itself fastai would download torchvision's weights, and does not know EfficientNet-Lite0. This one takes them
    from ``lessons_lib.models.imagenet.load``, and tells fastai how to normalise the pictures.

    Args:
        name: one of ``lessons_lib.models.imagenet.NAMES``.

    Raises:
        ValueError: for an unknown name.
        ConnectionError: if the weights are neither on this machine nor reachable; the text says how to get them.
    """
    arch = Backbone(imagenet.load(name))
    stats = arch.classifier.mean, arch.classifier.std
    # fastai's table is never emptied, so the key must not hold the network
    key = Backbone(replace(arch.classifier, model=nn.Identity()))
    # no cut: fastai cuts before the last child that holds a pooling layer
    model_meta[key] = {"cut": None, "split": default_split, "stats": stats}
    return arch


class FrozenBatchNorm(Callback):
    """Train with the averages that batch norm came with, in frozen and in unfrozen layers.

    fastai trains every batch norm layer, in a frozen body too, unless told ``train_bn=False``; its own ``BnFreeze``
    leaves alone what is frozen, and so ends its work when ``fine_tune`` unfreezes the body. The averages over a few
    small batches are bad ones, and a network that depends on them as much as EfficientNet-Lite0 is lost.
    """

    run_after = TrainEvalCallback

    def before_train(self) -> None:
        """Put each batch norm layer into evaluation mode after fastai has put all layers into training mode."""
        for module in self.learn.model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


@dataclass(frozen=True)
class _Items:
    """``Pictures`` as fastai's pairs of picture and label: one of them, or several at once."""

    pictures: Pictures

    @property
    def vocab(self) -> tuple[str, ...]:
        """The names of the classes, where fastai looks for them."""
        return self.pictures.classes

    def new_empty(self) -> _Items:
        """What fastai exports with a learner in place of the data."""
        return _Items(self.pictures.subset(slice(0, 0)))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int | list[int]) -> tuple[TensorImage, TensorCategory]:
        return TensorImage(self.pictures.images[index]), TensorCategory(self.pictures.labels[index])


class _BatchLoader(TfmdDL):
    """Takes a whole batch out of its items at once: to collect picture by picture takes longer than to train."""

    def create_batches(self, indices: Iterable[int]) -> Iterator[tuple[TensorImage, TensorCategory]]:
        return (self.dataset[chunk] for chunk in self.chunkify(indices))


def dataloaders(
    train: Pictures, valid: Pictures, *, size: int | None = None, batch_size: int = 64
) -> DataLoaders:
    """Pictures in memory as fastai's DataLoaders: floats in 0–1, not augmented, loaded in this process.

    They are not normalised either: ``vision_learner`` adds what its architecture needs, ``Learner`` adds nothing.

    Args:
        train: to learn from, shuffled before each epoch; the last, smaller batch of an epoch is left out.
        valid: to measure on.
        size: side in pixels to which a batch is resized (bilinear); by default pictures keep their size.
        batch_size: pictures a step.

    Raises:
        ValueError: if the classes differ, or there is not one batch to learn from and one picture to measure on.
    """
    if train.classes != valid.classes:
        raise ValueError(f"both sets need the same classes, not {train.classes} and {valid.classes}")
    check_range("the number of pictures to learn from", len(train), batch_size)
    check_range("the number of pictures to measure on", len(valid), 1)
    after_batch = [IntToFloatTensor(), *([_Resize(size)] if size else [])]
    loader = partial(_BatchLoader, bs=batch_size, num_workers=0, after_batch=after_batch)
    return DataLoaders(loader(_Items(train), shuffle=True, drop_last=True), loader(_Items(valid)))


class _Resize(Transform):
    """Resize a batch of floats, after they became floats and before they are normalised."""

    order = 50

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__()

    def encodes(self, batch: TensorImage) -> TensorImage:
        """Shape (N, 3, size, size)."""
        return F.interpolate(batch, (self.size, self.size), mode="bilinear", antialias=True)
