"""The panel of lesson 08 on the website: patches and marks against the library, worked by keys."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page
from torch import nn

from lessons_lib import models, networks
from lessons_lib.data import critters, to_input
from lessons_lib.methods import patches, receptive_field
from lessons_lib.widgets.patches import QUANTILES, unit
from tests.browser import lab, lab_page, site

browser, server = lab.browser, site.server  # the fixtures

LESSON = "notebooks/08_maximally_activating_patches.html"
CHANNELS = (("block2", 5), ("block4", 67), ("block4", 255))
SCENES = 8
ALIKE = 0.999  # correlation of two maps, and the share of pixels that are marked alike


def opened(browser: Browser, server: str, width: int, scheme: Any) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page.goto(server + LESSON)
    page.locator("[data-panel]").scroll_into_view_if_needed()
    until(page, "marked")
    return page


def until(page: Page, condition: str) -> None:
    lab_page.until(
        page,
        f"(({{layer, channel, marked}}) => {condition})(document.querySelector('[data-panel]').state ?? {{}})",
    )


def state(page: Page, what: str) -> Any:
    return page.evaluate(f"Array.from(document.querySelector('[data-panel]').state.{what})")


def choose(page: Page, layer: str, channel: int) -> None:
    page.select_option("[data-part=layer]", layer)
    page.fill("[data-part=channel]", str(channel))
    until(page, f"layer === '{layer}' && channel === {channel}")


def seen(page: Page, what: str, size: torch.Size) -> np.ndarray:
    """Pictures that the page has as pixels, one after the other: (N, H, W, 3)."""
    return np.array(state(page, what), np.uint8).reshape(-1, *size, 4)[..., :3]


@pytest.fixture(scope="module")
def lesson() -> dict[str, Any]:
    """What the lesson's panel is given, for the layers that are asked about."""
    trained = models.checkpoints.restore(models.SmallCNN(), "small_cnn_cifar10")
    body = nn.Sequential(OrderedDict((name, trained.get_submodule(name)) for name in models.BLOCKS)).eval()
    pictures, new = critters.generate(800, 64, seed=1).images, critters.generate(120, 64, seed=6).images
    layers = list(dict.fromkeys(layer for layer, _ in CHANNELS))
    fields = receptive_field.receptive_fields(body, 64, layers)
    maps = networks.capture(body, to_input(new), layers)
    some = {name: body[: models.BLOCKS.index(name) + 1] for name in layers}
    return {
        name: (
            (pictures, patches.top_activations(some[name], pictures, name), fields[name]),
            (new, maps[name], fields[name]),
        )
        for name in layers
    }


@pytest.mark.timeout(300)
def test_patches_and_marks_are_those_of_the_library(browser: Browser, server: str, lesson: dict[str, Any]):
    page = opened(browser, server, 1280, "light")
    for layer, channel in CHANNELS:
        choose(page, layer, channel)
        of_patches, of_scenes = lesson[layer]
        expected = unit(of_patches, of_scenes, channel)
        assert state(page, "numbers") == expected["numbers"]
        assert np.allclose(state(page, "activations"), expected["activations"], atol=1e-3)
        off = {
            what: np.abs(
                seen(page, what, expected[what].shape[1:3]).astype(int) - expected[what][..., :3]
            ).mean()
            for what in ("patches", "scenes")
        }
        maps = np.corrcoef(state(page, "maps"), expected["maps"].ravel())[0, 1]
        print(f"{layer}, channel {channel}: pixels differ by {off} of 255, maps correlate {maps:.7f}")
        assert max(off.values()) < 10, "what their JPEG costs"
        assert maps > ALIKE
        alike = []
        for i, quantile in enumerate(QUANTILES):
            page.fill("[data-part=quantile]", str(i))
            _, stack, field = of_scenes
            marked = patches.unit_mask(stack, field, channel, quantile)[expected["numbers"]].numpy()
            ours = np.array(state(page, "marked"), bool).reshape(marked.shape)
            alike.append((ours == marked).mean())
            shares = page.locator("[data-part=scenes] span").all_inner_texts()
            assert shares == [f"{100 * one.mean():.1f} %" for one in ours]
        print(f"marked alike: {min(alike):.6f} of the pixels at the least")
        assert min(alike) > ALIKE
    page.close()


def test_keys_and_slider_go_from_channel_to_channel(browser: Browser, server: str):
    page = opened(browser, server, 1280, "light")
    choose(page, "block3", 84)
    field, slider = page.locator("[data-part=channel]"), page.locator("[data-part=walk]")
    first = page.locator("[data-part=patches] canvas").first
    label = first.get_attribute("aria-label")
    field.press("ArrowUp")
    until(page, "channel === 85")
    assert (field.input_value(), slider.input_value()) == ("85", "85")
    assert first.get_attribute("aria-label") != label
    slider.press("ArrowLeft")
    until(page, "channel === 84")
    assert (field.input_value(), first.get_attribute("aria-label")) == ("84", label)
    for wrong in ("128", "-1", ""):
        field.fill(wrong)
        field.blur()
        assert field.input_value() == "84", "no such channel"
    page.select_option("[data-part=layer]", "block4")
    until(page, "layer === 'block4' && channel === 67")
    page.wait_for_timeout(500)
    assert page.locator(".face .heard").inner_text().startswith("Channel 67 of block4")
    assert page.locator("#patches-message").inner_text() == ""
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_it_can_be_read_and_worked_by_everybody(browser: Browser, server: str, width: int, scheme: Any):
    page = opened(browser, server, width, scheme)
    choose(page, "block4", 67)
    lab_page.check(page, "[data-panel]")
    lab.SHOTS.mkdir(parents=True, exist_ok=True)
    page.locator("[data-panel]").screenshot(path=lab.SHOTS / f"panel_patches_{width}_{scheme}.png")
    page.close()
