"""Every way of sweeping gives what running the network on each patched picture gives."""

import copy
import gc
import re
import weakref

import pytest
import torch
from torch import nn

from lessons_lib.methods.occlusion import Occluder, baseline_picture, occlude
from lessons_lib.methods.occlusion import occluder as occluder_module
from lessons_lib.methods.occlusion import sweep as sweep_module
from lessons_lib.methods.occlusion.request import starts
from lessons_lib.models.small_cnn import SmallCNN
from tests.test_hooks import hook_count


def scrambled(model, image):
    """``model`` with batch norms that do something and logits of unit size, so that a wrong number anywhere shows."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.2)
    model = model.to(image.dtype).eval()
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight /= model(image[None]).std()
    return model


def picture(height, width, dtype=torch.float64):
    return torch.randn(3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(0))


def naive(model, image, patch, stride, filled, placement="centred"):
    """The lecture's loop: probabilities (classes, R, C)."""
    tops, lefts = (starts(n, patch, stride, placement).tolist() for n in image.shape[1:])
    answers = []
    for top in tops:
        for left in lefts:
            patched = image.clone()
            window = (slice(None), slice(max(0, top), top + patch), slice(max(0, left), left + patch))
            patched[window] = filled[window]
            with torch.no_grad():
                answers.append(model(patched[None])[0].softmax(0))
    return torch.stack(answers).T.reshape(-1, len(tops), len(lefts))


def small_cnn():
    return SmallCNN()


def resnet18():
    from torchvision.models import resnet18

    return resnet18(num_classes=10)


def resnet50():
    from torchvision.models import resnet50

    return resnet50(num_classes=10)


def alexnet():
    from torchvision.models import alexnet

    return alexnet(num_classes=10)


def efficientnet_lite0():
    import timm

    return timm.create_model("tf_efficientnet_lite0", num_classes=10)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return scrambled(SmallCNN(), picture(32, 32))


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(0)
    return scrambled(resnet18(), picture(64, 64, torch.float32))


@pytest.mark.parametrize(
    ("build", "size", "patch", "stride", "placement", "dtype"),
    [
        (small_cnn, (32, 32), 9, 3, "centred", torch.float64),
        (small_cnn, (32, 32), 32, 8, "centred", torch.float64),
        (small_cnn, (32, 32), 7, 8, "inside", torch.float64),
        (resnet18, (61, 47), 9, 8, "centred", torch.float64),
        (resnet18, (61, 96), 30, 11, "inside", torch.float32),
        (resnet50, (49, 64), 12, 16, "centred", torch.float32),
        (alexnet, (71, 65), 16, 8, "centred", torch.float32),
        (efficientnet_lite0, (63, 64), 8, 11, "centred", torch.float32),
    ],
)
def test_exact_is_the_naive_loop(build, size, patch, stride, placement, dtype):
    torch.manual_seed(0)
    image = picture(*size, dtype)
    model = scrambled(build(), image)
    targets = (3, 7)
    filled = baseline_picture(image, "grey", patch, black=-1, white=0.5)
    expected = naive(model, image, patch, stride, filled, placement)
    result = occlude(
        model,
        image,
        targets,
        patch=patch,
        stride=stride,
        baseline=filled,
        placement=placement,
        progress=False,
    )
    assert result.note == "incremental", "this network must be within the plan's reach"
    assert expected.std(dim=(1, 2)).max() > 1e-3, "a flat map would prove nothing"
    assert expected.shape[1:] == result.predicted.shape
    close = 1e-7 if dtype == torch.float64 else 1e-5  # the map itself is float32
    torch.testing.assert_close(result.probabilities.to(dtype), expected[list(targets)], atol=close, rtol=0)
    first, second = expected.topk(2, dim=0).values
    clear = first - second > 2 * close  # where rounding cannot change the answer
    assert torch.equal(result.predicted[clear], expected.argmax(0)[clear])
    assert clear.double().mean() > 0.9
    assert result.kept == (result.predicted == result.clean_class).sum()
    assert result.complete


@pytest.mark.parametrize("fill", ["zero", "black", "grey", "mean", "blur", 0.3, "colour", "picture"])
def test_every_baseline(small, fill):
    image = picture(32, 32)
    if fill == "colour":
        fill = torch.tensor([0.1, 0.2, 0.3])
    elif fill == "picture":
        fill = image.flip(1)
    expected = naive(small, image, 12, 8, baseline_picture(image, fill, 12))
    result = occlude(small, image, 0, patch=12, stride=8, baseline=fill, progress=False)
    assert (result.probabilities[0] - expected[0]).abs().max() < 1e-6


