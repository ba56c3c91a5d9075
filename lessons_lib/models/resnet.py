"""The course's own ResNet-18 for CIFAR-10, made of layers that train fast on few processor cores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18


class UnfoldedConv2d(nn.Conv2d):
    """A convolution computed as one matrix product over the patches of its input ("im2col").

    The numbers and the weights are those of ``nn.Conv2d``. On maps of a few positions and hundreds of channels
    the backward pass of PyTorch's convolution on a CPU takes several times as long as this product.
    Dilation, groups, bias and padding modes other than zeros are not provided for.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Output (N, out_channels, H', W') of input (N, in_channels, H, W)."""
        (kernel_h, kernel_w), (step_h, step_w) = self.kernel_size, self.stride
        pad_h, pad_w = (int(pad) for pad in self.padding)
        # channels last, so that a row of the matrix is made of whole pixels
        pixels = F.pad(input.permute(0, 2, 3, 1), (0, 0, pad_w, pad_w, pad_h, pad_h))
        height = (pixels.shape[1] - kernel_h) // step_h + 1
        width = (pixels.shape[2] - kernel_w) // step_w + 1
        patches = torch.cat(
            [
                pixels[
                    :, y : y + step_h * (height - 1) + 1 : step_h, x : x + step_w * (width - 1) + 1 : step_w
                ]
                for y in range(kernel_h)
                for x in range(kernel_w)
            ],
            dim=-1,
        )
        return F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1)).permute(0, 3, 1, 2)


def trainable_resnet18(classes: int = 10) -> ResNet:
    """A torchvision ResNet-18 whose last two stages, of small maps, train as matrix products.

    Its weights fit ``torchvision.models.resnet18(num_classes=classes)``, which is the better choice to look into.
    """
    model = resnet18(num_classes=classes)
    for stage in (model.layer3, model.layer4):
        for layer in stage.modules():
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3):
                layer.__class__ = UnfoldedConv2d
    return model
