"""``make bench``: run the benchmarks, print a table and keep the figures in ``build/bench.json``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tests.bench
from lessons_lib.runner import BUILD, merge_json
from tests.bench import BENCHMARKS, Skipped, Timing


def run(names: Sequence[str], output: Path) -> dict[str, Timing]:
    """Run the benchmarks named (all if none are), merge the figures into ``output`` and return them.

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
            timings[name] = BENCHMARKS[name]()
        except Skipped as reason:
            print(f"{name} skipped: {reason}")
            continue
        merge_json(output, [entry(name, timings[name])], key=("name",))
    return timings


def entry(name: str, timing: Timing) -> dict[str, str | float]:
    """The timing as it stands in ``bench.json``."""
    figures: dict[str, str | float] = {
        "name": name,
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


def main(names: Sequence[str]) -> int:
    """The command line; returns the exit code."""
    for module in pkgutil.iter_modules(tests.bench.__path__):
        if module.name != "__main__":
            importlib.import_module(f"tests.bench.{module.name}")
    try:
        timings = run(names, BUILD / "bench.json")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if timings:
        print(table(timings))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
