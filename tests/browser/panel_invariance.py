"""The panel of lesson 10 on the website: its pictures are the lesson's, its numbers PyTorch's; it is worked by keys.

Run after ``make site``. Screenshots go to build/browser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Page
from torch import Tensor
from torch.nn import functional as F

from lessons_lib import networks
from lessons_lib.course import REPOSITORY
from lessons_lib.data import photos
from lessons_lib.models import imagenet
from tests.browser import lab, lab_page, site

browser, server = lab.browser, site.server  # the fixtures

LESSON = "10_invariance_correspondence"
PANEL = "[data-panel=invariance]"
STATE = f"document.querySelector('{PANEL}').state"
LAYERS = ("bn1", "bn2", "global_pool")
SECONDS = 90
ROUNDING = 2  # levels of 255
NEAR = 0.01  # of a probability, and of a distance


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """The lesson's page, whose network is loading; nothing may go wrong there."""
    page = browser.new_page(viewport=lab.DESKTOP)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{server}notebooks/{LESSON}.html")
    page.locator(PANEL).scroll_into_view_if_needed()
    until(page, f"{STATE}?.before")
    page.locator(".start button").click()
    yield page
    assert wrong == []
    assert page.locator(f"{PANEL} ~ [role=alert]").first.inner_text() == ""
    page.close()


@pytest.fixture(scope="module")
def lesson() -> dict[str, Callable[..., Tensor]]:
    """The functions with which the lesson looks at photographs."""
    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{LESSON}.ipynb", as_version=4)
    names = {"torch": torch, "F": F}
    exec(next(cell.source for cell in notebook.cells if "def view(" in cell.source), names)
    return names


def until(page: Page, condition: str) -> None:
    page.wait_for_function(condition, timeout=1000 * SECONDS)


def part(page: Page, name: str) -> Any:
    return page.locator(f"{PANEL} [data-part={name}]")


def square(picture: Tensor) -> Tensor:
    side = min(picture.shape[1:])
    top, left = ((length - side) // 2 for length in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


@torch.no_grad()
def features(network: imagenet.ImageNetClassifier, pictures: Tensor) -> tuple[list[Tensor], Tensor]:
    """The points of the panel's curves, and the probabilities."""
    inputs = network.normalise(pictures)
    found = networks.capture(network.model, inputs, [*LAYERS, "classifier"], batch_size=4)
    return [inputs.flatten(1), *(found[layer].flatten(1) for layer in LAYERS)], found["classifier"].softmax(1)


def test_pictures_are_the_lessons_and_numbers_are_pytorchs(page: Page, lesson: Any, tmp_path: Path):
    picture = photos.photo("dalmatian").image  # higher than wide
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(tmp_path / "dog.png")
    page.set_input_files(".file input", tmp_path / "dog.png")
    until(page, f"{STATE}.title === 'dog.png' && {STATE}.answer !== null")
    network, fitted, view = imagenet.load(), lesson["fitted"], lesson["view"]
    photo, about = (
        fitted(square(picture)),
        page.evaluate("fetch('../lab/files/lab.json').then(a => a.json())"),
    )
    about = about["panels"]["invariance"]
    frames = torch.stack([view(fitted(square(photos.photo(name).image))) for name in photos.LABELLED])
    units = [torch.pdist(points).mean().item() for points in features(network, frames)[0]]
    assert about["units"] == pytest.approx(units, rel=1e-3)

    for kind, step in (("shift", 26), ("scale", 7), ("rotation", 5)):
        amount = float(about["amounts"][kind][step])
        part(page, "kind").select_option(kind)
        part(page, "step").fill(str(step))
        until(page, f"{STATE}.known.{kind}[{step}]")
        page.wait_for_timeout(500)  # until the picture has followed
        seen = torch.tensor(page.evaluate(f"[...{STATE}.after]"), dtype=torch.uint8)
        seen = seen.view(224, 224, 4)[..., :3].permute(2, 0, 1)
        expected = view(photo, **{kind: amount})
        off = (seen.int() - expected.int()).abs()
        print(f"{kind} {amount}: off by {off.max()} of 255 at most, by {off.float().mean():.4f} in the mean")
        assert off.max() <= ROUNDING

        points, probabilities = features(network, torch.stack([view(photo), expected]))
        k = int(probabilities[0].argmax())
        known = page.evaluate(f"(x => [[...x.distances], x.probability, x.k])({STATE}.known.{kind}[{step}])")
        distances = [float((own[1] - own[0]).norm()) / unit for own, unit in zip(points, units, strict=True)]
        print(f"distances {known[0]}, PyTorch {distances}; probability {known[1]}, {probabilities[1, k]:.6f}")
        assert page.evaluate(f"{STATE}.answer") == network.categories[k]
        assert known[0] == pytest.approx(distances, abs=NEAR)
        assert known[1] == pytest.approx(float(probabilities[1, k]), abs=NEAR)
        assert known[2] == int(probabilities[1].argmax())


def test_curves_can_be_cancelled_and_are_read_by_everybody(page: Page):
    until(page, f"{STATE}.answer !== null")
    part(page, "kind").select_option("rotation")
    part(page, "sweep").click()
    until(page, f"{STATE}.known.rotation.filter(x => x).length > 2")
    part(page, "sweep").click()
    assert part(page, "swept").is_hidden()
    part(page, "step").fill("35")
    until(page, f"{STATE}.known.rotation[35]")  # asked last, so what was on its way is answered, too
    known = page.evaluate(f"{STATE}.known.rotation.filter(x => x).length")
    page.wait_for_timeout(2000)
    assert page.evaluate(f"{STATE}.known.rotation.filter(x => x).length") == known < 36

    part(page, "kind").select_option("scale")
    part(page, "sweep").click()
    until(page, f"{STATE}.known.scale.every(x => x)")
    until(page, f"document.querySelector('{PANEL} [data-part=all]').hidden")
    assert part(page, "step").evaluate("slider => slider === document.activeElement"), "where the button went"
    shown = part(page, "after").get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    until(page, f"document.querySelector('{PANEL} [data-part=after]').ariaLabel !== {shown!r}")
    label = part(page, "after").get_attribute("aria-label")
    assert label is not None
    assert "1.05 times as large" in label
    assert "1.05 times" in (part(page, "probabilities").get_attribute("aria-label") or "")
    until(page, f"document.querySelector('{PANEL} [data-part=said]').textContent.includes('1.05 times')")
    for width, scheme in ((1280, "default"), (360, "slate")):
        page.set_viewport_size({"width": width, "height": 900})
        page.evaluate("scheme => { document.body.dataset.mdColorScheme = scheme; }", scheme)
        page.wait_for_timeout(500)
        lab_page.check(page, PANEL)
        lab.SHOTS.mkdir(parents=True, exist_ok=True)
        page.locator(PANEL).screenshot(path=lab.SHOTS / f"panel_invariance_{width}_{scheme}.png")
