"""Every lesson in JupyterLab, as a reader opens it: run all its cells, then work its panels. ``make test-browser``.

Needs a Chromium (Debian's package ``chromium``, or the one named by CHROMIUM). Screenshots go to build/browser, of a
desktop's and of a phone's width.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat import v4
from playwright.sync_api import Browser, BrowserType, Error, Locator, Page, sync_playwright

from lessons_lib import plots
from lessons_lib.course import REPOSITORY
from lessons_lib.runner import WIDGET, clean, environment, find_lessons
from tests import jupyter_server
from tests.test_commands import Server
from tests.test_notebooks import sanitized

SHOTS = REPOSITORY / "build" / "browser"
DESKTOP = {"width": 1300, "height": 1000}
PHONE = {"width": 390, "height": 844}
RUN_SECONDS = 400  # for all cells of a lesson, while the next one runs beside it
ANSWER_SECONDS = 20  # for a panel after a control has moved
POLL_SECONDS = 0.2
UNDRAWN = "Nothing is drawn yet"  # what a face says of a canvas at first

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
RUN_TWICE = ("00", "08")  # run all again in the same kernel: a lesson that reads only, and one that computes
TRAINING = "training.ipynb"  # its first cell is stopped
LONG = """\
from lessons_lib import data, models, training
pictures = data.critters.generate(500, 32)
run = training.fit(models.SmallCNN(), pictures, pictures, training.Settings(epochs=100))"""
GOES_ON = "print(len(run.history), 'epochs are kept')"

SETTINGS = {
    # the question whether to fetch news would lie over the page
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}

LAB = "window.jupyterapp?.shell.currentWidget"
IDLE = f"{LAB}?.sessionContext?.session?.kernel?.status === 'idle'"
# `window.ran` is true when a command of the notebook has ended, which begins as soon as the kernel is there;
# what was stored is cleared, so that a cell with outputs has run
RUN = f"""command => {{
    window.ran = false;
    const end = () => {{ window.ran = true; }};
    const wait = setInterval(() => {{
        if ({IDLE}) {{
            clearInterval(wait);
            const execute = name => window.jupyterapp.commands.execute('notebook:' + name);
            execute('clear-all-cell-outputs').then(() => execute(command)).then(end, end);
        }}
    }}, 100);
}}"""
CELLS = f"""() => [...{LAB}.content.model.cells].map((cell, index) => {{
    const {{cell_type, source, metadata, execution_count, outputs = []}} = cell.toJSON();
    const said = outputs.map(({{text, data = {{}}}}) => [text ?? data['text/html'] ?? data['text/plain'] ?? ''].flat());
    return {{
        index,
        code: cell_type === 'code' && [source].flat().join('').trim(),
        ran: execution_count !== null,
        tags: metadata.tags ?? [],
        said: said.flat().join('').replaceAll(/base64,[^"'&]+/g, 'base64,AA'),
        wrong: outputs.filter(output => output.output_type === 'error' || output.name === 'stderr')
            .map(({{evalue, text}}) => evalue ?? [text].flat().join('')),
        kinds: outputs.flatMap(({{data = {{}}}}) => Object.keys(data)),
    }};
}}).filter(cell => cell.code)"""
TOO_WIDE = """panel => [panel, ...panel.querySelectorAll('img, .widget-inline-hbox, button')]
    .filter(part => part.checkVisibility() && part.getBoundingClientRect().right > window.innerWidth + 1)
    .map(part => part.className || part.tagName)"""

UNCOVERED = """dots => dots.findIndex(dot => {
    const {x, y, width, height} = dot.getBoundingClientRect();
    return document.elementFromPoint(x + width / 2, y + height / 2) === dot;
})"""


ALT = 'A line rises to "1" & ends.'
FIGURE = "figure.ipynb"  # a notebook with a stored figure, which JupyterLab has no reason to trust
IMAGES = """() => [...document.querySelectorAll('.jp-OutputArea img')].map(image => ({
    alt: image.alt, drawn: image.naturalWidth, width: image.style.width, most: image.style.maxWidth,
}))"""


def write_figure(path: Path) -> None:
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.plot([0, 1])
    kinds = {"text/html": plots.img_tag(figure, ALT), "text/plain": "<IPython.core.display.HTML object>"}
    source = f"""from matplotlib import pyplot as plt
from lessons_lib import plots
figure, axis = plt.subplots(figsize=(4, 3))
axis.plot([0, 2])
plots.show(figure, {ALT!r})"""
    cell = v4.new_code_cell(source, outputs=[v4.new_output("display_data", kinds)], execution_count=1)
    nbformat.write(clean(v4.new_notebook(cells=[cell])), path)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a JupyterLab on a copy of the lessons: what they save, a mark in lesson 10 too, is thrown away."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(REPOSITORY / "notebooks", folder / "notebooks")
    write_figure(folder / "notebooks" / FIGURE)
    training = v4.new_notebook(cells=[v4.new_code_cell(LONG), v4.new_code_cell(GOES_ON)])
    nbformat.write(clean(training), folder / "notebooks" / TRAINING)
    with jupyterlab(folder, OMP_NUM_THREADS="1") as address:  # two lessons run at a time
        yield address


@contextmanager
def jupyterlab(folder: Path, **variables: str) -> Iterator[str]:
    """The address of a JupyterLab that works in a folder, and is as its reader has it for the first time."""
    for name, values in SETTINGS.items():
        file = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values), encoding="utf-8")
    log = folder / "log"
    command = [sys.executable, "-m", "jupyterlab", "--allow-root", "--no-browser", "--ServerApp.root_dir=."]
    command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.port=0"]
    given = os.environ | environment("quick") | {"JUPYTER_CONFIG_PATH": str(REPOSITORY / "lab")}
    given |= {f"JUPYTERLAB_{name.upper()}_DIR": str(folder / name) for name in ("settings", "workspaces")}
    given |= {"LESSONS_DATA": str(folder / "data")} | variables
    del given["TQDM_DISABLE"], given["PYTHONHASHSEED"]  # no reader sets them
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=folder, stdout=file, stderr=file, env=given)
    try:
        yield jupyter_server.address(server, log)
    finally:
        server.terminate()
        server.wait(30)


def start(chromium: BrowserType, *flags: str) -> Browser:
    """Start it, with a camera that shows a test picture; as root, in a container, it only does without its sandbox."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    camera = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    return chromium.launch(
        executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage", *camera, *flags]
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a graphics processor."""
    with sync_playwright() as playwright:
        try:
            chromium = start(playwright.chromium, "--disable-gpu")
        except Error as error:
            pytest.exit(
                f"No Chromium could be started. Install one ('apt-get install chromium', or '{sys.executable} -m "
                f"playwright install chromium'), or name one by the variable CHROMIUM.\n{error}",
                returncode=1,
            )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def opened(lab: str, browser: Browser, request: pytest.FixtureRequest) -> Callable[[Path], Page]:
    """The page of a lesson, whose cells are running; the next lesson's run beside them, for there are two cores."""
    own = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    settings = [item.callspec.params for item in own if hasattr(item, "callspec")]
    lessons = [given["lesson"] for given in settings if "lesson" in given]
    pages: dict[Path, Page] = {}

    def open_and_run(lesson: Path) -> None:
        page = pages[lesson] = browser.new_page(viewport=DESKTOP)
        page.goto(lab.replace("/lab?", f"/lab/workspaces/{lesson.name[:2]}/tree/notebooks/{lesson.name}?"))
        page.evaluate(RUN, "run-all-cells")

    def page_of(lesson: Path) -> Page:
        place = lessons.index(lesson)
        for either in lessons[place : place + 2]:
            if either not in pages:
                open_and_run(either)
        return pages[lesson]

    return page_of


def until(condition: Callable[[], Any], seconds: float) -> Any:
    """The first true value of ``condition``, asked again and again."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        found = condition()
        if found:
            return found
        time.sleep(POLL_SECONDS)
    raise TimeoutError(f"nothing after {seconds} s")


def test_00_alt_text_of_a_figure_reaches_the_reader(lab: str, browser: Browser):
    """As it is stored, which JupyterLab cleans of what might harm, and as it is after running."""
    page = browser.new_page(viewport=DESKTOP)
    page.goto(lab.replace("/lab?", f"/lab/workspaces/figure/tree/notebooks/{FIGURE}?"))
    expected = {"alt": ALT, "width": "400px", "most": "100%"}
    try:
        stored = until(lambda: page.evaluate(IMAGES), RUN_SECONDS)
        trusted = f"() => {LAB}.content.model.cells.get(0).trusted"
        assert page.evaluate(trusted) is False
        assert [image | expected for image in stored] == stored
        assert stored[0]["drawn"] == 2 * 400
        page.evaluate(RUN, "run-all-cells")
        outputs(page)
        assert page.evaluate(trusted) is True
        assert [image | expected for image in page.evaluate(IMAGES)] == stored
        assert page.get_by_role("img", name=ALT).count() == 1, "what a screen reader is told"
    finally:
        with suppress(Error):
            page.evaluate(f"() => {LAB}.sessionContext.shutdown()")
        page.close()


def test_a_training_that_is_stopped_says_how_far_it_came(lab: str, browser: Browser):
    page = browser.new_page(viewport=DESKTOP)
    page.goto(lab.replace("/lab?", f"/lab/workspaces/training/tree/notebooks/{TRAINING}?"))
    try:
        page.evaluate(RUN, "run-all-cells")
        until(lambda: page.evaluate(f"() => {LAB}?.content?.model?.cells?.length"), RUN_SECONDS)
        until(lambda: any(WIDGET in cell["kinds"] for cell in page.evaluate(CELLS)), RUN_SECONDS)
        page.evaluate("() => window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
        stopped, after = outputs(page)
        assert "Interrupted after" in stopped["said"]
        assert "epochs are kept" in after["said"], "the cells after it run"
    finally:
        with suppress(Error):
            page.evaluate(f"() => {LAB}.sessionContext.shutdown()")
        page.close()


@pytest.mark.parametrize(
    ("arguments", "there"),
    [([], []), (["TEACHER=1"], ["Nbgrader", "Validate", "Nbgrader Create Assignment"])],
)
def test_00_nbgrader_is_there_for_teachers_only(
    tmp_path: Path, browser: Browser, arguments: list[str], there: list[str]
):
    """Its menu, its button above a notebook and its panel at the side, as ``make lab`` starts JupyterLab."""
    server, page = Server(tmp_path, *arguments), browser.new_page(viewport=DESKTOP)

    def seen() -> set[str]:
        texts = page.locator(".lm-MenuBar, .jp-NotebookPanel-toolbar, #jp-main-statusbar").all_inner_texts()
        titles = page.locator(".jp-SideBar .lm-TabBar-tab").evaluate_all("tabs => tabs.map(tab => tab.title)")
        return {*"\n".join(texts).splitlines(), *titles}

    try:
        page.goto(f"{server.address}{server.path}?token={server.token}")
        until(lambda: {"Help", "Markdown", "Debugger", *there} <= seen(), RUN_SECONDS)
        until(lambda: any("Idle" in text for text in seen()), RUN_SECONDS)  # nothing else is to come
        assert {text for text in seen() if re.search("nbgrader|validate", text, re.IGNORECASE)} == set(there)
    finally:
        page.close()
        server.stop()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lesson", find_lessons(), ids=lambda path: path.stem)
def test_a_lesson_runs_and_its_panels_answer(lesson: Path, opened: Callable[[Path], Page]):
    number = lesson.name[:2]
    SHOTS.mkdir(parents=True, exist_ok=True)
    page = opened(lesson)
    try:
        began = time.monotonic()
        first = outputs(page)
        if number in RUN_TWICE:
            page.evaluate(RUN, "run-all-cells")
            assert texts(outputs(page)) == texts(first)
        ran = time.monotonic()
        print(f"waited {ran - began:.1f} s for its cells")
        for count, cell in enumerate((cell for cell in first if "_panel(" in cell["code"]), start=1):
            assert WIDGET in cell["kinds"], f"no panel under {cell['code']!r}"
            work_panel(page, cell["index"], SHOTS / f"{number}_panel_{count}")
        for count, cell in enumerate((cell for cell in first if "<iframe" in cell["said"]), start=1):
            work_map(page, cell["index"], SHOTS / f"{number}_map_{count}")
        print(f"worked in {time.monotonic() - ran:.1f} s")
    except BaseException:
        with suppress(Error):
            page.screenshot(path=SHOTS / f"{number}_failed.png")
        raise
    finally:
        with suppress(Error):
            page.evaluate(f"() => {LAB}.sessionContext.shutdown()")
        page.close()


def outputs(page: Page) -> list[dict[str, Any]]:
    """The code cells once all have run, when it is sure that none says anything wrong."""
    until(lambda: page.evaluate("() => window.ran"), RUN_SECONDS)
    cells = page.evaluate(CELLS)
    wrong = [cell for cell in cells if cell["wrong"] and "raises-exception" not in cell["tags"]]
    assert not wrong, [(cell["code"], cell["wrong"]) for cell in wrong]
    assert not [cell["code"] for cell in cells if not cell["ran"]]
    return cells


def texts(cells: list[dict[str, Any]]) -> dict[str, str]:
    """What nbval would compare, by the cell's code."""
    return {
        cell["code"]: sanitized(cell["said"]) for cell in cells if "nbval-ignore-output" not in cell["tags"]
    }


def node(page: Page, index: int) -> Locator:
    """A cell on the page, scrolled to: JupyterLab draws only those near the window."""
    page.evaluate(
        f"""async index => {{
            const notebook = {LAB}.content;
            await notebook.scrollToItem(index, 'start');
            notebook.widgets[index].node.id = 'cell-' + index;
        }}""",
        index,
    )
    found = page.locator(f"#cell-{index} .jp-OutputArea")
    found.scroll_into_view_if_needed()
    return found


def work_panel(page: Page, index: int, shot: Path) -> None:
    """Work every control of a panel and see its picture change; keep screenshots, the phone's too."""
    panel = node(page, index).locator(":is(.widget-vbox, .face)").first
    panel.wait_for(timeout=1000 * ANSWER_SECONDS)
    if panel.evaluate("e => e.classList.contains('face')"):
        work_face(page, panel)
        panel.scroll_into_view_if_needed()
        page.screenshot(path=shot.with_suffix(".png"))
        return on_a_phone(page, index, shot)
    controls = panel.locator(
        ".widget-inline-hbox:not(.widget-html), .widget-play, :is(.widget-hbox, .widget-vbox) > button"
    )
    shown = [control for control in controls.all() if control.is_visible()]
    assert shown, "a panel without controls"
    for control in shown:
        control.scroll_into_view_if_needed()
        work(page, panel, control)
    panel.scroll_into_view_if_needed()
    page.screenshot(path=shot.with_suffix(".png"))
    return on_a_phone(page, index, shot)


def work_face(page: Page, face: Locator) -> None:
    """Work each control of a face by keys, as those without a mouse do, and see what it shows change."""
    until(lambda: any(words and not words.startswith(UNDRAWN) for words in seen(face)), ANSWER_SECONDS)
    for control in face.locator("select, input, button, [tabindex='0']").all():
        if not control.is_visible():
            continue
        control.scroll_into_view_if_needed()
        before, began, what = seen(face), time.monotonic(), control.get_attribute("data-part")
        control.focus()
        kind = control.evaluate("e => e.type ?? e.getAttribute('role')")
        if kind == "search":
            continue  # it changes a menu's choice, and no picture
        if kind in {"submit", "button"}:
            page.keyboard.press("Enter")
        elif kind == "checkbox":
            page.keyboard.press("Space")
        elif kind.startswith("select"):
            now, options = control.evaluate("e => [e.selectedIndex, e.options.length]")
            if options < 2:
                continue
            page.keyboard.press("ArrowDown" if now + 1 < options else "ArrowUp")
        else:
            low, high = (float(control.get_attribute(end) or at) for end, at in (("min", 0), ("max", 0)))
            full = kind in {"range", "number"} and float(control.input_value()) > (low + high) / 2
            less, more = ("ArrowDown", "ArrowUp") if kind == "number" else ("ArrowLeft", "ArrowRight")
            page.keyboard.press("ArrowDown" if kind == "application" else less if full else more)
        try:
            until(lambda before=before: seen(face) != before, ANSWER_SECONDS)
        except TimeoutError:
            raise AssertionError(f"{what} was worked, and the panel shows what it showed") from None
        print(f"{what}: {time.monotonic() - began:.1f} s")
        until(lambda: page.evaluate(f"() => {IDLE}"), 3 * ANSWER_SECONDS)
        wrong = face.locator("xpath=following-sibling::*[@role='alert']").all_inner_texts()
        assert "".join(wrong) == "", f"{what} was worked, and the panel says {wrong}"


def seen(face: Locator) -> list[str]:
    """What the pictures of a face show, in the words for those who cannot see them, and as numbers."""
    return face.locator("canvas:visible").evaluate_all(
        """all => all.map(one => one.ariaLabel ? one.ariaLabel + one.toDataURL() : '')"""
    )


def work(page: Page, panel: Locator, control: Locator) -> None:
    """Move one control in every way a reader has, each time until the panel's picture has changed."""
    slider, menu = control.locator(".noUi-handle"), control.locator("select")
    if slider.count():
        if slider.get_attribute("aria-valuemin") != slider.get_attribute("aria-valuemax"):
            changes(page, panel, control, "dragged", lambda: drag(page, control))
            changes(page, panel, control, "pushed by a key", lambda: push(page, slider))
    elif menu.count():
        now, options = menu.evaluate("e => [e.selectedIndex, e.options.length]")
        if options > 1:
            changes(page, panel, control, "set", lambda: menu.select_option(index=(now + 1) % options))
    elif control.evaluate("e => e.classList.contains('widget-play')"):
        changes(page, panel, control, "played", control.locator("button").first.click)
        control.locator("button").first.click()
    elif control.locator("input[type=checkbox]").count():
        changes(page, panel, control, "ticked", control.locator("input[type=checkbox]").click)
    elif control.evaluate("e => e.tagName === 'BUTTON'"):
        changes(page, panel, control, "pressed", control.click)
    else:
        raise AssertionError(f"{name(control)}: this test does not know how to work it")


def changes(page: Page, panel: Locator, control: Locator, done: str, act: Callable[[], object]) -> None:
    before, began = picture(panel), time.monotonic()
    act()
    try:
        until(lambda: picture(panel) != before, ANSWER_SECONDS)
    except TimeoutError:
        raise AssertionError(
            f"{name(control)} was {done}, and the panel's picture stayed as it was"
        ) from None
    print(f"{name(control)} {done}: {time.monotonic() - began:.1f} s")
    quiet = [picture(panel)]

    def settled() -> bool:
        quiet.append(picture(panel))
        return page.evaluate(f"() => {IDLE}") and quiet[-1] == quiet[-2]

    until(settled, ANSWER_SECONDS)
    wrong = panel.locator(".widget-html-content b").all_inner_texts()
    assert not wrong, f"{name(control)} was {done}, and the panel says {wrong}"


def name(control: Locator) -> str:
    return re.sub(r"\s+", " ", control.inner_text()).strip()[:40] or control.get_attribute("class")


def picture(panel: Locator) -> str:
    """The picture that a panel shows, as its data address."""
    return panel.locator(".widget-html-content img").get_attribute("src", timeout=1000 * ANSWER_SECONDS)


def drag(page: Page, slider: Locator) -> None:
    """Take a slider's handle by the mouse near the far end: half-way a slider of three values may spring back."""
    handle, rail = (slider.locator(part).bounding_box() for part in (".noUi-handle", ".noUi-base"))
    x, y = (handle[start] + handle[length] / 2 for start, length in (("x", "width"), ("y", "height")))
    to = rail["x"] + rail["width"] * (0.05 if x > rail["x"] + rail["width"] / 2 else 0.95)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(to, y, steps=3)
    page.mouse.up()


def push(page: Page, handle: Locator) -> None:
    """To the other end by a key: a step may change nothing, as from 200 pictures to 500 where 100 were the most."""
    handle.focus()
    low, now, high = (float(handle.get_attribute(f"aria-value{part}")) for part in ("min", "now", "max"))
    page.keyboard.press("Home" if now > (low + high) / 2 else "End")


def work_map(page: Page, index: int, shot: Path) -> None:
    """Point at a dot of a map, click it, walk on with an arrow key, and see the pictures."""
    frame = node(page, index).frame_locator("iframe")
    dots = frame.locator("input[type=radio]")
    dots.first.wait_for(timeout=1000 * ANSWER_SECONDS)
    shown = frame.locator("b:visible")
    assert shown.count() == 0
    dot = dots.nth(dots.evaluate_all(UNCOVERED))
    dot.hover()
    until(lambda: shown.count() == 1, ANSWER_SECONDS)
    dot.check()
    kept = frame.locator("input:checked + b")
    title = kept.get_attribute("title")
    page.keyboard.press("ArrowRight")
    until(lambda: kept.is_visible() and kept.get_attribute("title") != title, ANSWER_SECONDS)
    page.screenshot(path=shot.with_suffix(".png"))
    on_a_phone(page, index, shot)


def on_a_phone(page: Page, index: int, shot: Path) -> None:
    """Look at an output on a phone; nothing of it may lie beyond the right edge."""
    page.set_viewport_size(PHONE)
    page.evaluate(
        "() => { window.jupyterapp.shell.collapseLeft(); window.jupyterapp.shell.collapseRight(); }"
    )
    output = node(page, index)
    page.screenshot(path=shot.with_name(shot.name + "_phone.png"))
    wide = output.evaluate(TOO_WIDE)
    page.set_viewport_size(DESKTOP)
    assert not wide, f"beyond the edge of a phone: {wide}"
