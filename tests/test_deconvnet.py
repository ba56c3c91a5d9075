"""The deconvnet equals captum's, a slow one in NumPy and one done by hand, and refuses what it cannot invert."""

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lessons_lib.methods.deconvnet import (
    Switches,
    agreement,
    aliased,
    deconvnet,
    keep,
    max_pool,
    project,
    rectify,
    trace,
    transposed_filter,
    unpool,
)
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.models.zfnet import SmallZFNet
from tests.test_hooks import hook_count


def captum_projection(model, inputs, target):
    from captum.attr import Deconvolution

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it announces its hooks
        return Deconvolution(model).attribute(inputs, target=target)


def small_net(pool=None, **convolution):
    """conv, ReLU, pool, conv, ReLU, and a classifier, in double precision."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 5, **convolution),
        nn.ReLU(inplace=True),
        pool or nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.LazyLinear(5),
    )
    net = net.double().eval()
    net(torch.rand(1, 3, 17, 14).double())
    return net


PICTURES = torch.randn(3, 3, 17, 14, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


# ---------------------------------------------------------------- slow versions of the three steps


def slow_max_pool(maps, size, stride, padding):
    """One window at a time; the padding is never the maximum."""
    count, channels, height, width = maps.shape
    out_h, out_w = ((side + 2 * padding - size) // stride + 1 for side in (height, width))
    pooled, switches = np.zeros((count, channels, out_h, out_w)), {}
    for n, c, i, j in np.ndindex(pooled.shape):
        window = [
            (maps[n, c, y, x], y, x)
            for y in range(i * stride - padding, i * stride - padding + size)
            for x in range(j * stride - padding, j * stride - padding + size)
            if 0 <= y < height and 0 <= x < width
        ]
        pooled[n, c, i, j], *switches[n, c, i, j] = max(window, key=lambda entry: entry[0])
    return pooled, switches


def slow_unpool(pooled, switches, shape):
    maps = np.zeros(shape)
    for at, (y, x) in switches.items():
        maps[at[0], at[1], y, x] += pooled[at]
    return maps


def slow_filter(maps, weights, stride, padding, shape):
    """Each value paints its filter, scaled, around the place it looked at."""
    picture = np.zeros(shape)
    for n, c, i, j in np.ndindex(maps.shape):
        for b, dy, dx in np.ndindex(weights.shape[1:]):
            y, x = i * stride - padding + dy, j * stride - padding + dx
            if 0 <= y < shape[2] and 0 <= x < shape[3]:
                picture[n, b, y, x] += maps[n, c, i, j] * weights[c, b, dy, dx]
    return picture


# ---------------------------------------------------------------- by hand


def test_the_three_steps_by_hand():
    """A 1×1×4×4 picture, one 2×2 filter, one pooling: small enough for a pencil."""
    convolution = nn.Conv2d(1, 1, 2, padding=1)
    with torch.no_grad():
        convolution.weight.copy_(torch.tensor([[[[1.0, -1.0], [0.0, 2.0]]]]))
        convolution.bias.fill_(100.0)  # no step down uses it
    pool = nn.MaxPool2d(2)
    maps = torch.tensor(
        [[[[1.0, 5.0, 0.0, 2.0], [3.0, 0.0, 4.0, 1.0], [0.0, 0.0, 7.0, 0.0], [6.0, 0.0, 0.0, 8.0]]]]
    )
    pooled, switches = max_pool(maps, pool)
    assert pooled.tolist() == [[[[5, 4], [6, 8]]]]
    assert switches.rows.tolist() == [[[[0, 1], [3, 3]]]]
    assert switches.columns.tolist() == [[[[1, 2], [0, 3]]]]

    unpooled = unpool(torch.tensor([[[[-5.0, 4.0], [0.0, 8.0]]]]), switches)
    assert unpooled.tolist() == [[[[0, -5, 0, 0], [0, 0, 4, 0], [0, 0, 0, 0], [0, 0, 0, 8]]]]
    rectified = rectify(unpooled)
    assert rectified.tolist() == [[[[0, 0, 0, 0], [0, 0, 4, 0], [0, 0, 0, 0], [0, 0, 0, 8]]]]
    # output (i, j) looked at input rows i−1, i and columns j−1, j
    filtered = transposed_filter(rectified, convolution, (3, 3))
    assert filtered.tolist() == [[[[0, 4, -4], [0, 0, 8], [0, 0, 8]]]]


def test_whole_way_by_hand():
    """conv (1×1, ×2) → ReLU → pool 3/2 overlapping: the shared maximum is owed both windows' parts."""
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.MaxPool2d(3, stride=2))
    with torch.no_grad():
        net[0].weight.fill_(2.0)
    picture = torch.zeros(1, 1, 3, 5)
    picture[0, 0, 1, 2] = 4.0  # in both windows
    way_up = trace(net, picture, "2")
    assert way_up.activations.flatten().tolist() == [8, 8]
    assert way_up.switches["2"].index.flatten().tolist() == [7, 7]
    down = project(way_up, way_up.activations)
    assert [step.operation for step in down.reversals] == ["unpool", "rectify", "filter"]
    assert [step.layer for step in down.reversals] == ["2", "1", "0"]
    assert down.pixels[0, 0, 1, 2] == 2 * (8 + 8)
    assert down.pixels.count_nonzero() == 1


