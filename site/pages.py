"""The pages of the website: MkDocs calls these hooks. They read the lessons as they are stored and execute nothing."""

from __future__ import annotations

import base64
import io
import re
from html import escape, unescape
from pathlib import Path, PurePosixPath
from posixpath import normpath

import api
import nbformat
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from nbformat import NotebookNode
from PIL import Image

from lab import make

# not from lessons_lib, which takes seconds to import torch
REPOSITORY = Path(__file__).resolve().parents[1]
LESSONS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
LAB = REPOSITORY / "build" / "lab"  # what lab/make.py wrote
LIVE = (LAB / make.ABOUT).exists()  # whether panels work here
MODEL_CARDS = sorted((REPOSITORY / "data" / "checkpoints").glob("*/README.md"))
GUIDES = (
    "CONTRIBUTING.md",
    "TEACHING.md",
    "notebooks/assignments/README.md",
    "data/README.md",
    "data/records/README.md",
)
# nbconvert's Markdown with outputs and solutions in blocks of their own, and pictures of a known size; without the
# cell that installs the library where it is missing
PAGE = """
{%- extends 'markdown/index.md.j2' -%}
{%- block codecell -%}
{%- if 'nbval-skip' in cell.metadata.get('tags', []) -%}
{%- elif 'solution' in cell.metadata.get('tags', []) %}

<details class="solution" markdown="1"><summary>Solution</summary>
{{ super() }}

</details>
{%- else -%}
{{ super() }}
{%- endif -%}
{%- if '_panel(' in cell.source %}
{{ cell.source | panel }}
{%- endif -%}
{%- endblock codecell -%}
{%- macro printed(text) %}

````{.text .output}
{{ text | strip_ansi }}
````
{% endmacro -%}
{%- block stream -%}{{ printed(output.text) }}{%- endblock stream -%}
{%- block data_text -%}{{ printed(output.data['text/plain']) }}{%- endblock data_text -%}
{%- block error -%}{{ printed(output.traceback | join('\\n')) }}{%- endblock error -%}
{%- block data_png %}

{{ output.metadata.figure }}
{% endblock data_png -%}
{%- block data_html %}

{% if output.metadata.figure -%}
{{ output.metadata.figure }}
{%- else -%}
<div class="table">
{{ output.data['text/html'] }}
</div>
{%- endif %}
{% endblock data_html -%}
"""
# a panel that works on the website; from a folder no module is loaded, and the sentence stays
PANEL = """
<link rel="stylesheet" href="../lab/faces/faces.css">
<link rel="stylesheet" href="../lab/lab.css">
<p class="needs"><em>A panel needs a server: run <code>python -m http.server -d build/site</code> in the folder of the
course, then open http://localhost:8000. Or run this cell in JupyterLab.</em></p>
<div class="face" data-panel="{}"></div>
<script type="module" src="../lab/page.js"></script>
"""
# a figure as lessons_lib.plots.img_tag writes it
FIGURE = re.compile(
    r'<img alt="(?P<alt>[^"]*)" style="width: (?P<width>\d+)px; max-width: 100%"'
    r' src="data:image/(?P<kind>png|jpeg);base64,(?P<file>[^"]+)">'
)


