"""Photographs and textures that ship inside scikit-image, scikit-learn and foolbox, and any picture file of your own.

Nothing here touches the network: the files are read from the installed packages' own folders.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from lessons_lib.checks import check_choice, check_range, check_tensor
from lessons_lib.data.archives import CIFAR_CLASSES
from lessons_lib.data.pictures import Pictures


def open_picture(path: str | Path) -> Tensor:
    """Read any picture file as red, green and blue, the right way up.

    Grey, palette and CMYK pictures become RGB; transparent ones are laid on white; 16-bit greys are divided
    down to 8 bits, other deep greys stretched from their darkest to their brightest value; the camera's EXIF
    rotation is applied; of an animation the first frame is taken.

    Returns:
        uint8, shape (3, H, W), 0–255.

    Raises:
        FileNotFoundError: (or another OSError) if there is no such file or it may not be read.
        ValueError: naming the file, if it is no picture, damaged or cut short.
    """
    content = Path(path).read_bytes()
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            upright = ImageOps.exif_transpose(image)
        pixels = np.array(_as_rgb(upright))
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture: its contents match no known format") from None
    except Exception as problem:  # damaged files make Pillow's decoders raise nearly anything
        reason = str(problem) or type(problem).__name__
        raise ValueError(f"{path} is a damaged picture ({reason}): delete it or fetch it again") from problem
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _as_rgb(image: Image.Image) -> Image.Image:
    """``image`` in Pillow's mode RGB, whatever mode it was in."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.array(image) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        grey = np.array(image, dtype=np.float64)
        grey = (grey - grey.min()) / max(np.ptp(grey), np.finfo(np.float32).tiny)
        return Image.fromarray((255 * grey).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Photo:
    """A photograph with its story.

    Attributes:
        name: the key ``photo`` knows it by.
        title: what it shows, in a few words.
        image: uint8, shape (3, H, W), 0–255, at its own size.
        credit: who made it, its licence and the package it came with.
        label: the number of its ImageNet class, 0–999, where its source names one.
    """

    name: str
    title: str
    image: Tensor
    credit: str
    label: int | None = None


_SKIMAGE = ("scikit-image", "skimage/data")
_SKLEARN = ("scikit-learn", "sklearn/datasets/images")
_FOOLBOX = ("foolbox", "foolbox/data")

# name: ((project, folder), file, title, credit)
_SHIPPED = {
    "astronaut": (_SKIMAGE, "astronaut.png", "Astronaut Eileen Collins", "NASA, public domain"),
    "chelsea": (_SKIMAGE, "chelsea.png", "Chelsea the cat", "Stefan van der Walt, CC0"),
    "china": (_SKLEARN, "china.jpg", "A Chinese palace", "danielbuechele on Flickr, CC BY 2.0"),
    "coffee": (_SKIMAGE, "coffee.png", "A cup of coffee", "Rachel Michetti, Pikolo Espresso Bar, CC0"),
    "flower": (_SKLEARN, "flower.jpg", "A dahlia", "vultilion on Flickr, CC BY 2.0"),
    "motorcycle": (_SKIMAGE, "motorcycle_left.png", "A motorcycle", "Middlebury 2014 stereo benchmark"),
    "rocket": (_SKIMAGE, "rocket.jpg", "Launch of a Falcon 9 rocket", "SpaceX, public domain"),
    "brick": (_SKIMAGE, "brick.png", "A brick wall", "CC0Textures, CC0"),
    "grass": (_SKIMAGE, "grass.png", "Grass", "linolafett on DeviantArt, CC0"),
    "gravel": (_SKIMAGE, "gravel.png", "Gravel", "CC0Textures, CC0"),
    "moon": (_SKIMAGE, "moon.png", "Surface of the Moon", "scikit-image, no known restrictions"),
    "stars": (_SKIMAGE, "hubble_deep_field.jpg", "Hubble extreme deep field", "NASA, public domain"),
    "tissue": (_SKIMAGE, "ihc.png", "Stained tissue under a microscope", "CMMI, no known restrictions"),
}

# name: (file, title); the number at the file's end is the ImageNet class. At 224 pixels EfficientNet-Lite0 names all
# but the buckeye (a custard apple to it), the car (a convertible) and the birds (white storks; they are spoonbills).
# The windows are labelled "prayer rug".
_IMAGENET = {
    "mastiff": ("imagenet_00_243.jpg", "A bull mastiff on a lead"),
    "chairs": ("imagenet_01_559.jpg", "Folding chairs"),
    "beaker": ("imagenet_02_438.jpg", "Oil poured into a beaker"),
    "buckeye": ("imagenet_03_990.jpg", "Buckeyes on a twig"),
    "strawberries": ("imagenet_04_949.jpg", "Nine strawberries"),
    "thatch": ("imagenet_05_853.jpg", "A thatched house behind a lawn"),
    "jeep": ("imagenet_06_609.jpg", "A jeep on a gravel road"),
    "car": ("imagenet_07_609.jpg", "A car on a rocky slope"),
    "yurt": ("imagenet_08_915.jpg", "Yurts in a wood"),
    "bottlecap": ("imagenet_09_455.jpg", "A bottle cap"),
    "drum": ("imagenet_10_541.jpg", "A drum"),
    "shoe": ("imagenet_11_630.jpg", "A shoe"),
    "windows": ("imagenet_12_741.jpg", "Stained-glass windows"),
    "cannon": ("imagenet_13_471.jpg", "A cannon on cobbles"),
    "birds": ("imagenet_14_129.jpg", "Two birds on a wire"),
    "geese": ("imagenet_15_99.jpg", "Geese on a lawn"),
    "dalmatian": ("imagenet_16_251.jpg", "A dalmatian smelling at leaves"),
    "eagle": ("imagenet_17_22.jpg", "A bald eagle in flight"),
    "leafhopper": ("imagenet_18_317.jpg", "A leafhopper on a blade of grass"),
    "beetle": ("imagenet_19_305.jpg", "A dung beetle on stones"),
}
_IMAGENET_CREDIT = "one of ImageNet's classes, its photographer is not named; the package has the MIT licence"

LABELLED = tuple(_IMAGENET)
"""The names of the photographs whose ImageNet class is known."""
NAMES = (*_SHIPPED, *LABELLED)
"""The names of all photographs and textures."""
TEXTURES = ("brick", "grass", "gravel", "moon", "stars", "tissue")
"""The names of the pictures from which texture is cut."""
PHOTOGRAPHS = tuple(name for name in _SHIPPED if name not in TEXTURES)
"""The names of the other photographs, which have no ImageNet class."""


def photo(name: str) -> Photo:
    """The photograph or texture called ``name``, one of ``NAMES``.

    Raises:
        ValueError: for any other name, listing the valid ones.
    """
    check_choice("photograph", name, NAMES)
    label = None
    if name in _SHIPPED:
        (project, folder), file, title, credit = _SHIPPED[name]
    else:
        (project, folder), (file, title), credit = _FOOLBOX, _IMAGENET[name], _IMAGENET_CREDIT
        label = int(Path(file).stem.split("_")[2])
    path = str(distribution(project).locate_file(f"{folder}/{file}"))  # found without importing the project
    return Photo(name, title, open_picture(path), f"{credit}; shipped with {project}", label)


def cifar10_probes() -> Pictures:
    """The first twenty test pictures of CIFAR-10, which ship with foolbox: real ones, with no download.

    uint8, shape (20, 3, 32, 32), in the order of the test set. Krizhevsky, "Learning Multiple Layers of Features from
    Tiny Images", 2009.

    >>> print(cifar10_probes().source)
    CIFAR-10 test, its first 20 pictures, shipped with foolbox
    """
    project, folder = _FOOLBOX
    files = sorted(Path(str(distribution(project).locate_file(folder))).glob("cifar10_*.png"))
    images = torch.stack([open_picture(file) for file in files])
    labels = torch.tensor([int(file.stem.split("_")[2]) for file in files])
    source = "CIFAR-10 test, its first 20 pictures, shipped with foolbox"
    return Pictures(images, labels, CIFAR_CLASSES, source)


def resized(picture: Photo | Tensor, size: int) -> Tensor:
    """The largest centred square of ``picture``, resized with antialiased bicubic interpolation.

    Args:
        picture: a ``Photo``, or a uint8 tensor of shape (3, H, W).
        size: the side of the result in pixels, at least 1.

    Returns:
        uint8, shape (3, size, size), 0–255.

    Raises:
        TypeError: if the tensor is not uint8.
        ValueError: if it has another shape, or ``size`` is under 1.
    """
    image = picture.image if isinstance(picture, Photo) else picture
    check_tensor("picture", image, "3 H W", torch.uint8)
    check_range("size", size, 1)
    side = min(image.shape[1:])
    top, left = ((length - side) // 2 for length in image.shape[1:])
    square = image[None, :, top : top + side, left : left + side].float()
    smooth = F.interpolate(square, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return smooth[0].round().clamp(0, 255).to(torch.uint8)


def watermark(image: Tensor, text: str = "捷径捷径捷径", *, opacity: float = 0.5) -> Tensor:
    """Write translucent white words across a picture, by default "shortcut", three times, in Chinese.

    Z. Li et al., "A Whac-A-Mole Dilemma: Shortcuts Come in Multiples Where Mitigating One Amplifies Others" (CVPR
    2023): networks trained on ImageNet take such a watermark for a sign of *carton* (class 478). Text, size (a
    character is 36 pixels in 224), place and opacity are those of its ImageNet-W; the font is another, IPAexGothic,
    which the package matplotlib-fontja brings under the IPA Font License.

    Args:
        image: uint8, shape (3, H, W).
        text: what to write; a character that is not of full width takes less room.
        opacity: 0 leaves the picture as it is, at 1 nothing shines through.

    Returns:
        uint8, shape (3, H, W).

    Raises:
        TypeError: if the picture is not uint8.
        ValueError: for another shape or opacity.
    """
    check_tensor("image", image, "3 H W", torch.uint8)
    check_range("opacity", opacity, 0, 1)
    height, width = image.shape[1:]
    file = distribution("matplotlib-fontja").locate_file("matplotlib_fontja/fonts/ipaexg.ttf")
    letters = Image.new("L", (width, height))
    font = ImageFont.truetype(str(file), round(36 / 224 * min(height, width)))
    ImageDraw.Draw(letters).text((0.01 * width, 0.4 * height), text, fill=255, font=font)
    cover = opacity / 255 * torch.from_numpy(np.array(letters)).float()
    return torch.lerp(image.float(), torch.tensor(255.0), cover).round().to(torch.uint8)


@lru_cache(maxsize=4)
def atlas(names: tuple[str, ...], side: int) -> Tensor:
    """The named photographs as squares of ``side`` pixels in one row: float32 in 0–1, (3, side, P·side).

    One wide picture lets ``crops`` cut from many photographs in a single resampling. Do not write into it:
    it is kept for the next call.
    """
    return torch.cat([resized(photo(name), side) for name in names], dim=2).float() / 255


def crops(sheet: Tensor, which: Tensor, placement: Tensor, height: int, width: int) -> Tensor:
    """Cut one picture out of each chosen square of an ``atlas``, by bilinear interpolation.

    Args:
        sheet: an atlas, shape (3, T, P·T).
        which: int64, shape (N,): the square to cut from, 0 to P−1.
        placement: float32, shape (N, 2, 3): affine map from the crop's coordinates (x, y, 1) to the square's,
            both −1 to 1 from edge to edge. What falls outside the square repeats its border.
        height: rows of the crops.
        width: columns of the crops.

    Returns:
        float32 in 0–1, shape (3, N, height, width): channels first, as the painter of Critters wants them.
    """
    side = sheet.shape[1]
    squares = sheet.shape[2] // side
    grid = F.affine_grid(placement, [len(which), 1, height, width], align_corners=False)
    grid = grid.clamp(1 / side - 1, 1 - 1 / side)  # stay off the neighbouring squares
    columns = (grid[..., 0] + (2 * which + 1 - squares).view(-1, 1, 1)) / squares
    grid = torch.stack([columns, grid[..., 1]], dim=-1).view(1, -1, width, 2)
    cut = F.grid_sample(sheet[None], grid, mode="bilinear", align_corners=False)
    return cut.view(3, len(which), height, width)


def textures(n: int, size: int = 32, *, seed: int = 0) -> Pictures:
    """Random crops of the ``TEXTURES``, turned, mirrored and lit at random, labelled by texture.

    All are turned grey, so that only the texture tells them apart. Labels are balanced and shuffled; the same
    arguments give the same pictures.

    Args:
        n: how many pictures, at least 1.
        size: their side in pixels, 32–224.
        seed: any whole number from 0.

    Raises:
        ValueError: for a number out of range.
    """
    check_range("n", n, 1)
    check_range("size", size, 32, 224)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n).remainder(len(TEXTURES))[torch.randperm(n, generator=generator)]
    side, angle, mirror, x, y, bright, contrast = torch.rand(7, n, generator=generator)
    side, angle = 0.25 + 0.2 * side, 2 * torch.pi * angle
    c, s = side * angle.cos(), side * angle.sin()
    flip = torch.where(mirror < 0.5, -1.0, 1.0)
    # how far the middle of a turned crop may stray before a corner leaves the square
    room = 1 - (c.abs() + s.abs())
    placement = torch.stack([c * flip, -s, room * (2 * x - 1), s * flip, c, room * (2 * y - 1)], dim=1)
    grey = _cut(TEXTURES, min(512, 3 * size), labels, placement, size).mean(0)
    scale, shift = (0.7 + 0.6 * contrast).view(-1, 1, 1), (0.4 * bright - 0.2).view(-1, 1, 1)
    lit = ((grey - 0.5) * scale + 0.5 + shift).mul(255).round().clamp(0, 255).to(torch.uint8)
    images = lit.unsqueeze(1).expand(-1, 3, -1, -1).contiguous()
    return Pictures(images, labels, TEXTURES, f"{n} crops of textures shipped with scikit-image, seed {seed}")


def views(n: int, size: int = 32, *, seed: int = 0) -> Tensor:
    """Random square crops of the ``PHOTOGRAPHS``, half of them mirrored: natural pictures without labels.

    A crop shows between half and all of a photograph's side. The same arguments give the same pictures.

    Args:
        n: how many pictures, at least 1.
        size: their side in pixels, 32–224.
        seed: any whole number from 0.

    Returns:
        uint8, shape (n, 3, size, size), 0–255.

    Raises:
        ValueError: for a number out of range.
    """
    check_range("n", n, 1)
    check_range("size", size, 32, 224)
    generator = torch.Generator().manual_seed(seed)
    which = torch.randint(len(PHOTOGRAPHS), (n,), generator=generator)
    side, mirror, x, y = torch.rand(4, n, generator=generator)
    side = 0.5 + 0.5 * side
    flip = torch.where(mirror < 0.5, -1.0, 1.0)
    zero, room = torch.zeros(n), 1 - side
    placement = torch.stack([side * flip, zero, room * (2 * x - 1), zero, side, room * (2 * y - 1)], dim=1)
    # at most two pixels of the atlas to one of the crop's, so nothing aliases
    cut = _cut(PHOTOGRAPHS, 2 * size, which, placement, size)
    return cut.transpose(0, 1).mul(255).round().to(torch.uint8)


def _cut(names: tuple[str, ...], side: int, which: Tensor, placement: Tensor, size: int) -> Tensor:
    """Square ``crops`` of an ``atlas``, shape (3, N, size, size), some at a time: a resampling takes memory."""
    together = max(1, (1 << 19) // size**2)
    parts = zip(which.split(together), placement.view(-1, 2, 3).split(together), strict=True)
    return torch.cat([crops(atlas(names, side), *part, size, size) for part in parts], dim=1)
