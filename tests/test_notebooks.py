"""The committed lessons keep the rules, each rule catches its breach, and nbval does compare outputs."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbformat import NotebookNode, v4
from nbval.plugin import get_sanitize_patterns
from PIL import Image

from lessons_lib import plots
from lessons_lib.course import REPOSITORY
from lessons_lib.runner import clean, find_lessons, refresh, talk_through_files
from tests import notebook_rules

SANITIZE = REPOSITORY / "tests" / "sanitize.cfg"
BEFORE_STEPS = "## What you will learn\n\n## What you need\n\n```\n# no heading\n```"
FOLDED = {"tags": ["solution"], "jupyter": {"source_hidden": True}}


def png(*, blank: bool = False) -> str:
    picture = Image.new("RGB", (4, 4), "white")
    if not blank:
        picture.putpixel((1, 1), (200, 0, 0))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def html_picture(alt: str, payload: str, kind: str = "png") -> NotebookNode:
    return v4.new_output(
        "display_data", {"text/html": f'<img alt="{alt}" src="data:image/{kind};base64,{payload}">'}
    )


def png_picture(alt: str, payload: str) -> NotebookNode:
    return v4.new_output("display_data", {"image/png": payload}, metadata={"image/png": {"alt": alt}})


def code(source: str, *outputs: NotebookNode, **metadata: object) -> NotebookNode:
    return v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def lesson() -> NotebookNode:
    """A small lesson that keeps every rule."""
    notebook = v4.new_notebook(
        cells=[
            v4.new_markdown_cell(
                f"# 03 · A lesson\n\nSee [the next one](04_next.ipynb#top).\n\n{BEFORE_STEPS}"
            ),
            code("PROFILE = None", tags=["parameters"]),
            code(notebook_rules.INSTALL, tags=["nbval-skip"], jupyter={"source_hidden": True}),
            v4.new_markdown_cell("## 1 · Look"),
            code(
                "look()",
                html_picture("A red dot on white.", png()),
                html_picture("A drawing of a dot.", base64.b64encode(b"<svg/>").decode(), "svg+xml"),
                png_picture("A red dot on white.", png()),
            ),
            v4.new_markdown_cell("## 2 · Count\n\n### Closer"),
            code(
                "print('1/3 of 0.5 s')",
                v4.new_output("stream", name="stdout", text="1/3 and/or http://a.org/b/c\n"),
            ),
            v4.new_markdown_cell("## Going further\n\n## Try it\n\n## Exercises"),
            code("1 + 1", v4.new_output("execute_result", {"text/plain": "2"}, execution_count=4), **FOLDED),
            v4.new_markdown_cell(
                "## Recap\n\nGo on with [the next one](04_next.ipynb).\n\n## References\n\n[paper](https://example.org/paper.pdf)"
            ),
        ]
    )
    for count, (_, cell) in enumerate(notebook_rules.code_cells(notebook), 1):
        cell.execution_count = count
    return clean(notebook)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(notebook_rules, "IGNORING", {})
    (tmp_path / "04_next.ipynb").touch()
    return tmp_path


def broken_rules(
    notebook: NotebookNode, folder: Path, name: str = "03_lesson.ipynb"
) -> dict[str, int | None]:
    nbformat.write(notebook, folder / name)
    return {violation.rule: violation.cell for violation in notebook_rules.check(folder / name)}


def test_a_good_lesson_breaks_no_rule(folder: Path):
    assert broken_rules(lesson(), folder) == {}


def test_the_map_of_the_course_needs_no_exercises(folder: Path):
    notebook = lesson()
    notebook.cells[0].source = f"# 00 · Start here\n\n{BEFORE_STEPS}"
    del notebook.cells[7:9]
    assert broken_rules(notebook, folder, "00_start_here.ipynb") == {}
    assert set(broken_rules(notebook, folder)) == {"headings", "folded-solutions"}


def set_cell(position: int, **changes: object):
    return lambda notebook: notebook.cells[position - 1].update(changes)


def retag(position: int, *tags: str):
    return lambda notebook: notebook.cells[position - 1].metadata.update(tags=list(tags))


def resource(position: int, text: str):
    return set_cell(position, source=text)


def show(position: int, *outputs: NotebookNode):
    return set_cell(position, outputs=list(outputs))


ERROR = v4.new_output("error", ename="KeyError", evalue="'a'", traceback=[])
STDERR = v4.new_output("stream", name="stderr", text="UserWarning: hm\n")
HOME = v4.new_output("stream", name="stdout", text="saved in /home/ada/course\n")
WINDOWS = v4.new_output("execute_result", {"text/plain": r"'C:\\Users\\ada'"}, execution_count=2)
TRACEBACK = v4.new_output("error", ename="E", evalue="e", traceback=["File /home/ada/course/x.py:3", "E: e"])
TABLE = v4.new_output("display_data", {"text/html": "<td>/Users/ada/course</td>"})

VERDICT = v4.new_output("stream", name="stdout", text="a: 1.5\ntraining helps: True\n")
YES = v4.new_output("stream", name="stdout", text="no\n")
ANY = v4.new_output("stream", name="stdout", text="a 0.71 ± 0.50\nb 0.65 ± 0.05\n")
UNANSWERED = v4.new_output("stream", name="stdout", text="No answer yet: put yours where the dots are.\n")
HEAVY = v4.new_output("stream", name="stdout", text="a word " * 220_000)

BREACHES = {
    "never run": (set_cell(5, execution_count=None), "executed", 5),
    "run twice": (set_cell(5, execution_count=7), "executed", 5),
    "mistyped tag": (retag(5, "nbval-ignore-outputs"), "known-tags", 5),
    "tag on prose": (retag(4, "hidden"), "known-tags", 4),
    "skipped without a reason": (retag(5, "nbval-skip"), "known-tags", 5),
    "comment for nbval": (resource(5, "# NBVAL_IGNORE_OUTPUT\nlook()"), "known-tags", 5),
    "no parameters": (retag(2), "parameters", 2),
    "no profile": (resource(2, "PROFILED = 1\nprint(PROFILED == 2)"), "parameters", 2),
    "parameters twice": (retag(5, "parameters"), "parameters", 5),
    "installs nothing": (lambda notebook: notebook.cells.pop(2), "installs-what-is-missing", 4),
    "installs more": (resource(3, f"{notebook_rules.INSTALL} jupyterlab"), "installs-what-is-missing", 3),
    "compares what it installs": (retag(3), "installs-what-is-missing", 3),
    "shows what it installs": (
        lambda notebook: notebook.cells[2].metadata.pop("jupyter"),
        "installs-what-is-missing",
        3,
    ),
    "traceback": (show(5, ERROR), "no-errors", 5),
    "stderr": (show(5, STDERR), "no-errors", 5),
    "wrong number": (resource(1, f"# 04 · A lesson\n\n{BEFORE_STEPS}"), "headings", 1),
    "title not first": (lambda notebook: notebook.cells.insert(0, v4.new_markdown_cell("Hi")), "headings", 1),
    "missing section": (resource(10, "## Recap"), "headings", None),
    "sections swapped": (resource(10, "## References\n\n## Recap"), "headings", None),
    "step missing": (resource(6, "## 3 · Count"), "headings", 6),
    "no steps": (lambda notebook: [notebook.cells.pop(5), notebook.cells.pop(3)], "headings", None),
    "no alt text": (show(5, png_picture("", png())), "alt-text", 5),
    "no alt text in a page": (show(5, html_picture("figure", png())), "alt-text", 5),
    "blank picture": (show(5, png_picture("A red dot on white.", png(blank=True))), "blank-picture", 5),
    "blank picture in a page": (
        show(5, html_picture("A red dot on white.", png(blank=True))),
        "blank-picture",
        5,
    ),
    "home folder": (show(7, HOME), "no-paths", 7),
    "home folder in a table": (show(7, TABLE), "no-paths", 7),
    "home folder in a traceback": (show(7, TRACEBACK), "no-paths", 7),
    "home folder on Windows": (show(5, WINDOWS), "no-paths", 5),
    "long cell": (resource(5, "look()\n" * 16), "cell-length", 5),
    "many places": (
        resource(5, "".join(f"from lessons_lib.{place} import a\n" for place in "abcd")),
        "few-imports",
        5,
    ),
    "many names": (
        resource(5, f"from lessons_lib.a import (\n    {', '.join(f'name{i}' for i in range(16))},\n)"),
        "few-imports",
        5,
    ),
    "dead link": (resource(4, "## 1 · Look\n\n[there](05_gone.ipynb)"), "links", 4),
    "dead picture": (resource(4, '## 1 · Look\n\n<img src="gone%20too.png">'), "links", 4),
    "no way on": (resource(10, "## Recap\n\n## References"), "next-lesson", 10),
    "open solution": (lambda notebook: notebook.cells[8].metadata.pop("jupyter"), "folded-solutions", 9),
    "no solution": (retag(9), "folded-solutions", None),
    "answer in sight": (resource(7, "exercises.check(both, [0.5, -1])"), "answers-out-of-sight", 7),
    "answer never checked": (resource(7, "both = ..."), "answers-checked", 9),
    "function never checked": (resource(7, "def both():\n    return ..."), "answers-checked", 9),
    "time stamps": (lambda notebook: notebook.cells[4].metadata.update(execution={}), "clean-metadata", None),
    "verdict": (show(7, VERDICT), "numbers-not-verdicts", 7),
    "bare no": (show(7, YES), "numbers-not-verdicts", 7),
    "nothing further": (resource(8, "## Try it\n\n## Exercises"), "headings", None),
    "further after the panel": (
        resource(8, "## Try it\n\n## Going further\n\n## Exercises"),
        "headings",
        None,
    ),
    "heavy": (show(7, HEAVY), "light", None),
    "says nothing": (show(7, ANY), "intervals-that-say-something", 7),
    "one more ignored": (retag(7, "nbval-ignore-output"), "outputs-compared", 7),
    "other kernel": (
        lambda notebook: notebook.metadata.kernelspec.update(name="my-env"),
        "clean-metadata",
        None,
    ),
}


@pytest.mark.parametrize(("spoil", "rule", "cell"), BREACHES.values(), ids=BREACHES.keys())
def test_each_breach_is_caught_where_it_is(spoil, rule: str, cell: int | None, folder: Path):
    notebook = lesson()
    spoil(notebook)
    broken = broken_rules(notebook, folder)
    assert rule in broken
    assert broken[rule] == cell


def test_every_rule_has_a_breach():
    assert {rule for _, rule, _ in BREACHES.values()} == set(notebook_rules.RULES)


def test_a_number_that_fell_is_kept_low(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notebook_rules, "IGNORING", {"03": 1})
    assert broken_rules(lesson(), folder) == {"outputs-compared": None}


@pytest.mark.parametrize("told", [7, 9], ids=["by the starter", "by the solution"])
def test_an_answer_that_is_checked_and_not_given_breaks_no_rule(told: int, folder: Path):
    notebook = lesson()
    notebook.cells[6].source = "both = ...\nexercises.check(both, count(1) + 1)"
    show(told, UNANSWERED)(notebook)
    assert broken_rules(notebook, folder) == {}


def test_the_command_names_the_notebook_the_cell_and_the_rule(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    notebook = lesson()
    notebook.cells[4].execution_count = None
    nbformat.write(notebook, folder / "03_lesson.ipynb")
    assert notebook_rules.main([str(folder / "03_lesson.ipynb")]) == 1
    assert "03_lesson.ipynb, cell 5: executed: execution count is None" in capsys.readouterr().out


@pytest.mark.parametrize("path", find_lessons(), ids=lambda path: path.stem)
def test_committed_lessons_keep_the_rules(path: Path):
    assert notebook_rules.check(path) == []


def sanitized(text: str) -> str:
    for pattern, replacement in get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8")):
        text = re.sub(pattern, replacement, text)
    return text


def test_the_map_gives_each_lesson_the_minutes_it_says():
    first, *others = find_lessons()
    texts = {path.name: path.read_text(encoding="utf-8") for path in others}
    said = {name: re.search(r"About (an hour|\d+ minutes)", text)[1] for name, text in texts.items()}
    minutes = {name: "60" if words == "an hour" else words.split()[0] for name, words in said.items()}
    text = first.read_text(encoding="utf-8")
    on_map = dict(re.findall(r"\| \[[^]]*\]\((\S+ipynb)\)[^|]*\|[^|]*\|[^|]*\| (\d+) \|", text))
    assert on_map == minutes
    hours = int(re.search(r"together they make about (\d+) hours", text)[1])
    assert abs(sum(map(int, on_map.values())) / 60 - hours) <= 0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<object at 0x7f12ab34cd56>", "<object at 0x10a3b9f40>"),
        (
            '<img alt="A dot" src="data:image/png;base64,iVBOR+/w0=">',
            '<img alt="A dot" src="data:image/png;base64,AA">',
        ),
        (
            '<img alt="A dot" src="data:image/svg+xml;base64,iVBOR+/w0=">',
            '<img alt="A dot" src="data:image/svg+xml;base64,AA">',
        ),
        ("in 1.25 s and 3 µs", "in 12 s and 0.7 µs"),
        ("at 2026-11-21 18:24:05", "at 2027-01-02 03:04:05"),
        ("6f1c1d3e-0b1c-4c56-9f0e-3a3f0c7a9f10", "00000000-0b1c-4c56-9f0e-3a3f0c7a9f10"),
        ("saved /home/ada/x.pt", "saved /Users/bob/course/y.pt"),
        (r"saved C:\Users\ada\x.pt", "saved /Users/bob/course/y.pt"),
    ],
)
def test_what_may_differ_is_sanitized(one: str, other: str):
    assert sanitized(one) == sanitized(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (
            '<img alt="A dot" src="data:image/png;base64,AA">',
            '<img alt="Two dots" src="data:image/png;base64,AA">',
        ),
        ("accuracy 0.9512", "accuracy 0.9511"),
        ("32 of 64 channels", "31 of 64 channels"),
        ("1/3 dead", "2/3 dead"),
        ("shape (3, 32, 32)", "shape (3, 32, 16)"),
        ("8 species", "9 species"),
    ],
)
def test_what_may_not_differ_is_compared(one: str, other: str):
    assert sanitized(one) != sanitized(other)


def corrupted(notebook: NotebookNode) -> NotebookNode:
    """The notebook up to the first cell that prints a number which nbval compares, with that number changed."""
    for position, cell in notebook_rules.code_cells(notebook):
        for output in cell.outputs:
            compared = re.search(r"\d", sanitized(output.get("text", "")))
            if compared and "nbval-ignore-output" not in notebook_rules.tags(cell):
                output.text = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), output.text)
                notebook.cells = notebook.cells[:position]
                return notebook
    raise AssertionError("this notebook prints no number for nbval to compare")


def printed(text: str) -> NotebookNode:
    return v4.new_output("stream", name="stdout", text=text)


def curves(*names: str) -> str:
    """A figure as lessons store it, with a curve for each name."""
    values = {"trained": [0.2, 0.5, 0.7], "untrained": [0.1, 0.2, 0.2]}
    layers = {name: dict(zip(("conv1", "conv2", "conv3"), values[name], strict=True)) for name in names}
    return plots.img_tag(plots.by_layer(layers, title="Sparsity", ylabel="share"), "Curves rise with depth.")


TWO, ONE = curves("trained", "untrained"), curves("trained")
# how a kernel and its manager talk
TALKS = "from ipykernel.kernelapp import IPKernelApp\nIPKernelApp.instance().transport"
# what a cell prints or shows, and what is stored of it: that agrees, and that does not
AGREE = {
    "in the interval": ("accuracy 0.73 ± 0.03", "accuracy 0.71 ± 0.03"),
    "a count": ("478 of 529 places", "481 of 529 places"),
    "the last digit": ("| loss | 0.70 |", "| loss  | 0.71 |"),
    "a time": ("0.70 after 3 s", "0.71 after 12 s"),
    "a picture": (TWO, TWO),
}
DIFFER = {
    "out of the interval": ("accuracy 0.79 ± 0.03", "accuracy 0.71 ± 0.03"),
    "a word dropped": ("accuracy 0.71", "test accuracy 0.71"),
    "another size": ("478 of 530 places", "481 of 529 places"),
    "labels swapped": ("dog 0.71, cat 0.71", "cat 0.71, dog 0.71"),
    "a series missing": (ONE, TWO),
    "a picture missing": ("nothing", TWO),
    "other alt text": (TWO.replace("rise", "fall"), TWO),
}


@pytest.fixture(scope="module")
def canaries(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What nbval reports, with the project's own settings, on intact and on corrupted notebooks."""
    folder = tmp_path_factory.mktemp("canaries")
    intact = folder / "intact.ipynb"
    cells = [code("x = 20"), code("print('x is', x + 1)\nobject()"), code("x"), code(TALKS)]
    nbformat.write(v4.new_notebook(cells=cells), intact)
    assert [run.failure for run in refresh([intact])] == [None]
    nbformat.write(corrupted(nbformat.read(intact, as_version=4)), folder / "corrupted.ipynb")
    for path in find_lessons()[:1]:
        nbformat.write(corrupted(nbformat.read(path, as_version=4)), folder / "lesson.ipynb")
    for name, pairs in (("agree", AGREE), ("differ", DIFFER)):
        made = []
        for count, (now, stored) in enumerate(pairs.values()):
            (folder / f"{name}{count}.html").write_text(now, encoding="utf-8")
            shows = f"open('{name}{count}.html', encoding='utf-8').read()"
            if "<img" in stored and "<img" in now:
                cell = code(
                    f"from IPython.display import HTML, display\ndisplay(HTML({shows}))", html(stored)
                )
            elif "<img" in stored:
                cell = code(f"print({shows})", html(stored))
            else:
                cell = code(f"print({shows})", printed(stored + "\n"))
            cell.execution_count = count + 1
            made.append(cell)
        nbformat.write(v4.new_notebook(cells=made), folder / f"{name}.ipynb")
    settings = re.search(r"^NBVAL := (.*)$", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.M)
    assert settings
    options = settings[1].replace("tests/sanitize.cfg", str(SANITIZE)).split()
    options += ["-n", "2", "--dist", "loadfile", "-rA", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "--rootdir=.", "."]
    variables = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=variables
    ).stdout


