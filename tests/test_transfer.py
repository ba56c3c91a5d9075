"""Frozen layers stay, probes equal scikit-learn's by hand, and decisions follow from the numbers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import nn

from lessons_lib.data import hymenoptera
from lessons_lib.data.pictures import Pictures, to_input
from lessons_lib.methods.transfer import (
    Probe,
    Transfer,
    decide,
    head_from_classes,
    head_from_probe,
    layers_up_to,
    per_class,
    slower_body,
    sources,
    transfer,
)
from lessons_lib.models.small_cnn import BLOCKS, SmallCNN
from lessons_lib.networks import evaluating, features, head_name, predict
from lessons_lib.training import Settings, fit

INPUTS = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def colours(n, seed=0, size=32):
    """Pictures that are mostly red, green or blue, by label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    images = torch.randint(0, 100, (n, 3, size, size), generator=generator, dtype=torch.uint8)
    images[torch.arange(n), labels] += 120
    return Pictures(images, labels, ("red", "green", "blue"), "made in the test")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SmallCNN()


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def learnable(module):
    """How many numbers can learn."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# ---------------------------------------------------------------- freezing


def test_a_new_head_on_a_copy(model):
    before = weights(model)
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)
    tuned = transfer(model, 3)
    assert torch.equal(torch.rand(1), expected), "the caller's generator must be left alone"
    assert tuned(INPUTS).shape == (4, 3)
    assert tuned.network.classifier.weight.shape == (3, 64)
    assert not changed(before, model.state_dict())
    assert model.classifier.out_features == 10
    same, other = transfer(model, 3), transfer(model, 3, seed=1)
    assert torch.equal(tuned.network.classifier.weight, same.network.classifier.weight)
    assert not torch.equal(tuned.network.classifier.weight, other.network.classifier.weight)


def test_frozen_layers_do_not_change_in_training_not_even_their_batch_norms(model):
    tuned = transfer(model, 3, freeze="block3")
    before = weights(tuned.network)
    fit(tuned, colours(32), colours(3), Settings(epochs=1, batch_size=16), progress=False)
    moved = changed(before, tuned.network.state_dict())
    assert {name.split(".")[0] for name in moved} == {"block4", "block5", "embedding", "classifier"}
    assert not any("running" in name for name in moved), "frozen norms keep their statistics everywhere"


def test_norms_of_learning_layers_can_follow_the_data(model):
    tuned = transfer(model, 3, INPUTS, freeze="block3", freeze_norms=False)
    before = weights(tuned.network)
    fit(tuned, colours(32), colours(3), Settings(epochs=1, batch_size=16), progress=False)
    moved = {name for name in changed(before, tuned.network.state_dict()) if "running" in name}
    assert {name.split(".")[0] for name in moved} == {"block4", "block5"}


def test_requires_grad_alone_does_not_freeze_a_batch_norm(model):
    """The trap that Transfer is for."""
    model.requires_grad_(False)
    before = weights(model)
    model.train()(INPUTS)
    assert any("running_mean" in name for name in changed(before, model.state_dict()))
    tuned = Transfer(SmallCNN(), "classifier", BLOCKS)
    before = weights(tuned)
    tuned.train()(INPUTS)
    assert not changed(before, tuned.state_dict())


def test_training_flags(model):
    tuned = transfer(model, 3, INPUTS, freeze="block2").train()
    flags = {name: module.training for name, module in tuned.network.named_modules()}
    assert not flags["block1.conv"]
    assert not flags["block2.norm"]
    assert not flags["block4.norm"]
    assert flags["block3.conv"]
    assert flags["dropout"]
    with evaluating(tuned):
        assert not any(module.training for module in tuned.modules())
    assert tuned.network.dropout.training
    assert not tuned.network.block4.norm.training
    assert not any(module.training for module in tuned.eval().modules())


def test_freezing_equals_counting_by_hand(model):
    every = sum(p.numel() for p in model.parameters()) - 7 * 65
    assert learnable(transfer(model, 3)) == every
    still = sum(p.numel() for name in ("block1", "block2") for p in model.get_submodule(name).parameters())
    assert learnable(transfer(model, 3, INPUTS, freeze="block2")) == every - still
    assert learnable(transfer(model, 3, INPUTS, freeze="dropout")) == 3 * 65


class Backwards(nn.Module):
    """Registers its layers against the order in which they run, and uses one of them twice."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.last = nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU()
        self.first = nn.Conv2d(3, 4, 1)
        self.unused = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.head(self.relu(self.last(self.relu(self.first(x)))).mean((2, 3)))


def test_the_order_is_that_of_running():
    model = Backwards()
    assert layers_up_to(model, "relu", INPUTS) == ("first", "relu")
    assert layers_up_to(model, "head", INPUTS) == ("first", "relu", "last", "head")
    tuned = transfer(model, 2, INPUTS, freeze="first")
    assert [name for name, p in tuned.network.named_parameters() if not p.requires_grad] == [
        "first.weight",
        "first.bias",
    ]
    with pytest.raises(ValueError, match="did not run"):
        layers_up_to(model, "unused", INPUTS)


