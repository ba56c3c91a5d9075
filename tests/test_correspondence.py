"""Boxes lie where the masks say, and Δ equals the paper's formula written as a double loop."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance
from sklearn.metrics import cohen_kappa_score
from torch import nn

from lessons_lib.data import critters
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.correspondence import (
    GREY,
    PARTS,
    aligned,
    aligned_at,
    bounding_boxes,
    boxes_at,
    chance_agreement,
    compare,
    complete,
    delta,
    face_boxes,
    feature_changes,
    has_room,
    load_marks,
    occlude,
    part_boxes,
    random_boxes,
    save_marks,
    sign_distances,
)

INDEX = [critters.PARTS.index(part) for part in PARTS]


@pytest.fixture(scope="module")
def faces():
    drawn = critters.generate(30, 96, seed=3, species=("cat", "bear", "tiger"))
    return drawn.subset(complete(drawn))


# ---------------------------------------------------------------- boxes


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
    with pytest.raises(ValueError, match="head, left_eye"):
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
    with pytest.raises(ValueError, match="between 0 and 1"):
        aligned(faces, 100, gap=0)


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
    with pytest.raises(ValueError, match=r"points \(3, 2\)"):
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


def test_occlude_paints_the_box_and_nothing_else(faces):
    boxes = part_boxes(faces.masks[:, INDEX])[:, 0]
    hidden = occlude(faces.images, boxes)
    for before, after, (top, left, height, width) in zip(faces.images, hidden, boxes.tolist(), strict=True):
        assert (after[:, top : top + height, left : left + width] == GREY).all()
        rest = torch.ones_like(before, dtype=torch.bool)
        rest[:, top : top + height, left : left + width] = False
        assert torch.equal(before[rest], after[rest])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: bounding_boxes(torch.ones(1, 4, 4)), TypeError, "bool"),
        (lambda: bounding_boxes(torch.ones(4, 4, dtype=torch.bool)), ValueError, r"\(N, H, W\)"),
        (lambda: bounding_boxes(torch.zeros(2, 4, 4, dtype=torch.bool)), ValueError, r"\[0, 1\]"),
        (lambda: part_boxes(torch.ones(1, 4, 4, dtype=torch.bool)), ValueError, "parts"),
        (lambda: boxes_at(torch.zeros(1, 2), torch.tensor([[9, 1]]), (8, 8)), ValueError, "fit into"),
        (lambda: boxes_at(torch.zeros(1, 3), torch.tensor([[1, 1]]), (8, 8)), ValueError, "points"),
        (lambda: face_boxes(torch.zeros(1, 2, 4), 0, 0, (8, 8)), ValueError, "left_eye"),
        (lambda: random_boxes(torch.zeros(1, 4), torch.ones(1, 4, 4)), ValueError, "boxes"),
        (
            lambda: random_boxes(torch.tensor([[[0, 0, 4, 4]]]), torch.ones(1, 4, 4, dtype=torch.bool)),
            ValueError,
            r"pictures \[0\] have no place",
        ),
        (lambda: occlude(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4)), TypeError, "uint8"),
        (lambda: occlude(torch.zeros(1, 3, 4, 4).byte(), torch.zeros(2, 4)), ValueError, r"\(1, 4\)"),
        (lambda: occlude(torch.zeros(1, 3, 4, 4).byte(), torch.tensor([[2, 2, 3, 1]])), ValueError, "leaves"),
        (
            lambda: occlude(torch.zeros(1, 3, 4, 4).byte(), torch.tensor([[0, 0, 1, 1]]), 256),
            ValueError,
            "0–255",
        ),
    ],
)
def test_bad_boxes(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---------------------------------------------------------------- changes


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5)).double()


def as_double(images):
    return to_input(images).double()


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_feature_changes_equal_running_the_layers_by_hand(model):
    images, hidden = noise(3, 3, 8, 8), {"nose": noise(3, 3, 8, 8, seed=1)}
    changes = feature_changes(model, images, hidden, ["1", "3"], to_input=as_double)
    with torch.no_grad():
        relu = model[1](model[0](as_double(images))) - model[1](model[0](as_double(hidden["nose"])))
        logits = model(as_double(images)) - model(as_double(hidden["nose"]))
    torch.testing.assert_close(changes["1"]["nose"], relu, atol=1e-4, rtol=0)
    torch.testing.assert_close(changes["3"]["nose"], logits, atol=1e-4, rtol=0)
    one = feature_changes(model, images, hidden, ["1"], to_input=as_double, batch_size=1)
    torch.testing.assert_close(one["1"]["nose"], changes["1"]["nose"], atol=1e-12, rtol=1e-10)


def test_features_out_of_the_occluder_s_reach_do_not_change(model):
    images = noise(2, 3, 8, 8)
    hidden = {"corner": occlude(images, torch.tensor([[0, 0, 2, 2], [0, 0, 2, 2]]))}
    change = feature_changes(model, images, hidden, ["0"], to_input=as_double)["0"]["corner"]
    assert (change[:, :, 2:, 2:] == 0).all()
    assert (change[:, :, :2, :2] != 0).any()


def test_changes_as_small_as_rounding_are_none():
    model = nn.Sequential(nn.Identity())
    images = torch.full((1, 3, 4, 4), 200, dtype=torch.uint8)
    scale = iter((1.0, 1 + 5e-6, 1.0, 1 + 5e-5))

    def prepare(images):
        return images.double() * next(scale)

    assert (feature_changes(model, images, {"a": images}, ["0"], to_input=prepare)["0"]["a"] == 0).all()
    assert (feature_changes(model, images, {"a": images}, ["0"], to_input=prepare)["0"]["a"] != 0).all()


def test_bad_changes(model):
    with pytest.raises(ValueError, match="'nose' has pictures"):
        feature_changes(model, noise(3, 3, 8, 8), {"nose": noise(2, 3, 8, 8)}, ["0"])
    with pytest.raises(ValueError, match="no layer"):
        feature_changes(model, noise(3, 3, 8, 8), {}, ["conv"], to_input=as_double)


# ---------------------------------------------------------------- Δ


def slow_distance(a, b, zeros):
    """Hamming distance of two sign patterns, feature by feature."""
    differ = compared = 0
    for x, y in zip(a.tolist(), b.tolist(), strict=True):
        if zeros == "left out" and (x == 0 or y == 0):
            continue
        compared += 1
        differ += (x >= 0) != (y >= 0) if zeros == "positive" else np.sign(x) != np.sign(y)
    return differ / compared


def slow_delta(changes, zeros):
    """The paper's sum over i ≠ j, divided by the number of pairs."""
    total = pairs = 0
    for i in range(len(changes)):
        for j in range(len(changes)):
            if i != j:
                total += slow_distance(changes[i].flatten(), changes[j].flatten(), zeros)
                pairs += 1
    return total / pairs


