"""A run that is on record is not repeated, and none is lost when the next one fails."""

import json

import pytest
import torch

from lessons_lib import models, records, training
from lessons_lib.data import critters, to_input
from lessons_lib.methods import evaluation
from tests.records import cam_pets, cifar_activations, trust_explanations


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


METRICS = ["pointing", "mass", "grid", "deletion", "insertion", "randomisation", "parts"]


@pytest.fixture(scope="module")
def judged():
    """The rows of lesson 11, by study."""
    rows = records.read(trust_explanations.NAME)
    return {
        study: [row for row in rows if row["study"] == study] for study in ("effects", "scores", "watermark")
    }


def test_the_referees_table_of_lesson_11_is_on_record(judged):
    scores = {(row["seed"], row["method"]): row for row in judged["scores"]}
    assert set(scores) == {
        (seed, method) for seed in trust_explanations.SEEDS for method in trust_explanations.METHODS
    }
    assert len(judged["scores"]) == len(scores)
    for row in scores.values():
        assert list(row["scores"]) == list(row["over_edges"]) == METRICS
        for mean, low, high in (*row["scores"].values(), *row["parts_otherwise"].values()):
            assert -1 <= low <= mean <= high <= 1
        edges = scores[row["seed"], "edges"]["scores"]
        for metric, lead in row["over_edges"].items():
            assert lead[0] == pytest.approx(row["scores"][metric][0] - edges[metric][0], abs=2e-4), "in pairs"
    for seed in trust_explanations.SEEDS:
        flat = scores[seed, "constant"]["scores"]
        assert flat["grid"] == [0.25, 0.25, 0.25]
        assert flat["pointing"] == flat["mass"], "the animals' share of the area"
        for method in trust_explanations.BASELINES:
            assert scores[seed, method]["scores"]["randomisation"] == [1, 1, 1], "it looks at no network"


def test_the_table_in_the_readme_is_the_records(judged):
    written = (records.SHIPPED / "README.md").read_text(encoding="utf-8")
    assert "\n".join(trust_explanations.table(judged["scores"])) in written


def test_the_effects_of_parts_of_lesson_11_are_on_record(judged):
    assert [row["seed"] for row in judged["effects"]] == list(trust_explanations.SEEDS)
    for row in judged["effects"]:
        assert set(row["parts"]) == {"left_eye", "right_eye", "nose", "ears", "background"}
        assert row["right"] > 0.9 * row["of"]
        for part in row["parts"].values():
            assert part["logit"][1] < part["logit"][0] < part["logit"][2]
            assert part["scenes"] <= row["of"]


def test_the_watermarks_of_lesson_11_are_on_record(judged):
    assert {row["text"] for row in judged["watermark"]} == set(trust_explanations.TEXTS)
    for row in judged["watermark"]:
        assert row["of"] == len(row["ratios"]) == 20
        assert row["rose"] == sum(ratio > 1 for ratio in row["ratios"])
        mean = torch.tensor(row["ratios"]).log().mean().exp().item()
        assert mean == pytest.approx(row["geometric_mean"][0], rel=0.01)


@pytest.mark.parametrize("method", trust_explanations.METHODS)
def test_every_method_of_the_record_gives_a_map_of_each_scene(method):
    if method == "RISE":
        pytest.skip("the library's, tested with it; 400 masks take long")
    torch.manual_seed(0)
    network = models.ChainCNN(10).eval()
    inputs, labels = to_input(critters.generate(4, 64).images), torch.tensor([0, 3, 5, 9])
    maps = evaluation.explain(trust_explanations.METHODS[method], network, inputs, labels)
    assert maps.shape == (4, 64, 64)
    assert (maps.flatten(1).std(1) > 0).any() == (method != "constant")
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


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
