"""CIFAR-10 in both its layouts, its cache, and what happens when something is wrong with it."""

import copyreg
import hashlib
import io
import os
import pickle
import shutil
import socket
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from lessons_lib import networks
from lessons_lib.data import __main__ as command_line
from lessons_lib.data import archives, cifar10
from lessons_lib.data.archives import REGISTRY, Layout
from lessons_lib.models import checkpoints
from lessons_lib.recipes import RECIPES

EACH = {"train": 3, "test": 2}  # pictures of each class in the small copies


@pytest.fixture
def data(tmp_path, monkeypatch):
    """An empty data folder, where a CIFAR-10 with a few pictures counts as complete; no network."""
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    monkeypatch.delenv("LESSONS_ARCHIVES", raising=False)
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("touched the network"))
    counts = {f"{split}/{name}/*.[jp][pn]g": (n, n) for split, n in EACH.items() for name in cifar10.CLASSES}
    layouts = (REGISTRY["cifar10"].layouts[0], Layout("cifar10", counts))
    monkeypatch.setattr(archives, "REGISTRY", {"cifar10": replace(REGISTRY["cifar10"], layouts=layouts)})
    return tmp_path


def pixels(seed, mode="RGB"):
    channels = len(Image.new(mode, (1, 1)).getbands())
    shape = (32, 32, channels) if channels > 1 else (32, 32)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folders(data):
    """The folder layout as PNG: no loss, so every pixel can be compared."""
    for split, count in EACH.items():
        for label, name in enumerate(cifar10.CLASSES):
            folder = data / "cifar10" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels(100 * i + label)).save(folder / f"{i:04}.png")
    return data / "cifar10"


@pytest.fixture
def no_decoding(monkeypatch):
    def forbid():
        monkeypatch.setattr(cifar10, "_decode", lambda *_: pytest.fail("decoded again"))

    return forbid


