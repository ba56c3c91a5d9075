"""Adaptive sweeps: a coarse lattice of positions first, finer where the map is rough, interpolated in between.

Each round halves the area of a cell, first by the cells' centres, then by the middles of their edges. A new
position was predicted by its neighbours before it is computed, so each round measures how well the round before
would have done. Cells where that was worst are divided until the mean error is expected to be a tenth of the map's
spread (:data:`SHARE`), or little more than what a step to the next position changes (:data:`STEPS`): a map that is
rough from one position to the next is not known better by any lattice, short of computing all of it. Nakandala et al.
(SIGMOD 2019, section 4) drill down likewise, in two stages.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from lessons_lib.methods.occlusion.maps import OcclusionMap

# the expected mean |Δp| at which to stop is the largest of these
SHARE = 0.1  # of the spread: the mean |Δp| of a map that is its median everywhere
STEPS = 1.25  # times the mean |Δp| of a position and the next one
FLOOR = 0.001
HELD_OUT = (
    48  # positions that measure the error of the interpolation afterwards, and with the next one a step
)
# mean error of a lattice, in errors its newest positions were predicted with: edges, centres
_LEFT = (0.75, 0.62)
_GAIN = 0.85  # what a round leaves of the error of a rough map; a smooth one gains more


def typical(known: OcclusionMap) -> Tensor:
    """Positions as far apart as most of those that :func:`refine` will ask for at a time, bool (R, C)."""
    return torch.from_numpy(_lattice(tuple(known.predicted.shape), _first_spacing(known), 2))


def refine(known: OcclusionMap, compute: Callable[[Tensor], None]) -> tuple[float, list[str]]:
    """Complete a map: have computed what must be computed, interpolate the rest, measure the error.

    Args:
        known: the map, written into.
        compute: fills in those of some positions, bool (R, C), that are not computed yet.

    Returns:
        The mean |Δ probability| of the first target against computing every position, and sentences on it.
    """
    shape = tuple(known.predicted.shape)
    generator = torch.Generator().manual_seed(0)
    held_out = np.zeros(shape, dtype=bool)
    held_out.flat[torch.randperm(held_out.size, generator=generator)[:HELD_OUT].numpy()] = True
    spacing = _first_spacing(known)
    used = _lattice(shape, spacing, 0)  # the others that are known do not take part
    fresh = _lattice(shape, spacing, 1) & ~used
    compute(torch.from_numpy(used | fresh | held_out | _next_to(held_out)))
    target, why = _target(known, used | fresh, held_out)
    expected = np.full(shape, np.inf)
    divided = np.ones(shape, dtype=bool)
    for level in range(1, 2 * spacing.bit_length() - 1):
        if level > 1:
            divided = expected > _threshold(expected, target)
            fresh = _lattice(shape, spacing, level) & ~used & divided
            compute(torch.from_numpy(fresh))
        if not fresh.any():
            break
        off = np.abs(_values(known, fresh) - _interpolate(known, used, fresh))[: len(known.targets)].max(0)
        around = _local_mean(off, fresh, 1.5 * spacing / 2 ** (level / 2))
        expected = np.where(divided, _LEFT[level % 2] * around, expected)
        used |= fresh
    error, notes = _finish(known, used, held_out & ~used)
    return error, [why, *notes]


def _next_to(places: np.ndarray) -> np.ndarray:
    """For each place, in order, the next one in its row (before it at the row's end), bool (R, C)."""
    rows, columns = places.nonzero()
    beside = np.zeros_like(places)
    beside[rows, _next_column(columns, places.shape[1])] = True
    return beside


def _next_column(columns: np.ndarray, width: int) -> np.ndarray:
    return np.where(columns + 1 < width, columns + 1, np.maximum(columns - 1, 0))


def _target(known: OcclusionMap, lattice: np.ndarray, places: np.ndarray) -> tuple[float, str]:
    """The mean |Δp| of the first target at which to stop, and why."""
    values = known.probabilities[0].double().numpy()
    spread = float(np.abs(values[lattice] - np.median(values[lattice])).mean())
    rows, columns = places.nonzero()
    step = float(np.abs(values[rows, columns] - values[rows, _next_column(columns, places.shape[1])]).mean())
    reasons = {
        "a tenth of the map's spread": SHARE * spread,
        f"{STEPS} times what a step to the next position changes": STEPS * step,
        "the least that is asked for": FLOOR,
    }
    why = max(reasons, key=reasons.__getitem__)
    return reasons[
        why
    ], f"refined to a mean |Δp| of {reasons[why]:.4f}, {why} (spread {spread:.4f}, step {step:.4f})"


def _first_spacing(known: OcclusionMap) -> int:
    """Positions between those of the first lattice: a power of two, at most half a patch apart."""
    tops = known.tops
    stride = int(tops.diff().max()) if len(tops) > 1 else 1
    most = max(1, min(known.patch // (2 * stride), *known.predicted.shape))
    return 1 << (most.bit_length() - 1)


def _lattice(shape: tuple[int, ...], spacing: int, level: int) -> np.ndarray:
    """The positions of a level, bool: corners of square cells, on odd levels their centres as well."""
    side = max(1, spacing >> level // 2)
    rows, columns = (np.unique(np.append(np.arange(0, n, side), n - 1)) for n in shape)
    lattice = np.zeros(shape, dtype=bool)
    lattice[np.ix_(rows, columns)] = True
    if level % 2:
        lattice[np.ix_((rows[1:] + rows[:-1]) // 2, (columns[1:] + columns[:-1]) // 2)] = True
    return lattice


def _threshold(expected: np.ndarray, target: float) -> float:
    """Cells with a larger expected error are divided: as few as bring the mean down to ``target``.

    Never those that are under it themselves: were all cells so, the mean would be.
    """
    worst = np.sort(expected, axis=None)[::-1]
    gained = np.cumsum(worst) * (1 - _GAIN) / worst.size
    needed = expected.mean() - target
    if needed <= 0:
        return math.inf
    count = int(np.searchsorted(gained, needed))
    return max(float(worst[count]), target) if count < worst.size else target


def _values(known: OcclusionMap, where: np.ndarray) -> np.ndarray:
    """Probabilities, then activations, at some positions: shape (T + K, N)."""
    return torch.cat([known.probabilities, known.activations]).double().numpy()[:, where]


def _interpolate(known: OcclusionMap, used: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values at ``wanted`` from those at ``used``, linear in triangles; shape (T + K, N)."""
    values = _values(known, used).T
    if min(used.shape) > 1:
        return LinearNDInterpolator(np.argwhere(used), values)(np.argwhere(wanted)).T
    along = int(used.shape[1] > 1)  # a single row or column
    here, there = np.argwhere(used)[:, along], np.argwhere(wanted)[:, along]
    return np.stack([np.interp(there, here, v) for v in values.T])


def _local_mean(values: np.ndarray, where: np.ndarray, radius: float) -> np.ndarray:
    """The mean of values known in some places, weighted by a Gaussian around every place."""
    total, weight = np.zeros(where.shape), where.astype(float)
    total[where] = values
    total, weight = (gaussian_filter(a, radius, mode="constant") for a in (total, weight))
    return np.where(weight > 1e-9, total / np.maximum(weight, 1e-9), values.mean())


def _finish(known: OcclusionMap, used: np.ndarray, held_out: np.ndarray) -> tuple[float, list[str]]:
    """Fill in what was not computed, and compare the positions held out with the truth."""
    count = len(known.targets)
    guess = torch.full((count + len(known.channels), *used.shape), torch.nan)
    guess[:, ~used] = torch.from_numpy(_interpolate(known, used, ~used)).float()
    guess[:count].clamp_(0, 1)
    error, notes = 0.0, []
    if held_out.any():
        off = (guess[0] - known.probabilities[0])[held_out].abs()
        error = off.mean().item() * (1 - float(used.mean()))
        notes.append(
            f"at {len(off)} positions held out |Δp| {off.mean():.4f} on average, {off.max():.4f} at most"
        )
    guessed = ~known.computed
    known.probabilities[:, guessed] = guess[:count, guessed]
    known.activations[:, guessed] = guess[count:, guessed]
    nearest = distance_transform_edt(guessed.numpy(), return_distances=False, return_indices=True)
    known.predicted[guessed] = known.predicted[tuple(torch.from_numpy(nearest).long())][guessed]
    count = int(known.computed.sum())
    notes.append(f"{count:,} of {known.positions:,} positions computed, the others interpolated")
    return error, notes
