"""The panels draw what their controls say, and marks reach the file."""

import pytest
import torch

from lessons_lib.data.marks import load_marks, save_marks
from lessons_lib.plots.correspondence import marked, sign_patterns
from lessons_lib.widgets.correspondence import mark_panel, sign_panel, sign_title
from tests.figures import file_of, panel_png


def test_sign_panel_draws_what_its_controls_say():
    generator = torch.Generator().manual_seed(0)
    hidden = {part: torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8) for part in ("nose", "random")}
    changes = {
        layer: {part: torch.randn(5, 4, 3, generator=generator) for part in hidden} for layer in ("a", "b")
    }
    box = sign_panel(hidden, changes, shown=4)
    condition, layer = box.children[0].children
    condition.value, layer.value = "random", "b"
    change = changes["b"]["random"]
    title = sign_title(change, "random", "b")
    assert file_of(box) == panel_png(sign_patterns(hidden["random"][:4], change[:4], title))
    assert box.children[1].value == ""
    assert "5 pictures: Δ = 0." in title
    assert 'alt="Faces with the random hidden' in box.children[-1].value


@pytest.fixture
def images():
    return {name: torch.randint(0, 256, (3, 10, 20), dtype=torch.uint8) for name in ("dog", "cat")}


def test_marks_are_drawn_and_kept(images, tmp_path):
    path = tmp_path / "marks.json"
    box = mark_panel(images, path)
    keep, controls = box.children[0], box.children[1]
    picture, part, down, across, _ = controls.children
    part.value, down.value, across.value = "nose", 0.25, 0.75
    assert file_of(box) == panel_png(marked(images["dog"], {}, 0.25, 0.75, "nose"))
    keep.click()
    assert load_marks(path) == {"dog": {"nose": (0.25, 0.75)}}
    assert file_of(box) == panel_png(marked(images["dog"], {"nose": (0.25, 0.75)}, 0.25, 0.75, "nose"))
    assert "1 of 3 parts marked" in box.children[-1].value
    picture.value, part.value = "cat", "left_eye"
    keep.click()
    picture.value, part.value = "dog", "nose"
    assert (down.value, across.value) == (0.25, 0.75), "the crosshair goes back to a mark that is there"
    assert set(load_marks(path)) == {"cat", "dog"}


def test_marks_of_an_earlier_session_are_there(images, tmp_path):
    path = tmp_path / "marks.json"
    save_marks(path, {"dog": {"left_eye": (0.3, 0.4)}})
    box = mark_panel(images, path)
    assert file_of(box) == panel_png(marked(images["dog"], {"left_eye": (0.3, 0.4)}, 0.3, 0.4, "left_eye"))
    path.write_text("{")
    with pytest.raises(ValueError, match=r"marks\.json"):
        mark_panel(images, path)
