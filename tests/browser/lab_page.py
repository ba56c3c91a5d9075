"""The page "The lab" of ``make site`` in Chromium: its network against PyTorch, its panels worked as a reader does.

Run by ``make test-browser``, after ``make site``. Screenshots go to build/browser.
"""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Route
from torch import Tensor, nn

from lessons_lib import models
from lessons_lib.data import photos, to_input
from lessons_lib.export import to_onnx
from lessons_lib.methods import cam, occlusion
from lessons_lib.models import checkpoints, imagenet
from tests.browser import lab, site
from tests.browser.site import check, violations

browser, server = lab.browser, site.server  # the fixtures

LAB = site.SITE / "lab"
SECONDS = 60  # for whatever the page computes, beside other programs
NEAR = 0.01  # of a probability
ALIKE = 0.999  # correlation of two maps
PHOTOGRAPHS = ("eagle", "dalmatian", "strawberries")
ROUNDING = 2  # levels of 255 by which two decoders of JPEG may differ, and what resizing makes of that
FROZEN_MS = 500  # longest time for which the page may not answer while a large picture is read
IMITATED_GRAPHICS = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
    "--use-angle=swiftshader",
    "--ignore-gpu-blocklist",
)
NO_IMITATION = " && !adapter.info.isFallbackAdapter"
LONGEST_PAUSE = """() => {
    let last = performance.now();
    window.pause = 0;
    setInterval(() => {
        const now = performance.now();
        window.pause = Math.max(window.pause, now - last);
        last = now;
    }, 5);
}"""


@pytest.fixture(scope="module")
def network() -> imagenet.ImageNetClassifier:
    return imagenet.load()


@pytest.fixture(scope="module")
def address(server: str) -> str:
    if not (LAB / "files" / "lab.json").exists():
        pytest.skip("this site was made without npm, so its lab has no panels")
    return f"{server}lab/index.html"


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The lab, with a picture and without its network; it must ask nobody else, nor throw."""
    page = browser.new_page(viewport=lab.DESKTOP)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(f"error: {error}"))
    visit(page, address)
    yield page
    page.close()
    own = (address.removesuffix("lab/index.html"), "data:", "blob:")
    assert [url for url in asked if not url.startswith(own)] == []


def visit(page: Page, address: str) -> None:
    page.goto(address)
    page.locator("[data-panel=occlusion]").scroll_into_view_if_needed()
    until(page, "OCCLUSION?.fill")
    page.locator("[data-panel=cam]").scroll_into_view_if_needed()
    until(page, "CAM?.pixels")


def spelled(words: str) -> str:
    """JavaScript in which OCCLUSION and CAM stand for what these panels know."""
    known = 'document.querySelector("[data-panel={}]").state'
    return words.replace("OCCLUSION", known.format("occlusion")).replace("CAM", known.format("cam"))


def until(page: Page, condition: str) -> None:
    page.wait_for_function(spelled(condition), timeout=1000 * SECONDS)


def state(page: Page, what: str) -> Any:
    return page.evaluate(
        spelled(f"(() => {{ const x = {what}; return ArrayBuffer.isView(x) ? [...x] : x; }})()")
    )


def part(page: Page, panel: str, name: str) -> Locator:
    return page.locator(f"[data-panel={panel}] [data-part={name}]")


def ask(page: Page) -> None:
    """Load the network and wait for the answers to the picture."""
    page.locator(".start button").first.click()
    until(page, "CAM.evidence && OCCLUSION.covered !== OCCLUSION.clean")


def choose(page: Page, name: str) -> None:
    title = photos.photo(name).title
    page.get_by_role("radio", name=title, exact=True).check(force=True)
    until(page, f"OCCLUSION.title === '{title}' && CAM.title === '{title}'")
    until(page, "CAM.evidence && OCCLUSION.covered !== OCCLUSION.clean")


def sweep(page: Page) -> list[list[float]]:
    """The whole map: the probabilities of all classes for each place."""
    part(page, "occlusion", "sweep").click()
    until(page, "OCCLUSION.swept")
    return state(page, "OCCLUSION.swept.probabilities.map(some => [...some])")


def seen(page: Page) -> Tensor:
    """What the page shows its network, uint8 (3, 224, 224)."""
    pixels = torch.tensor(state(page, "OCCLUSION.pixels"), dtype=torch.uint8)
    return pixels.view(224, 224, 4)[..., :3].permute(2, 0, 1).contiguous()


@torch.no_grad()
def answers(model: nn.Module, inputs: Tensor) -> Tensor:
    """PyTorch's probabilities."""
    return model(inputs).softmax(1)


