"""A small network that every explanation of the course can look into: a chain, pooling and one linear layer."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from lessons_lib.checks import check_range, check_tensor

CHANNELS = (16, 32, 64, 96)
CONVOLUTIONS = tuple(f"conv{i}" for i in range(1, len(CHANNELS) + 1))


class ChainCNN(nn.Sequential):
    """Four convolutions with ReLUs, two max poolings, then average pooling and one linear layer.

    There is no batch norm and nothing is skipped, so a deconvnet can go back through it; the linear layer is given
    averages, so it has class activation maps; and it takes pictures of any size from 16 pixels on, so that it can be
    asked about several at once. Every layer is a module of its own: ``conv1``, ``relu1``, ``pool1``, ``conv2``, …,
    ``relu4``, ``average``, ``flatten``, ``linear``. Pictures of 64 pixels have 8×8 last feature maps.

    The input is float, shape (N, 3, H, W), in [−1, 1] (see ``lessons_lib.data.pictures.to_input``); the output is
    the logits, shape (N, classes). Convolutions begin as He et al. (2015) propose: without batch norm the usual
    initialisation of PyTorch lets the signal fade.

    Args:
        classes: number of classes.
    """

    def __init__(self, classes: int = 10) -> None:
        first, second, third, fourth = CHANNELS
        super().__init__(
            OrderedDict[str, nn.Module](
                conv1=nn.Conv2d(3, first, kernel_size=5, stride=2, padding=2),
                relu1=nn.ReLU(),
                pool1=nn.MaxPool2d(2),
                conv2=nn.Conv2d(first, second, kernel_size=3, padding=1),
                relu2=nn.ReLU(),
                pool2=nn.MaxPool2d(2),
                conv3=nn.Conv2d(second, third, kernel_size=3, padding=1),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(third, fourth, kernel_size=3, padding=1),
                relu4=nn.ReLU(),
                average=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                linear=nn.Linear(fourth, classes),
            )
        )
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of pictures (N, 3, H, W).

        Raises:
            ValueError: if they are not pictures of three channels and at least 16 pixels a side.
        """
        check_tensor("pictures for ChainCNN", images, "N 3 H W")
        check_range("the side of pictures for ChainCNN", min(images.shape[2:]), 16)
        return super().forward(images)  # type: ignore[no-any-return, unused-ignore]