# ---------------------------------------------------------------- unpooling


@given(
    size=st.integers(1, 4), stride=st.integers(1, 4), padding=st.integers(0, 2),
    height=st.integers(4, 9), width=st.integers(4, 9), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_unpooling_the_pooled_keeps_exactly_the_maxima(size, stride, padding, height, width, seed):
    padding = min(padding, size // 2)
    maps = torch.randn(
        2, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    pooled, switches = max_pool(maps, nn.MaxPool2d(size, stride, padding))
    slow, where = slow_max_pool(maps.numpy(), size, stride, padding)
    assert np.array_equal(pooled, slow)
    assert {at: [switches.rows[at], switches.columns[at]] for at in where} == where

    back = unpool(pooled, switches)
    chosen = unpool(torch.ones_like(pooled), switches)  # how many windows chose each position
    np.testing.assert_allclose(back, slow_unpool(slow, where, maps.shape), atol=1e-12)
    torch.testing.assert_close(back, maps * chosen)
    if stride >= size:
        assert set(chosen.unique().tolist()) <= {0, 1}
        assert torch.equal(back, torch.where(chosen > 0, maps, 0)), (
            "the maxima, in their places, and nothing else"
        )
        torch.testing.assert_close(max_pool(back.clamp(min=0), nn.MaxPool2d(size, stride, padding))[0],
                                   pooled.clamp(min=0))  # fmt: skip


def test_unpooling_is_the_transpose_of_choosing_the_maxima():
    maps = torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True)
    layer = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
    pooled, switches = max_pool(maps, layer)
    assert torch.equal(pooled, layer(maps))
    values = torch.randn_like(pooled)
    (transposed,) = torch.autograd.grad(pooled, maps, values)
    torch.testing.assert_close(unpool(values, switches), transposed)


def test_unpool_needs_a_value_for_each_switch():
    _, switches = max_pool(torch.rand(1, 2, 4, 4), nn.MaxPool2d(2))
    assert isinstance(switches, Switches)
    with pytest.raises(ValueError, match=r"\(1, 2, 2, 2\) and not be empty, not \(1, 1, 2, 2\)"):
        unpool(torch.rand(1, 1, 2, 2), switches)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        max_pool(torch.rand(2, 4, 4), nn.MaxPool2d(2))


# ---------------------------------------------------------------- filtering


@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)), stride=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    padding=st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.just("valid"), st.just("same")),
    dilation=st.integers(1, 2), groups=st.sampled_from([1, 2]), size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Using padding")
@settings(max_examples=60, deadline=None)
def test_transposed_filter_is_the_transpose(kernel, stride, padding, dilation, groups, size):
    if padding == "same":
        stride = 1
    layer = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups).double()
    inputs = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    outputs = layer(inputs)
    maps = torch.randn_like(outputs)
    (transposed,) = torch.autograd.grad(outputs, inputs, maps)
    torch.testing.assert_close(transposed_filter(maps, layer, size), transposed)


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 0, (6, 5)), (2, 1, (7, 8)), (3, 2, (8, 10))])
def test_transposed_filter_equals_the_slow_one(stride, padding, size):
    layer = nn.Conv2d(2, 3, 3, stride, padding).double()
    maps = torch.randn_like(layer(torch.randn(2, 2, *size, dtype=torch.float64)))
    slow = slow_filter(maps.detach().numpy(), layer.weight.detach().numpy(), stride, padding, (2, 2, *size))
    np.testing.assert_allclose(transposed_filter(maps, layer, size).detach(), slow, atol=1e-12)


