"""Metrics equal their closed forms on constructed maps, and trusted libraries where they compute the same."""

import math
import re
import warnings

import numpy as np
import pytest
import quantus
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from sklearn.metrics import auc
from torch import nn

from lessons_lib.data import critters, to_input
from lessons_lib.methods import cam, deconvnet, occlusion, saliency
from lessons_lib.methods.evaluation import (
    Curve,
    agreement,
    cam_map,
    centre_gaussian,
    constant,
    deconvnet_map,
    deletion,
    edges,
    explain,
    grad_cam_map,
    gradient_map,
    grids,
    guided_backpropagation_map,
    insertion,
    layers_with_weights,
    occlusion_map,
    part_effects,
    part_masses,
    part_places,
    pointing_game,
    randomised,
    rank_correlation,
    ranking,
    relevance_mass_accuracy,
    rise,
    score,
)
from lessons_lib.models import ChainCNN
from lessons_lib.models.small_cnn import BLOCKS, SmallCNN

LEFT = torch.zeros(1, 8, 8, dtype=torch.bool)
LEFT[:, :, :4] = True
POINT = torch.zeros(8, 8)
POINT[2, 3] = 1
PICTURES = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TARGETS = torch.tensor([3, 0, 1])


def network():
    """A chain that every method can look into: ReLU and pooling modules, then average pooling and a linear layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    ).double()  # fmt: skip


# ---------------------------------------------------------------- explainers

EXPLAINERS = {
    "gradient": gradient_map,
    "guided backpropagation": guided_backpropagation_map,
    "deconvnet": deconvnet_map,
    "CAM": cam_map,
    "Grad-CAM": grad_cam_map("5"),
    "occlusion": occlusion_map(4, 2),
    "RISE": rise(20),
    "centre": centre_gaussian,
    "edges": edges,
}


@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_gives_a_map_and_leaves_the_network_as_it_was(name):
    net = network().train()
    net[2].eval()
    net(PICTURES).sum().backward()
    flags = [module.training for module in net.modules()]
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    states = {key: value.clone() for key, value in net.state_dict().items()}
    maps = explain(EXPLAINERS[name], net, PICTURES, TARGETS)
    assert maps.shape == (3, 12, 12)
    assert maps.std() > 0
    alone = explain(EXPLAINERS[name], net, PICTURES[1:2], TARGETS[1:2])
    torch.testing.assert_close(maps[1:2], alone)
    assert [module.training for module in net.modules()] == flags
    assert all(torch.equal(p.grad, g) for p, g in zip(net.parameters(), gradients, strict=True))
    assert all(torch.equal(value, states[key]) for key, value in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("name", EXPLAINERS)
def test_every_explainer_takes_the_small_cnn(name):
    # it ends in two linear layers, so it has no CAM
    explainer = grad_cam_map(BLOCKS[2]) if name in {"CAM", "Grad-CAM"} else EXPLAINERS[name]
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert explain(explainer, SmallCNN(), picture, torch.tensor([2])).shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("explainer", "name"), [(gradient_map, "Saliency"), (guided_backpropagation_map, "GuidedBackprop")]
)
def test_maps_of_pixels_equal_captums(explainer, name):
    import captum.attr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = getattr(captum.attr, name)(network().eval()).attribute(PICTURES, target=TARGETS)
    ours = explain(explainer, network(), PICTURES, TARGETS)
    torch.testing.assert_close(ours, theirs.abs().amax(1))


def test_adapters_hand_on_what_the_methods_give():
    net, start = network(), F.one_hot(TARGETS, 4).double()
    projected = deconvnet.project(deconvnet.trace(net, PICTURES, "8"), start).pixels
    torch.testing.assert_close(deconvnet_map(net, PICTURES, TARGETS), projected.abs().amax(1))
    slope = saliency.gradient(net, PICTURES, "8", start)
    torch.testing.assert_close(gradient_map(net, PICTURES, TARGETS), slope.abs().amax(1))
    evidence = cam.class_activation_maps(net, PICTURES).maps[range(3), TARGETS]
    torch.testing.assert_close(cam_map(net, PICTURES, TARGETS), evidence)
    expected = cam.grad_cam(net, PICTURES, "5", TARGETS)
    torch.testing.assert_close(grad_cam_map("5")(net, PICTURES, TARGETS), expected)
    swept = occlusion.occlude(net, PICTURES[1], 0, patch=4, stride=2, progress=False)
    torch.testing.assert_close(occlusion_map(4, 2)(net, PICTURES, TARGETS)[1], swept.attribution())


def test_a_network_that_a_method_cannot_see_is_refused():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

        def forward(self, x):
            return self.linear(F.relu(self.conv(x)).mean((2, 3)))

    with pytest.raises(ValueError, match="module"):
        deconvnet_map(Functional().double(), PICTURES, 1)
    with pytest.raises(ValueError, match="no ReLU"):
        guided_backpropagation_map(nn.Sequential(nn.Conv2d(3, 4, 12), nn.Flatten()).double(), PICTURES, 1)
    assert gradient_map(Functional().double(), PICTURES, 1).shape == (3, 12, 12)


def test_baselines_look_at_no_network():
    bumps = centre_gaussian(None, PICTURES, TARGETS)
    rows = torch.arange(12) - 5.5
    expected = torch.exp(-(rows[:, None] ** 2 + rows[None, :] ** 2) / (2 * 3**2))
    torch.testing.assert_close(bumps, expected.expand(3, 12, 12))
    for picture, found in zip(PICTURES, edges(None, PICTURES, TARGETS), strict=True):
        grey = picture.mean(0).numpy()
        sobel = np.hypot(ndimage.sobel(grey, 0), ndimage.sobel(grey, 1)) / (4 * math.sqrt(2))
        assert found.numpy() == pytest.approx(sobel, rel=1e-5)
    assert torch.equal(constant(None, PICTURES, TARGETS), torch.ones(3, 12, 12))


class SeesCorner(nn.Module):
    """The probability of class 1 is the mean of the corner of 4×4."""

    def forward(self, pictures):
        share = pictures[:, 0, :4, :4].mean((1, 2)).clamp(1e-6, 1 - 1e-6)
        return torch.stack([1 - share, share], dim=1).log()


def test_rise_equals_its_definition_and_finds_the_corner():
    explainer = rise(4000, 4, 0.3, seed=2)
    found = explainer(SeesCorner(), torch.ones(2, 3, 12, 10), torch.tensor([1, 0]))
    assert found.shape == (2, 12, 10)
    # the probability is linear in the mask, so the map is the mask's mean (1 after scaling) times the mean share,
    # and more where it goes with the corner
    far = found[0, 8:, 7:].mean()
    assert far.item() == pytest.approx(0.3, abs=0.02)
    assert found[0, :4, :4].mean() > far + 0.1
    assert found[1, :4, :4].mean() < found[1, 8:, 7:].mean() - 0.1, "of the other class the corner takes away"
    torch.testing.assert_close(
        found[:1], rise(4000, 4, 0.3, seed=2, batch_size=7)(SeesCorner(), torch.ones(1, 3, 12, 10), 1)
    )


def test_explain_enlarges_and_refuses_what_is_no_map():
    small = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).expand(3, 2, 2)
    maps = explain(lambda *_: small, network(), PICTURES, TARGETS)
    torch.testing.assert_close(maps, cam.upsample(small, (12, 12)))
    coloured = explain(lambda _, inputs, __: inputs, network(), PICTURES, TARGETS, batch_size=2)
    torch.testing.assert_close(coloured, PICTURES.sum(1))
    for bad in (
        torch.zeros(2, 12, 12),
        torch.zeros(3, 0, 3),
        torch.full((3, 2, 2), torch.nan),
        torch.zeros(12, 12),
    ):
        with pytest.raises(ValueError, match="an explainer's maps"):
            explain(lambda *_, bad=bad: bad, network(), PICTURES, TARGETS)
    for pictures, targets in ((PICTURES[0], TARGETS), (PICTURES, TARGETS[:2]), (PICTURES[:0], TARGETS[:0])):
        with pytest.raises(ValueError, match=r"pictures must|for each of"):
            explain(gradient_map, network(), pictures, targets)
    for explainer in (gradient_map, deconvnet_map):
        with pytest.raises(ValueError, match="0–3"):
            explainer(network(), PICTURES, 4)


# ---------------------------------------------------------------- against the truth


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (torch.ones(8, 8), 0.5),
        (LEFT[0].float(), 1.0),
        ((~LEFT[0]).float(), 0.0),
        (POINT, 1.0),
        (POINT.flip(1), 0.0),
        (torch.where(LEFT[0], 3.0, 1.0), 0.75),
        (torch.where(LEFT[0], 3.0, -9.0), 1.0),
    ],
)
def test_closed_forms(values, expected):
    assert relevance_mass_accuracy(values[None], LEFT).item() == pytest.approx(expected)


def test_a_small_map_is_enlarged_and_one_row_does_not_touch_another():
    maps = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])
    values = relevance_mass_accuracy(maps, LEFT.expand(2, 8, 8))
    assert values[0].item() == pytest.approx(0.5)
    assert values[1].isnan()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (LEFT[0].float(), 1.0),
        ((~LEFT[0]).float(), 0.0),
        (torch.ones(8, 8), 0.5),
        (POINT, 1.0),
        (POINT.flip(1), 0.0),
        (-POINT, 31 / 63),
    ],
)
def test_pointing_game_equals_its_closed_forms(values, expected):
    assert pointing_game(values[None], LEFT).item() == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_pointing_game_equals_the_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(5, 6, 7, generator=generator)
    masks = torch.rand(5, 6, 7, generator=generator) < 0.4
    expected = [bool(mask.flatten()[m.argmax()]) for m, mask in zip(maps, masks, strict=True)]
    assert pointing_game(maps, masks).tolist() == expected


def test_bad_maps_and_masks_are_refused():
    for metric in (relevance_mass_accuracy, pointing_game):
        with pytest.raises(TypeError, match="bool"):
            metric(torch.ones(1, 8, 8), LEFT.float())
        with pytest.raises(ValueError, match="must have shape"):
            metric(torch.ones(2, 8, 8), LEFT)
        with pytest.raises(ValueError, match="must have shape"):
            metric(torch.ones(8, 8), LEFT)
    with pytest.raises(ValueError, match="maps of the masks' size"):
        pointing_game(torch.ones(1, 4, 4), LEFT)
    with pytest.raises(ValueError, match="NaN"):
        pointing_game(torch.full((1, 8, 8), torch.nan), LEFT)


def test_grids_hold_four_classes_and_know_where_each_is():
    pictures = torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 4, 6)  # each is full of its own number
    labels = torch.arange(12) % 6
    found = grids(pictures, labels, 200, seed=1)
    assert found.pictures.shape == (200, 3, 8, 12)
    assert found.masks.shape == (200, 8, 12)
    assert found.masks.sum((1, 2)).tolist() == [24] * 200
    corners = found.pictures[:, 0, ::4, ::6]
    assert torch.equal(found.pictures[:, 0], corners.repeat_interleave(4, 1).repeat_interleave(6, 2))
    for corner, picture, mask, target in zip(
        corners, found.pictures, found.masks, found.targets, strict=True
    ):
        assert len({int(number) % 6 for number in corner.flatten()}) == 4, "four different classes"
        (number,) = picture[0][mask].unique()
        assert int(number) % 6 == target
    quarters = found.masks[:, ::4, ::6].flatten(1).double().mean(0)
    assert quarters.tolist() == pytest.approx([0.25] * 4, abs=0.1)
    assert set(found.targets.tolist()) == set(range(6))
    assert torch.equal(
        grids(pictures, labels, 9, seed=3).pictures, grids(pictures, labels, 9, seed=3).pictures
    )
    flat = torch.ones(200, 8, 12)
    assert relevance_mass_accuracy(flat, found.masks).numpy() == pytest.approx(0.25)
    assert pointing_game(flat, found.masks).numpy() == pytest.approx(0.25)
    for arguments in ((pictures, labels % 3, 2), (pictures, labels, 0)):
        with pytest.raises(ValueError, match=r"number of classes|count"):
            grids(*arguments)
    with pytest.raises(ValueError, match=r"pictures must|for each of"):
        grids(pictures, labels[:3], 2)


# ---------------------------------------------------------------- against the network


def test_ranking_counts_greater_values_and_draws_lots_for_ties():
    maps = torch.tensor([[[3.0, 1.0], [2.0, 7.0]], [[0.0, 0.0], [5.0, 0.0]]])
    places = ranking(maps)
    assert places[0].tolist() == [[1, 3], [2, 0]]
    assert places[1, 1, 0] == 0
    for row in places:
        assert sorted(row.flatten().tolist()) == [0, 1, 2, 3]
    lots = torch.stack([ranking(torch.zeros(1, 2, 2), seed=seed)[0, 0, 0] for seed in range(200)])
    assert lots.bincount(minlength=4).min() > 25
    for bad in (maps[0], torch.full((1, 2, 2), torch.nan), maps[:0]):
        with pytest.raises(ValueError, match="maps must"):
            ranking(bad)


class SeesLeft(nn.Module):
    """The probability of class 1 is the share of the left half that is white."""

    def forward(self, pictures):
        share = pictures[:, 0][:, LEFT[0]].mean(1)
        return torch.stack([1 - share, share], dim=1).log()


WHITE = torch.ones(1, 3, 8, 8)
ONE = torch.tensor([1])


@pytest.mark.parametrize(
    ("values", "deleted"),
    [
        (LEFT[0].float(), 0.25),
        ((~LEFT[0]).float(), 0.75),
        (torch.ones(8, 8), 0.5),
        (POINT, 0.5),
        (POINT.flip(1), 0.5),
    ],
)
def test_curves_have_their_closed_forms(values, deleted):
    """The perfect map's curve falls to 0 half-way, the inverted one's begins to fall there."""
    tied = values.sum().item() in {1, 64}  # then in random order: only about a straight line
    for exchange, expected in ((deletion, deleted), (insertion, 1 - deleted)):
        curve = exchange(SeesLeft(), WHITE, values[None], ONE, steps=64)
        assert curve.area.item() == pytest.approx(expected, abs=0.08 if tied else 1e-6)
        assert curve.shares.tolist() == pytest.approx([i / 64 for i in range(65)])
        ends = curve.probabilities[0, [0, -1]].tolist()
        assert ends == ([1, 0] if exchange is deletion else [0, 1])
    perfect = deletion(SeesLeft(), WHITE, LEFT.float(), ONE, steps=64).probabilities[0]
    assert perfect.tolist() == pytest.approx([max(0, 1 - i / 32) for i in range(65)], abs=1e-6)


@pytest.mark.parametrize("steps", [1, 7, 144])
def test_curves_equal_a_slow_re_implementation(steps):
    net, maps = network().eval(), torch.randn(3, 12, 12, generator=torch.Generator().manual_seed(1))
    fill = torch.linspace(-1, 1, 12, dtype=torch.float64)
    deleted = deletion(net, PICTURES, maps, TARGETS, baseline=fill, steps=steps)
    inserted = insertion(net, PICTURES, maps, TARGETS, baseline=fill, steps=steps)
    for i in range(3):
        order = np.argsort(-maps[i].numpy().ravel())
        expected = []
        for step in range(steps + 1):
            gone = np.zeros(144, dtype=bool)
            gone[order[: round(step * 144 / steps)]] = True
            gone = torch.from_numpy(gone).view(12, 12)
            versions = torch.stack(
                [torch.where(gone, fill, PICTURES[i]), torch.where(gone, PICTURES[i], fill)]
            )
            expected.append(net(versions).softmax(1)[:, TARGETS[i]].tolist())
        falling, rising = np.array(expected).T
        assert deleted.probabilities[i].detach().numpy() == pytest.approx(falling)
        assert inserted.probabilities[i].detach().numpy() == pytest.approx(rising)
        assert deleted.area[i].item() == pytest.approx(auc(deleted.shares, falling))


def test_curves_do_not_depend_on_the_batch():
    maps = torch.rand(3, 12, 12).round(decimals=1)
    together = deletion(network(), PICTURES, maps, TARGETS, steps=9)
    for size in (1, 4, 15, 1000):
        other = deletion(network(), PICTURES, maps, TARGETS, steps=9, batch_size=size)
        torch.testing.assert_close(together.probabilities, other.probabilities, atol=1e-12, rtol=1e-10)
    ties = deletion(network(), PICTURES, maps, TARGETS, steps=9, seed=1)
    assert not torch.equal(ties.probabilities, together.probabilities)


def test_marks_and_curves_equal_quantus():
    """Where it computes the same: without ties, for maps that are positive, and for pictures of one channel."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, 12, 12, generator=generator)
    masks = torch.rand(5, 12, 12, generator=generator) < 0.4
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)
    ).eval()
    pictures, classes = torch.randn(5, 1, 12, 12, generator=generator), torch.tensor([0, 1, 2, 3, 3])
    theirs = {"model": net, "x_batch": pictures.numpy(), "y_batch": classes.numpy(),
              "a_batch": maps[:, None].numpy(), "s_batch": masks[:, None].numpy(), "device": "cpu"}  # fmt: skip
    options = {"abs": False, "normalise": False, "disable_warnings": True}
    pointing = quantus.PointingGame(**options)(**theirs)
    assert pointing_game(maps, masks).tolist() == [float(hit) for hit in pointing]
    assert 0 < sum(pointing) < 5
    mass = quantus.RelevanceMassAccuracy(**options)(**theirs)
    assert relevance_mass_accuracy(maps, masks).numpy() == pytest.approx(np.array(mass))
    flipping = quantus.PixelFlipping(**options, features_in_step=6, perturb_baseline=0.0)(
        **theirs, softmax=True
    )
    ours = deletion(net, pictures, maps, classes, steps=24).probabilities
    assert ours[:, 1:].numpy() == pytest.approx(
        np.array(flipping), abs=1e-6
    )  # it leaves out the whole picture


