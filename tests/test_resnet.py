"""The fast-training ResNet-18 computes what torchvision's does, with the same weights."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from lessons_lib.models.resnet import UnfoldedConv2d, trainable_resnet18


@pytest.mark.parametrize("kernel", [1, 3, (3, 5)])
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
def test_an_unfolded_convolution_is_a_convolution(kernel, stride, padding):
    torch.manual_seed(0)
    ours = UnfoldedConv2d(4, 6, kernel, stride, padding, bias=False).double()
    theirs = nn.Conv2d(4, 6, kernel, stride, padding, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    a = torch.randn(2, 4, 7, 8, dtype=torch.float64, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    out_a, out_b = ours(a), theirs(b)
    torch.testing.assert_close(out_a, out_b)
    weights = torch.randn_like(out_b)
    (out_a * weights).sum().backward()
    (out_b * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


def test_its_weights_fit_torchvisions_network_and_say_the_same():
    torch.manual_seed(0)
    ours, theirs = trainable_resnet18(7).eval(), resnet18(num_classes=7).eval()
    theirs.load_state_dict(ours.state_dict())
    assert sum(isinstance(layer, UnfoldedConv2d) for layer in ours.modules()) == 8
    inputs = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), theirs(inputs), rtol=1e-4, atol=1e-5)
