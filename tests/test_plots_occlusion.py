"""Figures of occlusion hold the right maps, in the right place, with the right colours."""

import base64
import io
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from lessons_lib.methods.occlusion import OcclusionMap
from lessons_lib.plots.occlusion import (
    heat_maps,
    patched,
    predicted_classes,
    segments,
    sensitivity,
    strips,
    zeiler_fergus,
)
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

IMAGE = torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CLASSES = tuple(f"class {i}" for i in range(12))


@pytest.fixture
def swept():
    """A map of 10 × 12 positions, stride 2, patch 6, centred; four classes are predicted, 0 most."""
    generator = torch.Generator().manual_seed(1)
    predicted = torch.zeros(10, 12, dtype=torch.int64)
    predicted[0], predicted[1, :7], predicted[2, :3] = 5, 9, 2
    return OcclusionMap(
        targets=(0,),
        probabilities=torch.rand(1, 10, 12, generator=generator),
        predicted=predicted,
        channels=(7,),
        activations=10 * torch.rand(1, 10, 12, generator=generator),
        tops=torch.arange(0, 20, 2) - 3,
        lefts=torch.arange(0, 24, 2) - 3,
        patch=6,
        image=torch.ones(3, 20, 24),
        filled=torch.zeros(3, 20, 24),
        layer=None,
        computed=torch.ones(10, 12, dtype=torch.bool),
        clean_probabilities=torch.tensor([0.6, 0.4, *[0.0] * 10]),
        clean_activations=torch.tensor([11.0]),
        note="",
        seconds=1.0,
    )


def shown(axis):
    return np.asarray(axis.images[-1].get_array())


def test_sensitivity(swept):
    figure = sensitivity(IMAGE, swept, "class 0")
    picture, heat, wrong, overlay, _ = figure.axes
    assert np.array_equal(picture.images[0].get_array(), IMAGE.permute(1, 2, 0))
    (frame,) = picture.patches
    assert (frame.get_width(), frame.get_height()) == (6, 6)
    assert np.array_equal(shown(heat), swept.probabilities[0])
    assert "0.60" in heat.get_title()
    assert np.array_equal(shown(wrong), swept.predicted != 0)
    assert "22 of 120" in wrong.get_title()
    bar = figure.axes[4]
    assert "line: without a patch" in bar.get_ylabel()
    assert [line.get_ydata()[0] for line in bar.lines[-2:]] == pytest.approx([0.6, 0.6])
    assert np.array_equal(shown(overlay), swept.predicted != 0)
    assert overlay.images[1].to_rgba([0, 1])[:, 3].tolist() == [0, 0.6], "nothing where the answer stays"
    drawn(figure)


def test_a_position_stands_at_the_patchs_centre(swept):
    heat = sensitivity(IMAGE, swept, "class 0").axes[1]
    left, right, bottom, top = heat.images[0].get_extent()
    assert (left + 1, right - 1, top + 1, bottom - 1) == (0, 22, 0, 18), (
        "first and last centres, half a stride inside"
    )
    assert heat.get_xlim() == (-0.5, 23.5)
    assert heat.get_ylim() == (19.5, -0.5)


def test_zeiler_fergus(swept):
    figure = zeiler_fergus(IMAGE, swept, CLASSES, "layer4")
    axes = [axis for axis in figure.axes if axis.images]
    assert np.array_equal(shown(axes[1]), swept.activations[0])
    assert "layer4, channel 7" in axes[1].get_title()
    assert axes[1].images[0].get_clim() == pytest.approx((float(swept.activations.min()), 11)), (
        "11 without a patch"
    )
    (bar,) = [axis for axis in figure.axes if axis.get_ylabel().startswith("total activation")]
    assert "line: without a patch" in bar.get_ylabel()
    assert [line.get_ydata()[0] for line in bar.lines[-2:]] == pytest.approx([11, 11])
    (frame,) = axes[0].patches
    assert (frame.get_width(), frame.get_height()) == (6, 6)
    assert np.array_equal(shown(axes[2]), swept.probabilities[0])
    assert [t.get_text() for t in axes[3].get_legend().get_texts()] == [
        "class 0",
        "class 5",
        "class 9",
        "class 2",
    ]
    drawn(figure)
    with pytest.raises(ValueError, match="layer="):
        zeiler_fergus(IMAGE, replace(swept, channels=()), CLASSES, "layer4")


def test_predicted_classes_have_a_colour_each(swept):
    axis = predicted_classes(IMAGE, swept, CLASSES).axes[1]
    index = shown(axis)
    order = [0, 5, 9, 2]
    assert all((index == i).sum() == (swept.predicted == c).sum() for i, c in enumerate(order))
    colours = [patch.get_facecolor() for patch in axis.get_legend().get_patches()]
    assert len(set(colours)) == 4
    assert all(axis.images[0].cmap(i) == colour for i, colour in enumerate(colours))
    drawn(axis.figure)


def test_rare_classes_share_a_colour(swept):
    many = replace(swept, predicted=torch.arange(120).view(10, 12) % 12)
    axis = predicted_classes(IMAGE, many, CLASSES).axes[1]
    texts = [t.get_text() for t in axis.get_legend().get_texts()]
    assert len(texts) == 8
    assert texts[-1] == "others"
    assert (shown(axis) == 7).sum() == 50


