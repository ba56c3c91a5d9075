"""Smoothness equals its closed forms on noise and on waves, and linear filters compose as autograd says."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from lessons_lib.methods.filters import (
    as_pictures,
    effective_filters,
    frequencies,
    low_frequency_share,
    noise_p_values,
    noise_share,
    shuffled,
    silent,
    spectrum,
    total_variation,
    weight_layers,
    weights,
)
from lessons_lib.models.small_cnn import SmallCNN

MEASURES = [spectrum, low_frequency_share, total_variation, noise_p_values, silent]


def noise(count, channels, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)


def wave(i, j, size):
    """One cosine wave, straight from the formula of the DCT-II."""
    steps = [math.pi * (2 * x + 1) / (2 * size) for x in range(size)]
    return torch.tensor(
        [[math.cos(i * down) * math.cos(j * across) for across in steps] for down in steps],
        dtype=torch.float64,
    )


# ---------------------------------------------------------------- weights


def test_weights_are_a_copy_and_leave_the_model_alone():
    model = SmallCNN().train()
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    flags = [module.training for module in model.modules()]
    gradient = model.block1.conv.weight.grad.clone()
    copy = weights(model, "block1.conv")
    assert copy.shape == (32, 3, 3, 3)
    assert torch.equal(copy, model.block1.conv.weight)
    assert not copy.requires_grad
    copy.zero_()
    assert model.block1.conv.weight.abs().sum() > 0
    assert torch.equal(model.block1.conv.weight.grad, gradient)
    assert [module.training for module in model.modules()] == flags
    assert weights(model.half(), "classifier").dtype == torch.float32


def test_weight_layers_are_named_in_order():
    assert weight_layers(SmallCNN())[:2] == ("block1.conv", "block2.conv")
    assert weight_layers(SmallCNN())[-2:] == ("embedding.0", "classifier")
    with pytest.raises(ValueError, match=r"BatchNorm2d and has no filters; these have: block1\.conv, "):
        weights(SmallCNN(), "block1.norm")
    with pytest.raises(ValueError, match="no layer 'conv1'"):
        weights(SmallCNN(), "conv1")
    with pytest.raises(ValueError, match="have: none"):
        weights(nn.Sequential(nn.ReLU()), "0")


def test_as_pictures_undoes_flatten():
    pictures = torch.randn(4, 3, 5, 6)
    assert torch.equal(as_pictures(nn.Flatten()(pictures), (3, 5, 6)), pictures)
    for rows, shape in (
        (torch.zeros(2, 10), (3, 2, 2)),
        (torch.zeros(2, 3, 4), (3, 2, 2)),
        (torch.zeros(2, 12), (3, 4)),
    ):
        with pytest.raises(ValueError, match="inputs = channels × height × width"):
            as_pictures(rows, shape)


# ---------------------------------------------------------------- the spectrum


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_spectrum_is_the_projection_on_each_wave(size):
    filters = noise(3, 2, size)
    expected = torch.zeros(3, size, size, dtype=torch.float64)
    for i, j in itertools.product(range(size), repeat=2):
        basis = wave(i, j, size)
        basis = basis / basis.norm()
        for f, c in itertools.product(range(3), range(2)):
            expected[f, i, j] += (filters[f, c] * basis).sum() ** 2
    expected /= filters.square().sum((1, 2, 3))[:, None, None]
    torch.testing.assert_close(spectrum(filters), expected)


@given(st.integers(2, 8), st.integers(2, 8), st.integers(1, 4), st.floats(1e-20, 1e20), st.integers(0, 99))
def test_spectrum_sums_to_one_at_any_scale_and_orientation(height, width, channels, scale, seed):
    filters = torch.randn(
        2, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    shares = spectrum(filters)
    torch.testing.assert_close(shares.sum((1, 2)), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(spectrum(-scale * filters.flip(2)), shares)
    torch.testing.assert_close(spectrum(filters.transpose(2, 3)), shares.transpose(1, 2))


def test_frequencies_are_those_of_the_waves():
    assert frequencies(3, 3)[0].tolist() == pytest.approx([0, 1 / 6, 1 / 3])
    assert frequencies(7, 7)[1, 6].item() == pytest.approx(math.hypot(1 / 14, 6 / 14))
    # wave j runs through j / 2 cycles over its width
    crossings = (wave(0, 4, 32)[0].sign().diff() != 0).sum().item()
    assert crossings == 4
    assert frequencies(32, 32)[0, 4].item() * 32 == 4 / 2
    for call in (lambda: frequencies(0, 3), lambda: noise_share(3, 0)):
        with pytest.raises(ValueError, match="at least one row and one column"):
            call()


# ---------------------------------------------------------------- smoothness


def test_low_frequency_share_of_single_waves_is_all_or_nothing():
    for size in (3, 5, 7):
        for i, j in itertools.product(range(size), repeat=2):
            share = low_frequency_share(wave(i, j, size)[None, None]).item()
            assert share == pytest.approx(1 if math.hypot(i, j) <= size / 2 else 0, abs=1e-12)


def test_a_gradient_is_smooth_and_a_checkerboard_rougher_than_noise():
    ramp = torch.linspace(-1, 1, 3, dtype=torch.float64).expand(1, 1, 3, 3)
    board = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]], dtype=torch.float64)[None, None]
    assert low_frequency_share(ramp).item() > 0.99
    assert low_frequency_share(board).item() < 0.15 < noise_share(3, 3)
    assert total_variation(ramp).item() < 1 < total_variation(board).item()


def test_noise_share_closed_form():
    assert noise_share(3, 3) == 4 / 9
    assert noise_share(5, 5) == 8 / 25
    assert noise_share(7, 7) == 13 / 49
    assert noise_share(400, 400) == pytest.approx(math.pi / 16, abs=0.005), "a quarter disc in a square"


@pytest.mark.parametrize(("size", "channels"), [(3, 3), (3, 1), (7, 3), (5, 16)])
def test_white_noise_scores_what_the_closed_forms_say(size, channels):
    filters = noise(2000, channels, size) * torch.rand(2000, 1, 1, 1, dtype=torch.float64)
    for values, expected in (
        (low_frequency_share(filters), noise_share(size, size)),
        (total_variation(filters), 1.0),
    ):
        assert values.mean().item() == pytest.approx(expected, abs=4 * values.std().item() / math.sqrt(2000))


@given(st.floats(1e-12, 1e12), st.integers(0, 99))
def test_measures_do_not_depend_on_scale_or_sign(scale, seed):
    filters = noise(2, 3, 3, seed)
    for measure in (low_frequency_share, total_variation):
        torch.testing.assert_close(measure(-scale * filters), measure(filters))


def test_total_variation_by_loops():
    filters = noise(2, 3, 4)
    for f, value in zip(filters, total_variation(filters), strict=True):
        steps = [
            abs(f[c, y, x] - f[c, y + dy, x + dx]).item()
            for c in range(3)
            for dy, dx in ((0, 1), (1, 0))
            for y in range(4 - dy)
            for x in range(4 - dx)
        ]
        n = 48
        unit = math.sqrt(2 / math.pi) * math.gamma(n / 2) / math.gamma((n + 1) / 2)
        assert value.item() == pytest.approx(np.mean(steps) / f.norm().item() / unit)
    assert total_variation(torch.ones(1, 2, 3, 3)).item() == 0


def test_filters_that_are_zero_have_no_smoothness_and_are_silent():
    filters = torch.cat([noise(2, 3, 3), torch.zeros(1, 3, 3, 3), 1e-6 * noise(1, 3, 3)])
    for measure in (low_frequency_share, total_variation, noise_p_values):
        assert measure(filters).isnan().tolist() == [False, False, True, False]
    assert silent(filters).tolist() == [False, False, True, True]
    assert silent(torch.zeros(2, 1, 3, 3)).all()


def test_each_filter_is_measured_by_itself():
    filters = noise(6, 3, 5)
    for measure in (spectrum, low_frequency_share, total_variation):
        one_by_one = torch.cat([measure(f[None]) for f in filters])
        torch.testing.assert_close(measure(filters), one_by_one, atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize("measure", [*MEASURES, lambda filters: shuffled(filters, torch.Generator())])
@pytest.mark.parametrize(
    ("filters", "error", "text"),
    [
        (torch.zeros(4, 3, 3), ValueError, "outputs, inputs, height, width"),
        (torch.zeros(0, 3, 3, 3), ValueError, "outputs, inputs"),
        (torch.zeros(4, 3, 1, 1), ValueError, "at least 2×2"),
        (torch.full((1, 1, 3, 3), torch.nan), ValueError, "NaN"),
        (torch.full((1, 1, 3, 3), torch.inf), ValueError, "infinite"),
        (torch.zeros(1, 1, 3, 3, dtype=torch.uint8), TypeError, "floating point"),
    ],
)
def test_measures_refuse_what_is_no_filter(measure, filters, error, text):
    with pytest.raises(error, match=text):
        measure(filters)


@pytest.mark.parametrize("cutoff", [0, 0.5, -1, math.nan])
def test_cutoff_must_be_a_frequency(cutoff):
    for call in (
        lambda: low_frequency_share(noise(1, 1, 3), cutoff),
        lambda: noise_share(3, 3, cutoff),
        lambda: noise_p_values(noise(1, 1, 3), cutoff=cutoff),
    ):
        with pytest.raises(ValueError, match="cycles per pixel"):
            call()


# ---------------------------------------------------------------- one filter against its own weights


def test_shuffling_keeps_the_weights_of_each_filter():
    filters = noise(5, 3, 3)
    mixed = shuffled(filters, torch.Generator().manual_seed(1))
    assert torch.equal(mixed.flatten(1).sort(1).values, filters.flatten(1).sort(1).values)
    assert not torch.equal(mixed, filters)
    assert torch.equal(mixed, shuffled(filters, torch.Generator().manual_seed(1)))


def test_p_values_of_noise_are_uniform_and_of_smooth_filters_small():
    values = noise_p_values(noise(300, 1, 4), shufflings=99)
    assert stats.kstest(values.numpy(), "uniform").pvalue > 0.01
    ramps = torch.linspace(-1, 1, 7).expand(2, 3, 7, 7) + 0.1 * noise(2, 3, 7)
    assert noise_p_values(ramps, shufflings=99).tolist() == [0.01, 0.01]
    assert noise_p_values(torch.ones(1, 3, 3, 3), shufflings=19).item() == 1, (
        "no order to find in equal weights"
    )


def test_p_values_by_enumeration():
    """All 24 orders of a 2×2 filter's weights, against many random ones."""
    filters = torch.tensor([[[[0.5, 2.0], [-1.0, 0.3]]]], dtype=torch.float64)
    orders = torch.tensor(list(itertools.permutations(filters.flatten().tolist())), dtype=torch.float64)
    shares = low_frequency_share(orders.view(24, 1, 2, 2), 0.3)
    exact = (shares >= low_frequency_share(filters, 0.3) - 1e-12).double().mean().item()
    assert 0 < exact < 1
    assert noise_p_values(filters, cutoff=0.3, shufflings=1500).item() == pytest.approx(exact, abs=0.05)
    with pytest.raises(ValueError, match="at least one shuffling"):
        noise_p_values(filters, shufflings=0)


