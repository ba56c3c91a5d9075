"""Marks are kept as they were made, or refused."""

import json

import pytest

from lessons_lib.data.marks import load_marks, save_marks


def test_marks_survive_a_round_trip(tmp_path):
    path = tmp_path / "deep" / "marks.json"
    assert load_marks(path) == {}
    marks = {"beagle": {"nose": (0.25, 0.5), "left_eye": (0.0, 1.0)}}
    save_marks(path, marks)
    assert load_marks(path) == marks
    assert [file.name for file in path.parent.iterdir()] == ["marks.json"]


def test_bad_marks(tmp_path):
    path = tmp_path / "marks.json"
    with pytest.raises(ValueError, match="nose of beagle"):
        save_marks(path, {"beagle": {"nose": (1.2, 0)}})
    assert not path.exists()
    for content in ("{", "[]", json.dumps({"a": {"nose": 3}}), json.dumps({"a": {"nose": [0.1, 7]}})):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"marks\.json"):
            load_marks(path)