def test_area_is_exact_on_a_triangle():
    assert Curve(torch.tensor([0.0, 0.5, 1.0]).double(), torch.tensor([[1.0, 0.5, 0.0]])).area.item() == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": PICTURES[0]}, r"pictures must|for each of"),
        ({"targets": TARGETS[:2]}, r"pictures must|for each of"),
        ({"targets": TARGETS + 3}, "0–3"),
        ({"maps": torch.ones(3, 6, 6)}, "maps of these pictures"),
        ({"maps": torch.full((3, 12, 12), torch.nan)}, "NaN"),
        ({"pictures": PICTURES * torch.nan}, "NaN"),
        ({"steps": 0}, "1–144"),
        ({"steps": 145}, "1–144"),
    ],
)
@pytest.mark.parametrize("exchange", [deletion, insertion])
def test_bad_curves_are_refused(exchange, change, message):
    arguments = {"pictures": PICTURES, "maps": torch.ones(3, 12, 12), "targets": TARGETS, **change}
    with pytest.raises(ValueError, match=message):
        exchange(network(), **arguments)


# ---------------------------------------------------------------- against a network that has forgotten


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed_layers(before, after):
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_randomised_layers_are_random_and_come_back_to_the_bit():
    net = network()
    net[1].running_mean += 1
    before, state = weights_of(net), torch.get_rng_state()
    with randomised(net, ["8"]):
        first = weights_of(net)
    with randomised(net, ["8", "4", "1"]):
        more = weights_of(net)
    assert torch.equal(torch.get_rng_state(), state)
    assert changed_layers(before, first) == {"8"}
    assert changed_layers(before, more) == {"8", "4", "1"}
    assert torch.equal(first["8.weight"], more["8.weight"]), "cascading: what was random stays as it is"
    assert changed_layers(before, weights_of(net)) == set()
    with randomised(net, ["8"], seed=1):
        assert not torch.equal(net[8].weight, first["8.weight"])
    with pytest.raises(RuntimeError, match="boom"), randomised(net, ["8"]):
        raise RuntimeError("boom")
    assert changed_layers(before, weights_of(net)) == set()
    blocks = SmallCNN()
    before = weights_of(blocks)
    with randomised(blocks, ["block2"]):
        assert changed_layers(before, weights_of(blocks)) == {"block2"}


