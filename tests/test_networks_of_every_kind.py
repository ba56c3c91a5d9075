"""Every method that takes a network, on small networks of every kind, against plain automatic differentiation.

The networks differ in activation function, flattening, head, precision and container; the reference is the same
network without anything in place, whose stages are kept by hand.
"""

from __future__ import annotations

import copy
from collections import namedtuple

import pytest
import torch
import torch.nn.functional as F
from captum.attr import GuidedBackprop, LayerGradCam
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from lessons_lib.methods.cam import class_activation_maps, find_head, grad_cam
from lessons_lib.methods.class_visualization import maximise_activation
from lessons_lib.methods.correspondence import feature_changes
from lessons_lib.methods.evaluation import (
    cam_map,
    deconvnet_map,
    deletion,
    explain,
    grad_cam_map,
    gradient_map,
    guided_backpropagation_map,
    insertion,
    randomised,
    ranking,
)
from lessons_lib.methods.filters import weight_layers
from lessons_lib.methods.patches import top_activations
from lessons_lib.methods.receptive_field import effective_receptive_field, receptive_fields
from lessons_lib.methods.saliency import gradient, guided_backpropagation
from lessons_lib.networks import capture, features

SIDE = 10
LAYERS = ("conv1", "norm", "conv2")


class ReLUInPlace(nn.ReLU):
    def __init__(self):
        super().__init__(inplace=True)


