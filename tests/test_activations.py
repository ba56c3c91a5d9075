"""The measures of feature maps equal their closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lessons_lib.methods.activations import (
    likeness,
    neighbour_correlation,
    shuffled,
    spread,
)


def slow_moran(grid):
    """Moran's I as spatial statistics write it: N / W · Σ w_ij d_i d_j / Σ d_i²."""
    height, width = grid.shape
    apart = grid - grid.mean()
    total = weights = 0.0
    for i, j, k, m in itertools.product(range(height), range(width), range(height), range(width)):
        if abs(i - k) + abs(j - m) == 1:
            total += (apart[i, j] * apart[k, m]).item()
            weights += 1
    return grid.numel() / weights * total / apart.square().sum().item()


def slow_spread(grid):
    """Mean squared distance of activation from its centre, over an even map's."""

    def squared_distance(weights):
        rows, columns = np.indices(weights.shape)
        weights = weights / weights.sum()
        centre = (weights * rows).sum(), (weights * columns).sum()
        return (weights * ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2)).sum()

    return squared_distance(grid.numpy()) / squared_distance(np.ones(grid.shape))


@settings(deadline=None)
@given(st.integers(1, 5), st.integers(2, 5), st.integers(0, 10**6))
def test_neighbour_correlation_and_spread_equal_their_definitions(height, width, seed):
    maps = torch.rand(2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    for measured, slow in ((neighbour_correlation(maps), slow_moran), (spread(maps), slow_spread)):
        expected = [[slow(grid) for grid in channels] for channels in maps]
        torch.testing.assert_close(measured, torch.tensor(expected, dtype=torch.float64))


def test_neighbour_correlation_closed_forms():
    maps = torch.ones(1, 3, 4, 4)
    maps[0, 0] = (torch.arange(4)[:, None] + torch.arange(4)) % 2  # a chequerboard
    maps[0, 1, :, :2] = 0  # two halves: 4 of 24 pairs differ
    values = neighbour_correlation(maps)[0]
    assert values[:2].tolist() == pytest.approx([-1, (20 - 4) / 24])
    assert math.isnan(values[2]), "a flat map"


def test_spread_closed_forms():
    maps = torch.zeros(1, 4, 4, 4)
    maps[0, 0] = 3  # flat
    maps[0, 1, 2, 1] = 1e-30  # a single position
    maps[0, 2, 0, 0] = maps[0, 2, 3, 3] = 7  # opposite corners: 4.5 against 2.5
    values = spread(maps)[0]
    assert values[:3].tolist() == pytest.approx([1, 0, 4.5 / 2.5])
    assert math.isnan(values[3])


def test_shuffled_keeps_values_and_loses_places():
    maps = torch.zeros(50, 40, 8, 8)
    maps[..., 2:5, 1:4] = torch.rand(50, 40, 3, 3, generator=torch.Generator().manual_seed(0))
    mixed = shuffled(maps)
    assert torch.equal(mixed.flatten(2).sort(-1).values, maps.flatten(2).sort(-1).values)
    assert torch.equal(mixed, shuffled(maps))
    assert not torch.equal(mixed, shuffled(maps, seed=1))
    # the mean of Moran's I over all orders of 64 values is −1/63; 2,000 maps of at most a deviation of 0.1
    assert neighbour_correlation(mixed).mean().item() == pytest.approx(-1 / 63, abs=0.01)
    assert neighbour_correlation(maps).mean() > 0.2
    assert spread(maps).mean() < 0.5 * spread(mixed).mean()


def test_likeness_closed_forms():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8)
    luma = torch.tensor([0.299, 0.587, 0.114])
    grey = torch.einsum("nchw,c->nhw", images.float(), luma)
    small = nn.functional.avg_pool2d(grey[:, None], 2)[:, 0]
    maps = torch.stack([small, -2 * small + 300, torch.ones_like(small)], dim=1)
    values = likeness(maps, images)
    torch.testing.assert_close(values[:, :2], torch.ones(3, 2, dtype=torch.float64), atol=1e-6, rtol=0)
    assert values[:, 2].isnan().all()
    noise = torch.randn(3, 1, 8, 8)
    expected = [
        abs(torch.corrcoef(torch.stack([noise[i, 0].flatten(), grey[i].flatten()]))[0, 1]) for i in range(3)
    ]
    assert likeness(noise, images)[:, 0].tolist() == pytest.approx([e.item() for e in expected], abs=1e-5)


@pytest.mark.parametrize("function", [neighbour_correlation, spread, shuffled])
@pytest.mark.parametrize(
    "maps", [torch.zeros(3, 4), torch.zeros(0, 1, 2, 2), torch.full((1, 1, 2, 2), torch.nan)]
)
def test_measures_refuse_bad_maps(function, maps):
    with pytest.raises(ValueError, match="feature maps"):
        function(maps)


def test_spread_needs_positions_and_a_relu():
    with pytest.raises(ValueError, match="two positions"):
        spread(torch.ones(1, 1, 1, 1))
    with pytest.raises(ValueError, match="ReLU"):
        spread(torch.tensor([[[[-1.0, 2.0]]]]))


def test_likeness_needs_as_many_pictures():
    with pytest.raises(ValueError, match=r"\(2, 3, H, W\)"):
        likeness(torch.ones(2, 1, 4, 4), torch.zeros(3, 3, 8, 8))
