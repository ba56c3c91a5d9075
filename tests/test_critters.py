import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from lessons_lib.data import critters
from lessons_lib.data.critters import (
    BACKGROUNDS,
    COUSINS,
    PARTS,
    SPECIES,
    generate,
    tied_background,
    write_pets,
)
from lessons_lib.drawing.painter import Scenes, _placed
from lessons_lib.drawing.species import KINDS

EVERYONE = SPECIES + COUSINS
HEAD, LEFT, RIGHT, NOSE, EARS, GROUND = range(6)


def near(region, pixels):
    """Where ``region``, or the world outside the picture, is at most some pixels away."""
    padded = F.pad(region.float(), [pixels] * 4, value=1)
    return F.max_pool2d(padded, 2 * pixels + 1, 1) > 0


@pytest.fixture(scope="module")
def crowd():
    return generate(600, seed=11, species=EVERYONE)


# ------------------------------------------------------------------------------------------- the generator


def test_shapes_types_and_names(crowd):
    assert crowd.images.shape == (600, 3, 32, 32)
    assert crowd.images.dtype == torch.uint8
    assert crowd.masks.shape == (600, len(PARTS), 32, 32)
    assert crowd.classes == EVERYONE
    assert len(SPECIES) == 10
    assert len(COUSINS) >= 5
    assert not set(SPECIES) & set(COUSINS)
    assert "600" in crowd.source
    assert "32×32" in crowd.source


def test_the_same_arguments_give_the_same_pictures():
    torch.manual_seed(1)
    first = generate(40, 48, seed=5, bias=0.5)
    torch.manual_seed(2)
    again = generate(40, 48, seed=5, bias=0.5)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert torch.equal(first.labels, again.labels)
    assert torch.equal(first.backgrounds, again.backgrounds)


def test_other_seeds_give_other_pictures():
    first, other = generate(200, seed=0), generate(200, seed=1)
    assert (first.labels == other.labels).float().mean() < 0.3
    assert (first.images == other.images).float().mean() < 0.1


def test_drawing_leaves_the_global_generator_and_the_threads_alone():
    torch.manual_seed(3)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    generate(10)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 60), species=st.lists(st.sampled_from(EVERYONE), min_size=1, max_size=5, unique=True))
def test_labels_are_balanced_and_name_the_species(n, species):
    drawn = generate(n, species=species)
    counts = drawn.labels.bincount(minlength=len(species))
    assert counts.sum() == n
    assert counts.max() - counts.min() <= 1
    assert drawn.classes == tuple(species)


def test_fewer_pictures_than_species():
    assert generate(1).images.shape == (1, 3, 32, 32)
    assert sorted(generate(3).labels.tolist()) == [0, 1, 2]


def test_labels_are_shuffled(crowd):
    steps = crowd.labels.diff()
    assert (steps == 1).float().mean() < 0.2
    assert (steps == 0).float().mean() < 0.2


def test_a_species_looks_the_same_whatever_its_index():
    assert torch.equal(generate(8, species=("fox",)).images, generate(8, species=["fox"]).images)
    bears = generate(60, species=("bear", "panda"), seed=4)
    swapped = generate(60, species=("panda", "bear"), seed=4)
    # the same scenes with the animals exchanged: what is behind both faces is the same picture
    inner = ~near(~(bears.masks[:, GROUND] & swapped.masks[:, GROUND]), 1).unsqueeze(1).expand(-1, 3, -1, -1)
    assert torch.equal(bears.images[inner], swapped.images[inner])
    assert not torch.equal(bears.images, swapped.images)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"n": 0}, ValueError, "n must be at least 1"),
        ({"size": 31}, ValueError, "size must be in 32–224"),
        ({"size": 225}, ValueError, "size must be in 32–224"),
        ({"bias": -0.1}, ValueError, "bias must be in 0–1"),
        ({"bias": 1.1}, ValueError, "bias must be in 0–1"),
        ({"bias": float("nan")}, ValueError, "bias must be in 0–1"),
        ({"species": "cat"}, TypeError, r'write \("cat",\)'),
        ({"species": ("cat", "unicorn")}, ValueError, "'unicorn': choose from 'cat', 'dog', .*'lion'"),
        ({"species": ()}, ValueError, "one or more different"),
        ({"species": ("cat", "cat")}, ValueError, "one or more different"),
    ],
)
def test_bad_input_is_refused(wrong, error, words):
    with pytest.raises(error, match=words):
        generate(**({"n": 4} | wrong))


