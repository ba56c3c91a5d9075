"""The ascent climbs what the paper says, and the model is left as it was; the slope knows noise from photographs."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lessons_lib.data import photos
from lessons_lib.methods.class_visualization import (
    frequencies,
    maximise_activation,
    power_spectrum,
    spectrum,
    spectrum_slope,
)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.Softplus(),
        nn.Dropout(0.5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).double()  # fmt: skip


def start(count=2, height=18, width=16):
    return 0.3 * torch.randn(
        count, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )


def climb(*arguments, **options):
    return maximise_activation(*arguments, progress=False, **options)


# ---------------------------------------------------------------- the ascent


def test_it_equals_a_plain_re_implementation():
    """With the derivative of λ‖I‖² by hand, the class's logit by backward, one picture at a time."""
    net, weight, rate = network().eval(), 0.0005, 0.05
    for row, target in enumerate([3, 1]):
        picture = start()[row : row + 1]
        for _ in range(12):
            leaf = picture.clone().requires_grad_()
            net(leaf)[0, target].backward()
            slope = leaf.grad - 2 * weight * picture
            picture = picture + rate * slope / (slope.pow(2).mean() ** 0.5)
        result = climb(network(), start(), [3, 1], steps=12, rate=rate, weight=weight)
        torch.testing.assert_close(result[row], picture[0])
        assert (picture[0] - start()[row]).abs().max() > 0.1


def test_a_linear_score_is_climbed_along_its_weights():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 2)).double()
    result = climb(net, start(1, 6, 6), 1, steps=7, rate=0.1)
    direction = net[1].weight[1].detach().view(1, 3, 6, 6)
    torch.testing.assert_close(
        result, start(1, 6, 6) + 0.7 * direction / direction.square().mean().sqrt(), rtol=1e-9, atol=1e-9
    )


def test_each_step_has_the_length_of_the_rate():
    moved = climb(network(), start(), 2, steps=1, rate=0.05) - start()
    torch.testing.assert_close(moved.square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.05).double())


def test_a_flat_score_leaves_the_picture_where_it_is():
    net = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert torch.equal(climb(net, -torch.ones(1, 3, 4, 4), 0, steps=3), -torch.ones(1, 3, 4, 4))


def test_more_of_the_penalty_leaves_less_of_the_picture():
    norms = [climb(network(), start(1), 1, steps=40, weight=weight).norm() for weight in (0.0, 0.01, 1.0)]
    assert norms[0] > norms[1] > norms[2]


