"""The bridge to fastai: the course's weights and normalisation, batches in memory, clear words on bad pictures."""

import gc
import subprocess
import sys
import weakref

import pytest
import torch
from torch import nn

from lessons_lib.data import critters, pets
from lessons_lib.data.pictures import Pictures
from lessons_lib.methods.cam import class_activation_maps
from lessons_lib.models import fastai as bridge
from lessons_lib.models import imagenet
from lessons_lib.models.fastai import FrozenBatchNorm, backbone, dataloaders


@pytest.fixture(scope="module")
def arch():
    return backbone()


@pytest.fixture(scope="module")
def pictures():
    return critters.generate(24, 32, seed=1, species=("cat", "dog"))


def test_importing_fastai_through_the_bridge_warns_of_nothing():
    code = "import lessons_lib.models.fastai; from fastai.vision.all import vision_learner"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == result.stdout == ""


def test_a_backbone_gives_fresh_pretrained_copies(arch):
    classifier = imagenet.load()
    one, two = arch(), arch(pretrained=True)
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = classifier.model(inputs)
        # up to rounding, since sums run in another order over another order in memory
        torch.testing.assert_close(one.eval()(inputs), expected, atol=1e-4, rtol=1e-4)
        next(one.parameters()).zero_()
        torch.testing.assert_close(two.eval()(inputs), expected, atol=1e-4, rtol=1e-4)
        untrained = arch(pretrained=False).eval()(inputs)
    assert not torch.allclose(untrained, expected, atol=0.1)


def test_a_backbone_that_nobody_uses_any_more_leaves_no_network_behind():
    backbone()
    entries = len(bridge.model_meta)
    one, two = backbone(), backbone()
    assert bridge.model_meta[one] == bridge.model_meta[two]
    assert bridge.model_meta[one]["stats"] == (one.classifier.mean, one.classifier.std)
    assert len(bridge.model_meta) == entries
    networks = [weakref.ref(arch.classifier.model) for arch in (one, two)]
    del one, two
    gc.collect()
    assert [network() for network in networks] == [None, None]


def test_unknown_backbones_list_the_known():
    with pytest.raises(ValueError, match="'efficientnet_lite0', 'resnet18', 'resnet34'"):
        backbone("resnet20")


def test_missing_weights_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        "torch.hub.urlopen", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no route"))
    )
    with pytest.raises(ConnectionError, match="resnet34's weights are not on this machine"):
        backbone("resnet34")


def test_torchvision_networks_come_through_the_course_and_are_cut_before_the_pooling(monkeypatch):
    from fastai.vision.all import create_body
    from torchvision import models

    network = models.resnet18()
    given = imagenet.ImageNetClassifier(
        "resnet18", network, ("a",) * 1000, 224, (0.4, 0.5, 0.6), (0.2, 0.3, 0.1), None
    )
    monkeypatch.setattr(imagenet, "load", lambda name: given)
    arch = backbone("resnet18")
    body = create_body(arch(), cut=None)
    assert [type(child) for child in body.children()] == [
        type(child) for child in list(network.children())[:-2]
    ]
    assert bridge.model_meta[arch]["stats"] == (given.mean, given.std)
    assert isinstance(arch(pretrained=False), models.ResNet)
    network.eval()
    inputs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            body.eval()(inputs).mean(dim=(2, 3)) @ network.fc.weight.T + network.fc.bias, network(inputs)
        )


def head(channels):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2, bias=False))


def learner(arch, pictures, **options):
    from fastai.vision.all import CrossEntropyLossFlat, accuracy, vision_learner

    dls = dataloaders(pictures, pictures, size=64, batch_size=8)
    torch.manual_seed(0)
    learn = vision_learner(
        dls,
        arch,
        custom_head=head(1280),
        loss_func=CrossEntropyLossFlat(),
        metrics=accuracy,
        **options,
    )
    learn.remove_cb(learn.progress)
    learn.logger = lambda *args: None
    return learn


def test_vision_learner_normalises_as_the_course_does(arch, pictures):
    learn = learner(arch, pictures)
    batch, labels = learn.dls.valid.one_batch()
    large = torch.nn.functional.interpolate(
        pictures.images[:8].float(), (64, 64), mode="bilinear", antialias=True
    )
    torch.testing.assert_close(torch.Tensor(batch), (large / 255 - 0.5) / 0.5, atol=1e-5, rtol=0)
    assert torch.equal(torch.Tensor(labels).long(), pictures.labels[:8])
    assert learn.dls.vocab == ("cat", "dog")


