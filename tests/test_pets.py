"""Oxford-IIIT Pets: names, the stratified split, and the files of the sample and of the full set."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lessons_lib.data import archives, pets
from lessons_lib.data.archives import REGISTRY, Layout

BREEDS = ["Abyssinian", "Egyptian_Mau", "american_pit_bull_terrier", "pug"]


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A small copy with the junk of the full set; it counts as complete."""
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    layout = Layout("oxford-iiit-pet", {"images/[A-Z]*_*.jpg": (8, 20), "images/[a-z]*_*.jpg": (8, 20)})
    monkeypatch.setattr(
        archives,
        "REGISTRY",
        {"oxford-iiit-pet": replace(REGISTRY["oxford-iiit-pet"], layouts=(layout,))},
    )
    folder = tmp_path / "oxford-iiit-pet" / "images"
    folder.mkdir(parents=True)
    for breed in BREEDS:
        for i in range(5):
            Image.new("RGB", (6, 5)).save(folder / f"{breed}_{i}.jpg")
    Image.new("P", (6, 5)).save(folder / "Egyptian_Mau_139.jpg", format="GIF")
    (folder / "Abyssinian_100.mat").write_bytes(b"MATLAB")
    (folder / "._pug_1.jpg").write_bytes(b"Mac")
    (folder / "pug_77.jpg").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("name", "breed", "cat"),
    [
        ("Egyptian_Mau_139.jpg", "Egyptian_Mau", True),
        ("american_pit_bull_terrier_7.jpg", "american_pit_bull_terrier", False),
        (Path("some/folder/pug_1.jpg"), "pug", False),
        ("Bengal_12.png", "Bengal", True),
    ],
)
def test_names_say_breed_and_species(name, breed, cat):
    assert pets.breed(name) == breed
    assert pets.is_cat(name) is cat


@pytest.mark.parametrize("name", ["cat.jpg", "1_1.jpg", "_1.jpg", "__1.jpg", "Bengal_.jpg", "", "12_3.jpg"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=r"expected Breed_number\.jpg"):
        pets.is_cat(name)


def test_files_keeps_photographs_and_names_the_rest(images, capsys):
    files = pets.files()
    assert files == sorted(files)
    assert Counter(map(pets.breed, files)) == {breed: 5 + (breed == "Egyptian_Mau") for breed in BREEDS}
    assert images / "Egyptian_Mau_139.jpg" in files
    said = capsys.readouterr().out
    assert "21 photographs of 4 breeds (11 of cats, 10 of dogs)" in said
    assert "skipped as no photographs: ._pug_1.jpg, Abyssinian_100.mat, pug_77.jpg" in said
    assert said.count("\n") == 1


def names(counts):
    return [f"{breed}_{i}.jpg" for breed, count in counts.items() for i in range(count)]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(BREEDS), st.integers(2, 40), min_size=1),
    st.floats(0.05, 0.95),
    st.randoms(use_true_random=False),
    st.integers(0, 3),
)
def test_split_divides_every_breed_in_proportion(counts, share, shuffler, seed):
    files = names(counts)
    train, valid = pets.split(files, share, seed)
    assert sorted([*train, *valid]) == sorted(map(Path, files))
    for breed, count in counts.items():
        validated = sum(pets.breed(path) == breed for path in valid)
        assert 1 <= validated < count
        assert abs(validated - share * count) < 1
    shuffler.shuffle(files)
    assert pets.split(files, share, seed) == (train, valid)


def test_a_breed_is_divided_the_same_whatever_else_there_is():
    pugs, all_files = names({"pug": 30}), names({"pug": 30, "Bengal": 30})
    assert set(pets.split(pugs)[1]) < set(pets.split(all_files)[1])


def test_another_seed_makes_another_split():
    files = names({"pug": 30, "Bengal": 30})
    assert pets.split(files, seed=0)[1] != pets.split(files, seed=1)[1]


@pytest.mark.parametrize(
    ("counts", "share", "words"),
    [
        ({"pug": 1, "Bengal": 9}, 0.2, r"two photographs or more.*\['pug'\]"),
        ({}, 0.2, "no files"),
        ({"pug": 9}, 1.0, r"between 0 and 1, not 1\.0"),
        ({"pug": 9}, 0.0, r"between 0 and 1, not 0\.0"),
    ],
)
def test_splits_that_cannot_be_made_are_refused(counts, share, words):
    with pytest.raises(ValueError, match=words):
        pets.split(names(counts), share)


@pytest.mark.archives
def test_the_real_sample(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    source = Path(os.environ["LESSONS_ARCHIVES"], "oxford-iiit-pet-sample.tgz")
    archives.install("oxford-iiit-pet", source)
    files = pets.files()
    assert "370 photographs of 37 breeds (120 of cats, 250 of dogs)" in capsys.readouterr().out
    train, valid = pets.split(files)
    assert set(Counter(map(pets.breed, train)).values()) == {8}
    assert set(Counter(map(pets.breed, valid)).values()) == {2}