def test_jitter_rolls_the_picture_and_repeats_with_its_seed():
    """A score that reads one pixel pulls at another pixel in each step, never further off than the jitter."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 9, 1, bias=False))
    with torch.no_grad():
        net[1].weight.zero_()[0, 4 * 9 + 4] = 1  # the middle of the first channel
    blank = torch.zeros(1, 3, 9, 9)
    drawn = climb(net, blank, 0, steps=200, jitter=1, rate=1)
    assert (drawn[0, 0, 3:6, 3:6] > 0).all()
    assert drawn[0, 0].count_nonzero() == 9
    assert drawn[0, 1:].count_nonzero() == 0
    one, two, other = (climb(network(), start(), 1, steps=8, jitter=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_a_step_is_as_long_in_the_picture_whatever_paints_it():
    numbers, mixed = start(), torch.randn(3, 3, generator=torch.Generator().manual_seed(2)).double()

    def paint(values):
        return torch.einsum("cd,ndhw->nchw", mixed, values)

    moved = climb(network(), numbers, 2, steps=1, rate=0.05, paint=paint) - paint(numbers)
    torch.testing.assert_close(moved.square().mean((1, 2, 3)).sqrt(), torch.full((2,), 0.05).double())


def test_painting_is_climbing_the_composed_function():
    """With the derivative of tanh by hand: it scales the gradient, and again what a step changes."""
    net, rate = network().eval(), 0.05
    numbers = start(1)
    for _ in range(5):
        picture = numbers.tanh().requires_grad_()
        net(picture)[0, 1].backward()
        steep = 1 - picture.detach() ** 2
        slope = picture.grad * steep
        numbers = numbers + rate * slope / (slope * steep).pow(2).mean() ** 0.5
    together = climb(network(), start(1), 1, steps=5, rate=rate, paint=torch.tanh)
    torch.testing.assert_close(together, numbers.tanh())


def test_pictures_climbed_together_do_not_influence_each_other():
    options = {"steps": 5, "weight": 0.01, "jitter": 3}
    together = climb(network(), start(3), [0, 1, 2], **options)
    for i in range(3):
        alone = climb(network(), start(3)[i : i + 1], i, **options)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-10, rtol=1e-10)


def test_the_model_is_left_as_it_was():
    net = network().train()
    net[1].eval()
    net(start()).sum().backward()
    net[6].bias.requires_grad_(False)
    flags = [module.training for module in net.modules()]
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    states = {name: value.clone() for name, value in net.state_dict().items()}
    pictures, random = start(), torch.get_rng_state()
    with torch.inference_mode():
        climb(net, pictures, 1, steps=3, jitter=2)
    with torch.no_grad(), pytest.raises(FloatingPointError, match="step 1"):
        climb(net, pictures, 1, steps=3, paint=lambda numbers: numbers * torch.nan)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(pictures, start())
    assert not pictures.requires_grad
    assert [module.training for module in net.modules()] == flags
    assert [parameter.requires_grad for parameter in net.parameters()] == [True] * 5 + [False]
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert all(torch.equal(value, states[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"start": start().byte()}, TypeError, "floating point"),
        ({"start": start()[0]}, ValueError, r"\(N, 3, H, W\)"),
        ({"start": start()[:0]}, ValueError, r"\(N, 3, H, W\)"),
        ({"start": start() * torch.nan}, ValueError, "NaN"),
        ({"targets": 5}, ValueError, "in 0–4"),
        ({"targets": -1}, ValueError, "at least 0"),
        ({"targets": 1.0}, TypeError, "whole number"),
        ({"targets": [1, 2, 3]}, ValueError, "each of 2"),
        ({"model": nn.Conv2d(3, 4, 3).double()}, ValueError, "logits"),
        ({"steps": 0}, ValueError, "at least 1"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {"model": network(), "start": start(), "targets": 1, **change}
    with pytest.raises(error, match=message):
        climb(**arguments)


# ---------------------------------------------------------------- spectra


def wave(i, j, size):
    """One cosine wave, straight from the formula of the DCT-II."""
    steps = [math.pi * (2 * x + 1) / (2 * size) for x in range(size)]
    return torch.tensor(
        [[math.cos(i * down) * math.cos(j * across) for across in steps] for down in steps],
        dtype=torch.float64,
    )


@pytest.mark.parametrize("size", [2, 3, 5, 7])
def test_spectrum_is_the_projection_on_each_wave(size):
    filters = torch.randn(3, 2, size, size, dtype=torch.float64)
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


def test_power_spectrum_and_its_slope_know_noise_and_photographs():
    noise = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    frequency, power = power_spectrum(noise)
    assert (frequency > 0).all()
    assert (frequency.diff() > 0).all()
    assert power.mean(0).numpy() == pytest.approx(1, abs=0.25)
    assert spectrum_slope(noise).numpy() == pytest.approx(0, abs=0.3)
    waves = torch.hypot(torch.fft.fftfreq(64)[:, None], torch.fft.fftfreq(64)).clamp(min=1 / 64)
    for decay in (0.5, 1.0):
        coloured = torch.fft.ifft2(torch.fft.fft2(noise) * waves**-decay).real
        assert spectrum_slope(coloured).numpy() == pytest.approx(-2 * decay, abs=0.4)
    torch.testing.assert_close(spectrum_slope(3 * noise + 1), spectrum_slope(noise))
    real = spectrum_slope(
        torch.stack([photos.resized(photos.photo(name), 96) for name in photos.PHOTOGRAPHS])
    )
    assert (real < -2).all()
    assert spectrum_slope(torch.ones(1, 3, 16, 16)).isnan().all()
    with pytest.raises(ValueError, match=r"at least 16|N, 3, H, W"):
        power_spectrum(noise[:, :, :8])
    with pytest.raises(ValueError, match="NaN"):
        power_spectrum(torch.where(noise > 3, torch.nan, noise))
