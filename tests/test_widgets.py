"""Panels redraw when a control moves, say what went wrong, and never show a channel that is not there."""

import base64
import re

import ipywidgets
import matplotlib.pyplot as plt
import pytest
import torch

from lessons_lib import plots, widgets


def png_of(box):
    return base64.b64decode(re.search(r"base64,([^\"]+)", box.children[-1].value)[1])


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
    assert png_of(box) == plots.to_png(line(1))
    slider.value = 5
    assert png_of(box) == plots.to_png(line(5))
    assert 'alt="A line up to &quot;5&quot;."' in box.children[-1].value
    assert not plt.get_fignums()


def test_an_error_is_shown_and_goes_away(box):
    slider = box.children[0].children[0]
    before = png_of(box)
    slider.value = 7
    assert box.children[1].value == "<b>ValueError</b>: not &lt;seven&gt;"
    assert png_of(box) == before
    slider.value = 2
    assert box.children[1].value == ""


@pytest.fixture
def browser():
    images = {name: torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for name in ("cat", "dog")}
    maps = {epoch: {"block1": torch.rand(2, 8, 4, 4), "block2": torch.rand(2, 4, 2, 2)} for epoch in (0, 3)}
    return images, maps, widgets.channel_panel(images, maps)


def test_channel_panel_draws_what_its_controls_say(browser):
    images, maps, box = browser
    picture, layer, epoch, channel = box.children[0].children
    assert epoch.value == 3, "the trained network first"
    picture.value, epoch.value, channel.value = "dog", 0, 6
    static = plots.channel_browser(images["dog"], maps[0]["block1"][1], 6, title="block1, before training")
    assert png_of(box) == plots.to_png(static)
    channel.value = 7
    layer.value = "block2"
    assert (channel.max, channel.value) == (3, 3)
    assert box.children[1].value == ""
    static = plots.channel_browser(images["dog"], maps[0]["block2"][1], 3, title="block2, before training")
    assert png_of(box) == plots.to_png(static)