def test_transposed_filter_refuses_what_does_not_fit():
    layer = nn.Conv2d(3, 4, 3, stride=2)
    for shape, size in [((1, 4, 3, 3), (9, 7)), ((1, 4, 3, 3), (7, 6))]:
        with pytest.raises(ValueError, match="does not make maps"):
            transposed_filter(torch.rand(shape), layer, size)
    with pytest.raises(ValueError, match="reflect"):
        transposed_filter(
            torch.rand(1, 4, 4, 4), nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (4, 4)
        )


# ---------------------------------------------------------------- the whole network


@pytest.mark.parametrize("convolution", [{}, {"stride": 2, "padding": 1}, {"stride": 3}])
def test_equals_captum_where_pools_do_not_overlap(convolution):
    net = small_net(**convolution)
    way_up = trace(net, PICTURES, "6")
    one = torch.zeros_like(way_up.activations)
    one[:, 2] = 1
    expected = captum_projection(net, PICTURES, target=2)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(project(way_up, one).pixels, expected, atol=1e-5, rtol=1e-5)
    # from an activation inside the network
    way_up = trace(net, PICTURES, "4")
    start = keep(way_up.activations, 1, 1, 0)
    expected = captum_projection(net[:5], PICTURES, target=(1, 1, 0)) * way_up.activations[:, 1, 1, 0].view(
        -1, 1, 1, 1
    )
    torch.testing.assert_close(project(way_up, start).pixels, expected, atol=1e-5, rtol=1e-5)


def test_small_zfnet_equals_captum():
    torch.manual_seed(0)
    net, pictures = SmallZFNet().eval(), torch.rand(2, 3, 64, 64) * 2 - 1
    way_up = trace(net, pictures, "fc8")
    assert list(way_up.switches) == ["pool1", "pool2", "pool5"]
    one = torch.zeros_like(way_up.activations)
    one[:, 4] = 1
    expected = captum_projection(net, pictures, target=4)
    scale = expected.abs().max()
    assert scale > 0
    torch.testing.assert_close(project(way_up, one).pixels / scale, expected / scale, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("overlap", [(3, 2, 0), (3, 2, 1), (2, 1, 0)])
def test_equals_the_slow_deconvnet_where_pools_overlap(overlap):
    net = small_net(nn.MaxPool2d(*overlap), stride=2, padding=1)
    down = deconvnet(net, PICTURES, "4", 2)
    way_up = {step.name: step.output.detach().numpy() for step in trace(net, PICTURES, "4").steps}
    _, switches = slow_max_pool(way_up["1"], *overlap)
    expected = [np.maximum(down.start.numpy(), 0)]
    expected.append(slow_filter(expected[-1], net[3].weight.detach().numpy(), 1, 1, way_up["2"].shape))
    expected.append(slow_unpool(expected[-1], switches, way_up["1"].shape))
    expected.append(np.maximum(expected[-1], 0))
    expected.append(slow_filter(expected[-1], net[0].weight.detach().numpy(), 2, 1, PICTURES.shape))
    assert [step.operation for step in down.reversals] == ["rectify", "filter", "unpool", "rectify", "filter"]
    for reversal, maps in zip(down.reversals, expected, strict=True):
        np.testing.assert_allclose(reversal.maps, maps, atol=1e-12)
    assert down.pixels is down.reversals[-1].maps
    assert np.abs(expected[-1]).max() > 0.01


def test_contrast_normalisation_is_left_out_on_the_way_down():
    convolution = nn.Conv2d(3, 8, 3)
    net = nn.Sequential(convolution, nn.ReLU(), nn.LocalResponseNorm(5, alpha=1.0))
    pictures = torch.rand(2, 3, 6, 6)
    way_up = trace(net, pictures, "2")
    assert not torch.allclose(way_up.steps[1].output, way_up.activations, rtol=1e-2), "it does something"
    expected = transposed_filter(way_up.activations, convolution, (6, 6))
    assert torch.equal(project(way_up, way_up.activations).pixels, expected)


def test_batch_norm_is_exact():
    """As if its scale were part of the filters, which is how batch norm is folded into a convolution."""
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    norm(5 * torch.randn(50, 4, 5, 5) + 3)
    norm.eval()
    pool = nn.MaxPool2d(2)
    with_norm = nn.Sequential(convolution, norm, nn.ReLU(), pool)
    folded = nn.Sequential(fuse_conv_bn_eval(convolution.eval(), norm), nn.ReLU(), pool)
    pictures = torch.randn(2, 3, 8, 8)
    one, other = deconvnet(with_norm, pictures, "3", 1), deconvnet(folded, pictures, "2", 1)
    torch.testing.assert_close(one.pixels, other.pixels, atol=1e-5, rtol=1e-4)
    assert "scale" in [reversal.operation for reversal in one.reversals]
    plain = nn.BatchNorm2d(3, affine=False).eval()
    assert deconvnet(nn.Sequential(plain), pictures, "0", 1).pixels.count_nonzero() == 2


def test_the_small_cnn_and_average_pooling_equal_captum():
    torch.manual_seed(0)
    net = SmallCNN().double().eval()
    pictures = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    way_up = trace(net, pictures, "classifier")
    one = torch.zeros_like(way_up.activations)
    one[:, 3] = 1
    expected = captum_projection(net, pictures, target=3)
    torch.testing.assert_close(project(way_up, one).pixels, expected, atol=1e-9, rtol=1e-5)
    # a layer with parts ends where its last part ends
    assert torch.equal(
        trace(net, pictures, "block2").activations, trace(net, pictures, "block2.relu").activations
    )

    pooled = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(3), nn.Flatten()
    )
    pooled = pooled.double().append(nn.Linear(36, 2).double())
    way_up = trace(pooled, pictures, "5")
    one = torch.zeros_like(way_up.activations)
    one[:, 1] = 1
    torch.testing.assert_close(project(way_up, one).pixels, captum_projection(pooled, pictures, target=1))


