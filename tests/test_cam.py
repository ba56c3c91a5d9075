"""CAM: the two orders agree, heads are found by their numbers, and two libraries compute the same maps."""

from collections import OrderedDict

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import models

from lessons_lib.methods.cam import (
    Evidence,
    Head,
    class_activation_maps,
    evidence,
    find_head,
    grad_cam,
    upsample,
)
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.networks import capture


def loud(model, linear):
    """In evaluation mode, with logits so large that what peers add against division by zero does not matter."""
    nn.init.normal_(model.get_submodule(linear).weight, std=30)
    nn.init.normal_(model.get_submodule(linear).bias)
    return model.eval()


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return loud(models.resnet18(num_classes=7), "fc")


@pytest.fixture(scope="module")
def lite0():
    torch.manual_seed(0)
    return loud(timm.create_model("tf_efficientnet_lite0", num_classes=5), "classifier")


def small_body():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    )


def with_head(body, channels, classes):
    head = OrderedDict(
        pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), linear=nn.Linear(channels, classes, bias=False)
    )
    return nn.Sequential(OrderedDict(body=body, head=nn.Sequential(head)))


@pytest.fixture
def small():
    """A CAM network with mixed training flags and gradients."""
    torch.manual_seed(0)
    model = with_head(small_body(), 6, 4)
    model(torch.randn(4, 3, 24, 24)).sum().backward()
    model.body[1].eval()
    return model


def state_of(model):
    flags = [module.training for module in model.modules()]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return flags, [None if p.grad is None else p.grad.clone() for p in model.parameters()], hooks


def assert_untouched(model, before):
    flags, gradients, hooks = state_of(model)
    assert flags == before[0]
    assert hooks == before[2] == 0
    for now, then in zip(gradients, before[1], strict=True):
        assert (now is None) == (then is None)
        assert now is None or torch.equal(now, then)


def slow_cam(features, weight, bias, k):
    """Zhou et al., equation 2, one position and one channel at a time."""
    channels, height, width = features.shape
    out = torch.zeros(height, width, dtype=features.dtype)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                out[y, x] += weight[k, c] * features[c, y, x]
            out[y, x] += bias[k]
    return out


def test_evidence_is_the_papers_sum():
    torch.manual_seed(0)
    features, weight, bias = (
        torch.randn(2, 3, 4, 5).double(),
        torch.randn(6, 3).double(),
        torch.randn(6).double(),
    )
    maps = evidence(features, weight, bias)
    assert maps.shape == (2, 6, 4, 5)
    for n in range(2):
        for k in range(6):
            torch.testing.assert_close(maps[n, k], slow_cam(features[n], weight, bias, k))


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 3),
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 9),
)
def test_pooling_and_the_linear_map_commute(n, channels, classes, height, width, seed):
    torch.manual_seed(seed)
    head = with_head(nn.Identity(), channels, classes).head.double()
    features = torch.randn(n, channels, height, width).double()
    pooled_first = head(features)
    linear_first = evidence(features, head.linear.weight).mean(dim=(2, 3))
    torch.testing.assert_close(linear_first, pooled_first, atol=1e-12, rtol=1e-10)
    single = head.float()(features.float())
    other = evidence(features.float(), head.linear.weight).mean(dim=(2, 3))
    torch.testing.assert_close(other, single, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("network", ["resnet", "lite0"])
def test_the_means_of_the_maps_are_the_logits(network, dtype, tolerance, request):
    model = request.getfixturevalue(network).to(dtype)
    inputs = torch.randn(2, 3, 96, 96, dtype=dtype)
    found = class_activation_maps(model, inputs)
    with torch.no_grad():
        logits = model(inputs)
    model.float()
    means = found.maps.mean(dim=(2, 3))
    assert (means - logits).abs().max() <= tolerance * logits.abs().max()
    torch.testing.assert_close(found.logits, logits, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(2, dtype=dtype))


def test_heads_are_found(resnet, lite0, small):
    inputs = torch.randn(1, 3, 96, 96)
    assert find_head(resnet, inputs) == Head("layer4", "fc")
    assert find_head(lite0, inputs).linear == "classifier"
    # the names of layers differ between versions of timm, the numbers do not
    assert capture(lite0, inputs, [find_head(lite0, inputs).features]).popitem()[1].shape[1] == 1280
    assert find_head(small, inputs[..., :24, :24]) == Head("body", "head.linear")


class Functional(nn.Module):
    """Pooling, flattening and the last ReLU are functions, which have no names."""

    def __init__(self, relu_after):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.relu_after = relu_after
        self.fc = nn.Linear(5, 2)

    def forward(self, x):
        x = self.conv(x)
        if self.relu_after:
            x = x.relu()
        return self.fc(x.mean(dim=(2, 3)))


def test_a_functional_pooling_is_seen_and_a_functional_relu_is_not_guessed():
    torch.manual_seed(0)
    inputs = torch.randn(2, 3, 8, 8)
    assert find_head(Functional(relu_after=False), inputs) == Head("conv", "fc")
    with pytest.raises(ValueError, match=r"input of 'fc'.*replace the head.*grad_cam"):
        class_activation_maps(Functional(relu_after=True), inputs)


def test_networks_without_such_a_head_are_refused():
    inputs = torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"input of 'classifier'.*grad_cam"):
        class_activation_maps(SmallCNN(), inputs)
    squeeze = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"does not come from an nn\.Linear"):
        find_head(squeeze, inputs)
    softmax = nn.Sequential(with_head(small_body(), 6, 4), nn.Softmax(1))
    with pytest.raises(ValueError, match=r"does not come from an nn\.Linear"):
        find_head(softmax, inputs)
    single = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match="larger pictures"):
        find_head(single, inputs)


