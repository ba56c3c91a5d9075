"""The commands: lessons run without a browser, the make targets, the benchmarks, and the server of make lab."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from nbformat import NotebookNode, v4
from PIL import Image

from lessons_lib import runner
from lessons_lib.comparison import outputs
from lessons_lib.course import REPOSITORY
from tests import bench, jupyter_server
from tests.bench import __main__ as bench_command

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="GNU make is not installed")
needs_sh = pytest.mark.skipif(os.name == "nt", reason="stands in for Python with a shell script")

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
PICTURE = f"""from IPython.display import HTML
HTML('<img alt="A &quot;red&quot; dot." src="data:image/png;base64,{DOT}">')"""
HUNGRY_CHILD = """import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; x = b'x' * 300_000_000; time.sleep(3)"])"""
FORKED_CHILD = """import multiprocessing, time
x = b'x' * 300_000_000
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(3,))
child.start()
child.join()"""


def write(path: Path, *cells: str | NotebookNode) -> Path:
    made = [v4.new_code_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    nbformat.write(v4.new_notebook(cells=made), path)
    return path


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


# --- the runner ---------------------------------------------------------------------------------------------


def test_lessons_are_found_in_order_and_by_number(tmp_path: Path):
    for name in ("02_b.ipynb", "01_a.ipynb", "notes.ipynb", "1_c.ipynb"):
        write(tmp_path / name)
    assert [path.name for path in runner.find_lessons(folder=tmp_path)] == ["01_a.ipynb", "02_b.ipynb"]
    assert [path.name for path in runner.find_lessons("2", tmp_path)] == ["02_b.ipynb"]
    with pytest.raises(ValueError, match=r"no lesson '03': choose one of 01, 02"):
        runner.find_lessons("03", tmp_path)


def test_only_quick_limits_the_threads():
    assert runner.environment("quick")["OMP_NUM_THREADS"] == "2"
    assert runner.environment("quick")["LESSONS_PROFILE"] == "quick"
    assert "OMP_NUM_THREADS" not in runner.environment("full")
    assert runner.environment("full")["LESSONS_PROFILE"] == "full"


class Course:
    """One course of six lessons, run once for all tests below."""

    def __init__(self, folder: Path) -> None:
        self.build = folder / "build"
        self.lessons = [
            write(
                folder / "01_good.ipynb",
                v4.new_markdown_cell("[next](02_failing.ipynb#top), [paper](https://example.org/02_x.ipynb)"),
                "import os; print(os.environ['LESSONS_PROFILE'], os.environ['PYTHONHASHSEED'])",
                PICTURE,
                "from ipywidgets import IntSlider; IntSlider()",
                v4.new_code_cell("6 * 7", metadata={"tags": ["solution"]}),
            ),
            write(
                folder / "02_failing.ipynb",
                "print('before')",
                "",
                "\n# divide\n1 / 0",
                v4.new_code_cell("'after'"),
            ),
            write(folder / "03_dying.ipynb", "import os\nos.kill(os.getpid(), 9)"),
            write(folder / "04_slow.ipynb", "import time\ntime.sleep(60)"),
            write(folder / "05_hungry.ipynb", HUNGRY_CHILD),
            write(folder / "06_forking.ipynb", FORKED_CHILD),
        ]
        stale = read(self.lessons[1])
        stale.cells[3].outputs = [v4.new_output("stream", text="an output of last year")]
        nbformat.write(stale, self.lessons[1])
        self.runs = runner.course(self.lessons, "quick", self.build)

    def page(self, lesson: int) -> str:
        path = self.build / "course" / f"{self.lessons[lesson - 1].stem}.html"
        return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Course]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "QUICK_CELL_SECONDS", 8)
        yield Course(tmp_path_factory.mktemp("lessons"))


