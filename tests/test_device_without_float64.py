"""Each method on a device that has no float64 and takes no tensors of the CPU gives what it gives on the CPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lessons_lib import networks
from lessons_lib.methods import (
    activations,
    cam,
    class_visualization,
    deconvnet,
    embeddings,
    evaluation,
    filters,
    patches,
    receptive_field,
    saliency,
)
from lessons_lib.methods.correspondence import feature_changes
from tests.no_float64 import DEVICE, Device, OnDevice, to_device

SIDE = 16


def network():
    torch.manual_seed(0)
    body = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3))
    return nn.Sequential(*body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3))


INPUTS = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
BYTES = (64 + 32 * INPUTS).clamp(0, 255).to(torch.uint8)
MAPS = torch.rand(2, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
MASKS = MAPS > 0.5
LABELS = torch.tensor([0, 1])


def start(net, x):
    return torch.ones(2, 5, 5, 5).to(x.device)


def trained(net, x):
    way_up = deconvnet.trace(net, x, "4")
    return deconvnet.project(way_up, deconvnet.keep(way_up.activations, 1)).pixels


def changed(net, x):
    with evaluation.randomised(net, ["4"]):
        return networks.capture(net, x, ["4"])["4"]


SCENES = SimpleNamespace(images=torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8))
TWINS = SimpleNamespace(scenes=SCENES, without={"nose": SimpleNamespace(images=SCENES.images + 1)})
METHODS = {
    "capture": lambda net, x: networks.capture(net, x, ["4"])["4"],
    "gradient": lambda net, x: saliency.gradient(net, x, "4", start(net, x)),
    "guided": lambda net, x: saliency.guided_backpropagation(net, x, "4", start(net, x)),
    "influence": lambda net, x: receptive_field.effective_receptive_field(net, x, "4", 1, 1),
    "fields": lambda net, x: torch.tensor(receptive_field.receptive_fields(net, x[:1], ["4"])["4"].rows),
    "grad_cam": lambda net, x: cam.grad_cam(net, x, "4", LABELS),
    "class_activation_maps": lambda net, x: cam.class_activation_maps(net, x).of(LABELS),
    "deconvnet": trained,
    "explain": lambda net, x: evaluation.explain(evaluation.gradient_map, net, x, LABELS),
    "edges": lambda net, x: evaluation.explain(evaluation.edges, net, x, LABELS),
    "deletion": lambda net, x: evaluation.deletion(net, x, MAPS.to(x.device), LABELS, steps=4).probabilities,
    "insertion": lambda net, x: evaluation.insertion(net, x, MAPS, LABELS.to(x.device), steps=4).area,
    "randomised": changed,
    "ascend": lambda net, x: class_visualization.maximise_activation(
        net, x, 1, steps=2, weight=0.1, jitter=2, progress=False
    ),
    "top_activations": lambda net, x: patches.top_activations(net, BYTES, "4", 2).values,
    "features": lambda net, x: networks.features(net, BYTES, ["4"], pool=1)["4"],
    "feature_changes": lambda net, x: feature_changes(net, BYTES, {"a": BYTES.flip(2)}, ["4"])["4"]["a"],
    "filters": lambda net, x: filters.autocorrelation(net[0].weight),
}  # fmt: skip
MEASURES = {
    "likeness": lambda x: activations.likeness(x[:, :2].relu(), x),
    "neighbour_correlation": activations.neighbour_correlation,
    "spread": lambda x: activations.spread(x.abs()),
    "shuffled": activations.shuffled,
    "aliased": lambda x: deconvnet.aliased(x, 2),
    "agreement": lambda x: deconvnet.agreement(x, x * x),
    "relevance_mass_accuracy": lambda x: evaluation.relevance_mass_accuracy(x[:, 0], MASKS.to(x.device)),
    "pointing_game": lambda x: evaluation.pointing_game(x[:, 0], MASKS.to(x.device)),
    "rank_correlation": lambda x: evaluation.rank_correlation(x[:, 0], x[:, 1]),
    "part_masses": lambda x: evaluation.part_masses(x[:, 0], TWINS),
    "ranking": lambda x: evaluation.ranking(x[:, 0]),
    "power_spectrum": lambda x: class_visualization.power_spectrum(x)[1],
    "autocorrelation": filters.autocorrelation,
    "nearest": lambda x: embeddings.nearest(x[0, 0], 3),
    "trustworthiness": lambda x: torch.tensor(embeddings.trustworthiness(x[0, 0], x[0, 0, :, :2], 3)),
}


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # what is held is copied to
@pytest.mark.parametrize("name", METHODS)
def test_methods(name):
    expected = METHODS[name](network(), INPUTS.clone())
    net = to_device(network())
    with Device():
        found = METHODS[name](net, INPUTS.to(DEVICE)).cpu()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", MEASURES)
def test_measures(name):
    with Device():
        found = MEASURES[name](INPUTS.to(DEVICE)).cpu()
    torch.testing.assert_close(found, MEASURES[name](INPUTS))


def test_the_stand_in_refuses_what_such_a_device_does():
    net = to_device(network()).eval()
    with Device():
        there = INPUTS.to(DEVICE)
        assert isinstance(there, OnDevice)
        assert isinstance(net(there), OnDevice)
        torch.testing.assert_close(net(there).cpu(), network().eval()(INPUTS))
        with pytest.raises(TypeError, match="no float64"):
            there.double()
        with pytest.raises(TypeError, match="no float64"):
            there.sum(dtype=torch.float64)
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(2, dtype=torch.float64, device=DEVICE)
        for mixed in (lambda: net(INPUTS), lambda: there + INPUTS, lambda: torch.cat([there, INPUTS])):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
