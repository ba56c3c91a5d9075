"""The study does what is missing, seeds draw pictures that do not meet, and the stored record is whole."""

import json

import pytest
import torch

from lessons_lib.data.pictures import Pictures
from lessons_lib.finetune import study
from lessons_lib.finetune.study import PILOT, RECORD, Study, Target, Task, tasks


def test_each_task_is_there_once_and_the_pilot_comes_first():
    every = list(tasks())
    assert len(set(every)) == len(every)
    first = {(task.data, task.strategy) for task in every if task.rate is None}
    for data, strategy in first & {(task.data, task.strategy) for task in every if task.rate}:
        same = [task for task in every if (task.data, task.strategy) == (data, strategy)]
        rates = [task.rate for task in same]
        assert None not in rates[: sum(rate is not None for rate in rates)], (
            "rates are chosen before they are used"
        )


def test_digits_of_the_pilot_and_of_tests_are_not_learned_from():
    target = Target("digits")
    seen = {}
    for seed, count in ((0, 10), (0, 100), (1, 100), (PILOT, 30)):
        train, test = target.drawn(count, seed)
        assert train.labels.bincount().tolist() == [count] * 10
        rows = [{row.numpy().tobytes() for row in part.images.flatten(1)} for part in (train, test)]
        assert not rows[0] & rows[1]
        seen[seed, count] = rows
    assert seen[0, 10][0] < seen[0, 100][0], "fewer pictures are among more"
    assert seen[0, 10][1] == seen[0, 100][1]
    pilot = seen[PILOT, 30][0] | seen[PILOT, 30][1]
    assert not pilot & (seen[0, 100][0] | seen[0, 100][1])


def test_cifar_seeds_have_test_pictures_of_their_own():
    images = torch.arange(10_000).view(-1, 1, 1, 1).expand(-1, 3, 1, 2).clone()
    images[..., 1] = images[..., 1] // 256
    pictures = Pictures((images % 256).to(torch.uint8), torch.arange(10_000) % 10, (*"abcdefghij",), "made")
    target = Target("cifar10")
    target.__dict__["pictures"] = (pictures, pictures)
    tests = [target.drawn(5, seed)[1] for seed in (0, 1, PILOT)]
    rows = [{row.numpy().tobytes() for row in part.images.flatten(1)} for part in tests]
    assert [len(part) for part in rows] == [1000] * 3
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]


def test_a_run_goes_on_where_it_stopped(tmp_path, monkeypatch):
    todo = [Task("digits", "fine-tuned", 0, 10), Task("digits", "fine-tuned", 1, 10)]
    monkeypatch.setattr(study, "tasks", lambda: iter(todo))
    monkeypatch.setattr(Study, "made", lambda self, seconds: {"date": "today"})
    done = []

    def do(self, task):
        if task.seed == 1 and not done:
            raise KeyboardInterrupt
        done.append(task)
        return [{"right": 3, "of": 4}]

    monkeypatch.setattr(Study, "do", do)
    path = tmp_path / "rows.json"
    done.append(None)
    Study(path).run()
    first = path.read_text()
    assert [row["seed"] for row in json.loads(first)] == [0, 1]
    assert json.loads(first)[0] == {
        "data": "digits", "strategy": "fine-tuned", "seed": 0, "per_class": 10, "layer": None,
        "right": 3, "of": 4, "pilot": None, "date": "today",
    }  # fmt: skip
    path.write_text(json.dumps(json.loads(first)[:1]))
    assert list(Study(path).missing()) == todo[1:]
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        Study(path).run()
    assert len(json.loads(path.read_text())) == 1


def test_a_training_takes_the_rate_that_was_best_in_the_pilot(tmp_path):
    path = tmp_path / "rows.json"
    base = {"data": "digits", "strategy": "fine-tuned", "seed": PILOT, "per_class": 30}
    path.write_text(
        json.dumps([base | {"pilot": rate, "right": right} for rate, right in ((1e-4, 5), (1e-3, 7))])
    )
    assert Study(path).rate(Task("digits", "fine-tuned", 0, 10)) == 1e-3
    assert Study(path).rate(Task("digits", "fine-tuned", PILOT, 30, 1e-4)) == 1e-4


def test_the_stored_record_is_whole():
    rows = json.loads(RECORD.read_text())
    assert all(0 <= row["right"] <= row["of"] for row in rows)
    assert {"torch", "timm", "processor", "date", "settings", "network"} <= set.intersection(*map(set, rows))
    wanted = {(t.data, t.strategy, t.seed, t.per_class, t.rate) for t in tasks()}
    assert {(r["data"], r["strategy"], r["seed"], r["per_class"], r["pilot"]) for r in rows} <= wanted
