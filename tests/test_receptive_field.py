"""Receptive fields are exactly where the gradient is: no pixel more, no pixel less."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessons_lib.methods.receptive_field import Box, effective_receptive_field, receptive_fields
from lessons_lib.models.small_cnn import BLOCKS, SmallCNN
from tests.test_hooks import hook_count


def transparent(model):
    """A copy through which every path from a pixel carries a gradient: nothing cancels, nothing is switched off."""
    model = copy.deepcopy(model).double().eval()
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, (nn.ReLU, nn.ReLU6)):
                setattr(parent, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d):
                average = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, child.ceil_mode)
                setattr(parent, name, average)
            elif isinstance(child, nn.BatchNorm2d):
                child.load_state_dict(nn.BatchNorm2d(child.num_features).state_dict())
                if hasattr(child, "act"):  # timm's batch norm carries the activation that follows it
                    child.act = nn.Identity()
            elif isinstance(child, nn.Conv2d):
                nn.init.constant_(child.weight, 1 / child.weight[0].numel())
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
    return model


def supports(model, size, layer, places):
    """By autograd: the bounding box of the pixels on which each unit's activation depends."""
    caught = []
    model.get_submodule(layer).register_forward_hook(lambda module, inputs, output: caught.append(output))
    image = torch.ones(1, 3, *size, dtype=torch.float64, requires_grad=True)
    model(image)
    boxes = []
    for row, column in places:
        (gradient,) = torch.autograd.grad(caught[0][0, :, row, column].sum(), image, retain_graph=True)
        seen = (gradient[0] != 0).any(0)
        rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
        boxes.append(
            Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
            if len(rows)
            else Box(0, 0, 0, 0)
        )
    return boxes


def assert_exact(model, size, layers):
    found = receptive_fields(model, size, layers)
    glass = transparent(model)
    for layer in layers:
        field = found[layer]
        height, width = len(field.rows), len(field.columns)
        places = [(0, 0), (0, width - 1), (height // 2, width // 2), (height - 1, 0), (height - 1, width - 1)]
        expected = supports(glass, size, layer, places)
        assert [field.box(*place) for place in places] == expected, layer
    return found


def test_small_cnn():
    found = assert_exact(SmallCNN(), (32, 32), BLOCKS)
    assert [found[name].size[0] for name in BLOCKS] == [3, 8, 18, 38, 78]
    assert [found[name].stride[0] for name in BLOCKS] == [1, 2, 4, 8, 16]


def test_resnet18():
    layers = ["conv1", "maxpool", "layer1", "layer2.0.downsample", "layer2", "layer3", "layer4", "avgpool"]
    found = assert_exact(torchvision.models.resnet18(), (72, 96), layers)
    # A. Araujo et al., "Computing Receptive Fields", Distill 2019, give 435 for the last layer of ResNet-18's kind
    sizes = [found[name].size for name in layers]
    assert sizes == [(n, n) for n in (7, 11, 43, 43, 99, 211, 435)] + [(72, 96)]
    assert found["avgpool"].box(0, 0) == Box(0, 0, 72, 96)


def test_alexnet():
    layers = ["features.0", "features.2", "features.5", "features.12"]
    found = assert_exact(torchvision.models.alexnet(), (127, 150), layers)
    assert [found[name].size[0] for name in layers] == [11, 19, 67, 195]


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(
    "activation",
    [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.SiLU, nn.Mish, nn.Hardtanh, nn.Hardswish,
     nn.Hardsigmoid],
)  # fmt: skip
def test_an_activation_sees_what_it_is_given(activation: type[nn.Module], inplace: bool):
    model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), activation(inplace=inplace))
    assert receptive_fields(model, 16, ["1"])["1"] == receptive_fields(model[:1], 16, ["0"])["0"]


def test_efficientnet_lite0():
    layers = ["conv_stem", "blocks.0", "blocks.2.0.conv_dw"]
    found = assert_exact(timm.create_model("tf_efficientnet_lite0"), (64, 71), layers)
    assert found["conv_stem"].offset == (0, -1), (
        '"same" padding goes to the end for 64 pixels, to both sides for 71'
    )
    assert found["conv_stem"].window(31, 0).bottom == 65


def test_squeeze_and_excite_sees_the_whole_picture():
    found = receptive_fields(timm.create_model("efficientnet_b0"), 64, ["blocks.0.0.bn1", "blocks.0"])
    assert found["blocks.0.0.bn1"].size == (7, 7), "3, and 2 strides of 2 more"
    field = found["blocks.0"]
    assert (field.size, field.stride, field.offset) == ((64, 64), (0, 0), (0, 0))
    assert field.box(0, 0) == field.window(3, 3) == Box(0, 0, 64, 64)


