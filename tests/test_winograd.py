"""Winograd's way against the convolution itself, the paper's matrices, and where it must not be used."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lessons_lib.incremental.winograd import Winograd, Workspace, matrices, provides
from lessons_lib.methods.occlusion import Occluder
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


def exact(maps, weight, bias, padding):
    """The convolution in float64."""
    return F.conv2d(maps.double(), weight.double(), None if bias is None else bias.double(), padding=padding)


def allowed(maps, weight, bias, padding, transforms):
    """How far Winograd's way may be from the exact result, number by number.

    Each result is at most √n · λ · u away from the truth, times what the same sums give of absolute values (Higham &
    Mary, "A New Approach to Probabilistic Rounding Error Analysis", 2019, theorem 2.4; with n in place of λ√n it is
    the classical bound that always holds, and that only far greater mistakes would break). u is float32's unit
    roundoff and n the most roundings on the way to a result: 6 in each of two sums for the input and for the result,
    1 in the filter, which is transformed in float64, 1 in the bias, and one for each channel. With λ = 8 the chance
    that any of a hundred thousand results is further off is about 1e-6.
    """
    results, filters, inputs = (matrix.abs() for matrix in transforms)
    height, width = (size + 2 * pad - 2 for size, pad in zip(maps.shape[2:], padding, strict=True))
    down, across = -(-height // 4), -(-width // 4)
    right, below = 4 * across + 2 - maps.shape[3] - padding[1], 4 * down + 2 - maps.shape[2] - padding[0]
    pixels = (
        F.pad(maps.double().abs(), (padding[1], right, padding[0], below)).unfold(2, 6, 4).unfold(3, 6, 4)
    )
    read = torch.einsum("ai,nctuij,bj->nctuab", inputs, pixels, inputs)
    kernels = torch.einsum("ai,fcij,bj->fcab", filters, weight.double().abs(), filters)
    products = torch.einsum("nctuab,fcab->nftuab", read, kernels)
    sums = torch.einsum("ra,nftuab,sb->nftrus", results, products, results)
    sums = sums.reshape(len(maps), len(weight), 4 * down, 4 * across)[..., :height, :width]
    if bias is not None:
        sums = sums + bias.double().abs()[:, None, None]
    return 8 * (maps.shape[1] + 26) ** 0.5 * torch.finfo(torch.float32).eps / 2 * sums


def off(found, maps, weight, bias, padding):
    """The largest error, in what is allowed."""
    limit = allowed(maps, weight, bias, padding, matrices())
    error = (found - exact(maps, weight, bias, padding)).abs()
    return float((error / limit.clamp(min=1e-300)).max())


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
    for before in (
        maps,
        maps.contiguous(memory_format=torch.channels_last),
        F.pad(maps, (1, 2, 0, 1))[..., :-1, 1:-2],
    ):
        assert off(quick(before, (above, left)), maps, weight, bias if biased else None, (above, left)) <= 1


@pytest.mark.parametrize(("channels", "size"), [(512, 7), (256, 14), (128, 20)])
def test_loses_no_more_than_float32_explains(channels, size):
    request = *layer(channels, channels, (size, size)), (1, 1)
    maps, weight, bias, padding = request
    quick = Winograd(weight, bias, Workspace())
    assert off(quick(maps, padding), *request) <= 1
    quick.filters = quick.filters.bfloat16().float()
    assert off(quick(maps, padding), *request) > 1, (
        "a bound that filters in bfloat16 keep would prove nothing"
    )


def test_the_papers_points_may_lose_more():
    request = *layer(16, 16, (16, 16)), (1, 1)
    ours, theirs = (allowed(*request, transforms) for transforms in (matrices(), matrices((0, 1, -1, 2, -2))))
    assert theirs.mean() > 1.1 * ours.mean()


def test_convolutions_share_a_workspace():
    workspace = Workspace()
    layers = [layer(*shape) for shape in [(3, 4, (5, 6)), (8, 9, (12, 11)), (2, 2, (3, 3))]]
    quick = [Winograd(weight, bias, workspace) for _, weight, bias in layers]
    with torch.inference_mode():
        found = [convolve(maps, (1, 1)) for convolve, (maps, *_) in zip(quick, layers, strict=True)]
    found.append(quick[1](layers[1][0], (1, 1)))  # outside that mode too
    for result, request in zip(found, [*layers, layers[1]], strict=True):
        assert off(result, *request, (1, 1)) <= 1


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


def test_an_occluder_that_uses_it_stays_exact(monkeypatch):
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
    Occluder(model, image)(boxes, blank)
    assert not used, "nobody asked for it"
    occluder = Occluder(model, image, winograd=True)
    assert occluder.plan.winograd == 9, (
        "three in each of the last three stages: the first of each has a stride"
    )
    occluder.plan.many = True
    found, _ = occluder(boxes, blank)
    assert set(used) == {128, 256, 512}
    expected, _ = Occluder(model.double(), image.double(), incremental=False)(boxes, blank)
    assert expected.std(dim=0).max() > 1e-3
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=0)
