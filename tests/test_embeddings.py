"""Neighbours and trustworthiness are exact, and maps keep what they promise."""

import pytest
import sklearn.manifold
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lessons_lib.methods.embeddings import nearest, trustworthiness, tsne


def noise(n, d, seed=0, dtype=torch.float32):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def blobs(count=4, size=40, d=60, apart=30.0):
    """Well separated groups of points, and which group each belongs to."""
    labels = torch.arange(count).repeat_interleave(size)
    return noise(count * size, d) + apart * noise(count, d, seed=1)[labels], labels


HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1000.0, 1e25])
def test_a_random_map_is_not_trusted_in_any_precision_or_scale(dtype, scale):
    generator = torch.Generator().manual_seed(0)
    points = (torch.rand(300, 50, generator=generator, dtype=torch.float64) * scale).to(dtype)
    if not torch.isfinite(points).all() or not points.any():
        pytest.skip("out of this type's range")
    placed = torch.rand(300, 2, generator=generator)
    expected = sklearn.manifold.trustworthiness(points.double() / scale, placed.double(), n_neighbors=5)
    assert trustworthiness(points, placed) == pytest.approx(expected, abs=1e-12)
    assert 0.4 < expected < 0.6


def test_tight_clusters_that_lie_far_apart_are_still_told_from_their_neighbours():
    generator = torch.Generator().manual_seed(0)
    near = torch.randn(100, 2, generator=generator) / 100
    points = torch.cat([near + 1000, near - 1000])
    assert trustworthiness(points, points) == 1.0


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("graph", [False, True])
def test_points_of_any_precision_with_or_without_a_graph(dtype, graph):
    generator = torch.Generator().manual_seed(0)
    plain = torch.randn(40, 3, generator=generator).to(dtype)
    points = plain.clone().requires_grad_(graph)
    exact = torch.cdist(plain.double(), plain.double()).fill_diagonal_(torch.inf)
    assert torch.equal(nearest(points, 4), exact.topk(4, largest=False).indices)
    assert torch.equal(nearest(points, 4, [3, 5]), exact.topk(4, largest=False).indices[[3, 5]])
    placed = tsne(points, perplexity=5, iterations=4)
    assert placed.shape == (40, 2)
    torch.testing.assert_close(placed, tsne(plain.float(), perplexity=5, iterations=4), rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------- t-SNE


def test_tsne_keeps_separate_groups_apart():
    points, labels = blobs()
    placed = tsne(points, perplexity=15)
    assert placed.shape == (160, 2)
    assert placed.dtype == torch.float32
    assert placed.mean(0).abs().max() < 1e-3 * placed.abs().max()
    assert (labels[nearest(placed, 1)[:, 0]] == labels).all()
    assert trustworthiness(points, placed) > trustworthiness(points, noise(160, 2)) + 0.3


def test_tsne_beats_the_map_of_two_principal_components():
    points, _ = blobs(count=8, size=20)
    components = points - points.mean(0)
    components = components @ torch.linalg.svd(components, full_matrices=False).Vh[:2].T
    assert trustworthiness(points, tsne(points, perplexity=10)) > trustworthiness(points, components)


def test_tsne_is_as_good_as_scikit_learns():
    points, _ = blobs(apart=3.0)
    theirs = sklearn.manifold.TSNE(perplexity=15, random_state=0).fit_transform(points.numpy())
    ours = trustworthiness(points, tsne(points, perplexity=15, iterations=500))
    assert ours > trustworthiness(points, torch.from_numpy(theirs)) - 0.02


def test_tsne_repeats_and_starts_where_it_is_told_to():
    points, _ = blobs(count=3, size=20, d=5)
    options = {"perplexity": 5, "iterations": 50}
    one = tsne(points, start="random", seed=1, **options)
    assert torch.equal(one, tsne(points, start="random", seed=1, **options))
    assert not torch.allclose(one, tsne(points, start="random", seed=2, **options))
    first, second = (tsne(points, seed=seed, **options)[:, 0] for seed in (1, 2))
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] > 0.6, (
        "the first component decides left and right"
    )


@pytest.mark.parametrize("rows", [60, 30])
def test_tsne_takes_more_dimensions_than_points(rows):
    assert torch.isfinite(tsne(noise(rows, 200), perplexity=5, iterations=20)).all()


