"""The training loop learns, repeats itself, survives interruption, and refuses what cannot train."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from lessons_lib import training
from lessons_lib.data.pictures import Pictures, to_input
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.models.unfolded import UnfoldedConv2d
from lessons_lib.networks import accuracy, evaluating, predict
from lessons_lib.training import Run, Settings, augment, fit, limit_filters


def colours(n, seed=0):
    """Pictures that are mostly red, green or blue, by label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (n,), generator=generator)
    images = torch.randint(0, 100, (n, 3, 8, 8), generator=generator, dtype=torch.uint8)
    images[torch.arange(n), labels] += 120
    return Pictures(images, labels, ("red", "green", "blue"), "made in the test")


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


SETTINGS = Settings(epochs=3, batch_size=16, translate=1, snapshots=(0, 2, 3))


def train(model, settings=SETTINGS, **more):
    return fit(model, colours(96), colours(40, seed=1), settings, progress=False, **more)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def test_it_learns_and_records():
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    run = train(model, Settings(epochs=6, batch_size=16, learning_rate=0.03, snapshots=(0, 2, 6)))
    assert run.accuracy > 0.9
    assert [epoch.epoch for epoch in run.history] == [1, 2, 3, 4, 5, 6]
    assert run.history[-1].train_loss < run.history[0].train_loss
    assert run.history[-1].train_accuracy > 0.8
    assert run.seconds > 0
    assert sorted(run.snapshots) == [0, 2, 6]
    assert same_weights(run.snapshots[0], before)
    assert same_weights(run.snapshots[6], model.state_dict())
    assert not same_weights(run.snapshots[2], run.snapshots[6])
    assert not any(module.training for module in model.modules())
    assert run.accuracy == pytest.approx(accuracy(model, colours(40, seed=1)))


def test_it_repeats_and_leaves_the_callers_generator_alone():
    a, b = network(), network()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(a)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(99)
    train(b)
    assert same_weights(a.state_dict(), b.state_dict())
    c = network()
    train(c, Settings(epochs=3, batch_size=16, translate=1, seed=1))
    assert not same_weights(a.state_dict(), c.state_dict())


FIRST_LOOK = 1  # calls of the transform before the first batch: whether the network gives logits


class Interrupting:
    """A transform that presses Ctrl-C at the given call."""

    def __init__(self, at):
        self.left = at

    def __call__(self, images):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return to_input(images)


def test_interrupted_and_resumed_ends_where_an_uninterrupted_run_ends(tmp_path, capsys):
    whole = network()
    complete = train(whole)
    file = tmp_path / "deep" / "run.pt"
    model = network()
    calls_an_epoch = 96 // 16 + 1  # and one to test
    cut = train(model, checkpoint=file, transform=Interrupting(FIRST_LOOK + calls_an_epoch + 3))
    assert cut.interrupted
    assert len(cut.history) == 1
    assert "Interrupted after 1 of 3 epochs" in capsys.readouterr().out
    assert not model.training
    resumed = network(seed=77)  # even another initialisation: the checkpoint decides
    run = train(resumed, checkpoint=file)
    assert not run.interrupted
    assert same_weights(resumed.state_dict(), whole.state_dict())
    assert [e.train_loss for e in run.history] == [e.train_loss for e in complete.history]
    assert all(same_weights(run.snapshots[n], complete.snapshots[n]) for n in complete.snapshots)
    again = train(network(), checkpoint=file, transform=Interrupting(FIRST_LOOK + 1))
    assert not again.interrupted, "a finished run must not train any more"
    assert len(again.history) == 3


def test_interrupted_before_the_first_epoch_has_no_accuracy():
    run = train(network(), transform=Interrupting(FIRST_LOOK + 1))
    assert run.interrupted
    with pytest.raises(ValueError, match="no epoch"):
        _ = run.accuracy


ONE = Settings(epochs=1, batch_size=16)


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    train(network(), ONE, checkpoint=file)
    with pytest.raises(ValueError, match="a run with other epochs, seed: delete it to begin again"):
        train(network(), replace(ONE, epochs=2, seed=3), checkpoint=file)


def relabelled(pictures):
    return replace(pictures, labels=pictures.labels.flip(0))


