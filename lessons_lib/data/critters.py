"""Critters: cartoon animal faces over real photographs, drawn in memory, with a mask for every part.

Each face is a stack of simple shapes (ellipses, leaves, strokes). A shape is a signed distance, negative
inside, evaluated for a whole batch of pictures at once on each picture's own rotated and scaled pixel grid; the
distance gives antialiased coverage for painting and, below zero, the exact pixels of a part.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from lessons_lib.data.photos import atlas, crops
from lessons_lib.data.pictures import Pictures

SPECIES = ("cat", "dog", "rabbit", "bear", "fox", "panda", "mouse", "pig", "frog", "tiger")
COUSINS = ("koala", "monkey", "sheep", "owl", "lion")
PARTS = ("head", "left_eye", "right_eye", "nose", "ears", "background")
BACKGROUNDS = (
    "coffee",
    "grass",
    "rocket",
    "china",
    "flower",
    "brick",
    "gravel",
    "stars",
    "tissue",
    "motorcycle",
)

Number = float | Tensor
Pair = tuple[Number, Number]
Points = tuple[Tensor, Tensor]  # the x and the y of every pixel
_CHUNK = 1 << 15  # pixels painted at a time: small enough for the processor's cache
_GROUND, _EARS, _HEAD, _LEFT, _RIGHT, _NOSE = range(6)  # what a pixel of the owner map shows


# ---------------------------------------------------------------- shapes: signed distances, negative inside


def _turned(where: Points, centre: Pair, degrees: float) -> Points:
    """Coordinates of ``where`` seen from a shape at ``centre`` that is turned clockwise by ``degrees``."""
    x, y = where[0] - centre[0], where[1] - centre[1]
    if not degrees:
        return x, y
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return c * x + s * y, c * y - s * x


def _ellipse(where: Points, centre: Pair, radii: Pair, degrees: float = 0) -> Tensor:
    """Distance to an ellipse, exact to first order at its edge."""
    x, y = _turned(where, centre, degrees)
    x, y = x / radii[0], y / radii[1]
    slope = torch.hypot(x / radii[0], y / radii[1])
    return (x * x + y * y).sub_(1).div_(slope.mul_(2).add_(1e-6))


def _leaf(where: Points, centre: Pair, extent: Pair, degrees: float = 0, *, tip: float = 0) -> Tensor:
    """Distance to a leaf: two arcs that meet in points above and below the centre.

    ``extent`` is half the leaf's width and half its length; ``tip`` rounds the points.
    """
    x, y = _turned(where, centre, degrees)
    width, length = extent
    radius = (width * width + length * length) / (2 * width)
    across = (x * x).add_(tip * tip).sqrt_().sub_(tip) if tip else x.abs()
    return torch.hypot(across.add_(radius - width), y).sub_(radius)


def _segment(where: Points, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """Distance to a straight line."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    x, y = where[0] - start[0], where[1] - start[1]
    along = (x * dx).add_(y * dy).div_(dx * dx + dy * dy).clamp_(0, 1)
    return torch.hypot(x - along * dx, y - along * dy)


def _blend(a: Tensor, b: Tensor, softness: float) -> Tensor:
    """Distance to two shapes melted together: their union with the crease filled."""
    gap = (a - b).abs_().neg_().add_(softness).clamp_(min=0)
    return torch.minimum(a, b).sub_(gap.square_().div_(4 * softness))


# ---------------------------------------------------------------- colours


def _colour(code: str) -> Tensor:
    """A colour like "ffcc00" as shape (3, 1, 1, 1), 0–1, ready to be painted."""
    return torch.tensor(list(bytes.fromhex(code))).float().div(255).view(3, 1, 1, 1)


def _palette(*codes: str) -> Tensor:
    """Several colours as shape (3, K)."""
    return torch.cat([_colour(code) for code in codes], dim=1)[:, :, 0, 0]


_WHITE, _CREAM, _INK, _PINK = _colour("fbf8f2"), _colour("f3e6cc"), _colour("2a2326"), _colour("f2a6a4")
_ROSE, _TONGUE = _colour("e07f83"), _colour("ef7d86")
_BLACKISH = _palette("2c2a2c", "453330", "33363d")
_IRISES = _palette("f4f0e0", "9ccf6a", "f0c64a", "8fc7e8", "e0a04a")
# grass and brick ship as grey pictures: give them their colour back
_TINTS = _palette(*({"grass": "a8e070", "brick": "ffb497"}.get(name, "ffffff") for name in BACKGROUNDS))


# ---------------------------------------------------------------- scenes: what varies from picture to picture

_TRAITS = (
    "across", "down", "radius", "roll", "stretch", "yaw", "pitch",
    "coat", "shade", "warmth", "extra", "ear", "eye", "gap", "nose", "iris", "marks", "mood",
    "tied", "ground", "ground_x", "ground_y", "ground_side", "ground_flip",
    "tint_red", "tint_blue", "bright", "contrast", "light", "light_angle",
)  # fmt: skip


@dataclass(frozen=True)
class _Scenes:
    """Everything random about a set of pictures, as numbers in 0–1 that do not depend on the picture size."""

    traits: Tensor  # (N, len(_TRAITS))

    @classmethod
    def drawn(cls, n: int, generator: torch.Generator) -> Self:
        return cls(torch.rand(n, len(_TRAITS), generator=generator))

    def __getitem__(self, index: Tensor) -> _Scenes:
        return _Scenes(self.traits[index])

    def between(self, trait: str, low: float, high: float) -> Tensor:
        """One trait stretched to [low, high], shape (N, 1, 1)."""
        return (self.traits[:, _TRAITS.index(trait)] * (high - low) + low).view(-1, 1, 1)

    def choice(self, trait: str, count: int) -> Tensor:
        """One trait as a choice among ``count``, int64 (N,)."""
        return (self.traits[:, _TRAITS.index(trait)] * count).long().clamp_(max=count - 1)


