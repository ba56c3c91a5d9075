"""The incremental plan equals the whole network for whatever it accepts, and refuses what it does not know."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessons_lib.methods.occlusion import Occluder, occlude


def agree(model, image, boxes):
    """Whether the incremental and the whole network say the same; the occluder."""
    filled = torch.full_like(image, 0.4)
    incremental = Occluder(model, image)
    whole = Occluder(model, image, incremental=False)
    torch.testing.assert_close(incremental(boxes, filled)[0], whole(boxes, filled)[0], atol=1e-10, rtol=0)
    return incremental


@st.composite
def networks(draw):
    """Random stacks of what a plan may hold."""
    layers, channels = [], 3
    for _ in range(draw(st.integers(1, 4))):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        padding = draw(st.integers(0, kernel // 2))
        match draw(st.sampled_from(["conv", "depthwise", "max", "average", "pad"])):
            case "conv":
                wide = draw(st.sampled_from([2, 4]))
                layers.append(
                    nn.Conv2d(channels, wide, kernel, stride, padding, dilation=draw(st.integers(1, 2)))
                )
                channels = wide
            case "depthwise":
                layers.append(
                    nn.Conv2d(channels, channels, kernel, stride, padding, groups=channels, bias=False)
                )
                layers.append(nn.BatchNorm2d(channels))
            case "max":
                layers.append(nn.MaxPool2d(kernel, stride, padding, ceil_mode=draw(st.booleans())))
            case "average":
                layers.append(nn.AvgPool2d(kernel, stride))
            case "pad":
                layers.append(nn.ConstantPad2d((1, 0, 2, 3), 0.7))
        layers.append(
            draw(st.sampled_from([nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.SiLU(), nn.Identity()]))
        )
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 3))


@given(networks(), st.data())
@settings(max_examples=20, deadline=None)
def test_any_stack_any_patch(model, data):
    torch.manual_seed(0)
    height, width = data.draw(st.integers(28, 40)), data.draw(st.integers(28, 40))
    image = torch.randn(3, height, width, dtype=torch.float64)
    model = model.double().eval()
    try:
        with torch.no_grad():
            model(image[None])
    except RuntimeError:  # maps too small for the next kernel
        return
    boxes = []
    for _ in range(data.draw(st.integers(1, 3))):
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        boxes.append(
            [top, left, data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))]
        )
    occluder = agree(model, image, torch.tensor(boxes))
    assert occluder.plan is not None, occluder.whole_because


class Branches(nn.Module):
    """Reads its maps again after others: sums of windows of different sizes, in place where that may go wrong."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.first, self.wide = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 5, padding=2)
        self.second, self.norm = nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)
        self.last = nn.Linear(12 if how in {"concatenated", "norm of a shared map"} else 6, 4)

    def forward(self, x):
        x = self.first(x)
        match self.how:
            case "sum":
                x = self.wide(x).relu_() + self.second(x)
            case "sum the other way":
                x = self.second(x) + self.wide(x).relu_()
            case "into the map itself":
                x += self.wide(x)
                x = x.relu_() * x + 2 * x - x / 3
            case "concatenated":
                x = torch.cat([self.second(x), self.wide(x)], 1)
            case "norm of a shared map":
                x = self.wide(x)
                x = torch.cat([self.norm(x), 1 - x.sigmoid()], 1)
            case "functional pooling":
                x = F.max_pool2d(F.relu(self.wide(x)), 3, 2, 1)
            case "padding of a shared map":
                x = F.pad(x, (1, 1, 1, 1)).relu_() + self.wide(F.pad(x, (1, 1, 1, 1)))
        return self.last(x.mean((2, 3)))


@pytest.mark.parametrize(
    "how",
    [
        "sum",
        "sum the other way",
        "into the map itself",
        "concatenated",
        "norm of a shared map",
        "functional pooling",
        "padding of a shared map",
    ],
)
def test_branches(how):
    torch.manual_seed(0)
    model = Branches(how).double()
    nn.init.uniform_(model.norm.running_var, 0.5, 2)
    boxes = torch.tensor([[0, 0, 4, 4], [10, 12, 17, 15], [20, 0, 24, 24], [0, 0, 24, 24]])
    image = torch.randn(3, 24, 24, dtype=torch.float64)
    for some in boxes.split(1):
        occluder = agree(model, image, some)
        assert occluder.plan is not None, occluder.whole_because