def test_heat_maps_share_one_scale(swept):
    low = replace(swept, probabilities=swept.probabilities / 10, patch=8)
    figure = heat_maps([IMAGE, 255 - IMAGE], {"zero": {"6": swept, "9": low}, "blur": {"6": low, "9": swept}})
    grid = np.array(figure.axes[:6]).reshape(2, 3)
    images = [axis.images[0] for axis in grid[:, 1:].flat]
    assert len({image.get_clim() for image in images}) == 1
    assert np.array_equal(images[1].get_array(), low.probabilities[0])
    assert grid[0, 1].get_title() == "6\nanswer stays at 98 of 120"
    assert "line: without a patch" in figure.axes[6].get_ylabel()
    assert np.array_equal(shown(grid[1, 0]), 255 - IMAGE.permute(1, 2, 0))
    assert [axis.patches[0].get_width() for axis in grid[:, 0]] == [6, 8]
    drawn(figure)
    with pytest.raises(ValueError, match="one picture for each row"):
        heat_maps([IMAGE], {"zero": {"6": swept}, "blur": {"6": swept}})


def test_heat_maps_say_what_was_there_without_a_patch_where_it_differs(swept):
    clean = torch.tensor([0.2, 0.8, *[0.0] * 10])
    figure = heat_maps(
        [IMAGE] * 2, {"one": {"6": swept}, "two": {"6": replace(swept, clean_probabilities=clean)}}
    )
    titles = [axis.get_title() for axis in figure.axes[1:4:2]]
    assert titles[0] == "6\nwithout a patch 0.60\nanswer stays at 98 of 120"
    assert titles[1].startswith("without a patch 0.20\n")
    assert figure.axes[4].get_ylabel() == "probability"
    drawn(figure)


def test_the_colours_reach_what_was_there_without_a_patch(swept):
    low = replace(swept, probabilities=swept.probabilities / 10)
    heat = sensitivity(IMAGE, low, "class 0").axes[1]
    assert heat.images[0].get_clim()[1] == pytest.approx(0.6)


def test_strips_mark_the_median():
    values = {"a": torch.tensor([0.1, 0.2, 0.9]), "b": torch.tensor([0.5, 0.6])}
    axis = strips(values, ylabel="correlation", title="Maps").axes[0]
    for dots, group in zip(axis.collections[::2], values.values(), strict=True):
        assert np.allclose(dots.get_offsets()[:, 1], group)
    medians = [line.get_segments()[0][0, 1] for line in axis.collections[1::2]]
    assert np.allclose(medians, [0.2, 0.5])
    drawn(axis.figure)


def test_segments_are_coloured_by_what_they_cost():
    labels = (torch.arange(20)[:, None] // 10 * 2 + torch.arange(24) // 12).long()
    drops = torch.tensor([0.4, -0.1, 0.0, 0.2])
    figure = segments(IMAGE, labels, drops, "class 0")
    picture, costs, _ = figure.axes
    assert np.array_equal(shown(costs), drops[labels])
    assert costs.images[0].get_clim() == pytest.approx((-0.4, 0.4))
    assert picture.get_title() == "4 segments"
    assert (shown(picture)[9, 2] == (1, 1, 0)).all(), "a border"
    drawn(figure)


def test_a_flat_map_can_be_drawn(swept):
    flat = replace(swept, probabilities=torch.ones(1, 10, 12), activations=torch.zeros(1, 10, 12))
    drawn(sensitivity(IMAGE, flat, "class 0"))
    drawn(zeiler_fergus(IMAGE, flat, CLASSES, "layer"))


SVG_NAMES = {"s": "http://www.w3.org/2000/svg"}


def test_patched_shows_the_most_probable_classes():
    probabilities = torch.tensor([0.1, 0.5, 0.05, 0.3, 0.04, 0.01])
    clean = torch.tensor([0.9, 0.1, 0.0, 0.0, 0.0, 0.0])
    classes = ["class 0", "<b> & c", *CLASSES[2:]]
    drawing = ElementTree.fromstring(patched(IMAGE, probabilities, clean, classes).data)
    words = [text.text for text in drawing.iterfind("s:text", SVG_NAMES)]
    named = [word for word in words if word in classes]
    assert named == ["<b> & c", "class 3", "class 0", "class 2", "class 4"]
    assert [word for word in words if re.fullmatch(r"0\.\d\d", word)] == [
        "0.50",
        "0.30",
        "0.10",
        "0.05",
        "0.04",
    ]
    assert "black marks: without the patch" in words

    # one on the scale is as far from zero as the ticks say
    ticks = {
        text.text: float(text.get("x")) for text in drawing.iterfind("s:text", SVG_NAMES) if text.get("x")
    }
    zero, one = ticks["0"], ticks["1"]
    bars = drawing.findall("s:rect", SVG_NAMES)[1:]  # the first is the page
    assert np.allclose([float(bar.get("x")) for bar in bars], zero)
    assert np.allclose(
        [float(bar.get("width")) / (one - zero) for bar in bars], [0.5, 0.3, 0.1, 0.05, 0.04], atol=1e-3
    )
    usual = [bar.get("fill") for bar in bars]
    assert usual[2] not in usual[:2] + usual[3:], "the class without a patch has a colour of its own"
    marks = [path for path in drawing.iterfind("s:path", SVG_NAMES) if path.get("stroke-width")]
    starts = [float(re.match(r"M([\d.]+) ", mark.get("d"))[1]) for mark in marks]
    assert np.allclose([(start - zero) / (one - zero) for start in starts], [0.1, 0, 0.9, 0, 0], atol=1e-3)


def test_patched_holds_the_picture_unchanged():
    two = torch.tensor([0.3, 0.7])
    drawing = ElementTree.fromstring(patched(IMAGE, two, two, CLASSES[:2]).data)
    (image,) = drawing.iterfind("s:image", SVG_NAMES)
    with Image.open(io.BytesIO(base64.b64decode(image.get("href").partition("base64,")[2]))) as file:
        assert np.array_equal(np.asarray(file), IMAGE.permute(1, 2, 0))
    assert len(drawing.findall("s:rect", SVG_NAMES)) == 3, "two classes have two bars"
