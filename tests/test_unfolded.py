"""Unfolded convolutions compute what PyTorch's do, with the same weights, and leave the network as it was."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from lessons_lib.models.unfolded import UnfoldedConv2d, unfolded


@pytest.mark.parametrize("kernel", [1, 3, (3, 5)])
@pytest.mark.parametrize("stride", [1, 2, (1, 2)])
@pytest.mark.parametrize("padding", [0, 1, (2, 1)])
@pytest.mark.parametrize("size", [(7, 8), (4, 5)])
def test_an_unfolded_convolution_is_a_convolution(kernel, stride, padding, size):
    torch.manual_seed(0)
    ours = UnfoldedConv2d(4, 6, kernel, stride, padding, bias=False).double()
    theirs = nn.Conv2d(4, 6, kernel, stride, padding, bias=False).double()
    theirs.load_state_dict(ours.state_dict())
    a = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    b = a.detach().clone().requires_grad_()
    out_a, out_b = ours(a), theirs(b)
    torch.testing.assert_close(out_a, out_b)
    weights = torch.randn_like(out_b)
    (out_a * weights).sum().backward()
    (out_b * weights).sum().backward()
    torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)


@pytest.mark.parametrize(("size", "product"), [(2, True), (3, True), (4, False)])
def test_only_the_smallest_maps_become_products(size, product, monkeypatch):
    called = []
    monkeypatch.setattr(nn.Conv2d, "forward", lambda self, given: called.append(given) or given)
    UnfoldedConv2d(2, 2, 3, padding=1, bias=False)(torch.zeros(1, 2, size, size))
    assert bool(called) != product


def test_too_small_a_map_is_refused_as_by_pytorch():
    with pytest.raises(RuntimeError, match="size"):
        UnfoldedConv2d(2, 2, 3, bias=False)(torch.zeros(1, 2, 2, 2))


def test_a_whole_network_says_the_same_and_is_left_as_it_was():
    torch.manual_seed(0)
    model = resnet18(num_classes=7).eval()
    inputs = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        before = model(inputs)
        with unfolded(model):
            kinds = [type(layer) for layer in model.modules()]
            assert kinds.count(UnfoldedConv2d) == 16  # all but 7×7 and 1×1
            torch.testing.assert_close(model(inputs), before, rtol=1e-4, atol=1e-5)
        assert torch.equal(model(inputs), before)
    assert not any(isinstance(layer, UnfoldedConv2d) for layer in model.modules())


def test_the_network_is_left_as_it_was_on_an_error_too():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False))
    with pytest.raises(KeyboardInterrupt), unfolded(model):
        raise KeyboardInterrupt
    assert type(model[0]) is nn.Conv2d


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 4, 3, bias=True),
        nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.Conv2d(4, 4, 3, dilation=2, bias=False),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Conv2d(4, 4, 3, padding="same", bias=False),
        nn.Conv2d(4, 4, 5, bias=False),
    ],
)
def test_what_is_not_provided_for_is_left_alone(layer):
    with unfolded(nn.Sequential(layer)):
        assert type(layer) is nn.Conv2d
