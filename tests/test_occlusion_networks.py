"""Occlusion of whatever networks people have: each comes out as in a plain loop, or is refused with advice."""

from __future__ import annotations

import contextlib
import copy
import re
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from lessons_lib.incremental import plan as plan_module
from lessons_lib.methods.occlusion import Occluder, occlude
from lessons_lib.methods.occlusion.occluder import weights_of
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.widgets.occlusion import patched_view
from tests.test_occlusion import naive, picture

REQUEST = {"patch": 7, "stride": 6, "progress": False}


class Network(nn.Module):
    """Some layers with a batch norm, a way from maps to features, and a linear head."""

    def __init__(self, flatten=lambda maps: maps.flatten(1), then=lambda logits: logits, *, inplace=False):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1),
            nn.BatchNorm2d(6),
            nn.ReLU(inplace),
            nn.Conv2d(6, 8, 3),
            nn.ReLU(inplace),
        )
        self.flatten, self.then = flatten, then
        norm = self.body[1]
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean)
        self.eval()
        with torch.no_grad():
            features = flatten(self.body(torch.randn(16, 3, 24, 20)))
        self.head = nn.Linear(features.shape[1], 4)
        # logits around 0 that differ from one picture to another by about 1
        nn.init.normal_(self.head.weight, std=1 / float(features.std(0).norm()))
        with torch.no_grad():
            self.head.bias.copy_(-self.head.weight @ features.mean(0))

    def forward(self, inputs):
        return self.then(self.head(self.flatten(self.body(inputs))))


def is_the_loop(model, image, close, **options):
    """Check a sweep against the loop; the sweep."""
    result = occlude(model, image, (0, 2), **REQUEST | options)
    expected = naive(model, image, 7, 6, torch.zeros_like(image))[[0, 2]].double()
    assert expected.std(dim=(1, 2)).max() > 1e-3, "a flat map would prove nothing"
    torch.testing.assert_close(result.probabilities.double(), expected, atol=close, rtol=0)
    return result


FLATTENS = {  # and whether the plan follows them
    "flatten": (lambda x: x.flatten(1), True),
    "view(size, -1)": (lambda x: x.view(x.size(0), -1), True),
    "view(-1, features)": (lambda x: x.view(-1, x.shape[1:].numel()), True),
    "view(size, features)": (lambda x: x.view(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]), True),
    "reshape(size, -1)": (lambda x: x.reshape(x.shape[0], -1), True),
    "reshape(len, C, -1), mean": (lambda x: x.reshape(len(x), x.shape[1], -1).mean(2), True),
    "AdaptiveAvgPool2d(1), flatten": (lambda x: F.adaptive_avg_pool2d(x, 1).flatten(1), True),
    "AdaptiveAvgPool2d(3), view": (lambda x: F.adaptive_avg_pool2d(x, 3).view(x.size(0), -1), True),
    "AdaptiveMaxPool2d(1), flatten": (lambda x: F.adaptive_max_pool2d(x, 1).flatten(1), True),
    "AdaptiveMaxPool2d(3), reshape": (lambda x: nn.AdaptiveMaxPool2d(3)(x).reshape(len(x), -1), True),
    "AvgPool2d, flatten": (lambda x: F.avg_pool2d(x, x.shape[2:]).flatten(1), True),
    "MaxPool2d, flatten": (lambda x: F.max_pool2d(x, x.shape[2:]).flatten(1), True),
    "mean": (lambda x: x.mean((2, 3)), True),
    "mean of means": (lambda x: x.mean(-1).mean(-1), True),
    "mean kept, flatten": (lambda x: x.mean([2, 3], keepdim=True).flatten(1), True),
    "amax": (lambda x: x.amax((2, 3)), False),
    "max of max": (lambda x: x.max(3).values.max(2).values, False),
    "squeeze": (lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(3).squeeze(2), False),
    "channels last": (lambda x: x.permute(0, 2, 3, 1).reshape(len(x), -1), False),
    "both pools": (
        lambda x: torch.cat([F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)], 1).flatten(1),
        False,
    ),
    "sum": (lambda x: x.sum((2, 3)) / 10, False),
    "softmax over places": (lambda x: (x.flatten(2).softmax(2) * x.flatten(2)).sum(2), False),
    "norm over features": (lambda x: F.normalize(x.flatten(1)), False),
    "centre": (lambda x: x[:, :, 3:6, 3:6].flatten(1), False),
    "numpy": (lambda x: torch.from_numpy(x.detach().numpy().mean((2, 3))), False),
}


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("flatten", FLATTENS)
def test_every_flatten(flatten, inplace):
    torch.manual_seed(0)
    function, followed = FLATTENS[flatten]
    model, image = Network(function, inplace=inplace), picture(24, 20)
    if flatten != "numpy":
        model = model.double()
    else:
        image = image.float()
    result = is_the_loop(model, image, 1e-7 if image.dtype == torch.float64 else 1e-5)
    assert (result.note == "incremental") == followed, result.note


