"""The panel of lesson 03 on the website: its maps and neighbours against the library, worked by pointer and by keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from playwright.sync_api import Browser, Page

from lessons_lib import networks
from lessons_lib.data import critters
from lessons_lib.methods import embeddings
from lessons_lib.models import imagenet
from tests.browser import lab, lab_page, site

browser, server = lab.browser, site.server  # the fixtures

LESSON = "notebooks/03_tsne_embeddings.html"
SETTINGS = ((10, 0), (40, 2))
ALIKE = 0.999  # correlation of all distances on two maps
WAYS = {"ArrowUp": (0, -1), "ArrowDown": (0, 1), "ArrowLeft": (-1, 0), "ArrowRight": (1, 0)}


def opened(browser: Browser, server: str, width: int, scheme: Any) -> Page:
    page = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page.goto(server + LESSON)
    page.locator("[data-panel]").scroll_into_view_if_needed()
    lab_page.until(page, "document.querySelector('[data-panel]').state?.at")
    page.locator("[data-part=stage]").scroll_into_view_if_needed()
    return page


def state(page: Page, what: str) -> Any:
    return page.evaluate(f"document.querySelector('[data-panel]').state.{what}")


def choose(page: Page, perplexity: int, seed: int) -> np.ndarray:
    """The places of a map as the page has them."""
    page.evaluate("document.querySelector('[data-panel]').state.at = null")
    page.select_option("[data-part=perplexity]", str(perplexity))
    page.select_option("[data-part=seed]", str(seed))
    lab_page.until(page, "document.querySelector('[data-panel]').state.at")
    page.wait_for_timeout(500)  # the first of the two is answered first
    return np.array(state(page, "at"))


def distances(placed: np.ndarray) -> np.ndarray:
    return np.linalg.norm(placed[:, None] - placed, axis=2)


def test_its_maps_are_the_lessons_and_its_neighbours_the_librarys(browser: Browser, server: str):
    network = imagenet.load(imagenet.OFFLINE)
    pictures = critters.generate(1000, 96, seed=2).subset(slice(0, 300))
    points = networks.features(
        network.model, pictures.images, ["blocks.5"], pool=1, transform=network.normalise
    )["blocks.5"]  # fmt: skip
    page = opened(browser, server, 1280, "light")
    for perplexity, seed in SETTINGS:
        at = choose(page, perplexity, seed)
        placed = embeddings.tsne(points, perplexity=perplexity, start="random", seed=seed, iterations=150)
        alike = np.corrcoef(distances(at).ravel(), distances(placed.numpy()).ravel())[0, 1]
        print(f"perplexity {perplexity}, seed {seed}: distances correlate {alike:.6f}")
        assert alike > ALIKE
        index = state(page, "index")
        (found,) = embeddings.nearest(torch.from_numpy(at), 8, [index]).tolist()
        assert state(page, "near") == found
        same = [bool(pictures.labels[i] == pictures.labels[index]) for i in found]
        frames = page.locator("[data-part=near] li").evaluate_all(
            "items => items.map(item => item.className)"
        )
        assert frames == ["same" if one else "other" for one in same]
        name = pictures.classes[int(pictures.labels[index])]
        told = page.locator(".face .where").inner_text()
        assert told.startswith(
            f"Picture {index}: {name}. Of the 8 nearest to it on the map, {sum(same) or 'none'}"
        )
    off = np.abs(shown(page, "[data-part=picture]") - pictures.images[index].permute(1, 2, 0).numpy()).mean()
    print(f"the picture differs by {off:.1f} of 255 in the mean")
    assert off < 8, "what its JPEG costs"
    page.close()


def shown(page: Page, canvas: str) -> np.ndarray:
    pixels = page.locator(canvas).evaluate(
        "c => [c.height, c.width, ...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    return np.array(pixels[2:]).reshape(pixels[0], pixels[1], 4)[..., :3]


def test_pointer_and_arrow_keys_go_from_picture_to_picture(browser: Browser, server: str):
    page = opened(browser, server, 1280, "light")
    at = np.array(state(page, "at"))
    box = page.locator("[data-part=map]").bounding_box()
    assert box
    lonely = distances(at)
    np.fill_diagonal(lonely, 9)
    one, other = np.argsort(-lonely.min(1))[
        :2
    ]  # far from all others, so that a pixel more or less is no matter

    def point(index: int) -> None:
        page.mouse.move(box["x"] + at[index, 0] * box["width"], box["y"] + at[index, 1] * box["height"])

    point(one)
    assert (state(page, "index"), state(page, "kept")) == (one, 0)
    page.mouse.down()
    page.mouse.up()
    point(other)
    assert (state(page, "index"), state(page, "kept")) == (other, one)
    page.mouse.move(5, 5)
    assert state(page, "index") == one, "the kept one comes back"

    assert page.evaluate("document.activeElement.className") == "ring"
    now, moved = one, 0
    for key, way in [*WAYS.items()] * 2:
        label = page.locator("[data-part=map]").get_attribute("aria-label")
        page.keyboard.press(key)
        apart = at - at[now]
        along, beside = apart @ way, np.abs(apart @ way[::-1])
        ahead = (along > 0) & (beside <= along)
        ahead = ahead if ahead.any() else along > 0
        if ahead.any():
            moved += 1
            now = int(np.where(ahead, np.linalg.norm(apart, axis=1), 9).argmin())
            assert page.locator("[data-part=map]").get_attribute("aria-label") != label
        assert state(page, "kept") == now
    assert moved >= 4
    page.wait_for_timeout(500)
    assert page.locator(".face .heard").inner_text() == page.locator(".face .where").inner_text()
    assert page.locator("#embeddings-message").inner_text() == ""
    page.close()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_it_can_be_read_and_worked_by_everybody(browser: Browser, server: str, width: int, scheme: Any):
    page = opened(browser, server, width, scheme)
    page.locator("[data-part=ring]").focus()
    lab_page.check(page, "[data-panel]")
    lab.SHOTS.mkdir(parents=True, exist_ok=True)
    page.locator("[data-panel]").screenshot(path=lab.SHOTS / f"panel_embeddings_{width}_{scheme}.png")
    page.close()
