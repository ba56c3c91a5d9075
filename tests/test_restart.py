"""Stopping a cell, wherever it is, leaves the network and the files as they were."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lessons_lib import training
from lessons_lib.data.pictures import Pictures
from lessons_lib.methods import cam, correspondence, evaluation, saliency
from lessons_lib.methods.class_visualization import maximise_activation
from lessons_lib.methods.deconvnet import deconvnet
from lessons_lib.methods.occlusion import occlude
from lessons_lib.methods.patches import top_activations
from lessons_lib.methods.receptive_field import effective_receptive_field, receptive_fields
from lessons_lib.methods.transfer import layers_up_to
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.networks import capture, features, head_name, predict
from lessons_lib.training import Settings, fit

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
INPUTS = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
IMAGES = ((INPUTS + 1) * 127.5).byte()
CLASSES = torch.tensor([0, 1, 2, 3])


@pytest.fixture
def network() -> nn.Module:
    """A network in training, but for one layer, with a frozen weight and gradients of the caller's."""
    torch.manual_seed(0)
    model = SmallCNN()
    model.block2.eval()
    model.block1.conv.weight.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    return model


def state(model: nn.Module) -> dict[str, Any]:
    """Everything of a network, and of torch, that a method borrows."""
    return {
        "hooks": [len(getattr(module, kind)) for module in model.modules() for kind in HOOKS],
        "training": [module.training for module in model.modules()],
        "learns": [parameter.requires_grad for parameter in model.parameters()],
        "gradients": [None if p.grad is None else p.grad.sum().item() for p in model.parameters()],
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "generator": torch.get_rng_state(),
        "grad": torch.is_grad_enabled(),
    }


def assert_same(after: dict[str, Any], before: dict[str, Any]) -> None:
    for name in ("hooks", "training", "learns", "gradients", "grad"):
        assert after[name] == before[name], name
    assert torch.equal(after["generator"], before["generator"])
    for name, tensor in before["weights"].items():
        assert torch.equal(after["weights"][name], tensor), name


class Pressing:
    """A layer's forward pass during which somebody presses the stop button, the given time it is called."""

    def __init__(self, layer: nn.Module, at: int) -> None:
        self.run, self.left = layer.forward, at

    def __call__(self, *args: Any) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.run(*args)


def stopped(maps: Tensor) -> Tensor:
    """The same maps, with a stop button pressed on the way back."""

    def press(received: Tensor) -> None:
        raise KeyboardInterrupt

    if maps.requires_grad:
        maps.register_hook(press)
    return maps


def change(model: nn.Module) -> Any:
    return correspondence.feature_changes(model, IMAGES, {"eye": IMAGES // 2}, ["block1"], batch_size=2)


def randomise(model: nn.Module) -> torch.Tensor:
    with evaluation.randomised(model, ["classifier", "block5"]):
        return evaluation.explain(evaluation.grad_cam_map("block4"), model, INPUTS[:1], CLASSES[:1])


FORWARD: dict[str, Callable[[nn.Module], Any]] = {
    "capture": lambda model: capture(model, INPUTS, ["block1", "block4"], batch_size=2),
    "predict": lambda model: predict(model, IMAGES, batch_size=2),
    "features": lambda model: features(model, IMAGES, ["block4"], batch_size=2),
    "top_activations": lambda model: top_activations(model, IMAGES, "block4", 1, batch_size=2),
    "fields": lambda model: receptive_fields(model, 32, ["block4"]),
    "influence": lambda model: effective_receptive_field(model, INPUTS[:1], "block4", 1, 1),
    "layers_up_to": lambda model: layers_up_to(model, "block4", INPUTS),
    "head_name": head_name,
    "find_head": lambda model: cam.find_head(model, INPUTS),
    "grad_cam": lambda model: cam.grad_cam(model, INPUTS, "block4", CLASSES, batch_size=2),
    "gradient": lambda model: saliency.gradient(model, INPUTS, "classifier", torch.ones(4, 10)),
    "guided": lambda model: saliency.guided_backpropagation(model, INPUTS, "classifier", torch.ones(4, 10)),
    "deconvnet": lambda model: deconvnet(model, INPUTS, "block5", 0),
    "occlude": lambda model: occlude(model, INPUTS[0], 0, patch=16, stride=8, progress=False),
    "ascend": lambda model: maximise_activation(model, INPUTS, CLASSES, steps=3, progress=False),
    "feature_changes": change,
    "deletion": lambda model: evaluation.deletion(
        model, INPUTS, INPUTS[:, 0], CLASSES, steps=2, batch_size=4
    ),
    "randomisation": randomise,
}
BACKWARD = ("influence", "grad_cam", "gradient", "guided", "ascend")


def press_stop(method: Callable[[nn.Module], Any], model: nn.Module) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        assert method(model).interrupted, "it went on"


@pytest.mark.parametrize("name", FORWARD)
def test_stopped_in_a_forward_pass(name: str, network: nn.Module, monkeypatch: pytest.MonkeyPatch):
    before = state(network)
    pressing = Pressing(network.block4.conv, 1)
    with monkeypatch.context() as patched:
        patched.setattr(network.block4.conv, "forward", pressing)
        press_stop(FORWARD[name], network)
    assert pressing.left <= 0, "nobody pressed"
    assert_same(state(network), before)


def test_stopped_while_the_network_has_other_weights(network: nn.Module, monkeypatch: pytest.MonkeyPatch):
    before = state(network)
    pressing = Pressing(network.block4.conv, 1)
    with monkeypatch.context() as patched:
        patched.setattr(network.block4.conv, "forward", pressing)
        press_stop(FORWARD["randomisation"], network)
    assert pressing.left <= 0, "nobody pressed"
    assert_same(state(network), before)


@pytest.mark.parametrize("name", BACKWARD)
def test_stopped_on_the_way_back(name: str, network: nn.Module, monkeypatch: pytest.MonkeyPatch):
    before = state(network)
    with monkeypatch.context() as patched:
        for norm in (network.block2.norm, network.block5.norm):  # the way back to a layer, or from it
            patched.setattr(norm, "forward", lambda maps, run=norm.forward: stopped(run(maps)))
        press_stop(FORWARD[name], network)
    assert_same(state(network), before)


COLOURS = Pictures(IMAGES.repeat(4, 1, 1, 1), CLASSES.repeat(4), ("a", "b", "c", "d"), "noise")


def train(model: nn.Module, checkpoint: Path) -> training.Run:
    return fit(
        model, COLOURS, COLOURS, Settings(epochs=2, batch_size=8), checkpoint=checkpoint, progress=False
    )


def test_a_training_stopped_while_it_saves_keeps_the_epoch_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    torch.manual_seed(0)
    first = SmallCNN(4)
    whole, file, real, calls = copy.deepcopy(first), tmp_path / "run.pt", torch.save, []
    train(whole, tmp_path / "whole.pt")

    def save(values: object, path: Path) -> None:
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        real(values, path)

    with monkeypatch.context() as patched:
        patched.setattr(training.torch, "save", save)
        assert train(copy.deepcopy(first), file).interrupted
    assert "Interrupted" in capsys.readouterr().out
    assert len(torch.load(file, weights_only=True)["history"]) == 1
    resumed = SmallCNN(4)
    assert len(train(resumed, file).history) == 2
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert not list(tmp_path.glob("*.part")), "the second save replaces the half of the first"