def test_a_failing_lesson_names_its_cell_and_stops_no_other(course: Course):
    good, failing, dying, slow, *_ = (run.failure for run in course.runs)
    assert good is None
    assert failing == "cell [2]: # divide\n  ZeroDivisionError: division by zero"
    assert dying == "cell [1]: import os\n  the kernel died (was there enough memory?)"
    assert slow == "cell [1]: import time\n  the cell took longer than 8 s"
    assert course.runs[4].failure is course.runs[5].failure is None


def test_a_page_has_what_ran(course: Course):
    assert "quick 0" in course.page(1)
    assert "before" in course.page(2)
    assert "ZeroDivisionError" in course.page(2)
    assert "an output of last year" not in course.page(2)


def test_a_page_has_alt_text_folded_solutions_and_links_to_pages(course: Course):
    page = course.page(1)
    assert re.search(r"""<img alt=(?:"A &(?:quot|#34);red&(?:quot|#34); dot\."|'A "red" dot\.')""", page)
    solution = page[page.index("<details") : page.index("</details>")]
    assert "<summary>Solution</summary>" in solution
    assert "42" in solution
    assert 'href="02_failing.html#top"' in page
    assert 'href="https://example.org/02_x.ipynb"' in page


def test_a_page_needs_no_widgets_and_no_server(course: Course):
    page = course.page(1)
    assert "widget-view" not in page
    assert "IntSlider(value" not in page
    assert "require.js" not in page


def test_timings_are_kept_for_lessons_that_ran_through(course: Course):
    timings = json.loads((course.build / "course" / "timings.json").read_text())
    assert [set(entry) for entry in timings] == [{"lesson", "profile", "seconds", "peak_rss_mb"}] * 3
    assert [entry["lesson"] for entry in timings] == ["01", "05", "06"]
    assert {entry["profile"] for entry in timings} == {"quick"}
    assert all(entry["seconds"] > 0 for entry in timings)


def test_memory_counts_the_kernel_and_its_children(course: Course):
    good, hungry, forking = (course.runs[lesson - 1].peak_rss_mb for lesson in (1, 5, 6))
    assert good > 30  # a bare interpreter with IPython
    assert hungry > 300  # the child's 300 MB and the kernel
    assert 300 < forking < 600  # 300 MB that the kernel and the child share


def test_entries_of_lessons_not_run_stay(tmp_path: Path):
    file = tmp_path / "new" / "timings.json"
    runner.merge_json(file, [{"lesson": "02", "s": 1}, {"lesson": "01", "s": 1}], key=("lesson",))
    runner.merge_json(file, [{"lesson": "02", "s": 5}], key=("lesson",))
    assert json.loads(file.read_text()) == [{"lesson": "01", "s": 1}, {"lesson": "02", "s": 5}]
    assert [path.name for path in file.parent.iterdir()] == ["timings.json"]


def test_an_interrupt_stops_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "01_long.ipynb", "import time\ntime.sleep(60)")
    kernels: list[psutil.Process] = []

    def interrupted(*_: object, **__: object) -> None:
        time.sleep(0.1)
        kernels.extend(
            child for child in psutil.Process().children() if "ipykernel" in " ".join(child.cmdline())
        )
        if kernels:
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.execute(path, "quick")
    assert kernels
    assert not any(kernel.is_running() and kernel.status() != psutil.STATUS_ZOMBIE for kernel in kernels)


def test_a_parameter_is_given_another_value(tmp_path: Path):
    setting = v4.new_code_cell('PROFILE = None\nNETWORK = "a"', metadata={"tags": ["parameters"]})
    path = write(tmp_path / "01_a.ipynb", setting, "print(NETWORK)")
    notebook, run = runner.execute(path, "quick", {"NETWORK": "b'c"})
    assert run.failure is None
    assert notebook.cells[1].outputs[0].text == "b'c\n"
    assert notebook.cells[0].source.endswith('NETWORK = "b\'c"'), "the page says what was run"
    assert read(path).cells[0].source == 'PROFILE = None\nNETWORK = "a"'
    with pytest.raises(ValueError, match="no parameter 'MODEL'; it has PROFILE, NETWORK"):
        runner.execute(path, "quick", {"MODEL": "b"})
    with pytest.raises(ValueError, match="it has none"):
        runner.execute(write(tmp_path / "02_a.ipynb", "1"), "quick", {"MODEL": "b"})