def test_critters_check_their_masks_and_backgrounds():
    drawn = generate(4)
    with pytest.raises(TypeError, match=r"masks of these images must be torch.bool"):
        replace(drawn, masks=drawn.masks.int())
    with pytest.raises(TypeError, match=r"backgrounds of these images must be torch.int64"):
        replace(drawn, backgrounds=drawn.backgrounds.float())
    with pytest.raises(ValueError, match="masks of these images must have shape"):
        replace(drawn, masks=drawn.masks[:, :, :16])
    with pytest.raises(ValueError, match="backgrounds of these images must have shape"):
        replace(drawn, backgrounds=drawn.backgrounds[:3])


@pytest.mark.parametrize("index", [slice(3, 9), [5, 1, 1], torch.tensor([2, 0]), torch.arange(20) % 3 == 0])
def test_subset_keeps_everything_in_step(index):
    drawn = generate(20)
    some = drawn.subset(index)
    assert isinstance(some, critters.Critters)
    for name in ("images", "labels", "masks", "backgrounds"):
        assert torch.equal(getattr(some, name), getattr(drawn, name)[index])
    assert some.classes == drawn.classes


# ------------------------------------------------------------------------------------------- the masks


def test_every_pixel_is_head_ears_or_background(crowd):
    assert (crowd.masks[:, [HEAD, EARS, GROUND]].sum(1) == 1).all()


def test_eyes_and_nose_lie_apart_inside_the_head(crowd):
    inner = crowd.masks[:, [LEFT, RIGHT, NOSE]]
    assert inner.sum(1).max() == 1
    assert (inner.any(1) <= crowd.masks[:, HEAD]).all()


def test_every_part_is_there(crowd):
    there = crowd.masks.flatten(2).any(2)
    frogs = crowd.labels == EVERYONE.index("frog")
    assert not there[frogs, EARS].any()
    assert there[~frogs, EARS].float().mean() > 0.98
    assert (there[:, [HEAD, LEFT, RIGHT, NOSE, GROUND]].float().mean(0) > 0.97).all()


def middle(mask):
    """The mean (row, column) of each mask."""
    size = mask.shape[-1]
    area = mask.flatten(1).sum(1).clamp(min=1)
    rows, columns = torch.arange(size).view(-1, 1), torch.arange(size)
    return (mask * rows).flatten(1).sum(1) / area, (mask * columns).flatten(1).sum(1) / area


def test_left_is_the_viewers_left_and_the_nose_is_below(crowd):
    both = crowd.masks[:, LEFT].flatten(1).any(1) & crowd.masks[:, RIGHT].flatten(1).any(1)
    left, right = middle(crowd.masks[both, LEFT]), middle(crowd.masks[both, RIGHT])
    assert (left[1] < right[1]).all()
    nose = crowd.masks[:, NOSE].flatten(1).any(1) & both
    eyes = middle(crowd.masks[nose, LEFT] | crowd.masks[nose, RIGHT])
    assert (middle(crowd.masks[nose, NOSE])[0] > eyes[0]).float().mean() > 0.95


def test_masks_name_the_pixels_that_the_face_covers():
    # the same scenes over other backgrounds: pixels change exactly where the mask says background shows
    free, tied = generate(60, 64, seed=9), generate(60, 64, seed=9, bias=1)
    assert torch.equal(free.masks, tied.masks)
    moved = free.backgrounds != tied.backgrounds
    assert moved.sum() > 40
    changed = (free.images != tied.images).any(1)[moved]
    ground = free.masks[moved, GROUND]
    assert not changed[~near(ground, 2)].any()
    assert changed[ground].float().mean() > 0.9


def test_one_seed_shows_the_same_scenes_at_every_size():
    large, small = generate(60, 128, seed=2, species=EVERYONE), generate(60, 32, seed=2, species=EVERYONE)
    assert torch.equal(large.labels, small.labels)
    assert torch.equal(large.backgrounds, small.backgrounds)
    shares = [drawn.masks.float().mean((2, 3)) for drawn in (large, small)]
    assert (shares[0] - shares[1]).abs().max() < 0.02
    shrunk = F.avg_pool2d(large.images.float(), 4)
    assert (shrunk - small.images).abs().mean() < 12


@pytest.mark.parametrize("species", EVERYONE)
def test_most_of_every_head_stays_in_the_picture(species):
    scenes = Scenes.drawn(300, torch.Generator().manual_seed(0))
    grid, _ = _placed(KINDS[species], scenes, 64, 64)
    x, y = (axis.expand(300, 64, 64) for axis in grid.whole)
    right, down = (x[:, :1, 1:2] - x[:, :1, :1]), (x[:, 1:2, :1] - x[:, :1, :1])
    pixel = (right * (y[:, 1:2, :1] - y[:, :1, :1]) - down * (y[:, :1, 1:2] - y[:, :1, :1])).flatten()
    disc = (x * x + y * y < 1).flatten(1).sum(1)
    share = disc * pixel / torch.pi
    assert share.min() > 0.7
    assert share.max() < 1.03
    assert share.std() > 0.002  # some heads do leave the picture


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**40), size=st.integers(32, 96), species=st.sampled_from(EVERYONE))
def test_mask_promises_hold_for_any_seed_and_size(seed, size, species):
    drawn = generate(3, size, seed=seed, species=(species,))
    head, ears, ground = (drawn.masks[:, part] for part in (HEAD, EARS, GROUND))
    assert (ground == ~(head | ears)).all()
    assert not (head & ears).any()
    assert (drawn.masks[:, [LEFT, RIGHT, NOSE]].sum(1) <= head).all()
    assert 0.03 < head.float().mean() < 0.75


