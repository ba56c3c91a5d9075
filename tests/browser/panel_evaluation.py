"""The panel of lesson 11 on the website: what it shows is what the lesson computes. Run after ``make site``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from lessons_lib import data, models, networks
from lessons_lib.course import REPOSITORY
from lessons_lib.methods import evaluation
from tests.browser import lab, lab_page, site

browser, server = lab.browser, site.server  # the fixtures

LESSON = "11_trust_explanations"
PANEL = "[data-panel=evaluation]"
STATE = f"document.querySelector('{PANEL}').state"
SECONDS = 60
ALIKE = 0.999  # correlation of two maps
NETWORKS = {"A": "chain_cnn_critters", "B": "chain_cnn_critters_biased"}


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """The lesson's page; nothing may go wrong there."""
    page = browser.new_page(viewport=lab.DESKTOP)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{server}notebooks/{LESSON}.html")
    page.locator(PANEL).scroll_into_view_if_needed()
    page.wait_for_function(f"{STATE}?.rows", timeout=1000 * SECONDS)
    yield page
    assert wrong == []
    page.close()


@pytest.fixture(scope="module")
def lesson() -> dict[str, Any]:
    """The lesson's methods and scenes to try."""
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{LESSON}.ipynb", as_version=4).cells
    names: dict[str, Any] = {"torch": torch, "evaluation": evaluation, "data": data, "SIZE": 64}
    exec(next(cell.source for cell in cells if "def integrated_gradients(" in cell.source), names)
    exec(
        next(cell.source for cell in cells if "METHODS_TO_TRY =" in cell.source).split("plots.show")[0], names
    )
    return names


def choose(page: Page, **values: str) -> None:
    for name, value in values.items():
        page.evaluate(f"{STATE}.rows = null")
        page.locator(f"{PANEL} [data-part={name}]").select_option(value)
        page.wait_for_function(f"{STATE}.rows", timeout=1000 * SECONDS)


def numbers(page: Page, what: str) -> torch.Tensor:
    return torch.tensor(page.evaluate(f"[...{STATE}.{what}]"))


def test_what_it_shows_is_what_the_lesson_computes(page: Page, lesson: dict[str, Any]):
    twins, methods = lesson["to_try"], lesson["METHODS_TO_TRY"]
    scenes = twins.scenes
    for (name, kept), scene, part in itertools.product(NETWORKS.items(), (0, 8), ("nose", "background")):
        network = models.checkpoints.restore(models.ChainCNN(len(scenes.classes)), kept)
        choose(page, network=name, scene=str(scene), part=part)
        pair = torch.stack([scenes.images[scene], twins.without[part].images[scene]])
        for which, picture in zip(("whole", "without"), pair, strict=True):
            seen = numbers(page, which).view(64, 64, 4)[..., :3].permute(2, 0, 1)
            assert seen.equal(picture.long())
        logits = networks.predict(network, pair)
        torch.testing.assert_close(numbers(page, "logits").view(2, -1), logits, atol=1e-3, rtol=1e-3)
        target = int(scenes.labels[scene])
        for i, method in enumerate(methods.values()):
            expected = evaluation.explain(method, network, data.to_input(pair), target)
            found = numbers(page, f"maps[{i}]").view(2, 64, 64)
            alike = [float(np.corrcoef(found[j].ravel(), expected[j].ravel())[0, 1]) for j in range(2)]
            print(f"{name}, {scene}, {part}, {[*methods][i]}: correlation {min(alike):.5f}")
            assert min(alike) > ALIKE
        effects = evaluation.part_effects(network, twins)[scene].float()
        shown = page.evaluate(f"[...{STATE}.rows.effects].map(x => Number.isNaN(x) ? null : x)")
        given = torch.tensor([torch.nan if value is None else value for value in shown])
        torch.testing.assert_close(given, effects, equal_nan=True, atol=1e-3, rtol=1e-3)
    choose(page, scene="8", part="ears")
    assert page.locator(f"{PANEL} [data-part=note]").inner_text() == "Of this frog no ears can be seen."


def test_it_is_worked_by_keys_and_read_by_everybody(page: Page):
    note = page.locator(f"{PANEL} [data-part=note]")
    said, label = note.inner_text(), page.locator(f"{PANEL} canvas").nth(2).get_attribute("aria-label")
    page.locator(f"{PANEL} [data-part=part]").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(
        f"said => document.querySelector('{PANEL} [data-part=note]').textContent !== said", arg=said
    )
    assert note.inner_text().startswith("Without its right eye the logit of dog")
    assert page.locator(f"{PANEL} tr[aria-current] th").inner_text() == "right eye"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    after = page.locator(f"{PANEL} canvas").nth(2).get_attribute("aria-label")
    assert after is not None
    assert "outlined" not in after
    assert after != label
    assert page.locator(f"{PANEL} path[d^=M]").count() == 0
    page.keyboard.press("Space")
    for width, scheme in ((1280, "default"), (360, "slate")):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("scheme => { document.body.dataset.mdColorScheme = scheme; }", scheme)
        page.wait_for_timeout(500)
        lab_page.check(page, PANEL)
        lab.SHOTS.mkdir(parents=True, exist_ok=True)
        page.locator(PANEL).screenshot(path=lab.SHOTS / f"panel_evaluation_{width}_{scheme}.png")