def test_refresh_stores_outputs_without_anything_that_changes_by_itself(tmp_path: Path):
    path = write(
        tmp_path / "01_a.ipynb",
        v4.new_code_cell(
            "print(1)\nprint(2)", metadata={"tags": ["parameters"], "scrolled": True, "execution": {}}
        ),
        v4.new_code_cell("", execution_count=9),
        v4.new_code_cell("3", execution_count=9, metadata={"jupyter": {"source_hidden": True}}),
    )
    (run,) = runner.refresh([path])
    first = path.read_bytes()
    assert run.failure is None
    notebook = read(path)
    assert [cell.execution_count for cell in notebook.cells] == [1, None, 2]
    assert [cell.metadata for cell in notebook.cells] == [
        {"tags": ["parameters"]},
        {},
        {"jupyter": {"source_hidden": True}},
    ]
    assert [output.text for output in notebook.cells[0].outputs] == ["1\n2\n"]
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    runner.refresh([path])
    assert path.read_bytes() == first


def test_refresh_keeps_what_agrees_with_what_is_stored(tmp_path: Path):
    path = write(
        tmp_path / "01_a.ipynb",
        "import random, time\nprint(f'{0.7 + random.random() / 100:.6f} ± 0.1 after {time.time_ns() % 99 + 1} s')",
        v4.new_code_cell("print(time.time_ns(), 'nanoseconds')", metadata={"tags": ["nbval-ignore-output"]}),
        "print('end')",
    )
    runner.refresh([path])
    first = path.read_bytes()
    runner.refresh([path])
    assert path.read_bytes() == first
    notebook = read(path)
    notebook.cells[2].source = "print('The end')"
    nbformat.write(notebook, path)
    runner.refresh([path])
    again = read(path)
    assert [old.outputs == new.outputs for old, new in zip(notebook.cells, again.cells, strict=True)] == [
        True,
        False,  # what it depends on may have changed
        False,
    ]
    assert again.cells[2].outputs[0].text == "The end\n"


def test_refresh_packs_pictures_and_keeps_packed_ones(tmp_path: Path):
    # a disc's edge has many shades
    draw = """import base64, io
from IPython.display import HTML
from PIL import Image, ImageDraw
large, buffer = Image.new("RGB", (800, 600), "white"), io.BytesIO()
ImageDraw.Draw(large).ellipse((100, 100, {right}, 500), fill="#0072B2")
large.resize((400, 300)).save(buffer, "PNG")
HTML(f'<img alt="A blue disc on white." src="data:image/png;base64,{{base64.b64encode(buffer.getvalue()).decode()}}">')
"""
    path = write(
        tmp_path / "01_a.ipynb", v4.new_code_cell(draw.format(right=500), metadata={"tags": ["cover"]})
    )

    def stored() -> bytes:
        ((_, file),) = outputs.embedded(read(path).cells[0].outputs)
        return file

    runner.refresh([path])
    first, cover = path.read_bytes(), tmp_path / "images" / "01.png"
    with Image.open(io.BytesIO(stored())) as picture:
        assert picture.mode == "P", "a palette"
    assert cover.read_bytes() == stored()
    runner.refresh([path])
    assert path.read_bytes() == first
    notebook = read(path)
    notebook.cells[0].source = draw.format(right=700)
    nbformat.write(notebook, path)
    runner.refresh([path])
    assert path.read_bytes() != first
    assert cover.read_bytes() == stored()


