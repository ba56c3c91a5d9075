"""The measures of feature maps equal their closed forms."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lessons_lib.methods.activations import dead_channels, likeness, localisation, measure, sparsity


def test_sparsity_counts_zeros():
    maps = torch.zeros(2, 3, 2, 2)
    maps[:, 1] = 1
    maps[0, 2] = 5
    assert sparsity(maps).tolist() == [1, 0, 0.5]
    assert dead_channels(maps).tolist() == [True, False, False]


def test_localisation_closed_forms():
    maps = torch.zeros(1, 4, 4, 4)
    maps[0, 0] = 3  # flat
    maps[0, 1, 2, 1] = 0.1  # a single position
    maps[0, 2, :, :2] = 7  # half the positions: (1 - 1/2) / (1 - 1/16)
    values = localisation(maps)[0]
    assert values[:3].tolist() == pytest.approx([0, 1, 0.5 / (15 / 16)])
    assert math.isnan(values[3])


@given(st.integers(2, 30), st.integers(1, 30), st.floats(1e-30, 1e30))
def test_localisation_of_k_equal_positions_does_not_depend_on_scale(n, k, value):
    k = min(k, n)
    maps = torch.zeros(1, 1, 1, n, dtype=torch.float64)
    maps[..., :k] = value
    assert localisation(maps).item() == pytest.approx((1 - k / n) / (1 - 1 / n), abs=1e-9)


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


def test_measure_is_the_mean_of_the_parts():
    torch.manual_seed(1)
    maps, images = torch.randn(6, 5, 4, 4).relu(), torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    maps[:, 2] = 0
    result = measure(maps, images)
    assert result.dead == pytest.approx(0.2)
    assert result.sparsity == pytest.approx((maps == 0).float().mean().item())
    assert result.localisation == pytest.approx(localisation(maps).nanmean().item())
    assert result.likeness == pytest.approx(likeness(maps, images).nanmean().item())


@pytest.mark.parametrize("function", [sparsity, localisation, dead_channels])
@pytest.mark.parametrize(
    "maps", [torch.zeros(3, 4), torch.zeros(0, 1, 2, 2), torch.full((1, 1, 2, 2), torch.nan)]
)
def test_measures_refuse_bad_maps(function, maps):
    with pytest.raises(ValueError, match="feature maps"):
        function(maps)


def test_localisation_needs_positions_and_a_relu():
    with pytest.raises(ValueError, match="two positions"):
        localisation(torch.ones(1, 1, 1, 1))
    with pytest.raises(ValueError, match="ReLU"):
        localisation(torch.tensor([[[[-1.0, 2.0]]]]))


def test_likeness_needs_as_many_pictures():
    with pytest.raises(ValueError, match="need 2 pictures"):
        likeness(torch.ones(2, 1, 4, 4), torch.zeros(3, 3, 8, 8))