@dataclass(frozen=True)
class _Grid:
    """Pixel positions in head radii from the centre of the face: x to the right, y down."""

    x: Tensor
    y: Tensor

    @property
    def whole(self) -> Points:
        """Where to place one shape."""
        return self.x, self.y

    @property
    def pair(self) -> Points:
        """Where to place a shape that appears on both sides of the face: x becomes the distance from the middle."""
        return self.x.abs(), self.y

    def moved(self, right: Tensor, down: Tensor) -> _Grid:
        """The grid of something that sits nearer to the viewer or farther, when the head turns."""
        return _Grid(self.x - right, self.y - down)


def _placed(kind: _Kind, scenes: _Scenes, height: int, width: int) -> tuple[_Grid, Tensor]:
    """The grid of a head that is moved, turned and stretched at random, and its radius (half the short side = 1)."""
    half_width, half_height = width / min(height, width), height / min(height, width)
    radius = scenes.between("radius", 0.5, 0.74) * kind.radius
    across = scenes.between("across", -0.55, 0.55) * half_width
    down = scenes.between("down", -0.55, 0.55) * half_height + kind.low * radius
    # a centre this far inside the border keeps at least 70 % of the head in the picture
    reach_x, reach_y = half_width - 0.65 * radius, half_height - 0.65 * radius
    dx = _middles(width) * half_width - across.maximum(-reach_x).minimum(reach_x)
    dy = _middles(height).view(-1, 1) * half_height - down.maximum(-reach_y).minimum(reach_y)
    stretch = scenes.between("stretch", -0.07, 0.07)
    roll = scenes.between("roll", -25, 25).deg2rad()
    c, s = roll.cos() / radius, roll.sin() / radius
    return _Grid((dx * c + dy * s) / (1 + stretch), (dy * c - dx * s) / (1 - stretch)), radius


def _middles(count: int) -> Tensor:
    """The middles of ``count`` pixels in a row from -1 to 1."""
    return torch.linspace(1 / count - 1, 1 - 1 / count, count)


class _Painter:
    """Paints a batch of pictures of one kind of animal, back to front.

    Keeps track of the part that each pixel shows. Things are placed on three grids: ``back`` for ears, ``skull``
    for the head, ``front`` for eyes, nose and mouth, which move the most when the head turns.
    """

    def __init__(self, kind: _Kind, scenes: _Scenes, ground: Tensor) -> None:
        _, count, height, width = ground.shape
        self.scenes = scenes
        self.canvas = ground
        self.owner = torch.zeros(count, height, width, dtype=torch.uint8)
        self.skull, radius = _placed(kind, scenes, height, width)
        yaw, pitch = scenes.between("yaw", -0.16, 0.16), scenes.between("pitch", -0.1, 0.1)
        self.front = self.skull.moved(yaw, pitch)
        self.back = self.skull.moved(-0.4 * yaw, -0.4 * pitch)
        self.ear = scenes.between("ear", 0.9, 1.15)
        self.sharpness = radius * min(height, width) / 2  # pixels in one head radius
        self.inside = torch.zeros(())  # coverage of the head, once it is painted
        light = scenes.between("shade", 0.82, 1.1)
        warmth = scenes.between("warmth", -0.05, 0.05)
        coat = self.pick("coat", kind.coats)
        self.coat = (coat * light + torch.stack([warmth, 0 * warmth, -warmth])).clamp(0, 1)
        self.dark = self.coat * 0.62
        self.pale = self.coat.lerp(_WHITE, 0.72)
        self.line = self.coat * 0.3
        self.blackish = self.pick("extra", _BLACKISH)

    def pick(self, trait: str, palette: Tensor) -> Tensor:
        """For each picture one colour of a palette, shape (3, N, 1, 1)."""
        return palette[:, self.scenes.choice(trait, palette.shape[1])][:, :, None, None]

    def cover(self, distance: Tensor, blur: float = 0) -> Tensor:
        """How much of each pixel a shape covers, 0–1; ``blur`` (head radii) softens the edge."""
        sharpness = self.sharpness / (1 + blur * self.sharpness) if blur else self.sharpness
        return (distance * -sharpness).add_(0.5).clamp_(0, 1)

    def paint(
        self,
        distance: Tensor,
        colour: Tensor,
        part: int | Tensor | None = None,
        *,
        line: float = 0,
        within: Tensor | None = None,
        blur: float = 0,
        opacity: Number = 1,
    ) -> None:
        """Lay one shape over what is there; with ``part`` its pixels now show that part."""
        cover = self.cover(distance, blur)
        if within is not None:
            cover = torch.minimum(cover, within)
        if isinstance(opacity, Tensor) or opacity != 1:
            cover = cover * opacity
        if line:
            self.canvas.lerp_(self.line, cover)
            cover = self.cover(distance + line)
        self.canvas.lerp_(colour, cover)
        if part is not None:
            self.own(distance < 0, part)

    def own(self, region: Tensor, part: int | Tensor) -> None:
        """From now on the pixels of ``region`` show ``part``."""
        if isinstance(part, Tensor):
            self.owner = torch.where(region, part, self.owner)
        else:
            self.owner.masked_fill_(region, part)

    def stroke(self, distance: Tensor, width: float, colour: Tensor, part: int | None = None) -> None:
        """Draw a line of the given width (head radii) where ``distance`` is the distance to its middle.

        Lines thinner than a pixel grow faint instead of thick.
        """
        cover = self.cover(distance - width / 2) - self.cover(distance + width / 2)
        self.canvas.lerp_(colour, cover)
        if part is not None:
            self.own(distance < width / 2, part)

    # ------------------------------------------------------------ parts that several species share

    def ears(self, distance: Tensor, colour: Tensor, rim: float = 0.1, lining: Tensor = _PINK) -> None:
        """A pair of ears with a lining ``rim`` inside their edge (none if 0)."""
        self.paint(distance, colour, _EARS, line=0.05)
        if rim:
            self.paint(distance + rim, lining, blur=0.03)

    def head(self, distance: Tensor) -> None:
        """The head, shaded round."""
        self.paint(distance, self.coat, _HEAD, line=0.05)
        self.inside = self.cover(distance + 0.04)
        glow = _ellipse(self.front.whole, (-0.1, -0.25), (0.9, 0.85))
        self.paint(-glow, self.dark, within=self.inside, blur=0.5, opacity=0.55)

    def marking(self, distance: Tensor, colour: Tensor, blur: float = 0, opacity: Number = 1) -> None:
        """A patch of colour that stays on the head."""
        self.paint(distance, colour, within=self.inside, blur=blur, opacity=opacity)

    def eyes(
        self,
        cx: float,
        cy: float,
        size: float,
        *,
        iris: Tensor | None = None,
        pupil: tuple[float, float] = (0.62, 0.62),
        shape: tuple[float, float] = (1.0, 1.0),
        degrees: float = 0,
    ) -> None:
        """A pair of eyes: dark beads, or with an ``iris`` colour and a pupil (its size as a share of the eye)."""
        grid = self.front
        cx_ = cx * self.scenes.between("gap", 0.9, 1.1)
        size_ = size * self.scenes.between("eye", 0.86, 1.2)
        sides = torch.where(grid.x < 0, _LEFT, _RIGHT).to(torch.uint8)
        ball = _ellipse(grid.pair, (cx_, cy), (size_ * shape[0], size_ * shape[1]), degrees)
        if iris is None:  # a pale rim, or black eyes vanish in a black coat
            self.paint(ball - 0.04, self.coat.lerp(_WHITE, 0.4))
        self.paint(ball, _INK, sides)
        if iris is not None:
            self.paint(ball + 0.035, iris)
            hole = _ellipse(grid.pair, (cx_, cy), (size_ * pupil[0], size_ * pupil[1]))
            self.paint(hole, _INK, within=self.cover(ball))
        # both highlights on the same side of their eyes, as one lamp would make them
        for side in (-1, 1):
            spot = _ellipse(
                grid.whole, (side * cx_ - 0.28 * size_, cy - 0.32 * size_), (0.3 * size_, 0.3 * size_)
            )
            self.paint(spot, _WHITE)

    def nose(self, cy: float, rx: float, ry: float, colour: Tensor, *, pointed: bool = False) -> None:
        """A nose on the middle line: oval, or ``pointed`` downwards."""
        grid = self.front
        grow = self.scenes.between("nose", 0.88, 1.15)
        if pointed:
            top = _ellipse(grid.whole, (0, cy - 0.3 * ry), (rx * grow, 0.6 * ry * grow))
            distance = _blend(
                top, _ellipse(grid.whole, (0, cy + 0.3 * ry), (0.45 * rx * grow, 0.7 * ry * grow)), 0.06
            )
        else:
            distance = _ellipse(grid.whole, (0, cy), (rx * grow, ry * grow))
        self.paint(distance, colour, _NOSE, line=0.025)
        self.paint(
            _ellipse(grid.whole, (-0.3 * rx, cy - 0.4 * ry), (0.3 * rx, 0.2 * ry)), _WHITE, opacity=0.6
        )

    def mouth(self, cy: float, width: float, depth: float = 1.0) -> None:
        """A smile in the shape of a w, hanging under the nose."""
        grid = self.front
        bend = _ellipse(grid.pair, (width, cy), (width, width * depth)).abs_()
        self.stroke(torch.maximum(bend, cy - grid.y), 0.05, self.line.lerp(_INK, 0.5))

    def whiskers(self, cy: float, length: float, colour: Tensor) -> None:
        """Three whiskers on either side; they belong to the head."""
        for lift in (-0.16, 0.0, 0.16):
            grid = self.front
            line = _segment(grid.pair, (0.36, cy + 0.4 * lift), (0.36 + length, cy + 1.5 * lift))
            self.stroke(line, 0.028, colour, _HEAD)


