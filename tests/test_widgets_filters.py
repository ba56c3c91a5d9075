"""The filter panel draws what its controls say, and each network keeps to its own ages and filters."""

import pytest
import torch

from lessons_lib.methods.filters import autocorrelation
from lessons_lib.plots.filters import filter_browser
from lessons_lib.widgets.filters import filter_panel
from tests.figures import file_of, panel_png


@pytest.fixture
def browser():
    torch.manual_seed(0)
    networks = {
        "small": {
            age: {"conv1": torch.randn(8, 3, 3, 3), "conv2": torch.randn(4, 8, 3, 3)}
            for age in ("new", "old")
        },
        "large": {"trained": {"stem": torch.randn(2, 3, 5, 5)}},
    }
    return networks, filter_panel(networks)


def titled(filters, index, title):
    return filter_browser(filters, index, f"{title}; autocorrelation {autocorrelation(filters)[index]:.2f}")


def test_filter_panel_draws_what_its_controls_say(browser):
    networks, box = browser
    layer, age, number = box.children[0].children
    assert age.value == "old", "the trained network first"
    assert [label for label, _ in layer.options] == [
        "small: conv1, 3×3",
        "small: conv2, 3×3",
        "large: stem, 5×5",
    ]
    age.value, number.value = "new", 6
    static = titled(networks["small"]["new"]["conv1"], 6, "small: conv1, new")
    assert file_of(box) == panel_png(static)
    assert "Filter 6 of conv1 of small, new" in box.children[-1].value


def test_another_layer_keeps_the_age_and_another_network_does_not(browser):
    networks, box = browser
    layer, age, number = box.children[0].children
    age.value, number.value = "new", 7
    layer.value = ("small", "conv2")
    assert (age.value, number.value, number.max) == ("new", 3, 3)
    assert box.children[1].value == ""
    layer.value = ("large", "stem")
    assert (age.options, age.value, number.value) == (("trained",), "trained", 1)
    assert box.children[1].value == ""
    static = titled(networks["large"]["trained"]["stem"], 1, "large: stem, trained")
    assert file_of(box) == panel_png(static)
    layer.value = ("small", "conv1")
    assert (age.options, age.value, number.max) == (("new", "old"), "old", 7)
    assert box.children[1].value == ""
