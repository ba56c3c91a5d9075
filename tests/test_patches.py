"""Top activations equal a brute-force sort, crops show exactly the field, and dissection equals slow counting."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lessons_lib.data.pictures import to_input
from lessons_lib.methods.patches import (
    GREY,
    Dissection,
    UnitMasks,
    crop,
    crops,
    dissect,
    levels,
    top_activations,
    unit_mask,
    upsample_by_field,
)
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.models.small_cnn import BLOCKS, SmallCNN
from lessons_lib.networks import capture
from tests.test_hooks import hook_count


def some_pictures(count, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def network(seed=0):
    torch.manual_seed(seed)
    return SmallCNN()


def brute_force(maps, k, per_picture):
    """Sort every activation of every channel, the greatest first, equals by picture, row and column."""
    count, channels, height, width = maps.shape
    found = []
    for channel in range(channels):
        places = [
            (-maps[i, channel, y, x].item(), i, y, x)
            for i in range(count)
            for y in range(height)
            for x in range(width)
        ]
        best = []
        for value, *place in sorted(places):
            if not per_picture or place[0] not in [picture for _, picture, _, _ in best]:
                best.append((-value, *place))
            if len(best) == k:
                break
        found.append(best)
    values, picture, row, column = np.array(found).transpose(2, 0, 1)
    return values, picture, row, column


def assert_same(top, expected):
    for ours, theirs in zip((top.values, top.picture, top.row, top.column), expected, strict=True):
        assert np.array_equal(ours.numpy(), theirs)


@pytest.mark.parametrize("per_picture", [True, False])
@pytest.mark.parametrize("layer", ["block3", "block5"])
def test_top_activations_equal_a_brute_force_sort(layer, per_picture):
    model, images = network().double(), some_pictures(23)
    maps = capture(model, to_input(images).double(), [layer])[layer][:, ::16]
    top = top_activations(
        model,
        images,
        layer,
        5,
        transform=lambda batch: to_input(batch).double(),
        batch_size=4,
        per_picture=per_picture,
    )
    top = replace(top, **{name: getattr(top, name)[::16] for name in ("values", "picture", "row", "column")})
    picked = maps.permute(1, 0, 2, 3)[
        torch.arange(len(top.values))[:, None], top.picture, top.row, top.column
    ]
    torch.testing.assert_close(top.values, picked, atol=1e-12, rtol=0)
    assert_same(top, (top.values, *brute_force(maps, 5, per_picture)[1:]))


class Levels(nn.Module):
    """The red channel and its negative, in few whole levels: ties everywhere."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(torch.cat([x[:, :1], -x[:, :1]], dim=1))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 6),
    st.booleans(),
    st.integers(0, 999),
)
def test_ties_go_to_the_lowest_index_for_every_batch_size(count, k, height, width, batch, per_picture, seed):
    k = min(k, count)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 3, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    top = top_activations(
        Levels(),
        images,
        "layer",
        k,
        transform=torch.Tensor.float,
        batch_size=batch,
        per_picture=per_picture,
    )
    maps = torch.cat([images[:, :1], -images[:, :1].int()], dim=1).float()
    assert_same(top, brute_force(maps, k, per_picture))


def test_minus_infinity_counts_as_the_least():
    class Least(nn.Module):
        def forward(self, x):
            return torch.full_like(x, -torch.inf)

    top = top_activations(nn.Sequential(Least()), some_pictures(3, 2), "0", 3, batch_size=1)
    assert top.picture[0].tolist() == [0, 1, 2]


class LiveBytes(TorchDispatchMode):
    """Counts the memory of the tensors made while it is active."""

    def __init__(self):
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.known and not any(a is tensor for a in args):
                    self.known.add(key)
                    self.live += storage.nbytes()
                    weakref.finalize(tensor, self.release, key, storage.nbytes())
        self.peak = max(self.peak, self.live)
        return result

    def release(self, key, size):
        if key in self.known:
            self.known.discard(key)
            self.live -= size


