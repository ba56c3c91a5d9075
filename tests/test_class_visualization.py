"""The ascent climbs what the paper says, each piece does what its formula says, and the model is left as it was."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import nn

from lessons_lib.data import photos
from lessons_lib.data.pictures import to_input, to_picture
from lessons_lib.methods.class_visualization import (
    BLANKS,
    Fourier,
    Pixels,
    blank,
    blur,
    clip,
    displayed,
    jitter,
    l2,
    log_probability,
    logit,
    maximise_activation,
    natural_colours,
    power_spectrum,
    probability,
    spectrum_slope,
    total_variation,
)
from lessons_lib.methods.class_visualization.pictures import frequencies, spectrum
from lessons_lib.models import imagenet

HALF = (0.5, 0.5, 0.5)
CLASSES = ("espresso", "tabby", "goldfish", "golf ball", "flamingo",
           "strawberry", "daisy", "missile", "palace", "lemon")  # fmt: skip


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


def test_l2_only_equals_a_plain_re_implementation():
    """With the paper's formula written out, and the derivative of λ‖I‖² by hand."""
    net, weight, rate = network().eval(), 0.07, 0.6
    pictures, scores = start(), []
    for _ in range(12):
        leaf = pictures.clone().requires_grad_()
        score = net(leaf)[range(2), [3, 1]]
        scores.append(score - weight * (leaf**2).sum((1, 2, 3)))
        score.sum().backward()
        pictures = pictures + rate * (leaf.grad - 2 * weight * pictures)
    result = climb(network(), start(), [3, 1], steps=12, rate=rate, penalties=[l2(weight)], frames=4)
    torch.testing.assert_close(result.pictures, pictures)
    torch.testing.assert_close(result.objective, torch.stack(scores))
    assert (pictures - start()).abs().max() > 0.1


