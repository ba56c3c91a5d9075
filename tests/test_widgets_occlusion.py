"""The occlusion panel answers with what the network says of the picture with a patch on it."""

import numpy as np
import pytest
import torch

from lessons_lib.data.pictures import to_input, to_picture
from lessons_lib.methods.occlusion import Occluder, baseline_picture
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.plots.occlusion import patched
from lessons_lib.widgets.occlusion import occlusion_panel, patched_view
from tests.test_widgets_face import asked

pytestmark = pytest.mark.usefixtures("no_open_figures")

CLASSES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return SmallCNN().eval()


@pytest.fixture(scope="module")
def images():
    pictures = torch.randint(
        0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return dict(zip(("cat", "dog"), to_input(pictures), strict=True))


def covered(image, row, column, size, fill):
    shown = image.clone()
    top, left = row - size // 2, column - size // 2
    window = (slice(None), slice(max(0, top), max(0, top + size)), slice(max(0, left), max(0, left + size)))
    shown[window] = baseline_picture(image, fill, max(size, 1))[window]
    return shown


@torch.no_grad()
def probabilities(model, *inputs):
    return model(torch.stack(inputs)).softmax(1)


def rgb(answer):
    return torch.tensor(answer["pixels"].reshape(32, 32, 4)[..., :3]).permute(2, 0, 1)


def test_panel_answers_for_every_patch(model, images):
    panel = occlusion_panel(model, images, CLASSES)
    places = [(16, 16), (0, 31), (31, 7)]
    for name, side, kind in (("cat", 6, "zero"), ("dog", 9, "blur")):
        told = [{"row": row, "column": column} for row, column in places]
        found = asked(panel, "patches", name=name, places=told, side=side, kind=kind)["probabilities"]
        expected = probabilities(model, *(covered(images[name], *place, side, kind) for place in places))
        assert np.allclose(found.reshape(3, 10), expected, atol=1e-5)
    found = asked(panel, "clean", name="dog")["probabilities"]
    assert np.allclose(found, probabilities(model, images["dog"])[0], atol=1e-5)


def test_panel_shows_the_picture_and_what_lies_under_a_patch(model, images):
    panel = occlusion_panel(model, images, CLASSES)
    seen = asked(panel, "picture", name="dog")
    assert seen["title"] == "dog"
    assert torch.equal(rgb(seen), to_picture(images["dog"]))
    filled = rgb(asked(panel, "fill", name="dog", side=5, kind="mean"))
    expected = to_picture(baseline_picture(images["dog"], "mean", 5))
    assert (filled.int() - expected.int()).abs().max() <= 1


def test_panel_begins_with_the_patch_it_is_given(model, images):
    about = occlusion_panel(model, images, CLASSES, size=9, baseline="blur").about
    assert (about["side"], about["kind"]) == (9, "blur")
    assert 9 in about["sides"]
    assert about["sides"] == sorted(set(about["sides"]))
    assert about["pictures"] == ["cat", "dog"]


def test_view_is_the_picture_with_the_patch_beside_its_bars(model, images):
    occluder = Occluder(model, images["cat"])
    for place, size, fill in (((16, 16), 6, "zero"), ((0, 31), 9, "blur"), ((0, 31), 0, "blur")):
        shown = covered(images["cat"], *place, size, fill)
        found, clean = probabilities(model, shown, images["cat"])
        expected = patched(to_picture(shown), found, clean, CLASSES).data
        assert patched_view(occluder, CLASSES, *place, size, fill).data == expected


def test_view_refuses_a_centre_outside(model, images):
    occluder = Occluder(model, images["cat"])
    for row, column in ((-1, 3), (32, 3), (3, 32)):
        with pytest.raises(ValueError, match="0–31"):
            patched_view(occluder, CLASSES, row, column, 5, "grey")