@pytest.mark.parametrize("per_picture", [True, False])
def test_memory_does_not_grow_with_the_data_set(per_picture):
    model, images = network(), some_pictures(80)
    peaks = []
    for count in (20, 80):
        gc.collect()
        with LiveBytes() as memory:
            top_activations(model, images[:count], "block3", 3, batch_size=10, per_picture=per_picture)
        peaks.append(memory.peak)
    assert peaks[0] > 10 * 128 * 64 * 4, "a batch of the layer's maps was held"
    assert peaks[1] <= 1.05 * peaks[0]


def test_a_picture_appears_once_or_as_often_as_it_likes():
    images = torch.zeros(4, 3, 6, 6, dtype=torch.uint8)
    images[2, 0, 1, 4], images[2, 0, 1, 5], images[1, 0, 0, 0] = 9, 8, 7
    once = top_activations(Levels(), images, "layer", 3, transform=torch.Tensor.float)
    assert once.picture[0].tolist() == [2, 1, 0]
    assert (once.row[0, 0], once.column[0, 0], once.values[0, 0]) == (1, 4, 9)
    often = top_activations(Levels(), images, "layer", 3, transform=torch.Tensor.float, per_picture=False)
    assert often.picture[0].tolist() == [2, 2, 1]
    assert often.values[0].tolist() == [9, 8, 7]


def test_the_model_is_left_as_it_was():
    model = network()
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    model.block2.eval()
    flags = [module.training for module in model.modules()]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    top_activations(model, some_pictures(4), "block4", 2)
    with pytest.raises(ValueError, match="pictures of 32×32"):
        top_activations(model, some_pictures(4, 16), "block4", 2)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert hook_count(model) == 0


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"images": torch.zeros(4, 3, 32, 32)}, TypeError, "uint8"),
        ({"images": some_pictures(4)[:0]}, ValueError, "not be empty"),
        ({"images": some_pictures(4)[0]}, ValueError, r"\(N, 3, H, W\)"),
        ({"layer": "blok4"}, ValueError, "Did you mean 'block4'"),
        ({"layer": "classifier"}, ValueError, "feature maps"),
        ({"k": 0}, ValueError, "at least 1"),
        ({"k": 5}, ValueError, "only 4 pictures"),
        ({"k": 65, "per_picture": False}, ValueError, "only 64 positions"),
        ({"transform": lambda x: to_input(x) * torch.nan}, ValueError, "NaN"),
    ],
)
def test_top_activations_refuse_bad_input(change, error, text):
    arguments = {"images": some_pictures(4), "layer": "block4", "k": 2} | change
    with pytest.raises(error, match=text):
        top_activations(network(), **arguments)


@pytest.fixture(scope="module")
def layers():
    return receptive_fields(SmallCNN(), 32, BLOCKS)


def test_a_crop_in_the_middle_is_the_field(layers):
    image = some_pictures(1)[0]
    patch = crop(image, layers["block2"], 8, 5)
    box = layers["block2"].box(8, 5)
    assert patch.shape == (3, 8, 8)
    assert torch.equal(patch, image[:, box.top : box.bottom, box.left : box.right])


def test_a_crop_at_the_border_is_grey_where_there_is_no_picture(layers):
    image = some_pictures(1)[0].clamp(max=100)
    patch = crop(
        image, layers["block2"], 0, 15
    )  # the field begins 3 above and ends 3 to the right of the picture
    assert patch.shape == (3, 8, 8)
    assert torch.equal(patch[:, 3:, :5], image[:, :5, -5:])
    assert (patch[:, :3] == GREY).all() and (patch[:, :, 5:] == GREY).all()
    white = crop(image, layers["block2"], 0, 15, fill=255)
    assert torch.equal(white == 255, patch == GREY) and torch.equal(white[:, 3:, :5], patch[:, 3:, :5])