def test_layers_are_named_from_the_top_down():
    assert layers_with_weights(network()) == ["8", "4", "1", "0"]
    assert layers_with_weights(SmallCNN())[-1].startswith(BLOCKS[0])
    net, before = network(), explain(gradient_map, network(), PICTURES, TARGETS)
    for count, most in ((1, 1.0), (4, 0.6)):
        with randomised(net, layers_with_weights(net)[:count]):
            assert (
                changed_layers(weights_of(network()), weights_of(net)) == {"8", "4", "0"}
                if count == 4
                else {"8"}
            )
            found = rank_correlation(explain(gradient_map, net, PICTURES, TARGETS), before)
        assert found.abs().max() < most


def test_layers_that_cannot_be_randomised_are_refused():
    with pytest.raises(ValueError, match="no parameters"), randomised(network(), ["2"]):
        pass
    with pytest.raises(ValueError, match="no layer"), randomised(network(), ["9"]):
        pass
    net = network()
    net[8].reset_parameters = None
    net[4] = nn.ParameterList([torch.zeros(2)])
    with pytest.raises(ValueError, match="no reset_parameters"), randomised(net, ["4"]):
        pass


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.booleans())
def test_rank_correlation_equals_scipys(seed, ties):
    generator = torch.Generator().manual_seed(seed)
    maps, others = torch.randn(2, 3, 7, 9, generator=generator).round(decimals=0 if ties else 9)
    expected = [
        stats.spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(maps, others, strict=True)
    ]
    assert rank_correlation(maps, others).numpy() == pytest.approx(np.array(expected))


