"""A face's questions are answered by this kernel, and its module needs no other."""

import re

import numpy as np
import pytest
import torch

from lessons_lib.widgets.face import FACES, TYPES, Face, packed, pixels

NAMES = sorted({path.stem for path in FACES.glob("*.js")} - {"pieces", "kernel"})


def asked(face, question, **given):
    """What a browser is sent: the error, or the answer with its arrays unpacked as ``faces/kernel.js`` does it."""
    sent = []
    face.send = lambda content, buffers=None: sent.append((content, buffers))
    face._answer(None, {"id": 7, "question": question, "given": given})
    ((content, buffers),) = sent
    assert content["id"] == 7
    if "error" in content:
        return content["error"]
    kinds = {browser: numpy for numpy, browser in TYPES.items()}
    arrays = content["answer"]["arrays"].items()
    return content["answer"]["values"] | {
        name: np.frombuffer(buffers[told["buffer"]], kinds[told["type"]]) for name, told in arrays
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_kernel_sends_a_face_as_one_module(name):
    module = Face(name, {}, {})._esm
    assert re.findall(r"(?m)^ *(?:import|export)\b.*", module) == ["export default {"]
    assert "function face(root, ask, about)" in module


@pytest.mark.parametrize("name", NAMES)
def test_no_name_of_a_face_is_one_of_the_pieces(name):
    """One module holds both, so a second definition would be an error, in JupyterLab only."""
    defined = [
        set(re.findall(r"(?m)^(?:export )?(?:function|const|let) (\w+)", (FACES / f"{part}.js").read_text()))
        for part in ("pieces", name)
    ]
    assert defined[0] & defined[1] == set()


def test_numbers_arrive_as_they_are():
    maps = torch.arange(6, dtype=torch.float32).view(2, 3).T  # not contiguous
    answer = {"maps": maps, "counts": np.array([1, 2], np.int32), "words": ["a"], "logit": 0.5}
    found = asked(Face("cam", {}, {"look": lambda: answer}), "look")
    assert found["maps"].tolist() == [0, 3, 1, 4, 2, 5]
    assert found["counts"].tolist() == [1, 2]
    assert (found["words"], found["logit"]) == (["a"], 0.5)


def test_what_a_browser_has_no_numbers_for_is_refused():
    with pytest.raises(KeyError, match="int64"):
        packed({"labels": torch.tensor([1])})


def test_what_an_answer_raises_is_told():
    def look(name):
        raise ValueError(f"no picture {name}")

    assert asked(Face("cam", {}, {"look": look}), "look", name="Tom") == "ValueError: no picture Tom"
    assert asked(Face("cam", {}, {}), "dance") == "KeyError: 'dance'"


def test_a_picture_is_told_as_a_canvas_has_it():
    picture = torch.arange(12, dtype=torch.uint8).view(3, 2, 2)
    told = pixels(picture)
    assert (told["height"], told["width"]) == (2, 2)
    assert told["pixels"].reshape(4, 4).tolist() == [
        [0, 4, 8, 255],
        [1, 5, 9, 255],
        [2, 6, 10, 255],
        [3, 7, 11, 255],
    ]
    assert pixels(picture[:1])["pixels"].reshape(4, 4)[1].tolist() == [1, 1, 1, 255]
