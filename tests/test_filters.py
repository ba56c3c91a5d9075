"""Smoothness equals its closed forms on shapes, waves and noise, and linear filters compose as autograd says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessons_lib.methods.filters import (
    autocorrelation,
    effective_filters,
    noise_deviation,
    silent,
    weight_layers,
    weights,
)
from lessons_lib.models.small_cnn import SmallCNN

MEASURES = [autocorrelation, noise_deviation, silent]


def noise(count, channels, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)


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
    with pytest.raises(ValueError, match=r"no layer with filters .*block1\.conv"):
        weights(SmallCNN(), "block1.norm")
    with pytest.raises(ValueError, match="no layer 'conv1'"):
        weights(SmallCNN(), "conv1")
    with pytest.raises(ValueError, match="no layer with filters"):
        weights(nn.Sequential(nn.ReLU()), "0")


# ---------------------------------------------------------------- smoothness


def test_autocorrelation_by_loops():
    filters = noise(3, 2, 4)
    for f, value in zip(filters, autocorrelation(filters), strict=True):
        products = [
            (f[c, y, x] * f[c, y + dy, x + dx]).item()
            for c in range(2)
            for dy, dx in ((0, 1), (1, 0))
            for y in range(4 - dy)
            for x in range(4 - dx)
        ]
        assert value.item() == pytest.approx(sum(products) / (2 * f.square().sum().item()))


@settings(deadline=None)
@given(st.integers(2, 8), st.integers(2, 8), st.integers(1, 4), st.floats(1e-20, 1e20), st.integers(0, 99))
def test_autocorrelation_is_the_mean_cosine_of_the_zero_padded_spectrum(height, width, channels, scale, seed):
    filters = torch.randn(
        2, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    power = np.abs(np.fft.fft2(filters.numpy(), s=(16, 16))) ** 2
    cosine = np.cos(2 * np.pi * np.arange(16) / 16)
    weighted = (power.sum(1) * (cosine[:, None] + cosine) / 2).sum((1, 2))
    expected = torch.from_numpy(weighted / power.sum((1, 2, 3)))
    torch.testing.assert_close(autocorrelation(filters), expected)
    torch.testing.assert_close(autocorrelation(-scale * filters.flip(2)), expected)
    torch.testing.assert_close(autocorrelation(filters.transpose(2, 3)), expected)


@settings(deadline=None)
@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 99))
def test_it_stays_the_same_where_a_pattern_moves_in_its_window(down, across, seed):
    pattern = noise(1, 3, 3, seed)
    window = torch.zeros(1, 3, 7, 7, dtype=torch.float64)
    window[:, :, down : down + 3, across : across + 3] = pattern
    torch.testing.assert_close(autocorrelation(window), autocorrelation(pattern))


@pytest.mark.parametrize("n", [3, 7])
def test_shapes_score_their_closed_forms(n):
    rows = torch.arange(n, dtype=torch.float64)
    board = 1 - 2 * ((rows[:, None] + rows) % 2)
    pixel = torch.zeros(n, n, dtype=torch.float64)
    pixel[0, -1] = 1
    smoothest = torch.sin(math.pi * (rows + 1) / (n + 1))
    shapes = {
        (n - 1) / n: torch.ones(n, n, dtype=torch.float64),
        -(n - 1) / n: board,
        0.0: pixel,
        math.cos(math.pi / (n + 1)): smoothest[:, None] * smoothest,
    }
    for expected, shape in shapes.items():
        assert autocorrelation(shape[None, None]).item() == pytest.approx(expected, abs=1e-12)
    # the quadratic form's largest eigenvalue, so nothing is smoother
    form = torch.diag(torch.ones(n - 1), 1) + torch.diag(torch.ones(n - 1), -1)
    eye = torch.eye(n)
    top = torch.linalg.eigvalsh((torch.kron(form, eye) + torch.kron(eye, form)) / 4)[-1].item()
    assert top == pytest.approx(math.cos(math.pi / (n + 1)), abs=1e-5)


@pytest.mark.parametrize(("size", "channels"), [(3, 3), (3, 1), (7, 3), (5, 16)])
def test_white_noise_scores_what_the_closed_forms_say(size, channels):
    filters = noise(4000, channels, size) * torch.rand(4000, 1, 1, 1, dtype=torch.float64)
    values, deviation = autocorrelation(filters), noise_deviation(filters)
    assert values.mean().item() == pytest.approx(0, abs=4 * deviation / math.sqrt(4000))
    assert values.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * 4000))


def test_filters_that_are_zero_have_no_smoothness_and_are_silent():
    filters = torch.cat([noise(2, 3, 3), torch.zeros(1, 3, 3, 3), 1e-6 * noise(1, 3, 3)])
    assert autocorrelation(filters).isnan().tolist() == [False, False, True, False]
    assert silent(filters).tolist() == [False, False, True, True]
    assert silent(torch.zeros(2, 1, 3, 3)).all()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("filters", "error", "text"),
    [
        (torch.zeros(4, 3, 3), ValueError, "outputs, inputs, height, width"),
        (torch.zeros(0, 3, 3, 3), ValueError, "outputs, inputs"),
        (torch.zeros(4, 3, 1, 1), ValueError, "at least 2"),
        (torch.full((1, 1, 3, 3), torch.nan), ValueError, "NaN"),
        (torch.full((1, 1, 3, 3), torch.inf), ValueError, "infinity"),
        (torch.zeros(1, 1, 3, 3, dtype=torch.uint8), TypeError, "floating point"),
    ],
)
def test_measures_refuse_what_is_no_filter(measure, filters, error, text):
    with pytest.raises(error, match=text):
        measure(filters)


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
        (torch.zeros(4, 3, 3), torch.zeros(2, 4, 3, 3), {}, "layer's filters"),
        (torch.zeros(4, 3, 3, 3), torch.zeros(2, 5, 3, 3), {}, "layer's filters"),
    ],
)
def test_layers_that_do_not_fit_are_refused(first, second, options, text):
    with pytest.raises(ValueError, match=text):
        effective_filters(first, second, **options)
