"""Panels redraw when a control moves, say what went wrong."""

import ipywidgets
import matplotlib.pyplot as plt
import pytest

from lessons_lib import widgets
from tests.figures import file_of, panel_png


def line(height):
    figure, axis = plt.subplots(figsize=(2, 1))
    axis.plot([0, height])
    axis.set_ylim(0, 10)
    return figure


@pytest.fixture
def box():
    def draw(height):
        if height == 7:
            raise ValueError("not <seven>")
        return line(height)

    return widgets.panel(
        draw, lambda height: f'A line up to "{height}".', height=ipywidgets.IntSlider(1, 0, 9)
    )


def test_a_panel_shows_the_static_figure_and_follows_its_control(box):
    slider = box.children[0].children[0]
    assert file_of(box) == panel_png(line(1))
    slider.value = 5
    assert file_of(box) == panel_png(line(5))
    assert 'alt="A line up to &quot;5&quot;."' in box.children[-1].value
    assert not plt.get_fignums()


def test_an_error_is_shown_and_goes_away(box):
    slider = box.children[0].children[0]
    before = file_of(box)
    slider.value = 7
    assert box.children[1].value == "<b>ValueError</b>: not &lt;seven&gt;"
    assert file_of(box) == before
    slider.value = 2
    assert box.children[1].value == ""


def test_a_control_is_never_wider_than_the_page(box):
    (slider,) = box.children[0].children
    assert slider.layout.max_width == "calc(100% - 4px)"
