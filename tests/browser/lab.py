"""Every lesson in JupyterLab, as a reader opens it: run all its cells, then work its panels. ``make test-browser``.

Needs a Chromium (Debian's package ``chromium``, or the one named by CHROMIUM). Screenshots go to build/browser.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ElementHandle, Page, sync_playwright

from lessons_lib.course import REPOSITORY
from lessons_lib.runner import environment, find_lessons

SHOTS = REPOSITORY / "build" / "browser"
RUN_SECONDS = 240  # for all cells of a lesson
ANSWER_SECONDS = 30  # for a panel after a control has moved
CELLS = """() => {
    const widget = window.jupyterapp.shell.currentWidget;
    const cells = [...widget.content.model.cells].map(cell => cell.toJSON());
    const code = cells.filter(cell => cell.cell_type === 'code' && [cell.source].flat().join('').trim());
    return {
        idle: widget.sessionContext.session?.kernel?.status === 'idle',
        left: code.filter(cell => cell.execution_count === null).length,
        wrong: code.filter(cell => !(cell.metadata.tags ?? []).includes('raises-exception'))
            .flatMap(cell => cell.outputs)
            .filter(output => output.output_type === 'error' || output.name === 'stderr')
            .map(output => output.evalue ?? [output.text].flat().join('')),
    };
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on a copy of the lessons, so that its saving changes none of them."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(REPOSITORY / "notebooks", folder / "notebooks")
    log = folder / "log"
    command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ServerApp.root_dir=."]
    command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.port=0"]
    variables = os.environ | environment("quick") | {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, env=variables)
    try:
        yield until(lambda: re.search(r"http://127\.0\.0\.1:\d+/lab\?token=\w+", log.read_text()), 90)[0]
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; as root, in a container, it only starts without its sandbox."""
    with sync_playwright() as playwright:
        path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
        chromium = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        yield chromium
        chromium.close()


def until(condition: Callable[[], object], seconds: float) -> object:
    """The first true value of ``condition``, asked twice a second."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        time.sleep(0.5)
    raise TimeoutError(f"nothing after {seconds} s")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("lesson", find_lessons(), ids=lambda path: path.stem)
def test_a_lesson_runs_and_its_panels_answer(lesson: Path, lab: str, browser: Browser):
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    try:
        page.goto(lab.replace("/lab?", f"/lab/tree/notebooks/{lesson.name}?reset&"))
        page.wait_for_selector(".jp-Notebook", timeout=90_000)
        until(lambda: page.evaluate(CELLS)["idle"], 90)
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells') && 0")
        until(lambda: (s := page.evaluate(CELLS))["idle"] and (s["wrong"] or not s["left"]), RUN_SECONDS)
        assert not page.evaluate(CELLS)["wrong"]
        SHOTS.mkdir(parents=True, exist_ok=True)
        panels = page.query_selector_all(
            ".jp-OutputArea-output > .widget-vbox, .jupyter-widgets-view > .widget-vbox"
        )
        expected = lesson.read_text(encoding="utf-8").count("_panel(")
        assert bool(panels) == bool(expected), "a panel is missing"
        for number, panel in enumerate(panels, start=1):
            panel.scroll_into_view_if_needed()
            for control in panel.query_selector_all(".widget-inline-hbox"):
                works(page, panel, control)
            page.screenshot(path=SHOTS / f"{lesson.name[:2]}_panel_{number}.png")
    finally:
        page.screenshot(path=SHOTS / f"{lesson.name[:2]}.png") if SHOTS.exists() else None
        page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        page.close()


def works(page: Page, panel: ElementHandle, control: ElementHandle) -> None:
    """Move a slider by a key, or choose another option of a list, and see the panel's picture change."""
    if not control.is_visible():
        return
    before = picture(panel)
    label = control.inner_text().strip()
    handle, menu = control.query_selector(".noUi-handle"), control.query_selector("select")
    if handle:
        moves = [
            lambda k=key: (handle.focus(), page.keyboard.press(k)) for key in ("ArrowRight", "ArrowLeft")
        ]
    elif menu:
        count = len(menu.query_selector_all("option"))
        if count < 2:
            return
        now = menu.evaluate("e => e.selectedIndex")
        moves = [lambda: menu.select_option(index=(now + 1) % count)]
    else:
        return
    for move in moves:
        move()
        try:
            until(lambda: picture(panel) != before, ANSWER_SECONDS / len(moves))
            return
        except TimeoutError:
            continue
    raise AssertionError(f"{label!r} was moved, and the panel's picture stayed as it was")


def picture(panel: ElementHandle) -> str:
    """The picture that a panel shows, as its data address and alt text."""
    shown = panel.query_selector(".widget-html-content img")
    assert shown is not None, "the panel shows no picture"
    return shown.evaluate("e => e.src + e.alt")