def brighter(pictures):
    images = pictures.images.clone()
    images[-1, 0, 0, 0] += 1
    return replace(pictures, images=images)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda a, b: (relabelled(a), b), "training pictures"),
        (lambda a, b: (brighter(a), b), "training pictures"),
        (lambda a, b: (a.subset(slice(0, 80)), b), "training pictures"),
        (lambda a, b: (replace(a, classes=("x", "y", "z")), b), "training pictures"),
        (lambda a, b: (a, brighter(b)), "test pictures"),
        (lambda a, b: (a, None), "test pictures"),
        (lambda a, b: (brighter(a), relabelled(b)), "training pictures, test pictures"),
    ],
)
def test_a_checkpoint_of_other_pictures_is_refused(tmp_path, change, what):
    file, sets = tmp_path / "run.pt", (colours(96), colours(9, seed=1))
    fit(network(), *sets, ONE, checkpoint=file, progress=False)
    with pytest.raises(ValueError, match=rf"a run with other {what}: delete"):
        fit(network(), *change(*sets), ONE, checkpoint=file, progress=False)
    assert len(fit(network(), *sets, ONE, checkpoint=file, progress=False).history) == 1


def test_a_checkpoint_of_other_parameters_that_learn_is_refused(tmp_path):
    train(network(), ONE, checkpoint=tmp_path / "run.pt")
    model = network()
    model[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="a run with other parameters that learn: delete"):
        train(model, ONE, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(network(), ONE, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="a run with other network, parameters that learn: delete"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), ONE, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_of_an_earlier_version_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    train(network(), ONE, checkpoint=file)
    saved = torch.load(file, weights_only=True)
    del saved["identity"]["training pictures"]
    torch.save(saved, file)
    with pytest.raises(ValueError, match="a run with other training pictures: delete"):
        train(network(), ONE, checkpoint=file)
    del saved["identity"]
    torch.save(saved | {"settings": {}}, file)
    with pytest.raises(ValueError, match="a run with other epochs"):
        train(network(), ONE, checkpoint=file)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    file = tmp_path / "run.pt"
    train(network(), Settings(epochs=1, batch_size=16), checkpoint=file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        train(network(), Settings(epochs=1, batch_size=16), checkpoint=file)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path, monkeypatch):
    whole, file = network(), tmp_path / "run.pt"
    train(whole)
    calls_an_epoch = 96 // 16 + 1  # and one to test
    train(network(), checkpoint=file, transform=Interrupting(FIRST_LOOK + calls_an_epoch + 3))
    good = file.read_bytes()

    def full(*args):
        args[1].write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(training.torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            train(network(), checkpoint=file)
    assert file.read_bytes() == good
    resumed = network(seed=77)
    train(resumed, checkpoint=file)
    assert same_weights(resumed.state_dict(), whole.state_dict())


def test_a_loss_that_is_not_finite_stops_with_advice():
    model = network()
    with torch.no_grad():
        model[-1].bias.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="learning rate"):
        train(model)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"epochs": 1, "batch_size": 1}, "batch_size must be at least 2"),
        ({"epochs": 1, "learning_rate": 0}, "learning_rate must be at least"),
        ({"epochs": 1, "cutout": -1}, "cutout must be at least 0"),
        ({"epochs": 1, "cutmix": 1.5}, "cutmix must be in 0–1"),
        ({"epochs": 1, "snapshots": (0, 2)}, "0–1"),
    ],
)
def test_bad_settings(settings, text):
    with pytest.raises(ValueError, match=text):
        Settings(**settings)


def test_too_few_pictures():
    with pytest.raises(ValueError, match="training pictures must be at least 16, not 10"):
        fit(network(), colours(10), colours(4), Settings(epochs=1, batch_size=16), progress=False)
    with pytest.raises(ValueError, match="pictures must be at least 1"):
        fit(
            network(),
            colours(16),
            colours(16).subset(slice(0)),
            Settings(epochs=1, batch_size=16),
            progress=False,
        )


def test_without_test_pictures_nothing_is_tested_and_the_same_is_learned():
    tested, untested = network(), network()
    train(tested)
    run = fit(untested, colours(96), None, SETTINGS, progress=False)
    assert same_weights(tested.state_dict(), untested.state_dict())
    assert all(math.isnan(epoch.test_accuracy) for epoch in run.history)
    with pytest.raises(ValueError, match="no test pictures"):
        _ = run.accuracy


def test_augment_without_anything_only_picks():
    images = torch.randint(0, 256, (5, 6, 7, 3), dtype=torch.uint8)
    index = torch.tensor([3, 0])
    picked = augment(images, index, flip=False, translate=0)
    assert torch.equal(picked, images[index].permute(0, 3, 1, 2))
    assert picked.is_contiguous(memory_format=torch.channels_last)