def test_refresh_keeps_the_message_of_an_expected_error_and_the_cover(tmp_path: Path):
    path = write(
        tmp_path / "01_a.ipynb",
        v4.new_code_cell("raise ValueError('too large')", metadata={"tags": ["raises-exception"]}),
        v4.new_code_cell(PICTURE, metadata={"tags": ["cover"]}),
        v4.new_markdown_cell("Words."),
    )
    (run,) = runner.refresh([path])
    assert run.failure is None
    (error,) = read(path).cells[0].outputs
    (line,) = error.traceback
    assert "too large" in line
    assert "Traceback" not in line
    assert base64.b64encode((tmp_path / "images" / "01.png").read_bytes()).decode() == DOT


def test_refresh_leaves_a_failing_lesson_as_it_was(tmp_path: Path):
    path = write(tmp_path / "01_a.ipynb", "print(1)", "1 / 0")
    before = path.read_bytes()
    (run,) = runner.refresh([path])
    assert run.failure
    assert path.read_bytes() == before


@pytest.fixture
def two_lessons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command line on two lessons, of which the second fails; nothing is executed."""
    for number in ("01", "02"):
        write(tmp_path / f"{number}_x.ipynb", "1")

    def execute(path: Path, profile: str, values: dict[str, str] | None) -> tuple[NotebookNode, runner.Run]:
        failure = "cell [1]: 1\n  Error: no" if path.name.startswith("02") else None
        return read(path), runner.Run(path.name[:2], profile, 1.04, 50.4, failure)

    monkeypatch.setattr(runner, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(runner, "BUILD", tmp_path / "build")
    monkeypatch.setattr(runner, "execute", execute)
    return tmp_path


def test_the_command_prints_a_line_for_each_lesson(two_lessons: Path, capsys: pytest.CaptureFixture[str]):
    assert runner.main(["course", "--profile", "full"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "01 x … 1.0 s, 50 MB",
        "02 x … FAILED after 1.0 s, 50 MB in cell [1]: 1",
        "  Error: no",
        "1 ran, 1 failed 02",
    ]
    assert (two_lessons / "build" / "course" / "02_x.html").exists()


def test_the_command_runs_one_lesson(two_lessons: Path, capsys: pytest.CaptureFixture[str]):
    assert runner.main(["course", "--lesson", "01"]) == 0
    assert runner.main(["refresh", "--lesson", "02"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 ran, 1 failed 02"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["course", "--lesson", "7"], "no lesson '7': choose one of 01, 02"),
        (["course", "--profile", "fast"], "LESSONS_PROFILE 'fast': choose from 'quick', 'full'"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: list[str], message: str, two_lessons: Path, capsys: pytest.CaptureFixture[str]
):
    assert runner.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_the_command_passes_parameters_on(
    two_lessons: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    seen = []

    def execute(path: Path, profile: str, values: dict[str, str]) -> tuple[NotebookNode, runner.Run]:
        seen.append(values)
        return read(path), runner.Run("01", profile, 1, 1)

    monkeypatch.setattr(runner, "execute", execute)
    assert runner.main(["course", "--lesson", "01", "--set", "A=1=2", "--set", "B="]) == 0
    assert seen == [{"A": "1=2", "B": ""}]
    with pytest.raises(SystemExit):
        runner.main(["course", "--set", "A"])
    assert "NAME=VALUE" in capsys.readouterr().err


def test_the_command_ends_quietly_on_ctrl_c(
    two_lessons: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute", interrupted)
    assert runner.main(["course"]) == 130
    assert "interrupted" in capsys.readouterr().err


# --- make ---------------------------------------------------------------------------------------------------


def make(*arguments: str, folder: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | environment
    for name in ("MAKEFLAGS", "MAKELEVEL", "ARGS", "PROFILE", "LESSON", "PYTHON", "TEACHER"):
        if name not in environment:
            variables.pop(name, None)  # what the make that runs these tests was given
    return subprocess.run(
        ["make", *arguments], capture_output=True, text=True, check=False, cwd=folder, env=variables
    )


def recipe(target: str, *arguments: str) -> str:
    """The last line a target would run once everything is installed."""
    result = make("-n", target, *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@needs_make
def test_make_alone_lists_every_command():
    listed = re.findall(r"^make ([\w-]+) +\S", make().stdout, re.MULTILINE)
    documented = re.findall(
        r"^\.PHONY: (.*)", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(listed) == sorted(documented[0].split())


@needs_make
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["lab", "ARGS=--port=9999"], "00_start_here.ipynb --port=9999"),
        (["lab", "TEACHER=1"], "00_start_here.ipynb"),
        (["test"], "--nbval-cell-timeout=300 notebooks"),
        (["machines", "LESSON=07", "RUNS=20"], "-m tests.machines --lesson 07 --runs 20"),
        (["test", "ARGS=-k hooks"], "--nbval-cell-timeout=300 -k hooks"),
        (["test-browser", "ARGS=-k 03"], "tests/browser/site.py -k 03"),
        (["course"], "-m lessons_lib.runner course"),
        (["course", "PROFILE=full", "LESSON=01"], "-m lessons_lib.runner course --profile full --lesson 01"),
        (["refresh", "LESSON=01"], "-m lessons_lib.runner refresh --lesson 01"),
        (["colab", "LESSON=00"], "-m tests.colab --lesson 00"),
        (["bench", "ARGS=cifar10-load"], "-m tests.bench cifar10-load"),
        (["lint"], "-m tests.notebook_rules"),
        (["floors", "ARGS=tests/test_cam.py"], "-m pytest -n 2 --dist loadfile tests/test_cam.py"),
    ],
)
def test_make_passes_its_settings_on(arguments: list[str], expected: str):
    assert recipe(*arguments).rstrip().endswith(expected)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path)
    return tmp_path


@needs_make
@pytest.mark.parametrize("course", ["/my course", '/the teacher\'s  "$HOME"', "~/my grading"])
def test_make_builds_the_problem_sets_in_a_folder_of_any_name(clone: Path, course: str):
    home, repository = clone / "home", clone / "a clone's place"
    for folder in (repository / ".venv" / "bin", repository / "notebooks" / "assignments" / "source", home):
        folder.mkdir(parents=True)
    shutil.copy(clone / "Makefile", repository)
    (repository / "notebooks" / "assignments" / "nbgrader_config.py").touch()
    stand_in = repository / ".venv" / "bin" / "nbgrader"
    stand_in.write_text('#!/bin/sh\necho "$PWD: $*" >> "$HOME/calls"\n')
    stand_in.chmod(0o755)
    given = course if course.startswith("~") else f"{clone}{course}"
    expected = Path(given.replace("~", str(home)))
    arguments = ("--old-file=.venv/.installed", "assignments", f"COURSE={given.replace('$', '$$')}")
    result = make(*arguments, folder=repository, HOME=str(home))
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in expected.iterdir()) == ["nbgrader_config.py", "source"]
    assert (home / "calls").read_text().splitlines() == [
        f"{expected}: generate_assignment * --force",
        f"{expected}: generate_solution * --force",
    ]


@needs_make
def test_make_says_which_python_it_needs(clone: Path):
    result = make("install", "PYTHON=python2.7 no-such-python", folder=clone)
    assert result.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed; tried: python2.7 no-such-python" in result.stderr
    assert not (clone / ".venv").exists()


# makes a .venv whose Python fails at the argument named by FAIL, as if the network broke there
STAND_IN = """#!/bin/sh
case "$*" in *"$FAIL"*) exit 1;; esac
case "$*" in "-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; esac
echo "python $*" >> calls
"""


@needs_make
@needs_sh
@pytest.mark.parametrize(
    ("fails", "arguments", "ran", "red"),
    [
        ("--cov=lessons_lib tests", [], ["--nbval-cell-timeout=300 notebooks"], True),
        ("--nbval ", [], ["--cov=lessons_lib tests"], True),
        ("nothing at all", [], ["--cov=lessons_lib tests", "--nbval-cell-timeout=300 notebooks"], False),
        ("nothing at all", ["ARGS=-k hooks"], ["--nbval-cell-timeout=300 -k hooks"], False),
    ],
)
def test_make_test_runs_tests_and_notebooks_whatever_fails(
    clone: Path, fails: str, arguments: list[str], ran: list[str], red: bool
):
    python = clone / "stand-in"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    settings = [f"PYTHON={python}", "OS="]
    assert make("install", *settings, folder=clone, FAIL="nothing at all").returncode == 0
    (clone / "calls").unlink()
    result = make("test", *settings, *arguments, folder=clone, FAIL=fails)
    assert (result.returncode != 0) == red
    calls = (clone / "calls").read_text().splitlines()
    assert len(calls) == len(ran)
    assert all(call.endswith(end) for call, end in zip(calls, ran, strict=True))


@needs_make
@needs_sh
def test_an_interrupted_set_up_goes_on_where_it_stopped(clone: Path):
    python = clone / "stand-in"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    stamp, calls = clone / ".venv" / ".installed", clone / "calls"
    settings = [f"PYTHON={python}", "OS="]

    assert make("install", *settings, folder=clone, FAIL="-r requirements.lock").returncode != 0
    assert not stamp.exists()
    calls.unlink()
    assert make("install", *settings, folder=clone, FAIL="nothing at all").returncode == 0
    assert stamp.exists()
    assert "-m venv" not in calls.read_text()  # what was there is kept
    uv = re.search(r"^uv==\S+", (clone / "requirements.lock").read_text(), re.MULTILINE)
    assert uv
    assert f"pip install --quiet --disable-pip-version-check {uv[0]}\n" in calls.read_text()

    calls.unlink()
    assert make("install", *settings, folder=clone, FAIL="nothing at all").returncode == 0
    assert not calls.exists()  # nothing is done twice
    os.utime(clone / "requirements.lock", (stamp.stat().st_mtime + 10,) * 2)
    assert make("install", *settings, folder=clone, FAIL="nothing at all").returncode == 0
    assert "-r requirements.lock" in calls.read_text()  # until the lock changes


@needs_sh
def test_the_bare_debian_says_what_it_needs():
    script = REPOSITORY / "tests" / "bare_debian.sh"
    refused = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.startswith("as root, with debootstrap: ")


# --- make lab -----------------------------------------------------------------------------------------------


class Server:
    """JupyterLab as make lab starts it: as root, without a browser or a home, on a port that is taken."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.taken = socket.create_server(("127.0.0.1", 0))
        self.port = self.taken.getsockname()[1]
        command = recipe("lab", f"ARGS=--no-browser --port={self.port}", *arguments)
        kept = {name: value for name, value in os.environ.items() if not re.match("JUPYTER|IPYTHON", name)}
        self.log = home / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                shell=True,
                cwd=REPOSITORY,
                env=kept | {"HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        where, self.token = jupyter_server.address(self.process, self.log).split("?token=")
        self.address, self.path = re.fullmatch(r"(http://[^/]+)(/.*)", where).groups()

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        request = urllib.request.Request(self.address + path, headers={"Authorization": f"token {token}"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, ""

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(timeout=30)
        self.taken.close()


LATE = """import socket, sys, time
print("http://127.0.0.1:" + sys.argv[1] + "/lab?token=0a", flush=True)
time.sleep(0.5)
print("now", flush=True)
socket.create_server(("127.0.0.1", int(sys.argv[1]))).accept()"""


def test_a_server_is_waited_for_until_it_answers(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path / "log"
    command = [sys.executable, "-c", LATE, str(port)]
    with log.open("w") as file, subprocess.Popen(command, stdout=file) as server:
        assert jupyter_server.address(server, log) == f"http://127.0.0.1:{port}/lab?token=0a"
        assert "now" in log.read_text()
    with pytest.raises(AssertionError, match="now"):  # it has ended
        jupyter_server.address(server, log)


@needs_make
@needs_sh
@pytest.mark.skipif(
    not (runner.NOTEBOOKS / "00_start_here.ipynb").exists(), reason="there is no lesson 00 yet"
)
def test_make_lab_serves_lesson_00_and_asks_for_the_token(tmp_path: Path):
    server = Server(tmp_path)
    try:
        assert server.path == "/lab/tree/notebooks/00_start_here.ipynb"
        assert not server.address.endswith(f":{server.port}")
        lesson = "/api/contents/notebooks/00_start_here.ipynb"
        assert server.get(lesson)[0] == 403
        assert server.get(lesson, "wrong")[0] == 403
        status, text = server.get(lesson, server.token)
        assert status == 200
        assert json.loads(text)["content"]["cells"]
        status, text = server.get(server.path, server.token)
        assert status == 200
        assert "JupyterLab" in text
        assert '"disabledExtensions": ["@jupyter/nbgrader"]' in text  # which is for teachers
        assert server.get("/formgrader", server.token)[0] == 404
    finally:
        server.stop()


# --- make bench ---------------------------------------------------------------------------------------------


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "BENCHMARKS", {})
    monkeypatch.setattr(bench_command, "OTHERS", 1000)  # whatever runs beside this test
    monkeypatch.setattr(bench_command, "processor", lambda: "AVX2")
    monkeypatch.setattr(bench_command, "BENCHMARKS", bench.BENCHMARKS)

    @bench.benchmark("quick-one")
    def quick_one() -> bench.Timing:
        return bench.Timing(0.5, "the long way", 10, note="scaled from a tenth")

    @bench.benchmark("even-one")
    def even_one() -> bench.Timing:
        return bench.Timing(2, "another", 2)

    @bench.benchmark("absent-one")
    def absent_one() -> bench.Timing:
        raise bench.Skipped("no data here")


@pytest.mark.usefixtures("benchmarks")
def test_benchmarks_are_run_tabled_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    output = tmp_path / "bench.json"
    timings = bench_command.run([], output)
    assert "absent-one skipped: no data here" in capsys.readouterr().out
    written = json.loads(output.read_text())
    assert [re.fullmatch(r"\d{4}-\d\d-\d\d", entry.pop("date")) is not None for entry in written] == [
        True
    ] * 2
    assert [re.sub(r"others took \d+\.\d\d cores$", "", entry.pop("note")) for entry in written] == [
        "",
        "scaled from a tenth; ",
    ]
    assert written == [
        {"name": "even-one", "processor": "AVX2", "ours_s": 2, "peer": "another", "peer_s": 2, "ratio": 1.0},
        {
            "name": "quick-one",
            "processor": "AVX2",
            "ours_s": 0.5,
            "peer": "the long way",
            "peer_s": 10,
            "ratio": 20.0,
        },
    ]
    text = bench_command.table(timings)
    assert re.search(r"quick-one +0\.50 s +10\.00 s +20\.0× +the long way\n +scaled from a tenth", text)


@pytest.mark.usefixtures("benchmarks")
def test_a_subset_of_the_benchmarks_is_merged_into_the_file(tmp_path: Path):
    output = tmp_path / "bench.json"
    bench_command.run(["even-one"], output)
    bench_command.run(["quick-one"], output)
    assert [entry["name"] for entry in json.loads(output.read_text())] == ["even-one", "quick-one"]


@pytest.mark.usefixtures("benchmarks")
def test_figures_of_another_class_of_processor_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    output = tmp_path / "bench.json"
    bench_command.run(["even-one"], output)
    monkeypatch.setattr(bench_command, "processor", lambda: "AMX")
    for _ in range(2):
        bench_command.run(["even-one"], output)
    assert [entry["processor"] for entry in json.loads(output.read_text())] == ["AMX", "AVX2"]


def test_work_of_ones_own_is_not_taken_for_that_of_others(monkeypatch: pytest.MonkeyPatch):
    def as_if_alone() -> SimpleNamespace:
        now = os.times()
        return SimpleNamespace(user=now.user + now.children_user, system=now.system + now.children_system)

    def working() -> bench.Timing:
        began = time.process_time()
        while time.process_time() < began + 0.3:
            pass
        subprocess.run([sys.executable, "-c", "sum(range(10_000_000))"], check=True)
        return bench.Timing(1, "another", 1)

    monkeypatch.setattr(bench_command.psutil, "cpu_times", as_if_alone)
    _, cores = bench_command.watched(working)
    assert cores < 0.02


def test_work_of_others_is_noticed():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        taken: list[float] = []

        def waiting() -> bench.Timing:
            before = sum(psutil.Process(other.pid).cpu_times()[:2])
            time.sleep(1)
            taken.append(sum(psutil.Process(other.pid).cpu_times()[:2]) - before)
            return bench.Timing(1, "another", 1)

        _, cores = bench_command.watched(waiting)
        other.kill()
    assert taken[0] > 0
    assert cores > 0.8 * taken[0]  # other tests may run beside this one and count as well


def test_a_benchmark_beside_other_work_is_repeated_and_then_refused(monkeypatch: pytest.MonkeyPatch):
    loads = iter([0.5, 0.04, 0.5, 0.7])
    monkeypatch.setattr(bench_command, "watched", lambda measure: (measure(), next(loads)))
    timing = bench_command.undisturbed(lambda: bench.Timing(1, "another", 3))
    assert timing.note == "others took 0.04 cores"
    with pytest.raises(bench.Skipped, match=r"other work took 0\.7 cores"):
        bench_command.undisturbed(lambda: bench.Timing(1, "another", 3))


def test_a_benchmark_with_programs_of_its_own_waits_for_quiet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_command, "QUIET_SECONDS", 0)
    loads = iter([0.04, 0.7])
    monkeypatch.setattr(bench_command, "watched", lambda measure: (measure(), next(loads)))
    timing = bench_command.after_quiet(lambda: bench.Timing(1, "another", 3))
    assert timing.note == "others took 0.04 cores before"
    with pytest.raises(bench.Skipped, match=r"other work takes 0\.7 cores"):
        bench_command.after_quiet(lambda: pytest.fail("it was not quiet"))


def test_the_page_of_measurements_shows_what_the_benchmarks_stored(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(bench_command.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    bench_command.write_page(path=page)
    assert page.read_text(encoding="utf-8") == bench_command.PAGE.read_text(encoding="utf-8"), (
        "run make bench"
    )
    stored = json.loads(bench_command.RESULTS.read_text(encoding="utf-8"))
    lines = re.findall(r"^\| `([\w.-]+)` \|.*\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(lines) == sorted(row["name"] for row in stored)
    row = {"name": "one", "processor": "AVX2", "date": "2026-01-02", "peer": "a loop", "note": "a|b"}
    (tmp_path / "results.json").write_text(
        json.dumps([row | {"peer_s": 1234.0, "ours_s": 2.0, "ratio": 617}])
    )
    bench_command.write_page(tmp_path / "results.json", page)
    assert "| `one` | AVX2, 2026-01-02 | a loop: 1,234 s | 2 s | **617×** | a/b |" in page.read_text(
        encoding="utf-8"
    )


@pytest.mark.usefixtures("benchmarks")
def test_an_unknown_benchmark_is_an_error(tmp_path: Path):
    with pytest.raises(
        ValueError, match="no benchmark slow-one: choose from absent-one, even-one, quick-one"
    ):
        bench_command.run(["slow-one"], tmp_path / "bench.json")


def test_the_bench_command_finds_the_benchmarks(capsys: pytest.CaptureFixture[str]):
    assert bench_command.main(["no-such"]) == 2
    assert "cifar10-load" in capsys.readouterr().err