def test_a_learner_trains_exports_and_has_cams(arch, pictures, tmp_path):
    learn = learner(arch, pictures, train_bn=False, cbs=FrozenBatchNorm, path=tmp_path)
    body = {name: tensor.clone() for name, tensor in learn.model[0].state_dict().items()}
    learn.fit(4, 5e-3)
    losses = [validation for _, validation, _ in learn.recorder.values]
    assert losses[-1] < losses[0]
    norms = [name for name in body if "running" in name]
    assert norms
    for name in norms:
        assert torch.equal(learn.model[0].state_dict()[name], body[name]), "batch norm keeps its averages"
    assert torch.equal(
        learn.model[0].conv_stem.weight if hasattr(learn.model[0], "conv_stem") else learn.model[0][0].weight,
        body["0.weight"],
    )
    inputs = torch.Tensor(learn.dls.valid.one_batch()[0])
    found = class_activation_maps(learn.model, inputs)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, learn.model.eval()(inputs), atol=1e-4, rtol=1e-4)
    learn.export("whole.pkl")
    assert (tmp_path / "whole.pkl").stat().st_size > 1e6


@pytest.mark.parametrize("callback", [None, FrozenBatchNorm])
def test_batch_norm_changes_without_the_callback(pictures, callback):
    from fastai.vision.all import CrossEntropyLossFlat, Learner

    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()), head(4))
    before = model[0][1].running_mean.clone()
    weight = model[0][1].weight.clone()
    dls = dataloaders(pictures, pictures, batch_size=8)
    learn = Learner(dls, model, loss_func=CrossEntropyLossFlat(), cbs=callback)
    with learn.no_bar(), learn.no_logging():
        learn.fit(1, 0.1)
    assert torch.equal(model[0][1].running_mean, before) == (callback is FrozenBatchNorm)
    assert not torch.equal(model[0][1].weight, weight), "its scale and shift are still learned"


def test_batches_hold_each_picture_once_shuffled_for_training(pictures):
    torch.manual_seed(0)
    dls = dataloaders(pictures, pictures.subset(slice(0, 5)), batch_size=4)
    valid = torch.cat([torch.Tensor(images) for images, _ in dls.valid])
    torch.testing.assert_close(valid, pictures.images[:5].float() / 255)
    orders = []
    for _ in range(2):
        images = torch.cat([torch.Tensor(images) for images, _ in dls.train]) * 255
        labels = torch.cat([torch.Tensor(labels) for _, labels in dls.train])
        assert labels.sum() == pictures.labels.sum()
        orders.append(images.round().byte())
        assert sorted(map(hash, (image.numpy().tobytes() for image in orders[-1]))) == sorted(
            map(hash, (image.numpy().tobytes() for image in pictures.images))
        )
    assert not torch.equal(*orders), "another order in each epoch"
    assert len(dls.train) == 6


def test_images_and_labels_stay_together(pictures):
    dls = dataloaders(pictures, pictures, batch_size=8)
    label_of = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(pictures.images, pictures.labels, strict=True)
    }
    for images, labels in dls.train:
        for image, label in zip((torch.Tensor(images) * 255).round().byte(), labels, strict=True):
            assert label_of[image.numpy().tobytes()] == int(label)


def test_bad_sets_are_refused(pictures):
    others = Pictures(pictures.images, pictures.labels, ("ants", "bees"), "")
    with pytest.raises(ValueError, match="same classes"):
        dataloaders(pictures, others)
    with pytest.raises(ValueError, match="learn from must be at least 64"):
        dataloaders(pictures, pictures)
    with pytest.raises(ValueError, match="measure on must be at least 1"):
        dataloaders(pictures, pictures.subset(slice(0, 0)), batch_size=8)


def test_the_lectures_lines_on_the_pets_view(arch, tmp_path, recwarn):
    """from_name_func and vision_learner as fastai users write them."""
    from fastai.vision.all import ImageDataLoaders, Normalize, Resize, accuracy, vision_learner

    files = critters.write_pets(tmp_path, 12)
    dls = ImageDataLoaders.from_name_func(
        tmp_path, files, pets.is_cat, valid_pct=0.5, seed=0, item_tfms=Resize(64), bs=4, num_workers=0
    )
    learn = vision_learner(dls, arch, metrics=accuracy, cbs=FrozenBatchNorm)
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(1)
    (normalise,) = (step for step in dls.after_batch.fs if isinstance(step, Normalize))
    assert normalise.mean.flatten().tolist() == normalise.std.flatten().tolist() == [0.5, 0.5, 0.5]
    assert dls.vocab == [False, True]
    learn.export(tmp_path / "learner.pkl")
    assert not [warning for warning in recwarn if "torch.load" not in str(warning.message)]
