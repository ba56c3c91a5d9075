"""The record of lesson 07 holds what its command asks for, and seeds draw pictures that do not meet."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from lessons_lib import records
from lessons_lib.data.pictures import Pictures
from tests.records import finetune_strategies as study
from tests.records.finetune_strategies import PILOT, drawn, keys


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A record of its own, and no run that takes time."""
    monkeypatch.setattr(
        study,
        "records",
        SimpleNamespace(
            read=partial(records.read, folder=tmp_path), once=partial(records.once, folder=tmp_path)
        ),
    )
    return tmp_path / f"{study.NAME}.json"


def test_each_run_is_asked_for_once_and_the_pilot_comes_first():
    every = list(keys())
    assert len({tuple(key.values()) for key in every}) == len(every)
    for data in study.SIZES:
        for strategy in study.RATES:
            pilots = [key["pilot"] for key in every if (key["data"], key["strategy"]) == (data, strategy)]
            assert None not in pilots[: len(study.RATES[strategy])]
            assert not any(pilots[len(study.RATES[strategy]) :])


def test_digits_of_the_pilot_and_of_tests_are_not_learned_from():
    seen = {}
    for seed, count in ((0, 10), (0, 100), (1, 100), (PILOT, 30)):
        train, test = drawn("digits", count, seed)
        assert train.labels.bincount().tolist() == [count] * 10
        rows = [{row.numpy().tobytes() for row in part.images.flatten(1)} for part in (train, test)]
        assert not rows[0] & rows[1]
        seen[seed, count] = rows
    assert seen[0, 10][0] < seen[0, 100][0], "fewer pictures are among more"
    assert seen[0, 10][1] == seen[0, 100][1]
    pilot = seen[PILOT, 30][0] | seen[PILOT, 30][1]
    assert not pilot & (seen[0, 100][0] | seen[0, 100][1])


def test_cifar_seeds_have_test_pictures_of_their_own(monkeypatch):
    images = torch.arange(10_000).view(-1, 1, 1, 1).expand(-1, 3, 1, 2).clone()
    images[..., 1] = images[..., 1] // 256
    pictures = Pictures((images % 256).to(torch.uint8), torch.arange(10_000) % 10, (*"abcdefghij",), "made")
    monkeypatch.setattr(study, "pictures", lambda data: (pictures, pictures))
    tests = [drawn("cifar10", 5, seed)[1] for seed in (0, 1, PILOT)]
    rows = [{row.numpy().tobytes() for row in part.images.flatten(1)} for part in tests]
    assert [len(part) for part in rows] == [1000] * 3
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]


def test_the_command_goes_on_where_it_stopped(empty, monkeypatch):
    todo = [key for key in keys() if key["strategy"] == "fine-tuned" and key["pilot"] is None][:2]
    monkeypatch.setattr(study, "keys", lambda: iter(todo))
    made = []

    def run(key):
        if len(made) == 1 and key["seed"] == todo[1]["seed"]:
            made.append(None)
            raise KeyboardInterrupt
        made.append(key)
        return {"right": 3, "of": 4}

    monkeypatch.setattr(study, "run", run)
    with pytest.raises(KeyboardInterrupt):
        study.main()
    assert len(json.loads(empty.read_text())) == 1
    study.main()
    assert made == [todo[0], None, todo[1]]
    assert [{name: row[name] for name in todo[0]} for row in json.loads(empty.read_text())] == todo


def test_a_training_takes_the_rate_that_was_best_in_the_pilot(empty):
    key = {"data": "digits", "strategy": "fine-tuned", "seed": PILOT, "per_class": 30, "layer": None}
    empty.write_text(json.dumps([key | {"pilot": r, "right": n} for r, n in ((1e-4, 5), (1e-3, 7))]))
    assert study.best_rate(key | {"seed": 0, "pilot": None}) == 1e-3
    assert study.best_rate(key | {"pilot": 1e-4}) == 1e-4


def test_the_stored_rows_are_those_the_command_asks_for():
    wanted = {tuple(key.values()): key for key in keys()}
    rows = records.read(study.NAME)
    stored = [tuple(row[name] for name in next(iter(wanted.values()))) for row in rows]
    assert len(set(stored)) == len(stored)
    assert set(stored) <= set(wanted)
    assert all(0 <= row["right"] <= row["of"] for row in rows)
    assert {"timm", "processor", "settings", "network"} <= set.intersection(*map(set, rows))


def test_a_stored_probe_is_measured_again():
    """Whoever runs the command gets what is stored, within what another processor's last digit changes."""
    key = study._key("digits", "linear probe", 1, 10, "blocks.3")
    stored = records.once(study.NAME, key, lambda: pytest.fail("it is on record"))
    found = study.run(key)
    assert found["of"] == stored["of"]
    assert abs(found["right"] - stored["right"]) <= 3
