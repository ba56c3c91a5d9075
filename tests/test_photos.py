import io
import re
import socket

import numpy as np
import pytest
import skimage.data
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lessons_lib import networks
from lessons_lib.data import photos
from lessons_lib.data.photos import (
    LABELLED,
    NAMES,
    TEXTURES,
    atlas,
    cifar10_probes,
    crops,
    open_picture,
    photo,
    resized,
    textures,
    views,
    watermark,
)
from lessons_lib.models import SmallCNN, checkpoints, imagenet


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def coffee():
    return Image.fromarray(skimage.data.coffee()).resize((60, 40))


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


# ------------------------------------------------------------------------------------------- photographs


@pytest.mark.parametrize("name", NAMES)
def test_every_photograph_ships_with_a_dependency(name, no_network):
    shown = photo(name)
    assert shown.name == name
    assert shown.title
    assert shown.image.dtype == torch.uint8
    assert shown.image.shape[0] == 3
    assert min(shown.image.shape[1:]) >= 300
    assert shown.image.float().std() > 5
    assert re.search(r"shipped with (scikit-image|scikit-learn|foolbox)$", shown.credit)


def test_labelled_photographs_know_their_imagenet_class():
    network = imagenet.load()
    shown = [photo(name) for name in LABELLED]
    labels = torch.tensor([one.label for one in shown])
    names = [network.categories[label] for label in labels.tolist()]
    assert names[LABELLED.index("dalmatian")] == "dalmatian"
    assert names[LABELLED.index("eagle")] == "bald eagle"
    squares = torch.stack([resized(one, network.size) for one in shown])
    answers = networks.predict(network.model, squares, transform=network.normalise).argmax(1)
    wrong = [name for name, right in zip(LABELLED, answers == labels, strict=True) if not right]
    assert wrong == ["buckeye", "car", "birds"]
    assert photo("chelsea").label is None


def test_probes_are_cifar10s_first_test_pictures(no_network):
    probes = cifar10_probes()
    assert probes.images.shape == (20, 3, 32, 32)
    # the beginning of Krizhevsky's test batch, which every course on CIFAR-10 shows
    first = ["cat", "ship", "ship", "airplane", "frog", "frog", "automobile", "frog", "cat", "automobile"]
    assert [probes.classes[label] for label in probes.labels[:10]] == first
    network = checkpoints.restore(SmallCNN(), "small_cnn_cifar10", 20)
    named = networks.predict(network, probes.images).argmax(1) == probes.labels
    assert named.sum() >= 15, "labels belong to their pictures: the network names 85 % of the test set"


def test_photographs_are_what_scikit_image_shows():
    assert torch.equal(photo("coffee").image, as_tensor(skimage.data.coffee()))
    assert torch.equal(photo("brick").image[1], torch.from_numpy(skimage.data.brick()))


def test_unknown_photograph_lists_the_valid_names():
    with pytest.raises(ValueError, match=r"'lenna'.*'astronaut', 'chelsea', 'china'"):
        photo("lenna")


def test_resized_is_a_centred_square_like_pillows_bicubic():
    shown = photo("coffee")  # 400 × 600
    square = Image.fromarray(skimage.data.coffee()[:, 100:500])
    expected = as_tensor(square.resize((64, 64), Image.Resampling.BICUBIC)).int()
    ours = resized(shown, 64).int()
    # Pillow rounds and clips after the rows, before the columns
    assert ((ours - expected).abs() <= 1).float().mean() > 0.998
    assert torch.equal(ours, resized(shown.image, 64).int())


@pytest.mark.parametrize("size", [1, 224, 500])
def test_resized_gives_the_size_asked_for(size):
    small = resized(photo("rocket"), size)
    assert small.shape == (3, size, size)
    assert small.dtype == torch.uint8


def test_resized_refuses_what_is_no_picture():
    with pytest.raises(TypeError, match="uint8"):
        resized(torch.zeros(3, 8, 8), 4)
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        resized(torch.zeros(1, 8, 8, dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        resized(torch.zeros(3, 0, 8, dtype=torch.uint8), 4)
    with pytest.raises(ValueError, match="at least 1"):
        resized(photo("coffee"), 0)


def test_a_whole_square_of_the_atlas_can_be_cut_out_again():
    sheet = atlas(("coffee", "grass"), 48)
    assert sheet.shape == (3, 48, 96)
    whole = torch.eye(2, 3).expand(2, -1, -1)
    cut = crops(sheet, torch.tensor([1, 0]), whole, 48, 48)
    assert torch.allclose(cut[:, 0], sheet[:, :, 48:], atol=1e-4)
    assert torch.allclose(cut[:, 1], sheet[:, :, :48], atol=1e-4)


def test_a_crop_never_shows_the_neighbouring_square():
    sheet = torch.cat([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)], dim=2)
    far_right = torch.tensor([[[1.0, 0, 1.5], [0, 1.0, 0]]])
    assert crops(sheet, torch.tensor([0]), far_right, 8, 8).max() == 0


# ------------------------------------------------------------------------------------------- picture files


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "png"),
        ("RGB", "jpg"),
        ("RGB", "bmp"),
        ("P", "gif"),
        ("P", "png"),
        ("CMYK", "jpg"),
        ("CMYK", "tif"),
    ],
)
def test_colour_files_read_as_they_look(mode, suffix, coffee, tmp_path):
    path = tmp_path / f"picture.{suffix}"
    stored = coffee.convert(mode)
    stored.save(path, quality=95, subsampling=0)
    picture = open_picture(path)
    assert picture.dtype == torch.uint8
    assert (picture.float() - as_tensor(stored.convert("RGB")).float()).abs().mean() < 5


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_files_get_three_equal_channels(mode, coffee, tmp_path):
    path = tmp_path / "grey.png"
    coffee.convert(mode).save(path)
    picture = open_picture(str(path))
    assert picture.shape == (3, 40, 60)
    assert torch.equal(picture[0], picture[1])
    assert torch.equal(picture[0], picture[2])
    assert torch.equal(picture[0], torch.from_numpy(np.array(coffee.convert(mode).convert("L"))))