def html(text: str) -> NotebookNode:
    kinds = {"text/html": text, "text/plain": "<IPython.core.display.HTML object>"}
    return v4.new_output("display_data", kinds)


def outcomes(report: str, notebook: str) -> list[str]:
    return re.findall(rf"^(PASSED|FAILED|ERROR) {notebook}\.ipynb::", report, re.MULTILINE)


def test_canary_intact_outputs_pass(canaries: str):
    assert outcomes(canaries, "intact") == ["PASSED"] * 4


@pytest.mark.skipif(os.name != "posix", reason="only ports everywhere else")
def test_kernels_need_no_port_that_another_can_take(canaries: str, tmp_path: Path):
    nbformat.write(v4.new_notebook(cells=[code(TALKS)]), tmp_path / "talks.ipynb")
    refresh([tmp_path / "talks.ipynb"])
    (output,) = nbformat.read(tmp_path / "talks.ipynb", 4).cells[0].outputs
    assert output.data["text/plain"] == "'ipc'"
    assert "PASSED intact.ipynb::Cell 3" in canaries, "nor do those of nbval"


def test_a_path_too_long_for_a_socket_leaves_the_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deep = tmp_path / ("d" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert talk_through_files(KernelManager()).transport == "tcp"
    assert not list(deep.iterdir())


def test_canary_what_agrees_passes(canaries: str):
    assert outcomes(canaries, "agree") == ["PASSED"] * len(AGREE), canaries


def test_canary_what_differs_fails(canaries: str):
    assert outcomes(canaries, "differ") == ["FAILED"] * len(DIFFER), canaries
    assert "picture 1 of 1" in canaries, "a picture's difference is said in words"


def test_canary_a_corrupted_output_fails(canaries: str):
    assert sorted(outcomes(canaries, "corrupted")) == ["FAILED", "PASSED"]
    assert "FAILED corrupted.ipynb::Cell 1" in canaries
    assert "Cell outputs differ" in canaries


@pytest.mark.skipif(not find_lessons(), reason="there is no lesson yet")
def test_canary_a_corrupted_lesson_fails(canaries: str):
    assert outcomes(canaries, "lesson").count("FAILED") == 1
