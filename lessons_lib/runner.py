"""Run lessons without a browser: ``make course`` (HTML pages and timings) and ``make refresh`` (stored outputs)."""

from __future__ import annotations

import argparse
import atexit
import copy
import json
import operator
import os
import re
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import psutil
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from lessons_lib.comparison import outputs, pictures
from lessons_lib.course import INSTALLED, REPOSITORY, Profile, resolve_profile

NOTEBOOKS = REPOSITORY / "notebooks"
BUILD = REPOSITORY / "build"
SANITIZE = REPOSITORY / "tests" / "sanitize.cfg"  # what may differ in outputs wherever it stands

WIDGET = "application/vnd.jupyter.widget-view+json"

QUICK_CELL_SECONDS = 300
MEMORY_SAMPLE_SECONDS = 0.1
LONGEST_TEMPORARY = 60  # characters; what is put under it takes some thirty
SPINS = "1000"  # turns that a thread of GNU's OpenMP waits before it sleeps

# nbconvert's page with solutions folded away, and no script that needs a network
PAGE = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js_requirejs -%}{%- endblock -%}
{%- block codecell -%}
{%- if 'solution' in cell.metadata.get('tags', []) -%}
<details class="solution"><summary>Solution</summary>{{ super() }}</details>
{%- else -%}
{{ super() }}
{%- endif -%}
{%- endblock codecell -%}
"""


@dataclass(frozen=True)
class Run:
    """One execution of one lesson.

    Attributes:
        lesson: its number, two digits.
        profile: *quick* or *full*.
        seconds: wall-clock time from starting the kernel to stopping it.
        peak_rss_mb: the most resident memory the kernel and its children held together, in MB (10⁶ bytes); what
            children share with the kernel they were forked from is counted once.
        failure: None, or which cell failed and why, in two lines.
    """

    lesson: str
    profile: Profile
    seconds: float
    peak_rss_mb: float
    failure: str | None = None


def environment(profile: Profile) -> dict[str, str]:
    """The environment variables lessons run under, so that their outputs repeat from machine to machine.

    *quick* fixes the number of threads; *full* may use every core. Threads that wait for each other spin, but only for
    a moment: by default so long that of two kernels on two cores each holds up the other (``make bench
    ARGS=short-spin-vs-long``). A reader's own IPython and Jupyter settings are kept out: in their place is an empty
    folder under ``build``, made here.
    """
    own_settings = BUILD / "jupyter"
    own_settings.mkdir(parents=True, exist_ok=True)
    settings = {
        "LESSONS_PROFILE": profile,
        "PYTHONHASHSEED": "0",
        "TQDM_DISABLE": "1",
        "GOMP_SPINCOUNT": SPINS,
        "IPYTHONDIR": str(own_settings),
        "JUPYTER_CONFIG_DIR": str(own_settings),
    }
    return settings | {"OMP_NUM_THREADS": "2"} if profile == "quick" else settings


def find_lessons(number: str | None = None, folder: Path = NOTEBOOKS) -> list[Path]:
    """The lesson notebooks ``NN_slug.ipynb`` of a folder in order, or only the one with this number.

    Raises:
        ValueError: if there is no such lesson; the message lists those there are.
    """
    lessons = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    if number is None:
        return list(lessons.values())
    if number.zfill(2) not in lessons:
        raise ValueError(f"no lesson {number!r}: choose one of {', '.join(lessons) or '(none found)'}")
    return [lessons[number.zfill(2)]]


def execute(
    path: Path, profile: Profile, values: Mapping[str, str] | None = None
) -> tuple[NotebookNode, Run]:
    """Execute a lesson in a fresh kernel; after a failing cell the rest stays without outputs.

    Args:
        path: the lesson.
        profile: *quick* or *full*.
        values: other values for its parameters, see ``set_parameters``.

    Returns:
        The notebook with the new outputs, cleaned (``clean``), and the record of the run.

    Raises:
        ValueError: if the lesson has no such parameter.
        KeyboardInterrupt: passed on after the kernel has been stopped.
    """
    notebook = nbformat.read(path, as_version=4)
    set_parameters(notebook, values or {})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=QUICK_CELL_SECONDS if profile == "quick" else None,
        kernel_name="python3",
        extra_arguments=["--log-level=CRITICAL"],  # or each kernel warns that its local port is not encrypted
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
    )
    talk_through_files(client.create_kernel_manager())
    began = time.perf_counter()
    # The notebook runs in a thread, so that Ctrl-C reaches this one, which watches the memory meanwhile.
    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(partial(client.execute, env=os.environ | environment(profile)))
        peak = _watch(client, future)
    failure = _explain(client, future.exception())
    seconds = time.perf_counter() - began
    return clean(notebook), Run(path.name[:2], profile, round(seconds, 1), round(peak, 1), failure)


def talk_through_files(manager: KernelManager) -> KernelManager:
    """Let a manager and its kernel, not yet started, talk through files instead of ports, where that is possible.

    A port is chosen by the manager and used by the kernel half a second later. Where several kernels start at
    once, another may take it in between, and the kernel dies.
    """
    # the system takes a path of a hundred characters: a folder for temporary files may be too deep
    if os.name == "posix" and len(tempfile.gettempdir()) < LONGEST_TEMPORARY:
        folder = tempfile.mkdtemp(prefix="kernel-")
        weakref.finalize(manager, shutil.rmtree, folder, ignore_errors=True)
        manager.transport, manager.connection_file = "ipc", str(Path(folder, "kernel.json"))
    return manager


def set_parameters(notebook: NotebookNode, values: Mapping[str, str]) -> None:
    """Give parameters of a lesson other values, in place: lines at the end of the cell tagged ``parameters``.

    Raises:
        ValueError: if that cell does not set a parameter of that name; the message lists those it sets.
    """
    for name, value in values.items():
        cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
        known = [found for cell in cells for found in re.findall(r"(?m)^([A-Z_]+) =", cell.source)]
        if name not in known:
            raise ValueError(f"the lesson has no parameter {name!r}; it has {', '.join(known) or 'none'}")
        cells[0].source += f"\n{name} = {value!r}"


def _watch(client: NotebookClient, future: Future[Any]) -> float:
    """Wait for the notebook to end; return the peak memory of its kernel in MB."""
    peak = 0.0
    try:
        while not future.done():
            began = time.perf_counter()
            peak = max(peak, _resident_mb(_kernel_processes(client)))
            # looking takes milliseconds a process, which must not slow the lesson
            wait([future], timeout=max(MEMORY_SAMPLE_SECONDS, 50 * (time.perf_counter() - began)))
    except KeyboardInterrupt:
        while not future.done():  # the kernel may not have been there yet
            for process in _kernel_processes(client):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(MEMORY_SAMPLE_SECONDS)
        # nbclient forgets this for a kernel that dies while it starts, and fails over it when Python ends
        atexit.unregister(client._cleanup_kernel)
        raise
    return peak


def _kernel_processes(client: NotebookClient) -> list[psutil.Process]:
    pid = getattr(getattr(client.km, "provisioner", None), "pid", None)
    try:
        kernel = psutil.Process(pid) if pid else None
        return [kernel, *kernel.children(recursive=True)] if kernel else []
    except psutil.NoSuchProcess:
        return []


def _resident_mb(processes: Sequence[psutil.Process]) -> float:
    """Memory of a kernel, the first of ``processes``, and of what its children do not share."""
    total = 0
    for number, process in enumerate(processes):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().uss if number else process.memory_info().rss
    return total / 1e6


def _explain(client: NotebookClient, error: BaseException | None) -> str | None:
    """Which cell failed, its first line and the error's last line; an error that is not the lesson's is raised."""
    if error is None:
        return None
    if isinstance(error, CellExecutionError):
        what = f"{error.ename}: {error.evalue}".strip().splitlines()[-1]
    elif isinstance(error, CellTimeoutError):
        what = f"the cell took longer than {QUICK_CELL_SECONDS} s"
    elif isinstance(error, DeadKernelError):
        what = "the kernel died (was there enough memory?)"
    else:
        raise error
    number = client.code_cells_executed
    code = [cell for cell in client.nb.cells if cell.cell_type == "code" and cell.source.strip()]
    return f"cell [{number}]: {code[number - 1].source.strip().splitlines()[0]}\n  {what}"


def clean(notebook: NotebookNode) -> NotebookNode:
    """A copy with only what a reader needs: no times, no versions, no widget state, no stray metadata.

    Cells keep their tags and whether they are folded. A widget without its kernel cannot be drawn, so its
    output is left out; the static figure above it stays. Of an error that a lesson means to show, the message
    stays; the way to it names folders of one machine.
    """
    tidy = copy.deepcopy(notebook)
    tidy.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in tidy.cells:
        kept = {name: value for name, value in cell.metadata.items() if name in {"tags", "jupyter"}}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
            for output in cell.outputs:
                if output.output_type == "error" and "raises-exception" in kept.get("tags", []):
                    output.traceback = output.traceback[-1:]
    return tidy


def write_page(notebook: NotebookNode, page: Path, folder: Path = NOTEBOOKS) -> None:
    """Write an executed lesson as one HTML file; ``folder`` is where its relative pictures are."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(\]\(\d\d_\w+)\.ipynb", r"\1.html", cell.source)
    exporter = HTMLExporter(raw_template=PAGE, embed_images=True)
    html, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": page.stem, "path": str(folder)}})
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html, encoding="utf-8")


