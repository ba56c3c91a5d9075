"""The website of ``make site`` in Chromium, at a desk and on a phone, from a server and from a folder, and axe-core.

Run by ``make test-browser``, after ``make site``. Screenshots go to build/browser.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from lessons_lib.course import REPOSITORY
from lessons_lib.runner import find_lessons
from tests.browser import lab

browser = lab.browser  # the fixture

SITE = REPOSITORY / "build" / "site"
LIBRARY = ["api/index.html", "api/methods.evaluation.html", "api/data.html", "api/plots.html"]
PAGES = ["index.html", *(f"notebooks/{path.stem}.html" for path in find_lessons()), *LIBRARY]
EVERY_PAGE = {*PAGES, *(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))}
SIZES = {"desk": (1300, 900), "phone": (390, 844)}

# what sticks out of the window, and out of every box that scrolls
STICKS_OUT = """() => [...document.querySelectorAll('.md-content *')].filter(e => {
    const box = e.getBoundingClientRect();
    if (!box.width || box.right <= innerWidth + 1 || e.closest('math, svg')) return false;
    for (let up = e.parentElement; up; up = up.parentElement)
        if (['auto', 'scroll'].includes(getComputedStyle(up).overflowX)
            && up.getBoundingClientRect().right <= innerWidth + 1) return false;
    return true;
}).map(e => e.outerHTML.slice(0, 200))"""

IS_FOUND = """found => [...document.querySelectorAll('.md-search-result__link')]
    .some(link => link.href.replace(/[?]h=[^#]*/, '') === found)"""

AXE = REPOSITORY / "build" / "npm" / "node_modules" / "axe-core" / "axe.min.js"
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
WIDTHS = (360, 1280)
needs_axe = pytest.mark.skipif(not AXE.exists(), reason="this site was made without npm")

# Solutions are shown. Code has thousands of words in a dozen colours: of each colour the first word keeps it, since axe
# takes as long for a word as for a paragraph.
LAID_OPEN = """() => {
    document.querySelectorAll('details').forEach(solution => { solution.open = true; });
    const colours = new Set();
    for (const word of document.querySelectorAll('.highlight code span:not(:has(*))')) {
        if (colours.has(word.className)) word.replaceWith(...word.childNodes);
        colours.add(word.className);
    }
}"""
FAULTS = {
    ".md-nav__link { padding: 0; }": "target-size",
    ".highlight .kn { color: #bbb; }": "color-contrast",
    ".solution :is(p, code) { color: #bbb; }": "color-contrast",
    ".md-content p { width: 9rem; white-space: nowrap; overflow: auto; }": "scrollable-region-focusable",
}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    assert (SITE / "index.html").exists(), "run make site first"
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def opened(browser: Browser, address: str, size: str, scheme: str) -> tuple[Page, list[str]]:
    """A page, and what went wrong or was asked for as it was read to its end."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    events: list[str] = []
    page.on("request", lambda request: events.append(request.url))
    page.on("requestfailed", lambda request: events.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: events.append(f"error: {error}"))
    page.goto(address)
    # pictures load when they come into sight
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.wait_for_function("[...document.images].every(image => image.complete)")
    return page, events


@pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_whole_and_asks_nobody_else(
    path: str, size: str, scheme: str, server: str, browser: Browser
):
    page, events = opened(browser, server + path, size, scheme)
    lab.SHOTS.mkdir(parents=True, exist_ok=True)
    name = Path(path).stem if path in LIBRARY else Path(path).stem[:2]
    page.screenshot(path=lab.SHOTS / f"site_{name}_{size}_{scheme}.png")
    assert [event for event in events if not event.startswith((server, "data:"))] == []
    assert (
        page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)")
        == []
    )
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(STICKS_OUT) == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (scheme == "dark")
    page.close()


def test_what_sticks_out_would_be_found(server: str, browser: Browser):
    page, _ = opened(browser, server + "index.html", "phone", "light")
    wide = "<p style='width: 2000px'>wide</p>"
    page.evaluate("html => document.querySelector('article').insertAdjacentHTML('beforeend', html)", wide)
    assert page.evaluate(STICKS_OUT) == [wide.replace("'", '"')]
    page.close()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", ["server", "folder"])
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("deconvnet switches", "notebooks/06_zfnet_deconvnet.html"),
        (
            "relevance mass",
            "api/methods.evaluation.html#lessons_lib.methods.evaluation.relevance_mass_accuracy",
        ),
        ("class_activation_maps", "api/methods.cam.html#lessons_lib.methods.cam.class_activation_maps"),
    ],
)
def test_search_finds_a_lesson_and_a_function(
    words: str, found: str, place: str, size: str, server: str, browser: Browser
):
    address = server if place == "server" else f"{SITE.as_uri()}/"
    page, events = opened(browser, address + "index.html", size, "light")
    if size == "phone":
        page.click("label[for=__search].md-header__button")
    # by keys, as a reader types: what is there before the index has loaded is not searched for
    page.locator(".md-search__input").press_sequentially(words, delay=100)
    page.wait_for_function(IS_FOUND, arg=address + found, timeout=20_000)
    page.screenshot(path=lab.SHOTS / f"site_search_{found[:3]}_{place}_{size}.png")
    page.locator(".md-search-result__link").first.click()
    page.wait_for_url(f"**/{found.partition('#')[0]}**")
    assert [event for event in events if not event.startswith((address, "data:", "blob:", "about:"))] == []
    page.close()


@pytest.fixture(scope="module")
def read(browser: Browser, server: str) -> Iterator[Callable[[str, int], Page]]:
    """Opens a page in a window of that width: the same window for all, which saves most of the time."""
    page = browser.new_page(color_scheme="light", reduced_motion="reduce")  # colours change at once

    def read(path: str, width: int) -> Page:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(server + path)
        return page

    yield read
    page.close()


@needs_axe
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", sorted(EVERY_PAGE - {"lab/index.html"}))  # which has tests of its own
def test_a_page_can_be_read_by_everybody(path: str, width: int, read: Callable[[str, int], Page]):
    page = read(path, width)
    page.evaluate(LAID_OPEN)
    check_both(page)


@needs_axe
@pytest.mark.parametrize("width", WIDTHS)
def test_the_menu_and_what_search_finds_can_be_read_by_everybody(
    width: int, read: Callable[[str, int], Page]
):
    if width < 1000:  # elsewhere the menu stands beside the page
        page = read(PAGES[1], width)
        page.click("label[for=__drawer].md-header__button")
        check_both(page)
    page = read(PAGES[1], width)
    if width < 1000:
        page.click("label[for=__search].md-header__button")
    page.locator(".md-search__input").press_sequentially("deconvnet switches", delay=100)
    page.wait_for_selector(".md-search-result__link", timeout=20_000)
    check_both(page)


@needs_axe
@pytest.mark.parametrize("style", FAULTS)
def test_what_cannot_be_read_would_be_found(style: str, read: Callable[[str, int], Page]):
    page = read(PAGES[2], 1280)
    page.evaluate(LAID_OPEN)
    page.add_style_tag(content=style)
    assert [fault["id"] for fault in violations(page)] == [FAULTS[style]]


def check_both(page: Page) -> None:
    """In the light, and in the dark as Material's switch makes it."""
    check(page)
    page.evaluate("document.body.dataset.mdColorScheme = 'slate'")
    check(page)


def violations(page: Page, of: str = "html") -> list[dict[str, Any]]:
    if page.evaluate("!window.axe"):
        page.add_script_tag(path=AXE)
    found = page.evaluate(
        "([of, runOnly]) => axe.run(of, {runOnly, resultTypes: ['violations']}).then(found => found.violations)",
        [of, WCAG],
    )
    return [{"id": one["id"], "where": [node["html"][:200] for node in one["nodes"]]} for one in found]


def check(page: Page, of: str = "html") -> None:
    """axe-core finds nothing against WCAG 2.2 AA, and nothing lies beyond the edge."""
    found = violations(page, of)
    assert found == [], json.dumps(found, indent=1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(STICKS_OUT) == []