# ---------------------------------------------------------------- the species


def _cat(p: _Painter, *, points: bool = False) -> None:
    p.ears(
        _leaf(p.back.pair, (0.66, -0.66), (0.36 * p.ear, 0.66 * p.ear), 24, tip=0.04),
        p.blackish if points else p.coat,
        rim=0.13,
    )
    p.head(
        _blend(
            _ellipse(p.skull.whole, (0, 0), (1.0, 0.86)), _ellipse(p.skull.pair, (0.6, 0.3), (0.5, 0.42)), 0.2
        )
    )
    for x, degrees in ((0.0, 0), (0.2, 10)):
        p.marking(
            _leaf(p.skull.pair, (x, -0.68), (0.055, 0.2), degrees),
            p.dark,
            opacity=p.scenes.between("marks", 0, 1),
        )
    p.marking(_ellipse(p.front.pair, (0.2, 0.42), (0.3, 0.24)), p.blackish * 1.5 if points else p.pale)
    p.mouth(0.4, 0.15)
    p.whiskers(0.4, 0.75, _WHITE)
    p.eyes(0.42, -0.08, 0.25, iris=p.pick("iris", _IRISES[:, 1:]), pupil=(0.28, 0.72), shape=(1.0, 0.9))
    p.nose(0.28, 0.13, 0.1, _ROSE, pointed=True)


def _dog(p: _Painter, *, pricked: bool = False, mask: bool = False) -> None:
    ear = p.coat.lerp(p.coat * 0.5, p.scenes.between("marks", 0.6, 1))
    if pricked:
        p.ears(_leaf(p.back.pair, (0.62, -0.7), (0.3 * p.ear, 0.55 * p.ear), 18, tip=0.05), p.coat, rim=0.12)
    p.head(
        _blend(
            _ellipse(p.skull.whole, (0, -0.1), (0.88, 0.84)),
            _ellipse(p.skull.whole, (0, 0.45), (0.66, 0.52)),
            0.25,
        )
    )
    p.marking(
        _ellipse(p.front.whole, (-0.38, -0.18), (0.34, 0.4), 12),
        ear,
        opacity=p.scenes.between("extra", -0.6, 1).gt(0).float(),
    )
    p.marking(
        _leaf(p.front.whole, (0, -0.55), (0.17, 0.75)),
        p.pale,
        opacity=p.scenes.between("mood", -1, 1).gt(0).float(),
    )
    tongue = _ellipse(p.front.whole, (0, 0.82), (0.16, 0.26))
    p.paint(tongue, _TONGUE, _HEAD, line=0.03)
    p.paint(
        _ellipse(p.front.whole, (0, 0.4), (0.52, 0.4)),
        p.blackish * 1.3 if mask else p.pale,
        _HEAD,
        line=0.025,
    )
    p.mouth(0.5, 0.2, 0.8)
    p.eyes(0.37, -0.2, 0.17)
    p.nose(0.22, 0.22, 0.16, _INK)
    if not pricked:
        p.ears(_ellipse(p.back.pair, (0.92, 0.02), (0.27 * p.ear, 0.66 * p.ear), -14), ear, rim=0)


