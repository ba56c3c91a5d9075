"""The website of ``make site``: every lesson, no dead link, no picture without words, nothing from elsewhere."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import matplotlib.pyplot as plt
import nbformat
import pytest
from nbformat import v4
from PIL import Image

from lessons_lib import plots
from lessons_lib.course import REPOSITORY
from lessons_lib.runner import find_lessons
from tests.notebook_rules import code_cells, pictures, tags

LESSONS = find_lessons()


class Tags(HTMLParser):
    """Every tag of a page that names another file, and the anchors to which others may lead."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.assets: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.anchors.update(value for name in ("id", "name") if (value := attributes.get(name)))
        target = attributes.get("href") or attributes.get("src")
        if target and tag == "a":
            self.links.append(target)
        elif target:
            self.assets.append(target)
        if tag == "img":
            self.images.append(attributes)


def build(
    folder: Path, config: Path = REPOSITORY / "site" / "mkdocs.yml"
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", folder]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    made = build(folder)
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Tags]:
    return {path: Tags(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def dead(pages: dict[Path, Tags], site: Path) -> list[str]:
    """Links and files of pages that lead nowhere, or out of the site's folder."""
    found = []
    for page, read in pages.items():
        for target in [*read.links, *read.assets]:
            address = urlsplit(target)
            if address.scheme in {"http", "https", "mailto", "data"}:
                continue
            # the page for what is not found is served from the top, wherever the reader is
            path = (
                site / address.path.lstrip("/")
                if address.path.startswith("/")
                else page.parent / address.path
            )
            file = (page if not address.path else Path(unquote(str(path)))).resolve()
            file = file / "index.html" if file.is_dir() else file
            inside = file.is_file() and file.is_relative_to(site.resolve())
            known = pages.get(file)
            if not inside or (known and unquote(address.fragment) not in known.anchors):
                found.append(f"{page.relative_to(site)}: {target}")
    return found


def test_every_lesson_guide_and_page_of_the_library_is_in_the_menu(site: Path, pages: dict[Path, Tags]):
    guides = ["CONTRIBUTING.html", "TEACHING.html", "data/index.html", "notebooks/assignments/index.html"]
    cards = [path.parent.name for path in (REPOSITORY / "data" / "checkpoints").glob("*/README.md")]
    wanted = [f"notebooks/{path.stem}.html" for path in LESSONS]
    wanted += [*guides, *(f"data/checkpoints/{name}/index.html" for name in cards)]
    wanted += ["api/index.html", *(f"api/{page}.html" for page in module("api").PAGES)]
    assert set(wanted) <= set(pages[site / "index.html"].links)


def test_no_link_is_dead(site: Path, pages: dict[Path, Tags]):
    assert sum(len(read.links) for read in pages.values()) > 100
    assert dead(pages, site) == []


def test_a_dead_link_would_be_found(site: Path, pages: dict[Path, Tags]):
    page = site / "index.html"
    broken = Tags('<a href="notebooks/99_nothing.html"></a><a href="#nowhere"></a><img src="../secret.png">')
    assert len(dead(pages | {page: broken}, site)) >= 3


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Tags]):
    for page, read in pages.items():
        for asset in read.assets:
            assert not urlsplit(asset).netloc, f"{page.name} loads {asset}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", style.read_text(encoding="utf-8")), (
            style
        )


def test_every_picture_has_words(pages: dict[Path, Tags]):
    for page, read in pages.items():
        for image in read.images:
            assert len((image.get("alt") or "").split()) >= 3, f"{page.name}: {image}"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_shows_all_that_is_stored_in_it(lesson: Path, site: Path, pages: dict[Path, Tags]):
    path = site / "notebooks" / f"{lesson.stem}.html"
    cells = [cell for _, cell in code_cells(nbformat.read(lesson, as_version=4))]
    words = [image["alt"] for image in pages[path].images]
    assert all(alt in words for cell in cells for alt, _ in pictures(cell))
    html = path.read_text(encoding="utf-8")
    assert html.count('<details class="solution">') == sum("solution" in tags(cell) for cell in cells)
    printed = [output for cell in cells for output in cell.outputs if output.output_type == "stream"]
    assert html.count('class="output highlight"') >= len(printed)
    panels = html.count("Run this cell in JupyterLab") + html.count('<div class="face" data-panel=')
    assert panels == sum("_panel(" in cell.source for cell in cells)


