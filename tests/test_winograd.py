"""Winograd's way against the convolution itself, the paper's matrices, and where it must not be used."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lessons_lib.methods.occlusion import Occluder, winograd
from lessons_lib.methods.occlusion.winograd import Winograd, Workspace, matrices, provides
from tests.test_occlusion import picture, resnet18, scrambled

PAPER = [  # Bᵀ of F(4×4, 3×3), Lavin & Gray, section 4.3
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]


def layer(channels: int, filters: int, size: tuple[int, int], pictures: int = 3):
    torch.manual_seed(0)
    maps = torch.randn(pictures, channels, *size).relu()
    return maps, torch.randn(filters, channels, 3, 3), torch.randn(filters)


def test_the_matrices_are_the_papers_and_give_the_convolution():
    assert matrices((0, 1, -1, 2, -2))[2].tolist() == PAPER
    results, filters, inputs = matrices()
    torch.manual_seed(0)
    line, kernel = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    found = results @ ((filters @ kernel) * (inputs @ line))
    torch.testing.assert_close(found, F.conv1d(line[None, None], kernel[None, None])[0, 0])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 14),
    st.integers(1, 14),
    st.integers(0, 2),
    st.integers(0, 2),
    st.booleans(),
    st.integers(1, 40),
)
def test_is_the_convolution(height, width, above, left, biased, pictures):
    assume(min(height + 2 * above, width + 2 * left) >= 3)
    maps, weight, bias = layer(5, 7, (height, width), pictures)
    quick = Winograd(weight, bias if biased else None, Workspace())
    expected = F.conv2d(maps, weight, bias if biased else None, padding=(above, left))
    for before in (
        maps,
        maps.contiguous(memory_format=torch.channels_last),
        F.pad(maps, (1, 2, 0, 1))[..., :-1, 1:-2],
    ):
        torch.testing.assert_close(quick(before, (above, left)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("channels", "size"), [(512, 7), (256, 14), (128, 20)])
def test_loses_little_more_than_float32_does_anyway(channels, size):
    maps, weight, bias = layer(channels, channels, (size, size))
    true = F.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    quick, own = Winograd(weight, bias, Workspace())(maps, (1, 1)), F.conv2d(maps, weight, bias, padding=1)
    assert (quick - true).std() < 4 * (own - true).std()
    assert (quick - true).abs().max() < 3e-5 * true.std()


def test_the_papers_points_lose_more(monkeypatch):
    maps, weight, bias = layer(256, 256, (14, 14))
    true = F.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    ours = Winograd(weight, bias, Workspace())(maps, (1, 1))
    monkeypatch.setattr(winograd, "matrices", partial(matrices, (0, 1, -1, 2, -2)))
    theirs = Winograd(weight, bias, Workspace())(maps, (1, 1))
    torch.testing.assert_close(theirs, true.float(), rtol=1e-3, atol=1e-2)
    assert (theirs - true).std() > 1.1 * (ours - true).std()


def test_convolutions_share_a_workspace():
    workspace = Workspace()
    layers = [layer(*shape) for shape in [(3, 4, (5, 6)), (8, 9, (12, 11)), (2, 2, (3, 3))]]
    quick = [Winograd(weight, bias, workspace) for _, weight, bias in layers]
    with torch.inference_mode():
        found = [convolve(maps, (1, 1)) for convolve, (maps, *_) in zip(quick, layers, strict=True)]
    found.append(quick[1](layers[1][0], (1, 1)))  # outside that mode too
    for result, (maps, weight, bias) in zip(found, [*layers, layers[1]], strict=True):
        torch.testing.assert_close(result, F.conv2d(maps, weight, bias, padding=1), rtol=1e-4, atol=1e-4)


OTHERS = {
    "float64": {"weight": torch.zeros(128, 128, 3, 3, dtype=torch.float64)},
    "another device": {"weight": torch.zeros(128, 128, 3, 3, device="meta")},
    "1×1": {"weight": torch.zeros(128, 128, 1, 1)},
    "few channels": {"weight": torch.zeros(128, 64, 3, 3)},
    "stride": {"stride": (2, 2)},
    "dilation": {"dilation": (1, 2)},
    "groups": {"groups": 2},
}


@pytest.mark.parametrize("other", OTHERS)
def test_is_not_made_for_everything(other):
    known = {"weight": torch.zeros(128, 128, 3, 3), "stride": (1, 1), "dilation": (1, 1), "groups": 1}
    assert provides(**known)
    assert not provides(**known | OTHERS[other])


def test_does_not_pay_for_few_tiles_or_for_overhang():
    assert Winograd.pays(torch.empty(8, 1, 7, 7), (1, 1))
    assert not Winograd.pays(torch.empty(7, 1, 7, 7), (1, 1))  # 28 tiles
    assert not Winograd.pays(torch.empty(99, 1, 5, 5), (1, 1))  # 4 tiles for 25 results
    assert not Winograd.pays(torch.empty(99, 1, 2, 2), (1, 1))


def test_exact_occlusion_uses_it_and_stays_exact(monkeypatch):
    used = []
    way = Winograd.__call__
    monkeypatch.setattr(
        Winograd, "__call__", lambda self, maps, *a: used.append(maps.shape[1]) or way(self, maps, *a)
    )
    torch.manual_seed(0)
    image = picture(224, 224, torch.float32)
    model = scrambled(resnet18(), image)
    blank = torch.zeros_like(image)
    corners = torch.cartesian_prod(torch.arange(90, 98, 2), torch.arange(0, 40, 5))
    boxes = torch.cat([corners, corners + 32], 1)
    occluder = Occluder(model, image)
    occluder(boxes, blank)
    assert not used, "for a few positions it is not worth transforming the filters"
    occluder.plan.many = True
    found, _ = occluder(boxes, blank)
    assert set(used) == {128, 256, 512}
    expected, _ = Occluder(model, image, incremental=False)(boxes, blank)
    assert expected.std(dim=0).max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