# ------------------------------------------------------------------------------------------- backgrounds and bias


@pytest.mark.parametrize(("bias", "expected"), [(0.0, 0.1), (0.5, 0.55), (0.9, 0.91), (1.0, 1.0)])
def test_bias_is_the_share_of_tied_backgrounds(bias, expected):
    drawn = generate(800, seed=21, bias=bias)
    tied = torch.tensor([tied_background(name) for name in SPECIES])[drawn.labels]
    assert (drawn.backgrounds == tied).float().mean().item() == pytest.approx(expected, abs=0.045)


def test_unbiased_backgrounds_are_all_equally_likely():
    counts = generate(1000, seed=22).backgrounds.bincount(minlength=len(BACKGROUNDS))
    assert counts.min() > 65
    assert counts.max() < 140


def test_every_species_has_a_background_of_its_own():
    assert len({tied_background(name) for name in SPECIES}) == len(SPECIES) == len(BACKGROUNDS)
    with pytest.raises(ValueError, match="unicorn"):
        tied_background("unicorn")


def linear_score(train, test, train_labels, test_labels):
    pixels = [drawn.images.flatten(1).numpy() / 255 - 0.5 for drawn in (train, test)]
    with threadpool_limits(1):
        model = LogisticRegression(C=1e-3, max_iter=40).fit(pixels[0], train_labels)
    return model.score(pixels[1], test_labels)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_raw_pixels_do_not_give_the_species_away():
    train, test = generate(1000, seed=31), generate(500, seed=32)
    assert linear_score(train, test, train.labels, test.labels) < 0.4
    # the same classifier on the same pixels does find what pixels give away, the background
    assert linear_score(train, test, train.backgrounds, test.backgrounds) > 0.6


def test_mean_colour_does_not_give_the_species_away():
    train, test = generate(2000, seed=33), generate(1000, seed=34)
    means = [drawn.images.float().mean((2, 3)).numpy() / 255 for drawn in (train, test)]
    assert (
        LogisticRegression(C=100, max_iter=500).fit(means[0], train.labels).score(means[1], test.labels) < 0.3
    )


# ------------------------------------------------------------------------------------------- the Pets view


def test_pets_are_named_and_sized_like_the_photographs(tmp_path):
    paths = write_pets(tmp_path, 30)
    assert paths == sorted((tmp_path / "images").glob("*.jpg"))
    assert len(paths) == 30
    assert all(re.fullmatch(r"[A-Za-z]+(_[A-Za-z]+)*_[1-9]\d*\.jpg", path.name) for path in paths)
    cats = [path for path in paths if path.name[0].isupper()]
    assert len(cats) == 10
    assert len({path.name.rsplit("_", 1)[0] for path in cats}) >= 3
    sizes = set()
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "JPEG"
            assert image.mode == "RGB"
            sizes.add(image.size)
    assert len(sizes) >= 4
    assert all(200 <= side <= 500 for size in sizes for side in size)


def test_pets_repeat_byte_for_byte(tmp_path):
    first, again, other = (
        [path.read_bytes() for path in write_pets(tmp_path / name, 6, seed=seed)]
        for name, seed in (("first", 7), ("again", 7), ("other", 8))
    )
    assert first == again
    assert first != other


def test_a_complete_folder_is_left_alone(tmp_path):
    before = {path: path.stat().st_mtime_ns for path in write_pets(tmp_path, 4)}
    assert {path: path.stat().st_mtime_ns for path in write_pets(tmp_path, 4)} == before


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_folder_is_written_again(damage, tmp_path):
    paths = write_pets(tmp_path, 4)
    content = paths[1].read_bytes()
    paths[1].unlink() if damage == "missing" else paths[1].write_bytes(content[:500])
    assert write_pets(tmp_path, 4) == paths
    assert paths[1].read_bytes() == content


def test_another_number_replaces_the_pictures(tmp_path):
    write_pets(tmp_path, 6)
    fewer = write_pets(tmp_path, 3)
    assert sorted((tmp_path / "images").glob("*.jpg")) == fewer
    assert len(fewer) == 3