def test_fillings_are_what_their_names_say():
    image = picture(20, 24)
    black, white = torch.tensor([-2.0, -1.8, -1.6]), torch.tensor([2.0, 2.2, 2.4])
    kinds = {
        name: baseline_picture(image, name, 8, black=black, white=white)
        for name in ("zero", "black", "grey", "mean", "blur")
    }
    assert all(filled.shape == image.shape and filled.dtype == image.dtype for filled in kinds.values())
    assert (kinds["zero"] == 0).all()
    assert torch.equal(kinds["black"][:, 3, 4].float(), black)
    assert torch.allclose(kinds["grey"][:, 3, 4].float(), torch.tensor([0.0, 0.2, 0.4]))
    assert torch.allclose(kinds["mean"].mean((1, 2)), image.mean((1, 2)))
    assert kinds["blur"].std() < 0.2 * image.std()
    assert torch.allclose(kinds["blur"].mean(), image.mean(), atol=0.1)
    flat = torch.full((3, 9, 9), 0.7)
    assert torch.allclose(baseline_picture(flat, "blur", 4), flat)


def captums(model, image, patch, stride, target):
    """What captum's ``Occlusion`` says of probabilities; the same in each channel."""
    captum = pytest.importorskip("captum.attr")
    found = captum.Occlusion(lambda inputs: model(inputs).softmax(1)).attribute(
        image[None], sliding_window_shapes=(3, patch, patch), strides=(3, stride, stride), target=target
    )
    assert found.std() > 1e-4
    assert torch.equal(found[0, 0], found[0, 2])
    return found[0, 0].float()


@pytest.mark.parametrize(("patch", "stride"), [(8, 4), (5, 3), (8, 8)])
def test_captums_map_from_ours(small, patch, stride):
    image = picture(32, 32)
    result = occlude(small, image, 5, patch=patch, stride=stride, placement="inside", progress=False)
    theirs = captums(small, image, patch, stride, 5)
    torch.testing.assert_close(result.attribution(), theirs, atol=1e-6, rtol=0)


def test_captums_map_differs_where_the_stride_does_not_divide(small):
    image, patch, stride = picture(32, 32), 8, 5
    ours = occlude(small, image, 5, patch=patch, stride=stride, placement="inside", progress=False)
    assert ours.tops.tolist() == [0, 5, 10, 15, 20, 24]
    drops, counts = torch.zeros(32, 32, dtype=torch.float64), torch.zeros(32, 32)
    for top in range(0, 26, stride):  # captum's last patch begins at 25 and stands out of the picture
        for left in range(0, 26, stride):
            patched, window = image.clone(), (slice(top, top + patch), slice(left, left + patch))
            patched[:, *window] = 0
            with torch.no_grad():
                before, after = small(torch.stack([image, patched])).softmax(1)[:, 5]
            drops[window] += before - after
            counts[window] += 1
    theirs = captums(small, image, patch, stride, 5)
    torch.testing.assert_close(theirs, (drops / counts).float(), atol=1e-6, rtol=0)
    assert (theirs - ours.attribution()).abs().max() > 1e-3


@pytest.mark.parametrize("incremental", [True, False])
def test_total_activation_of_a_layer(small, incremental):
    image = picture(32, 32)
    occluder = Occluder(small, image, layer="block3", incremental=incremental)
    assert (occluder.plan is not None) == incremental, occluder.whole_because
    boxes = torch.tensor([[0, 0, 7, 9], [20, 11, 32, 30], [4, 4, 5, 5]])
    _, sums = occluder(boxes, torch.zeros_like(image))
    for (top, left, bottom, right), found in zip(boxes.tolist(), sums, strict=True):
        patched = image.clone()
        patched[:, top:bottom, left:right] = 0
        with torch.no_grad():
            maps = small.block3(small.block2(small.block1(patched[None])))
        torch.testing.assert_close(found, maps.sum((2, 3))[0], rtol=1e-9, atol=1e-9)


def test_activation_of_a_residual_layer(resnet):
    image, network = picture(64, 64), copy.deepcopy(resnet).double()
    result = occlude(network, image, 0, patch=20, stride=24, layer="layer2", progress=False)
    assert result.note == "incremental"
    whole = Occluder(network, image, layer="layer2", incremental=False)
    box = torch.tensor([[0, 14, 10, 34]])
    expected = whole(box, torch.zeros_like(image))[1][0, result.channels[0]]
    torch.testing.assert_close(result.activations[0, 0, 1], expected.float())