@pytest.mark.parametrize(
    ("points", "options", "error", "text"),
    [
        (torch.zeros(3, 4, 4), {}, ValueError, "shape"),
        (torch.zeros(40, 4, dtype=torch.uint8), {}, TypeError, "floating point"),
        (torch.full((40, 4), torch.nan), {}, ValueError, "NaN"),
        (noise(40, 4), {"perplexity": 30}, ValueError, "1–13"),
        (noise(3, 4), {"perplexity": 1}, ValueError, "at least 4"),
        (noise(40, 4), {"perplexity": 0.5}, ValueError, "perplexity"),
        (noise(40, 4), {"perplexity": 5, "start": "spectral"}, ValueError, "'pca', 'random'"),
        (noise(40, 4), {"perplexity": 5, "iterations": 1}, ValueError, "iterations"),
        (torch.ones(40, 4), {"perplexity": 5}, ValueError, "the same"),
    ],
)
def test_tsne_refuses_bad_input(points, options, error, text):
    with pytest.raises(error, match=text):
        tsne(points, **options)


# ---------------------------------------------------------------- neighbours


def brute_force(points, k):
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(
        torch.inf
    )
    return distances.argsort(1)[:, :k]


@given(st.integers(2, 60), st.integers(1, 80), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_nearest_equals_brute_force(n, d, seed):
    points = noise(n, d, seed, torch.float64)
    k = 1 + seed % (n - 1)
    found = nearest(points, k)
    assert torch.equal(found, brute_force(points, k))
    assert torch.equal(nearest(points, k, [0, n - 1, 0]), found[[0, n - 1, 0]])


def test_a_point_is_never_its_own_neighbour_even_among_copies():
    points = torch.zeros(6, 3)
    for found in (nearest(points, 2), nearest(points, 2, list(range(6))), nearest(points, 5, [3])):
        assert found.shape[1] == len(set(found[0].tolist()))
    assert 3 not in nearest(points, 5, [3])
    assert all(i not in row for i, row in enumerate(nearest(points, 2, list(range(6))).tolist()))


@pytest.mark.parametrize(
    "function",
    [lambda points: nearest(points, 2), lambda points: trustworthiness(points, points)],
    ids=["nearest", "trustworthiness"],
)
@pytest.mark.parametrize(
    ("points", "error", "text"),
    [
        (torch.rand(1, 3), ValueError, "at least 2"),
        (torch.rand(20, 3, 2), ValueError, "shape"),
        (torch.zeros(20, 3, dtype=torch.uint8), TypeError, "floating point"),
        (torch.full((20, 3), torch.nan), ValueError, "NaN"),
    ],
)
def test_neighbours_need_points(function, points, error, text):
    with pytest.raises(error, match=text):
        function(points)


@pytest.mark.parametrize("k", [0, 6])
def test_nearest_needs_fewer_neighbours_than_points(k):
    with pytest.raises(ValueError, match="1–5"):
        nearest(torch.rand(6, 3), k)


# ---------------------------------------------------------------- trustworthiness


def slow_trustworthiness(points, placed, k):
    """The formula of Venna and Kaski, rank by rank."""
    n, near, far = len(points), brute_force(placed, k), brute_force(points, len(points) - 1)
    excess = 0
    for i in range(n):
        for j in near[i].tolist():
            excess += max(0, far[i].tolist().index(j) + 1 - k)
    return 1 - 2 * excess / (n * k * (2 * n - 3 * k - 1))


@given(st.integers(12, 40), st.integers(1, 5), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_trustworthiness_equals_the_formula_and_scikit_learns(n, k, seed):
    points, placed = noise(n, 9, seed, torch.float64), noise(n, 2, seed + 1, torch.float64)
    ours = trustworthiness(points, placed, k)
    assert ours == pytest.approx(slow_trustworthiness(points, placed, k), abs=1e-12)
    theirs = sklearn.manifold.trustworthiness(points.numpy(), placed.numpy(), n_neighbors=k)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_trustworthiness_over_several_blocks_of_rows():
    points, placed = noise(1203, 300), noise(1203, 2, seed=1)
    placed[:, 0] += 0.2 * points[:, 0]
    theirs = sklearn.manifold.trustworthiness(points.double().numpy(), placed.numpy(), n_neighbors=5)
    assert trustworthiness(points, placed) == pytest.approx(theirs, abs=1e-6)


def test_trustworthiness_of_the_points_themselves_is_1_and_far_from_the_origin_too():
    points = noise(100, 2)
    assert trustworthiness(points, points) == 1
    far = noise(100, 20) + 1000
    placed = noise(100, 2, seed=2)
    exact = trustworthiness(far.double(), placed)
    assert trustworthiness(far, placed) == pytest.approx(exact, abs=1e-3)


def test_trustworthiness_refuses_other_numbers_of_points():
    with pytest.raises(ValueError, match="places"):
        trustworthiness(noise(20, 3), noise(19, 2))
    with pytest.raises(ValueError, match="1–9"):
        trustworthiness(noise(20, 3), noise(20, 2), 10)