class Odd(nn.Module):
    """Does one thing in the middle that is not local, or not known."""

    def __init__(self, odd):
        super().__init__()
        self.odd = odd
        self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 3)
        self.up = nn.ConvTranspose2d(8, 8, 2)
        self.place = nn.Parameter(torch.randn(8, 14, 14))

    def forward(self, x):
        return self.last(self.odd(self, self.first(x)).mean((2, 3)))


def shaky(model, x):
    return x + torch.rand(())


def depends_on_values(model, x):
    return x if x.mean() > 0 else -x


ODD = {
    "squeeze and excitation": lambda model, x: x * x.mean((2, 3), keepdim=True).sigmoid(),
    "mean over the batch": lambda model, x: x - x.mean(0),
    "mean over channels": lambda model, x: x * x.mean(1, keepdim=True),
    "softmax over positions": lambda model, x: x * x.flatten(2).softmax(2).view_as(x),
    "layer norm": lambda model, x: F.layer_norm(x, x.shape[1:]),
    "instance norm": lambda model, x: F.instance_norm(x),
    "transposed convolution": lambda model, x: model.up(x),
    "flipped": lambda model, x: x.flip(2),
    "cut": lambda model, x: F.pad(x, (-1, 0, 0, 0)),
    "a constant for each place": lambda model, x: x + model.place,
    "averages over the border": lambda model, x: F.avg_pool2d(x, 3, 2, 1),
    "the places of the maxima": lambda model, x: F.max_pool2d(x, 2, return_indices=True)[1].to(x),
    "batch in the channels": lambda model, x: x.reshape(1, -1, 14, 14).reshape(x.shape).roll(1, 3),
    "depends on values": depends_on_values,
    "random": shaky,
    "changed under another name": lambda model, x: (x.flatten(1).relu_(), x)[1],
}


@pytest.mark.parametrize("what", ODD)
def test_refuses_and_runs_the_whole_network(what):
    torch.manual_seed(0)
    model, image = Odd(ODD[what]).double(), torch.randn(3, 16, 16, dtype=torch.float64)
    occluder = Occluder(model, image)
    assert occluder.plan is None
    assert len(occluder.whole_because) > 10
    if what == "random":
        return
    result = occlude(model, image, 1, patch=5, stride=7, progress=False)
    assert f"the whole network ran for each patch, because {occluder.whole_because}" in result.note
    for row, top in enumerate(result.tops.tolist()):
        for column, left in enumerate(result.lefts.tolist()):
            patched = image.clone()
            patched[:, max(0, top) : top + 5, max(0, left) : left + 5] = 0
            with torch.no_grad():
                expected = model(patched[None]).softmax(1)[0, 1]
            if what != "mean over the batch":
                assert torch.isclose(result.probabilities[0, row, column].double(), expected, atol=1e-6)


def test_a_plan_that_is_wrong_is_noticed(monkeypatch):
    """Whatever escapes the rules is caught by comparing a few patches with the network itself."""
    from lessons_lib.incremental import plan

    torch.manual_seed(0)
    model, image = Odd(lambda model, x: x).double(), torch.randn(3, 16, 16, dtype=torch.float64)
    assert Occluder(model, image).plan is not None

    def blank(clean, wanted, fill):
        return torch.zeros(1, clean.shape[1], *(last - first for first, last in wanted)).to(clean)

    monkeypatch.setattr(plan, "_window", blank)
    assert "differ" in Occluder(model, image).whole_because


def test_costs_fewer_multiply_adds_the_farther_from_the_middle():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    occluder = Occluder(resnet18(), torch.randn(3, 128, 128))
    whole = occluder.plan.work((0, 128), (0, 128))
    middle = occluder.plan.work((56, 72), (56, 72))
    corner = occluder.plan.work((0, 8), (0, 8))
    assert corner < middle < 0.7 * whole
