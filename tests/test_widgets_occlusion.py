"""The occlusion panel shows the picture with the patch its controls describe, and the network's answer to it."""

import pytest
import torch

from lessons_lib.data.pictures import to_input, to_picture
from lessons_lib.methods.occlusion import Occluder, baseline_picture
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.plots.occlusion import patched
from lessons_lib.widgets.occlusion import occlusion_panel, patched_view
from tests.figures import file_of

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


def expected(model, image, row, column, size, fill):
    covered = image.clone()
    top, left = row - size // 2, column - size // 2
    window = (slice(None), slice(max(0, top), max(0, top + size)), slice(max(0, left), max(0, left + size)))
    covered[window] = baseline_picture(image, fill, max(size, 1))[window]
    with torch.no_grad():
        probabilities, clean = model(torch.stack([covered, image])).softmax(1)
    return patched(to_picture(covered), probabilities, clean, CLASSES).data.encode()


def test_panel_draws_what_its_controls_say(model, images):
    box = occlusion_panel(model, images, CLASSES)
    picture, row, column, size, fill = box.children[0].children
    assert (row.value, column.value) == (16, 16)
    assert file_of(box) == expected(model, images["cat"], 16, 16, size.value, "zero")
    picture.value, row.value, column.value, size.value, fill.value = "dog", 0, 31, 9, "blur"
    assert box.children[1].value == ""
    assert file_of(box) == expected(model, images["dog"], 0, 31, 9, "blur")
    assert "dog with a patch of 9 by 9 pixels" in box.children[-1].value
    size.value = 0
    assert file_of(box) == expected(model, images["dog"], 0, 31, 0, "blur")


def test_panel_begins_with_the_patch_it_is_given(model, images):
    box = occlusion_panel(model, images, CLASSES, size=9, baseline="blur")
    assert file_of(box) == expected(model, images["cat"], 16, 16, 9, "blur")


def test_view_refuses_a_centre_outside(model, images):
    occluder = Occluder(model, images["cat"])
    for row, column in ((-1, 3), (32, 3), (3, 32)):
        with pytest.raises(ValueError, match="0–31"):
            patched_view(occluder, CLASSES, row, column, 5, "grey")