def test_concatenation_takes_the_union():
    found = assert_exact(
        torchvision.models.densenet121(), (40, 40), ["features.denseblock1", "features.transition1"]
    )
    assert found["features.transition1"].size == (11 + 6 * 2 * 4 + 4,) * 2


@st.composite
def random_layers(draw):
    """A convolution or pooling with any setting that torch allows."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    if draw(st.booleans()):
        padding = draw(st.tuples(st.integers(0, 5), st.integers(0, 5)))
        dilation = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
        return nn.Conv2d(3, 3, kernel, stride, padding, dilation, groups=draw(st.sampled_from([1, 3])))
    padding = tuple(draw(st.integers(0, side // 2)) for side in kernel)
    pool = draw(st.sampled_from([nn.AvgPool2d, nn.MaxPool2d]))
    return pool(kernel, stride, padding, ceil_mode=draw(st.booleans()))


class Residual(nn.Module):
    def __init__(self, long, short):
        super().__init__()
        self.long, self.short = long, short

    def forward(self, x):
        return self.long(x) + self.short(x)


@settings(max_examples=40, deadline=None)
@given(st.lists(random_layers(), min_size=1, max_size=4), st.integers(9, 20), st.integers(9, 20))
def test_every_unit_of_any_stack_of_layers(layers, height, width):
    model = nn.Sequential(nn.Sequential(*layers))
    try:
        with torch.no_grad():
            shape = model(torch.zeros(1, 3, height, width)).shape
    except RuntimeError:
        return  # the picture is too small for these kernels
    places = [(row, column) for row in range(shape[2]) for column in range(shape[3])]
    boxes = supports(transparent(model), (height, width), "0", places)
    if not any(box.height and box.width for box in boxes):
        with pytest.raises(ValueError, match="does not depend on the picture"):
            receptive_fields(model, (height, width), ["0"])
        return
    field = receptive_fields(model, (height, width), ["0"])["0"]
    for place, expected in zip(places, boxes, strict=True):
        box = field.box(*place)
        if box.height and box.width:
            assert box == expected
            window = field.window(*place)
            assert window.top <= box.top and box.bottom <= window.bottom
            assert window.left <= box.left and box.right <= window.right
        else:
            assert expected == Box(0, 0, 0, 0)


def test_residual_branches_are_united():
    long = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1, stride=2))
    model = nn.Sequential(Residual(long, nn.Conv2d(3, 3, 1, stride=2)))
    field = assert_exact(model, (12, 12), ["0"])["0"]
    assert (field.size, field.stride, field.offset) == ((5, 5), (2, 2), (-2, -2))


def test_one_position_that_is_broadcast_sees_its_field_everywhere():
    class Gate(nn.Module):
        def forward(self, x):
            return x * x.amax((2, 3), keepdim=True)

    assert receptive_fields(nn.Sequential(Gate()), 5, ["0"])["0"].box(4, 4) == Box(0, 0, 5, 5)
    assert receptive_fields(nn.Sequential(nn.AdaptiveMaxPool2d(1)), 5, ["0"])["0"].box(0, 0) == Box(
        0, 0, 5, 5
    )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Hardswish(inplace=True),
        nn.PReLU(),
        nn.GELU(),
        nn.Dropout2d(),
        nn.LocalResponseNorm(3),
        nn.BatchNorm2d(3),
    ],
)
def test_layers_that_work_on_each_position_alone(layer):
    model = nn.Sequential(nn.Conv2d(3, 3, 3), layer, nn.Conv2d(3, 3, 3))
    found = receptive_fields(model, 9, ["1", "2"])
    assert (found["1"].size, found["2"].size) == ((3, 3), (5, 5))


@pytest.mark.parametrize("layer", [nn.GroupNorm(1, 3), nn.BatchNorm2d(3, track_running_stats=False)])
def test_statistics_of_the_picture_see_all_of_it(layer):
    field = receptive_fields(nn.Sequential(layer), 7, ["0"])["0"]
    assert field.box(2, 3) == Box(0, 0, 7, 7)
    assert field.size == (7, 7)


def test_cropping_and_padding_by_function():
    class Shift(nn.Module):
        def forward(self, x):
            return F.pad(x, (2, 0, -1, 0))

    field = receptive_fields(nn.Sequential(Shift()), 6, ["0"])["0"]
    assert field.box(0, 2) == Box(1, 0, 2, 1)
    assert field.box(0, 0) == Box(1, 0, 2, 0), "a padded column sees nothing"
    assert field.box(0, 0).width == 0


class Functional(nn.Module):
    """The ReLU and the pooling are functions, not modules."""

    def __init__(self, last):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), last

    def forward(self, x):
        return self.last(F.max_pool2d(F.relu(self.conv(x)), 2))


def test_functions_are_seen_too():
    field = receptive_fields(Functional(nn.Identity()), 10, ["last"])["last"]
    assert (field.size, field.stride) == ((4, 4), (2, 2))


class SideBySide(nn.Module):
    def forward(self, x):
        return torch.cat([x, x], dim=3)


class Mirrored(nn.Module):
    def forward(self, x):
        return x.flip(3)


@pytest.mark.parametrize(
    "last",
    [nn.Upsample(scale_factor=2), nn.PixelShuffle(2), nn.AdaptiveAvgPool2d(3), SideBySide(), Mirrored()],
)
def test_windows_of_unequal_sizes_or_distances_are_refused(last):
    with pytest.raises(ValueError, match="'last' do not see windows of one size at equal distances"):
        receptive_fields(Functional(last), 10, ["last"])
    assert receptive_fields(Functional(last), 10, ["conv"])["conv"].size == (3, 3), (
        "what comes before is regular"
    )


def test_a_transposed_convolution_of_stride_1():
    field = receptive_fields(Functional(nn.ConvTranspose2d(4, 4, 2)), 10, ["last"])["last"]
    assert (field.size, field.stride, field.offset) == ((6, 6), (2, 2), (-2, -2))


@pytest.mark.parametrize("seed", range(5))
def test_a_comparison_that_stops_nan_does_not_hide_what_a_unit_sees(seed):
    class Compared(nn.Module):
        def forward(self, x):
            return torch.where(x > 0, x, 0)

    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(3, 4, 3),
        Compared(),
        nn.Conv2d(4, 5, 5, 2, 2),
        Compared(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 3, 3),
    ]
    plain = [nn.ReLU() if isinstance(layer, Compared) else layer for layer in layers]
    found, expected = (receptive_fields(nn.Sequential(*net), 40, ["3", "5"]) for net in (layers, plain))
    assert found == expected


class Gated(nn.Module):
    """Looks to the left by a comparison, which gives no NaN for NaN."""

    def forward(self, x):
        return torch.where(x.roll(1, dims=3) > 0.5, x, -x)


def test_what_passes_no_nan_on_is_found_by_other_pixels():
    with pytest.raises(ValueError, match="equal distances"):
        receptive_fields(nn.Sequential(Gated()), 40, ["0"])


def test_a_layer_without_positions_or_without_the_picture_is_refused():
    with pytest.raises(ValueError, match=r"'classifier' gives must have shape"):
        receptive_fields(SmallCNN(), 32, ["classifier"])

    class Constant(nn.Module):
        def forward(self, x):
            return torch.ones(1, 3, 2, 2)

    with pytest.raises(ValueError, match="does not depend on the picture"):
        receptive_fields(nn.Sequential(Constant()), 8, ["0"])


def test_bad_input():
    model = SmallCNN()
    with pytest.raises(ValueError, match="Did you mean 'block4'"):
        receptive_fields(model, 32, ["blok4"])
    with pytest.raises(ValueError, match="at least 1, not 0"):
        receptive_fields(model, 0, ["block1"])
    with pytest.raises(ValueError, match="ran 2 times"):
        receptive_fields(torchvision.models.resnet18(), 64, ["layer1.0.relu"])
    with pytest.raises(ValueError, match=r"\(1, channels, height, width\)"):
        receptive_fields(model, torch.zeros(2, 3, 32, 32), ["block1"])
    with pytest.raises(TypeError, match="floating point"):
        receptive_fields(model, torch.zeros(1, 3, 32, 32, dtype=torch.uint8), ["block1"])
    field = receptive_fields(model, 32, ["block5"])["block5"]
    for place in ((2, 0), (0, -1)):
        with pytest.raises(ValueError, match="must be in 0–1"):
            field.box(*place)
        with pytest.raises(ValueError, match="must be in 0–1"):
            field.window(*place)


def test_the_model_and_the_input_are_left_as_they_were():
    torch.manual_seed(0)
    model = SmallCNN()
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    model.block2.eval()
    flags = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    picture = torch.full((1, 3, 32, 32), -1.0)
    receptive_fields(model, picture, BLOCKS)
    with pytest.raises(ValueError, match="no layer"):
        receptive_fields(model, picture, ["block1", "block9"])
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert hook_count(model) == 0
    inplace = nn.Sequential(nn.ReLU(inplace=True))
    receptive_fields(inplace, picture, ["0"])
    assert (picture == -1).all()


def test_an_input_of_other_channels_and_precision():
    model = nn.Sequential(nn.Conv2d(1, 2, 5).half())
    assert receptive_fields(model, torch.zeros(1, 1, 9, 9).half(), ["0"])["0"].size == (5, 5)
    model = nn.Sequential(nn.Conv2d(3, 2, 5).double())
    assert receptive_fields(model, (9, 12), ["0"])["0"].columns[-1] == (7, 12)


def test_influence_is_the_gradient_of_the_summed_channels():
    torch.manual_seed(0)
    model = SmallCNN().double().eval()
    inputs = torch.randn(3, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    model.block3(model.block2(model.block1(inputs)))[:, :, 2, 5].sum().backward()
    expected = inputs.grad.abs().sum((0, 1))
    model.zero_grad(set_to_none=True)
    with torch.no_grad():
        found = effective_receptive_field(model, inputs, "block3", 2, 5)
    torch.testing.assert_close(found, expected / expected.sum())
    box = receptive_fields(model, 32, ["block3"])["block3"].box(2, 5)
    assert found[box.top : box.bottom, box.left : box.right].sum() == pytest.approx(1)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert hook_count(model) == 0


def test_influence_of_a_silent_unit_is_nothing():
    silent = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
    nn.init.constant_(silent[0].bias, -1e6)
    assert (effective_receptive_field(silent, torch.zeros(1, 3, 5, 5), "1", 0, 0) == 0).all()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"inputs": torch.zeros(1, 3, 32, 32, dtype=torch.uint8)}, TypeError, "to_input"),
        ({"layer": "blok3"}, ValueError, "Did you mean 'block3'"),
        ({"layer": "classifier"}, ValueError, "not feature maps"),
    ],
)
def test_influence_refuses_bad_input(change, error, text):
    arguments = {"inputs": torch.zeros(1, 3, 32, 32), "layer": "block3", "row": 0, "column": 0} | change
    with pytest.raises(error, match=text):
        effective_receptive_field(SmallCNN(), **arguments)


class WritesInParts(nn.Module):
    """Every second channel gets what a larger filter sees, in place."""

    def __init__(self, write):
        super().__init__()
        self.small, self.large, self.last = (
            nn.Conv2d(a, b, k, padding=k // 2) for a, b, k in ((3, 4, 3), (4, 2, 5), (4, 4, 1))
        )
        self.write = write

    def forward(self, x):
        x = self.small(x)
        self.write(x, self.large(x))
        return self.last(x)


def _assign(x, y):
    x[:, ::2] = y


@pytest.mark.parametrize(
    "write", [_assign, lambda x, y: x[:, ::2].add_(y), lambda x, y: x.narrow(1, 0, 2).copy_(y)]
)
def test_a_map_whose_parts_were_written_into_sees_what_they_see(write):
    assert receptive_fields(WritesInParts(write), 12, ["last"])["last"].size == (7, 7)


@pytest.mark.parametrize("write", [lambda x, y: x.view(len(x), -1).relu_(), lambda x, y: x.add_(x)])
def test_what_works_in_place_on_itself_sees_what_it_saw(write):
    assert receptive_fields(WritesInParts(write), 12, ["last"])["last"].size == (3, 3)


def test_a_constant_of_the_map_s_shape_sees_nothing():
    class Clipped(nn.Sequential):
        def forward(self, x):
            x = self[0](x)
            return self[1](torch.maximum(x, torch.zeros_like(x)) + x.new_ones(()))

    net = Clipped(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 2, 1))
    assert receptive_fields(net, 12, ["1"])["1"].size == (3, 3)


def test_influence_is_that_of_the_layer_whatever_works_in_place_after_it():
    net = nn.Sequential(nn.Conv2d(3, 1, 3, bias=False), nn.ReLU(inplace=True))
    nn.init.constant_(net[0].weight, -1.0)
    with torch.inference_mode():
        found = effective_receptive_field(net, torch.ones(1, 3, 8, 8), "0", 2, 2)
    expected = torch.zeros(8, 8)
    expected[2:5, 2:5] = 1 / 9
    torch.testing.assert_close(found, expected)