def test_similarities_have_their_closed_forms():
    maps = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert rank_correlation(maps, maps**3).numpy() == pytest.approx(1), "a matter of order alone"
    assert rank_correlation(maps, -maps).numpy() == pytest.approx(-1)
    assert rank_correlation(maps, torch.ones_like(maps)).isnan().all()
    with pytest.raises(ValueError, match="maps must have shape"):
        rank_correlation(maps, maps[:2])


# ---------------------------------------------------------------- the referee

SPECIES = ("cat", "rabbit", "bear", "frog", "tiger")


@pytest.fixture(scope="module")
def judged():
    return critters.twins(40, 32, seed=7, species=SPECIES)


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(3)
    return ChainCNN(len(SPECIES))


def masses_as(wanted, twins):
    """Maps of which the mass on each part is as wanted: all on pixels that only this part has."""
    places = part_places(twins)
    alone = places & (places.sum(1, keepdim=True) == 1)
    share = wanted.nan_to_num() / alone.sum((2, 3)).clamp(min=1)
    return torch.einsum("np,nphw->nhw", share, alone.double())


def given(maps, twins):
    """An explainer that knows these maps for these scenes, and gives noise otherwise."""
    noise = torch.Generator().manual_seed(0)
    known = to_input(twins.scenes.images)

    def explainer(model, inputs, targets):
        if inputs.shape[-1] != known.shape[-1]:
            return torch.rand(len(inputs), *inputs.shape[2:], generator=noise)
        return torch.stack([maps[int((known == one).flatten(1).all(1).nonzero()[0, 0])] for one in inputs])

    return explainer


