"""Zeiler and Fergus's network, as they describe it and small enough to train on two cores."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from lessons_lib.checks import check_tensor

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
"""The names of its convolutions, first to last."""


class ZFNet(nn.Sequential):
    """The network of Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), figure 3.

    The input is float, shape (N, 3, 224, 224); the output is the logits, shape (N, classes). Every layer is a
    module of its own, called by its kind and number: ``conv1``, ``relu1``, ``pool1``, ``norm1``, …, ``fc8``.
    ``norm1`` and ``norm2`` are the contrast normalisation across channels. Weights begin at a standard deviation
    of 0.01 and biases at 0, as in §3 of the paper.

    Args:
        classes: number of classes.
        dropout: share of fc6's and fc7's inputs dropped in training.
    """

    def __init__(self, classes: int = 1000, dropout: float = 0.5) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(3, 96, kernel_size=7, stride=2, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(3, stride=2, padding=1),
                norm1=nn.LocalResponseNorm(5, k=2),
                conv2=nn.Conv2d(96, 256, kernel_size=5, stride=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(3, stride=2, padding=1),
                norm2=nn.LocalResponseNorm(5, k=2),
                conv3=nn.Conv2d(256, 384, kernel_size=3, padding=1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(384, 384, kernel_size=3, padding=1),
                relu4=nn.ReLU(),
                conv5=nn.Conv2d(384, 256, kernel_size=3, padding=1),
                relu5=nn.ReLU(),
                pool5=nn.MaxPool2d(3, stride=2),
                flatten=nn.Flatten(),
                drop6=nn.Dropout(dropout),
                fc6=nn.Linear(256 * 6 * 6, 4096),
                relu6=nn.ReLU(),
                drop7=nn.Dropout(dropout),
                fc7=nn.Linear(4096, 4096),
                relu7=nn.ReLU(),
                fc8=nn.Linear(4096, classes),
            )
        )
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 3, 224, 224).

        Raises:
            ValueError: for another shape.
        """
        return _forward(self, images, 224)


class SmallZFNet(nn.Sequential):
    """The same layers for pictures of 64 pixels, with fewer channels.

    The first layer is the paper's 7×7 with stride 2; the second keeps stride 1, for 64 pixels shrink soon enough.
    Contrast normalisation is left out: it cost half of the training time. The input is float, shape
    (N, 3, 64, 64), in [−1, 1]; the output is the logits, shape (N, classes).

    Only ``conv1`` begins as small as in the paper, so that what one sees in its filters was learned; the others
    begin as He et al. (2015) propose, since the net is trained for few epochs.

    Args:
        classes: number of classes.
        dropout: share of fc6's and fc7's inputs dropped in training.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=1),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(3, stride=2, padding=1),
                conv2=nn.Conv2d(64, 96, kernel_size=5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(3, stride=2, padding=1),
                conv3=nn.Conv2d(96, 128, kernel_size=3, padding=1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(128, 128, kernel_size=3, padding=1),
                relu4=nn.ReLU(),
                conv5=nn.Conv2d(128, 128, kernel_size=3, padding=1),
                relu5=nn.ReLU(),
                pool5=nn.MaxPool2d(3, stride=2),
                flatten=nn.Flatten(),
                drop6=nn.Dropout(dropout),
                fc6=nn.Linear(128 * 3 * 3, 256),
                relu6=nn.ReLU(),
                drop7=nn.Dropout(dropout),
                fc7=nn.Linear(256, 256),
                relu7=nn.ReLU(),
                fc8=nn.Linear(256, classes),
            )
        )
        for name, parameter in self.named_parameters():
            if name == "conv1.weight":
                nn.init.normal_(parameter, std=0.01)
            elif name.endswith("weight"):
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
            else:
                nn.init.zeros_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 3, 64, 64).

        Raises:
            ValueError: for another shape.
        """
        return _forward(self, images, 64)


def _forward(network: nn.Sequential, images: Tensor, size: int) -> Tensor:
    check_tensor(f"pictures of {size}×{size}", images, "N 3 H W")
    features = images
    for layer in network:
        # not sooner, so that receptive fields can be measured on larger pictures
        if isinstance(layer, nn.Flatten):
            check_tensor(f"pictures of {size}×{size}", images, f"N 3 {size} {size}")
        features = layer(features)
    return features
