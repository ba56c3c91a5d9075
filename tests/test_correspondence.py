"""Δ equals the paper's formula written as a double loop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance
from torch import nn

from lessons_lib.data import critters
from lessons_lib.data.face_parts import (
    PARTS,
    complete,
    part_boxes,
)
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.correspondence import (
    GREY,
    Difference,
    compare,
    cover,
    delta,
    feature_changes,
    sign_distances,
)

INDEX = [critters.PARTS.index(part) for part in PARTS]


@pytest.fixture(scope="module")
def faces():
    drawn = critters.generate(30, 96, seed=3, species=("cat", "bear", "tiger"))
    return drawn.subset(complete(drawn))


def test_cover_paints_the_box_and_nothing_else(faces):
    boxes = part_boxes(faces.masks[:, INDEX])[:, 0]
    hidden = cover(faces.images, boxes)
    for before, after, (top, left, height, width) in zip(faces.images, hidden, boxes.tolist(), strict=True):
        assert (after[:, top : top + height, left : left + width] == GREY).all()
        rest = torch.ones_like(before, dtype=torch.bool)
        rest[:, top : top + height, left : left + width] = False
        assert torch.equal(before[rest], after[rest])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cover(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4)), TypeError, "uint8"),
        (lambda: cover(torch.zeros(1, 3, 4, 4).byte(), torch.zeros(2, 4)), ValueError, r"\(1, 4\)"),
        (lambda: cover(torch.zeros(1, 3, 4, 4).byte(), torch.tensor([[2, 2, 3, 1]])), ValueError, "leaves"),
    ],
)
def test_bad_covers(call, error, text):
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
    hidden = {"corner": cover(images, torch.tensor([[0, 0, 2, 2], [0, 0, 2, 2]]))}
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


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 6), st.integers(1, 30), st.integers(0, 1000))
def test_distances_are_symmetric_shares_and_keep_the_triangle(count, features, seed):
    distances = sign_distances(sparse_changes(count, features, seed=seed))
    assert torch.equal(distances, distances.T)
    assert distances.diagonal().abs().max() < 1e-6
    assert -1e-6 <= distances.min() <= distances.max() <= 1 + 1e-6
    through = distances[:, :, None] + distances[None]
    assert (distances[:, None] <= through.transpose(1, 2) + 1e-5).all()


def test_mean_and_interval():
    distances = sign_distances(sparse_changes(12, 200))
    result = delta(distances)
    pairs = [distances[i, j].item() for i in range(12) for j in range(i)]
    assert result.mean == pytest.approx(np.mean(pairs))
    assert result.low < result.mean < result.high
    assert delta(distances) == result, "the same seed gives the same interval"
    assert delta(distances, seed=1) != result


def test_interval_is_wider_than_pairs_suggest_when_pictures_differ():
    """One odd picture spoils all its pairs together: that is why pictures are resampled, not pairs."""
    changes = torch.ones(8, 100)
    changes[:4] = torch.randn(4, 100, generator=torch.Generator().manual_seed(0))
    distances = sign_distances(changes)
    result = delta(distances)
    pairs = [distances[i, j].item() for i in range(8) for j in range(i)]
    assert result.high - result.low > 2 * 1.96 * stats.sem(pairs)


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


def test_a_difference_says_no_more_of_p_than_was_tried():
    assert str(Difference(0.123, 0.1, 0.15, 0.0005)) == "0.12 [0.10, 0.15], p < 0.005"
    assert str(Difference(-0.004, -0.02, 0.01, 0.37381)) == "0.00 [-0.02, 0.01], p = 0.37"


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
        (lambda: delta(torch.zeros(2, 2)), "at least 3"),
        (lambda: delta(torch.zeros(3, 4)), r"\(3, 3\)"),
        (lambda: delta(torch.full((3, 3), math.nan)), "NaN"),
        (lambda: compare(torch.ones(2, 2), torch.ones(2, 2)), "at least 3"),
    ],
)
def test_bad_statistics(call, text):
    with pytest.raises(ValueError, match=text):
        call()