def _rabbit(p: _Painter) -> None:
    p.ears(_ellipse(p.back.pair, (0.4, -1.35), (0.27 * p.ear, 0.88 * p.ear), 9), p.coat, rim=0.12)
    p.head(
        _blend(
            _ellipse(p.skull.whole, (0, -0.05), (0.86, 0.86)),
            _ellipse(p.skull.pair, (0.45, 0.4), (0.46, 0.42)),
            0.2,
        )
    )
    p.paint(_ellipse(p.front.whole, (0, 0.68), (0.14, 0.2)), _WHITE, _HEAD, line=0.03)
    p.stroke(_segment(p.front.whole, (0, 0.6), (0, 0.86)), 0.03, p.line)
    p.paint(_ellipse(p.front.pair, (0.2, 0.44), (0.27, 0.22)), p.pale)
    p.whiskers(0.42, 0.6, p.pale)
    p.mouth(0.4, 0.14)
    p.marking(_ellipse(p.front.pair, (0.58, 0.3), (0.2, 0.14)), _PINK, blur=0.15, opacity=0.7)
    p.eyes(0.42, -0.08, 0.2, shape=(0.85, 1.15))
    p.nose(0.26, 0.13, 0.1, _PINK, pointed=True)


def _bear(p: _Painter) -> None:
    p.ears(
        _ellipse(p.back.pair, (0.72, -0.72), (0.34 * p.ear, 0.34 * p.ear)),
        p.coat,
        rim=0.14,
        lining=p.coat.lerp(_CREAM, 0.45),
    )
    p.head(_ellipse(p.skull.whole, (0, 0), (1.0, 0.92)))
    p.paint(_ellipse(p.front.whole, (0, 0.38), (0.48, 0.38)), p.coat.lerp(_CREAM, 0.55), line=0.025)
    p.mouth(0.46, 0.15)
    p.eyes(0.4, -0.12, 0.13)
    p.nose(0.22, 0.22, 0.15, _INK)


def _fox(p: _Painter) -> None:
    p.ears(
        _leaf(p.back.pair, (0.64, -0.78), (0.36 * p.ear, 0.78 * p.ear), 16, tip=0.02),
        p.coat,
        rim=0.13,
        lining=_INK,
    )
    face = _blend(
        _ellipse(p.skull.whole, (0, -0.12), (0.92, 0.66)),
        _leaf(p.skull.whole, (0, 0.2), (0.5, 0.9), tip=0.1),
        0.25,
    )
    p.head(_blend(face, _leaf(p.skull.pair, (0.75, 0.14), (0.2, 0.5), 125), 0.15))
    p.marking(_ellipse(p.front.pair, (0.56, 0.42), (0.52, 0.42), 35), _WHITE)
    p.marking(_leaf(p.front.whole, (0, 0.1), (0.2, 0.9)), p.coat)
    p.eyes(
        0.4, -0.08, 0.2, iris=p.pick("iris", _IRISES[:, 1:]), pupil=(0.4, 0.6), shape=(1.1, 0.7), degrees=-18
    )
    p.nose(0.84, 0.17, 0.13, _INK)


def _panda(p: _Painter) -> None:
    p.ears(_ellipse(p.back.pair, (0.74, -0.7), (0.34 * p.ear, 0.34 * p.ear)), p.blackish, rim=0)
    p.head(_ellipse(p.skull.whole, (0, 0), (1.02, 0.9)))
    p.marking(_ellipse(p.front.pair, (0.42, -0.03), (0.25, 0.34), 28), p.blackish)
    p.mouth(0.48, 0.14)
    p.eyes(0.4, -0.1, 0.15, iris=p.pick("iris", _IRISES[:, :1]), pupil=(0.7, 0.7))
    p.nose(0.32, 0.17, 0.11, _INK)


def _mouse(p: _Painter) -> None:
    p.ears(_ellipse(p.back.pair, (0.92, -0.66), (0.66 * p.ear, 0.64 * p.ear)), p.coat, rim=0.14)
    p.head(
        _blend(
            _ellipse(p.skull.whole, (0, -0.08), (0.84, 0.76)),
            _leaf(p.skull.whole, (0, 0.3), (0.5, 0.74), tip=0.1),
            0.3,
        )
    )
    p.whiskers(0.6, 0.7, p.line)
    p.mouth(0.74, 0.11)
    p.eyes(0.35, -0.02, 0.17)
    p.nose(0.66, 0.17, 0.15, _ROSE)


def _pig(p: _Painter) -> None:
    p.head(_ellipse(p.skull.whole, (0, 0), (1.0, 0.9)))
    p.ears(
        _leaf(p.back.pair, (0.8, -0.62), (0.28 * p.ear, 0.46 * p.ear), 140, tip=0.05), p.coat * 0.9, rim=0.12
    )
    p.marking(_ellipse(p.front.pair, (0.66, 0.25), (0.2, 0.15)), _ROSE, blur=0.15, opacity=0.6)
    p.stroke(
        torch.maximum(_ellipse(p.front.whole, (0, 0.5), (0.34, 0.2)).abs(), 0.58 - p.front.y), 0.05, p.line
    )
    p.eyes(0.36, -0.12, 0.13)
    p.nose(0.26, 0.4, 0.29, p.coat.lerp(_ROSE, 0.45))
    p.paint(_ellipse(p.front.pair, (0.15, 0.26), (0.07, 0.12)), p.line)


