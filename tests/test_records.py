"""A run that is on record is not repeated, and none is lost when the next one fails."""

import json

import pytest
import torch

from lessons_lib import records, training
from tests.records import cam_pets, cifar_activations


def test_a_run_is_made_once_and_kept(tmp_path):
    made = []

    def run():
        made.append(1)
        return {"accuracy": [0.5, 0.75]}

    first = records.once("x", {"seed": 1, "epochs": 2}, run, folder=tmp_path / "new")
    again = records.once("x", {"seed": 1, "epochs": 2}, run, folder=tmp_path / "new")
    assert first == again == records.read("x", folder=tmp_path / "new")[0]
    assert len(made) == 1
    assert first["accuracy"] == [0.5, 0.75]
    assert {"torch", "processor", "date"} < set(first)
    records.once("x", {"seed": 1, "epochs": 3}, run, folder=tmp_path / "new")
    records.once("x", {"seed": 2, "epochs": 2}, run, folder=tmp_path / "new")
    assert [(row["seed"], row["epochs"]) for row in records.read("x", folder=tmp_path / "new")] == [
        (1, 2),
        (1, 3),
        (2, 2),
    ]
    assert len((tmp_path / "new" / "x.json").read_text().splitlines()) == 5, "a line a row"


def test_a_run_that_fails_loses_nothing(tmp_path):
    records.once("x", {"seed": 1}, lambda: {"accuracy": 0.5}, folder=tmp_path)
    for fails in (lambda: 1 / 0, lambda: {"accuracy": {1, 2}}):
        with pytest.raises((ZeroDivisionError, TypeError)):
            records.once("x", {"seed": 2}, fails, folder=tmp_path)
    assert [row["seed"] for row in records.read("x", folder=tmp_path)] == [1]
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_no_record_has_no_rows(tmp_path):
    assert records.read("x", folder=tmp_path) == []


def test_what_is_stored_can_be_read():
    for file in records.FOLDER.glob("*.json"):
        rows = json.loads(file.read_text(encoding="utf-8"))
        assert rows == records.read(file.stem)
        # a list has a row a run, what one command found at once is one dictionary
        for row in rows if isinstance(rows, list) else [rows["settings"] | rows]:
            assert {"torch", "date"} < set(row)


def test_the_trainings_of_lesson_01_are_on_record(monkeypatch, capsys):
    """None is made again: the keys of the rows are those that the command asks for."""
    monkeypatch.setattr(training, "fit", None)
    cifar_activations.main(["dead", "short"])
    assert len(capsys.readouterr().out.splitlines()) == 60 + 5


def test_the_trainings_of_lesson_05_are_on_record():
    rows = {(row["study"], row["seed"]): row for row in records.read("05_fastai_cam_pets")}
    assert set(rows) == {(study, seed) for study in ("all", "head") for seed in cam_pets.SEEDS}
    for row in rows.values():
        assert len(row["right"]) == 6
        assert max(row["right"]) <= row["validated"]
    for seed in cam_pets.SEEDS:
        first = {
            (rows[study, seed]["right"][0], *rows[study, seed]["near_zero"][:2]) for study in ("all", "head")
        }
        assert len(first) == 1, "both begin with the same epoch of the head"


def test_positions_near_zero_are_counted_for_each_map_by_its_own_largest():
    maps = torch.tensor([[[[10.0, -0.9], [1.0, 0.5]], [[0.0, 0.01], [-0.2, 0.05]]]])
    assert cam_pets.near_zero(maps) == (2 / 4 + 2 / 4) / 2


@pytest.mark.parametrize(
    ("has", "name"),
    [
        ({"avx2": True, "avx512_f": False}, "AVX2"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_tile": False}, "AVX-512 with bfloat16"),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": True, "amx_tile": True}, "AMX"),
        ({}, "arm64"),
    ],
)
def test_a_processor_is_classed_by_its_instructions(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], name: str
):
    monkeypatch.setattr(records.course, "processor_capabilities", lambda: has)
    monkeypatch.setattr(records.platform, "machine", lambda: "arm64")
    assert records.processor() == name
