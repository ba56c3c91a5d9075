"""Transformed pictures are exact where they can be, and distances and probabilities equal a slow re-implementation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, spatial, stats
from torch import nn

from lessons_lib.data.pictures import to_input
from lessons_lib.methods.invariance import (
    KINDS,
    NEUTRAL,
    PIXELS,
    Invariance,
    linearity,
    measure_invariance,
    outside,
    transform,
)


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


PICTURE = noise(1, 3, 60, 80)
WHOLE = {"size": 40, "frame": 40 / 60}  # one pixel of the result is one of the picture


@pytest.mark.parametrize("kind", KINDS)
def test_neutral_amount_is_the_frame_itself(kind):
    seen = transform(PICTURE, kind, [NEUTRAL[kind]], **WHOLE)
    assert torch.equal(seen, PICTURE[:, :, 10:50, 20:60])


@given(st.integers(-10, 10))
def test_shift_by_whole_pixels_is_a_crop(down):
    seen = transform(PICTURE, "shift", [down], **WHOLE)
    assert torch.equal(seen, PICTURE[:, :, 10 - down : 50 - down, 20:60])
    assert outside((60, 80), "shift", [down], **WHOLE).item() == 0


def test_quarter_turns_are_counter_clockwise_and_exact():
    seen = transform(PICTURE, "rotation", [0, 90, 180, 270, -90, 360], **WHOLE)
    expected = [torch.rot90(seen[0], k, dims=(1, 2)) for k in (0, 1, 2, 3, 3, 0)]
    assert torch.equal(seen, torch.stack(expected))


def test_scale_enlarges_about_the_middle():
    picture = torch.zeros(1, 3, 60, 60, dtype=torch.uint8)
    picture[..., 25:35, 25:35] = 255
    for times in (1, 1.5, 2, 3):
        bright = (transform(picture, "scale", [times], size=60, frame=1.0)[0, 0] > 127).nonzero()
        height, width = (bright.amax(0) - bright.amin(0) + 1).tolist()
        assert height == width == pytest.approx(10 * times, abs=1)
        assert bright.double().mean(0).tolist() == pytest.approx([29.5, 29.5])


@pytest.mark.parametrize("degrees", [17, 45, 200])
def test_rotation_agrees_with_scipy(degrees):
    rows, columns = np.mgrid[:81, :81]
    smooth = 128 + 60 * np.sin(rows / 9) + 50 * np.cos(columns / 7 + rows / 15)
    picture = torch.from_numpy(smooth).round().to(torch.uint8).expand(1, 3, -1, -1)
    ours = transform(picture, "rotation", [degrees], size=57, frame=57 / 81)[0, 0].numpy().astype(float)
    theirs = ndimage.rotate(smooth, degrees, reshape=False, order=3)[12:69, 12:69]
    assert np.abs(ours - theirs).max() < 3


def test_every_picture_can_have_its_own_amount_and_centre():
    pictures = noise(3, 3, 50, 50, seed=1)
    centres = torch.tensor([[20, 20], [25, 30], [30, 20]])
    seen = transform(pictures, "shift", [0, 2, -1], size=20, frame=0.4, centre=centres)
    for picture, (row, column), down, view in zip(pictures, centres.tolist(), (0, 2, -1), seen, strict=True):
        assert torch.equal(view, picture[:, row - 10 - down : row + 10 - down, column - 10 : column + 10])
    one = transform(pictures, "shift", [3], size=20, frame=0.4, centre=torch.tensor([[25, 25]]))
    assert torch.equal(one, pictures[:, :, 12:32, 15:35])


def test_outside_repeats_the_edge_and_is_counted():
    seen = transform(PICTURE, "shift", [14], **WHOLE)[0]
    assert outside((60, 80), "shift", [14], **WHOLE).item() == pytest.approx(4 / 40)
    assert torch.equal(seen[:, :4], PICTURE[0, :, :1, 20:60].expand(-1, 4, -1))
    assert torch.equal(seen[:, 4:], PICTURE[0, :, :36, 20:60])
    assert outside((60, 80), "scale", [0.5], size=40, frame=1.0).item() == pytest.approx(
        1 - 40 / 80 * 53 / 80, abs=0.02
    )


def test_the_default_frame_never_needs_filling():
    for kind, amounts in {"rotation": range(0, 360, 5), "scale": (1, 1.4, 2), "shift": (-47, 0, 47)}.items():
        assert outside((300, 451), kind, list(amounts)).max() == 0


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((PICTURE.float(), "shift", [0]), TypeError, "uint8"),
        ((PICTURE[0], "shift", [0]), ValueError, r"images\[None\]"),
        ((PICTURE, "skew", [0]), ValueError, "shift, scale, rotation"),
        ((PICTURE, "scale", [0]), ValueError, "above 0"),
        ((PICTURE, "shift", [math.nan]), ValueError, "finite"),
        ((PICTURE, "shift", []), ValueError, "at least one"),
        ((noise(3, 3, 9, 9), "shift", [0, 1]), ValueError, "3 pictures need as many amounts"),
    ],
)
def test_bad_transformations(arguments, error, text):
    with pytest.raises(error, match=text):
        transform(*arguments)


def test_bad_frames():
    for options in ({"frame": 1.1}, {"frame": 0}, {"size": 0}):
        with pytest.raises(ValueError, match="frame above 0"):
            transform(PICTURE, "shift", [0], **options)
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        transform(noise(2, 3, 9, 9), "shift", [0, 0], centre=torch.zeros(3, 2))


class Network(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))


@pytest.fixture
def setting():
    torch.manual_seed(0)
    model = Network().double().train()
    return model, noise(3, 3, 8, 8, seed=2), noise(3, 7, 3, 8, 8, seed=3), [[0], [1, 3], [4]]


def as_double(images):
    return to_input(images).double()


def test_measure_equals_a_slow_reimplementation(setting):
    model, originals, views, classes = setting
    result = measure_invariance(
        model, originals, views, range(7), ["1"], classes, to_input=as_double, batch_size=2
    )
    assert model.training, "the caller's training flag is put back"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())

    def features(image):
        with torch.no_grad():
            return model[1](model[0](as_double(image[None]))).flatten().numpy()

    for i in range(3):
        for a in range(7):
            step = np.sqrt(((features(views[i, a]) - features(originals[i])) ** 2).sum())
            assert result.distances["1"][i, a].item() == pytest.approx(step)
            with torch.no_grad():
                shares = model(as_double(views[i, a][None])).softmax(1)[0]
            assert result.probabilities[i, a].item() == pytest.approx(shares[classes[i]].sum().item())
    unit = spatial.distance.pdist(np.stack([features(image) for image in originals])).mean()
    assert result.unit["1"] == pytest.approx(unit)
    torch.testing.assert_close(result.relative("1"), result.distances["1"] / unit)
    pixels = (as_double(views[0, 0]) - as_double(originals[0])).norm()
    assert result.distances[PIXELS][0, 0].item() == pytest.approx(pixels.item())
    assert result.amounts == (0, 1, 2, 3, 4, 5, 6)


def test_result_does_not_depend_on_batch_size(setting):
    model, *rest = setting
    arguments = (model, *rest[:2], range(7), ["0"], rest[2])
    one, all_at_once = (measure_invariance(*arguments, to_input=as_double, batch_size=n) for n in (1, 50))
    torch.testing.assert_close(one.distances["0"], all_at_once.distances["0"], atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(one.probabilities, all_at_once.probabilities, atol=1e-12, rtol=1e-10)


def test_an_unchanged_picture_has_moved_nowhere(setting):
    model, originals, _, classes = setting
    result = measure_invariance(model, originals, originals[:, None], [0], ["0"], classes, to_input=as_double)
    assert result.distances["0"].abs().max() < 1e-12
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_single_picture_has_no_unit(setting):
    model, originals, views, classes = setting
    result = measure_invariance(
        model, originals[:1], views[:1], range(7), ["0"], classes[:1], to_input=as_double
    )
    assert math.isnan(result.unit["0"])
    assert result.relative("0").isnan().all()


def test_bad_measurements(setting):
    model, originals, views, classes = setting

    def measure(originals=originals, views=views, amounts=range(7), layers=("0",), classes=classes):
        return measure_invariance(model, originals, views, amounts, layers, classes, to_input=as_double)

    with pytest.raises(TypeError, match="uint8"):
        measure(originals=originals.float())
    for wrong in ({"views": views[:2]}, {"amounts": range(6)}, {"views": views[:, :0], "amounts": ()}):
        with pytest.raises(ValueError, match="need views of shape"):
            measure(**wrong)
    with pytest.raises(ValueError, match="right classes"):
        measure(classes=classes[:2])
    for bad in ([[0], [5], [1]], [[0], [], [1]]):
        with pytest.raises(ValueError, match="classes in 0–4"):
            measure(classes=bad)
    with pytest.raises(ValueError, match="no layer 'conv'"):
        measure(layers=["conv"])
    with pytest.raises(ValueError, match="there are: pixels, 0"):
        measure().relative("1")


def test_linearity_closed_forms():
    amounts = (-3, -2, -1, 0, 1, 2, 3)
    straight = torch.tensor([[6.0, 4, 2, 0, 2, 4, 6]])
    jump = torch.tensor([[1.0, 1, 1, 0, 1, 1, 1]])
    assert linearity(amounts, straight).item() == pytest.approx(1)
    expected = stats.pearsonr(np.abs(amounts), jump[0].numpy()).statistic ** 2
    assert linearity(amounts, jump).item() == pytest.approx(expected)
    assert linearity(amounts, torch.zeros(1, 7)).isnan().all()
    assert linearity((1, 1.5, 2), torch.tensor([[0.0, 2, 4]]), neutral=1).item() == pytest.approx(1)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 100), min_size=5, max_size=5), st.floats(0.1, 10))
def test_linearity_is_a_share_and_does_not_depend_on_scale(values, scale):
    distances = torch.tensor([values], dtype=torch.float64)
    share, scaled = (linearity((0, 1, 2, 3, 4), part).item() for part in (distances, scale * distances))
    if distances.std() > 1e-3:
        assert 0 <= share <= 1 + 1e-9
        assert scaled == pytest.approx(share, abs=1e-9)


def test_bad_linearity():
    with pytest.raises(ValueError, match="at least three"):
        linearity((-1, 0, 1), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"\(N, 3\)"):
        linearity((0, 1, 2), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="NaN"):
        linearity((0, 1, 2), torch.full((1, 3), torch.nan))


def test_results_are_frozen():
    result = Invariance((0.0,), {}, {}, torch.zeros(1, 1))
    with pytest.raises(AttributeError):
        result.amounts = ()
