"""The panel of lesson 01 on the website: its maps and answers are PyTorch's, and it can be worked by everybody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Locator, Page
from torch import Tensor

from lessons_lib import data, models, networks
from tests.browser import lab, site
from tests.browser.lab_page import ALIKE, NEAR, SECONDS, check, until

browser, server = lab.browser, site.server  # the fixtures

STATE = "document.querySelector('[data-panel=activations]').state"
CHECKPOINT = "small_cnn_cifar10"
OFF = 1e-4  # of the largest activation


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """The networks that the page has asked for, by the names of their files."""
    return set()


@pytest.fixture(scope="module")
def page(browser: Browser, server: str, asked: set[str]) -> Iterator[Page]:
    """The lesson's page with its panel in sight."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.on("request", lambda request: asked.add(request.url.rpartition("/")[2]))
    page.goto(f"{server}notebooks/01_cifar_activations.html")
    page.locator("[data-panel=activations]").scroll_into_view_if_needed()
    page.locator(".start button").wait_for()
    yield page
    page.close()


@pytest.fixture
def panel(page: Page) -> Locator:
    return page.locator("[data-panel=activations]")


def choose(page: Page, panel: Locator, epoch: int, layer: str) -> None:
    age = models.checkpoints.epochs(CHECKPOINT).index(epoch)
    panel.locator("[data-part=layer]").select_option(layer)
    panel.locator("[data-part=age]").fill(str(age))
    until(page, f"{STATE}.age === {age} && {STATE}.layer === '{layer}'")


def told(page: Page, name: str) -> Tensor:
    return torch.tensor(page.evaluate(f"[...{STATE}.{name}]"))


def seen(page: Page) -> Tensor:
    """What the page shows its network, uint8 (1, 3, 32, 32)."""
    return told(page, "pixels").to(torch.uint8).view(1, 32, 32, 4)[..., :3].permute(0, 3, 1, 2)


def test_an_age_is_loaded_when_it_is_chosen(page: Page, panel: Locator, asked: set[str]):
    def ages() -> set[str]:
        return {name for name in asked if name.endswith(".onnx")}

    page.wait_for_timeout(1000)
    assert ages() == set()
    page.locator(".start button").click()
    page.locator(".start").wait_for(state="hidden", timeout=1000 * SECONDS)
    until(page, f"{STATE}.maps")
    assert ages() == {f"{CHECKPOINT}_{epoch}.onnx" for epoch in (0, 20)}
    choose(page, panel, 2, "block2")
    assert ages() == {f"{CHECKPOINT}_{epoch}.onnx" for epoch in (0, 2, 20)}


def test_maps_and_answers_are_those_of_pytorch_and_follow_the_keys(page: Page, panel: Locator):
    panel.scroll_into_view_if_needed()
    until(page, f"{STATE}?.pixels")
    if page.locator(".start").is_visible():  # this test runs alone
        page.locator(".start button").click()
    until(page, f"{STATE}.maps")
    images = seen(page)
    for epoch, layer in ((20, "block1"), (20, "block4"), (5, "block3"), (0, "block5")):
        choose(page, panel, epoch, layer)
        network = models.checkpoints.restore(models.SmallCNN(), CHECKPOINT, epoch)
        expected = networks.capture(network, data.to_input(images), [layer])[layer][0]
        found = told(page, "maps").view_as(expected)
        off = (found - expected).abs().max() / expected.max()
        alike = np.corrcoef(found.flatten(), expected.flatten())[0, 1]
        probabilities = networks.predict(network, images).softmax(1)[0]
        apart = (told(page, "probabilities") - probabilities).abs().max()
        print(
            f"{layer} after {epoch}: off by {off:.1e} of the largest, correlate {alike:.7f}; answers {apart:.1e}"
        )
        assert off < OFF
        assert alike > ALIKE
        assert apart < NEAR
        best = [data.cifar10.CLASSES[k] for k in probabilities.topk(5).indices]
        assert panel.locator(".answers .name").all_inner_texts() == best

    largest = expected.amax((1, 2))
    dead, alive = int((largest == 0).nonzero()[0]), int((largest > 0).nonzero()[0])
    panel.locator("[data-part=channel]").fill(str(dead))
    assert "dead for this picture, 0 at all 4 positions" in panel.locator(".where").inner_text()
    panel.locator("[data-part=channel]").fill(str(alive))
    zeros = int((expected[alive] == 0).sum())
    assert f"0 at {zeros} of 4 positions" in panel.locator(".where").inner_text()
    panel.locator("[data-part=channel]").fill("999")
    page.keyboard.press("Tab")
    assert panel.locator("[data-part=channel]").input_value() == str(alive), "there is no channel 999"

    panel.locator(".tile").focus()
    width = "e => e.getBoundingClientRect().width"
    columns = round(panel.locator(".mosaic").evaluate(width) / panel.locator(".tile").evaluate(width))
    for key, channel in (
        ("Home", 0),
        ("ArrowLeft", 0),
        ("ArrowRight", 1),
        ("ArrowDown", 1 + columns),
        ("End", 255),
    ):
        page.keyboard.press(key)
        assert page.evaluate(f"{STATE}.channel") == channel
        assert panel.locator(".tile").get_attribute("aria-valuenow") == str(channel)
        assert f"channel {channel} is framed" in (
            panel.locator(".mosaic canvas").get_attribute("aria-label") or ""
        )
    panel.locator(".mosaic canvas").click(position={"x": 3, "y": 3})
    assert page.evaluate(f"{STATE}.channel") == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_can_be_read_and_worked_by_everybody(width: int, scheme: Any, page: Page, panel: Locator):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for layer in ("block1", "block4"):
        choose(page, panel, 20, layer)
        page.wait_for_timeout(500)
        check(page, "[data-panel=activations]")
        box = panel.locator(".tile").bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 24
