"""Figures hold what they were given: the right tiles, colours and numbers, and a sentence for each."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image

from lessons_lib import plots
from lessons_lib.data import critters
from lessons_lib.methods.activations import Measures
from lessons_lib.training import Epoch

PICTURES = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_figure_is_left_open():
    InteractiveShell.instance()
    yield
    plt.close("all")


def drawn(figure):
    """The figure's pixels, to see that something was drawn."""
    pixels = np.asarray(Image.open(io.BytesIO(plots.to_png(figure))).convert("L"))
    assert pixels.std() > 5, "an empty figure"
    return pixels


def test_show_carries_alt_text_and_size_and_closes_the_figure():
    figure, axis = plt.subplots(figsize=(4, 2))
    axis.plot([0, 1])
    with capture_output() as captured:
        plots.show(figure, "A line rises from left to right.")
    (output,) = captured.outputs
    assert output.metadata["image/png"]["alt"] == "A line rises from left to right."
    assert output.metadata["image/png"]["width"] == round(4 * plt.rcParams["figure.dpi"])
    assert output.data["image/png"]
    assert not plt.get_fignums()


@pytest.mark.parametrize("alt", ["", "a figure", "A figure without its final full stop"])
def test_alt_text_must_be_a_sentence(alt):
    with pytest.raises(ValueError, match="sentence"):
        plots.show(plt.figure(), alt)


def test_pictures_are_shown_unchanged_with_titles():
    figure = plots.pictures(PICTURES, ["a", "b", "c"], columns=2)
    axes = figure.axes
    assert [axis.get_title() for axis in axes] == ["a", "b", "c", ""]
    for axis, picture in zip(axes, PICTURES, strict=False):
        assert np.array_equal(axis.images[0].get_array(), picture.permute(1, 2, 0))
    drawn(figure)


def test_pictures_refuse_nothing_and_too_few_titles():
    with pytest.raises(ValueError, match="at least one"):
        plots.pictures(PICTURES[:0])
    with pytest.raises(ValueError, match="3 titles, not 1"):
        plots.pictures(PICTURES, ["a"])


@pytest.mark.parametrize("channels", [1, 2, 7, 32, 64, 128, 256])
def test_mosaic_holds_each_channel_once(channels):
    maps = torch.arange(channels).view(-1, 1, 1).expand(-1, 2, 3).float()
    canvas = plots.mosaic(maps)
    values, counts = np.unique(canvas[~np.isnan(canvas)], return_counts=True)
    assert values.tolist() == list(range(channels))
    assert set(counts) == {2 * 3 * 4**2}, "each position enlarged by 4, so that 2 rows become 8"
    assert canvas[0, 0] == 0
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        plots.mosaic(torch.zeros(1, 2, 3, 4))


def test_channel_browser_frames_the_channel_it_enlarges():
    maps = torch.zeros(32, 4, 4)
    maps[11] = 1
    figure = plots.channel_browser(PICTURES[0], maps, 11, title="block1")
    _, middle, right, _ = figure.axes
    assert right.get_title() == "channel 11, 4×4"
    assert np.array_equal(right.images[0].get_array(), maps[11])
    (frame,) = middle.patches
    left, top = frame.get_xy()
    inside = middle.images[0].get_array()[round(top) + 1 : round(top) + 9, round(left) + 1 : round(left) + 9]
    assert (inside == 1).all()
    assert (middle.images[0].get_array() == 1).sum() == inside.size
    drawn(figure)
    for channel in (-1, 32):
        with pytest.raises(ValueError, match="0–31"):
            plots.channel_browser(PICTURES[0], maps, channel)


def test_mean_maps_average_over_channels():
    rows = {
        state: {"block1": torch.rand(3, 4, 8, 8), "block2": torch.rand(3, 6, 4, 4)}
        for state in ("untrained", "trained")
    }
    figure = plots.mean_maps(PICTURES, rows)
    axes = np.array(figure.axes).reshape(6, 3)
    for i in range(3):
        for j, state in enumerate(rows):
            for column, layer in enumerate(("block1", "block2"), start=1):
                expected = rows[state][layer][i].mean(0)
                assert np.allclose(axes[2 * i + j, column].images[0].get_array(), expected)
    assert axes[0, 1].get_title() == "block1\n8×8"
    assert [axis.get_ylabel() for axis in axes[:2, 0]] == ["untrained", "trained"]
    drawn(figure)


def test_channels_by_epoch_has_a_mosaic_for_each():
    stacks = {epoch: torch.rand(32, 4, 4) for epoch in (0, 1, 2, 5)}
    figure = plots.channels_by_epoch(PICTURES[0], stacks, "block1")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["picture", "before training", "after epoch 1", "after epoch 2", "after epoch 5"]
    for axis, stack in zip(figure.axes[1:], stacks.values(), strict=True):
        shown = np.ma.filled(axis.images[0].get_array(), np.nan)
        assert np.array_equal(shown, plots.mosaic(stack), equal_nan=True)
    assert "all 32 channels of 4×4" in figure.get_suptitle()
    drawn(figure)


def test_a_silent_layer_can_be_drawn():
    drawn(plots.channels_by_epoch(PICTURES[0], {0: torch.zeros(8, 4, 4)}, "block1"))


def test_measures_by_epoch_draws_the_numbers():
    measures = {
        "block1": {0: Measures(0.1, 0.2, 0.0, 0.4), 5: Measures(0.5, 0.6, 0.7, 0.8)},
        "block2": {0: Measures(0.2, 0.3, 0.1, 0.5), 5: Measures(0.6, 0.7, 0.8, 0.9)},
    }
    figure = plots.measures_by_epoch(measures)
    for axis, field in zip(figure.axes, ("sparsity", "localisation", "dead", "likeness"), strict=True):
        for line, layer in zip(axis.lines, measures, strict=True):
            assert line.get_ydata().tolist() == [getattr(m, field) for m in measures[layer].values()]
            assert line.get_label() == layer
        assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "5"]
    drawn(figure)


def test_by_layer_draws_the_numbers_and_the_reference():
    values = {"with": {"block1": 0.0, "block2": 0.1}, "without": {"block1": 0.7, "block2": 0.4}}
    figure = plots.by_layer(values, title="Dead", ylabel="share", reference=0.3, reference_name="area")
    (axis,) = figure.axes
    assert [list(line.get_ydata()) for line in axis.lines] == [[0.0, 0.1], [0.7, 0.4], [0.3, 0.3]]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["with", "without", "area"]
    assert axis.get_ylim()[1] > 0.7
    drawn(figure)


def test_history_draws_the_numbers_and_the_reference():
    epochs = [Epoch(1, 2.0, 1.5, 0.4, 0.5), Epoch(2, 2.0, 1.0, 0.6, 0.7)]
    figure = plots.history(epochs, reference=0.65, reference_name="before")
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == [1.5, 1.0]
    assert [line.get_ydata()[0] for line in right.lines] == [0.4, 0.5, 0.65]
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["training", "held out", "before"]
    drawn(figure)
    with pytest.raises(ValueError, match="no epoch"):
        plots.history([])


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
    with pytest.raises(ValueError, match="no Critters"):
        plots.parts(faces.subset(slice(0)))