def sparse_changes(count, *shape, seed=0, share=0.5):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, *shape, generator=generator)
    return values * (torch.rand(values.shape, generator=generator) < share)


@pytest.mark.parametrize("zeros", ["third sign", "left out", "positive"])
def test_delta_equals_the_double_loop(zeros):
    changes = sparse_changes(5, 4, 3, 3)
    assert delta(sign_distances(changes, zeros)).mean == pytest.approx(slow_delta(changes, zeros), abs=1e-6)


def test_third_sign_agrees_with_scipy():
    changes = sparse_changes(6, 40, seed=1)
    expected = distance.squareform(distance.pdist(changes.sign().numpy(), "hamming"))
    np.testing.assert_allclose(sign_distances(changes).numpy(), expected, atol=1e-7)


def test_closed_forms():
    pattern = sparse_changes(1, 1000, share=1.0)
    same = pattern.repeat(4, 1) * torch.tensor([1.0, 2, 0.1, 7])[:, None]
    assert sign_distances(same).abs().max() < 1e-6
    opposite = torch.cat([pattern, -pattern])
    assert sign_distances(opposite)[0, 1].item() == pytest.approx(1)
    independent = torch.randn(8, 20_000, generator=torch.Generator().manual_seed(0))
    for zeros in ("third sign", "left out", "positive"):
        assert delta(sign_distances(independent, zeros)).mean == pytest.approx(0.5, abs=0.01)


def test_how_zero_counts_decides_the_number():
    """Patterns of which each picture changes a tenth of the features, without regard to the others."""
    changes = sparse_changes(10, 20_000, share=0.1)
    third, left_out, positive = (
        delta(sign_distances(changes, zeros)).mean for zeros in ("third sign", "left out", "positive")
    )
    assert third == pytest.approx(1 - (0.9**2 + 2 * 0.05**2), abs=0.005)
    assert left_out == pytest.approx(0.5, abs=0.02)
    assert positive == pytest.approx(2 * 0.05 * 0.95, abs=0.005)


def test_chance_gives_cohens_kappa():
    changes = sparse_changes(4, 300, seed=2, share=0.4)
    changes[1] = changes[0] + 0.3 * changes[1]
    ours = 1 - sign_distances(changes)[0, 1] / chance_agreement(changes)[0, 1]
    signs = changes.sign().int().numpy()
    assert ours.item() == pytest.approx(cohen_kappa_score(signs[0], signs[1]), abs=1e-6)
    assert chance_agreement(changes).diagonal().abs().max() == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 6), st.integers(1, 30), st.integers(0, 1000))