def test_augment_moves_and_mirrors_and_repeats_the_edge():
    torch.manual_seed(0)
    ramp = torch.arange(8, dtype=torch.uint8)
    images = (10 * ramp[:, None] + ramp)[None, :, :, None].expand(1, 8, 8, 3).contiguous()
    seen = set()
    for _ in range(200):
        (picture,) = augment(images, torch.tensor([0]), flip=True, translate=2)[:, 0].int()
        line = (picture % 10)[0]
        mirrored = bool(line[3] > line[4])
        line = line.flip(0) if mirrored else line
        down, right = int(picture[4, 4] // 10) - 4, int(line[4]) - 4
        seen.add((down, right, mirrored))
        assert (line == (torch.arange(8) + right).clamp(0, 7)).all()
        assert ((picture // 10)[:, 0] == (torch.arange(8) + down).clamp(0, 7)).all()
    assert {abs(s[0]) for s in seen} == {abs(s[1]) for s in seen} == {0, 1, 2}
    assert {s[2] for s in seen} == {True, False}


def test_augment_paints_a_grey_square_anywhere():
    torch.manual_seed(0)
    images = torch.zeros(400, 6, 9, 3, dtype=torch.uint8)
    before = images.clone()
    painted = augment(images, torch.arange(400), flip=True, translate=2, cutout=4)
    assert torch.equal(images, before), "the caller's pictures are left as they were"
    assert set(painted.unique().tolist()) == {0, 128}
    grey = painted[:, 0] == 128
    assert torch.equal(painted == 128, grey[:, None].expand_as(painted)), "in all channels alike"
    rows, columns = grey.any(2).sum(1), grey.any(1).sum(1)
    assert torch.equal(grey.sum((1, 2)), rows * columns), "a rectangle without holes"
    # centred on the first or last pixel, two or three of its four rows are in the picture
    assert set(rows.tolist()) == set(columns.tolist()) == {2, 3, 4}
    assert grey.any(0).all(), "every pixel's turn comes"


class Shares(nn.Module):
    """Knows the truth of pictures whose pixels are their class: each class's share of the area is its probability."""

    def __init__(self):
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))
        self.entropies = []

    def forward(self, pictures):
        shares = torch.stack([(pictures[:, 0] == c).float().mean((1, 2)) for c in range(3)], 1)
        if self.training:
            self.entropies.append(torch.special.entr(shares).sum(1).mean().item())
        return (shares + 1e-12).log() * self.one


def test_cutmix_asks_for_each_class_by_its_share_of_the_area():
    labels = torch.arange(3).repeat(32)
    images = labels.to(torch.uint8)[:, None, None, None].expand(96, 3, 8, 8).contiguous()
    mixed = Pictures(images, labels, ("a", "b", "c"), "")
    model = Shares()
    settings = Settings(epochs=1, batch_size=16, learning_rate=1e-9, cutmix=1.0)
    run = fit(model, mixed, None, settings, transform=lambda pictures: pictures, progress=False)
    assert len(model.entropies) == 6
    assert run.history[0].train_loss == pytest.approx(sum(model.entropies) / 6, rel=1e-4)
    assert run.history[0].train_loss > 0.1
    fit(
        model, mixed, None, replace(settings, cutmix=0.0), transform=lambda pictures: pictures, progress=False
    )
    assert max(model.entropies[6:]) == 0


def test_smoothed_labels_forbid_certainty():
    runs = {}
    for share in (0.0, 0.3):
        model = network()
        settings = Settings(epochs=12, batch_size=16, learning_rate=0.03, label_smoothing=share)
        runs[share] = train(model, settings).history[-1].train_loss
        sure = predict(model, colours(40, seed=1).images).softmax(1).max(1).values.mean()
        assert (sure > 0.9) == (share == 0)
    target = torch.tensor([0.8, 0.1, 0.1])  # what is left of 1 with 0.3 spread over three classes
    entropy = -(target * target.log()).sum().item()
    assert runs[0.0] < entropy <= runs[0.3]


def test_predict_does_not_depend_on_batch_size_and_restores_flags():
    model = network().double().train()
    model[1].eval()
    images = colours(33).images
    a, b = (predict(model, images, transform=lambda x: to_input(x).double(), batch_size=n) for n in (1, 33))
    torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert model.training
    assert not model[1].training
    with pytest.raises(ValueError, match="at least 1, not 0"):
        predict(model, images[:0])


@pytest.mark.parametrize("hardware", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_bfloat16_only_in_training_and_only_where_it_is_asked_for(monkeypatch, asked, hardware):
    monkeypatch.setattr(training, "fast_bfloat16", lambda device: hardware)
    model, seen = network(), {True: set(), False: set()}
    model[0].register_forward_hook(lambda layer, _, maps: seen[layer.training].add(maps.dtype))
    train(model, replace(SETTINGS, mixed_precision=asked))
    predict(model, colours(3).images)
    assert seen == {True: {torch.bfloat16 if asked and hardware else torch.float32}, False: {torch.float32}}


def test_evaluating_restores_flags_after_an_error():
    model = network().train()
    model[3].eval()
    with pytest.raises(RuntimeError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert model.training
    assert not model[3].training
    assert model[1].training


def test_an_empty_run():
    assert Run().seconds == 0


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_shortest_runs_have_a_schedule(steps):
    settings = Settings(epochs=1, batch_size=16)
    assert len(fit(network(), colours(16 * steps), colours(16), settings, progress=False).history) == 1


def test_loud_filters_are_scaled_back_and_quiet_ones_left():
    model = network()
    with torch.no_grad():
        model[0].weight[:4] *= 10
        model[0].weight[5] = 0
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    limit_filters(model, 0.3)
    after = model.state_dict()
    for i, (old, new) in enumerate(zip(before["0.weight"], after["0.weight"], strict=True)):
        rms = old.square().mean().sqrt()
        torch.testing.assert_close(new, old * min(1, 0.3 / rms) if rms else old)
        assert torch.equal(new, old) == (i >= 4)
    assert all(torch.equal(before[name], after[name]) for name in before if name != "0.weight")


def test_training_keeps_filters_within_their_limit():
    model = network()
    train(model, Settings(epochs=1, batch_size=16, learning_rate=0.1, filter_rms=0.05))
    assert model[0].weight.square().mean((1, 2, 3)).sqrt().max() <= 0.0501
    free = network()
    train(free, Settings(epochs=1, batch_size=16, learning_rate=0.1))
    assert free[0].weight.square().mean((1, 2, 3)).sqrt().max() > 0.0501


def test_training_on_a_cpu_computes_the_smallest_maps_as_products_and_leaves_the_layers_as_they_were():
    model, kinds = SmallCNN(), []
    hook = model.block5.conv.register_forward_hook(lambda layer, *_: kinds.append(type(layer)))
    images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    pictures = Pictures(images, torch.arange(8) % 10, tuple("abcdefghij"), "made in the test")
    fit(model, pictures, None, Settings(epochs=1, batch_size=4), progress=False)
    hook.remove()
    assert kinds == [nn.Conv2d] * FIRST_LOOK + [UnfoldedConv2d] * 2
    assert type(model.block5.conv) is nn.Conv2d


class Viewed(nn.Module):
    """Flattens by ``view``, which asks for numbers that lie in memory in the order of its dimensions."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8 * 64, 3)

    def forward(self, inputs):
        x = self.body(inputs)
        return self.head(x.view(x.size(0), -1))


def test_a_network_that_flattens_by_view_learns_what_it_learns_with_flatten():
    viewed = Viewed().double()
    flattened = nn.Sequential(*copy.deepcopy(viewed.body), nn.Flatten(), copy.deepcopy(viewed.head))
    settings = Settings(epochs=2, batch_size=16, learning_rate=1e-3)
    images, precise = colours(20, seed=2).images, {"transform": lambda pictures: to_input(pictures).double()}
    train(viewed, settings, **precise)
    train(flattened, settings, **precise)
    torch.testing.assert_close(predict(viewed, images, **precise), predict(flattened, images, **precise))
    viewed.to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view size"):
        viewed(torch.rand(2, 3, 8, 8).double())


def test_another_fault_of_the_network_is_not_hidden():
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 3))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        train(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        predict(model, colours(4).images)


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = network()

    def forward(self, inputs):
        logits = self.body(inputs)
        return logits, logits


def test_what_gives_no_logits_is_refused_before_anything_is_trained():
    model = Pair()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TypeError, match="a tuple of 2"):
        train(model)
    with pytest.raises(TypeError, match="a tuple of 2"):
        predict(model, colours(4).images)
    with pytest.raises(ValueError, match="not logits"):
        train(nn.Conv2d(3, 3, 1))
    assert same_weights(before, model.state_dict())
