"""ZFNet has the sizes of the paper's figure 3, and the small variant those its lessons count on."""

import pytest
import torch

from lessons_lib.models.zfnet import CONVOLUTIONS, SmallZFNet, ZFNet
from lessons_lib.networks import capture


def shapes(model, size, layers):
    inputs = torch.randn(1, 3, size, size)
    return {name: tuple(maps.shape[1:]) for name, maps in capture(model, inputs, layers).items()}


@pytest.fixture(scope="module")
def zfnet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ZFNet()


def test_sizes_of_figure_3(zfnet):
    layers = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5", "fc6", "fc7", "fc8")
    assert shapes(zfnet, 224, layers) == {
        "conv1": (96, 110, 110), "pool1": (96, 55, 55), "conv2": (256, 26, 26), "pool2": (256, 13, 13),
        "conv3": (384, 13, 13), "conv4": (384, 13, 13), "conv5": (256, 13, 13), "pool5": (256, 6, 6),
        "fc6": (4096,), "fc7": (4096,), "fc8": (1000,),
    }  # fmt: skip


def test_parameters_by_hand(zfnet):
    convolutions = [(3, 96, 7), (96, 256, 5), (256, 384, 3), (384, 384, 3), (384, 256, 3)]
    full = [(256 * 36, 4096), (4096, 4096), (4096, 1000)]
    expected = sum((i * k * k + 1) * o for i, o, k in convolutions) + sum((i + 1) * o for i, o in full)
    assert sum(p.numel() for p in zfnet.parameters()) == expected


def test_weights_begin_as_in_the_paper(zfnet):
    for name, parameter in zfnet.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        else:
            assert parameter.std().item() == pytest.approx(0.01, rel=0.05)


def test_contrast_normalisation_divides_by_the_neighbouring_channels(zfnet):
    maps = 50 * torch.rand(1, 96, 2, 2)
    expected = torch.empty_like(maps)
    for channel in range(96):
        near = maps[:, max(0, channel - 2) : channel + 3].square().sum(1)
        expected[:, channel] = maps[:, channel] / (2 + 1e-4 * near / 5) ** 0.75
    torch.testing.assert_close(zfnet.norm1(maps), expected)


def test_sizes_of_the_small_variant():
    assert shapes(SmallZFNet(classes=7), 64, (*CONVOLUTIONS, "pool5", "fc7", "fc8")) == {
        "conv1": (64, 30, 30), "conv2": (96, 15, 15), "conv3": (128, 8, 8), "conv4": (128, 8, 8),
        "conv5": (128, 8, 8), "pool5": (128, 3, 3), "fc7": (256,), "fc8": (7,),
    }  # fmt: skip


def test_the_small_variant_begins_with_a_quiet_first_layer():
    torch.manual_seed(0)
    model = SmallZFNet()
    assert model.conv1.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert model.conv3.weight.std().item() == pytest.approx((2 / (96 * 9)) ** 0.5, rel=0.05)
    assert not model.fc6.bias.any()


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 3, 32, 32), (3, 64, 64)])
def test_other_pictures_are_refused(shape):
    with pytest.raises(ValueError, match="pictures of 64×64"):
        SmallZFNet()(torch.zeros(shape))