def _frog(p: _Painter) -> None:
    bumps = _ellipse(p.skull.pair, (0.52, -0.58), (0.38, 0.38))
    p.head(_blend(_ellipse(p.skull.whole, (0, 0.12), (1.1, 0.7)), bumps, 0.12))
    p.marking(_ellipse(p.front.whole, (0, 0.78), (0.95, 0.46)), p.pale, blur=0.05)
    grin = torch.maximum(_ellipse(p.front.whole, (0, -0.12), (0.82, 0.58)).abs_(), 0.1 - p.front.y)
    p.stroke(grin, 0.07, p.line)
    p.marking(_ellipse(p.front.pair, (0.74, 0.2), (0.16, 0.11)), _PINK, blur=0.12, opacity=0.6)
    p.eyes(0.52, -0.6, 0.28, iris=p.pick("iris", _IRISES[:, :3]), pupil=(0.72, 0.4))
    p.nose(0.1, 0.2, 0.11, p.dark)
    p.paint(_ellipse(p.front.pair, (0.09, 0.1), (0.035, 0.05)), p.line)


def _tiger(p: _Painter) -> None:
    p.ears(
        _ellipse(p.back.pair, (0.7, -0.68), (0.33 * p.ear, 0.33 * p.ear)), p.blackish, rim=0.14, lining=_CREAM
    )
    p.head(
        _blend(
            _ellipse(p.skull.whole, (0, 0), (0.96, 0.9)),
            _leaf(p.skull.pair, (0.72, 0.26), (0.3, 0.46), -62, tip=0.03),
            0.15,
        )
    )
    p.marking(_ellipse(p.front.pair, (0.4, -0.32), (0.2, 0.13)), _WHITE, blur=0.06)
    stripes = ((0.0, -0.66, 0.08, 0.26, 0), (0.26, -0.7, 0.07, 0.22, 16), (0.9, -0.14, 0.07, 0.3, 80),
               (0.92, 0.14, 0.07, 0.32, 92), (0.86, 0.42, 0.06, 0.28, 108))  # fmt: skip
    for x, y, width, length, degrees in stripes:
        p.marking(_leaf(p.skull.pair, (x, y), (width, length), degrees), p.blackish)
    p.marking(_ellipse(p.front.pair, (0.22, 0.44), (0.34, 0.28)), _WHITE)
    p.mouth(0.42, 0.16)
    p.whiskers(0.44, 0.6, _WHITE)
    p.eyes(
        0.4,
        -0.1,
        0.18,
        iris=p.pick("iris", _IRISES[:, 1:]),
        pupil=(0.5, 0.5),
        shape=(1.05, 0.85),
        degrees=-10,
    )
    p.nose(0.26, 0.2, 0.14, _ROSE, pointed=True)


def _koala(p: _Painter) -> None:
    p.ears(
        _ellipse(p.back.pair, (1.02, -0.35), (0.56 * p.ear, 0.52 * p.ear)), p.coat, rim=0.17, lining=p.pale
    )
    p.head(_ellipse(p.skull.whole, (0, 0.02), (0.95, 0.86)))
    p.marking(_ellipse(p.front.whole, (0, 0.78), (0.5, 0.25)), p.pale, blur=0.1)
    p.stroke(
        torch.maximum(_ellipse(p.front.whole, (0, 0.56), (0.2, 0.12)).abs(), 0.6 - p.front.y), 0.05, p.line
    )
    p.eyes(0.48, -0.08, 0.13)
    p.nose(0.2, 0.23, 0.36, _INK)


def _monkey(p: _Painter) -> None:
    skin = p.coat.lerp(_colour("f2cba4"), 0.75)
    p.ears(_ellipse(p.back.pair, (1.0, 0.02), (0.34 * p.ear, 0.36 * p.ear)), p.coat, rim=0.12, lining=skin)
    p.head(_ellipse(p.skull.whole, (0, 0), (0.92, 0.92)))
    p.marking(
        _blend(
            _ellipse(p.front.pair, (0.33, -0.12), (0.38, 0.42)),
            _ellipse(p.front.whole, (0, 0.46), (0.62, 0.42)),
            0.1,
        ),
        skin,
    )
    p.stroke(
        torch.maximum(_ellipse(p.front.whole, (0, 0.42), (0.36, 0.26)).abs(), 0.48 - p.front.y), 0.055, p.line
    )
    p.eyes(0.32, -0.1, 0.18, iris=_WHITE, pupil=(0.72, 0.72))
    p.nose(0.25, 0.15, 0.09, skin * 0.8)
    p.paint(_ellipse(p.front.pair, (0.06, 0.26), (0.03, 0.04)), p.line)


def _sheep(p: _Painter) -> None:
    skin = p.pick("extra", _palette("3f3a3c", "f0dcc8", "6b5a50"))
    wool = _ellipse(p.skull.whole, (0, -0.2), (0.86, 0.72))
    for x, y in ((0.0, -0.86), (0.45, -0.75), (0.8, -0.42), (0.86, 0.0), (0.68, 0.34)):
        wool = torch.minimum(wool, _ellipse(p.skull.pair, (x, y), (0.3, 0.3)))
    face = _ellipse(p.skull.whole, (0, 0.24), (0.58, 0.78))
    p.paint(wool, p.coat, _HEAD, line=0.04)
    p.ears(_leaf(p.back.pair, (0.98, 0.06), (0.2 * p.ear, 0.46 * p.ear), 108, tip=0.04), skin, rim=0.1)
    p.paint(face, skin, _HEAD, line=0.04)
    p.inside = p.cover(face)
    for x, y in ((0.0, -0.5), (0.34, -0.42)):
        p.paint(_ellipse(p.skull.pair, (x, y), (0.28, 0.26)), p.coat, _HEAD)
    p.mouth(0.72, 0.11)
    p.eyes(0.3, 0.06, 0.15, iris=_WHITE)
    p.nose(0.64, 0.16, 0.1, skin.lerp(_ROSE, 0.5), pointed=True)