def test_a_field_larger_than_the_picture_greys_what_it_does_not_reach():
    field = receptive_fields(nn.Sequential(nn.Conv2d(3, 1, 11, padding=10)), 9, ["0"])["0"]
    image = some_pictures(1, 9)[0].clamp(max=100)
    corner = crop(image, field, 0, 18)  # sees the top right pixel only
    assert corner.shape == image.shape
    assert torch.equal(corner[:, 0, 8], image[:, 0, 8])
    assert (corner == GREY).sum() == 3 * 80
    assert torch.equal(crop(image, field, 9, 9), image)


def test_only_the_crop_decides_the_activation(layers):
    """Cut the patch out and run the layers on it alone: the unit answers as in the whole picture."""
    model, images = network().eval(), some_pictures(40)
    body = nn.Sequential(*[model.get_submodule(name) for name in BLOCKS[:3]])
    top = top_activations(model, images, "block3", 1)
    inner = [
        c for c in range(128) if layers["block3"].box(int(top.row[c, 0]), int(top.column[c, 0])).height == 18
    ]
    inner = [c for c in inner if layers["block3"].box(int(top.row[c, 0]), int(top.column[c, 0])).width == 18]
    assert len(inner) > 10
    channel = inner[0]
    patch = crops(images, top, channel, layers["block3"])
    assert patch.shape == (1, 3, 18, 18)
    # put it at the same place of an otherwise random picture: nothing else counts
    other = some_pictures(1, seed=9)
    box = layers["block3"].box(int(top.row[channel, 0]), int(top.column[channel, 0]))
    other[0, :, box.top : box.bottom, box.left : box.right] = patch[0]
    with torch.no_grad():
        again = body(to_input(other))[0, channel, top.row[channel, 0], top.column[channel, 0]]
    torch.testing.assert_close(again, top.values[channel, 0], atol=1e-5, rtol=1e-4)


def test_crops_refuse_bad_input(layers):
    images, field = some_pictures(4), layers["block2"]
    top = top_activations(network(), images, "block2", 2)
    assert crops(images, top, 3, field).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="0–63"):
        crops(images, top, 64, field)
    with pytest.raises(ValueError, match="number of pictures"):
        crops(images[:1], top, 0, field) if int(top.picture[0].max()) else crops(images[:0], top, 0, field)
    with pytest.raises(ValueError, match=r"\(3, 32, 32\)"):
        crop(some_pictures(1, 16)[0], field, 0, 0)
    with pytest.raises(ValueError, match="row must be in 0–15"):
        crop(images[0], field, 16, 0)
    with pytest.raises(TypeError, match="uint8"):
        crop(images[0].float(), field, 0, 0)


def test_enlarging_puts_each_unit_at_the_centre_of_its_field():
    model = nn.Sequential(nn.ZeroPad2d((0, 2, 0, 2)), nn.Conv2d(3, 1, 5, stride=3))
    field = receptive_fields(model, 20, ["1"])["1"]
    maps = torch.randn(2, 3, len(field.rows), len(field.columns))
    large = upsample_by_field(maps, field)
    assert large.shape == (2, 3, 20, 20)
    for row in range(maps.shape[2]):
        for column in range(maps.shape[3]):
            window = field.window(row, column)
            y, x = window.top + 2, window.left + 2  # the middle pixel of five
            if y < 20 and x < 20:
                torch.testing.assert_close(large[:, :, y, x], maps[:, :, row, column])
    torch.testing.assert_close(large[:, :, 0, 0], maps[:, :, 0, 0])
    torch.testing.assert_close(large[:, :, 2, 3], maps[:, :, 0, 0] * 2 / 3 + maps[:, :, 0, 1] / 3)


def test_enlarging_is_plain_resizing_where_padding_is_symmetric(layers):
    maps = torch.randn(2, 5, 8, 8)
    plain = F.interpolate(maps, size=(32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample_by_field(maps, layers["block3"]), plain)
    with pytest.raises(ValueError, match=r"\(N, C, 8, 8\)"):
        upsample_by_field(torch.randn(2, 5, 4, 4), layers["block3"])


def test_one_position_fills_the_picture():
    field = receptive_fields(nn.Sequential(nn.AdaptiveAvgPool2d(1)), 6, ["0"])["0"]
    assert (upsample_by_field(torch.full((1, 1, 1, 1), 3.0), field) == 3).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.floats(0.01, 0.99), st.booleans(), st.integers(0, 99))