@pytest.mark.parametrize("before", [0, 2])
def test_an_interrupted_write_changes_nothing(before, tmp_path, monkeypatch):
    kept = {path: path.read_bytes() for path in write_pets(tmp_path, before)} if before else {}
    save, calls = Image.Image.save, []

    def interrupted(image, path, **settings):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half a picture")
            raise KeyboardInterrupt
        save(image, path, **settings)

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_pets(tmp_path, 5)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")} == kept
    assert len(write_pets(tmp_path, 5)) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


def test_someone_elses_pictures_are_not_touched(tmp_path):
    mine = tmp_path / "images" / "Abyssinian_1.jpg"
    mine.parent.mkdir()
    mine.write_bytes(b"precious")
    with pytest.raises(ValueError, match="choose another folder"):
        write_pets(tmp_path, 2)
    assert mine.read_bytes() == b"precious"


def test_pets_refuse_bad_numbers(tmp_path):
    with pytest.raises(ValueError, match="n must be at least 1"):
        write_pets(tmp_path, 0)
    assert not list(tmp_path.iterdir())


def test_fastai_reads_the_pets(tmp_path):
    from fastai.vision.all import ImageDataLoaders, Resize, get_image_files

    write_pets(tmp_path, 24)
    files = get_image_files(tmp_path / "images")
    loaders = ImageDataLoaders.from_name_func(
        tmp_path,
        files,
        lambda name: "cat" if name[0].isupper() else "dog",
        seed=0,
        item_tfms=Resize(64),
        bs=8,
        num_workers=0,
    )
    images, labels = loaders.one_batch()
    assert list(loaders.vocab) == ["cat", "dog"]
    assert images.shape == (8, 3, 64, 64)
    assert labels.shape == (8,)


# ------------------------------------------------------------------------------------------- twins


SOMETHING_ELSE = {"background": "brick"}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("exchanged", [False, True])
def test_twins_are_the_same_to_the_last_pixel_but_where_the_part_is(crowd, part, exchanged):
    for other in (SOMETHING_ELSE.get(part, "cat"), SOMETHING_ELSE.get(part, "owl")) if exchanged else (None,):
        if exchanged and part == "head":
            pytest.skip("another head is another animal")
        twin = generate(600, seed=11, species=EVERYONE, changed={part: other})
        index = PARTS.index(part)
        place = (crowd.masks | twin.masks)[:, index]
        differ = (crowd.images != twin.images).any(1)
        reach = F.max_pool2d(place.float(), 5, 1, 2) > 0
        assert not (differ & ~reach).any()
        for label, name in enumerate(EVERYONE):  # every species has it, and every species loses it
            own = crowd.labels == label
            if crowd.masks[own, index].any() and name != other:
                assert (differ & place)[own].sum() > 0.6 * place[own].sum()
        assert twin.masks[:, index].any() == (exchanged or part == "background")
        assert torch.equal(twin.labels, crowd.labels)
        rest = [i for i, name in enumerate(PARTS) if name not in {part, "head", "background"}]
        if part not in {"head", "background"}:
            lost = crowd.masks[:, rest] & ~twin.masks[:, rest]
            assert not (lost & ~place[:, None]).any()


def test_twins_do_not_keep_a_ghost_of_the_part():
    """Without its eyes a face is as another draw would have painted it: nothing darker is left in their place."""
    whole, blind = (
        generate(64, 64, seed=5, species=("bear",), changed=change)
        for change in ({}, {"left_eye": None, "right_eye": None})
    )
    eyes = whole.masks[:, 1:3].any(1, keepdim=True)
    ring = (F.max_pool2d(eyes.float(), 7, 1, 3) > 0) & ~(F.max_pool2d(eyes.float(), 3, 1, 1) > 0)

    def brightness(critters, where):
        return (critters.images.float() * where).sum((1, 2, 3)) / (3 * where.sum((1, 2, 3)))

    seen = eyes.sum((1, 2, 3)) > 20
    contrast = (brightness(blind, eyes) - brightness(blind, ring))[seen].abs().mean()
    assert contrast < 8
    assert (brightness(whole, eyes) - brightness(whole, ring))[seen].abs().mean() > 5 * contrast


def test_twins_come_with_their_scenes():
    both = critters.twins(12, 32, seed=4, species=("cat", "frog"), bias=1.0)
    assert torch.equal(both.scenes.images, generate(12, seed=4, species=("cat", "frog"), bias=1.0).images)
    assert tuple(both.without) == ("left_eye", "right_eye", "nose", "ears", "background")
    frogs = both.scenes.labels == 1
    assert torch.equal(both.without["ears"].images[frogs], both.scenes.images[frogs]), "frogs have no ears"


@pytest.mark.parametrize(
    "changed", [{"tail": None}, {"nose": "unicorn"}, {"head": "cat"}, {"background": "sea"}]
)
def test_a_twin_that_cannot_be_is_refused(changed):
    with pytest.raises(ValueError, match=r"there is no|another head"):
        generate(4, changed=changed)