class Function(nn.Module):
    """Not found by type, as F.relu is not: a stand-in for what a forward computes between its layers."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


# by name: what the network computes, and the same as a module that works in place on nothing
ACTIVATIONS = {
    "ReLU": (nn.ReLU, nn.ReLU),
    "ReLU in place": (ReLUInPlace, nn.ReLU),
    "F.relu": (lambda: Function(F.relu), nn.ReLU),
    "relu_": (lambda: Function(torch.relu_), nn.ReLU),
    "ReLU6 in place": (lambda: nn.ReLU6(inplace=True), nn.ReLU6),
    "F.relu6": (lambda: Function(F.relu6), nn.ReLU6),
    "clamp_": (lambda: Function(lambda x: x.clamp_(min=0)), nn.ReLU),
    "maximum": (lambda: Function(lambda x: torch.maximum(x, x.new_zeros(()))), nn.ReLU),
    "where": (lambda: Function(lambda x: torch.where(x > 0, x, 0)), nn.ReLU),
    "GELU": (nn.GELU, nn.GELU),
    "SiLU in place": (lambda: nn.SiLU(inplace=True), nn.SiLU),
    "ELU in place": (lambda: nn.ELU(inplace=True), nn.ELU),
    "LeakyReLU in place": (lambda: nn.LeakyReLU(inplace=True), nn.LeakyReLU),
    "Tanh": (nn.Tanh, nn.Tanh),
}
GUIDED = {"ReLU", "ReLU in place", "F.relu", "relu_", "ReLU6 in place", "F.relu6"}
UNGUIDED = {
    "clamp_",
    "maximum",
    "where",
    "GELU",
    "SiLU in place",
    "ELU in place",
    "LeakyReLU in place",
    "Tanh",
}
FLATTENS = {
    "Flatten": (nn.Flatten(), 5 * 9),
    "flatten": (lambda x: x.flatten(1), 5 * 9),
    "view": (lambda x: x.view(x.size(0), -1), 5 * 9),
    "reshape": (lambda x: x.reshape(len(x), -1), 5 * 9),
    "mean": (lambda x: x.mean((2, 3)), 5),
    "adaptive": (lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1), 5),
    "maximum": (lambda x: F.adaptive_max_pool2d(x, 1).flatten(1), 5),
}
POOLED = ("mean", "adaptive")


class Net(nn.Module):
    def __init__(self, activation, flatten, classes=3, plain=False, checkpointed=False):
        super().__init__()
        torch.manual_seed(0)
        make = ACTIVATIONS[activation][plain]
        self.flatten, width = FLATTENS[flatten]
        self.conv1, self.norm, self.act1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), make()
        self.pool, self.conv2, self.act2 = nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), make()
        self.head = nn.Linear(width, classes)
        self.norm.running_mean.uniform_(-0.1, 0.1)
        self.norm.running_var.uniform_(0.5, 1.5)
        self.checkpointed = checkpointed

    def stages(self, x):
        kept = {"conv1": self.conv1(x)}
        kept["norm"] = self.norm(kept["conv1"])
        kept["conv2"] = self.conv2(self.pool(self.act1(kept["norm"])))
        kept["maps"] = self.act2(kept["conv2"])
        return kept | {"logits": self.head(self.flatten(kept["maps"]))}

    def body(self, x):
        return self.act2(self.conv2(self.pool(self.act1(self.norm(self.conv1(x))))))

    def forward(self, x):
        maps = checkpoint(self.body, x, use_reentrant=False) if self.checkpointed else self.body(x)
        return self.head(self.flatten(maps))


def pair(activation, flatten="view", classes=3, dtype=torch.float64, checkpointed=False):
    """A network to explain, left in training mode, and its plain twin in evaluation mode."""
    net = Net(activation, flatten, classes, checkpointed=checkpointed).to(dtype)
    twin = Net(activation, flatten, classes, plain=True).to(dtype).eval()
    twin.load_state_dict(net.state_dict())
    return net, twin


def pictures(count=2, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, SIDE, SIDE, generator=generator, dtype=torch.float64).to(dtype)


def close(found, expected):
    """Equal but for the rounding of a sum of a thousand terms of the expected type, relative to the largest."""
    kind = (
        expected.dtype
        if found.dtype == torch.float64
        else min(found.dtype, expected.dtype, key=lambda t: t.itemsize)
    )
    bound = 1000 * torch.finfo(kind).eps if kind.itemsize > 2 else 32 * torch.finfo(kind).eps
    torch.testing.assert_close(
        found.double(), expected.double(), rtol=0, atol=bound * max(expected.abs().max().item(), 1e-30)
    )


def slope(twin, inputs, layer, weigh):
    """The plain gradient of what ``weigh`` makes of a stage, with respect to the pixels."""
    leaf = inputs.clone().requires_grad_()
    return torch.autograd.grad(weigh(twin.stages(leaf)[layer]), leaf)[0]


def cam_by_hand(twin, inputs, layer, target):
    kept = twin.stages(inputs)
    (found,) = torch.autograd.grad(kept["logits"][:, target].sum(), kept[layer])
    return (found.mean((2, 3), keepdim=True) * kept[layer]).sum(1).relu().detach()


def curve_by_hand(twin, before, after, maps, target, steps):
    place = ranking(maps)
    rows = []
    for i in range(len(before)):
        row = []
        for step in range(steps + 1):
            gone = place[i] < round(step * maps[0].numel() / steps)
            shown = torch.where(gone, after[i], before[i])
            row.append(twin(shown[None]).detach().softmax(1)[0, target])
        rows.append(torch.stack(row))
    return torch.stack(rows)


def state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}, [
        m.training for m in net.modules()
    ]


def same(net, before):
    values, flags = before
    assert all(torch.equal(value, values[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == flags
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


def check_all(model, net, twin, inputs, layer, *, activation, flatten):
    """Each method on ``model``, a wrapper of ``net`` or itself, against the twin."""
    before, untouched, target = state(net), inputs.clone(), 1
    close(capture(model, inputs, [layer])[layer], twin.stages(inputs)[layer].detach())
    start = torch.ones_like(twin.stages(inputs)[layer])
    close(gradient(model, inputs, layer, start), slope(twin, inputs, layer, torch.sum))
    touched = slope(twin, inputs, layer, lambda maps: maps[:, :, 1, 2].sum()).double().abs().sum((0, 1))
    close(
        effective_receptive_field(model, inputs, layer, 1, 2),
        (touched / touched.sum()).to(inputs.dtype),
    )
    close(grad_cam(model, inputs, layer, target), cam_by_hand(twin, inputs, layer, target))
    close(
        gradient_map(model, inputs[:1], target),
        slope(twin, inputs[:1], "logits", lambda logits: logits[:, target].sum()).abs().amax(1),
    )
    if activation in GUIDED:
        found = guided_backpropagation_map(model, inputs[:1], target)
        if "6" not in activation:  # captum does not rectify at ReLU6
            expected = GuidedBackprop(copy.deepcopy(twin)).attribute(inputs[:1].clone(), target=target)
            close(found, expected.detach().abs().amax(1))
    else:
        with pytest.raises(ValueError, match=r"all ReLU or ReLU6|no ReLU"):
            guided_backpropagation_map(model, inputs[:1], target)
    box = receptive_fields(model, inputs[:1], [layer])[layer].box(1, 2)
    touched[box.top : box.bottom, box.left : box.right] = 0
    assert not touched.any()
    if flatten in POOLED:
        head = find_head(model, inputs)
        assert head.linear == "head"
        evidence = class_activation_maps(model, inputs, head)
        close(evidence.maps.mean((2, 3)), twin(inputs).detach())
        close(cam_map(model, inputs[:1], target), evidence.maps[:1, target])
    maps = torch.rand(len(inputs), SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    for method, ends in ((deletion, (inputs, 0 * inputs)), (insertion, (0 * inputs, inputs))):
        found = method(model, inputs, maps, target, steps=3).probabilities
        close(found.to(inputs.dtype), curve_by_hand(twin, *ends, maps, target, 3))
    assert weight_layers(model) == ("conv1", "conv2", "head")
    assert torch.equal(inputs, untouched)
    same(net, before)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from(sorted(ACTIVATIONS)),
    st.sampled_from(sorted(FLATTENS)),
    st.sampled_from(LAYERS),
    st.integers(2, 4),
)
def test_every_activation_and_flatten(activation, flatten, layer, classes):
    net, twin = pair(activation, flatten, classes)
    check_all(net, net, twin, pictures(), layer, activation=activation, flatten=flatten)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    net, twin = pair(activation)
    check_all(net, net, twin, pictures(), "norm", activation=activation, flatten="view")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_every_precision(dtype):
    net, twin = pair("ReLU in place", "mean", dtype=dtype)
    check_all(net, net, twin, pictures(dtype=dtype), "conv2", activation="ReLU in place", flatten="mean")


def test_under_inference_mode_and_with_inputs_in_a_graph():
    net, twin = pair("relu_", "mean")
    with torch.inference_mode():
        inside = pictures().clone()
    for inputs in (pictures().requires_grad_(), inside):
        for method in (
            lambda x: capture(net, x, ["conv2"])["conv2"],
            lambda x: gradient(net, x, "conv2", torch.ones(2, 5, 3, 3)),
            lambda x: guided_backpropagation(net, x, "conv2", torch.ones(2, 5, 3, 3)),
            lambda x: effective_receptive_field(net, x, "conv2", 1, 2),
            lambda x: grad_cam(net, x, "conv2", 1),
            lambda x: class_activation_maps(net, x).maps,
            lambda x: deletion(net, x, torch.rand(2, SIDE, SIDE), 1, steps=2).probabilities,
            lambda x: explain(gradient_map, net, x, 1),
            lambda x: explain(grad_cam_map("conv2"), net, x, 1),
            lambda x: explain(cam_map, net, x, 1),
            lambda x: maximise_activation(net, x, 1, steps=2, progress=False),
            lambda x: receptive_fields(net, x[:1], ["conv2"])["conv2"],
        ):
            torch.manual_seed(0)
            expected = method(pictures())
            torch.manual_seed(0)
            assert _equal(method(inputs), expected)
            torch.manual_seed(0)
            with torch.inference_mode():
                assert _equal(method(inputs), expected)
    close(gradient(net, inside, "conv2", torch.ones(2, 5, 3, 3)), slope(twin, pictures(), "conv2", torch.sum))


def _equal(found, expected):
    return torch.equal(found, expected) if isinstance(found, torch.Tensor) else found == expected


@pytest.mark.parametrize(
    "kind", ["compiled", "compiled in place", "a part compiled", "checkpointed", "frozen"]
)
def test_every_container(kind):
    net, twin = pair("ReLU in place", "mean", checkpointed=kind == "checkpointed")
    model = net
    if kind == "compiled":
        model = torch.compile(net, backend="eager")
        model(pictures())
        twin.load_state_dict(net.state_dict())
    elif kind == "compiled in place":
        net.compile(backend="eager")
    elif kind == "a part compiled":
        net.conv2.compile(backend="eager")
    elif kind == "frozen":
        net.requires_grad_(False)
    check_all(model, net, twin, pictures(), "conv2", activation="ReLU in place", flatten="mean")


def test_a_layer_that_runs_twice_is_ambiguous_to_every_method():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, 2)

        def forward(self, x):
            return self.head(self.conv(self.conv(x)).mean((2, 3)))

    net, inputs = Twice(), pictures(dtype=torch.float32)
    bytes_ = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    for method in (
        lambda: capture(net, inputs, ["conv"]),
        lambda: gradient(net, inputs, "conv", torch.ones(2, 3, SIDE, SIDE)),
        lambda: effective_receptive_field(net, inputs, "conv", 1, 1),
        lambda: grad_cam(net, inputs, "conv", 1),
        lambda: receptive_fields(net, SIDE, ["conv"]),
        lambda: top_activations(net, bytes_, "conv", 1),
        lambda: features(net, bytes_, ["conv"]),
        lambda: feature_changes(net, bytes_, {"a": bytes_}, ["conv"]),
    ):
        with pytest.raises(ValueError, match="ran 2 times"):
            method()


class Wrapped(nn.Module):
    """A classifier whose output is in a container, or one logit."""

    def __init__(self, wrap):
        super().__init__()
        self.net, self.wrap = (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)),
            wrap,
        )

    def forward(self, x):
        return self.wrap(self.net(x))


CONTAINERS = {
    "tuple": lambda z: (z, z),
    "list": lambda z: [z],
    "dictionary": lambda z: {"out": z, "aux": z},
    "named tuple": lambda z: namedtuple("Outputs", "logits aux")(z, None),
}
ON_OUTPUTS = {
    "grad_cam": lambda net, x, _: grad_cam(net, x, "net.0", 1),
    "find_head": lambda net, x, _: find_head(net, x),
    "class_activation_maps": lambda net, x, _: class_activation_maps(net, x),
    "maximise_activation": lambda net, x, _: maximise_activation(net, x, 1, steps=1, progress=False),
    "deletion": lambda net, x, _: deletion(net, x, x[:, 0], 1, steps=2),
    "insertion": lambda net, x, _: insertion(net, x, x[:, 0], 1, steps=2),
    "gradient_map": lambda net, x, _: gradient_map(net, x, 1),
    "guided_backpropagation_map": lambda net, x, _: guided_backpropagation_map(net, x, 1),
    "deconvnet_map": lambda net, x, _: deconvnet_map(net, x, 1),
    "cam_map": lambda net, x, _: cam_map(net, x, 1),
}


@pytest.mark.parametrize("method", ON_OUTPUTS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_container_as_output_is_refused_in_a_sentence(method, container):
    net = Wrapped(CONTAINERS[container])
    before = state(net)
    inputs, bytes_ = pictures(dtype=torch.float32), torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    with pytest.raises(
        TypeError, match=r"the network gives a \w+ of .*, not one tensor of logits .*: wrap it"
    ):
        ON_OUTPUTS[method](net, inputs, bytes_)
    same(net, before)


@pytest.mark.parametrize("method", ["deletion", "insertion"])
def test_the_softmax_of_one_logit_is_refused_and_what_is_advised_is_the_sigmoid(method):
    one = Wrapped(lambda z: z[:, :1])
    inputs, bytes_ = pictures(dtype=torch.float32), torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r"softmax over one class is always 1.*torch.cat\(\[0 \* z, z\], 1\)"
    ):
        ON_OUTPUTS[method](one, inputs, bytes_)
    two = Wrapped(lambda z: torch.cat([0 * z[:, :1], z[:, :1]], 1))
    two.load_state_dict(one.state_dict())
    curve = deletion(two, inputs, inputs[:, 0], 1, steps=2)
    torch.testing.assert_close(curve.probabilities[:, 0], one(inputs)[:, 0].detach().sigmoid())


@pytest.mark.parametrize("target", [1, torch.tensor(1), torch.tensor([1, 1]), [1, 1]], ids=repr)
def test_classes_of_every_kind(target):
    net, inputs = Wrapped(lambda z: z), pictures(dtype=torch.float32)
    maps = inputs[:, 0]
    close(grad_cam(net, inputs, "net.0", target), grad_cam(net, inputs, "net.0", torch.tensor([1, 1])))
    plain = deletion(net, inputs, maps, torch.tensor([1, 1]), steps=2).probabilities
    close(deletion(net, inputs, maps, target, steps=2).probabilities, plain)
    climbed, expected = (
        maximise_activation(net, inputs, classes, steps=1, progress=False)
        for classes in (target, torch.tensor([1, 1]))
    )
    close(climbed, expected)
    close(explain(gradient_map, net, inputs, target), gradient_map(net, inputs, torch.tensor([1, 1])))


def test_channels_last_maps_are_refused():
    class Last(nn.Module):
        """As Swin: its parts see (N, h, w, C)."""

        def __init__(self):
            super().__init__()
            self.cut, self.norm, self.head = nn.Conv2d(3, 16, 4, stride=4), nn.LayerNorm(16), nn.Linear(16, 2)

        def forward(self, x):
            return self.head(self.norm(self.cut(x).permute(0, 2, 3, 1)).mean((1, 2)))

    net = Last()
    for height, width in ((16, 20), (20, 16), (18, 24), (16, 16)):
        inputs, bytes_ = torch.rand(2, 3, height, width), torch.zeros(2, 3, height, width, dtype=torch.uint8)
        for method in (
            lambda x=inputs: grad_cam(net, x, "norm", 1),
            lambda x=inputs: effective_receptive_field(net, x, "norm", 1, 1),
            lambda b=bytes_: top_activations(net, b, "norm", 1),
            lambda b=bytes_: features(net, b, ["norm"], pool=1),
        ):
            with pytest.raises(ValueError, match=r"channels last.*Permute"):
                method()
        assert grad_cam(net, inputs, "cut", 1).shape == (2, height // 4, width // 4)


@settings(max_examples=100, deadline=None)
@given(
    st.integers(8, 64),
    st.integers(8, 64),
    st.integers(1, 96),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(0, 1),
)
def test_maps_with_channels_first_are_never_refused(height, width, channels, stride, padding):
    net = nn.Sequential(nn.Conv2d(3, channels, 3, stride=stride, padding=padding))
    bytes_ = torch.zeros(1, 3, height, width, dtype=torch.uint8)
    top_activations(net, bytes_, "0", 1)


def test_captum_agrees_on_grad_cam():
    net, twin = pair("ReLU in place", "mean")
    captum = LayerGradCam(twin, twin.conv2).attribute(pictures(), target=2, relu_attributions=True)
    close(grad_cam(net, pictures(), "conv2", 2), captum[:, 0].detach())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_ascend_takes_the_step_of_plain_automatic_differentiation(activation):
    net, twin = pair(activation)
    before = state(net)
    climbed = maximise_activation(net, pictures(), 2, steps=1, rate=0.5, progress=False)
    steepest = slope(twin, pictures(), "logits", lambda logits: logits[:, 2].sum())
    close(climbed, pictures() + 0.5 * steepest / steepest.square().mean((1, 2, 3), keepdim=True).sqrt())
    same(net, before)


def test_randomised_draws_on_the_cpu_and_gives_back():
    net, _ = pair("ReLU")
    before = state(net)
    torch.manual_seed(3)
    expected = nn.Conv2d(3, 4, 3, padding=1, dtype=torch.float64).weight
    with randomised(net, ["conv1"], seed=3):
        close(net.conv1.weight, expected)
        assert not torch.equal(net.conv1.weight, before[0]["conv1.weight"])
    same(net, before)


def test_other_precisions_than_the_networks_are_refused_in_a_sentence():
    net, _ = pair("ReLU", "mean", dtype=torch.float16)
    bytes_ = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
    for method in (
        lambda: capture(net, pictures(dtype=torch.float32), ["conv1"]),
        lambda: grad_cam(net, pictures(dtype=torch.float32), "conv1", 1),
        lambda: gradient_map(net, pictures(dtype=torch.float32), 1),
        lambda: deletion(net, pictures(dtype=torch.float32), torch.rand(2, SIDE, SIDE), 1, steps=2),
        lambda: maximise_activation(net, pictures(dtype=torch.float32), 1, steps=1, progress=False),
        lambda: top_activations(net, bytes_, "conv1", 1),
        lambda: features(net, bytes_, ["conv1"]),
        lambda: feature_changes(net, bytes_, {"a": bytes_}, ["conv1"]),
    ):
        with pytest.raises(TypeError, match=r"torch.float32 and the network torch.float16: convert"):
            method()


def normed(wrap):
    net = nn.Sequential(wrap(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2))
    net(pictures(dtype=torch.float32))
    return net


@pytest.mark.filterwarnings("ignore:.*weight_norm")
@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
    ],
)
def test_a_layer_whose_weights_are_computed_from_others_is_not_half_randomised(wrap):
    net = normed(wrap)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    words = r"layer '0'.*(leaves|cannot be copied|no reset_parameters)"
    with pytest.raises(ValueError, match=words), randomised(net, ["0"]):
        pass
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    inputs = pictures(dtype=torch.float32)
    plain = slope_of(net, inputs)
    close(gradient_map(net, inputs, 1), plain.abs().amax(1))


def slope_of(net, inputs):
    leaf = inputs.clone().requires_grad_()
    return torch.autograd.grad(net.eval()(leaf)[:, 1].sum(), leaf)[0]


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_a_scripted_network_is_refused_in_a_sentence():
    inputs = pictures(dtype=torch.float32)
    net = nn.Sequential(nn.Conv2d(3, 4, 8), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    for scripted in (torch.jit.script(net), torch.jit.trace(net, inputs)):
        for method in (
            lambda model=scripted: capture(model, inputs, ["0"]),
            lambda model=scripted: grad_cam(model, inputs, "0", 1),
            lambda model=scripted: gradient_map(model, inputs, 1),
            lambda model=scripted: find_head(model, inputs),
        ):
            with pytest.raises(TypeError, match=r"scripted.*take the network it was made from"):
                method()


def test_under_the_callers_autocast_maps_are_summed_in_float32():
    net, _ = pair("ReLU", "mean", dtype=torch.float32)
    inputs = pictures(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, evidence = grad_cam(net, inputs, "conv2", 1), class_activation_maps(net, inputs)
    assert found.dtype == torch.float32
    # bfloat16 keeps 8 bits: numbers summed in it would all be found again
    for maps in (found, evidence.maps):
        assert not torch.equal(maps, maps.bfloat16().float())


def test_no_evidence_is_a_map_of_zeros_and_not_of_nan():
    net, _ = pair("ReLU", "mean", dtype=torch.float32)
    with torch.no_grad():
        net.head.weight[1] = -net.head.weight[1].abs()
    assert torch.equal(grad_cam(net, pictures(dtype=torch.float32), "act2", 1), torch.zeros(2, 3, 3))


def test_relus_made_while_the_network_runs():
    class Fresh(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, _ = pair("ReLU")

        def forward(self, x):
            net = self.net
            x = net.conv2(net.pool(nn.ReLU()(net.norm(net.conv1(x)))))
            return net.head(net.flatten(nn.ReLU()(x)))

    fresh = Fresh()
    close(
        guided_backpropagation_map(fresh, pictures(), 1),
        guided_backpropagation_map(fresh.net, pictures(), 1),
    )