def _owl(p: _Painter) -> None:
    p.ears(_leaf(p.back.pair, (0.68, -0.72), (0.22 * p.ear, 0.45 * p.ear), 30), p.dark, rim=0)
    p.head(_ellipse(p.skull.whole, (0, 0), (1.0, 0.92)))
    for y in (0.5, 0.7):
        for x in (0.0, 0.3, 0.6):
            p.marking(_leaf(p.skull.pair, (x, y), (0.06, 0.12)), p.dark)
    p.marking(_ellipse(p.front.pair, (0.42, -0.06), (0.5, 0.5)), p.pale)
    p.marking(_leaf(p.front.whole, (0, -0.5), (0.12, 0.5)), p.dark)
    p.eyes(0.42, -0.06, 0.32, iris=_colour("f0b030"), pupil=(0.55, 0.55))
    p.paint(_leaf(p.front.whole, (0, 0.3), (0.15, 0.28), tip=0.02), _colour("e59a35"), _NOSE, line=0.03)


def _lion(p: _Painter) -> None:
    mane = _ellipse(p.skull.whole, (0, 0), (1.2, 1.16))
    for turn in range(0, 181, 30):
        angle = math.radians(turn)
        mane = torch.minimum(
            mane, _ellipse(p.skull.pair, (1.1 * math.sin(angle), -1.1 * math.cos(angle)), (0.34, 0.34))
        )
    p.paint(mane, p.coat * _colour("b07040") * 1.1, _HEAD, line=0.05)
    p.ears(_ellipse(p.back.pair, (0.7, -0.66), (0.28 * p.ear, 0.28 * p.ear)), p.coat, rim=0.1)
    p.head(_ellipse(p.skull.whole, (0, 0.02), (0.9, 0.86)))
    p.marking(_ellipse(p.front.pair, (0.2, 0.46), (0.3, 0.26)), p.pale)
    p.mouth(0.44, 0.15)
    p.whiskers(0.46, 0.5, _WHITE)
    p.eyes(0.36, -0.1, 0.15, iris=p.pick("iris", _IRISES[:, 1:]), pupil=(0.5, 0.5))
    p.nose(0.24, 0.2, 0.15, _colour("8a5a50"), pointed=True)


@dataclass(frozen=True)
class _Kind:
    """How one kind of animal is drawn.

    Attributes:
        draw: paints it.
        radius: the head's radius beside other kinds'.
        low: how far below the middle of the picture the head sits, in radii, to leave room for ears.
        coats: the colours it comes in, shape (3, K).
    """

    draw: Callable[[_Painter], None]
    radius: float
    low: float
    coats: Tensor


# coats overlap between species on purpose: a mean colour must not give the answer away
_KINDS = {
    "cat": _Kind(
        _cat, 1.0, 0.12, _palette("8c8c90", "d98a3d", "ead6b2", "45434a", "efece6", "8a6242", "bfb9b2")
    ),
    "dog": _Kind(_dog, 0.98, 0.0, _palette("c89b66", "8a5a36", "efe9df", "4a4443", "d9a860", "9a958f")),
    "rabbit": _Kind(_rabbit, 0.78, 0.5, _palette("f2efea", "a39c96", "c4a27c", "8b6a4f", "ead9bd", "5d5654")),
    "bear": _Kind(_bear, 1.0, 0.08, _palette("8a5c38", "5a3f2e", "c0935b", "e8e6e0", "8a8078", "454043")),
    "fox": _Kind(_fox, 0.95, 0.15, _palette("dd7a34", "b9572d", "8f9298", "e3dfd8", "d0a46c", "6a5650")),
    "panda": _Kind(_panda, 1.0, 0.08, _palette("f6f4f0", "efe5d2", "dcdad6", "d8b890")),
    "mouse": _Kind(_mouse, 0.85, 0.15, _palette("9a9aa0", "9b7653", "efebe4", "e6d0ab", "5f5b62", "c7ad8c")),
    "pig": _Kind(_pig, 1.02, 0.05, _palette("f0b2aa", "eec3a6", "b9a8a4", "ad7d5e", "6a5552", "f0ddd2")),
    "frog": _Kind(
        _frog, 0.98, 0.1, _palette("6fae3c", "46a07d", "93983a", "d8c24a", "93714a", "d98a35", "8d9a90")
    ),
    "tiger": _Kind(_tiger, 1.0, 0.05, _palette("e3902f", "e3b054", "eeebe4", "cc6a2e", "cda56e", "b0aaa2")),
    "koala": _Kind(_koala, 0.86, 0.0, _palette("9a9aa0", "8a8078", "b7b3b5", "a3907f")),
    "monkey": _Kind(_monkey, 0.92, 0.0, _palette("7a4f2e", "5a3f2e", "a9793f", "4a4443", "9a958f")),
    "sheep": _Kind(_sheep, 0.9, 0.05, _palette("f4f0e6", "e6d9bd", "8f8a86", "5d5350")),
    "owl": _Kind(_owl, 1.0, 0.05, _palette("8a6242", "a39c96", "efe9df", "c08a4e", "5f5b62")),
    "lion": _Kind(_lion, 0.76, 0.0, _palette("dba64e", "cda56e", "e8c98a", "c98a3f", "efe3c8")),
}
_BREEDS = {  # one third are cats, as in Oxford-IIIT Pets; capitals tell them apart
    "Abyssinian": _Kind(_cat, 0.95, 0.12, _palette("b5763c", "a5693a", "c08a56")),
    "beagle": _Kind(_dog, 0.98, 0.0, _palette("c89b66", "b07a44")),
    "chihuahua": _Kind(partial(_dog, pricked=True), 0.85, 0.15, _palette("d9b183", "c89b66", "8a5a36")),
    "Bombay": _Kind(_cat, 1.0, 0.12, _palette("353235", "2f2d33")),
    "great_pyrenees": _Kind(_dog, 1.05, 0.0, _palette("f2ece0", "efe6d3")),
    "newfoundland": _Kind(_dog, 1.08, 0.0, _palette("3c3638", "4a3a30")),
    "Russian_Blue": _Kind(_cat, 1.0, 0.12, _palette("7d8590", "8f959c")),
    "pug": _Kind(partial(_dog, mask=True), 0.95, 0.0, _palette("d8b98c", "cdb08a")),
    "samoyed": _Kind(partial(_dog, pricked=True), 1.0, 0.1, _palette("f4f1ea", "efe9df")),
    "Siamese": _Kind(partial(_cat, points=True), 0.92, 0.12, _palette("ead9bd", "e2cfae")),
    "shiba_inu": _Kind(partial(_dog, pricked=True), 0.95, 0.1, _palette("cf8a4a", "d99a5e", "b9572d")),
    "yorkshire_terrier": _Kind(_dog, 0.85, 0.0, _palette("8a7a6a", "9a958f", "a07850")),
}