class NormWithActivation(nn.BatchNorm2d):
    """As timm's: a layer with weights of its own and another layer inside."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(super().forward(x))


def test_a_layer_with_weights_and_a_layer_inside_is_frozen_too():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), NormWithActivation(4), nn.Flatten(), nn.Linear(4 * 32 * 32, 2))
    assert layers_up_to(model, "1", INPUTS) == ("0", "1.act", "1")
    tuned = transfer(model, 2, INPUTS, freeze="1")
    assert learnable(tuned) == 2 * (4 * 32 * 32 + 1)


def test_layers_up_to_leaves_no_trace(model):
    model.train()
    model.block2.eval()
    flags = [module.training for module in model.modules()]
    before = weights(model)
    assert layers_up_to(model, "block1", INPUTS) == ("block1.conv", "block1.norm", "block1.relu")
    assert [module.training for module in model.modules()] == flags
    assert not changed(before, model.state_dict())
    assert not any(module._forward_hooks for module in model.modules())


def test_wrong_transfers(model):
    with pytest.raises(ValueError, match="at least 2, not"):
        transfer(model, 1)
    with pytest.raises(ValueError, match="new head"):
        transfer(model, 2, freeze="classifier")
    with pytest.raises(ValueError, match="block1, block1"):
        transfer(model, 2, INPUTS, freeze="blok")
    with pytest.raises(ValueError, match="new head"):
        transfer(model, 2, INPUTS, freeze="classifier")
    for head, frozen in (("classifier", ["nowhere"]), ("nowhere", [])):
        with pytest.raises(ValueError, match="no layer 'nowhere'"):
            Transfer(model, head, frozen)


def test_slower_body(model):
    tuned = transfer(model, 3)
    body, head = slower_body(tuned, 1e-2, slowdown=5)
    assert (body["lr"], head["lr"]) == pytest.approx((2e-3, 1e-2))
    assert [tuple(p.shape) for p in head["params"]] == [(3, 64), (3,)]
    assert len(body["params"]) + 2 == len(list(tuned.parameters()))
    (only,) = slower_body(transfer(model, 3, INPUTS, freeze="embedding"), 1e-2)
    assert only["lr"] == 1e-2
    with pytest.raises(ValueError, match="slowdown must be at least 1"):
        slower_body(tuned, 1, slowdown=0.5)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_started_head_answers_like_the_probe(model, classes):
    pictures = colours(30)
    labels = pictures.labels % classes
    tuned = transfer(model, classes).train()
    head_from_probe(tuned, zip(to_input(pictures.images).split(7), labels.split(7), strict=True))
    assert tuned.network.dropout.training, "training flags must be put back"
    rows = features(model, pictures.images, ["embedding"])["embedding"]
    probe = Probe("softmax").fit(rows, labels)
    with torch.no_grad(), evaluating(tuned):
        logits = tuned(to_input(pictures.images))
    chances = torch.from_numpy(probe._classifier.predict_proba(probe._standard(rows)))
    torch.testing.assert_close(logits.softmax(1).double(), chances, atol=1e-4, rtol=1e-3)


def test_heads_that_cannot_be_started(model):
    with pytest.raises(ValueError, match="number of batches"):
        head_from_probe(transfer(model, 3), [])
    with pytest.raises(ValueError, match="3 classes, but the labels only 2"):
        head_from_probe(transfer(model, 3), [(INPUTS, torch.tensor([0, 1, 0, 1]))])


def test_a_kept_head_answers_as_the_source_does_among_its_classes(model):
    model.eval()
    tuned = transfer(model, 3).eval()
    head_from_classes(tuned, model, [7, 2, 5])
    with torch.no_grad():
        torch.testing.assert_close(tuned(INPUTS), model(INPUTS)[:, [7, 2, 5]])
        tuned.network.classifier.weight.zero_()
    assert model.classifier.weight.abs().sum() > 0, "the source must be left as it is"
    for wrong, text in (([1, 2], "needs 3 different"), ([1, 2, 2], "needs 3 different"), ([1, 2, 10], "0–9")):
        with pytest.raises(ValueError, match=text):
            head_from_classes(tuned, model, wrong)


# ---------------------------------------------------------------- probes


@pytest.mark.parametrize("kind", ["svm", "softmax"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_probe_is_scikit_learns(kind, classes):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(80, 12, generator=generator) * torch.arange(1, 13) + 3
    features[:, 5] = 2.0  # a feature that never changes must do no harm
    labels = torch.arange(80) % classes
    features[:, 0] += 4 * labels
    train, test = slice(0, 60), slice(60, 80)
    probe = Probe(kind).fit(features[train], labels[train])
    other = (
        LinearSVC(C=1 / 12, random_state=0) if kind == "svm" else LogisticRegression(C=10 / 12, max_iter=2000)
    )
    peer = make_pipeline(StandardScaler(), other).fit(features[train].double(), labels[train])
    assert probe.predict(features[test]).tolist() == peer.predict(features[test].double()).tolist()
    assert probe.accuracy(features[test], labels[test]) == pytest.approx(
        peer.score(features[test].double(), labels[test])
    )
    weight, bias = probe.linear()
    by_hand = (features[test] @ weight.T + bias).argmax(1)
    assert by_hand.tolist() == probe.predict(features[test]).tolist()


def test_wrong_probes():
    features, labels = torch.randn(6, 2), torch.tensor([0, 1] * 3)
    with pytest.raises(ValueError, match="'svm', 'softmax'"):
        Probe("tree")
    with pytest.raises(ValueError, match="inconsistent"):
        Probe().fit(features, labels[:4])
    with pytest.raises(ValueError, match="at least 2"):
        Probe().fit(features, torch.zeros(6, dtype=torch.int64))
    with pytest.raises(ValueError, match="NaN"):
        Probe().fit(features * math.nan, labels)


# ---------------------------------------------------------------- strategies


@given(st.integers(1, 4), st.integers(0, 5))
def test_pictures_are_drawn_evenly_and_repeatably(count, seed):
    labels = torch.tensor([2, 0, 1, 0, 2, 1, 0, 1, 2, 2, 1, 0])
    index = per_class(labels, count, seed)
    assert labels[index].bincount().tolist() == [count] * 3
    assert index.tolist() == sorted(set(index.tolist()))
    assert torch.equal(index, per_class(labels, count, seed))


def test_too_few_pictures_of_a_class():
    with pytest.raises(ValueError, match="pictures of class 1 must be at least"):
        per_class(torch.tensor([0, 0, 1]), 2, 0)
    with pytest.raises(ValueError, match="at least 1"):
        per_class(torch.tensor([0, 1]), 0, 0)


SCORES = {
    "photographs": {
        name: {5: (0.5 + i / 10,) * 2, 60: (0.9 - i / 10, 0.901 - i / 10)} for i, name in enumerate("abcd")
    },
    "digits": {name: {5: (0.5, 0.6, 0.7), 60: (0.6, 0.5, 0.7)} for name in "abcd"},
}


def test_decisions_follow_the_nearest_measurement():
    few = decide(SCORES, 3, "photographs")
    assert (few.measured_at, few.ties, [*few.accuracies]) == (5, ("d",), [*"dcba"])
    many = decide(SCORES, 1000, "photographs")
    assert (many.measured_at, many.ties, [*many.accuracies]) == (60, ("a",), [*"abcd"])
    assert decide(SCORES, 17, "photographs").measured_at == 5, "17 is nearer to 5 than to 60 by ratio"
    assert decide(SCORES, 18, "photographs").measured_at == 60
    assert str(many).startswith("photographs, 60 pictures a class: a 0.90 [")
    even = decide(SCORES, 5, "digits")
    assert set(even.ties) == set("abcd")
    assert "undecided against b and c and d" in str(even)


def test_the_paired_interval_sees_what_single_ones_do_not():
    """A strategy ahead by the same amount for every seed wins, however much the seeds differ."""
    assert decide({"x": {"a": {1: (0.3, 0.6, 0.9)}, "b": {1: (0.29, 0.589, 0.891)}}}, 1, "x").ties == ("a",)


def test_decisions_that_cannot_be_made():
    with pytest.raises(ValueError, match="pictures must be at least 1"):
        decide(SCORES, 0, "digits")
    with pytest.raises(ValueError, match="choose from 'photographs', 'digits'"):
        decide(SCORES, 5, "odd")
    with pytest.raises(ValueError, match="different sizes"):
        decide({"digits": {"a": {1: (0, 1)}, "b": {2: (0, 1)}}}, 5, "digits")


# ---------------------------------------------------------------- sources


@pytest.mark.archives
def test_imagenet_answers_for_real_ants_and_bees(tmp_path, monkeypatch):
    """Without training, asked to choose between all ant and all bee classes: the table of lesson 07."""
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    source, pictures = sources.load("efficientnet_lite0", size=224), hymenoptera.load("val")
    groups = [[source.classes.index(name) for name in names] for names in (("ant",), ("bee", "apiary"))]
    logits = predict(source.model, pictures.images, transform=source.transform, batch_size=32)
    chances = torch.stack([logits[:, group].logsumexp(1) for group in groups], dim=1)
    right = chances.argmax(1) == pictures.labels
    print(f"no training, choose one of the two: {right.sum()} of {len(right)} right")
    assert right.double().mean() > 0.9


@pytest.mark.parametrize("name", [sources.SMALL_CNN, sources.RESNET18, "efficientnet_lite0"])
def test_a_source_can_be_probed(name, capsys):
    source = sources.load(name, size=64)
    pictures = colours(3)
    inputs = source.transform(pictures.images)
    rows = features(source.model, pictures.images, source.layers, pool=2, transform=source.transform)
    assert list(rows) == list(source.layers)
    order = layers_up_to(source.model, head_name(source.model), inputs)
    places = [max(i for i, leaf in enumerate(order) if leaf.startswith(layer)) for layer in source.layers]
    assert places == sorted(places), "layers are named in the order they run"


def test_sources_that_there_are_not():
    with pytest.raises(ValueError, match="choose from 'small_cnn_cifar10'"):
        sources.load("vgg")
    with pytest.raises(ValueError, match="at least 32"):
        sources.load("efficientnet_lite0", size=8)
