"""The panel of lesson 02 on the website: its numbers are those of the shipped networks, and everybody can work it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from playwright.sync_api import Browser, Locator, Page
from torch import Tensor

from lessons_lib import models
from lessons_lib.methods import filters
from lessons_lib.widgets.filters import strongest
from tests.browser import lab, site
from tests.browser.lab_page import check, until

browser, server = lab.browser, site.server  # the fixtures

STATE = "document.querySelector('[data-panel=filters]').state"
LAYERS = ("conv1", "conv2", "block1.conv", "block2.conv")


@pytest.fixture(scope="module")
def page(browser: Browser, server: str) -> Iterator[Page]:
    """The lesson's page with its panel in sight; no network may run."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server}notebooks/02_filter_visualization.html")
    page.locator("[data-panel=filters]").scroll_into_view_if_needed()
    until(page, f"{STATE}?.weights")
    yield page
    page.close()
    assert not [url for url in asked if url.endswith((".onnx", ".wasm"))]


@pytest.fixture
def panel(page: Page) -> Locator:
    return page.locator("[data-panel=filters]")


def choose(page: Page, panel: Locator, layer: int, age: int | None = None) -> None:
    panel.locator("[data-part=layer]").select_option(str(layer))
    until(page, f"{STATE}.layer === {layer}")
    if age is not None:
        panel.locator("[data-part=age]").fill(str(age))
        until(page, f"{STATE}.age === {age}")


def told(page: Page, name: str) -> Tensor:
    return torch.tensor(page.evaluate(f"[...{STATE}.{name}]"))


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def numbers(panel: Locator) -> list[Tensor]:
    """The weights that stand there, table by table."""
    return [
        torch.tensor([number(text) for text in table.locator("td").all_inner_texts()])
        for table in panel.locator(".weights").all()
    ]


@pytest.mark.parametrize(
    ("layer", "age", "network", "epoch"),
    [(0, 2, "zfnet", 2), (1, 6, "zfnet", 16), (2, 0, "small", 0), (3, 5, "small", 20)],
)
def test_weights_are_those_of_the_shipped_networks(
    layer: int, age: int, network: str, epoch: int, page: Page, panel: Locator
):
    kind, name = {
        "zfnet": (models.SmallZFNet, "zfnet_cifar10"),
        "small": (models.SmallCNN, "small_cnn_cifar10"),
    }[network]
    group = filters.weights(models.checkpoints.restore(kind(), name, epoch), LAYERS[layer])
    choose(page, panel, layer, age)
    expected = strongest(group, 16)
    for what in ("weights", "channels", "autocorrelation"):
        assert torch.equal(
            told(page, what).view(expected[what].shape).to(expected[what].dtype), expected[what]
        )
    panel.locator("[data-part=filter]").fill("3")
    said = re.search(r"at lag one ([−.\d]+);", panel.locator(".where").inner_text())
    assert said
    assert abs(number(said[1]) - filters.autocorrelation(group[3:4]).item()) <= 0.0051
    tables, digits = numbers(panel), 2 if group[3].abs().max() >= 0.095 else 3
    assert len(tables) == (3 if group.shape[1] == 3 else 1)
    for table, plane in zip(tables, expected["weights"][3], strict=False):
        assert (table - plane.flatten()).abs().max() <= 0.5001 * 10**-digits


def test_filters_of_efficientnet_are_those_of_the_lesson(page: Page, panel: Locator):
    lite0 = models.imagenet.load(models.imagenet.OFFLINE).model
    choose(page, panel, 4)
    assert torch.equal(told(page, "weights").view(32, 3, 3, 3), filters.weights(lite0, "conv_stem"))
    assert panel.locator("[data-part=age]").is_disabled(), "it has one age"
    depthwise = filters.weights(lite0, "blocks.5.0.conv_dw")
    depthwise = depthwise[~filters.silent(depthwise)]
    choose(page, panel, 6)
    assert "blocks.5.0.conv_dw" in panel.locator("[data-part=layer] option").nth(6).inner_text()
    assert torch.equal(told(page, "weights").view(depthwise.shape), depthwise)
    choose(page, panel, 0)
    assert page.evaluate(f"{STATE}.age") == 6, "another network begins with its last age"


def test_keys_choose_filters_and_input_channels(page: Page, panel: Locator):
    choose(page, panel, 1)
    tile, inputs = panel.locator(".tile").first, panel.locator("[data-part=inputs] .tile")
    tile.focus()
    for key, number in (("End", 95), ("ArrowLeft", 94), ("Home", 0), ("ArrowRight", 1)):
        page.keyboard.press(key)
        assert page.evaluate(f"{STATE}.filter") == number
        assert f"filter {number} is framed" in (
            panel.locator(".mosaic canvas").first.get_attribute("aria-label") or ""
        )
    before = numbers(panel)[0]
    inputs.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(f"{STATE}.input") > 1
    assert not torch.equal(numbers(panel)[0], before)
    panel.locator("[data-part=input]").select_option("0")
    assert torch.equal(numbers(panel)[0], before)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_it_can_be_read_and_worked_by_everybody(width: int, scheme: Any, page: Page, panel: Locator):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    for layer in (0, 1, 7):
        choose(page, panel, layer)
        page.wait_for_timeout(500)
        check(page, "[data-panel=filters]")
        box = panel.locator(".tile").first.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 24