def merge_json(path: Path, entries: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> None:
    """Put ``entries`` into the JSON list at ``path``: one of the same ``key`` is replaced, the others stay."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    merged = {tuple(entry[name] for name in key): entry for entry in [*known, *entries]}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(".part")
    partial_file.write_text(
        json.dumps([merged[k] for k in sorted(merged)], indent=2) + "\n", encoding="utf-8"
    )
    partial_file.replace(path)


def course(
    lessons: Sequence[Path], profile: Profile, build: Path = BUILD, values: Mapping[str, str] | None = None
) -> list[Run]:
    """Execute lessons into ``build/course/NN_slug.html`` and ``timings.json``; a failing one stops no other."""
    runs = []
    for path in lessons:
        notebook, run = _announced(path, profile, values)
        write_page(notebook, build / "course" / f"{path.stem}.html", path.parent)
        runs.append(run)
        if run.failure is None:
            entry = {
                "lesson": run.lesson,
                "profile": run.profile,
                "seconds": run.seconds,
                "peak_rss_mb": run.peak_rss_mb,
            }
            merge_json(build / "course" / "timings.json", [entry], key=("lesson", "profile"))
    return runs


def refresh(lessons: Sequence[Path]) -> list[Run]:
    """Execute lessons in the *quick* profile and store the outputs in them; a failing one is left as it was.

    A stored output that the new one agrees with stays (``kept``), so that a difference shows what has changed;
    what is stored anew is packed as small as nobody sees. The picture of a cell tagged ``cover`` is also written to
    ``images/NN.png``, for the top of the lesson.
    """
    sanitize = outputs.sanitizer(SANITIZE.read_text(encoding="utf-8"))
    runs = []
    for path in lessons:
        before = clean(nbformat.read(path, as_version=4))
        notebook, run = _announced(path, "quick")
        if run.failure is None:
            cover = path.parent / "images" / f"{run.lesson}.png"
            stays = kept(before, notebook, sanitize)
            for old, cell, same in zip(before.cells, notebook.cells, stays, strict=True):
                if "cover" in cell.metadata.get("tags", []) and not (same and cover.exists()):
                    cover.parent.mkdir(exist_ok=True)
                    for _, file in outputs.embedded(cell.outputs):
                        cover.write_bytes(pictures.lightest(file, kinds=("png",))[1])
                if not same:
                    outputs.pack(cell.outputs)
                elif cell.cell_type == "code":
                    cell.outputs = old.outputs
            nbformat.write(notebook, path)
        runs.append(run)
    return runs


def kept(stored: NotebookNode, new: NotebookNode, sanitize: outputs.Sanitizer) -> list[bool]:
    """Which cells of a notebook keep the outputs that are stored, of two that differ in outputs only.

    Those whose new outputs agree with the stored ones. A cell that ignores its outputs may print and draw what it
    likes; it keeps the stored words, numbers and pictures as long as the words are the same and every other cell's
    outputs agree. Otherwise what it depends on may have changed, and it is stored anew if it does not agree itself.
    """
    pairs = [
        (old.get("outputs", []), cell.get("outputs", []), set(cell.metadata.get("tags", [])))
        for old, cell in zip(stored.cells, new.cells, strict=True)
    ]
    agree = [outputs.equal(old, now, sanitize, by=outputs.compared_by(tags)) for old, now, tags in pairs]
    ignored = ["nbval-ignore-output" in tags for _, _, tags in pairs]
    if not all(map(operator.or_, agree, ignored)):
        return agree
    return [
        same or (ignores and outputs.same_shape(old, now, sanitize))
        for same, ignores, (old, now, _) in zip(agree, ignored, pairs, strict=True)
    ]


def _announced(
    path: Path, profile: Profile, values: Mapping[str, str] | None = None
) -> tuple[NotebookNode, Run]:
    print(path.stem.replace("_", " ", 1), end=" … ", flush=True)
    notebook, run = execute(path, profile, values)
    cost = f"{run.seconds:.1f} s, {run.peak_rss_mb:.0f} MB"
    print(cost if run.failure is None else f"FAILED after {cost} in {run.failure}", flush=True)
    return notebook, run


def _assignment(text: str) -> tuple[str, str]:
    name, given, value = text.partition("=")
    if not given:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    return name, value


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line, ``python -m lessons_lib.runner``; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m lessons_lib.runner", description=__doc__)
    parser.add_argument("command", choices=["course", "refresh"])
    parser.add_argument("--profile", help="quick or full (course only; default: LESSONS_PROFILE, else quick)")
    parser.add_argument("--lesson", help="only this lesson, by its number")
    parser.add_argument(
        "--set",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="give a parameter of the lesson another value (course only), as in NETWORK=efficientnet_lite0",
    )
    options = parser.parse_args(arguments)
    if INSTALLED:
        print("the lessons are in a checkout: clone the repository, and run this there", file=sys.stderr)
        return 2
    try:
        lessons = find_lessons(options.lesson, NOTEBOOKS)
        if options.command == "refresh":
            runs = refresh(lessons)
        else:
            runs = course(lessons, resolve_profile(options.profile), BUILD, dict(options.set))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the kernel is stopped", file=sys.stderr)
        return 130
    failed = [run.lesson for run in runs if run.failure]
    print(f"{len(runs) - len(failed)} ran, {len(failed)} failed", *failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
