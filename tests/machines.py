"""``make machines``: what the lessons print on other machines, found out on this one.

A lesson's sentences must hold whatever computes them. Another processor, another number of threads and another build
of a library change the last digits of a sum; a training amplifies them as it would any other disturbance. So a
machine is imitated in four ways, together or alone: libraries are held to older instruction sets, kernels get one
thread or two, and all weights that a network begins with, drawn or read from a file, are disturbed by about a
millionth. A fourth, another seed, asks for more: whether a sentence depends on the draw.

Machines are numbered, so that a run can be repeated and resumed; 0 is this one as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "build" / "machines.json"
MACHINE = "LESSONS_MACHINE"  # the environment variable by which tests and kernels know which one they are

RUNS = 5
COMMIT_RUNS = 20  # a commit is checked on one of so many
DISTURBANCE = 1e-6  # relative, standard deviation
SEED_EVERY = 5

# what oneDNN, ATen, MKL, OpenBLAS and NumPy may use; on a processor that has less, they use what it has
INSTRUCTIONS: dict[str, dict[str, str]] = {
    "all": {},
    "AVX-512": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_CBWR": "AVX512",
        "OPENBLAS_CORETYPE": "SkylakeX",
    },
    "AVX2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_CBWR": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    },
}


@dataclass(frozen=True)
class Machine:
    """One machine to imitate.

    Attributes:
        number: its number.
        instructions: a key of ``INSTRUCTIONS``.
        threads: of each kernel.
        disturbed: whether the weights that networks begin with are.
        seed: what lessons are set up with.
    """

    number: int
    instructions: str = "all"
    threads: int = 2
    disturbed: bool = False
    seed: int = 0

    def __str__(self) -> str:
        """In a few words."""
        words = [f"instructions {self.instructions}", f"{self.threads} thread{'s' * (self.threads > 1)}"]
        return ", ".join(words + ["disturbed"] * self.disturbed + [f"seed {self.seed}"] * bool(self.seed))

    @classmethod
    def numbered(cls, number: int) -> Machine:
        """The machine of this number: the first ones differ in one respect, the others in several."""
        alone = {
            0: cls(0),
            1: cls(1, instructions="AVX2"),
            2: cls(2, disturbed=True),
            3: cls(3, threads=1),
            4: cls(4, seed=1),
            5: cls(5, instructions="AVX-512"),
        }
        if number in alone:
            return alone[number]
        seed = number // SEED_EVERY + 1 if number % SEED_EVERY == SEED_EVERY - 1 else 0
        return cls(number, [*INSTRUCTIONS][number % 3], 1 + number % 2, disturbed=True, seed=seed)

    def environment(self) -> dict[str, str]:
        """Environment variables that make a kernel compute like it."""
        folder = REPOSITORY / "build" / "machines" / str(self.number)
        startup = folder / "profile_default" / "startup"
        startup.mkdir(parents=True, exist_ok=True)
        # IPython runs it before a notebook's first cell
        (startup / "00-machine.py").write_text(
            f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
            f"from tests import machines\nmachines.imitate({self.number})\nsys.path.pop(0)\ndel machines, sys\n"
        )
        threads = {"OMP_NUM_THREADS": str(self.threads), "IPYTHONDIR": str(folder)}
        return INSTRUCTIONS[self.instructions] | threads


def imitate(number: int) -> None:
    """Make this process, a kernel that has imported nothing yet, compute as machine ``number`` does."""
    machine = Machine.numbered(number)
    if machine.disturbed:
        _disturb_weights(number)
    if machine.seed:
        _replace_seed(machine.seed)


def _disturb_weights(seed: int) -> None:
    """From now on, what torch's initialisations draw and what is read from files of weights is disturbed."""
    import safetensors.torch
    import torch

    generator = torch.Generator().manual_seed(seed)  # of its own: a lesson's draws stay the same

    def disturbed(weights: Any) -> Any:
        if not isinstance(weights, torch.Tensor) or not weights.is_floating_point():
            return weights
        precise = torch.promote_types(weights.dtype, torch.float32)  # half precision would round it away
        noise = torch.randn(weights.shape, generator=generator, dtype=precise)
        return weights.to(precise) * (1 + DISTURBANCE * noise.to(weights.device))

    def drawn(initialise: Callable[..., Any]) -> Callable[..., Any]:
        def both(*args: Any, **kwargs: Any) -> Any:
            weights = initialise(*args, **kwargs)
            with torch.no_grad():
                return weights if weights.is_meta else weights.copy_(disturbed(weights))

        return both

    def read(load: Callable[..., Any]) -> Callable[..., Any]:
        def both(*args: Any, **kwargs: Any) -> Any:
            loaded = load(*args, **kwargs)
            if not isinstance(loaded, dict):
                return loaded
            return type(loaded)((name, disturbed(value)) for name, value in loaded.items())

        return both

    for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_"):
        setattr(torch.nn.init, name, drawn(getattr(torch.nn.init, name)))
    safetensors.torch.load_file = read(safetensors.torch.load_file)
    torch.load = read(torch.load)