def test_a_wrong_head_is_noticed(small):
    inputs = torch.randn(2, 3, 24, 24)
    with pytest.raises(ValueError, match="not the logits"):
        class_activation_maps(small, inputs, Head("body.3", "head.linear"))
    with pytest.raises(ValueError, match=r"is a BatchNorm2d, not an nn\.Linear"):
        class_activation_maps(small, inputs, Head("body", "body.1"))
    with pytest.raises(ValueError, match=r"no layer 'head\.linaer'.*Did you mean"):
        class_activation_maps(small, inputs, Head("body", "head.linaer"))


def normalised(maps):
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.parametrize("network", ["resnet", "lite0"])
def test_our_cam_is_torchcams(network, request):
    from torchcam.methods import CAM

    model = request.getfixturevalue(network)
    inputs = torch.randn(1, 3, 96, 96)
    ours = class_activation_maps(model, inputs)
    head = find_head(model, inputs)
    for k in (0, 3):
        with CAM(model, target_layer=head.features, fc_layer=head.linear) as peer:
            model(inputs)
            (theirs,) = peer(class_idx=k, normalized=True)
        torch.testing.assert_close(normalised(ours.maps[:, k]), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("network", ["resnet", "lite0"])
def test_our_cam_and_grad_cam_are_pytorch_grad_cams(network, request):
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = request.getfixturevalue(network)
    inputs = torch.randn(2, 3, 96, 96)
    head = find_head(model, inputs)
    classes = class_activation_maps(model, inputs).logits.argmax(1)  # so that there is positive evidence
    with GradCAM(model, [model.get_submodule(head.features)]) as peer:
        theirs = torch.tensor(peer(inputs, [ClassifierOutputTarget(int(k)) for k in classes]))
    model.zero_grad()
    bias = model.get_submodule(head.linear).bias.detach()[classes][:, None, None]
    cam = (class_activation_maps(model, inputs).of(classes) - bias).clamp(min=0)
    for ours in (cam, grad_cam(model, inputs, head.features, classes)):
        enlarged = upsample(normalised(ours), (96, 96))
        torch.testing.assert_close(normalised(enlarged), theirs, atol=1e-5, rtol=0)


def test_grad_cam_of_a_cam_network_is_the_cam(small):
    inputs, classes = torch.randn(3, 3, 24, 24), torch.tensor([0, 3, 1])
    cam = class_activation_maps(small, inputs).of(classes)
    torch.testing.assert_close(
        grad_cam(small, inputs, "body", classes) * cam[0].numel(), cam.clamp(min=0), atol=1e-6, rtol=1e-4
    )


def slow_grad_cam(model, image, layers_after, features, k):
    """Equations 1 and 2 for one picture, by a finite difference for each activation."""
    features = features.double()
    weights = torch.zeros(len(features), dtype=torch.float64)
    step = 1e-6
    for c in range(features.shape[0]):
        for y in range(features.shape[1]):
            for x in range(features.shape[2]):
                up, down = features.clone(), features.clone()
                up[c, y, x] += step
                down[c, y, x] -= step
                change = layers_after(up[None])[0, k] - layers_after(down[None])[0, k]
                weights[c] += change / (2 * step)
    weights /= features[0].numel()
    return (weights[:, None, None] * features).sum(0).clamp(min=0)


@torch.no_grad()
def test_grad_cam_of_an_early_layer_is_the_papers_formula():
    torch.manual_seed(3)
    model = with_head(small_body(), 6, 4).double().eval()
    inputs = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    ours = grad_cam(model, inputs, "body.2", torch.tensor([2, 0]))
    features = model.body[:3](inputs)

    def rest(x):
        return model.head(model.body[3:](x.clone()))

    for n, k in ((0, 2), (1, 0)):
        slow = slow_grad_cam(model, inputs[n], rest, features[n], k)
        torch.testing.assert_close(ours[n], slow, atol=1e-7, rtol=1e-6)
    assert ours.max() > 0


def test_grad_cam_needs_no_cam_head_and_works_on_frozen_networks():
    torch.manual_seed(0)
    model = SmallCNN()
    inputs, classes = torch.randn(2, 3, 32, 32), torch.tensor([3, 7])
    maps = grad_cam(model, inputs, "block4", classes)
    assert maps.shape == (2, 4, 4)
    assert (maps >= 0).all()
    model.requires_grad_(False)
    torch.testing.assert_close(grad_cam(model, inputs, "block4", classes), maps)
    with torch.inference_mode():
        torch.testing.assert_close(grad_cam(model, inputs, "block4", classes), maps)


def test_results_do_not_depend_on_batch_size(small):
    small.double()
    inputs, classes = torch.randn(7, 3, 24, 24, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    once, one_by_one = (class_activation_maps(small, inputs, batch_size=size) for size in (7, 1))
    torch.testing.assert_close(once.maps, one_by_one.maps, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(once.logits, one_by_one.logits, atol=1e-12, rtol=1e-10)
    together, alone = (grad_cam(small, inputs, "body.2", classes, batch_size=size) for size in (7, 1))
    torch.testing.assert_close(together, alone, atol=1e-12, rtol=1e-10)


def test_networks_are_left_as_they_were(small):
    before = state_of(small)
    inputs, classes = torch.randn(2, 3, 24, 24), torch.tensor([1, 2])
    class_activation_maps(small, inputs)
    grad_cam(small, inputs, "body.2", classes)
    assert_untouched(small, before)
    with pytest.raises(ValueError, match="classes must be in 0–3"):
        grad_cam(small, inputs, "body.2", torch.tensor([1, 4]))
    with pytest.raises(ValueError, match="larger pictures"):
        find_head(small, torch.randn(1, 3, 2, 2))
    assert_untouched(small, before)


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 4))
def test_upsampling_by_a_whole_factor_keeps_the_mean(height, width, factor):
    torch.manual_seed(height * 8 + width)
    maps = torch.randn(2, 3, height, width).double()
    large = upsample(maps, (height * factor, width * factor))
    assert large.shape == (2, 3, height * factor, width * factor)
    assert large.min() >= maps.min() - 1e-12
    assert large.max() <= maps.max() + 1e-12
    if factor % 2:  # the middle pixel of a position's square has the position's value
        torch.testing.assert_close(large[..., factor // 2 :: factor, factor // 2 :: factor], maps)


def test_of_takes_each_pictures_class():
    maps = torch.arange(24.0).view(2, 3, 2, 2)
    found = Evidence(maps, maps.mean(dim=(2, 3)))
    picked = found.of(torch.tensor([2, 0]))
    assert torch.equal(picked[0], maps[0, 2])
    assert torch.equal(picked[1], maps[1, 0])


NAN = torch.full((2, 3, 24, 24), torch.nan)
GOOD = torch.zeros(2, 3, 24, 24)
TWO = torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: class_activation_maps(m, GOOD.byte()), TypeError, "to_input"),
        (lambda m: class_activation_maps(m, GOOD[:0]), ValueError, "empty"),
        (lambda m: class_activation_maps(m, NAN), ValueError, "hold NaN"),
        (lambda m: find_head(m, NAN), ValueError, "hold NaN"),
        (lambda m: grad_cam(m, NAN, "body", TWO), ValueError, "hold NaN"),
        (lambda m: grad_cam(m, GOOD.long(), "body", TWO), TypeError, "to_input"),
        (lambda m: grad_cam(m, GOOD, "bodi", TWO), ValueError, "Did you mean 'body'"),
        (lambda m: grad_cam(m, GOOD, "head.linear", TWO), ValueError, r"shape \(2, 4\), not feature maps"),
        (lambda m: grad_cam(m, GOOD, "body", TWO[:1]), ValueError, "one for each of 2 pictures"),
        (lambda m: grad_cam(m, GOOD, "body", TWO.float()), TypeError, "whole number.*torch.float32"),
        (lambda m: grad_cam(m, GOOD, "body", torch.tensor([0, -1])), ValueError, "at least 0"),
        (lambda m: class_activation_maps(m, GOOD).of(torch.tensor([0, 4])), ValueError, "0–3"),
        (lambda m: class_activation_maps(m, GOOD).of(TWO[:1]), ValueError, "each of 2 pictures"),
        (lambda m: evidence(torch.zeros(2, 3, 4), torch.zeros(1, 3)), ValueError, "features for this weight"),
        (
            lambda m: evidence(torch.zeros(2, 3, 4, 4), torch.zeros(1, 2)),
            ValueError,
            "features for this weight",
        ),
    ],
)
def test_bad_input(small, call, error, words):
    before = state_of(small)
    with pytest.raises(error, match=words):
        call(small)
    assert_untouched(small, before)


class Ignoring(nn.Module):
    """A layer that runs but does not matter."""

    def __init__(self):
        super().__init__()
        self.ignored = nn.Conv2d(3, 2, 1)
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        self.ignored(x)
        return self.linear(x.mean(dim=(2, 3)))


def test_a_layer_the_logits_do_not_depend_on():
    with pytest.raises(ValueError, match="no gradient goes from the logits to layer 'ignored'"):
        grad_cam(Ignoring(), torch.randn(1, 3, 4, 4), "ignored", torch.tensor([0]))