# ---------------------------------------------------------------- pictures


def _ground(scenes: _Scenes, backgrounds: Tensor, height: int, width: int) -> Tensor:
    """Crops of the background photographs, float32 (3, N, height, width) in 0–1."""
    detail = min(400, round(1.5 * max(height, width)))  # the smallest photograph has 400 rows
    side = scenes.between("ground_side", 0.4, 0.9)
    x, y = (scenes.between(trait, -1, 1) * (1 - side) for trait in ("ground_x", "ground_y"))
    flip = torch.where(scenes.between("ground_flip", -1, 1) < 0, -1.0, 1.0)
    long, none = max(height, width), torch.zeros_like(side)
    rows = [
        torch.cat([side * flip * (width / long), none, x], dim=2),
        torch.cat([none, side * (height / long), y], dim=2),
    ]
    cut = crops(atlas(BACKGROUNDS, detail), backgrounds, torch.cat(rows, dim=1), height, width)
    return cut * _TINTS[:, backgrounds, None, None]


def _lit(painter: _Painter) -> Tensor:
    """The finished pictures under a lamp of random strength, colour and direction: uint8 (N, 3, H, W)."""
    scenes = painter.scenes
    angle = scenes.between("light_angle", 0, 2 * math.pi)
    strength = scenes.between("light", 0, 0.3)
    contrast = scenes.between("contrast", 0.7, 1.15)
    bright = scenes.between("bright", -0.14, 0.14)
    tint = torch.stack(
        [scenes.between("tint_red", 0.88, 1.1), 0 * angle + 1, scenes.between("tint_blue", 0.88, 1.1)]
    )
    height, width = painter.owner.shape[1:]
    slope = angle.cos() * _middles(width) + angle.sin() * _middles(height).view(-1, 1)
    lamp = strength * slope + (0.5 + bright - 0.5 * contrast)
    lit = painter.canvas.mul_(tint * contrast).add_(lamp).mul_(255).round_().clamp_(0, 255)
    return lit.to(torch.uint8).transpose(0, 1)


def _painted(
    kind: _Kind, scenes: _Scenes, backgrounds: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """One batch of one kind: pictures uint8 (N, 3, H, W) and the part every pixel shows, uint8 (N, H, W)."""
    painter = _Painter(kind, scenes, _ground(scenes, backgrounds, height, width))
    kind.draw(painter)
    return _lit(painter), painter.owner


@dataclass(frozen=True)
class Critters(Pictures):
    """Pictures of cartoon animal faces that come with the truth about their parts.

    Attributes:
        masks: bool, shape (N, len(PARTS), H, W): where each of :data:`PARTS` is *visible*. ``head`` is the whole
            face with its eyes, nose, whiskers and mane; ``left_eye`` is on the viewer's left; ``nose`` is a snout
            or a beak where the animal has one; ``ears`` leaves out what the head hides, and ears that hang in
            front of the head hide it. Eyes and nose lie inside the head and apart from each other, and every
            pixel is exactly one of head, ears and ``background``. Frogs have no ears.
        backgrounds: int64, shape (N,): the photograph behind each face, an index into :data:`BACKGROUNDS`.

    Raises:
        TypeError: if masks are not bool or backgrounds are not int64.
        ValueError: if their shapes do not fit the images.
    """

    masks: Tensor
    backgrounds: Tensor

    def __post_init__(self) -> None:
        """Check that masks and backgrounds fit the images."""
        super().__post_init__()
        if self.masks.dtype != torch.bool or self.backgrounds.dtype != torch.int64:
            raise TypeError(
                f"masks must be bool and backgrounds int64, not {self.masks.dtype} and {self.backgrounds.dtype}"
            )
        expected = (len(self), len(PARTS), *self.images.shape[2:])
        if self.masks.shape != expected or self.backgrounds.shape != expected[:1]:
            raise ValueError(
                f"these images need masks of shape {expected} and backgrounds of shape {expected[:1]}, "
                f"not {tuple(self.masks.shape)} and {tuple(self.backgrounds.shape)}"
            )

    def subset(self, index: Tensor | slice | Sequence[int]) -> Self:
        """The pictures at ``index`` with their masks and backgrounds, classes unchanged."""
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            masks=self.masks[index],
            backgrounds=self.backgrounds[index],
        )


def tied_background(species: str) -> int:
    """The background a biased :func:`generate` puts behind ``species``: an index into :data:`BACKGROUNDS`.

    Raises:
        ValueError: if there is no such species.
    """
    (name,) = _known((species,))
    return (SPECIES + COUSINS).index(name) % len(BACKGROUNDS)