def test_strongest_channel_is_the_default(small):
    image = picture(32, 32)
    with torch.no_grad():
        clean = small.block2(small.block1(image[None])).sum((2, 3))[0].float()
    result = occlude(small, image, 0, patch=9, stride=9, layer="block2", progress=False)
    assert result.channels == (int(clean.argmax()),)
    torch.testing.assert_close(result.clean_activations, clean[list(result.channels)])
    channels = (3, *result.channels)
    several = occlude(small, image, 0, patch=9, stride=9, layer="block2", channels=channels, progress=False)
    torch.testing.assert_close(several.activations[1], result.activations[0])
    assert not torch.allclose(several.activations[0], several.activations[1])


def test_attribution_by_hand(small):
    result = occlude(small, picture(32, 32), 2, patch=5, stride=3, progress=False)
    drop = result.clean_probabilities[2] - result.probabilities[0]
    for pixel in ((0, 0), (31, 30), (13, 17)):
        over = [
            drop[i, j]
            for i, top in enumerate(result.tops.tolist())
            for j, left in enumerate(result.lefts.tolist())
            if top <= pixel[0] < top + 5 and left <= pixel[1] < left + 5
        ]
        assert torch.isclose(result.attribution()[pixel], torch.stack(over).mean(), atol=1e-6)
    sparse = occlude(small, picture(32, 32), 2, patch=2, stride=9, progress=False)
    assert sparse.attribution()[5, 5] == 0, "a pixel that no patch covers"


def test_the_lectures_positions():
    tops = starts(224, 32, 1, "centred")
    assert len(tops) ** 2 == 50_176
    assert (tops[0], tops[-1]) == (-16, 207)
    assert starts(10, 4, 4, "inside").tolist() == [0, 4, 6], "the last one touches the border"
    assert starts(10, 10, 1, "inside").tolist() == [0]


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_result_does_not_depend_on_batch_size(small, monkeypatch, batch):
    image = picture(32, 32)
    reference = occlude(small, image, (0, 1), patch=8, stride=4, layer="block4", progress=False)
    monkeypatch.setitem(occluder_module.BATCH, "cpu", batch)
    again = occlude(small, image, (0, 1), patch=8, stride=4, layer="block4", progress=False)
    torch.testing.assert_close(again.probabilities, reference.probabilities, atol=1e-7, rtol=0)
    torch.testing.assert_close(again.activations, reference.activations, atol=1e-4, rtol=1e-6)


def test_memory_is_bounded_by_the_batch(small, monkeypatch):
    monkeypatch.setitem(occluder_module.BATCH, "cpu", 7)
    sizes = []
    patched = occluder_module._patched
    monkeypatch.setattr(
        occluder_module, "_patched", lambda *args: sizes.append(len(args[2])) or patched(*args)
    )
    occlude(small, picture(32, 32), 0, patch=8, stride=2, progress=False)
    assert sum(sizes) >= 16 * 16
    assert max(sizes) <= 7


def test_leaves_no_trace():
    torch.manual_seed(0)
    model, image = SmallCNN(), picture(32, 32, torch.float32)
    model(image[None].repeat(2, 1, 1, 1)).sum().backward()
    model.block2.eval()
    before = [p.grad.clone() for p in model.parameters()], [m.training for m in model.modules()]
    weights = [t.clone() for t in model.state_dict().values()]
    copy = image.clone()
    occlude(model, image, 0, patch=8, stride=8, layer="block3", progress=False)
    assert all(torch.equal(a, p.grad) for a, p in zip(before[0], model.parameters(), strict=True))
    assert [m.training for m in model.modules()] == before[1]
    assert all(torch.equal(a, b) for a, b in zip(weights, model.state_dict().values(), strict=True))
    assert torch.equal(image, copy)
    assert hook_count(model) == 0
    assert torch.is_grad_enabled()


# ---------------------------------------------------------------- interruption


def interrupted_after(calls, monkeypatch):
    """Make the occluder answer ``calls`` times and then be interrupted."""
    run, count = Occluder.run, [0]

    def call(self, *args):
        count[0] += 1
        if count[0] > calls:
            raise KeyboardInterrupt
        return run(self, *args)

    monkeypatch.setattr(Occluder, "run", call)
    return count


