"""Whether a picture still shows what it showed, though another processor drew it.

SSIM, pixel against pixel, cannot tell: a curve that moves by a hundredth of its axis changes it more than a curve that
is gone. So a pixel is asked for in the neighbourhood of its place. It is *explained* by the other picture if, in each
colour channel, it lies between the darkest and the brightest pixel there. A line, a digit or an edge that moved a
little is explained; a line that is gone, a swapped panel or another colour scale is not. Pictures are alike if in no
block of either more than a few pixels are unexplained, however large the picture is.

A picture of what a network has learned where it is shown is another on every machine: training makes the last digit
of a sum grow until every map and curve has moved. Of such a picture only the size and the colours are compared,
``by="colours"``: each colour that covers a good part of the left or right half still does. A blank picture, a curve
that is gone, inverted colours and most other colour scales are seen; a scale turned round and swapped panels are not.
Where training decides even which photographs or colours are shown, ``by="size"`` asks for its size, and that it is
not blank.

This module needs NumPy, Pillow, SciPy and scikit-image, and nothing of this package.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter
from skimage.metrics import structural_similarity

By = Literal["place", "colours", "size"]
Packed = tuple[str, bytes]  # "png" or "jpeg", and the file

REACH = 8  # pixels to each side in which a pixel may be found: four of the page, at two pixels for each of its own
LEVELS = 16  # of 255 by which a colour may lie outside
BLOCK = 32  # side in pixels
MOST = 0.05  # share of a block's pixels that may be unexplained

SHADES = 6  # in which each of three colour channels is counted
SEEN = 0.002  # share of a half that a colour must cover to be counted: a thin curve does
LEFT = 0.25  # share of its pixels that a colour keeps

FIDELITY = 0.9  # SSIM that a smaller file keeps
QUALITIES = (70, 80, 90, 95)  # of JPEG


def pixels(file: bytes) -> np.ndarray:
    """A picture as uint8, shape (H, W, 3), on white where it is transparent."""
    with Image.open(io.BytesIO(file)) as image:
        colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    return np.asarray(Image.alpha_composite(white, colours).convert("RGB"))


def difference(stored: bytes, new: bytes, *, by: By = "place") -> str:
    """What tells two pictures apart, in words; empty if they are alike.

    Args:
        stored: a file.
        new: another.
        by: what is compared besides their sizes: what stands in each place, how much of each colour there is, or only
            whether there is more than one.
    """
    if stored == new:
        return ""
    one, other = pixels(stored), pixels(new)
    if one.shape != other.shape:
        sizes = (f"{shape[1]}×{shape[0]}" for shape in (one.shape, other.shape))
        return "the size was {} and is {} pixels".format(*sizes)
    if by == "size":
        blank = (other == other[0, 0]).all()
        return "it is blank" if blank else ""
    if by == "colours":
        left = colours_left(one, other)
        return f"a colour covers {left:.0%} of what it covered, or the other way round" if left < LEFT else ""
    shares = unexplained(one, other)
    worst = np.unravel_index(shares.argmax(), shares.shape)
    if shares[worst] <= MOST:
        return ""
    return (
        f"{np.count_nonzero(shares > MOST)} of {shares.size} blocks of {BLOCK}×{BLOCK} pixels differ, most that at "
        f"row {worst[0] * BLOCK}, column {worst[1] * BLOCK}: {shares[worst]:.0%} of it has no like near its place"
    )


def unexplained(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The share of each block's pixels that the other picture does not explain, in the worse direction.

    Args:
        one: uint8, shape (H, W, 3).
        other: likewise.

    Returns:
        In 0–1, shape (⌈H / BLOCK⌉, ⌈W / BLOCK⌉); a block cut off by the edge counts as whole.
    """
    apart = (np.abs(one.astype(np.int16) - other) > LEVELS).any(axis=2)
    asked_for = np.zeros(apart.shape, bool)
    shares = []
    window = (2 * REACH + 1, 2 * REACH + 1, 1)
    for asked, given in ((one, other), (other, one)):
        if apart.any():  # a pixel that is like the one in its own place needs no other
            low, high = minimum_filter(given, window), maximum_filter(given, window)
            below, above = low.astype(np.int16) - asked, asked.astype(np.int16) - high
            asked_for = (np.maximum(below, above) > LEVELS).any(axis=2)
        shares.append(_by_block(asked_for))
    return np.maximum(*shares)