def test_a_linear_score_reaches_the_known_optimum():
    """The maximum of wI − λ‖I‖² is at w / 2λ."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 6 * 6, 2)).double()
    result = climb(net, start(1, 6, 6), 1, steps=60, rate=0.4, penalties=[l2(0.5)])
    torch.testing.assert_close(result.pictures, net[1].weight[1].detach().view(1, 3, 6, 6))


def test_frames_and_numbers_are_those_of_the_pictures():
    net = network()
    result = climb(net, start(), 2, steps=10, frames=5)
    assert result.steps == (0, 2, 5, 8, 10)
    torch.testing.assert_close(result.frames[0], start())
    for i, step in enumerate(result.steps[1:], 1):
        torch.testing.assert_close(climb(net, start(), 2, steps=step).pictures, result.frames[i])
    logits = net.eval()(result.pictures).detach()
    torch.testing.assert_close(result.logits[-1], logits[:, 2])
    torch.testing.assert_close(result.probabilities[-1], logits.softmax(1)[:, 2])
    order = logits.argsort(1, descending=True)
    assert result.ranks[-1].tolist() == [(row == 2).nonzero().item() + 1 for row in order]
    assert result.objective.shape == (10, 2)
    assert (result.logits[-1] > result.logits[0]).all()


def test_more_frames_than_steps():
    assert climb(network(), start(), 0, steps=2, frames=9).steps == (0, 1, 2)


def test_pictures_climbed_together_do_not_influence_each_other():
    options = {
        "steps": 5,
        "penalties": [l2(0.01), total_variation(0.01)],
        "views": [jitter(3)],
        "constraints": [blur(0.5, 2), clip(HALF, HALF)],
        "parametrisation": Fourier(),
        "rate": 0.1,
    }
    together = climb(network(), start(3), [0, 1, 2], **options)
    for i in range(3):
        alone = climb(network(), start(3)[i : i + 1], i, **options)
        torch.testing.assert_close(together.frames[:, i : i + 1], alone.frames, atol=1e-10, rtol=1e-10)


def test_a_row_of_weights_is_a_row_of_ascents():
    weights = torch.tensor([0.0, 0.1, 0.2])
    together = climb(network(), start(1).repeat(3, 1, 1, 1), 1, steps=6, penalties=[l2(weights)])
    for i, weight in enumerate(weights.tolist()):
        alone = climb(network(), start(1), 1, steps=6, penalties=[l2(weight)])
        torch.testing.assert_close(together.pictures[i], alone.pictures[0])
    norms = together.pictures.flatten(1).norm(dim=1)
    assert norms[0] > norms[1] > norms[2]


def test_the_score_that_is_climbed_can_be_chosen():
    logits = torch.tensor([[1.0, 2.0, 4.0], [0.0, 5.0, 1.0]])
    targets = torch.tensor([2, 0])
    assert logit(logits, targets).tolist() == [4.0, 0.0]
    torch.testing.assert_close(probability(logits, targets), logits.softmax(1)[range(2), targets])
    torch.testing.assert_close(
        log_probability(logits, targets), -F.cross_entropy(logits, targets, reduction="none")
    )
    by_logit, by_share = (
        climb(network(), start(), 1, steps=20, score=score) for score in (logit, log_probability)
    )
    assert (by_logit.logits[-1] > by_share.logits[-1]).all()
    assert (by_logit.probabilities[-1] < by_share.probabilities[-1]).all()


def test_the_model_is_left_as_it_was():
    net = network().train()
    net[1].eval()
    net(start()).sum().backward()
    net[6].bias.requires_grad_(False)
    flags = [module.training for module in net.modules()]
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    states = {name: value.clone() for name, value in net.state_dict().items()}
    pictures = start()
    with torch.inference_mode():
        climb(net, pictures, 1, steps=3)
    with torch.no_grad(), pytest.raises(FloatingPointError):
        climb(net, pictures, 1, steps=3, score=lambda logits, targets: logits[:, 0] * torch.nan)
    assert torch.equal(pictures, start())
    assert not pictures.requires_grad
    assert [module.training for module in net.modules()] == flags
    assert [parameter.requires_grad for parameter in net.parameters()] == [True] * 5 + [False]
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert all(torch.equal(value, states[name]) for name, value in net.state_dict().items())


def test_a_score_that_is_not_finite_stops_with_advice():
    with pytest.raises(FloatingPointError, match="smaller rate than 50"):
        climb(network().float(), start().float(), 1, steps=200, rate=50, penalties=[l2(1.0)])


def test_interrupting_returns_what_was_reached(capsys):
    def stop(pictures, step):
        if step == 4:
            raise KeyboardInterrupt
        return pictures

    result = climb(network(), start(), 1, steps=10, frames=11, constraints=[stop])
    assert result.interrupted
    assert "Interrupted after 3 of 10 steps" in capsys.readouterr().out
    assert result.steps[:3] == (0, 1, 2)
    assert len(result.objective) == result.steps[-1] == 3
    assert result.logits.shape == (len(result.steps), 2)
    assert torch.equal(result.pictures, climb(network(), start(), 1, steps=3).pictures)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"start": start().byte()}, TypeError, "normalise"),
        ({"start": start()[0]}, ValueError, r"start\[None\]"),
        ({"start": start()[:0]}, ValueError, r"\(N, 3, H, W\)"),
        ({"start": start() * torch.nan}, ValueError, "NaN"),
        ({"targets": 5}, ValueError, "in 0–4"),
        ({"targets": -1}, ValueError, "at least 0"),
        ({"targets": 1.0}, TypeError, "whole number"),
        ({"targets": [1, 2, 3]}, ValueError, "each of 2"),
        ({"model": nn.Conv2d(3, 4, 3).double()}, ValueError, "logits"),
        ({"steps": 0}, ValueError, "at least 1"),
        ({"frames": 1}, ValueError, "at least 2"),
        ({"rate": -1.0}, ValueError, "above 0"),
        ({"rate": math.inf}, ValueError, "above 0"),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {"model": network(), "start": start(), "targets": 1, **change}
    with pytest.raises(error, match=message):
        climb(**arguments)


# ---------------------------------------------------------------- pieces


def test_penalties_equal_their_formulas():
    pictures = start()
    expected = 0.3 * np.square(pictures.numpy()).sum((1, 2, 3))
    assert l2(0.3)(pictures).numpy() == pytest.approx(expected)
    slow = 0.0
    for _, y, x in np.ndindex(3, 18, 16):
        for_channel = pictures[0, _]
        down = for_channel[min(y + 1, 17), x] - for_channel[y, x]
        across = for_channel[y, min(x + 1, 15)] - for_channel[y, x]
        slow += math.hypot(down, across)
    assert total_variation(0.5)(pictures)[0].item() == pytest.approx(0.5 * slow, rel=1e-5)
    ramp = torch.arange(8.0).expand(1, 3, 8, 8)
    assert total_variation(1)(ramp).item() == pytest.approx(3 * 8 * 7, rel=1e-5)
    flat = torch.zeros(1, 3, 8, 8, requires_grad=True)
    total_variation(1)(flat).sum().backward()
    assert torch.equal(flat.grad, torch.zeros_like(flat)), "no NaN where nothing varies"


@pytest.mark.parametrize("penalty", [l2, total_variation])
@pytest.mark.parametrize("weight", [-1, math.nan, torch.zeros(2, 2)])
def test_bad_weights_are_refused(penalty, weight):
    with pytest.raises(ValueError, match="at least 0"):
        penalty(weight)


def test_jitter_moves_whole_pictures_and_repeats_with_its_seed():
    pictures = start()
    seen = set()
    view, generator = jitter(2), torch.Generator().manual_seed(0)
    for _ in range(200):
        moved = view(pictures, generator)
        fits = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(moved, torch.from_numpy(np.roll(pictures.numpy(), (down, right), (2, 3))))
        ]
        assert len(fits) == 1
        seen.add(fits[0])
    assert len(seen) == 25
    one, two, other = (
        climb(network(), start(), 1, steps=8, views=[view], seed=s).pictures for s in (0, 0, 1)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    with pytest.raises(ValueError, match="at least 0"):
        jitter(-1)


def test_blur_equals_scipys_and_keeps_its_rhythm():
    pictures = start()
    result = blur(0.8, every=3)(pictures, 6)
    expected = ndimage.gaussian_filter(
        pictures.numpy(), 0.8, axes=(2, 3), mode="nearest", radius=math.ceil(3 * 0.8)
    )
    assert result.numpy() == pytest.approx(expected)
    assert blur(0.8, every=3)(pictures, 7) is pictures
    for sigma, every in ((0, 1), (math.nan, 1), (1, 0)):
        with pytest.raises(ValueError, match="sigma must be above 0"):
            blur(sigma, every)


def test_clip_keeps_to_black_and_white():
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    clipped = clip(mean, std)(100 * start(), 1)
    levels = clipped * torch.tensor(std)[:, None, None] + torch.tensor(mean)[:, None, None]
    assert levels.amin((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-6)
    assert levels.amax((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-6)
    small = 0.01 * start()
    assert torch.equal(clip(mean, std)(small, 1), small)
    assert (
        climb(network(), start(), 1, steps=5, rate=100, constraints=[clip(HALF, HALF)]).pictures.abs().max()
        == 1
    )


@settings(deadline=None, max_examples=40)
@given(decay=st.floats(0, 2), height=st.integers(4, 17), width=st.integers(4, 17), coloured=st.booleans())
def test_a_parametrisation_is_undone_by_its_inverse(decay, height, width, coloured):
    colours = natural_colours(photos.views(4, 32)) if coloured else None
    pictures = start(2, height, width)
    fourier = Fourier(decay, colours)
    torch.testing.assert_close(fourier.decode(fourier.encode(pictures)), pictures)
    assert fourier.scales(height, width).square().mean().item() == pytest.approx(1)
    if decay == 0 and not coloured:
        torch.testing.assert_close(fourier.encode(pictures), pictures)
    assert Pixels().decode(Pixels().encode(pictures)) is pictures


def test_fourier_equals_climbing_the_complex_coefficients():
    """Of the whole, not the half, transform, scaled to preserve length: a plain re-implementation."""
    net, fourier = network().eval(), Fourier(1.3)
    scales = fourier.scales(18, 16)
    coefficients = torch.fft.fft2(start(), norm="ortho") / scales
    for _ in range(8):
        leaf = torch.view_as_real(coefficients).clone().requires_grad_()
        picture = torch.fft.ifft2(torch.view_as_complex(leaf) * scales, norm="ortho").real
        net(picture)[:, 2].sum().backward()
        coefficients = coefficients + 0.3 * torch.view_as_complex(leaf.grad)
    expected = torch.fft.ifft2(coefficients * scales, norm="ortho").real
    result = climb(net, start(), 2, steps=8, rate=0.3, parametrisation=fourier)
    torch.testing.assert_close(result.pictures, expected)


def test_slow_waves_move_further():
    flat_gradient = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2, bias=False))
    with torch.no_grad():
        flat_gradient[1].weight.normal_(generator=torch.Generator().manual_seed(0))
    blanks = torch.zeros(1, 3, 32, 32)
    slopes = [
        spectrum_slope(
            climb(flat_gradient, blanks, 0, steps=1, parametrisation=Fourier(decay)).pictures
        ).item()
        for decay in (0, 1)
    ]
    assert slopes[0] == pytest.approx(0, abs=0.5)
    assert slopes[1] == pytest.approx(-4, abs=0.7), "amplitudes are scaled on the way in and on the way out"


def test_natural_colours_are_the_root_of_the_covariance():
    images = photos.views(6, 32)
    colours = natural_colours(images)
    covariance = torch.from_numpy(np.cov(images.transpose(0, 1).flatten(1).numpy()))
    torch.testing.assert_close(colours @ colours, covariance * 3 / covariance.trace())
    torch.testing.assert_close(colours, colours.T)
    for bad in (images[0], images[:0], images[:, :1].expand(-1, 3, -1, -1)):
        with pytest.raises(ValueError, match=r"\(N, 3, H, W\)|too few colours"):
            natural_colours(bad)
    for matrix in (torch.eye(2), torch.zeros(3, 3), torch.ones(3, 3)):
        with pytest.raises(ValueError, match="invertible"):
            Fourier(1.0, matrix)


# ---------------------------------------------------------------- pictures


def test_blank_pictures():
    assert BLANKS == ("black", "grey", "noise")
    assert blank("black", 8).unique().tolist() == [0]
    assert blank("grey", 8).unique().tolist() == [128]
    noise = blank("noise", 64)
    assert (noise.shape, noise.dtype) == ((3, 64, 64), torch.uint8)
    assert noise.float().mean().item() == pytest.approx(128, abs=1)
    assert noise.float().std().item() == pytest.approx(32, abs=1)
    assert torch.equal(noise, blank("noise", 64))
    assert not torch.equal(noise, blank("noise", 64, seed=1))
    for kind, size in (("white", 8), ("grey", 0)):
        with pytest.raises(ValueError, match="black, grey, noise"):
            blank(kind, size)


def test_displayed_undoes_the_normalisation():
    images = torch.arange(256, dtype=torch.uint8).expand(3, 2, 256)
    assert torch.equal(displayed(to_input(images), HALF, HALF), images)
    inputs = 2 * start()
    assert torch.equal(displayed(inputs, HALF, HALF), to_picture(inputs))
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    inputs = (images / 255 - mean[:, None, None]) / std[:, None, None]
    assert torch.equal(displayed(inputs, mean.tolist(), std.tolist()), images)


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
    for decay in (0.5, 1.0):
        coloured = Fourier(decay).decode(noise)
        assert spectrum_slope(coloured).numpy() == pytest.approx(-2 * decay, abs=0.4)
    torch.testing.assert_close(spectrum_slope(3 * noise + 1), spectrum_slope(noise))
    real = spectrum_slope(
        torch.stack([photos.resized(photos.photo(name), 96) for name in photos.PHOTOGRAPHS])
    )
    assert (real < -2).all()
    assert spectrum_slope(torch.ones(1, 3, 16, 16)).isnan().all()
    with pytest.raises(ValueError, match="at least 16×16"):
        power_spectrum(noise[:, :, :8])
    with pytest.raises(ValueError, match="NaN or infinite"):
        power_spectrum(torch.where(noise > 3, torch.nan, noise))


# ---------------------------------------------------------------- a real network


@pytest.fixture(scope="module")
def classifier():
    return imagenet.load()


@pytest.mark.parametrize("kind", [*BLANKS, "photograph"])
def test_the_class_becomes_the_answer_from_each_start(classifier, kind):
    """For at least nine of ten classes of ImageNet; small pictures, as that is quicker and no easier."""
    picture = photos.resized(photos.photo("chelsea"), 80) if kind == "photograph" else blank(kind, 80)
    classes = [classifier.categories.index(name) for name in CLASSES]
    model = classifier.model.to(memory_format=torch.channels_last)
    inputs = classifier.normalise(picture)[None].repeat(len(classes), 1, 1, 1)
    result = climb(model, inputs, classes, steps=40, rate=0.7, penalties=[l2(1e-3)], frames=11)
    assert (result.ranks[0] > 1).sum() >= 9, "the class was not the answer to begin with"
    assert (result.ranks == 1).any(0).sum() >= 9


def test_plain_grey_is_nearly_flat_at_224_pixels(classifier):
    """Why lesson 09 climbs at other sizes."""
    names = ("goldfish", "golf ball", "strawberry", "volcano")

    def slopes(size):
        grey = classifier.normalise(blank("grey", size))[None].requires_grad_()
        logits = classifier.model(grey)[0]
        of_classes = [logits[classifier.categories.index(name)] for name in names]
        return torch.stack(
            [torch.autograd.grad(score, grey, retain_graph=True)[0].norm() for score in of_classes]
        )

    flat = slopes(224)
    assert (slopes(128) > 50 * flat).all()
    assert (slopes(160) > 50 * flat).all()
