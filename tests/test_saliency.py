"""Gradient and guided backpropagation equal captum's, and the network is left as it was."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessons_lib.methods.deconvnet import keep, project, trace
from lessons_lib.methods.saliency import gradient, guided_backpropagation
from tests.test_hooks import hook_count

PICTURES = torch.randn(3, 3, 13, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(relu=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), relu(), nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(6, 4, 3, padding=1), relu(), nn.Flatten(), nn.Linear(24, 5),
    ).double()  # fmt: skip


def one_hot(net, layer, *index):
    with torch.no_grad():
        start = torch.zeros_like(net[: int(layer) + 1](PICTURES))
    start[:, *index] = 1
    return start


def captum(name, net, target):
    import captum.attr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"abs": False} if name == "Saliency" else {}
        return getattr(captum.attr, name)(net).attribute(PICTURES, target=target, **options)


@pytest.mark.parametrize(
    ("method", "name"), [(gradient, "Saliency"), (guided_backpropagation, "GuidedBackprop")]
)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("layer", "index"), [("6", (3,)), ("4", (2, 1, 0)), ("3", (1, 0, 1))])
def test_equal_captum(method, name, inplace, layer, index):
    net = network(lambda: nn.ReLU(inplace=inplace))
    ours = method(net, PICTURES, layer, one_hot(network(), layer, *index))
    theirs = captum(name, network()[: int(layer) + 1], index if len(index) > 1 else index[0])
    assert theirs.abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs)


def test_gradient_is_the_limit_of_differences():
    net, start = network(), one_hot(network(), "4", 1, 0, 0)
    slope = gradient(net, PICTURES, "4", start)
    direction = torch.randn_like(PICTURES)

    def value(step):
        with torch.no_grad():
            return (net[:5](PICTURES + step * direction) * start).sum()

    assert value(1e-6) - value(-1e-6) == pytest.approx(2e-6 * (slope * direction).sum().item(), rel=1e-4)


def test_without_a_relu_on_the_way_the_gradient_and_the_deconvnet_agree():
    net = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 4, 2)).double()
    way_up = trace(net, PICTURES, "2")
    start = keep(way_up.activations, 2)
    torch.testing.assert_close(project(way_up, start).pixels, gradient(net, PICTURES, "2", start))
    with pytest.raises(ValueError, match="there is no ReLU"):
        guided_backpropagation(net, PICTURES, "2", start)


def test_the_three_rules_of_a_relu():
    """One ReLU between two fixed layers: what comes down is 3, −2, 5 for features 1, 4, −1."""
    net = nn.Sequential(nn.Conv2d(1, 3, 1, bias=False), nn.ReLU(), nn.Conv2d(3, 1, 1, bias=False))
    with torch.no_grad():
        net[0].weight[:, 0, 0, 0] = torch.tensor([1.0, 4.0, -1.0])
        net[2].weight[0, :, 0, 0] = torch.tensor([3.0, -2.0, 5.0])
    picture, start = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    assert gradient(net, picture, "2", start).item() == 3 * 1 - 2 * 4
    assert guided_backpropagation(net, picture, "2", start).item() == 3 * 1
    assert project(trace(net, picture, "2"), start).pixels.item() == 3 * 1 + 5 * -1


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.relu, self.conv2 = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        return F.relu(self.conv2(self.relu(self.conv1(x))))


def test_a_relu_is_rectified_whether_it_is_a_module_or_not():
    net = Functional()
    modules = nn.Sequential(net.conv1, net.relu, net.conv2, nn.ReLU(), nn.Conv2d(4, 2, 1))
    pictures, start = torch.rand(2, 3, 8, 8), torch.ones(2, 2, 4, 4)
    torch.testing.assert_close(
        guided_backpropagation(nn.Sequential(net, modules[4]), pictures, "1", start),
        guided_backpropagation(modules, pictures, "4", start),
    )


def test_a_relu_used_twice_is_rectified_twice():
    class Reusing(nn.Sequential):
        def forward(self, x):
            return self[3](self[1](self[2](self[1](self[0](x)))))

    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 2, 1)
    pictures, start = torch.rand(2, 3, 8, 8), torch.ones(2, 2, 4, 4)
    expected = guided_backpropagation(
        nn.Sequential(layers[0], nn.ReLU(), layers[2], nn.ReLU(), layers[3]), pictures, "4", start
    )
    torch.testing.assert_close(guided_backpropagation(Reusing(*layers), pictures, "3", start), expected)
    with pytest.raises(ValueError, match="ran 2 times"):
        gradient(Reusing(*layers), pictures, "1", torch.ones(2, 4, 4, 4))


def test_result_does_not_depend_on_the_batch():
    start = one_hot(network(), "4", 2, 1, 0)
    for method in (gradient, guided_backpropagation):
        together = method(network(), PICTURES, "4", start)
        for i in range(3):
            alone = method(network(), PICTURES[i : i + 1], "4", start[i : i + 1])
            torch.testing.assert_close(together[i : i + 1], alone, atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("method", [gradient, guided_backpropagation])
def test_the_network_is_left_as_it_was(method):
    net = network().train()
    net[1].eval()
    net(PICTURES).sum().backward()
    flags = [module.training for module in net.modules()]
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    pictures = PICTURES.clone()
    start = one_hot(net, "4", 2, 1, 0)
    with torch.inference_mode():
        method(net, pictures, "4", start)
    method(net.requires_grad_(False), pictures, "4", start)
    for bad in ("9", "4"):
        with pytest.raises(ValueError, match="no layer" if bad == "9" else "shape"):
            method(net, pictures, bad, start[:1])
    assert torch.equal(pictures, PICTURES)
    assert not pictures.requires_grad
    assert [module.training for module in net.modules()] == flags
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert hook_count(net) == 0


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (PICTURES.to(torch.uint8), TypeError, "to_input"),
        (PICTURES[:0], ValueError, "empty"),
        (PICTURES * torch.nan, ValueError, "NaN"),
    ],
)
def test_bad_inputs_are_refused(inputs, error, message):
    with pytest.raises(error, match=message):
        gradient(network(), inputs, "4", one_hot(network(), "4", 0))


def test_a_layer_that_gives_no_tensor_or_did_not_run_is_refused():
    class Pair(nn.Module):
        def forward(self, x):
            return x, x

    class First(nn.Module):
        def forward(self, x):
            return x[0]

    net = nn.Sequential(Pair(), First())
    net.unused = nn.ReLU()
    net.forward = lambda x: net[1](net[0](x))
    with pytest.raises(TypeError, match="gives a tuple"):
        gradient(net, PICTURES, "0", PICTURES)
    with pytest.raises(ValueError, match="did not run"):
        gradient(net, PICTURES, "unused", PICTURES)
