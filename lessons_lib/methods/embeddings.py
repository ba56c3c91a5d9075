"""Pictures as points: their neighbours, maps of them by t-SNE, and a number that says what a map is worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lessons_lib.checks import check_choice, check_range, check_tensor
from lessons_lib.networks import at_least_float32

Start = Literal["pca", "random"]

DIMENSIONS = 50  # that t-SNE is given, as in its paper
THREADED = 2000  # points from which on t-SNE computes in several threads
_BLOCK = 500  # rows of the distance matrix held at a time


def tsne(
    points: Tensor, *, perplexity: float = 30, start: Start = "pca", seed: int = 0, iterations: int = 250
) -> Tensor:
    """A map of ``points`` in two dimensions that keeps neighbours together: t-SNE.

    Points of more than ``DIMENSIONS`` numbers are first reduced to so many by PCA, as the paper does; then
    neighbours are found exactly, and openTSNE moves the points: first with attraction exaggerated twelvefold,
    then without. The axes of the result have no meaning and no unit. The same call on the same machine with as
    many threads gives the same map.

    Args:
        points: shape (N, D).
        perplexity: about how many neighbours each point is kept close to, from 1 to (N − 1) / 3.
        start: begin from the first two principal components with a little noise, or from noise alone.
        seed: decides the noise.
        iterations: steps without exaggeration; half as many with it come before them.

    Returns:
        float32, shape (N, 2), centred.

    Raises:
        ValueError: for fewer than 4 points, a perplexity out of range, fewer than 2 iterations, an unknown start, or
            points that are all the same, hold NaN or have another shape.

    L. van der Maaten and G. Hinton, "Visualizing Data using t-SNE", JMLR 2008; the gradient by interpolation:
    L. van der Maaten, "Accelerating t-SNE using Tree-Based Algorithms", JMLR 2014; from 10,000 points on G. Linderman
    et al., "Fast interpolation-based t-SNE", Nature Methods 2019.
    """
    from openTSNE import TSNE  # noqa: PLC0415 - only this function needs it

    _check_points(points)
    check_range("the number of points", len(points), 4)
    check_range("perplexity", perplexity, 1, (len(points) - 1) / 3)  # a third of the others
    check_choice("start", start, Start)
    check_range("iterations", iterations, 2)
    if (points == points[0]).all():
        raise ValueError("all points are the same, so there is nothing to map")
    embedding = TSNE(
        perplexity=perplexity,
        initialization=start,
        neighbors="exact",
        early_exaggeration_iter=iterations // 2,
        n_iter=iterations,
        # on few points threads wait for each other longer than they work
        n_jobs=torch.get_num_threads() if len(points) >= THREADED else 1,
        random_state=seed,
    ).fit(_reduced(points))
    return torch.from_numpy(np.array(embedding, dtype=np.float32))


def _reduced(points: Tensor) -> np.ndarray:
    """``points`` in at most ``DIMENSIONS`` dimensions, the directions in which they vary most."""
    array = _array(points)
    if min(array.shape) <= DIMENSIONS:
        return array
    # two power iterations, not scikit-learn's seven: they keep nearly the same variance in a quarter of the time
    pca = PCA(DIMENSIONS, svd_solver="randomized", iterated_power=2, random_state=0)
    return pca.fit_transform(array)


def nearest(points: Tensor, k: int, queries: Sequence[int] | None = None) -> Tensor:
    """The ``k`` nearest other points of each point, by Euclidean distance, exactly.

    Args:
        points: shape (N, D).
        k: how many neighbours, 1 to N − 1.
        queries: positions of the points to find neighbours of; default: all.

    Returns:
        Positions in ``points``, int64, shape (Q, k), the nearest first; a point is never its own neighbour.

    Raises:
        ValueError: for ``k`` out of range, or points that hold NaN or have another shape.

    >>> nearest(torch.tensor([[0.0], [1.0], [5.0]]), 1)
    tensor([[1],
            [0],
            [1]])
    """
    _check_points(points)
    check_range("k", k, 1, len(points) - 1)
    array = _array(points)
    search = NearestNeighbors(n_neighbors=k).fit(array)
    if queries is None:
        return torch.from_numpy(search.kneighbors(return_distance=False))
    rows = torch.as_tensor(queries, dtype=torch.int64)
    found = torch.from_numpy(search.kneighbors(array[rows.numpy()], k + 1, return_distance=False))
    itself = found == rows[:, None]
    itself[~itself.any(1), -1] = True  # where copies of the point crowd it out of its own neighbours
    return found[~itself].view(len(rows), k)


def trustworthiness(points: Tensor, placed: Tensor, k: int = 5) -> float:
    """How far neighbours on a map were neighbours before: 1 for all, about 0.5 for a random map.

    ``1 − 2 / (N k (2N − 3k − 1)) · Σ_i Σ_j max(0, r(i, j) − k)`` over the k nearest j of i on the map, where r is
    j's rank among i's neighbours in ``points``. What scikit-learn's function computes, but it holds some rows of
    the distance matrix at a time, not three whole ones: 10,000 points need 80 MB instead of 2.4 GB, beside themselves
    in double precision. With the two exchanged it is *continuity*: how far neighbours before are neighbours on the map.

    Args:
        points: where they were, shape (N, D).
        placed: where the map put them, shape (N, 2).
        k: how many neighbours on the map are asked about, 1 to under N / 2.

    Raises:
        ValueError: for ``k`` out of range, not as many points in both, or points that hold NaN.

    J. Venna and S. Kaski, "Neighborhood preservation in nonlinear projection methods", ICANN 2001.
    """
    _check_points(points)
    check_tensor("places", placed, f"{len(points)} D", float, finite=True)
    n = len(points)
    check_range("k", k, 1, (n - 1) // 2)
    neighbours = nearest(placed, k)
    # ranks depend on no scale; of this one no square overflows, and in float64 the difference of squares of tight
    # clusters that lie far apart still has digits
    scaled = torch.from_numpy(_array(points)).double()
    scaled /= scaled.abs().max().clamp(min=torch.finfo(torch.float64).tiny)
    centred = scaled - scaled.mean(0)
    squares = centred.square().sum(1)
    excess = 0
    for rows in torch.arange(n).split(_BLOCK):
        # and a constant for each row, which no rank needs
        distances = squares - 2 * centred[rows] @ centred.T
        distances.scatter_(1, rows[:, None], torch.inf)
        for column in distances.gather(1, neighbours[rows]).T:
            rank = (distances < column[:, None]).sum(1) + 1
            excess += int((rank - k).clamp(min=0).sum())
    return 1 - 2 * excess / (n * k * (2 * n - 3 * k - 1))


def _array(points: Tensor) -> np.ndarray:
    """``points`` for NumPy and scikit-learn, which know no bfloat16, no gradients and no other devices."""
    return at_least_float32(points.detach().cpu()).numpy()


def _check_points(points: Tensor) -> None:
    check_tensor("points", points, "N D", float, finite=True)
    check_range("the number of points", len(points), 2)