def test_distances_are_symmetric_shares_and_keep_the_triangle(count, features, seed):
    distances = sign_distances(sparse_changes(count, features, seed=seed))
    assert torch.equal(distances, distances.T)
    assert distances.diagonal().abs().max() < 1e-6
    assert -1e-6 <= distances.min() <= distances.max() <= 1 + 1e-6
    through = distances[:, :, None] + distances[None]
    assert (distances[:, None] <= through.transpose(1, 2) + 1e-5).all()


def test_error_and_interval():
    distances = sign_distances(sparse_changes(12, 200))
    result = delta(distances)
    pairs = [distances[i, j].item() for i in range(12) for j in range(i)]
    assert result.mean == pytest.approx(np.mean(pairs))
    assert result.error == pytest.approx(stats.sem(pairs))
    assert result.low < result.mean < result.high
    assert delta(distances) == result, "the same seed gives the same interval"
    assert delta(distances, seed=1) != result


def test_interval_is_wider_than_pairs_suggest_when_pictures_differ():
    """One odd picture spoils all its pairs together: that is why pictures are resampled, not pairs."""
    changes = torch.ones(8, 100)
    changes[:4] = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    result = delta(sign_distances(changes))
    assert result.high - result.low > 2 * 1.96 * result.error


def test_bootstrap_covers_the_truth():
    """95 % intervals of independent sign patterns with some shared ones hold the true mean about that often."""
    share, covered = 0.3, 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        changes = torch.where(torch.rand(15, 400, generator=generator) < share, -1.0, 1.0)
        result = delta(sign_distances(changes), resamples=300)
        covered += result.low <= 2 * share * (1 - share) <= result.high
    assert covered >= 48


def test_compare_finds_a_difference_and_only_a_true_one():
    base = sparse_changes(1, 500, share=1.0)
    part = base + 0.5 * sparse_changes(12, 500, seed=1, share=1.0)
    control = sparse_changes(12, 500, seed=2, share=1.0)
    found = compare(part, control)
    distances = [delta(sign_distances(changes)).mean for changes in (part, control)]
    assert found.mean == pytest.approx(distances[1] - distances[0], abs=1e-6)
    assert found.low > 0
    assert found.p < 0.002
    back = compare(control, part)
    assert (back.mean, back.p) == (pytest.approx(-found.mean), pytest.approx(found.p, abs=0.002))


def test_permutation_test_is_honest():
    """Where part and control are drawn alike, p is below 0.1 about once in ten times."""
    p = [
        compare(sparse_changes(8, 60, seed=seed), sparse_changes(8, 60, seed=seed + 500), resamples=200).p
        for seed in range(100)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert 2 <= np.sum(np.array(p) < 0.1) <= 22


def test_permutations_equal_a_slow_loop():
    part, control = sparse_changes(4, 50, seed=3), sparse_changes(4, 50, seed=4)
    observed = abs(slow_delta(control, "third sign") - slow_delta(part, "third sign"))
    extreme = 0
    for number in range(16):
        coin = torch.tensor([bool(number >> bit & 1) for bit in range(4)])[:, None]
        a, b = torch.where(coin, control, part), torch.where(coin, part, control)
        extreme += abs(slow_delta(b, "third sign") - slow_delta(a, "third sign")) >= observed - 1e-9
    assert compare(part, control, resamples=4000).p == pytest.approx(extreme / 16, abs=0.03)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: sign_distances(torch.zeros(3, 0)), "empty"),
        (lambda: sign_distances(torch.full((3, 2), math.nan)), "NaN"),
        (lambda: sign_distances(torch.ones(3, 2), "skip"), "third sign"),
        (lambda: sign_distances(torch.tensor([[1.0, 0], [0, 1], [1, 1]]), "left out"), "no changed feature"),
        (lambda: chance_agreement(torch.zeros(0, 2)), "empty"),
        (lambda: delta(torch.zeros(2, 2)), "three pictures"),
        (lambda: delta(torch.zeros(3, 4)), r"\(N, N\)"),
        (lambda: delta(torch.full((3, 3), math.nan)), "NaN"),
        (lambda: compare(torch.ones(3, 2), torch.ones(4, 2)), "same shape"),
        (lambda: compare(torch.ones(2, 2), torch.ones(2, 2)), "three pictures"),
    ],
)
def test_bad_statistics(call, text):
    with pytest.raises(ValueError, match=text):
        call()


# ---------------------------------------------------------------- marks


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