def test_properties_of_the_projection():
    net = small_net(nn.MaxPool2d(3, 2))
    way_up = trace(net, PICTURES, "4")
    first, second = keep(way_up.activations, 0), keep(way_up.activations, 3)
    pixels = project(way_up, first).pixels
    torch.testing.assert_close(project(way_up, 2.5 * first).pixels, 2.5 * pixels)
    assert project(way_up, torch.zeros_like(first)).pixels.count_nonzero() == 0
    together = project(way_up, first + second).pixels
    assert not torch.allclose(together, pixels + project(way_up, second).pixels), "rectifying is not linear"


def test_result_does_not_depend_on_the_batch():
    net = small_net(nn.MaxPool2d(3, 2))
    together = deconvnet(net, PICTURES, "4", torch.tensor([0, 2, 3])).pixels
    for i, channel in enumerate((0, 2, 3)):
        alone = deconvnet(net, PICTURES[i : i + 1], "4", channel).pixels
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-12, rtol=1e-10)


def test_a_projection_stays_in_the_receptive_field():
    net = SmallZFNet()
    box = receptive_fields(net, 64, ["relu2"])["relu2"].box(7, 4)
    pixels = deconvnet(net, torch.rand(1, 3, 64, 64) * 2 - 1, "relu2", 5, 7, 4).pixels
    inside = pixels[:, :, box.top : box.bottom, box.left : box.right]
    assert inside.count_nonzero() == pixels.count_nonzero() > 100


# ---------------------------------------------------------------- keeping activations


