"""Boxes lie where the masks say."""

import numpy as np
import pytest
import torch
from scipy import stats

from lessons_lib.data import critters
from lessons_lib.data.face_parts import (
    PARTS,
    aligned,
    aligned_at,
    bounding_boxes,
    boxes_at,
    complete,
    face_boxes,
    has_room,
    part_boxes,
    random_boxes,
)

INDEX = [critters.PARTS.index(part) for part in PARTS]


@pytest.fixture(scope="module")
def faces():
    drawn = critters.generate(30, 96, seed=3, species=("cat", "bear", "tiger"))
    return drawn.subset(complete(drawn))


def test_bounding_boxes_equal_the_extremes_of_the_mask(faces):
    for part in INDEX:
        for mask, box in zip(
            faces.masks[:, part], bounding_boxes(faces.masks[:, part]).tolist(), strict=True
        ):
            rows, columns = np.nonzero(mask.numpy())
            assert box == [rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1]


def test_complete_faces_show_their_parts_whole():
    drawn = critters.generate(200, 64, seed=0, species=("cat", "dog"))
    good = complete(drawn)
    assert 0.3 < good.double().mean() < 1
    assert drawn.masks[good][:, INDEX].any(dim=(2, 3)).all()
    edge = drawn.masks[good][:, INDEX]
    assert not (edge[..., 0, :].any() or edge[..., -1, :].any() or edge[..., 0].any() or edge[..., -1].any())
    with pytest.raises(ValueError, match="'head', 'left_eye'"):
        complete(drawn, ("tail",))


def test_aligned_faces_have_their_eyes_at_the_same_places(faces):
    straight = aligned(faces, 100, gap=0.4, height=0.45)
    assert straight.images.shape == (len(faces), 3, 100, 100)
    for part, column in zip(INDEX[:2], (30, 70), strict=True):
        box = bounding_boxes(straight.masks[:, part]).double()
        middle = box[:, :2] + box[:, 2:] / 2
        assert (middle - torch.tensor([45, column])).abs().max() < 2.5
    # the pixels moved with the masks: eyes are darker than the head, as before
    eye, head = straight.masks[:, INDEX[0]], straight.masks[:, critters.PARTS.index("head")]
    grey = straight.images.double().mean(1)
    darker = [(g[e].mean() < g[h].mean()).item() for g, e, h in zip(grey, eye, head, strict=True)]
    before = [
        (g[e].mean() < g[h].mean()).item()
        for g, e, h in zip(
            faces.images.double().mean(1), faces.masks[:, INDEX[0]], faces.masks[:, 0], strict=True
        )
    ]
    assert np.mean(np.equal(darker, before)) > 0.9
    assert torch.equal(straight.labels, faces.labels)
    regions = straight.masks[:, [critters.PARTS.index(part) for part in ("head", "ears", "background")]]
    assert (regions.sum(1) == 1).all()


def test_marked_pictures_align_as_faces_with_masks_do(faces):
    boxes = torch.stack([bounding_boxes(faces.masks[:, part]) for part in INDEX], dim=1).double()
    points = boxes[..., :2] + boxes[..., 2:] / 2
    straight = aligned(faces, 80)
    for i in range(3):
        image, moved = aligned_at(faces.images[i], points[i], 80)
        assert torch.equal(image, straight.images[i])
        assert moved[:2].tolist() == [pytest.approx([36, 40 - 12.8]), pytest.approx([36, 40 + 12.8])]
        nose = bounding_boxes(straight.masks[i : i + 1, INDEX[2]])[0].double()
        assert (moved[2] - nose[:2] - nose[2:] / 2).abs().max() < 3
    with pytest.raises(ValueError, match="same point"):
        aligned_at(faces.images[0], torch.ones(3, 2), 80)
    with pytest.raises(ValueError, match=r"\(3, 2\)"):
        aligned_at(faces.images[0], torch.ones(2, 2), 80)


def test_part_boxes_are_equally_large_and_hold_their_parts(faces):
    boxes = part_boxes(faces.masks[:, INDEX])
    tight = torch.stack([bounding_boxes(faces.masks[:, part]) for part in INDEX], dim=1)
    assert torch.equal(boxes[..., 2:], tight[..., 2:].amax(1, keepdim=True).expand(-1, 3, -1))
    assert (boxes[..., :2] <= tight[..., :2]).all()
    assert (boxes[..., :2] + boxes[..., 2:] >= tight[..., :2] + tight[..., 2:]).all()