def generate(
    n: int, size: int = 32, *, seed: int = 0, species: Sequence[str] = SPECIES, bias: float = 0.0
) -> Critters:
    """Draw ``n`` labelled pictures of animal faces with their part masks.

    The same arguments give the same pictures; other seeds give independent ones. What a picture shows is drawn
    without regard to its size, so the same seed at two sizes shows the same scenes. Labels are balanced (counts
    differ by at most one) and shuffled.

    Args:
        n: how many pictures, at least 1.
        size: their side in pixels, 32–224.
        seed: any whole number from 0.
        species: which animals, from :data:`SPECIES` and :data:`COUSINS`; they become the classes, in this order.
        bias: 0–1, the share of pictures whose background is the one tied to their species
            (:func:`tied_background`); the others get any background, all equally likely.

    Raises:
        TypeError: for a number of the wrong kind, or a string in place of a list of species.
        ValueError: for a number out of range or an unknown species.
    """
    _whole("n", n, 1)
    _whole("size", size, 32, 224)
    _whole("seed", seed, 0, 2**63 - 1)
    classes = _known(species)
    if isinstance(bias, bool) or not isinstance(bias, Real):
        raise TypeError(f"bias must be a number between 0 and 1, not {bias!r}")
    if not 0 <= bias <= 1:
        raise ValueError(f"bias must lie between 0 (no tie) and 1 (always tied), not {bias}")

    generator = torch.Generator().manual_seed(int(seed))
    labels = torch.arange(n).remainder(len(classes))[torch.randperm(n, generator=generator)]
    scenes = _Scenes.drawn(n, generator)
    tied = torch.tensor([tied_background(name) for name in classes])[labels]
    backgrounds = torch.where(
        scenes.between("tied", 0, 1).flatten() < bias, tied, scenes.choice("ground", len(BACKGROUNDS))
    )

    images = torch.empty(n, 3, size, size, dtype=torch.uint8)
    masks = torch.empty(n, len(PARTS), size, size, dtype=torch.bool)
    with _one_thread():
        for label, name in enumerate(classes[:n]):
            for batch in (labels == label).nonzero().flatten().split(max(1, _CHUNK // size**2)):
                images[batch], owner = _painted(_KINDS[name], scenes[batch], backgrounds[batch], size, size)
                masks[batch] = _part_masks(owner)
    source = f"{n} drawn animal faces, {size}×{size}, seed {seed}" + (f", bias {bias}" if bias else "")
    return Critters(images, labels, classes, source, masks, backgrounds)


def _part_masks(owner: Tensor) -> Tensor:
    """The masks of :data:`PARTS`, bool (N, 6, H, W), from the part that every pixel shows."""
    regions = [
        owner >= _HEAD,
        owner == _LEFT,
        owner == _RIGHT,
        owner == _NOSE,
        owner == _EARS,
        owner == _GROUND,
    ]
    return torch.stack(regions, dim=1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: on tensors this small a second one waits longer than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _whole(name: str, value: int, least: int, most: int | None = None) -> None:
    """Check that an argument is a whole number in range."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, not {value!r}")
    if value < least or (most is not None and value > most):
        raise ValueError(
            f"{name} must be {least} or more" + (f" and at most {most}" if most else "") + f", not {value}"
        )


def _known(species: Sequence[str]) -> tuple[str, ...]:
    """The species asked for, checked."""
    if isinstance(species, str):
        raise TypeError(f'species must be a list of names: write ("{species}",)')
    names = tuple(species)
    valid = SPECIES + COUSINS
    if unknown := [name for name in names if name not in valid]:
        raise ValueError(f"there is no species {unknown[0]!r}: choose from {', '.join(valid)}")
    if not names or len(set(names)) < len(names):
        raise ValueError(f"species must be one or more different names, not {names}")
    return names


# ---------------------------------------------------------------- the Pets view

_SIZES = (
    (500, 375),
    (375, 500),
    (500, 333),
    (333, 500),
    (400, 300),
    (300, 225),
    (225, 300),
    (450, 450),
    (250, 333),
)
_RECORD = "critters.json"


def write_pets(folder: str | Path, n: int, *, seed: int = 0) -> list[Path]:
    """Write ``n`` drawn cats and dogs as JPEG files, named and sized like the photographs of Oxford-IIIT Pets.

    The files are ``folder/images/Breed_N.jpg``: an upper-case first letter is a cat (one breed in three), a
    lower-case one a dog; sides vary from 225 to 500 pixels. The same ``n`` and ``seed`` give the same pictures.
    A folder that already holds them is left alone, one with another ``n`` or ``seed`` is replaced; the pictures
    appear all at once, so an interrupted call never leaves a folder that looks complete.

    Returns:
        The paths of the pictures, sorted.

    Raises:
        TypeError: if ``n`` or ``seed`` is not a whole number.
        ValueError: if they are out of range, or ``folder/images`` holds something this function did not write.
    """
    _whole("n", n, 1)
    _whole("seed", seed, 0, 2**63 - 1)
    images = Path(folder) / "images"
    record = _read_record(images)
    if record is None and images.exists() and any(images.iterdir()):
        raise ValueError(f"{images} holds other files: choose another folder for the drawn pets")
    if record and (record["n"], record["seed"]) == (n, seed) and _complete(images, record["bytes"]):
        return sorted(images / name for name in record["bytes"])
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".pets-") as scratch:
        fresh, old = Path(scratch) / "images", Path(scratch) / "old"
        fresh.mkdir()
        with _one_thread():
            _draw_pets(fresh, n, seed)
        written = {path.name: path.stat().st_size for path in fresh.iterdir()}
        (fresh / _RECORD).write_text(json.dumps({"n": n, "seed": seed, "bytes": written}))
        if images.exists():
            images.rename(old)
        fresh.rename(images)
    return sorted(images / name for name in written)


def _draw_pets(folder: Path, n: int, seed: int) -> None:
    """Draw the pictures of :func:`write_pets`, the breeds taking turns."""
    generator = torch.Generator().manual_seed(int(seed))
    scenes = _Scenes.drawn(n, generator)
    backgrounds = scenes.choice("ground", len(BACKGROUNDS))
    sizes = torch.randint(len(_SIZES), (n,), generator=generator)
    breeds = list(_BREEDS)
    for i in range(n):
        breed = breeds[i % len(breeds)]
        width, height = _SIZES[int(sizes[i])]
        one = torch.tensor([i])
        image, _ = _painted(_BREEDS[breed], scenes[one], backgrounds[one], height, width)
        path = folder / f"{breed}_{i // len(breeds) + 1}.jpg"
        Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(path, quality=90)


def _read_record(images: Path) -> dict[str, Any] | None:
    """What an earlier :func:`write_pets` noted about the folder it made; None if it made none."""
    path = images / _RECORD
    return json.loads(path.read_text()) if path.exists() else None


def _complete(images: Path, written: dict[str, int]) -> bool:
    """Whether every picture is there with as many bytes as were written."""
    return all(
        (images / name).exists() and (images / name).stat().st_size == size for name, size in written.items()
    )