def module(name: str) -> Any:
    """A module of the folder site/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "site" / f"{name}.py")
    assert spec
    assert spec.loader
    loaded = importlib.util.module_from_spec(spec)
    # as MkDocs does, so that one imports another
    sys.path.insert(0, str(REPOSITORY / "site"))
    try:
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(REPOSITORY / "site"))
    return loaded


def test_a_figure_becomes_a_file_of_a_known_size():
    pages = module("pages")
    figure, axis = plt.subplots(figsize=(4, 3))
    axis.plot([0, 1])
    png = plots.img_tag(figure, 'A line rises to "1" & ends.')
    buffer = io.BytesIO()
    Image.new("RGB", (300, 150), "white").save(buffer, "JPEG")
    packed = base64.b64encode(buffer.getvalue()).decode()
    jpeg = f'<img alt="Nothing to see." style="width: 200px; max-width: 100%" src="data:image/jpeg;base64,{packed}">'
    shown = [v4.new_output("display_data", {"text/html": html}) for html in (png, jpeg, "<b>no figure</b>")]
    notebook = v4.new_notebook(cells=[v4.new_code_cell("show()", outputs=shown)])
    text, files = pages.to_markdown(notebook, "01_a")
    assert list(files) == ["01_a_files/01_a_1.png", "01_a_files/01_a_2.jpeg"]
    assert files["01_a_files/01_a_2.jpeg"] == buffer.getvalue()
    first, second = Tags(text).images
    width = round(4 * plt.rcParams["figure.dpi"])
    assert (first["src"], first["alt"]) == ("01_a_files/01_a_1.png", 'A line rises to "1" & ends.')
    assert (first["width"], first["height"], first["loading"]) == (str(width), str(width * 3 // 4), "lazy")
    assert (second["width"], second["height"]) == ("200", "100")
    assert text.count('<div class="figure">') == 2
    assert "base64" not in text
    assert '<div class="table">\n<b>no figure</b>' in text


def test_formulas_need_no_script(site: Path):
    lesson = (site / "notebooks" / "10_invariance_correspondence.html").read_text(encoding="utf-8")
    assert '<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">' in lesson
    assert "arithmatex" not in lesson


def test_lists_are_lists(site: Path):
    for path in site.rglob("*.html"):
        assert not re.search(r"<p>[^<]*\n[-*] ", path.read_text(encoding="utf-8")), path


def described(html: str, name: str) -> str:
    """What a page of the library says of a name, without its signature."""
    after = html.partition(f'id="{name}"')[2]
    below = re.search(r"</h[1-6]>(.*?)(<h[1-6] |</article>)", after, flags=re.DOTALL)
    told = re.sub(r'<div class="doc-signature.*?</div>', "", below[1], flags=re.DOTALL) if below else ""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", told)).split())


def test_every_name_that_lessons_use_is_described(site: Path):
    api = module("api")
    library = api.load()
    html = "".join((site / "api" / f"{page}.html").read_text(encoding="utf-8") for page in api.PAGES)
    used = set().union(*(api.names_used(path) for path in LESSONS))

    def known(name: str) -> bool:
        try:
            return bool(library.modules_collection[name])
        except KeyError:
            return False

    # a method of a constant, such as PARTS.index, stands for the constant
    wanted = {name if known(name) else name.rpartition(".")[0] for name in used}
    assert all(known(name) for name in wanted)
    assert {"lessons_lib.methods.cam.class_activation_maps", "lessons_lib.data.to_input"} <= wanted
    assert [name for name in sorted(wanted) if len(described(html, name).split()) < 4] == []


def test_what_is_not_described_would_be_found():
    heading = '<h2 id="a.b"><code>b</code></h2>'
    signature = '<div class="doc-signature highlight"><pre>b(x: int, y: int, z: int) -&gt; int</pre></div>'
    assert described(f"{heading}{signature}<h2 id=c>c</h2><p>What c does.</p></article>", "a.b") == ""
    assert described(f"{heading}{signature}<p>What <b>b</b> does.</p></article>", "a.b") == "What b does."
    assert described(heading, "a.c") == ""


def test_every_part_of_the_library_has_a_page_or_is_left_out_knowingly():
    api = module("api")
    parts = {
        path.stem
        for path in (REPOSITORY / "lessons_lib").iterdir()
        if path.stem[0] not in "_." and path.suffix in {"", ".py"} and path.stem != "shipped"
    }
    assert {page.partition(".")[0] for page in api.PAGES} | api.NOT_SHOWN == parts


def test_docstrings_have_become_pages(site: Path):
    for path in (site / "api").glob("*.html"):
        article = path.read_text(encoding="utf-8").partition("<article")[2].partition("</article>")[0]
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", article, flags=re.DOTALL)
        assert not re.search(r":(func|class|data|meth|attr|mod):|\]\[|``|&gt;&gt;&gt;|<blockquote", text), (
            path
        )
        assert "<autoref" not in article, path
    evaluation = (site / "api" / "methods.evaluation.html").read_text(encoding="utf-8")
    example = evaluation.index("by_torchcam")
    assert example < evaluation.index('id="lessons_lib.methods.evaluation.score"')
    assert 'href="../notebooks/11_trust_explanations.html"' in evaluation
    assert 'href="methods.cam.html#lessons_lib.methods.cam.grad_cam"' in evaluation


def test_a_docstring_becomes_markdown():
    docstring = """Double ``x``, see ``other`` and ``nn.Linear``.

    - one
    - two
    So:
    - three

    Returns:
        Shape (N,): twice ``x``.

    >>> double(2)
    4
    """
    lines = (line.removeprefix("    ") for line in docstring.splitlines())
    text = module("api").to_markdown("\n".join(lines), {"other": "lessons_lib.other"}.get)
    assert text.splitlines()[0] == "Double ``x``, see [``other``][lessons_lib.other] and ``nn.Linear``."
    assert "So:\n\n- three" in text
    assert "Returns:\n    : Shape (N,): twice" in text
    assert "\n```pycon\n>>> double(2)\n4\n```" in text


def test_search_knows_every_name_and_puts_lessons_first(site: Path):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    about = [entry for entry in index["docs"] if entry["location"].startswith("api/methods.cam.html")]
    titles = {entry["title"]: entry["location"].partition("#")[2] for entry in about}
    for name in ("grad_cam", "class_activation_maps"):
        assert titles[name] == f"lessons_lib.methods.cam.{name}"
    assert {entry["boost"] for entry in about} == {0.5}
    assert not [
        entry for entry in index["docs"] if entry["location"].startswith("notebooks/") and "boost" in entry
    ]
    words = re.compile(index["config"]["separator"]).split("cam.class_activation_maps(model)")
    assert words[:2] == ["cam", "class_activation_maps"]


def test_search_knows_every_lesson(site: Path):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {
        entry["location"].partition("#")[0]
        for entry in index["docs"]
        if "exercises" in entry["title"].lower() and entry["location"].startswith("notebooks/")
    }
    assert found == {f"notebooks/{path.stem}.html" for path in LESSONS if path.name[:2] != "00"}


@pytest.mark.parametrize(
    ("npm", "reason"), [(None, "npm was not found"), ("exit 1", "npm could not fetch onnxruntime-web")]
)
def test_without_npm_the_lab_says_why_it_is_empty(
    npm: str | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    pages = module("pages")
    lab, folder = pages.make, tmp_path / "lab"
    for place, path in {"OUT": folder, "WHY_NOT": folder / "missing.txt", "NPM": tmp_path / "npm"}.items():
        monkeypatch.setattr(lab, place, path)
    monkeypatch.setenv("PATH", str(tmp_path))
    if npm and os.name == "nt":
        pytest.skip("stands in for npm with a shell script")
    if npm:
        (tmp_path / "npm.sh").write_text(f"#!/bin/sh\n{npm}\n")
        (tmp_path / "npm.sh").chmod(0o755)
        monkeypatch.setattr(lab.shutil, "which", lambda name: str(tmp_path / f"{name}.sh"))
    lab.main()
    assert [path.name for path in folder.iterdir()] == ["missing.txt"]
    assert reason in capsys.readouterr().err
    page = pages.lab_page((REPOSITORY / "site" / "lab" / "index.md").read_text(encoding="utf-8"))
    assert reason in page
    assert "# The lab" in page
    assert "<script" not in page
    assert "Run this cell in JupyterLab" in pages.panel("widgets.cam.cam_panel(images)")


def test_a_panel_works_where_the_site_has_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pages = module("pages")
    monkeypatch.setattr(pages.make, "OUT", tmp_path)
    (tmp_path / pages.make.ABOUT).write_text("{}")
    assert 'data-panel="cam"' in pages.panel("widgets.cam.cam_panel(images)")
    assert "Run this cell in JupyterLab" in pages.panel("drawing_panel()")


def test_every_panel_of_the_website_has_a_face_a_home_and_a_place_in_the_lab():
    make = module("pages").make
    names = {path.stem for path in make.LAB.glob("answers/*.js")}
    assert names == {path.stem for path in make.LAB.glob("answers/*.py")}
    text = (make.LAB / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r'data-panel="(\w+)"', text)) == names
    for name in names:
        assert (make.FACES / f"{name}.js").exists()
        assert f'Face("{name}"' in (make.FACES.parent / f"{name}.py").read_text(encoding="utf-8")


def test_what_npm_fetches_is_locked_and_names_no_server():
    wanted = json.loads((REPOSITORY / "site" / "package.json").read_text(encoding="utf-8"))
    locked = json.loads((REPOSITORY / "site" / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    for kind in ("dependencies", "devDependencies"):
        assert locked[""][kind] == wanted[kind]
    packages = {name: package for name, package in locked.items() if name}
    assert {f"node_modules/{name}" for name in wanted["dependencies"]} <= set(packages)
    assert all(package["integrity"] for package in packages.values())
    assert "://" not in json.dumps([{**package, "funding": None} for package in packages.values()])


def test_a_link_to_nothing_stops_the_build(tmp_path: Path):
    for file in (REPOSITORY / "site").rglob("*.*"):
        copy = tmp_path / "site" / file.relative_to(REPOSITORY / "site")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    shutil.copytree(REPOSITORY / "lessons_lib", tmp_path / "lessons_lib", ignore=lambda *_: ["__pycache__"])
    (tmp_path / "README.md").write_text("# Title\n\n[nothing](nothing.md)\n")
    made = build(tmp_path / "out", tmp_path / "site" / "mkdocs.yml")
    assert made.returncode == 1
    assert "nothing.md" in made.stdout + made.stderr