@pytest.mark.parametrize("inside", [False, True], ids=["outside", "in inference mode"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_precision(dtype, inside):
    torch.manual_seed(0)
    model, image = Network().to(dtype), picture(24, 20).to(dtype).requires_grad_()
    # one rounding of a map or of logits in each of its layers, the last of logits under 4
    close = {torch.float64: 1e-7, torch.float32: 1e-5}.get(dtype, 4 * 4 * torch.finfo(dtype).eps)
    for fill in ("zero", "blur"):
        with torch.inference_mode() if inside else contextlib.nullcontext():
            result = occlude(model, image, (0, 2), baseline=fill, layer="body.2", **REQUEST)
        assert not result.filled.requires_grad
        assert result.probabilities.dtype == torch.float32
        if fill == "zero":
            expected = naive(model, image.detach(), 7, 6, torch.zeros_like(image))[[0, 2]].float()
            torch.testing.assert_close(result.probabilities, expected, atol=close, rtol=0)
        half = dtype in {torch.float16, torch.bfloat16}
        assert (result.note == "incremental") == (not half), result.note


def test_a_network_and_a_picture_made_in_inference_mode():
    torch.manual_seed(0)
    with torch.inference_mode():
        model, image = Network().double(), picture(24, 20)
        assert is_the_loop(model, image, 1e-7, layer="body").note == "incremental"
    assert is_the_loop(model, image, 1e-7, layer="body").note == "incremental"


OUTPUTS = {
    "tuple": (lambda y: (y, y), TypeError, "gives a tuple of 2"),
    "named tuple": (lambda y: namedtuple("Out", "logits aux")(y, y), TypeError, "gives a Out of 2"),
    "list": (lambda y: [y], TypeError, "gives a list of 1"),
    "dictionary": (lambda y: {"out": y, "aux": y}, TypeError, "gives a dict of 'out', 'aux'"),
    "one logit": (lambda y: y[:, :1], ValueError, "gives one logit"),
    "a number for each picture": (lambda y: y[:, 0], ValueError, r"shape \(1,\), not logits"),
    "maps": (lambda y: y[:, :, None, None], ValueError, r"shape \(1, 4, 1, 1\), not logits"),
    "nothing": (lambda y: None, TypeError, "gives a NoneType"),
    "a batch of one only": (lambda y: y.squeeze(), ValueError, r"shape \(4,\), not logits"),
    "two rows for a picture": (lambda y: y.repeat(2, 1), ValueError, "2 rows of logits for one picture"),
    "NaN": (lambda y: y * torch.nan, ValueError, "answers NaN"),
    "too large": (lambda y: y * 1e300 * 1e300, ValueError, "answers NaN"),
}


@pytest.mark.parametrize("what", OUTPUTS)
def test_outputs_that_are_no_logits_are_refused(what):
    torch.manual_seed(0)
    then, error, message = OUTPUTS[what]
    model = Network(then=then).double()
    for ask in (
        lambda: occlude(model, picture(24, 20), 0, **REQUEST),
        lambda: occlude(model, picture(24, 20), 0, layer="body", **REQUEST),
        lambda: Occluder(model, picture(24, 20)),
    ):
        with pytest.raises(error, match=message):
            ask()


def test_nan_behind_a_patch_is_not_taken_for_an_answer():
    model = Network(then=lambda y: y / (y.abs().sum(1, keepdim=True) > 1e-300)).double()
    nn.init.zeros_(model.head.bias)
    occluder = Occluder(model, picture(24, 20))
    for module in model.modules():  # without a picture it has no features then
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    nn.init.zeros_(model.body[1].running_mean)
    with pytest.raises(ValueError, match="answers NaN"):
        occluder(torch.tensor([[0, 0, 24, 20]]), torch.zeros(3, 24, 20).double())


@pytest.mark.parametrize(
    "target",
    [
        2,
        np.int64(2),
        np.uint8(2),
        torch.tensor(2),
        torch.tensor([2]),
        (2,),
        [2],
        np.array([2]),
        torch.tensor(2).byte(),
    ],
    ids=repr,
)
def test_every_kind_of_whole_number(target):
    torch.manual_seed(0)
    model, image = Network().double(), picture(24, 20)
    result = occlude(model, image, target, **REQUEST)
    assert result.targets == (2,)
    assert type(result.targets[0]) is int
    assert torch.equal(result.probabilities, occlude(model, image, 2, **REQUEST).probabilities)
    filled = occlude(model, image, 2, baseline=np.float32(0.5), **REQUEST)
    assert torch.equal(filled.probabilities, occlude(model, image, 2, baseline=0.5, **REQUEST).probabilities)


@pytest.mark.parametrize("layer", [None, "body.2"])
def test_compiled_networks(layer):
    torch.manual_seed(0)
    model, image = Network().double(), picture(24, 20)
    compiled = torch.compile(copy.deepcopy(model), backend="eager")
    compiled(image[None])
    result = is_the_loop(compiled, image, 1e-7, layer=layer)
    assert result.note == "incremental"
    assert torch.equal(result.activations, occlude(model, image, 0, layer=layer, **REQUEST).activations)


@pytest.mark.parametrize("reentrant", [False, True])
def test_networks_under_activation_checkpointing(reentrant):
    torch.manual_seed(0)
    model, image = Network().double().train(), picture(24, 20)
    before = copy.deepcopy(model.state_dict())
    body = model.body.forward
    model.body.forward = lambda inputs: checkpoint(body, inputs, use_reentrant=reentrant)
    found = occlude(model, image, (0, 2), layer="body.2", **REQUEST)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    del model.body.forward
    assert torch.equal(found.probabilities, is_the_loop(model.eval(), image, 1e-7).probabilities)


# ---------------------------------------------------------------- whatever the plan cannot follow


def bent(how):
    """A way to break a plan: an operator that fails in part, a wrong value, a value that is not a number."""

    def compute(self, run, region):
        if how == "raises":
            raise IndexError("no such row\nand more")
        found = original(self, run, region)
        return found * torch.nan if how == "NaN" else found + 0.01

    original = plan_module._Slide.compute
    return compute


@pytest.mark.parametrize(
    ("how", "reason"),
    [("raises", r"fails \(IndexError: no such row\)"), ("wrong", "differ"), ("NaN", "differ")],
)
def test_a_plan_that_fails_gives_way_to_the_whole_network(monkeypatch, how, reason):
    torch.manual_seed(0)
    model, image = Network().double(), picture(24, 20)
    monkeypatch.setattr(plan_module._Slide, "compute", bent(how))
    result = is_the_loop(model, image, 1e-7)
    assert "the whole network ran for each patch" in result.note
    assert re.search(reason, result.note), result.note


def test_a_wrong_plan_of_a_network_that_is_sure_of_everything_is_noticed(monkeypatch):
    torch.manual_seed(0)
    model, image = Network().double(), picture(24, 20)
    with torch.no_grad():
        model.head.bias[1] += 20
    assert Occluder(model, image).plan is not None
    monkeypatch.setattr(plan_module._Slide, "compute", bent("wrong"))
    occluder = Occluder(model, image)
    assert occluder.plan is None
    assert "differ" in occluder.whole_because


# ---------------------------------------------------------------- a network that changes meanwhile


def train(model):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(picture(24, 20)[None]).logsumexp(1).sum().backward()
    optimizer.step()


def set_data(model):
    model.head.bias.data[0] += 1


def scale_data(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.5)


def turn(model):
    with torch.no_grad():
        model.body[0].weight.copy_(model.body[0].weight.flip(3))


def load(model):
    torch.manual_seed(1)
    model.load_state_dict(Network().double().state_dict())


def another_head(model):
    model.head = copy.deepcopy(model.head)
    nn.init.normal_(model.head.weight)


def another_activation(model):
    model.body[2] = nn.Sigmoid()


def statistics(model):
    model.body[1].running_mean.data += 0.5


def no_norm(model):
    model.body[1] = nn.Identity()


CHANGES = [train, set_data, scale_data, turn, load, another_head, another_activation, statistics, no_norm]


@pytest.mark.parametrize("change", CHANGES)
def test_an_occluder_notices_that_its_network_changed(change):
    torch.manual_seed(0)
    model, image = Network().double(), picture(24, 20)
    occluder = Occluder(model, image, layer="body")
    box, zero = torch.tensor([[3, 4, 12, 11]]), torch.zeros_like(image)
    before = occluder(box, zero)[0]
    first = occluder.plan
    assert occluder.plan is first, "nothing has changed"
    change(model)
    found, sums = occluder(box, zero)
    anew = Occluder(model, image, layer="body")
    assert (found - before).abs().max() > 1e-4
    assert torch.equal(found, anew(box, zero)[0])
    assert torch.equal(sums, anew(box, zero)[1])
    for mine, theirs in zip(occluder.clean, anew.clean, strict=True):
        assert torch.equal(mine, theirs)
    assert occluder.plan is not first


def test_a_network_that_has_become_useless_is_refused_every_time():
    torch.manual_seed(0)
    model, image = Network().double(), picture(24, 20)
    occluder = Occluder(model, image)
    model.head.bias.data[1] = torch.nan
    for _ in range(2):
        with pytest.raises(ValueError, match="answers NaN"):
            occluder(torch.tensor([[3, 4, 12, 11]]), image)


def test_the_panels_view_notices_it_too():
    torch.manual_seed(0)
    model, image = Network(), picture(24, 20).float().clamp(-1, 1)
    occluder, names = Occluder(model, image), tuple("abcd")
    before = patched_view(occluder, names, 12, 10, 7, "zero").data
    scale_data(model)
    after = patched_view(occluder, names, 12, 10, 7, "zero").data
    assert before != after
    assert after == patched_view(Occluder(model, image), names, 12, 10, 7, "zero").data


def test_a_picture_that_is_painted_on_afterwards():
    torch.manual_seed(0)
    model, image = Network().double(), picture(24, 20)
    occluder, box, zero = (
        Occluder(model, image),
        torch.tensor([[3, 4, 12, 11]]),
        torch.zeros(3, 24, 20).double(),
    )
    before = occluder(box, zero)[0]
    image.zero_()
    assert torch.equal(occluder(box, zero)[0], before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_one_weight_that_changes_changes_what_stands_for_them(dtype):
    model = SmallCNN().to(dtype)
    before = weights_of(model)
    assert weights_of(copy.deepcopy(model)) == before
    weight = model.block2.conv.weight
    old = weight[3, 2, 1, 0].item()
    for value in (1.0, 2.0, -2.0, old * (1 + 2 * torch.finfo(dtype).eps)):
        weight.data[3, 2, 1, 0] = value
        assert weights_of(model) != before
        weight.data[3, 2, 1, 0] = old
    assert weights_of(model) == before


# ---------------------------------------------------------------- devices without float64


class NoFloat64(TorchDispatchMode):
    """Stands for Apple's devices: no operator may make a tensor of float64."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **kwargs or {})
        for tensor in found if isinstance(found, tuple | list) else (found,):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                raise TypeError(f"{func} makes float64")
        return found


def test_no_float64_on_devices_that_lack_it():
    torch.manual_seed(0)
    model, image = Network(), picture(24, 20).float()
    expected = occlude(model, image, 0, layer="body.2", **REQUEST)
    with pytest.raises(TypeError, match="makes float64"), NoFloat64():
        image.double()
    with NoFloat64():
        found = occlude(model, image, 0, layer="body.2", **REQUEST)
        whole = Occluder(model, image, layer="body.2", incremental=False)
        whole(torch.tensor([[0, 0, 5, 5]]), image)
    assert found.note == "incremental"
    assert torch.equal(found.probabilities, expected.probabilities)
    assert torch.equal(found.activations, expected.activations)