def test_a_map_whose_mass_on_each_part_is_its_effect_scores_one(judged, net):
    effects = part_effects(net, judged)
    maps = masses_as(effects, judged)
    assert score(given(maps, judged), net, judged).values["parts"].numpy() == pytest.approx(1)
    upside_down = score(given(-maps, judged), net, judged).values["parts"]
    assert upside_down.numpy() == pytest.approx(-1)


def test_a_shuffled_map_scores_about_zero_and_a_constant_one_what_the_areas_give(judged, net):
    effects = part_effects(net, judged)
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(100):
        shuffled = effects.clone()
        for row in shuffled:
            known = ~row.isnan()
            row[known] = row[known][torch.randperm(int(known.sum()), generator=generator)]
        found.append(agreement(part_masses(masses_as(shuffled, judged), judged), effects).mean())
    assert abs(torch.stack(found).mean()) < 0.03, "4,000 scenes"
    area = part_places(judged).sum((2, 3))
    expected = [
        stats.spearmanr(a[~e.isnan()], e[~e.isnan()]).statistic for a, e in zip(area, effects, strict=True)
    ]
    flat = score(constant, net, judged).values["parts"]
    assert flat.numpy() == pytest.approx(np.array(expected))
    assert flat.std() > 0.1


def test_effects_are_what_the_network_loses(judged, net):
    effects = part_effects(net, judged)
    assert effects.shape == (40, 5)
    frogs = judged.scenes.labels == SPECIES.index("frog")
    assert effects[frogs, list(judged.without).index("ears")].isnan().all()
    with torch.no_grad():
        for i in (0, 17):
            own = judged.scenes.labels[i]
            for j, twin in enumerate(judged.without.values()):
                pair = torch.stack([judged.scenes.images[i], twin.images[i]])
                if not torch.equal(*pair):
                    whole, lost = net.eval()(to_input(pair))[:, own].tolist()
                    assert effects[i, j].item() == pytest.approx(whole - lost, abs=1e-4)


