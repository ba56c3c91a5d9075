"""The head is the layer whose output is the network's, wherever it is registered and however the network ends."""

import pytest
import torch
from torch import nn
from torchvision.models import alexnet, mobilenet_v3_small, squeezenet1_1, vit_b_16

from lessons_lib.methods.cam import find_head
from lessons_lib.methods.transfer import (
    head_from_classes,
    head_from_probe,
    slower_body,
    transfer,
    with_old_head,
)
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.models.zfnet import SmallZFNet, ZFNet
from lessons_lib.networks import head_name, noise

INPUTS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


class HeadFirst(nn.Module):
    """Registers its head before the linear layer that runs before it."""

    def __init__(self, hidden=7, classes=10):
        super().__init__()
        self.head = nn.Linear(hidden, classes)
        self.conv = nn.Conv2d(3, 5, 3)
        self.hidden = nn.Linear(5, hidden)

    def forward(self, x):
        return self.head(self.hidden(self.conv(x).mean((2, 3))).relu())


@pytest.mark.parametrize("hidden", [7, 10], ids=["other widths", "equal widths"])
def test_a_head_registered_before_another_linear_layer(hidden):
    torch.manual_seed(0)
    model = HeadFirst(hidden).eval()
    assert head_name(model) == head_name(model, INPUTS) == "head"
    tuned = transfer(model, 3)
    assert tuned(INPUTS).shape == (4, 3)
    assert torch.equal(tuned.network.hidden.weight, model.hidden.weight)
    body, head = slower_body(tuned, 1e-2)
    assert [tuple(p.shape) for p in head["params"]] == [(3, hidden), (3,)]
    assert len(body["params"]) == 4
    head_from_probe(tuned, [(INPUTS, torch.tensor([0, 1, 2, 1]))])
    head_from_classes(tuned, model, [4, 0, 9])
    with torch.no_grad():
        torch.testing.assert_close(tuned.eval()(INPUTS), model(INPUTS)[:, [4, 0, 9]])
        torch.testing.assert_close(with_old_head(tuned, model)(INPUTS), model(INPUTS))


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (SmallCNN, "classifier"),
        (alexnet, "classifier.6"),
        (mobilenet_v3_small, "classifier.3"),
        (vit_b_16, "heads.head"),
        (SmallZFNet, "fc8"),
        (ZFNet, "fc8"),
    ],
)
def test_heads_of_well_known_networks_whatever_size_they_take(build, name):
    assert head_name(build()) == name


def test_the_output_may_be_cast_after_the_head():
    class Cast(HeadFirst):
        def forward(self, x):
            return super().forward(x).float()

    assert head_name(Cast().double(), INPUTS.double()) == "head"


def test_half_precision_networks_have_heads():
    assert transfer(HeadFirst().bfloat16(), 3)(INPUTS.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "model",
    [
        squeezenet1_1(num_classes=4),
        nn.Sequential(SmallCNN(), nn.Softmax(1)),
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    ],
    ids=["a convolution as head", "softmax after the head", "no linear layer"],
)
def test_a_network_whose_output_is_no_linear_layers(model):
    for find in (head_name, lambda m: transfer(m, 3), lambda m: find_head(m, INPUTS)):
        with pytest.raises(ValueError, match=r"does not come from an nn\.Linear, so it has no head"):
            find(model)


def test_a_network_that_gives_no_tensor():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = SmallCNN()

        def forward(self, x):
            return {"out": self.inner(x)}

    with pytest.raises(TypeError, match="gives a dict of 'out', not one tensor of logits"):
        transfer(Two(), 3)


def test_a_head_that_the_network_also_uses_under_another_name():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(3, 6)
            self.second = self.first

        def forward(self, x):
            return self.second(x.mean((2, 3)))

    with pytest.raises(ValueError, match=r"'first', Twice gives shape \(1, 6\) .*another name"):
        transfer(Twice(), 3)


def test_a_network_that_takes_no_usual_size_needs_inputs():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3 * 48 * 48, 5)

        def forward(self, x):
            return self.fc(x.flatten(1))

    with pytest.raises(ValueError, match=r"takes no picture of 32, 64, 224 .*give inputs"):
        transfer(Fixed(), 3)
    assert sum(p.numel() for p in transfer(Fixed(), 3, torch.rand(2, 3, 48, 48)).parameters()) == 3 * (
        3 * 48 * 48 + 1
    )


def test_looking_for_the_head_leaves_no_trace():
    model = SmallCNN().train()
    model.block2.eval()
    flags = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    head_name(model)
    assert torch.equal(noise(model), noise(model))
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
