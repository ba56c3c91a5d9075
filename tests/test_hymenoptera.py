"""Hymenoptera: photographs with labels, what is no photograph, and the pictures it makes."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lessons_lib.data import archives, hymenoptera
from lessons_lib.data.archives import REGISTRY, Layout


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two photographs of each insect in each split, and the bad input of the real set."""
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    counts = {f"{split}/{name}/*.jp*g": (2, 2) for split in ("train", "val") for name in hymenoptera.CLASSES}
    archive = replace(REGISTRY["hymenoptera"], layouts=(Layout("hymenoptera_data", counts),))
    monkeypatch.setattr(archives, "REGISTRY", {"hymenoptera": archive})
    folder = tmp_path / "hymenoptera_data"
    for pattern in counts:
        (folder / pattern).parent.mkdir(parents=True)
    for split in ("train", "val"):
        Image.new("RGB", (60, 40), (250, 0, 0)).save(folder / split / "ants" / "b.jpg", quality=95)
        Image.new("L", (40, 60), 128).save(folder / split / "ants" / "a photo.jpeg")
        Image.new("CMYK", (50, 50)).save(folder / split / "bees" / "c.jpg")
        halves = np.zeros((32, 96, 3), dtype=np.uint8)
        halves[:, 32:64] = 255  # the centre
        Image.fromarray(halves).save(folder / split / "bees" / "d.jpg", quality=100)
    Image.new("P", (30, 30)).save(folder / "train" / "ants" / "imageNotFound.gif")
    return folder


def test_files_are_sorted_and_labelled(small, capsys):
    assert hymenoptera.folder() == small
    assert hymenoptera.files("val") == [
        (small / "val" / "ants" / "a photo.jpeg", 0),
        (small / "val" / "ants" / "b.jpg", 0),
        (small / "val" / "bees" / "c.jpg", 1),
        (small / "val" / "bees" / "d.jpg", 1),
    ]
    said = capsys.readouterr().out
    assert said == f"Hymenoptera val: 2 of ants and 2 of bees photographs from {small}.\n"


def test_what_is_no_photograph_is_skipped_and_named(small, capsys):
    (small / "train" / "bees" / "c.jpg").write_text("<html>")
    whole = small / "train" / "bees" / "d.jpg"
    whole.write_bytes(whole.read_bytes()[:100])  # not even its header
    assert len(hymenoptera.files("train")) == 2
    assert "skipped as no photographs: imageNotFound.gif, c.jpg, d.jpg." in capsys.readouterr().out


@pytest.mark.parametrize("size", [16, 32])
def test_load_resizes_the_shorter_side_and_takes_the_centre(small, size):
    pictures = hymenoptera.load("val", size)
    assert pictures.images.shape == (4, 3, size, size)
    assert pictures.labels.tolist() == [0, 0, 1, 1]
    assert pictures.classes == ("ants", "bees")
    grey, red, _, centre = pictures.images
    assert grey.float().sub(128).abs().max() <= 2
    assert red[0].float().mean() > 240
    assert red[1:].float().mean() < 15
    assert centre[:, :, 2:-2].float().mean() > 240


def test_a_damaged_photograph_is_named(small):
    path = small / "val" / "bees" / "d.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-2_000])
    with pytest.raises(ValueError, match=r"bees/d\.jpg is a damaged picture"):
        hymenoptera.load("val", 16)


def test_wrong_arguments_are_refused(small):
    with pytest.raises(ValueError, match="choose from 'train', 'val'"):
        hymenoptera.files("test")
    with pytest.raises(ValueError, match="at least 1"):
        hymenoptera.load("val", 0)


@pytest.mark.archives
def test_the_real_set(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    archives.install("hymenoptera", Path(os.environ["LESSONS_ARCHIVES"], "hymenoptera_data.tgz"))
    labels = torch.tensor([label for _, label in hymenoptera.files("train")])
    assert labels.bincount().tolist() == [123, 121]
    assert "skipped as no photographs: imageNotFound.gif" in capsys.readouterr().out
    pictures = hymenoptera.load("val", 64)
    assert pictures.images.shape == (153, 3, 64, 64)
    assert pictures.labels.bincount().tolist() == [70, 83]