def test_the_referee_puts_together_what_its_metrics_give(judged, net):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = score(gradient_map, net, judged, confidence=0.0, grid_count=12, steps=6, seed=4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    inputs, labels = to_input(judged.scenes.images), judged.scenes.labels
    maps = gradient_map(net, inputs, labels)
    animal = judged.scenes.masks[:, [0, 4]].any(1)
    four = grids(inputs, labels, 12, seed=4)
    with randomised(net, ["linear", "conv4", "conv3", "conv2", "conv1"], seed=4):
        forgotten = gradient_map(net, inputs, labels)
    expected = {
        "pointing": pointing_game(maps, animal),
        "mass": relevance_mass_accuracy(maps, animal),
        "grid": relevance_mass_accuracy(gradient_map(net, four.pictures, four.targets), four.masks),
        "deletion": deletion(net, inputs, maps, labels, steps=6, seed=4).area,
        "insertion": insertion(net, inputs, maps, labels, steps=6, seed=4).area,
        "randomisation": rank_correlation(maps, forgotten),
        "parts": agreement(part_masses(maps, judged), part_effects(net, judged)),
    }
    assert list(found.values) == list(expected)
    for metric, values in expected.items():
        torch.testing.assert_close(found.values[metric], values, atol=1e-4, rtol=1e-3, equal_nan=True)
        interval = found.intervals[metric]
        assert interval.low < interval.mean < interval.high
        assert interval.mean == pytest.approx(values.nanmean().item(), abs=1e-3)


def test_an_unsure_network_has_no_grid_game(judged, net):
    found = score(centre_gaussian, net, judged, confidence=0.99)
    assert found.values["grid"].tolist() == []
    assert found.intervals["grid"] is None
    assert re.search(r"grid +none\n", str(found))
    assert re.search(r"randomisation +1.00 \[1.00, 1.00\]", str(found)), "it does not look at the network"


def test_the_referee_takes_what_captum_torchcam_and_pytorch_grad_cam_give(judged, net):
    from captum.attr import InputXGradient
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    from torchcam import methods as torchcam

    def by_torchcam(model, inputs, targets):
        with torchcam.GradCAM(model, "relu4") as extractor:
            return extractor(targets.tolist(), model.requires_grad_()(inputs))[0]

    def by_grad_cam(model, inputs, targets):
        with GradCAM(model, [model.relu4]) as extractor:
            return torch.from_numpy(extractor(inputs, [ClassifierOutputTarget(k) for k in targets.tolist()]))

    few = critters.twins(8, 32, seed=1, species=SPECIES)
    inputs, labels = to_input(few.scenes.images), few.scenes.labels
    net = net.eval()
    for explainer in (
        lambda model, inputs, targets: InputXGradient(model).attribute(inputs, target=targets),
        by_torchcam,
        by_grad_cam,
    ):
        found = score(explainer, net, few, grid_count=0)
        assert (~found.values["parts"].isnan()).all()
    ours, theirs = (explain(one, net, inputs, labels) for one in (grad_cam_map("relu4"), by_torchcam))
    for a, b in zip(ours.flatten(1), theirs.flatten(1), strict=True):
        if a.any():  # torchcam stretches each map from 0 to 1
            assert np.corrcoef(a, b)[0, 1] > 0.99