def test_levels_leave_at_most_the_quantile_above(count, side, quantile, ties, seed):
    maps = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(seed))
    if ties:
        maps = maps.round()
    level = levels(maps, quantile)
    allowed = quantile * count * side * side
    by_channel = maps.transpose(0, 1).flatten(1)
    assert ((by_channel > level[:, None]).sum(1) <= allowed).all()
    assert ((by_channel >= level[:, None]).sum(1).double() > allowed - 1e-9).all(), (
        "and no lower level would do"
    )


@pytest.mark.parametrize(
    ("maps", "quantile", "text"),
    [
        (torch.zeros(2, 3, 4), 0.1, "feature maps"),
        (torch.zeros(0, 3, 4, 4), 0.1, "feature maps"),
        (torch.full((1, 1, 2, 2), torch.nan), 0.1, "NaN"),
        (torch.zeros(1, 1, 2, 2), 0.0, "between 0 and 1"),
        (torch.zeros(1, 1, 2, 2), 1.0, "between 0 and 1"),
    ],
)
def test_levels_refuse_bad_input(maps, quantile, text):
    with pytest.raises(ValueError, match=text):
        levels(maps, quantile)


@pytest.fixture
def scene(layers):
    """Twelve pictures with two overlapping parts; channel 0 marks the first part, 3 is silent, the rest is noise."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(0, 6, (12, 2), generator=generator)
    masks = torch.zeros(12, 2, 32, 32, dtype=torch.bool)
    maps = 0.1 * torch.rand(12, 4, 8, 8, generator=generator)
    maps[:, 3] = 0
    for i, (y, x) in enumerate(corner.tolist()):
        masks[i, 0, 4 * y : 4 * y + 8, 4 * x : 4 * x + 8] = True
        masks[i, 1, 4 * y : 4 * y + 8, 16:] = True
        maps[i, 0, y : y + 2, x : x + 2] = 1 + torch.rand(2, 2, generator=generator)
    return maps, layers["block3"], masks


def slow_overlap(maps, masks, quantile):
    """Intersection over union, counted pixel by pixel with torch's own resizing."""
    level = levels(maps, quantile)
    table = torch.zeros(maps.shape[1], masks.shape[1], dtype=torch.float64)
    for c in range(maps.shape[1]):
        marked = F.interpolate(maps, size=masks.shape[2:], mode="bilinear")[:, c] > level[c]
        for p in range(masks.shape[1]):
            both = (marked & masks[:, p]).sum().item()
            either = (marked | masks[:, p]).sum().item()
            table[c, p] = both / max(either, 1)
    return table


def test_overlap_equals_slow_counting(scene, monkeypatch):
    maps, field, masks = scene
    expected = slow_overlap(maps, masks, 0.06)
    units = UnitMasks(maps, field, 0.06)
    torch.testing.assert_close(units.overlap(masks), expected, atol=1e-12, rtol=0)
    assert expected[3].tolist() == [0, 0]
    assert units.overlap(torch.zeros_like(masks))[3].tolist() == [0, 0], "both empty"


def test_overlap_does_not_depend_on_how_many_pictures_are_enlarged_at_once(scene):
    maps, field, masks = scene
    many = maps.repeat(1, 512, 1, 1)  # so many channels that the pictures are taken a few at a time
    assert torch.equal(
        UnitMasks(many, field, 0.06).overlap(masks)[:4], UnitMasks(maps, field, 0.06).overlap(masks)
    )


