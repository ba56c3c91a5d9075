"""The offline ImageNet classifier names real photographs; the others load from the cache or say what to do."""

import hashlib
import socket
import urllib.error

import pytest
import torch
from torchvision.models import AlexNet_Weights, alexnet

from lessons_lib.data.photos import photo
from lessons_lib.models import imagenet


@pytest.fixture(scope="module")
def lite0():
    return imagenet.load()


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("coffee", {"espresso"}),
        ("chelsea", {"Egyptian cat", "tiger cat", "tabby"}),
        ("rocket", {"missile"}),
        ("motorcycle", {"moped"}),
        ("china", {"palace"}),
    ],
)
def test_real_photographs(lite0, name, answers):
    top = lite0.top(photo(name).image)
    assert top[0][0] in answers
    assert len(top) == 5
    assert [p for _, p in top] == sorted((p for _, p in top), reverse=True)


def test_names_and_input(lite0):
    assert len(lite0.categories) == 1000
    assert lite0.categories[284] == "Siamese cat"
    prepared = lite0.prepare(torch.full((3, 300, 400), 255, dtype=torch.uint8))
    assert prepared.shape == (3, 224, 224)
    assert prepared.unique().tolist() == [1]
    assert lite0.prepare(torch.zeros(2, 3, 50, 40, dtype=torch.uint8)).unique().tolist() == [-1]
    assert not lite0.model.training


def test_bad_pictures(lite0):
    with pytest.raises(TypeError, match="uint8"):
        lite0.prepare(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="shape"):
        lite0.prepare(torch.zeros(1, 8, 8, dtype=torch.uint8))


def test_damaged_or_missing_package_weights(tmp_path, monkeypatch):
    bad = tmp_path / "weights.pth"
    bad.write_bytes(b"not weights")
    monkeypatch.setattr(imagenet, "_lite0_file", lambda: bad)
    with pytest.raises(RuntimeError, match="reinstall"):
        imagenet.load()
    monkeypatch.undo()
    monkeypatch.setattr(imagenet.importlib.metadata, "files", lambda name: [])
    with pytest.raises(RuntimeError, match="holds no weights"):
        imagenet.load()


def rearranged(change):
    """What ``untrained`` gives where another version of timm has ``change`` in its network."""
    real = imagenet.untrained

    def build(*arguments):
        model = real(*arguments)
        change(model)
        return model

    return build


def swap(first, second):
    def change(model):
        """Register two tensors of one layer in the opposite order."""
        norm = model.get_submodule("blocks.3.0.bn1")
        for kind in (norm._parameters, norm._buffers):
            if first in kind:
                kind[second], kind[first] = kind.pop(second), kind.pop(first)

    return change


def other_epsilon(model):
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-5


def other_activation(model):
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.ReLU6):
            model.set_submodule(name, torch.nn.ReLU())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (swap("weight", "bias"), r"another order .*blocks\.3\.0\.bn1\.bias.*install the version"),
        (swap("running_mean", "running_var"), r"another order \(.*blocks\.3\.0\.bn1\.running_mean"),
        (
            lambda model: model.set_submodule("classifier", torch.nn.Identity()),
            "another order .more or fewer",
        ),
        (lambda model: model.set_submodule("conv_stem", torch.nn.Conv2d(3, 32, 5, bias=False)), "conv_stem"),
        (other_epsilon, "computes other answers"),
        (other_activation, "computes other answers"),
    ],
)
def test_another_version_of_timm_that_arranges_the_network_otherwise(monkeypatch, change, text):
    monkeypatch.setattr(imagenet, "untrained", rearranged(change))
    with pytest.raises(RuntimeError, match=rf"timm \S+ .*{text}"):
        imagenet.load()


def test_checking_the_weights_leaves_them_float32_to_the_bit(lite0):
    saved = torch.load(imagenet._lite0_file(), weights_only=True)
    assert all(
        torch.equal(mine, its) and mine.dtype == its.dtype
        for mine, its in zip(lite0.model.state_dict().values(), saved.values(), strict=True)
    )


def test_unknown_names():
    with pytest.raises(ValueError, match="'efficientnet_lite0', 'resnet18'"):
        imagenet.load("resnet19")


def test_torchvision_weights_in_the_hub_cache_need_no_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    torch.manual_seed(0)
    model = alexnet()
    cached = tmp_path / "checkpoints" / AlexNet_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    cached.parent.mkdir()
    torch.save(model.state_dict(), cached)
    loaded = imagenet.load("alexnet")
    inputs = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(loaded.model(inputs), model.eval()(inputs))
    assert loaded.size == 224
    assert loaded.mean == (0.485, 0.456, 0.406)
    assert "AlexNet_Weights.IMAGENET1K_V1" in capsys.readouterr().out
    cached.write_bytes(cached.read_bytes()[:1000])
    with pytest.raises(RuntimeError, match="damaged, delete it"):
        imagenet.load("alexnet")


def test_no_network_fails_at_once_and_helps(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    timeouts = []

    def refuse(*args, **kwargs):
        timeouts.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    before = socket.getdefaulttimeout()
    with pytest.raises(ConnectionError, match=r"resnet18.*put it at .*resnet18-f37072fd\.pth") as caught:
        imagenet.load("resnet18")
    assert timeouts == [imagenet._TIMEOUT], "a network that answers nothing must be given up"
    assert imagenet._TIMEOUT < 5
    assert socket.getdefaulttimeout() == before
    assert "https://" in str(caught.value)
    assert not list(tmp_path.rglob("*.pth"))


def test_the_registered_checksum_is_a_sha256():
    assert len(imagenet._LITE0_SHA256) == len(hashlib.sha256().hexdigest())
    assert imagenet._LITE0_SHA256.startswith("57934424"), "the package names the file by these first digits"
