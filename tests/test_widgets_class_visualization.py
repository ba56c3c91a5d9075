"""The frame panel draws what its controls say, and plays."""

import ipywidgets

from lessons_lib.plots.class_visualization import frame
from lessons_lib.widgets.class_visualization import frame_panel
from tests.figures import file_of, panel_png
from tests.test_plots_class_visualization import PICTURES, ascent


def test_panel_draws_what_its_controls_say():
    box = frame_panel(("goldfish", "tabby"), PICTURES, ascent())
    play, picture, index = box.children[0].children
    assert isinstance(play, ipywidgets.Play)
    assert index.value == 4, "begins at the last frame"
    assert file_of(box) == panel_png(frame(PICTURES, ascent(), 0, 4, "goldfish"))
    picture.value, index.value = "tabby", 1
    assert file_of(box) == panel_png(frame(PICTURES, ascent(), 1, 1, "tabby"))
    assert "tabby after 2 steps" in box.children[-1].value


def test_playing_moves_the_slider_and_the_picture():
    box = frame_panel(("goldfish", "tabby"), PICTURES, ascent())
    play, _, index = box.children[0].children
    assert (play.min, play.max) == (index.min, index.max) == (0, 4)
    for value in (0, 3):
        play.value = value
        assert index.value == value
        assert file_of(box) == panel_png(frame(PICTURES, ascent(), 0, value, "goldfish"))
    index.value = 2
    assert play.value == 2, "and the slider tells where to play on"
    assert box.children[1].value == ""