def on_config(config: MkDocsConfig) -> None:
    """List the pages in the order of reading."""
    config.nav = [
        {"Home": "README.md"},
        {"The lab": "lab/index.md"},
        {"Lessons": [_address(lesson) for lesson in LESSONS]},
        {"Guides": list(GUIDES)},
        {"Shipped networks": [_address(card) for card in MODEL_CARDS]},
        {
            "Library": [
                "api/index.md",
                *({group: [f"api/{name}.md" for name in names]} for group, names in api.GROUPS.items()),
            ]
        },
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages and pictures, each at its place in the repository, so that links between them hold."""
    texts = [REPOSITORY / name for name in ("README.md", *GUIDES)]
    for path in [*texts, *MODEL_CARDS, *sorted(REPOSITORY.glob("notebooks/images/*"))]:
        files.append(File.generated(config, _address(path), abs_src_path=str(path)))
    text = (REPOSITORY / "site" / "lab" / "index.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "lab/index.md", content=lab_page(text)))
    if LIVE:
        written = [(f"files/{path.relative_to(LAB).as_posix()}", path) for path in sorted(LAB.rglob("*.*"))]
        for address, path in [*make.sources(), *written]:
            place = address if address == make.WORKS_OFFLINE else f"lab/{address}"
            files.append(File.generated(config, place, abs_src_path=str(path)))
    for lesson in LESSONS:
        text, pictures = to_markdown(nbformat.read(lesson, as_version=4), lesson.stem)
        files.append(File.generated(config, _address(lesson), content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    for name, text in api.pages().items():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to notebooks to their pages, and allow what GitHub and Jupyter allow in Markdown.

    A link to a file that has no page here, such as a module, becomes its words; so does a picture on a server,
    such as a badge. A link to nothing is left for MkDocs to complain about.
    """

    def link(found: re.Match[str]) -> str:
        target = normpath(PurePosixPath(page.file.src_uri).parent / found["file"])
        no_page = files.get_file_from_path(target) is None and (REPOSITORY / target).exists()
        return found["words"] if no_page else found[0]

    markdown = re.sub(r"(\]\([^)\s:]+)\.ipynb\b", r"\1.md", markdown)
    markdown = re.sub(r'(href="[^":]+)\.ipynb\b', r"\1.html", markdown)
    markdown = re.sub(r"!\[([^\]]*)\]\(https?:[^)]*\)", r"\1", markdown)
    markdown = re.sub(r"(?<!!)\[(?P<words>[^\[\]]+)\]\((?P<file>[^)\s:#]+)[^)\s]*\)", link, markdown)
    # here a list need not be set off by an empty line
    return re.sub(r"(?m)^(?![-*|>#`\s]|\d+\. )(.+)\n(?=[-*] |1\. )", r"\1\n\n", markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Write formulas as MathML, which browsers draw by themselves, and keep menus short."""
    for item in page.toc:
        for section in () if page.file.src_uri.startswith("api/") else item.children:
            section.children.clear()

    def formula(found: re.Match[str]) -> str:
        display = "block" if found["tag"] == "div" else "inline"
        return convert(unescape(found["tex"]), display=display)

    pattern = r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>'
    return re.sub(pattern, formula, html, flags=re.DOTALL)


def lab_page(markdown: str) -> str:
    """The page "The lab", or its title and why there is no more, where what it needs was not made."""
    if LIVE:
        return markdown
    reason = (
        make.WHY_NOT.read_text(encoding="utf-8") if make.WHY_NOT.exists() else "What they need was not made."
    )
    title = markdown.partition("<link")[0]
    return f"{title}The panels are not in this copy of the site. {reason} Then run `make site` again.\n"


def to_markdown(notebook: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """A lesson as Markdown, and its pictures by file name, ``name_files/…``."""
    pictures: dict[str, bytes] = {}

    def figure(alt: str, kind: str, packed: str, width: int | None) -> str:
        address = f"{name}_files/{name}_{len(pictures) + 1}.{kind}"
        pictures[address] = base64.b64decode(packed)
        with Image.open(io.BytesIO(pictures[address])) as picture:
            width = width or picture.width
            height = round(width * picture.height / picture.width)
        return (
            f'<div class="figure" tabindex="0"><img src="{address}" loading="lazy" alt="{alt}"'
            f' width="{width}" height="{height}" style="--width: {width}px"></div>'
        )

    for output in (output for cell in notebook.cells for output in cell.get("outputs", [])):
        data = output.get("data", {})
        shown = FIGURE.fullmatch(data.get("text/html", ""))
        if shown:
            output.metadata["figure"] = figure(
                shown["alt"], shown["kind"], shown["file"], int(shown["width"])
            )
        elif "image/png" in data:
            told = output.metadata.get("image/png", {})
            output.metadata["figure"] = figure(
                escape(told.get("alt", "")), "png", data["image/png"], told.get("width")
            )
    exporter = MarkdownExporter(raw_template=PAGE, filters={"panel": live})
    text, _ = exporter.from_notebook_node(notebook, {"unique_key": name})
    return text, pictures


def live(source: str) -> str:
    """What stands under a cell that makes a panel: the panel, if it works on the website, or where it does."""
    known = {}
    for path in make.LAB.glob("answers/*.js") if LIVE else ():
        widgets = (make.FACES.parent / f"{path.stem}.py").read_text(encoding="utf-8")
        known |= dict.fromkeys(re.findall(r"def (\w+_panel\()", widgets), path.stem)
    name = next((name for call, name in known.items() if call in source), None)
    return PANEL.format(name) if name else "\n*Run this cell in JupyterLab to get the panel.*"


def _address(path: Path) -> str:
    """Where a page is written, seen from the top of the repository."""
    return path.relative_to(REPOSITORY).as_posix().replace(".ipynb", ".md")