def test_boxes_at_the_border_move_inside():
    points = torch.tensor([[0.0, 0.0], [10.0, 10.0], [5.0, 4.0]])
    extent = torch.tensor([[4, 6]]).expand(3, 2)
    assert boxes_at(points, extent, (10, 10)).tolist() == [[0, 0, 4, 6], [6, 4, 4, 6], [3, 1, 4, 6]]
    several = boxes_at(points[None], extent[:1], (10, 10))
    assert torch.equal(several[0], boxes_at(points, extent, (10, 10)))


def test_face_boxes_speaks_in_the_face_s_own_terms(faces):
    boxes = part_boxes(faces.masks[:, INDEX])
    shape = faces.images.shape[2:]
    assert (face_boxes(boxes, -0.5, 0, shape) - boxes[:, 0]).abs().max() <= 1
    assert (face_boxes(boxes, 0.5, 0, shape) - boxes[:, 1]).abs().max() <= 1
    assert (face_boxes(boxes, 0, 1, shape) - boxes[:, 2]).abs().max() <= 1


def test_random_boxes_are_on_the_animal_and_touch_no_part(faces):
    boxes, head = part_boxes(faces.masks[:, INDEX]), faces.masks[:, 0]
    found = random_boxes(boxes, head, cover=0.5, seed=1)
    assert torch.equal(found, random_boxes(boxes, head, cover=0.5, seed=1))
    assert not torch.equal(found, random_boxes(boxes, head, cover=0.5, seed=2))
    assert torch.equal(found[:, 2:], boxes[:, 0, 2:])
    for own, where, (top, left, height, width) in zip(boxes, head, found.tolist(), strict=True):
        place = torch.zeros_like(where)
        place[top : top + height, left : left + width] = True
        assert place.sum() == height * width, "inside the picture"
        assert (place & where).sum() >= 0.5 * height * width
        for first, start, h, w in own.tolist():
            assert not place[first : first + h, start : start + w].any()


def test_pictures_without_room_are_known_beforehand():
    boxes = torch.tensor([[[0, 0, 3, 4]], [[0, 0, 2, 4]]])
    allowed = torch.ones(2, 4, 4, dtype=torch.bool)
    assert has_room(boxes, allowed).tolist() == [False, True]
    assert random_boxes(boxes[1:], allowed[1:]).tolist() == [[2, 0, 2, 4]]
    with pytest.raises(ValueError, match=r"pictures \[0\] have no place"):
        random_boxes(boxes, allowed)


def test_every_place_is_equally_likely():
    boxes = torch.tensor([[[0, 0, 1, 1]]]).expand(600, 1, 4)
    found = random_boxes(boxes, torch.ones(600, 2, 2, dtype=torch.bool))
    places, counts = found[:, :2].unique(dim=0, return_counts=True)
    assert places.tolist() == [[0, 1], [1, 0], [1, 1]]
    assert stats.chisquare(counts.numpy()).pvalue > 0.001


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: bounding_boxes(torch.ones(1, 4, 4)), TypeError, "bool"),
        (lambda: bounding_boxes(torch.ones(4, 4, dtype=torch.bool)), ValueError, r"\(N, H, W\)"),
        (lambda: bounding_boxes(torch.zeros(2, 4, 4, dtype=torch.bool)), ValueError, r"\[0, 1\]"),
        (lambda: part_boxes(torch.ones(1, 4, 4, dtype=torch.bool)), ValueError, "N, P, H, W"),
        (lambda: boxes_at(torch.zeros(1, 2), torch.tensor([[9, 1]]), (8, 8)), ValueError, "fit into"),
        (lambda: face_boxes(torch.zeros(1, 2, 4), 0, 0, (8, 8)), ValueError, "left_eye"),
        (
            lambda: random_boxes(torch.tensor([[[0, 0, 4, 4]]]), torch.ones(1, 4, 4, dtype=torch.bool)),
            ValueError,
            r"pictures \[0\] have no place",
        ),
    ],
)
def test_bad_boxes(call, error, text):
    with pytest.raises(error, match=text):
        call()
