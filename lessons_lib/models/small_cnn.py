"""The course's small CNN for 32×32 pictures: five blocks, each with a name a lesson can ask for."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from lessons_lib.checks import check_tensor

CHANNELS = (32, 64, 128, 256, 256)
BLOCKS = tuple(f"block{i}" for i in range(1, len(CHANNELS) + 1))
"""The names of its blocks, first to last."""


def _block(inputs: int, outputs: int, pool: bool) -> nn.Sequential:
    """2×2 max pooling (all blocks but the first), then 3×3 convolution, batch norm and ReLU."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if pool:
        layers["pool"] = nn.MaxPool2d(2)
    # the bias would be cancelled by batch norm's mean
    layers["conv"] = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    layers["norm"] = nn.BatchNorm2d(outputs)
    layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


class SmallCNN(nn.Module):
    """Five blocks of conv 3×3, batch norm and ReLU (32, 64, 128, 256, 256 channels), then 1024 → 64 → classes.

    The input is float, shape (N, 3, 32, 32), in [−1, 1] (see ``lessons_lib.data.pictures.to_input``);
    the output is the logits, shape (N, classes). ``block1`` … ``block5`` give feature maps of 32, 16, 8, 4
    and 2 pixels a side; ``embedding`` gives the 64 features before the last layer.

    Args:
        classes: number of classes.
        dropout: share of the 64 features dropped in training.
    """

    def __init__(self, classes: int = 10, dropout: float = 0.5) -> None:
        super().__init__()
        widths = (3, *CHANNELS)
        for i, name in enumerate(BLOCKS):
            self.add_module(name, _block(widths[i], widths[i + 1], pool=i > 0))
        self.flatten = nn.Flatten()
        self.embedding = nn.Sequential(nn.Linear(CHANNELS[-1] * 2 * 2, 64), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(64, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, classes) of ``images`` (N, 3, 32, 32).

        Raises:
            ValueError: if the pictures are not 32×32 in three channels.
        """
        check_tensor("pictures of 32×32", images, "N 3 H W")
        features = images
        for name in BLOCKS:
            features = self.get_submodule(name)(features)
        # not sooner, so that the blocks' receptive fields can be measured on larger pictures
        check_tensor("pictures of 32×32", images, "N 3 32 32")
        return self.classifier(self.dropout(self.embedding(self.flatten(features))))