def correlation(a: Any, b: Any) -> float:
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_answers_and_maps_are_those_of_pytorch(name: str, page: Page, network: imagenet.ImageNetClassifier):
    page.locator(".start button").first.click()
    choose(page, name)
    given, course = seen(page), photos.resized(photos.photo(name), network.size)
    off = (given.int() - course.int()).abs()
    print(f"{name}: pixels differ by at most {off.max()}, in the mean by {off.float().mean():.4f} of 255")
    assert off.max() <= ROUNDING

    image = network.normalise(given)
    ours = torch.tensor(state(page, "OCCLUSION.clean"))
    theirs, of_course = answers(network.model, network.normalise(torch.stack([given, course])))
    print(
        f"probabilities: {(ours - theirs).abs().max():.1e}, {(ours - of_course).abs().max():.1e} from the course's"
    )
    assert (ours - theirs).abs().max() < NEAR
    assert (ours - of_course).abs().max() < NEAR
    best = theirs.topk(5).indices.tolist()
    assert part(page, "occlusion", "answers").locator(".name").all_inner_texts() == [
        network.categories[k] for k in best
    ]
    assert of_course.topk(5).indices.tolist() == best

    k = best[0]
    found = cam.class_activation_maps(network.model, image[None]).of(k)[0]
    alike = correlation(state(page, "CAM.evidence"), found)
    swept = torch.tensor(sweep(page))[:, k].view(14, 14)
    slow = occlusion.occlude(network.model, image, k, patch=32, stride=16, baseline="black", progress=False)
    off = (swept - slow.probabilities[0]).abs().max()
    same = correlation(swept, slow.probabilities[0])
    print(f"evidence correlates {alike:.6f}, occlusion {same:.6f}, off by {off:.1e} at most")
    assert min(alike, same) > ALIKE
    assert off < NEAR
    lab.SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=lab.SHOTS / f"lab_page_{name}.png", full_page=True)


@pytest.mark.parametrize(("kind", "side"), [("black", 16), ("grey", 32), ("blur", 64)])
def test_a_patch_shows_what_the_course_has_there(
    kind: occlusion.Baseline, side: int, page: Page, network: imagenet.ImageNetClassifier
):
    ask(page)
    part(page, "occlusion", "side").select_option(str(side))
    part(page, "occlusion", "kind").select_option(kind)
    page.evaluate(spelled("OCCLUSION.covered = null"))
    part(page, "occlusion", "picture").click(position={"x": 150, "y": 20})
    until(page, f"OCCLUSION.covered && OCCLUSION.patch.side === {side} && OCCLUSION.patch.kind === '{kind}'")
    page.wait_for_timeout(1000)  # until the last of three questions is answered
    image = network.normalise(seen(page))
    filled = occlusion.baseline_picture(image, kind, side)
    fill = (
        torch.tensor(state(page, "OCCLUSION.fill"), dtype=torch.uint8)
        .view(224, 224, 4)[..., :3]
        .permute(2, 0, 1)
    )
    assert (fill - 255 * (filled / 2 + 0.5)).abs().max() <= 1
    row, column = state(page, "OCCLUSION.patch.row"), state(page, "OCCLUSION.patch.column")
    assert row < column
    top, left = row - side // 2, column - side // 2
    rows, columns = slice(max(0, top), top + side), slice(max(0, left), left + side)
    image[:, rows, columns] = filled[:, rows, columns]
    expected = answers(network.model, image[None])[0]
    assert (torch.tensor(state(page, "OCCLUSION.covered")) - expected).abs().max() < NEAR