def same(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def test_folders_are_dealt_out_in_turn(folders, capsys):
    pictures = cifar10.load("train")
    assert pictures.classes == cifar10.CLASSES
    assert pictures.labels.tolist() == [*range(10)] * 3
    for i in (0, 7, 13, 29):
        expected = torch.from_numpy(pixels(100 * (i // 10) + i % 10)).permute(2, 0, 1)
        assert torch.equal(pictures.images[i], expected)
    said = capsys.readouterr().out
    assert said == f"CIFAR-10 train: 30 pictures of 32×32 in 10 classes, from {folders}.\n"
    assert len(cifar10.load("test")) == 20


def test_jpeg_is_said(folders, capsys):
    for path in sorted((folders / "test").rglob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    pictures = cifar10.load("test")
    assert "re-encoded as JPEG" in pictures.source
    assert "re-encoded as JPEG" in capsys.readouterr().out


def test_grey_transparent_and_cmyk_pictures_become_rgb(folders):
    paths = [folders / "test" / name / "0000.png" for name in cifar10.CLASSES[:4]]
    grey = pixels(1, "L")
    Image.fromarray(grey).save(paths[0])
    Image.fromarray(pixels(2, "RGBA")).save(paths[1])
    Image.fromarray(pixels(3, "CMYK"), mode="CMYK").save(paths[2].with_suffix(".jpg"))
    paths[2].unlink()
    Image.fromarray(pixels(4)).convert("P").save(paths[3])
    images = cifar10.load("test").images
    assert images.shape == (20, 3, 32, 32)
    assert torch.equal(images[0], torch.from_numpy(grey).expand(3, 32, 32))


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x89PNG\r\n\x1a\nrubbish"])
def test_a_file_that_is_no_picture_is_named(data, folders, content):
    bad = folders / "train" / "frog" / "0001.png"
    bad.write_bytes(content)
    with pytest.raises(ValueError, match=r"frog/0001\.png is (no|a damaged) picture"):
        cifar10.load("train")
    assert not (data / "cache").exists()


def test_a_picture_of_another_size_is_named(folders):
    Image.new("RGB", (40, 31)).save(folders / "train" / "ship" / "0002.png")
    with pytest.raises(ValueError, match=r"ship/0002\.png is 40×31: CIFAR-10's pictures are 32×32"):
        cifar10.load("train")


def test_an_empty_or_missing_class_folder_is_named(folders):
    for path in (folders / "train" / "deer").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"train/deer/.*: 0 files instead of 3.*install cifar10"):
        cifar10.load("train")
    shutil.rmtree(folders / "train" / "deer")
    with pytest.raises(ValueError, match=r"train/deer/.*: 0 files instead of 3.*install cifar10"):
        cifar10.load("test")


def test_unknown_splits_are_refused():
    with pytest.raises(ValueError, match="choose from 'train', 'test'"):
        cifar10.load("val")


# --- the cache ---


def test_the_second_load_decodes_nothing(data, folders, no_decoding):
    first = cifar10.load("train")
    assert [path.name for path in (data / "cache").iterdir()] == ["cifar10-train.safetensors"]
    no_decoding()
    assert same(cifar10.load("train"), first)


def test_installing_from_the_command_line_decodes_too(data, folders, no_decoding, tmp_path_factory, capsys):
    archive = shutil.make_archive(str(tmp_path_factory.mktemp("stick") / "any"), "gztar", data, "cifar10")
    shutil.rmtree(folders)
    assert command_line.main(["install", "cifar10", "--from", archive]) == 0
    said = capsys.readouterr().out
    assert "CIFAR-10 is installed in" in said
    assert "CIFAR-10 test: 20 pictures" in said
    no_decoding()
    assert len(cifar10.load("train")) == 30


def spoil(cache, how):
    content = bytearray(cache.read_bytes())
    match how:
        case "cut":
            content = content[: len(content) // 2]
        case "one pixel":
            content[-1] ^= 1
        case "empty":
            content = bytearray()
        case "rubbish":
            content = bytearray(b"x" * 1_000)
    cache.write_bytes(content)


@pytest.mark.parametrize("how", ["cut", "one pixel", "empty", "rubbish"])
def test_a_spoilt_cache_is_made_anew(data, folders, no_decoding, how):
    first = cifar10.load("train")
    spoil(data / "cache" / "cifar10-train.safetensors", how)
    assert same(cifar10.load("train"), first)
    no_decoding()
    assert same(cifar10.load("train"), first)


def test_another_picture_makes_the_cache_anew(folders):
    first = cifar10.load("train")
    Image.fromarray(pixels(999)).save(folders / "train" / "airplane" / "0000.png")
    second = cifar10.load("train")
    assert torch.equal(second.images[0], torch.from_numpy(pixels(999)).permute(2, 0, 1))
    assert torch.equal(second.images[1:], first.images[1:])


def test_a_cache_that_cannot_be_written_is_one_warning(data, folders, monkeypatch):
    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cifar10, "save_file", read_only)
    with pytest.warns(UserWarning, match="could not be kept.*Permission denied.*LESSONS_DATA") as caught:
        pictures = cifar10.load("train")
    assert len(caught) == 1
    assert len(pictures) == 30
    assert list((data / "cache").iterdir()) == []


def test_a_full_disk_leaves_no_half_cache(data, folders, monkeypatch):
    def full(_, path, **__):
        Path(path).write_bytes(b"half")
        raise cifar10.SafetensorError("Error while serializing: No space left on device")

    monkeypatch.setattr(cifar10, "save_file", full)
    with pytest.warns(UserWarning, match="No space left"):
        cifar10.load("test")
    assert list((data / "cache").iterdir()) == []


# --- Krizhevsky's batches ---


class Python2Pickler(pickle.Pickler):
    """Writes array types as Python 2 did in 2009: with 0 and 1 for False and True."""

    dispatch_table = copyreg.dispatch_table.copy()
    dispatch_table[type(np.dtype(np.uint8))] = lambda _: (np.dtype, ("u1", 0, 1))


def dumped(entry):
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(entry)
    return buffer.getvalue()


@pytest.fixture
def batches(data, monkeypatch):
    """Krizhevsky's layout with 8 pictures a file, whose checksums torchvision is told."""
    folder = data / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    names = [name for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list]
    entries = {
        name: {
            "data": rng.integers(0, 256, (8, 3072), dtype=np.uint8),
            "labels": rng.integers(0, 10, 8).tolist(),
        }
        for name in names
    }
    md5 = {}
    for name, entry in (entries | {"batches.meta": {"label_names": list(cifar10.CLASSES)}}).items():
        content = dumped(entry)
        (folder / name).write_bytes(content)
        md5[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [[name, md5[name]] for name in names[:5]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [[names[5], md5[names[5]]]])
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", md5["batches.meta"])
    return folder, entries


@pytest.mark.filterwarnings("error")
def test_batches_are_read_in_their_own_order(data, batches, capsys):
    folder, entries = batches
    train, test = cifar10.load("train"), cifar10.load("test")
    assert (len(train), len(test)) == (40, 8)
    expected = entries["data_batch_2"]
    assert torch.equal(train.images[8:16].flatten(1), torch.from_numpy(expected["data"]))
    assert train.labels[8:16].tolist() == expected["labels"]
    assert test.labels.tolist() == entries["test_batch"]["labels"]
    assert train.images.is_contiguous()
    said = capsys.readouterr().out
    assert f"CIFAR-10 train: 40 pictures of 32×32 in 10 classes, from {folder}." in said
    assert "JPEG" not in said
    assert not (data / "cache").exists()


def test_damaged_batches_are_refused(batches):
    folder, _ = batches
    with (folder / "data_batch_3").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    with pytest.raises(ValueError, match=r"cifar-10-batches-py is damaged.*install cifar10"):
        cifar10.load("train")


def test_a_missing_batch_is_named(batches):
    (batches[0] / "test_batch").unlink()
    with pytest.raises(ValueError, match="test_batch: 0 files instead of 1"):
        cifar10.load("train")


def test_original_batches_are_preferred(batches, folders):
    assert len(cifar10.load("test")) == 8


# --- the real archive ---


def roomy():
    """A folder in memory if there is one with room: some disks take minutes to delete 60,000 files."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 2e9 else None


@pytest.fixture(scope="module")
def real():
    """The real archive, installed once from the command line with no network; yields the data folder."""
    with tempfile.TemporaryDirectory(dir=roomy()) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("LESSONS_DATA", folder)
        patch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("touched the network"))
        source = Path(os.environ["LESSONS_ARCHIVES"], "cifar10.tgz")
        assert command_line.main(["install", "cifar10", "--from", str(source)]) == 0
        yield Path(folder)


@pytest.mark.archives
@pytest.mark.parametrize(("split", "each"), [("train", 5_000), ("test", 1_000)])
def test_the_real_cifar10(real, no_decoding, split, each):
    no_decoding()  # the install has done it
    pictures = cifar10.load(split)
    assert pictures.images.shape == (10 * each, 3, 32, 32)
    assert pictures.labels.bincount().tolist() == [each] * 10
    assert pictures.labels[:10].tolist() == [*range(10)]
    # the published channel means of CIFAR-10's training pictures, 0–255
    mean = pictures.images.double().mean((0, 2, 3))
    assert torch.allclose(mean, torch.tensor([125.3, 123.0, 113.9], dtype=torch.double), atol=1.5)
    assert "re-encoded as JPEG" in pictures.source


@pytest.mark.archives
@pytest.mark.parametrize(
    ("name", "count", "within"),
    [
        ("small_cnn_cifar10", 10_000, 0.002),
        ("zfnet_cifar10", 10_000, 0.002),
        ("resnet18_cifar10", 2_000, 0.02),  # all 10,000 take over a minute; three standard errors of 2,000
    ],
)
def test_the_shipped_networks_are_as_good_as_they_say(real, name, count, within):
    recipe = RECIPES[name]
    network = checkpoints.restore(recipe.build(), name)
    pictures = cifar10.load("test").subset(slice(0, count))
    measured = networks.accuracy(network, pictures, transform=recipe.phases[-1].transform)
    assert measured == pytest.approx(checkpoints.test_accuracy(name), abs=within)


def test_every_network_shipped_for_cifar10_is_measured():
    shipped = {name for name in checkpoints.names() if name.endswith("_cifar10")}
    assert shipped == {"small_cnn_cifar10", "zfnet_cifar10", "resnet18_cifar10"}
