"""Figures of class activation maps show the right pixels, numbers and titles."""

import numpy as np
import pytest
import torch

from lessons_lib.plots.cam import blend, evidence_maps, explain, gallery, of_classes
from tests.figures import drawn

pytestmark = pytest.mark.usefixtures("no_open_figures")

PICTURES = torch.randint(
    0, 256, (6, 3, 24, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


def test_blend_is_red_for_blue_against_and_grey_where_there_is_no_evidence():
    evidence = torch.zeros(4, 4)
    evidence[0, 0], evidence[3, 3] = 2.0, -2.0
    picture = torch.full((3, 40, 40), 128, dtype=torch.uint8)
    mixed = blend(picture, evidence, strength=1)
    assert mixed.shape == (40, 40, 3)
    assert mixed[0, 0, 0] > mixed[0, 0, 2] + 0.2, "red where it speaks for the class"
    assert mixed[-1, -1, 2] > mixed[-1, -1, 0] + 0.2, "blue where it speaks against it"
    middle = mixed[20, 20]
    assert np.allclose(middle, 128 / 255, atol=1e-6)
    assert np.allclose(blend(picture, evidence, strength=0), 128 / 255)
    weaker = blend(picture, evidence, strength=1, limit=20.0)
    assert abs(weaker[0, 0, 0] - weaker[0, 0, 2]) < abs(mixed[0, 0, 0] - mixed[0, 0, 2])
    assert 0 <= mixed.min() <= mixed.max() <= 1


def test_blend_keeps_the_picture_in_grey():
    mixed = blend(PICTURES[0], torch.zeros(3, 3))
    luma = torch.einsum("chw,c->hw", PICTURES[0].double(), torch.tensor([0.299, 0.587, 0.114]).double()) / 255
    assert np.allclose(mixed, luma[..., None].numpy(), atol=1e-6)


def test_blend_refuses_a_map_with_nan():
    with pytest.raises(ValueError, match="NaN"):
        blend(PICTURES[0], torch.full((3, 3), torch.nan))


def test_evidence_maps_share_a_scale_and_write_small_numbers():
    maps = torch.stack([torch.arange(9.0).view(3, 3) - 4, torch.zeros(3, 3)])
    figure = evidence_maps(PICTURES[0], maps, ("cat", "dog"))
    picture, cat, dog, _ = figure.axes
    assert picture.get_title() == "picture, 24×30"
    for axis, values in ((cat, maps[0]), (dog, maps[1])):
        shown = axis.images[0]
        assert np.array_equal(shown.get_array(), values)
        assert shown.get_clim() == (-4, 4)
        assert [text.get_text() for text in axis.texts] == [f"{v:.1f}" for v in values.flatten().tolist()]
    assert [axis.get_title() for axis in (cat, dog)] == ["cat", "dog"]
    drawn(figure)
    assert not evidence_maps(PICTURES[0], torch.randn(1, 16, 16), ("cat",)).axes[1].texts


def test_of_classes_lays_each_map_over_the_picture():
    maps = torch.randn(2, 4, 5)
    figure = of_classes(PICTURES[1], maps, ("cat 0.9", "dog 0.1"), first="both")
    picture, *overlays, _ = figure.axes
    assert picture.get_title() == "both"
    limit = maps.abs().max().item()
    for axis, values, title in zip(overlays, maps, ("cat 0.9", "dog 0.1"), strict=True):
        assert np.allclose(axis.images[0].get_array(), blend(PICTURES[1], values, limit=limit))
        assert axis.get_title() == title
    drawn(figure)


def test_gallery_has_a_picture_for_each_title():
    maps, titles = torch.randn(6, 3, 3), [f"picture {i}\nsure" for i in range(6)]
    figure = gallery(PICTURES, maps, titles, columns=4, size=1.75)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == titles
    limit = maps.abs().max().item()
    for axis, picture, values in zip(shown, PICTURES, maps, strict=True):
        assert np.allclose(axis.images[0].get_array(), blend(picture, values, limit=limit)), "one scale"
    assert figure.axes[-1].get_ylim() == pytest.approx((-limit, limit))
    assert figure.axes[-1].get_ylabel() == "evidence (logits)"
    assert gallery(PICTURES, maps.abs(), titles, columns=4, size=1).axes[-1].get_ylim() == pytest.approx(
        (0, limit)
    )
    drawn(figure)
    with pytest.raises(ValueError, match="shorter"):
        gallery(PICTURES, maps[:5], titles, columns=4, size=1)
    with pytest.raises(ValueError, match="6 titles, not 5"):
        gallery(PICTURES, maps, titles[:5], columns=4, size=1)


def test_explain_keeps_what_is_above_the_threshold():
    evidence = torch.tensor([[4.0, 0.0], [0.0, -4.0]])
    figure = explain(PICTURES[2], evidence, strength=0.3, threshold=0.5, title="cat")
    _, overlay, cut = figure.axes
    assert np.allclose(overlay.images[0].get_array(), blend(PICTURES[2], evidence, strength=0.3))
    image = PICTURES[2].permute(1, 2, 0).numpy()
    shown = np.asarray(cut.images[0].get_array())
    assert np.array_equal(shown[0, 0], image[0, 0]), "the strongest corner is kept"
    assert np.array_equal(shown[-1, -1], image[-1, -1] // 4 + 20), "the opposite one is dimmed"
    assert overlay.get_title() == "evidence 2×2, scale ±4.0 logits"
    share = (shown == image).all(-1).mean()
    assert f"{share:.0%} of the picture" in cut.get_title()
    assert figure.get_suptitle() == "cat"
    drawn(figure)
    everything = explain(PICTURES[2], torch.ones(2, 2), threshold=0).axes[2]
    assert np.array_equal(everything.images[0].get_array(), image)
    assert explain(PICTURES[2], -torch.ones(2, 2)).axes[2].get_title() == "no evidence for this class"