# ---------------------------------------------------------------- groups of filters


# ---------------------------------------------------------------- two layers as one


@pytest.mark.parametrize(
    ("kernel", "stride", "pool", "step", "kernel2"),
    [(3, 1, 1, 1, 3), (3, 1, 2, 2, 3), (7, 2, 3, 2, 5), (2, 3, 2, 1, 2)],
)
def test_effective_filters_are_the_gradient_of_the_linear_twin(kernel, stride, pool, step, kernel2):
    torch.manual_seed(0)
    first = nn.Conv2d(3, 4, kernel, stride=stride, dtype=torch.float64)
    second = nn.Conv2d(4, 2, kernel2, dtype=torch.float64)
    twin = nn.Sequential(first, nn.AvgPool2d(pool, step), second)
    with torch.no_grad():
        patterns = effective_filters(first.weight, second.weight, stride=stride, pool=pool, pool_stride=step)
    side = ((kernel2 - 1) * step + pool - 1) * stride + kernel
    assert patterns.shape == (2, 3, side, side)
    picture = torch.randn(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    answer = twin(picture)
    assert answer.shape == (1, 2, 1, 1), "the field is exactly the pattern"
    for unit in range(2):
        (gradient,) = torch.autograd.grad(answer[0, unit, 0, 0], picture, retain_graph=True)
        torch.testing.assert_close(patterns[unit], gradient[0])


def test_effective_filters_pool_with_their_own_step_by_default():
    first, second = noise(4, 3, 3), noise(2, 4, 3)
    by_default = effective_filters(first, second, pool=2)
    assert torch.equal(by_default, effective_filters(first, second, pool=2, pool_stride=2))


@pytest.mark.parametrize(
    ("first", "second", "options", "text"),
    [
        (torch.zeros(4, 3, 3), torch.zeros(2, 4, 3, 3), {}, "need filters"),
        (torch.zeros(4, 3, 3, 3), torch.zeros(2, 5, 3, 3), {}, "need filters"),
        (torch.zeros(4, 3, 3, 3), torch.zeros(2, 4, 3, 3), {"stride": 0}, "at least 1"),
        (torch.zeros(4, 3, 3, 3), torch.zeros(2, 4, 3, 3), {"pool": 0}, "at least 1"),
        (torch.zeros(4, 3, 3, 3), torch.zeros(2, 4, 3, 3), {"pool": 2, "pool_stride": 0}, "at least 1"),
    ],
)
def test_layers_that_do_not_fit_are_refused(first, second, options, text):
    with pytest.raises(ValueError, match=text):
        effective_filters(first, second, **options)