def test_keep():
    activations = torch.arange(48.0).view(2, 3, 2, 4)
    activations[0, 1, 0, 2] = 100
    kept = keep(activations, 1)
    assert kept.nonzero().tolist() == [[0, 1, 0, 2], [1, 1, 1, 3]]
    assert kept[0, 1, 0, 2] == 100
    kept = keep(activations, torch.tensor([0, 2]), 1, torch.tensor([3, 0]))
    assert kept.nonzero().tolist() == [[0, 0, 1, 3], [1, 2, 1, 0]]
    assert keep(torch.ones(2, 5), torch.tensor([4, 1])).nonzero().tolist() == [[0, 4], [1, 1]]
    assert keep(-activations - 1, 0).nonzero().tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]], (
        "the greatest, though negative"
    )


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((2, 3, 4, 4), (3,), "channel must be in 0–2, not 3"),
        ((2, 3, 4, 4), (-1,), "channel must be in 0–2"),
        ((2, 3, 4, 4), (0, 1), "both row and column"),
        ((2, 3, 4, 4), (0, 4, 0), "row must be in 0–3"),
        ((2, 3, 4, 4), (0, 0, torch.tensor([0, 4])), "column must be in 0–3"),
        ((2, 3), (0, 0, 0), "no rows and columns"),
    ],
)
def test_keep_refuses(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        keep(torch.rand(shape), *arguments)


# ---------------------------------------------------------------- what is refused


class Functional(nn.Module):
    """A network with something between its modules that is not a module."""

    def __init__(self, between):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.between = between

    def forward(self, x):
        return self.pool(self.relu(self.conv2(self.between(self, self.conv1(x)))))


BETWEEN = {
    "functional ReLU": lambda net, x: F.relu(x),
    "functional ReLU in place": lambda net, x: F.relu_(x),
    "skip connection": lambda net, x: x + net.conv2(x),
    "skip connection in place": lambda net, x: x.add_(1),
    "slice": lambda net, x: x[:, :4, 1:, 1:],
    "turned": lambda net, x: x.transpose(2, 3),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("positive", [False, True])
def test_what_is_not_a_module_is_refused(between, positive):
    net = Functional(between)
    if positive:  # then a ReLU changes no value, and still it is missed
        for parameter in net.parameters():
            nn.init.constant_(parameter, 0.1)
    # pictures of one value are the same turned
    pictures = torch.rand(2, 3, 8, 8)
    with pytest.raises(ValueError, match="a module"):
        trace(net, pictures, "pool")
    assert trace(net, pictures, "conv1").steps[-1].name == "conv1", "below, all is well"
    assert hook_count(net) == 0


@pytest.mark.parametrize(
    ("net", "layer", "message"),
    [
        (
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()),
            "1",
            "'1' is a GELU, which a deconvnet has no inverse",
        ),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")), "0", "'circular'"),
        (lambda: nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "0", "no running statistics"),
        (lambda: nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "0", "gives a tuple"),
        (lambda: Functional(lambda net, x: net.relu(x)), "pool", "'relu' ran 2 times"),
        (lambda: Functional(lambda net, x: x), "between", "no layer 'between'"),
    ],
)
def test_layers_that_cannot_be_inverted_are_refused(net, layer, message):
    with pytest.raises((ValueError, TypeError), match=message):
        trace(net(), torch.rand(2, 3, 8, 8), layer)


def test_a_residual_network_is_refused_and_its_stem_is_not():
    from torchvision.models import resnet18

    net = resnet18()
    pictures = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="skip connection"):
        trace(net, pictures, "layer2")
    assert [step.name for step in trace(net, pictures, "maxpool").steps] == [
        "conv1",
        "bn1",
        "relu",
        "maxpool",
    ]


def test_a_subclass_may_compute_something_else():
    class Standardised(nn.Conv2d):
        def forward(self, x):
            return F.conv2d(x, self.weight - self.weight.mean())

    with pytest.raises(ValueError, match="'0' is a Standardised"):
        trace(nn.Sequential(Standardised(3, 4, 3)), torch.rand(1, 3, 8, 8), "0")


def test_functional_flattening_is_no_computation():
    class Flattening(nn.Sequential):
        def forward(self, x):
            return self[3](torch.flatten(self[2](self[1](self[0](x))), 1))

    net = Flattening(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Linear(36, 2)).eval()
    net.to(memory_format=torch.channels_last)
    pictures = torch.rand(2, 3, 8, 8)
    way_up = trace(net, pictures, "3")
    one = torch.zeros_like(way_up.activations)
    one[:, 0] = 1
    torch.testing.assert_close(project(way_up, one).pixels, captum_projection(net, pictures, target=0))


def test_what_runs_beside_the_chain_or_not_at_all_is_refused():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.ReLU()
            self.block = nn.Module()
            self.block.inner = nn.Conv2d(3, 4, 3)
            self.block.forward = lambda x: F.relu(self.block.inner(x))

        def forward(self, x):
            return self.first(x), self.second(x), self.block(x)

    net, pictures = Branching(), torch.rand(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"between 'first' and 'second'.*a branch"):
        trace(net, pictures, "second")
    with pytest.raises(ValueError, match="between 'first' and 'second'"):
        trace(net, pictures, "unused")

    class Ending(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return F.relu(self.inner(x))

    with pytest.raises(ValueError, match="'0' does not end with a module"):
        trace(nn.Sequential(Ending()), pictures, "0")
    net = nn.Sequential(nn.ReLU())
    net.unused = nn.ReLU()
    net.forward = net[0].forward
    with pytest.raises(ValueError, match="'unused' did not run"):
        trace(net, pictures, "unused")


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (torch.zeros(1, 3, 17, 14, dtype=torch.uint8), TypeError, "to_input"),
        (torch.zeros(0, 3, 17, 14), ValueError, "empty"),
        (torch.zeros(3, 17, 14), ValueError, r"\(N, C, H, W\)"),
        (torch.full((1, 3, 17, 14), torch.nan), ValueError, "NaN"),
    ],
)
def test_bad_inputs_are_refused(inputs, error, message):
    with pytest.raises(error, match=message):
        trace(small_net(), inputs, "4")


