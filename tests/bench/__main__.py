"""``make bench``: run the benchmarks, print a table and keep the figures in ``tests/bench/results.json``.

A ratio that was measured beside other work says nothing: the two sides are not slowed down alike. So each benchmark
is watched, run once more if other processes took too much, and refused if they did so again.
"""

from __future__ import annotations

import datetime
import importlib
import json
import pkgutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import psutil

import tests.bench
from lessons_lib.course import REPOSITORY
from lessons_lib.records import processor
from lessons_lib.runner import merge_json
from tests.bench import BENCHMARKS, WITH_PROGRAMS, Skipped, Timing

T = TypeVar("T")

RESULTS = Path(__file__).with_name("results.json")
PAGE = REPOSITORY / "data" / "records" / "README.md"
OTHERS = 0.1  # cores that other work may take: a twentieth of two
QUIET_SECONDS = 5.0


def run(names: Sequence[str], output: Path) -> dict[str, Timing]:
    """Run the benchmarks named (all if none are), merge the figures into ``output`` and return them.

    Figures of another class of processor stay beside those of this one.

    Raises:
        ValueError: if a name is unknown; the message lists those there are.
    """
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        raise ValueError(
            f"no benchmark {', '.join(sorted(unknown))}: choose from {', '.join(sorted(BENCHMARKS))}"
        )
    timings = {}
    for name in names or sorted(BENCHMARKS):
        print(f"{name} …", flush=True)
        try:
            timings[name] = (after_quiet if name in WITH_PROGRAMS else undisturbed)(BENCHMARKS[name])
        except Skipped as reason:
            print(f"{name} skipped: {reason}")
            continue
        merge_json(output, [entry(name, timings[name])], key=("name", "processor"))
    return timings


def undisturbed(measure: Callable[[], Timing]) -> Timing:
    """What a benchmark measures while the machine is its own; its note says how many cores others took.

    Raises:
        Skipped: if they took more than ``OTHERS``, twice.
    """
    for _ in range(2):
        timing, others = watched(measure)
        if others <= OTHERS:
            return replace(timing, note=f"{timing.note}; others took {others:.2f} cores".removeprefix("; "))
    raise Skipped(f"other work took {others:.1f} cores meanwhile: a ratio would mean nothing")


def after_quiet(measure: Callable[[], Timing]) -> Timing:
    """What a benchmark with programs of its own measures, if the machine is quiet before it begins.

    Raises:
        Skipped: if it is not.
    """
    _, others = watched(lambda: time.sleep(QUIET_SECONDS))
    if others > OTHERS:
        raise Skipped(f"other work takes {others:.1f} cores: a ratio would mean nothing")
    timing = measure()
    return replace(timing, note=f"{timing.note}; others took {others:.2f} cores before".removeprefix("; "))


def watched(measure: Callable[[], T]) -> tuple[T, float]:
    """What is measured, and how many cores other processes took meanwhile, on average."""
    began, others = time.perf_counter(), _others()
    timing = measure()
    return timing, max(0.0, (_others() - others) / (time.perf_counter() - began))


def _others() -> float:
    """Seconds of processor time since the machine started that neither were idle nor are this process's."""
    cores = psutil.cpu_times()
    own = psutil.Process().cpu_times()
    # a process's own time leaves out its children's until they have ended
    ours = own.user + own.system + getattr(own, "children_user", 0.0) + getattr(own, "children_system", 0.0)
    counted = sum(getattr(cores, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
    return counted - ours


def entry(name: str, timing: Timing) -> dict[str, str | float]:
    """The timing as it stands in ``results.json``."""
    figures: dict[str, str | float] = {
        "name": name,
        "processor": processor(),
        "date": datetime.date.today().isoformat(),
        "ours_s": round(timing.ours_s, 3),
        "peer": timing.peer,
        "peer_s": round(timing.peer_s, 3),
        "ratio": round(timing.ratio, 2),
    }
    return figures | {"note": timing.note} if timing.note else figures


def table(timings: Mapping[str, Timing]) -> str:
    """The timings as text, one line a benchmark, its note under it."""
    lines = [f"{'benchmark':<24}{'ours':>10}{'peer':>12}{'ratio':>10}  peer"]
    for name, timing in timings.items():
        figures = f"{timing.ours_s:>8.2f} s{timing.peer_s:>10.2f} s{timing.ratio:>9.1f}×"
        lines.append(f"{name:<24}{figures}  {timing.peer}")
        if timing.note:
            lines.append(f"  {timing.note}")
    return "\n".join(lines)


def page(rows: Sequence[Mapping[str, str | float]]) -> str:
    """All figures as a Markdown table, a line for each benchmark and class of processor."""
    lines = [
        "| benchmark | processor, date | peer | here | ratio | what was measured |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: (row["name"], row["processor"])):
        note = str(row.get("note", "")).replace("|", "/")
        lines.append(
            f"| `{row['name']}` | {row['processor']}, {row['date']} | {row['peer']}: {_figure(row['peer_s'])} s | "
            f"{_figure(row['ours_s'])} s | **{_figure(row['ratio'])}×** | {note} |"
        )
    return "\n".join(lines)


def _figure(value: str | float) -> str:
    """Three digits, and no fewer than the whole ones."""
    return f"{float(value):,.0f}" if float(value) >= 100 else f"{float(value):.3g}"


def write_page(results: Path = RESULTS, path: Path = PAGE) -> None:
    """Put ``page`` between the marks of the page of measurements."""
    text = path.read_text(encoding="utf-8")
    before, rest = text.split("results.json -->\n", 1)
    after = rest[rest.index("<!-- end -->") :]
    figures = page(json.loads(results.read_text(encoding="utf-8")))
    path.write_text(f"{before}results.json -->\n\n{figures}\n\n{after}", encoding="utf-8")


def main(names: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    for module in pkgutil.iter_modules(tests.bench.__path__):
        if module.name != "__main__":
            importlib.import_module(f"tests.bench.{module.name}")
    try:
        timings = run(names, RESULTS)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if timings:
        print(table(timings))
        write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
