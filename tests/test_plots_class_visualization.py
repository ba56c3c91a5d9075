"""Figures of class visualization hold the right pictures and numbers."""

import numpy as np
import pytest
import torch

from lessons_lib.methods.class_visualization import Ascent, power_spectrum
from lessons_lib.plots.class_visualization import change, climb, frame, gallery, spectra
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

PICTURES = torch.randint(
    0, 256, (5, 2, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def ascent():
    numbers = torch.arange(10.0).view(5, 2)
    return Ascent(
        targets=torch.tensor([3, 1]),
        steps=(0, 2, 4, 6, 9),
        frames=torch.zeros(5, 2, 3, 8, 8),
        objective=torch.zeros(9, 2),
        logits=numbers,
        probabilities=numbers / 10,
        ranks=11 - numbers.long(),
    )


def image_of(axis):
    return axis.images[0].get_array()


def test_climb_shows_frames_above_curves():
    figure = climb(PICTURES, ascent(), 1, "goldfish", columns=3)
    *frames, left, right = figure.axes
    assert len(frames) == 3
    for axis, i in zip(frames, (0, 2, 4), strict=True):
        assert np.array_equal(image_of(axis), PICTURES[i, 1].permute(1, 2, 0))
    assert frames[1].get_title() == "step 4\nlogit 5"
    assert left.lines[0].get_xdata().tolist() == [0, 2, 4, 6, 9]
    assert left.lines[0].get_ydata().tolist() == [1, 3, 5, 7, 9]
    assert right.lines[0].get_ydata().tolist() == [10, 8, 6, 4, 2]
    assert right.get_yscale() == "log"
    drawn(figure)
    assert len(climb(PICTURES, ascent(), 0, "goldfish").axes) == 5 + 2, "no more frames than there are"


def test_frame_marks_its_step():
    figure = frame(PICTURES, ascent(), 0, 3, "goldfish")
    picture, left, right = figure.axes
    assert np.array_equal(image_of(picture), PICTURES[3, 0].permute(1, 2, 0))
    assert picture.get_title() == "goldfish, step 6"
    assert (left.lines[1].get_xdata()[0], left.lines[1].get_ydata()[0]) == (6, 6)
    assert (right.lines[1].get_xdata()[0], right.lines[1].get_ydata()[0]) == (6, 5)
    drawn(figure)


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="5 frames and 2 pictures"):
        climb(PICTURES[:4], ascent(), 0, "goldfish")
    with pytest.raises(ValueError, match="row must be in 0–1"):
        frame(PICTURES, ascent(), 2, 0, "goldfish")
    with pytest.raises(ValueError, match="frame must be in 0–4"):
        frame(PICTURES, ascent(), 0, 5, "goldfish")


def test_gallery_names_rows_and_columns():
    captions = [["a", "b"], ["c", "d"], ["e", "f"]]
    figure = gallery(PICTURES[:3], ("x", "y", "z"), ("left", "right"), captions)
    axes = np.array(figure.axes).reshape(3, 2)
    for i in range(3):
        for j in range(2):
            assert np.array_equal(image_of(axes[i, j]), PICTURES[i, j].permute(1, 2, 0))
            assert axes[i, j].get_xlabel() == captions[i][j]
    assert [axis.get_title() for axis in axes[0]] == ["left", "right"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["x", "y", "z"]
    drawn(figure)
    drawn(gallery(PICTURES[:1], ("",), ("left", "right")))
    for wrong in ((("x",), ("left", "right")), (("x", "y", "z"), ("left",))):
        with pytest.raises(ValueError, match="need pictures"):
            gallery(PICTURES[:3], *wrong)
    with pytest.raises(ValueError, match="captions as many"):
        gallery(PICTURES[:3], ("x", "y", "z"), ("left", "right"), captions[:2])
    with pytest.raises(ValueError, match="captions as many"):
        gallery(PICTURES[:3], ("x", "y", "z"), ("left", "right"), [["a"], ["b"], ["c"]])


def test_spectra_draw_the_mean_of_each_condition_over_the_band_of_the_reference():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(4, 3, 32, 32, generator=generator)
    figure = spectra({"noise": pictures}, torch.rand(3, 3, 32, 32, generator=generator))
    (axis,) = figure.axes
    frequency, power = power_spectrum(pictures)
    assert axis.lines[0].get_xdata() == pytest.approx(frequency.numpy())
    assert axis.lines[0].get_ydata() == pytest.approx(np.exp(np.log(power.numpy()).mean(0)))
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["photographs", "noise"]
    drawn(figure)


def test_change_enlarges_the_difference():
    before = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    after = before.clone()
    after[0, 2, 3], after[1, 4, 5] = 103, 50
    figure = change(before, after, ("cat", "toaster"), gain=10)
    middle = image_of(figure.axes[1])
    assert middle[2, 3].tolist() == [158, 128, 128]
    assert middle[4, 5].tolist() == [128, 0, 128]
    assert middle[0, 0].tolist() == [128, 128, 128]
    assert [axis.get_title() for axis in figure.axes] == ["cat", "what was added, × 10", "toaster"]
    drawn(figure)
    with pytest.raises(ValueError, match="one shape"):
        change(before, after[:, 1:], ("cat", "toaster"))