def test_dragging_and_arrow_keys_move_the_bars(page: Page):
    ask(page)
    patch = part(page, "occlusion", "patch")
    patch.scroll_into_view_if_needed()

    def bars() -> list[str]:
        return (
            part(page, "occlusion", "answers")
            .locator(".bar i")
            .evaluate_all("bars => bars.map(bar => bar.style.width)")
        )

    shown = [bars()]
    grip = patch.bounding_box()
    assert grip
    page.mouse.move(grip["x"] + 8, grip["y"] + 8)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(grip["x"] + 8 + 3 * step, grip["y"] + 8 + 5 * step)
        page.wait_for_timeout(200)
        shown.append(bars())
    assert len({tuple(some) for some in shown}) > 3, "they answer while the patch is dragged"
    page.mouse.up()
    page.wait_for_timeout(500)
    before, place = bars(), state(page, "OCCLUSION.patch")
    page.mouse.move(10, 10)
    assert state(page, "OCCLUSION.patch") == place, "let go"

    patch.focus()
    for key, way in [("ArrowUp", (-8, 0)), ("ArrowLeft", (0, -8)), ("Shift+ArrowDown", (1, 0))]:
        page.keyboard.press(key)
        place = place | {"row": place["row"] + way[0], "column": place["column"] + way[1]}
        assert state(page, "OCCLUSION.patch") == place
    page.wait_for_timeout(500)
    assert bars() != before
    said = part(page, "occlusion", "said").inner_text()
    assert f"row {place['row']}, column {place['column']}" in said


def test_a_class_is_found_by_its_name_and_a_map_can_be_cancelled(
    page: Page, network: imagenet.ImageNetClassifier
):
    ask(page)
    part(page, "cam", "find").fill("crane")
    names = part(page, "cam", "class").locator("option").all_inner_texts()
    assert len(names) == 2, "the bird and the machine"
    k = network.categories.index("crane")
    part(page, "cam", "class").select_option(str(k))
    until(page, f"CAM.k === {k}")
    found = cam.class_activation_maps(network.model, network.normalise(seen(page))[None])
    values = torch.tensor(state(page, "CAM.evidence"))
    assert correlation(values, found.of(k)[0]) > ALIKE
    assert values.mean().item() == pytest.approx(found.logits[0, k].item(), abs=1e-3)
    assert (
        page.get_by_role("img", name=re.compile("Evidence for crane, over A bald eagle in flight")).count()
        == 1
    )

    part(page, "occlusion", "sweep").click()
    until(page, "document.querySelector('[data-part=swept]').value > 0.05")
    part(page, "occlusion", "sweep").click()
    assert part(page, "occlusion", "swept").is_hidden()
    page.wait_for_timeout(1000)
    assert state(page, "OCCLUSION.swept") is None


def test_a_photograph_taken_sideways_stands_upright(tmp_path: Path, page: Page):
    upright = photos.photo("strawberries").image[:, :400]
    picture = Image.fromarray(upright.permute(1, 2, 0).numpy()).transpose(Image.Transpose.ROTATE_90)
    exif = picture.getexif()
    exif[0x0112] = 6  # the camera was turned: show this a quarter to the right
    picture.save(tmp_path / "sideways.jpg", quality=95, exif=exif)
    page.set_input_files(".chooser .file:not(.camera) input", tmp_path / "sideways.jpg")
    until(page, "OCCLUSION.title === 'sideways.jpg' && OCCLUSION.clean")
    assert "512 × 400 pixels" in page.locator(".told").inner_text()
    expected = photos.resized(photos.open_picture(tmp_path / "sideways.jpg"), 224)
    assert (seen(page).int() - expected.int()).abs().max() <= ROUNDING