def test_the_part_detector_is_found_and_noise_is_not(scene):
    maps, field, masks = scene
    found = dissect(maps, field, masks, ["spot", "stripe"], quantile=0.06)
    assert found.part.tolist() == [0, -1, -1, -1]
    assert found.detectors == {"spot": 1, "stripe": 0}
    again = dissect(maps, field, masks, ["spot", "stripe"], quantile=0.06)
    assert torch.equal(found.bar, again.bar), "chance is seeded"


def test_chance_is_the_greatest_overlap_with_masks_of_other_pictures(scene):
    maps, field, masks = scene
    units = UnitMasks(maps, field, 0.06)
    reached = units.chance(masks, shuffles=5, seed=3)
    generator, best = np.random.default_rng(3), torch.zeros(2, dtype=torch.float64)
    for _ in range(5):
        cycle = generator.permutation(12)
        dealt = masks.clone()
        for place, source in zip(cycle, np.roll(cycle, 1), strict=True):
            assert place != source
            dealt[place] = masks[source]
        best = torch.maximum(best, slow_overlap(maps, dealt, 0.06).amax(0))
    torch.testing.assert_close(reached, best, atol=1e-12, rtol=0)
    assert (units.chance(masks, 50) >= units.chance(masks, 5)).all()


def test_noise_rarely_beats_chance(layers):
    """Under the null hypothesis a family of channels passes the bar about once in (shuffles + 1)."""
    generator = torch.Generator().manual_seed(1)
    passed = 0
    for trial in range(40):
        maps = torch.rand(6, 5, 4, 4, generator=generator)
        masks = torch.rand(6, 1, 32, 32, generator=generator) < 0.1
        units = UnitMasks(maps, layers["block4"], 0.1)
        passed += bool((units.overlap(masks) > units.chance(masks, 9, seed=trial)).any())
    assert 1 <= passed <= 10  # 4 expected; binomial(40, 0.1) lies outside once in 60 trials


def test_a_channel_gets_the_part_it_covers_best_of_those_it_beats_chance_on():
    overlap = torch.tensor([[0.3, 0.2], [0.3, 0.5], [0.1, 0.1], [0.0, 0.0]])
    found = Dissection(("a", "b"), overlap, torch.tensor([0.4, 0.15]))
    assert found.part.tolist() == [1, 1, -1, -1]
    assert found.detectors == {"a": 0, "b": 2}


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"masks": torch.zeros(12, 2, 32, 32)}, TypeError, "bool"),
        ({"masks": torch.zeros(11, 2, 32, 32, dtype=torch.bool)}, ValueError, r"\(12, P, 32, 32\)"),
        ({"masks": torch.zeros(12, 2, 16, 16, dtype=torch.bool)}, ValueError, r"\(12, P, 32, 32\)"),
        ({"masks": torch.zeros(12, 3, 32, 32, dtype=torch.bool)}, ValueError, "masks of these parts"),
        ({"parts": ["spot"]}, ValueError, "masks of these parts"),
        ({"quantile": 2.0}, ValueError, "between 0 and 1"),
        ({"shuffles": 0}, ValueError, "shuffles must be at least 1"),
        (
            {"masks": torch.zeros(12, 13, 32, 32, dtype=torch.bool), "parts": list("abcdefghijklm")},
            ValueError,
            "number of parts must be in 1–12",
        ),
    ],
)
def test_dissection_refuses_bad_input(scene, change, error, text):
    maps, field, masks = scene
    arguments = {"masks": masks, "parts": ["spot", "stripe"]} | change
    with pytest.raises(error, match=text):
        dissect(maps, field, **arguments)


def test_unit_mask_is_the_dissected_mask(scene):
    maps, field, _ = scene
    marked = unit_mask(maps, field, 0, 0.06)
    expected = F.interpolate(maps, size=(32, 32), mode="bilinear")[:, 0] > levels(maps, 0.06)[0]
    assert torch.equal(marked, expected)
    assert UnitMasks(maps, field, 0.06).overlap(marked[:, None])[0, 0] == 1
    with pytest.raises(ValueError, match="0–3"):
        unit_mask(maps, field, 4, 0.06)
