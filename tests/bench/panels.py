"""The patch that is dragged over a picture: answered by the network in the page, and by a kernel in JupyterLab."""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import nbformat
from nbformat import v4
from playwright.sync_api import Browser, Error, Page, sync_playwright

from lessons_lib.runner import clean
from tests.bench import Skipped, Timing, benchmark
from tests.browser import lab, site

ADDRESS = site.SITE / "lab" / "index.html"
MOVES = 20
WAIT_MS = 120_000
STATE = "document.querySelector('.face:has([data-part=patch])')?.state"
NOTEBOOK = """\
import torch
from lessons_lib import models, widgets
from lessons_lib.data import photos
network = models.imagenet.load()
eagle, white = photos.resized(photos.photo("eagle"), network.size), torch.full((3, 1, 1), 255, dtype=torch.uint8)
ends = {"black": network.normalise(0 * white).flatten(), "white": network.normalise(white).flatten()}
widgets.occlusion.occlusion_panel(
    network.model, {"eagle": network.normalise(eagle)}, network.categories, size=32, baseline="black", **ends
)"""
# milliseconds until the answer to a patch moved by a key, in the mean of so many
MOVE = """async moves => {
    const root = document.querySelector('.face:has([data-part=patch])');
    const patch = root.querySelector('[data-part=patch]'), began = performance.now();
    for (let i = 0; i < moves; i++) {
        const before = root.state.covered, key = i % 2 ? 'ArrowLeft' : 'ArrowRight';
        patch.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true, cancelable: true}));
        while (root.state.covered === before) await new Promise(resolve => setTimeout(resolve));
    }
    return (performance.now() - began) / moves;
}"""


@dataclass(frozen=True)
class Times:
    """What a reader waits for, in seconds.

    Attributes:
        paint: from opening the address until the first thing is seen.
        answer: … until the network has answered for the picture.
        move: until it has answered for a patch that was moved.
        sweep: until it has for the patch at each of 14 × 14 places.
    """

    paint: float
    answer: float
    move: float
    sweep: float

    def __str__(self) -> str:
        """In a few words."""
        seen = f"first paint {self.paint:.1f} s, first answer {self.answer:.1f} s after opening"
        return f"{seen}, {1000 * self.move:.0f} ms a move, {self.sweep:.1f} s for a map"


@benchmark("panel-page-vs-jupyterlab", programs=True)
def page_against_jupyterlab() -> Timing:
    """From opening the address to the network's first answer; the note has what comes before and after it."""
    if not (ADDRESS.parent / "files" / "lab.json").exists():
        raise Skipped("the website has no panels yet: run make site, with npm")
    with sync_playwright() as playwright:
        try:
            browser = lab.start(playwright.chromium, "--disable-gpu")
        except Error as error:
            raise Skipped(f"no Chromium could be started: {error.message.splitlines()[0]}") from None
        ours, theirs = in_page(browser), in_jupyterlab(browser)
    note = f"the eagle, EfficientNet-Lite0, a black patch of 32×32; page: {ours}; JupyterLab: {theirs}"
    return Timing(
        ours.answer, "JupyterLab, which was running, and a kernel that was not", theirs.answer, note
    )


def in_page(browser: Browser) -> Times:
    """On the website, from a server on this machine, the network loaded anew."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(site.Quiet, directory=site.SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_page(viewport=lab.DESKTOP)
        began = time.perf_counter()
        page.goto(f"http://127.0.0.1:{server.server_port}/lab/index.html")
        page.locator(".start button").first.click()
        times = waited(page, began)
        server.shutdown()
    page.close()
    return times


def in_jupyterlab(browser: Browser) -> Times:
    """In JupyterLab, which is running: a notebook is opened and its one cell run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        nbformat.write(clean(v4.new_notebook(cells=[v4.new_code_cell(NOTEBOOK)])), folder / "panel.ipynb")
        with lab.jupyterlab(folder) as address:
            page = browser.new_page(viewport=lab.DESKTOP)
            began = time.perf_counter()
            page.goto(address.replace("/lab?", "/lab/tree/panel.ipynb?"))
            page.evaluate(lab.RUN, "run-all-cells")
            times = waited(page, began)
            page.close()
    return times


def waited(page: Page, began: float) -> Times:
    """Wait for a panel's answers, move its patch and have it cover every part."""
    page.wait_for_function(f"{STATE}?.covered", timeout=WAIT_MS)
    answer = time.perf_counter() - began
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
    page.wait_for_timeout(1000)
    page.evaluate(MOVE, 2)
    move = page.evaluate(MOVE, MOVES) / 1000
    page.locator(".face [data-part=sweep]").first.click()
    page.wait_for_function(f"{STATE}.swept", timeout=WAIT_MS)
    return Times(paint, answer, move, page.evaluate(f"{STATE}.swept.seconds"))