def test_transparency_is_laid_on_white(tmp_path):
    path = tmp_path / "clear.png"
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    assert open_picture(path)[:, 0].T.tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 127]]


def test_transparent_palette_colour_is_laid_on_white(tmp_path):
    path = tmp_path / "clear.gif"
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    image.save(path, transparency=0)
    assert open_picture(path)[:, 0].T.tolist() == [[255, 255, 255], [0, 0, 255]]


def test_sixteen_bit_grey_is_divided_down(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(path)
    assert open_picture(path)[0].tolist() == [[0, 1, 128, 255]]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_other_deep_greys_are_stretched(dtype, tmp_path):
    path = tmp_path / "deep.tif"
    Image.fromarray(np.array([[-1000, 0, 1000]], dtype=dtype)).save(path)
    assert open_picture(path)[2].tolist() == [[0, 128, 255]]
    Image.fromarray(np.full((2, 2), 7, dtype=dtype)).save(path)
    assert open_picture(path).max() == 0


def test_exif_rotation_is_applied(tmp_path):
    path = tmp_path / "turned.jpg"
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 0, 8, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90° clockwise to see it upright"
    image.save(path, exif=exif, quality=95)
    picture = open_picture(path)
    assert picture.shape == (3, 32, 16)
    assert picture[:, :6].float().mean() > 240
    assert picture[:, 12:].float().mean() < 15


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp"])
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_truncated_file_is_refused_by_name(suffix, share, coffee, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    coffee.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=rf"cut\.{suffix}"):
        open_picture(path)


@pytest.mark.parametrize("content", [b"", b"<html>404 not found</html>", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_picture_is_refused_by_name(content, tmp_path):
    path = tmp_path / "imageNotFound.gif"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"imageNotFound\.gif is"):
        open_picture(path)


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        open_picture(tmp_path / "nothing.png")


def _png():
    buffer = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(buffer, "PNG")
    return buffer.getvalue()


@settings(max_examples=60, deadline=None)
@given(position=st.integers(0, len(_png()) - 1), value=st.integers(0, 255))
def test_damage_gives_a_picture_or_a_value_error(tmp_path_factory, position, value):
    content = bytearray(_png())
    content[position] = value
    path = tmp_path_factory.mktemp("damage") / "picture.png"
    path.write_bytes(content)
    try:
        picture = open_picture(path)
    except ValueError as problem:
        assert "picture.png" in str(problem)
    else:
        assert picture.dtype == torch.uint8
        assert picture.shape[0] == 3


# ------------------------------------------------------------------------------------------- textures


def test_textures_are_labelled_grey_crops():
    pictures = textures(61, 32, seed=3)
    assert pictures.classes == TEXTURES
    assert pictures.images.shape == (61, 3, 32, 32)
    assert torch.equal(pictures.images[:, 0], pictures.images[:, 2])
    counts = pictures.labels.bincount(minlength=len(TEXTURES))
    assert counts.max() - counts.min() <= 1
    assert not torch.equal(pictures.labels, pictures.labels.sort().values)


def test_textures_repeat_and_differ_by_seed():
    again = textures(20, seed=1)
    assert torch.equal(textures(20, seed=1).images, again.images)
    assert not torch.equal(textures(20, seed=2).images, again.images)


def test_textures_stay_inside_their_photograph():
    # a crop that left its square would repeat the border: whole rows or columns without any change
    images = textures(60, 64, seed=4).images[:, 0].float()
    assert (images.std(dim=2).amin(dim=1) > 0).float().mean() > 0.95


def test_textures_same_scene_at_two_sizes():
    large, small = textures(24, 128, seed=5), textures(24, 32, seed=5)
    assert torch.equal(large.labels, small.labels)
    shrunk = torch.nn.functional.avg_pool2d(large.images.float(), 4).flatten(1)
    match = torch.corrcoef(torch.cat([shrunk, small.images.float().flatten(1)]))[:24, 24:]
    assert (match.argmax(dim=1) == torch.arange(24)).float().mean() > 0.9


@pytest.mark.parametrize("wrong", [{"n": 0}, {"n": 5, "size": 31}, {"n": 5, "size": 225}])
def test_textures_refuse_bad_numbers(wrong):
    with pytest.raises(ValueError, match=r"n must be at least 1|size must be in 32–224"):
        textures(**wrong)


def test_names_and_textures_agree():
    assert set(TEXTURES) < set(NAMES)
    assert photos.photo(TEXTURES[0]).image.shape[1:] == (512, 512)


# ---------------------------------------------------------------------------------------------- views


def test_views_are_crops_of_the_photographs():
    pictures = views(40, 32, seed=1)
    assert pictures.shape == (40, 3, 32, 32)
    assert pictures.dtype == torch.uint8
    assert torch.equal(pictures, views(40, 32, seed=1))
    assert not torch.equal(pictures, views(40, 32, seed=2))
    assert len({tuple(picture.flatten().tolist()) for picture in pictures}) == 40
    # every view has a place it comes from: one photograph, whole or in part, mirrored or not
    whole = [photo(name).image.float().mean((1, 2)) for name in photos.PHOTOGRAPHS]
    nearest = [
        min(range(len(whole)), key=lambda i: (p.float().mean((1, 2)) - whole[i]).norm()) for p in pictures
    ]
    assert len(set(nearest)) >= 4


def test_views_do_not_alias():
    board = torch.zeros(3, 64, 64, dtype=torch.float32)
    board[:, ::2] = 1
    cut = crops(board, torch.zeros(1, dtype=torch.int64), torch.tensor([[[1.0, 0, 0], [0, 1, 0]]]), 32, 32)
    torch.testing.assert_close(cut, torch.full_like(cut, 0.5))


@pytest.mark.parametrize(("n", "size", "seed"), [(0, 32, 0), (1, 31, 0), (1, 225, 0)])
def test_views_refuse_bad_numbers(n, size, seed):
    with pytest.raises(ValueError, match=r"n must be at least 1|size must be in 32–224"):
        views(n, size, seed=seed)


# ------------------------------------------------------------------------------------------- the watermark


def test_a_watermark_lightens_its_letters_and_nothing_else():
    grey = torch.full((3, 224, 224), 100, dtype=torch.uint8)
    marked, faint, solid = watermark(grey), watermark(grey, opacity=0.25), watermark(grey, opacity=1.0)
    assert torch.equal(watermark(grey, opacity=0.0), grey)
    assert (marked.max(), faint.max(), solid.max()) == (178, 139, 255)  # 100 + 155 · opacity
    ink = (marked != grey).any(0)
    assert not (ink & (solid == grey).all(0)).any()
    assert (solid.int() - grey.int())[:, ~ink].max() <= 2, "what is only grazed is rounded off"
    rows, columns = ink.any(1).nonzero(), ink.any(0).nonzero()
    assert 0.4 * 224 <= rows.min() < rows.max() < 0.4 * 224 + 36 + 4, "a line of 36 pixels"
    assert columns.min() < 8
    assert columns.max() > 0.01 * 224 + 5.5 * 36, "six characters"


def test_a_watermark_scales_with_the_picture():
    small, large = (watermark(torch.zeros(3, side, side, dtype=torch.uint8)) for side in (112, 448))
    shares = [(picture > 64).double().mean().item() for picture in (small, large)]
    assert shares[0] == pytest.approx(shares[1], rel=0.25)


def test_characters_of_the_watermark_are_in_the_font():
    """A font draws what it lacks as an empty box, the same for all."""
    black = torch.zeros(3, 224, 224, dtype=torch.uint8)
    drawn = [watermark(black, letter) for letter in ("捷", "径", "\U0010ffff")]
    assert len({picture.numpy().tobytes() for picture in drawn}) == 3


@pytest.mark.parametrize(
    ("picture", "opacity", "error"),
    [
        (torch.zeros(3, 50, 50), 0.5, TypeError),
        (torch.zeros(50, 50, dtype=torch.uint8), 0.5, ValueError),
        (torch.zeros(3, 50, 50, dtype=torch.uint8), 1.5, ValueError),
    ],
)
def test_no_watermark_on_what_is_no_picture(picture, opacity, error):
    with pytest.raises(error):
        watermark(picture, opacity=opacity)


def test_the_watermark_makes_a_network_think_of_a_carton():
    network = imagenet.load()
    carton = network.categories.index("carton")
    pictures = [resized(photo(name), 224) for name in LABELLED]

    def odds(text):
        with torch.no_grad():
            shares = network.model(
                network.normalise(torch.stack([watermark(p, text) for p in pictures]))
            ).softmax(1)
        return shares[:, carton].log()

    risen = odds("捷径捷径捷径") - odds("")
    assert (risen > 0).sum() >= 16
    assert risen.mean() > 2 + (odds("ＡＢＣＡＢＣ") - odds("")).mean()
