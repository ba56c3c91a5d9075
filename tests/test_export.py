"""An exported network answers as it did, says how to use it, and what cannot be exported is refused in a sentence."""

import json

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from lessons_lib import export, models
from lessons_lib.data.pictures import to_input
from lessons_lib.methods import cam
from lessons_lib.models import checkpoints

CLASSES = tuple("abcdefghij")


@pytest.fixture
def inputs():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_shipped_network_answers_any_number_of_pictures_as_before(tmp_path):
    model = checkpoints.restore(models.SmallCNN(), "small_cnn_cifar10").train()
    pictures = torch.randint(0, 256, (7, 3, 32, 32), generator=torch.Generator().manual_seed(1))
    pictures = to_input(pictures.to(torch.uint8))
    apart = export.to_onnx(model, pictures[:1], tmp_path / "small.onnx", classes=CLASSES)
    assert model.training
    onnx.checker.check_model(tmp_path / "small.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = model.eval()(pictures)
    (logits,) = session.run(["logits"], {"pictures": pictures.numpy()})
    bound = 1e-4 * expected.abs().max().item()
    assert apart < bound
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=bound)
    told = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    # a stranger to the course prepares a picture by what the file says
    grey = torch.full((3,), 128 / 255)
    assert told["classes"] == list(CLASSES)
    assert torch.allclose(
        (grey - torch.tensor(told["mean"])) / torch.tensor(told["std"]),
        to_input(torch.full((3,), 128, dtype=torch.uint8)),
    )


def test_a_network_that_pools_before_one_linear_layer_gives_its_maps(tmp_path):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    pictures = torch.randn(5, 3, 32, 32)
    export.to_onnx(model, pictures[:1], tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    logits, maps, features = session.run(["logits", "evidence", "maps"], {"pictures": pictures.numpy()})
    expected = cam.class_activation_maps(model, pictures)
    torch.testing.assert_close(torch.from_numpy(features), body(pictures), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(logits), expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(maps), expected.maps, rtol=1e-4, atol=1e-5)


class Branches(nn.Module):
    """Takes another way for bright pictures, which a graph cannot."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3072, 10)

    def forward(self, x):
        x = x.flatten(1)
        return self.linear(x) if x.sum() > 0 else self.linear(-x)


class ThreeOnly(Branches):
    """Takes three pictures, and no other number."""

    def forward(self, x):
        return self.linear(x.reshape(3, -1))


class Random(Branches):
    """Never gives the same twice."""

    def forward(self, x):
        return self.linear(x.flatten(1)) + torch.randn(len(x), 10, device=x.device)


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        (Branches, "cannot be written as ONNX: .*data-dependent"),
        (ThreeOnly, "cannot be written as ONNX: "),
        (Random, "gives other logits, by up to"),
        (lambda: Branches().double(), "computes in torch.float64"),
        (lambda: nn.Conv2d(3, 10, 3), "not logits"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 9)), "10 names of classes for 9 logits"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, inputs, network, complaint):
    model = network()
    given = inputs.to(next(model.parameters()).dtype)
    with pytest.raises(ValueError, match=complaint):
        export.to_onnx(model, given, tmp_path / "refused.onnx", classes=CLASSES)
    assert not (tmp_path / "refused.onnx").exists()
