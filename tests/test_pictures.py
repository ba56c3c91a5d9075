"""Pictures check themselves, and scaling to the networks' input and back loses nothing."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lessons_lib.data.pictures import Pictures, to_input, to_picture


def some(n=4, **changes):
    fields = {
        "images": torch.arange(n * 3 * 2 * 2, dtype=torch.uint8).view(n, 3, 2, 2),
        "labels": torch.arange(n) % 2,
        "classes": ("a", "b"),
        "source": "test",
    }
    return Pictures(**(fields | changes))


def test_subset_keeps_pictures_and_labels_together():
    pictures = some()
    part = pictures.subset(pictures.labels == 1)
    assert len(part) == 2
    assert torch.equal(part.images, pictures.images[[1, 3]])
    assert part.labels.tolist() == [1, 1]
    assert part.classes == pictures.classes


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"images": torch.zeros(4, 3, 2, 2)}, TypeError, "uint8"),
        ({"labels": torch.zeros(4)}, TypeError, "int64"),
        ({"images": torch.zeros(4, 2, 2, dtype=torch.uint8)}, ValueError, r"\(N, 3, H, W\)"),
        ({"images": torch.zeros(4, 1, 2, 2, dtype=torch.uint8)}, ValueError, r"\(N, 3, H, W\)"),
        (
            {"labels": torch.zeros(3, dtype=torch.int64)},
            ValueError,
            r"labels of these images must have shape \(4\)",
        ),
        ({"labels": torch.tensor([0, 1, 2, 0])}, ValueError, "0–1"),
        ({"labels": torch.tensor([0, -1, 0, 0])}, ValueError, "0–1"),
    ],
)
def test_bad_pictures(changes, error, text):
    with pytest.raises(error, match=text):
        some(**changes)


@given(st.lists(st.integers(0, 255), min_size=1))
def test_input_is_in_range_and_comes_back(values):
    images = torch.tensor(values, dtype=torch.uint8)
    inputs = to_input(images)
    assert inputs.dtype == torch.float32
    assert -1 <= inputs.min() <= inputs.max() <= 1
    assert torch.equal(to_picture(inputs), images)


def test_range_ends_and_double_scaling():
    assert to_input(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]
    assert to_picture(torch.tensor([-3.0, 3.0])).tolist() == [0, 255]
    with pytest.raises(TypeError, match="already scaled"):
        to_input(torch.zeros(1))


def test_pictures_are_enlarged_and_reduced_to_the_size_asked_for():
    ramp = torch.arange(0, 256, 32, dtype=torch.uint8).expand(1, 3, 8, 8)
    assert torch.equal(to_input(ramp, 8), to_input(ramp))
    large = to_input(ramp, 16)
    assert large.shape == (1, 3, 16, 16)
    # bilinear with pixel centres: a new pixel lies a quarter of the way between two old ones
    expected = torch.lerp(to_input(ramp)[..., 1], to_input(ramp)[..., 2], 0.25)
    assert torch.allclose(large[0, :, ::2, 3], expected[0])
    checks = torch.tensor([0, 255], dtype=torch.uint8).repeat(4).expand(1, 3, 8, 8)
    assert to_input(checks, 4).abs().max() < 0.2, "stripes become grey, not whichever stripe is hit"


def test_a_fingerprint_is_of_the_pixels_the_labels_and_the_classes_in_their_order():
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    pictures = Pictures(images, torch.tensor([0, 1]), ("a", "b"), "made in the test")
    same = replace(pictures, images=images.contiguous(memory_format=torch.channels_last), source="elsewhere")
    assert same.fingerprint() == pictures.fingerprint()
    others = [
        replace(pictures, images=images.flip(0)),
        replace(pictures, images=images.view(2, 3, 2, 8)),
        replace(pictures, labels=torch.tensor([1, 0])),
        replace(pictures, classes=("b", "a")),
    ]
    assert len({pictures.fingerprint(), *(other.fingerprint() for other in others)}) == 5
