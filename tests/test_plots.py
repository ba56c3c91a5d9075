"""Figures hold what they were given: the right tiles, colours and numbers, and a sentence for each."""

import base64
import io
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.display import SVG
from IPython.utils.capture import capture_output
from PIL import Image

from lessons_lib import plots
from lessons_lib.data import critters
from lessons_lib.statistics import Interval
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

PICTURES = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_show_carries_alt_text_and_size_and_closes_the_figure():
    figure, axis = plt.subplots(figsize=(4, 2))
    axis.plot([0, 1])
    with capture_output() as captured:
        plots.show(figure, "A line rises from left to right.")
    (output,) = captured.outputs
    width = round(4 * plt.rcParams["figure.dpi"])
    # JupyterLab's own pictures, image/png, have no alt text
    assert set(output.data) == {"text/html", "text/plain"}
    found = re.fullmatch(
        r'<img alt="(.*)" style="width: (\d+)px; max-width: 100%" src="data:image/png;base64,(.*)">',
        output.data["text/html"],
    )
    assert found
    assert found.groups()[:2] == ("A line rises from left to right.", str(width))
    with Image.open(io.BytesIO(base64.b64decode(found[3]))) as picture:
        assert picture.width == 2 * width
    assert not plt.get_fignums()


def test_show_carries_the_alt_text_of_a_drawing():
    drawing = SVG('<svg xmlns="http://www.w3.org/2000/svg"><rect width="1" height="2"/></svg>')
    with capture_output() as captured:
        plots.show(drawing, 'A tall box called "square" stands alone.')
    (output,) = captured.outputs
    assert 'alt="A tall box called &quot;square&quot; stands alone."' in output.data["text/html"]
    source = output.data["text/html"].partition("data:image/svg+xml;base64,")[2].partition('"')[0]
    assert base64.b64decode(source).decode() == drawing.data


@pytest.mark.parametrize("alt", ["", "a figure", "A figure without its final full stop"])
def test_alt_text_must_be_a_sentence(alt):
    with pytest.raises(ValueError, match="sentence"):
        plots.show(plt.figure(), alt)


def test_packing_sooner_changes_no_pixel():
    images = critters.generate(8, 32).images
    small, soon = (plots.to_png(plots.pictures(images), compression=level) for level in (9, 1))
    assert len(small) < len(soon)
    assert np.array_equal(*(np.asarray(Image.open(io.BytesIO(png))) for png in (small, soon)))


def test_pictures_are_shown_unchanged_with_titles():
    figure = plots.pictures(PICTURES, ["a", "b", "c"], columns=2)
    axes = figure.axes
    assert [axis.get_title() for axis in axes] == ["a", "b", "c", ""]
    for axis, picture in zip(axes[: len(PICTURES)], PICTURES, strict=True):
        assert np.array_equal(axis.images[0].get_array(), picture.permute(1, 2, 0))
    drawn(figure)


def test_pictures_refuse_nothing_and_too_few_titles():
    with pytest.raises(ValueError, match="at least one"):
        plots.pictures(PICTURES[:0])
    with pytest.raises(ValueError, match="3 titles, not 1"):
        plots.pictures(PICTURES, ["a"])


def test_a_picture_has_three_dimensions():
    with pytest.raises(ValueError, match=r"\(3, H, W\), not \(8, 8\)"):
        plots.pictures(PICTURES[0])


@pytest.mark.parametrize(("gap", "rows"), [(0, None), (1, 3), (2, None)])
def test_tiles_lie_in_rows_with_lines_between(gap, rows):
    tiled = plots.tiled(PICTURES, 2, gap=gap, fill=7, rows=rows)
    assert tiled.shape == (3, (rows or 2) * (8 + gap) - gap, 16 + gap)
    for i, picture in enumerate(PICTURES):
        top, left = (i // 2) * (8 + gap), (i % 2) * (8 + gap)
        assert torch.equal(tiled[:, top : top + 8, left : left + 8], picture)
    assert (tiled[:, 8 : 8 + gap] == 7).all()
    assert (tiled[:, 8 + gap :, 8 + gap :] == 7).all(), "no fourth picture"
    planes = plots.tiled(PICTURES[:, 0], 2, gap=gap, fill=7, rows=rows)
    assert torch.equal(planes, tiled[0])


def test_a_grid_names_its_columns_and_rows():
    shown = [plots.as_image(picture) for picture in PICTURES] + [np.eye(2), np.eye(2), np.eye(2)]
    look = {"cmap": "magma", "vmin": 0}
    figure, axes = plots.picture_grid(
        shown, heads=["a", "b", "c"], names=["above", "below"], look=look, cell=(1, 1.2), margin=(0.5, 0)
    )
    assert [axis.get_title() for axis in axes] == ["a", "b", "c", "", "", ""]
    assert [axis.get_ylabel() for axis in axes] == ["above", "", "", "below", "", ""]
    assert np.allclose(figure.get_size_inches(), (3.5, 2.4))
    assert np.array_equal(axes[4].images[0].get_array(), np.eye(2))
    drawn(figure)


def test_by_layer_draws_the_numbers_and_the_reference():
    values = {"with": {"block1": 0.0, "block2": 0.1}, "without": {"block1": 0.7, "block2": 0.4}}
    figure = plots.by_layer(values, title="Dead", ylabel="share", reference=0.3, reference_name="area")
    (axis,) = figure.axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[0.0, 0.1], [0.7, 0.4], [0.3, 0.3]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["with", "without", "area"]
    assert axis.get_ylim()[1] > 0.7
    drawn(figure)


def test_parts_colours_the_truth():
    faces = critters.generate(2, 64, seed=0)
    figure = plots.parts(faces)
    shown = figure.axes[2].images[0].get_array()
    masks = dict(zip(critters.PARTS, faces.masks[0].numpy(), strict=True))
    assert np.array_equal(shown == 0, masks["background"])
    assert np.array_equal(shown == 5, masks["nose"])
    assert np.array_equal((shown == 3) | (shown == 4), masks["left_eye"] | masks["right_eye"])
    assert figure.axes[0].get_title() == faces.classes[int(faces.labels[0])]
    drawn(figure)
    with pytest.raises(ValueError, match="nothing to draw"):
        plots.parts(faces.subset(slice(0)))


def test_intervals_are_in_the_row_of_their_group():
    nose = {"own": Interval(0.3, 0.2, 0.45), "another": Interval(0.1, 0.0, 0.2)}
    ears = {"own": Interval(0.1, 0.05, 0.12), "another": Interval(0.1, 0.02, 0.2)}
    axis = plots.intervals({"nose": nose, "ears": ears}, "loss", "title").axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["nose", "ears"]
    for container, name in zip(axis.containers, ("own", "another"), strict=True):
        points, _, (bars,) = container
        assert np.allclose(points.get_xdata(), [nose[name].mean, ears[name].mean])
        assert np.allclose(points.get_ydata(), [0, 1], atol=0.1)
        assert np.allclose(bars.get_segments()[0][:, 0], [nose[name].low, nose[name].high])
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["own", "another"]
    assert axis.get_ylim()[0] > axis.get_ylim()[1], "the first group is on top"
    drawn(axis.figure)
    for bad in ({}, {"nose": nose, "ears": {"own": ears["own"]}}):
        with pytest.raises(ValueError, match="same conditions"):
            plots.intervals(bad, "", "")