def test_bad_starts_are_refused():
    way_up = trace(small_net(), PICTURES, "4")
    with pytest.raises(ValueError, match="start must have shape"):
        project(way_up, way_up.activations[:1])
    with pytest.raises(ValueError, match="NaN"):
        project(way_up, way_up.activations * torch.nan)


def test_the_network_and_the_pictures_are_left_as_they_were():
    net = small_net().train()
    net[0].eval()
    net(PICTURES).sum().backward()
    flags = [module.training for module in net.modules()]
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    pictures = PICTURES.clone()
    first = nn.Sequential(nn.ReLU(inplace=True))
    trace(first, pictures, "0")
    deconvnet(net, pictures, "4", 1)
    with pytest.raises(ValueError, match="no layer"):
        trace(net, pictures, "9")
    assert torch.equal(pictures, PICTURES)
    assert [module.training for module in net.modules()] == flags
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert hook_count(net) == 0


def test_it_works_where_gradients_and_versions_are_off():
    net = small_net()
    expected = deconvnet(net, PICTURES, "4", 1).pixels
    with torch.inference_mode():
        pixels = deconvnet(net, PICTURES * 1, "4", 1).pixels
    torch.testing.assert_close(pixels, expected)
    assert not pixels.requires_grad


# ---------------------------------------------------------------- agreement and aliasing


def test_agreement_is_pearsons_correlation():
    early, late = torch.randn(5, 3, 2, 4), torch.randn(5, 3, 2, 4)
    late[:, 1] = 3 * early[:, 1] + 7
    late[:, 2] = 1.0
    measured = agreement(early, late)
    expected = np.corrcoef(early[:, 0].flatten(), late[:, 0].flatten())[0, 1]
    assert measured[0].item() == pytest.approx(expected, abs=1e-6)
    assert measured[1].item() == pytest.approx(1)
    assert measured[2].isnan()
    assert agreement(early[:, :, 0, 0], -early[:, :, 0, 0]).tolist() == pytest.approx([-1, -1, -1])
    for bad in (late[:2], late[0]):
        with pytest.raises(ValueError, match="activations at the other time"):
            agreement(early, bad)


@given(
    stride=st.integers(1, 4),
    wave=st.sampled_from([1 / 16, 3 / 16, 5 / 16, 7 / 16]),
    axis=st.sampled_from([0, 1]),
)
@settings(max_examples=32, deadline=None)
def test_a_wave_is_aliased_exactly_above_half_the_sampling_rate(stride, wave, axis):
    line = torch.cos(2 * torch.pi * wave * torch.arange(64.0, dtype=torch.float64))
    maps = (line[:, None] if axis else line[None, :]).expand(64, 64)[None, None] + 3
    share = aliased(maps, stride).item()
    assert share > 0.999 if wave > 1 / (2 * stride) else share < 1e-3
    # and folding is real: every stride-th sample of a fast wave is that of a slow one
    sampled = line[::stride]
    peak = (
        torch.fft.rfft(sampled * torch.hann_window(len(sampled), dtype=torch.float64)).abs()[2:].argmax() + 2
    )
    seen = peak.item() / len(sampled) / stride
    assert (abs(seen - wave) < 0.01) == (wave < 1 / (2 * stride))


def test_aliased_sums_over_pictures_and_knows_flat_maps():
    noise = torch.randn(4, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    noise[:, 1] = 0.3
    share = aliased(noise, 2)
    assert 0.7 < share[0] < 0.8, "white noise: three quarters of the plane"
    assert share[1].isnan()
    assert aliased(noise, 1)[0] == 0
    torch.testing.assert_close(aliased(7 * noise + 2, 2)[0], share[0])
    for stride in (0, 17):
        with pytest.raises(ValueError, match="1–16"):
            aliased(noise, stride)
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)"):
        aliased(noise[0], 2)