def test_an_interrupted_map_holds_what_was_computed(small, monkeypatch, capsys):
    image, options = picture(32, 32).float(), {"patch": 8, "stride": 2, "layer": "block2", "progress": False}
    model = copy.deepcopy(small).float()
    whole = occlude(model, image, (1, 2), **options)
    with monkeypatch.context() as patched:
        interrupted_after(10, patched)
        part = occlude(model, image, (1, 2), **options)
    done = int(part.computed.sum())
    assert 0 < done < part.positions
    assert f"Interrupted after {done} of {part.positions} positions" in capsys.readouterr().out
    assert not part.complete
    assert torch.isnan(part.probabilities[:, ~part.computed]).all()
    assert (part.predicted[~part.computed] == -1).all()
    assert torch.equal(part.probabilities[:, part.computed], whole.probabilities[:, part.computed])
    with pytest.raises(ValueError, match="interrupted"):
        part.attribution()


def test_progress_counts_to_the_true_total(small, capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    occlude(small, picture(32, 32), 0, patch=8, stride=8, progress=True)
    assert re.search(r"/16\b", capsys.readouterr().err)


def test_a_sweep_of_thousands_prepares_and_changes_nothing(small, monkeypatch):
    monkeypatch.setattr(sweep_module, "_MANY", 100)
    image, ran, run = picture(32, 32), [], Occluder.run
    monkeypatch.setattr(Occluder, "run", lambda self, *a: ran.append(self) or run(self, *a))
    result = occlude(small, image, (0, 1), patch=8, stride=2, progress=False)
    assert ran[-1].plan.many
    expected = naive(small, image, 8, 2, torch.zeros_like(image))[:2]
    torch.testing.assert_close(result.probabilities.double(), expected, atol=1e-6, rtol=0)


def test_a_plan_and_its_maps_are_freed_at_once(small):
    """Not when Python next looks for circles: it does not know how large tensors are, and does so late."""
    occluder = Occluder(small, picture(32, 32))
    plan = weakref.ref(occluder.plan)
    assert plan() is not None
    occluder(torch.tensor([[0, 0, 8, 8]]), torch.zeros(3, 32, 32))
    gc.disable()
    try:
        del occluder
        assert plan() is None
    finally:
        gc.enable()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"image": torch.zeros(3, 32, 32, dtype=torch.uint8)}, TypeError, "to_input"),
        ({"image": torch.zeros(3, 32, 32)}, TypeError, "float32"),
        ({"image": torch.zeros(1, 3, 32, 32).double()}, ValueError, r"\(C, H, W\)"),
        ({"image": torch.full((3, 32, 32), torch.nan).double()}, ValueError, "NaN"),
        ({"image": torch.full((3, 32, 32), -torch.inf).double()}, ValueError, "infinity"),
        ({"baseline": torch.nan}, ValueError, "or in the baseline"),
        ({"baseline": torch.tensor([0, torch.inf, 0])}, ValueError, "or in the baseline"),
        ({"baseline": [0.0, 0.0, 0.0]}, TypeError, "float"),
        ({"targets": 10}, ValueError, "0–9"),
        ({"targets": -1}, ValueError, "0–9"),
        ({"targets": ()}, ValueError, "need one class"),
        ({"targets": 1.0}, TypeError, "whole number"),
        ({"patch": 33}, ValueError, "1–32"),
        ({"patch": 0}, ValueError, "1–32"),
        ({"stride": 0}, ValueError, "stride"),
        ({"placement": "beside"}, ValueError, "'centred', 'inside'"),
        ({"baseline": "pink"}, ValueError, "'zero', 'black', 'grey', 'mean', 'blur'"),
        ({"baseline": torch.zeros(4)}, ValueError, r"\(3,\) or \(3, 32, 32\)"),
        ({"layer": "block9"}, ValueError, "block1"),
        ({"layer": "classifier"}, ValueError, "not feature maps"),
        ({"layer": "block1", "channels": (32,)}, ValueError, "0–31"),
        ({"channels": (1,)}, ValueError, "layer="),
    ],
)
def test_bad_input(small, changed, error, message):
    request = {"image": picture(32, 32), "targets": 0, "patch": 8, "stride": 16} | changed
    with pytest.raises(error, match=message):
        occlude(small, progress=False, **request)


def test_drop_of_a_class_that_was_not_swept(small):
    result = occlude(small, picture(32, 32), (4, 2), patch=16, stride=16, progress=False)
    assert torch.equal(result.drop(), result.drop(4))
    with pytest.raises(ValueError, match="choose from 4, 2"):
        result.drop(3)


def test_a_model_that_is_no_classifier():
    with pytest.raises(ValueError, match="logits"):
        Occluder(nn.Conv2d(3, 4, 3), torch.rand(3, 8, 8))