def colours_left(one: np.ndarray, other: np.ndarray) -> float:
    """The least share of its pixels that a colour has in one of two pictures, compared with the other, in each half.

    Args:
        one: uint8, shape (H, W, 3).
        other: likewise.

    Returns:
        In 0–1; 1 if each colour covers as much of both.
    """
    least = 1.0
    middle = one.shape[1] // 2
    for half in (np.s_[:, :middle], np.s_[:, middle:]):
        fewer, more = np.sort([_shades(one[half]), _shades(other[half])], axis=0)
        counted = more >= SEEN
        # a tenth of what is counted, so that a colour that is only just gone has not lost all
        least = min(least, float(((fewer + SEEN / 10) / (more + SEEN / 10))[counted].min()))
    return least


def _shades(picture: np.ndarray) -> np.ndarray:
    """The share of the pixels in each shade."""
    channels = picture.reshape(-1, 3).astype(np.int64) * SHADES // 256
    shade = channels @ np.array([SHADES**2, SHADES, 1])
    return np.bincount(shade, minlength=SHADES**3) / len(shade)


def _by_block(values: np.ndarray) -> np.ndarray:
    """Means of blocks of a map (H, W), which is filled up with zeros."""
    height, width = values.shape
    filled = np.pad(values.astype(np.float32), ((0, -height % BLOCK), (0, -width % BLOCK)))
    return filled.reshape(filled.shape[0] // BLOCK, BLOCK, -1, BLOCK).mean(axis=(1, 3))


def fidelity(original: np.ndarray, copy: np.ndarray) -> float:
    """Structural similarity (SSIM, Wang et al. 2004) that a copy keeps to its original in 19 of 20 blocks.

    Blocks in which nothing differs do not count: white paper around a photograph makes no copy better.

    Args:
        original: uint8, shape (H, W, 3), at least 7 pixels high and wide.
        copy: likewise.

    Returns:
        At most 1, which is a copy that differs in nothing.
    """
    _, similar = structural_similarity(original, copy, channel_axis=2, full=True)
    lost = _by_block(1 - similar.mean(axis=2))
    return 1 - float(np.quantile(lost[lost > 0], 0.95)) if lost.any() else 1.0


def lightest(file: bytes, kinds: tuple[str, ...] = ("png", "jpeg")) -> Packed:
    """The smallest file of a picture of the same size in which nobody misses anything: ``fidelity`` says so.

    A drawing does with a palette of 256 colours; photographs need JPEG, with all its colours at full resolution. What
    is stored must also be like the picture drawn anew (``difference``), with half of what that allows to spare.

    Args:
        file: the picture, a PNG.
        kinds: of files that may be chosen.
    """
    original = pixels(file)
    if min(original.shape[:2]) < 7:  # SSIM's window
        return "png", file
    image = Image.fromarray(original)
    palettes = [
        image.quantize(256, method=method, kmeans=1, dither=Image.Dither.NONE)
        for method in (Image.Quantize.MAXCOVERAGE, Image.Quantize.MEDIANCUT)
    ]
    packed = [("png", file), *(("png", _saved(palette, "PNG", optimize=True)) for palette in palettes)]
    packed += [
        ("jpeg", _saved(image, "JPEG", quality=quality, subsampling=0, optimize=True, progressive=True))
        for quality in QUALITIES
    ]
    for kind, smaller in sorted(packed, key=lambda pair: len(pair[1])):
        if kind in kinds and (smaller is file or _faithful(original, pixels(smaller))):
            return kind, smaller
    return "png", file


def _faithful(original: np.ndarray, copy: np.ndarray) -> bool:
    return fidelity(original, copy) >= FIDELITY and unexplained(original, copy).max() <= MOST / 2


def _saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()
