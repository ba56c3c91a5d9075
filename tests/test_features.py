"""Features are the activations of capture, a row a picture, pooled as asked."""

import pytest
import torch
from torch import nn

from lessons_lib.data.pictures import to_input
from lessons_lib.networks import capture, features

LAYERS = ("block2", "block5", "embedding")


@pytest.fixture
def images():
    return torch.randint(
        0, 256, (7, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def test_features_are_the_flattened_activations(model, images):
    maps = capture(model, to_input(images), LAYERS)
    found = features(model, images, LAYERS, batch_size=3)
    assert {name: tuple(points.shape) for name, points in found.items()} == {
        "block2": (7, 64 * 16 * 16),
        "block5": (7, 1024),
        "embedding": (7, 64),
    }
    for name in LAYERS:
        torch.testing.assert_close(found[name], maps[name].flatten(1), atol=1e-5, rtol=1e-4)


def test_pooled_features_are_means_over_positions(model, images):
    maps = capture(model, to_input(images), LAYERS)
    found = features(model, images, LAYERS, pool=1)
    torch.testing.assert_close(found["block2"], maps["block2"].mean((2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["embedding"], maps["embedding"], atol=1e-5, rtol=1e-4)


def test_features_of_regions_are_means_over_them(model, images):
    maps = capture(model, to_input(images), ["block2"])["block2"]
    quarters = [maps[:, :, r : r + 8, c : c + 8].mean((2, 3)) for r in (0, 8) for c in (0, 8)]
    found = features(model, images, ["block2", "block5", "embedding"], pool=2, batch_size=3)
    torch.testing.assert_close(found["block2"], torch.stack(quarters, 2).flatten(1), atol=1e-5, rtol=1e-4)
    assert found["embedding"].shape == (7, 64)
    everywhere = features(model, images, ["block5"], pool=9)["block5"]
    torch.testing.assert_close(everywhere, features(model, images, ["block5"])["block5"])


@pytest.mark.parametrize("pool", [None, 1, 2])
def test_features_do_not_depend_on_batch_size(model, images, pool):
    def double(batch):
        return to_input(batch).double()

    model.double()
    one, all_at_once = (
        features(model, images, LAYERS, pool=pool, transform=double, batch_size=size) for size in (1, 100)
    )
    for name in LAYERS:
        torch.testing.assert_close(one[name], all_at_once[name], atol=1e-12, rtol=1e-10)


def test_features_stream_and_leave_the_model_as_it_was(model, images):
    sizes = []
    handle = model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    flags = [module.training for module in model.modules()]
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    features(model, images, ["block1"], batch_size=3)
    handle.remove()
    assert sizes == [3, 3, 1], "one pass, a batch at a time"
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_hooks_are_gone_after_an_error(model, images):
    flags = [module.training for module in model.modules()]
    with torch.no_grad():
        model.block3.conv.weight.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"'block5'.*NaN"):
        features(model, images, ["block5"])
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_tokens_are_kept_whole_but_not_averaged_since_which_side_holds_the_channels_cannot_be_told(images):
    tokens = nn.Sequential(nn.Flatten(2))  # (N, 3, positions), but a transformer's are (N, positions, C)
    torch.testing.assert_close(features(tokens, images, ["0"])["0"], to_input(images).flatten(1))
    with pytest.raises(ValueError, match="not feature maps"):
        features(tokens, images, ["0"], pool=1)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda images: (images.float(), ["block1"]), TypeError, "uint8"),
        (lambda images: (images[0], ["block1"]), ValueError, r"\(N, 3, H, W\)"),
        (lambda images: (images[:0], ["block1"]), ValueError, "not be empty"),
        (lambda images: (images, []), ValueError, "number of layers"),
        (lambda images: (images, ["block1"], 0), ValueError, "pool must be at least 1"),
        (lambda images: (images, ["blok1"]), ValueError, "Did you mean 'block1'"),
    ],
)
def test_features_refuse_bad_input(model, images, change, error, text):
    with pytest.raises(error, match=text):
        images, layers, *pool = change(images)
        features(model, images, layers, pool=pool[0] if pool else None)
