"""Other machines are imitated: they compute a little differently, repeat, and what differs is found and kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from lessons_lib.course import REPOSITORY
from tests import machines
from tests.machines import DISTURBANCE, Machine

# prints weights drawn, weights read, and what the generator draws next
WEIGHTS = """
import json, sys
from pathlib import Path
from tests import machines
machines.imitate(int(sys.argv[1]))
import torch
from safetensors.torch import load_file, save_file
torch.manual_seed(0)
layer = torch.nn.Conv2d(3, 4, 3)
file = Path(sys.argv[2]) / "weights.safetensors"
save_file({"half": torch.linspace(1, 2, 50).half(), "count": torch.arange(3)}, file)
read = load_file(file)
torch.save(layer.state_dict(), file.with_suffix(".pt"))
torch.manual_seed(0)
other = torch.nn.Conv2d(3, 4, 3)
other.load_state_dict(torch.load(file.with_suffix(".pt"), weights_only=True))
drawn = torch.rand(3)
with torch.device("meta"):
    assert torch.nn.Linear(2, 2).weight.is_meta
print(json.dumps([t.flatten().tolist() for t in (layer.weight, read["half"], other.weight, read["count"], drawn)]))
"""


def weights(number: int, folder: Path) -> list[list[float]]:
    command = [sys.executable, "-c", WEIGHTS, str(number), str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_a_disturbed_machine_begins_with_slightly_other_weights_and_the_same_draws(tmp_path: Path):
    here, other, again = (weights(number, tmp_path) for number in (0, 2, 2))
    assert other == again
    for a, b in zip(here[:2], other[:2], strict=True):
        off = [abs(x / y - 1) for x, y in zip(a, b, strict=True)]
        assert 0.3 * DISTURBANCE < sum(off) / len(off) < 3 * DISTURBANCE  # half-precision files too
    assert here[2] == here[0]
    assert other[2] != other[0]  # read from a file: disturbed once more
    assert other[3:] == here[3:]


def test_the_first_machines_differ_from_this_one_in_one_respect():
    def different(machine: Machine) -> int:
        here, there = vars(Machine(machine.number)), vars(machine)
        return sum(here[name] != there[name] for name in here)

    assert different(Machine.numbered(0)) == 0
    assert [different(Machine.numbered(n)) for n in range(1, 6)] == [1] * 5
    several = [Machine.numbered(n) for n in range(6, 40)]
    assert {m.instructions for m in several} == set(machines.INSTRUCTIONS)
    assert {m.threads for m in several} == {1, 2}
    assert all(m.disturbed for m in several)
    assert [m.number for m in several if m.seed] == [9, 14, 19, 24, 29, 34, 39]
    assert len({m.seed for m in several if m.seed}) == 7


def test_a_commit_is_checked_on_a_machine_without_a_seed_of_its_own(capsys: pytest.CaptureFixture[str]):
    assert machines.main(["--which"]) == 0
    number = int(capsys.readouterr().out)
    assert number == machines.of_commit()
    assert 0 <= number < machines.COMMIT_RUNS
    assert not Machine.numbered(number).seed


def notebook(path: Path, *cells: tuple[str, str]) -> Path:
    made = [
        v4.new_code_cell(source, outputs=[v4.new_output("stream", text=text)], execution_count=number)
        for number, (source, text) in enumerate(cells, 1)
    ]
    nbformat.write(v4.new_notebook(cells=made), path)
    return path


@pytest.fixture
def folder():
    # below the repository's conftest, which gives kernels their environment
    folder = REPOSITORY / "build" / "machines" / f"test-{os.getpid()}"
    folder.mkdir(parents=True)
    yield folder
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_a_notebook_is_executed_as_that_machine_would(folder: Path, monkeypatch: pytest.MonkeyPatch):
    imitated = {name for settings in machines.INSTRUCTIONS.values() for name in settings} | {machines.MACHINE}
    for name in [name for name in os.environ if name.startswith("PYTEST_") or name in imitated]:
        monkeypatch.delenv(name)  # the tests may themselves run as another machine would
    path = notebook(
        folder / "07_made.ipynb",
        ("import os, torch\nprint(os.environ.get('ONEDNN_MAX_CPU_ISA'))", "None\n"),
        ("torch.manual_seed(0)\nweight = torch.nn.Linear(9, 9).weight\nprint('same')", "same\n"),
        (
            "torch.manual_seed(0)\ndrawn = torch.empty(9, 9).uniform_(-1 / 3, 1 / 3)\n"
            "print('undisturbed' if torch.equal(weight, drawn) else 'disturbed')",
            "undisturbed\n",
        ),
        (
            "from lessons_lib import course\nprint(course.setup().seed)",
            "Profile quick: nothing is downloaded. Seed 0.\n0\n",
        ),
    )
    assert machines.run(path, 0) == {}
    assert set(machines.run(path, 1)) == {"Cell 0"}
    assert set(machines.run(path, 2)) == {"Cell 2"}
    seed = machines.run(path, 4)
    assert set(seed) == {"Cell 3"}
    assert "Seed 1" not in seed["Cell 3"]


def test_a_lesson_that_cannot_run_is_no_silent_success(folder: Path):
    (folder / "07_made.ipynb").write_text("no notebook")
    assert set(machines.run(folder / "07_made.ipynb", 0)) == {"all"}


def test_an_interrupted_run_goes_on_and_a_changed_lesson_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lessons = [notebook(tmp_path / f"{n}_made.ipynb", ("1", "")) for n in ("05", "07")]
    ran: list[tuple[str, int]] = []

    def run(lesson: Path, number: int) -> dict[str, str]:
        if len(ran) == 3:
            raise KeyboardInterrupt
        ran.append((lesson.name[:2], number))
        return {"Cell 3": "a\nb"} if number == 1 else {}

    monkeypatch.setattr(machines, "run", run)
    results = tmp_path / "machines.json"
    with pytest.raises(KeyboardInterrupt):
        machines.run_missing(lessons, range(3), results)
    kept = len(json.loads(results.read_text()))
    assert 1 <= kept <= 3
    ran.clear()
    monkeypatch.setattr(machines, "run", lambda lesson, number: ran.append((lesson.name[:2], number)) or {})
    rows = machines.run_missing(lessons, range(3), results)
    assert len(ran) == 6 - kept
    assert len(rows) == 6
    ran.clear()
    notebook(lessons[0], ("2", ""))
    machines.run_missing(lessons, range(3), results)
    assert sorted(ran) == [("05", 0), ("05", 1), ("05", 2)]


def test_the_table_shows_which_cells_differ_where_and_how():
    rows = [
        {"lesson": "07", "machine": 0, "cells": {}},
        {"lesson": "07", "machine": 1, "cells": {"Cell 12": "one\n\ntwo", "Cell 3": "three"}},
        {"lesson": "07", "machine": 4, "cells": {"Cell 3": "four"}},
        {"lesson": "05", "machine": 4, "cells": {}},
    ]
    lines = machines.table(rows).splitlines()
    assert "   1  instructions AVX2, 2 threads" in lines
    assert "cell that differs      0   1   4" in lines
    assert "07 Cell 3              ·   ×   ×" in lines
    assert "07 Cell 12             ·   ×   ·" in lines
    assert lines.index("07 Cell 3              ·   ×   ×") < lines.index("07 Cell 12             ·   ×   ·")
    assert "    two" in lines
    assert lines[-1] == "4 runs; cells that differ by processor, threads or disturbance: 2; by seed: 1"