def _replace_seed(seed: int) -> None:
    """From now on lessons are set up with another seed, and print the one they ask for."""
    import contextlib
    import io

    from lessons_lib import course

    original = course.setup

    def setup(profile: str | None = None, asked: int = 0) -> course.Course:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            made = original(profile, seed + asked)
        print(printed.getvalue().replace(f"Seed {seed + asked}.", f"Seed {asked}."), end="")
        return made

    course.setup = setup


# ---------------------------------------------------------------- running lessons


def run(lesson: Path, number: int) -> dict[str, str]:
    """Execute a lesson on a machine and compare it with what is stored, as ``make test`` does.

    Returns:
        What differs, by cell: nbval's report. A lesson that could not be run has a cell "all".
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *_nbval(), str(lesson)]
        done = subprocess.run(
            [*command, f"--junitxml={report}"],
            cwd=REPOSITORY,
            env=os.environ | {MACHINE: str(number)},
            capture_output=True,
            text=True,
            check=False,
        )
        cases = list(ET.parse(report).iter("testcase")) if report.exists() else []
    if not cases or done.returncode not in {0, 1}:
        return {"all": (done.stdout + done.stderr)[-2000:]}
    failures = {
        case: failed for case in cases for failed in case.iter() if failed.tag in {"failure", "error"}
    }
    return {case.get("name", "").split("::")[-1]: failed.text or "" for case, failed in failures.items()}


def _nbval() -> list[str]:
    """The options that ``make test`` gives pytest for notebooks."""
    lines = (REPOSITORY / "Makefile").read_text(encoding="utf-8").splitlines()
    (options,) = (line.split(":=")[1].split() for line in lines if line.startswith("NBVAL"))
    return options


def digest(lesson: Path) -> str:
    """Changes with whatever a lesson's outputs depend on: its file, the library, the way of comparing."""
    files = [lesson, *sorted((REPOSITORY / "lessons_lib").rglob("*.py")), REPOSITORY / "requirements.lock"]
    files += [REPOSITORY / "tests" / "sanitize.cfg", REPOSITORY / "Makefile", Path(__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


def run_missing(
    lessons: Sequence[Path], numbers: Sequence[int], results: Path = RESULTS
) -> list[dict[str, Any]]:
    """Run each lesson on each machine, two at a time, but for what ``results`` already has; keep each when done."""
    known = _read(results)
    wanted = [(lesson, number, _key(lesson, number)) for number in numbers for lesson in lessons]
    missing = [(lesson, number, key) for lesson, number, key in wanted if key not in known]
    print(f"{len(wanted) - len(missing)} runs are known, {len(missing)} are to do", flush=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        running = {pool.submit(run, lesson, number): (number, key) for lesson, number, key in missing}
        try:
            for future in as_completed(running):
                number, key = running[future]
                known[key] = future.result()
                _write(results, known)
                cells = ", ".join(known[key]) or "nothing"
                print(
                    f"{key.split()[0]} on {number} ({Machine.numbered(number)}): {cells} differs", flush=True
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [
        {"lesson": lesson.name[:2], "machine": number, "cells": known[key]} for lesson, number, key in wanted
    ]


def _key(lesson: Path, number: int) -> str:
    return f"{lesson.name[:2]} {number} {digest(lesson)}"


def _read(results: Path) -> dict[str, dict[str, str]]:
    return json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}


def _write(results: Path, known: Mapping[str, Mapping[str, str]]) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    part = results.with_suffix(".part")
    part.write_text(json.dumps(known, indent=1), encoding="utf-8")
    part.replace(results)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Cells × machines: a line for each cell that differs anywhere, × where it does; what differs is below it."""
    numbers = sorted({row["machine"] for row in rows})
    ran = {(row["lesson"], row["machine"]) for row in rows}
    cells = sorted({(row["lesson"], cell) for row in rows for cell in row["cells"]}, key=_cell_order)
    texts = {
        (row["lesson"], row["machine"], cell): text for row in rows for cell, text in row["cells"].items()
    }
    lines = [f"{number:4}  {Machine.numbered(number)}" for number in numbers]
    lines += ["", f"{'cell that differs':20}" + "".join(f"{number:>4}" for number in numbers)]
    for lesson, cell in cells:
        marks = ["×" if (lesson, n, cell) in texts else "·" if (lesson, n) in ran else " " for n in numbers]
        lines.append(f"{lesson + ' ' + cell:20}" + "".join(f"{mark:>4}" for mark in marks))
    for lesson, cell in cells:
        first = min(n for n in numbers if (lesson, n, cell) in texts)
        lines += ["", f"{lesson} {cell}, on {first}:", _shortened(texts[lesson, first, cell])]
    by_seed = sum(bool(Machine.numbered(n).seed) for _, n, _ in texts)
    lines += [
        "",
        f"{len(rows)} runs; cells that differ by processor, threads or disturbance: {len(texts) - by_seed}; "
        f"by seed: {by_seed}",
    ]
    return "\n".join(lines)


def _cell_order(cell: tuple[str, str]) -> tuple[str, int]:
    lesson, name = cell
    digits = "".join(c for c in name if c.isdigit())
    return lesson, int(digits or -1)


def _shortened(text: str, lines: int = 40) -> str:
    kept = [line for line in text.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in kept[:lines] + ["…"] * (len(kept) > lines))


def of_commit(commit: str = "HEAD") -> int:
    """The number of the machine a commit is checked on: one of the first 20 that has no seed of its own."""
    name = subprocess.run(
        ["git", "rev-parse", commit], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    machines = [n for n in range(COMMIT_RUNS) if not Machine.numbered(n).seed]
    return machines[int(name, 16) % len(machines)]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 1 if a lesson differs on a machine that has no seed of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines", description=__doc__.splitlines()[0])
    parser.add_argument("--lesson", action="append", help="only this lesson, by its number; may be repeated")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"machines 0 to RUNS − 1 (default: {RUNS})")
    parser.add_argument("--machine", type=int, action="append", help="only the machine of this number")
    parser.add_argument("--which", action="store_true", help="print the machine that HEAD is checked on")
    options = parser.parse_args(arguments)
    if options.which:
        print(of_commit())
        return 0

    from lessons_lib.runner import find_lessons  # it imports torch

    try:
        lessons = [path for number in options.lesson or [None] for path in find_lessons(number)]
        rows = run_missing(lessons, options.machine or range(options.runs))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on", file=sys.stderr)
        return 130
    print(table(rows))
    return int(any(row["cells"] and not Machine.numbered(row["machine"]).seed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