def test_what_is_transparent_lies_on_white_and_a_small_picture_grows(tmp_path: Path, page: Page):
    Image.new("RGBA", (20, 30), (255, 0, 0, 128)).save(tmp_path / "glass.png")
    page.set_input_files(".chooser .file:not(.camera) input", tmp_path / "glass.png")
    until(page, "OCCLUSION.title === 'glass.png'")
    expected = photos.resized(photos.open_picture(tmp_path / "glass.png"), 224)
    assert (seen(page).int() - expected.int()).abs().max() <= ROUNDING


def test_a_picture_is_dropped_or_pasted(page: Page):
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40), (10, 200, 30)).save(buffer, "PNG")
    for event, carrier in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([event, carrier, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], `${event}.png`, {type: "image/png"}));
                document.dispatchEvent(Object.assign(new Event(event), {[carrier]: data}));
            }""",
            [event, carrier, list(buffer.getvalue())],
        )
        until(page, f"OCCLUSION.title === '{event}.png'")
        assert seen(page).float().mean((1, 2)).tolist() == [10, 200, 30]


def test_a_picture_is_taken_with_a_camera_of_a_desk(page: Page):
    take, dialog = page.get_by_role("button", name="Take one"), page.locator("dialog")
    take.click()
    dialog.get_by_role("button", name="Cancel").click()
    dialog.wait_for(state="detached")
    assert "A bald eagle in flight" in page.locator(".told").inner_text()
    take.click()
    page.wait_for_function("document.querySelector('dialog video')?.videoWidth")
    check(page)
    dialog.get_by_role("button", name="Take the picture").click()
    until(page, "OCCLUSION.title === 'Your picture'")
    colours = seen(page).float().mean((1, 2))
    assert colours.argmax() == 1, "Chromium's test picture is green"
    assert dialog.count() == 0
    page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error('permission denied'); }; }"
    )
    take.click()
    page.get_by_text("No camera could be opened: permission denied.").wait_for()


def test_what_is_no_picture_gets_a_sentence(tmp_path: Path, page: Page):
    (tmp_path / "notes.jpg").write_text("Dear diary")
    page.set_input_files(".chooser .file:not(.camera) input", tmp_path / "notes.jpg")
    message = page.get_by_text("notes.jpg is no picture that this browser can read.")
    message.wait_for()
    assert state(page, "OCCLUSION.title") == "A bald eagle in flight", "the picture before stays"
    until(page, "OCCLUSION.clean")
    page.set_input_files(".chooser .file:not(.camera) input", [])
    choose(page, "yurt")
    message.wait_for(state="hidden")


def test_a_picture_of_50_megapixels_does_not_freeze_the_page(tmp_path: Path, page: Page):
    ramp = np.linspace(0, 255, 8660, dtype=np.uint8)
    large = np.broadcast_to(ramp[None, :, None], (5774, 8660, 3))
    Image.fromarray(np.ascontiguousarray(large)).save(tmp_path / "large.jpg", quality=90)
    ask(page)
    page.evaluate(LONGEST_PAUSE)
    page.set_input_files(".chooser .file:not(.camera) input", tmp_path / "large.jpg")
    until(page, "CAM.title === 'large.jpg' && CAM.evidence")
    print(
        f"read in {state(page, 'lab.milliseconds.open'):.0f} ms, longest pause {page.evaluate('pause'):.0f} ms"
    )
    assert page.evaluate("pause") < FROZEN_MS
    expected = photos.resized(photos.open_picture(tmp_path / "large.jpg"), 224)
    assert (seen(page).int() - expected.int()).abs().max() <= ROUNDING


def test_a_second_visit_needs_no_connection(browser: Browser, address: str):
    handler = partial(site.Quiet, directory=site.SITE)
    page = browser.new_page(viewport=lab.DESKTOP)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as own:
        threading.Thread(target=own.serve_forever, daemon=True).start()
        visit(page, f"http://127.0.0.1:{own.server_port}/lab/index.html")
        ask(page)
        until(page, "lab.kept")
        own.shutdown()
    visit(page, page.url)
    ask(page)
    assert part(page, "occlusion", "answers").locator(".name").first.inner_text() == "bald eagle"
    page.close()


def test_a_network_of_the_readers_own_takes_the_place_of_the_other(tmp_path: Path, page: Page):
    classes = tuple("abcdefghij")
    model = checkpoints.restore(models.SmallCNN(), "small_cnn_cifar10")
    to_onnx(model, torch.zeros(1, 3, 32, 32), tmp_path / "mine.onnx", classes=classes)
    (tmp_path / "notes.onnx").write_text("Dear diary")
    network = page.locator(".network")
    network.locator("input").set_input_files(tmp_path / "notes.onnx")
    network.get_by_text("notes.onnx cannot be used: It is no ONNX file").wait_for()
    network.locator("input").set_input_files(tmp_path / "mine.onnx")
    until(page, "OCCLUSION.clean?.length === 10")
    assert "10 classes, pictures of 32 × 32 pixels" in network.inner_text()
    pixels = torch.tensor(state(page, "OCCLUSION.pixels"), dtype=torch.uint8).view(32, 32, 4)
    expected = answers(model.eval(), to_input(pixels[..., :3].permute(2, 0, 1)[None]))[0]
    assert (torch.tensor(state(page, "OCCLUSION.clean")) - expected).abs().max() < NEAR
    assert (
        part(page, "occlusion", "answers").locator(".name").first.inner_text() == classes[expected.argmax()]
    )
    page.get_by_text("A class activation map needs a network that ends in average pooling").wait_for()


def test_a_graphics_processor_answers_the_same(
    browser: Browser, address: str, network: imagenet.ImageNetClassifier
):
    """Here software imitates one, very slowly; so the page is told that it is a real one."""
    with lab.start(browser.browser_type, *IMITATED_GRAPHICS) as graphical:
        page = graphical.new_page(viewport=lab.DESKTOP)
        visit(page, address)
        assert state(page, "lab.providers") == ["wasm"], "an imitation would only be slower"
        page.route("**/lab/runtime.js", pretend)
        visit(page, address)
        assert state(page, "lab.providers[0]") == "webgpu"
        page.set_default_timeout(10 * SECONDS * 1000)
        page.locator(".start button").first.click()
        page.wait_for_function(spelled("OCCLUSION.clean && CAM.evidence"))
        image = network.normalise(seen(page))[None]
        expected = answers(network.model, image)[0]
        off = (torch.tensor(state(page, "OCCLUSION.clean")) - expected).abs().max()
        print(f"probabilities differ by {off:.1e}")
        assert off < NEAR
        found = cam.class_activation_maps(network.model, image).of(int(expected.argmax()))[0]
        assert correlation(state(page, "CAM.evidence"), found) > ALIKE


def pretend(route: Route) -> None:
    answer = route.fetch()
    words = answer.text()
    assert NO_IMITATION in words
    route.fulfill(response=answer, body=words.replace(NO_IMITATION, ""))


def test_from_a_folder_it_says_what_it_needs(browser: Browser, address: str):
    page = browser.new_page(viewport=lab.PHONE)
    page.goto((LAB / "index.html").as_uri())
    page.get_by_text("python -m http.server -d build/site").wait_for()
    assert page.locator("canvas").count() == 0
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_can_be_read_and_worked_by_everybody(width: int, scheme: Any, browser: Browser, address: str):
    """axe-core finds nothing against WCAG 2.2 AA, and nothing lies beyond the edge, before and after the maps."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    visit(page, address)
    check(page)
    ask(page)
    sweep(page)
    check(page)
    page.wait_for_timeout(500)
    page.screenshot(path=lab.SHOTS / f"lab_page_{width}_{scheme}.png", full_page=True)
    page.close()


def test_axe_would_find_a_fault(browser: Browser, address: str):
    page = browser.new_page(viewport=lab.DESKTOP)
    visit(page, address)
    page.evaluate("document.querySelector('.told').style.color = '#bbb'")
    assert [fault["id"] for fault in violations(page)] == ["color-contrast"]
    page.close()
