"""Paints a batch of faces on photographs, and notes which part each pixel shows.

Shapes are evaluated for a whole batch of pictures at once on each picture's own rotated and scaled pixel grid.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor

from lessons_lib.drawing.shapes import Number, Points, blend, colour, ellipse, palette, segment

GROUND, EARS, HEAD, LEFT, RIGHT, NOSE = range(6)  # what a pixel of the owner map shows

WHITE, CREAM, INK, PINK = colour("fbf8f2"), colour("f3e6cc"), colour("2a2326"), colour("f2a6a4")
ROSE, TONGUE = colour("e07f83"), colour("ef7d86")
BLACKISH = palette("2c2a2c", "453330", "33363d")
IRISES = palette("f4f0e0", "9ccf6a", "f0c64a", "8fc7e8", "e0a04a")

# scenes: what varies from picture to picture
_TRAITS = (
    "across", "down", "radius", "roll", "stretch", "yaw", "pitch",
    "coat", "shade", "warmth", "extra", "ear", "eye", "gap", "nose", "iris", "marks", "mood",
    "tied", "ground", "ground_x", "ground_y", "ground_side", "ground_flip",
    "tint_red", "tint_blue", "bright", "contrast", "light", "light_angle",
)  # fmt: skip


@dataclass(frozen=True)
class Scenes:
    """Everything random about a set of pictures, as numbers in 0–1 that do not depend on the picture size."""

    traits: Tensor  # (N, len(_TRAITS))

    @classmethod
    def drawn(cls, n: int, generator: torch.Generator) -> Self:
        """``n`` of them."""
        return cls(torch.rand(n, len(_TRAITS), generator=generator))

    def __getitem__(self, index: Tensor) -> Scenes:
        """Those at ``index``."""
        return Scenes(self.traits[index])

    def between(self, trait: str, low: float, high: float) -> Tensor:
        """One trait stretched to [low, high], shape (N, 1, 1)."""
        return (self.traits[:, _TRAITS.index(trait)] * (high - low) + low).view(-1, 1, 1)

    def choice(self, trait: str, count: int) -> Tensor:
        """One trait as a choice among ``count``, int64 (N,)."""
        return (self.traits[:, _TRAITS.index(trait)] * count).long().clamp_(max=count - 1)


@dataclass(frozen=True)
class Grid:
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

    def moved(self, right: Tensor, down: Tensor) -> Grid:
        """The grid of something that sits nearer to the viewer or farther, when the head turns."""
        return Grid(self.x - right, self.y - down)


def _placed(kind: Kind, scenes: Scenes, height: int, width: int) -> tuple[Grid, Tensor]:
    """The grid of a head that is moved, turned and stretched at random, and its radius (half the short side = 1)."""
    half_width, half_height = width / min(height, width), height / min(height, width)
    radius = scenes.between("radius", 0.5, 0.74) * kind.radius
    across = scenes.between("across", -0.55, 0.55) * half_width
    down = scenes.between("down", -0.55, 0.55) * half_height + kind.low * radius
    # a centre this far inside the border keeps at least 70 % of the head in the picture
    reach_x, reach_y = half_width - 0.65 * radius, half_height - 0.65 * radius
    dx = middles(width) * half_width - across.maximum(-reach_x).minimum(reach_x)
    dy = middles(height).view(-1, 1) * half_height - down.maximum(-reach_y).minimum(reach_y)
    stretch = scenes.between("stretch", -0.07, 0.07)
    roll = scenes.between("roll", -25, 25).deg2rad()
    c, s = roll.cos() / radius, roll.sin() / radius
    return Grid((dx * c + dy * s) / (1 + stretch), (dy * c - dx * s) / (1 - stretch)), radius


def middles(count: int) -> Tensor:
    """The middles of ``count`` pixels in a row from -1 to 1."""
    return torch.linspace(1 / count - 1, 1 - 1 / count, count)


class Painter:
    """Paints a batch of pictures of one kind of animal, back to front.

    Keeps track of the part that each pixel shows. Things are placed on three grids: ``back`` for ears, ``skull``
    for the head, ``front`` for eyes, nose and mouth, which move the most when the head turns.

    In a twin some parts are ``changed``: left out (None), or drawn as another kind has them, at its place on a head of
    this kind's size and in this kind's colours. All else is painted as ever, to the last bit.
    """

    def __init__(
        self, kind: Kind, scenes: Scenes, ground: Tensor, changed: Mapping[int, Kind | None] | None = None
    ) -> None:
        _, count, height, width = ground.shape
        self.scenes = scenes
        self.canvas = ground
        self.lent: defaultdict[int, list[Callable[[], None]]] | None = None
        self.muted = False  # paint nothing
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
        self.pale = self.coat.lerp(WHITE, 0.72)
        self.line = self.coat * 0.3
        self.blackish = self.pick("extra", BLACKISH)
        self.changed = {
            part: [] if other is None else self._lent(other, part) for part, other in (changed or {}).items()
        }
        self.muted = HEAD in self.changed

    def _lent(self, other: Kind, part: int) -> list[Callable[[], None]]:
        """How another kind would draw a part on this head."""
        self.lent, self.muted = defaultdict(list), True
        other.draw(self)
        lent, self.lent, self.muted = self.lent, None, False
        return lent[part]

    def part(self, draw: Callable[[], None], *parts: int) -> None:
        """Draw one part, or the left and the right one of a pair; or what a twin has in their place."""
        if self.lent is not None:
            for part in parts:
                self.lent[part].append(draw)
        elif not self.changed.keys() & {*parts, HEAD}:
            draw()
        else:
            self.muted = HEAD in self.changed and EARS not in parts
            for part in parts:
                for one in self.changed.get(part, [draw]):
                    canvas, owner = self.canvas.clone(), self.owner.clone()
                    one()
                    if len(parts) == 2:
                        here = (self.front.x < 0) == (part == LEFT)
                        self.canvas = torch.where(here, self.canvas, canvas)
                        self.owner = torch.where(here, self.owner, owner)
                if part in self.changed:
                    self.changed[part] = []  # drawn once, though this kind may come to it in two steps
            self.muted = HEAD in self.changed

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
        if self.muted:
            return
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
        if self.muted:
            return
        cover = self.cover(distance - width / 2) - self.cover(distance + width / 2)
        self.canvas.lerp_(colour, cover)
        if part is not None:
            self.own(distance < width / 2, part)

    # ------------------------------------------------------------ parts that several species share

    def ears(self, distance: Tensor, colour: Tensor, rim: float = 0.1, lining: Tensor = PINK) -> None:
        """A pair of ears with a lining ``rim`` inside their edge (none if 0)."""
        self.part(partial(self._ears, distance, colour, rim, lining), EARS)

    def _ears(self, distance: Tensor, colour: Tensor, rim: float, lining: Tensor) -> None:
        self.paint(distance, colour, EARS, line=0.05)
        if rim:
            self.paint(distance + rim, lining, blur=0.03)

    def head(self, distance: Tensor) -> None:
        """The head, shaded round."""
        self.paint(distance, self.coat, HEAD, line=0.05)
        self.inside = self.cover(distance + 0.04)
        glow = ellipse(self.front.whole, (-0.1, -0.25), (0.9, 0.85))
        self.paint(-glow, self.dark, within=self.inside, blur=0.5, opacity=0.55)

    def marking(self, distance: Tensor, colour: Tensor, blur: float = 0, opacity: Number = 1) -> None:
        """A patch of colour that stays on the head."""
        self.paint(distance, colour, within=self.inside, blur=blur, opacity=opacity)

    def eyes(self, cx: float, cy: float, size: float, **look: Any) -> None:
        """A pair of eyes, see ``_eyes``."""
        self.part(partial(self._eyes, cx, cy, size, **look), LEFT, RIGHT)

    def _eyes(
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
        """Dark beads, or with an ``iris`` colour and a pupil (its size as a share of the eye)."""
        grid = self.front
        cx_ = cx * self.scenes.between("gap", 0.9, 1.1)
        size_ = size * self.scenes.between("eye", 0.86, 1.2)
        sides = torch.where(grid.x < 0, LEFT, RIGHT).to(torch.uint8)
        ball = ellipse(grid.pair, (cx_, cy), (size_ * shape[0], size_ * shape[1]), degrees)
        if iris is None:  # a pale rim, or black eyes vanish in a black coat
            self.paint(ball - 0.04, self.coat.lerp(WHITE, 0.4))
        self.paint(ball, INK, sides)
        if iris is not None:
            self.paint(ball + 0.035, iris)
            hole = ellipse(grid.pair, (cx_, cy), (size_ * pupil[0], size_ * pupil[1]))
            self.paint(hole, INK, within=self.cover(ball))
        # both highlights on the same side of their eyes, as one lamp would make them
        for side in (-1, 1):
            spot = ellipse(
                grid.whole, (side * cx_ - 0.28 * size_, cy - 0.32 * size_), (0.3 * size_, 0.3 * size_)
            )
            self.paint(spot, WHITE)

    def nose(self, cy: float, rx: float, ry: float, colour: Tensor, *, pointed: bool = False) -> None:
        """A nose on the middle line: oval, or ``pointed`` downwards."""
        self.part(partial(self._nose, cy, rx, ry, colour, pointed), NOSE)

    def _nose(self, cy: float, rx: float, ry: float, colour: Tensor, pointed: bool) -> None:
        grid = self.front
        grow = self.scenes.between("nose", 0.88, 1.15)
        if pointed:
            top = ellipse(grid.whole, (0, cy - 0.3 * ry), (rx * grow, 0.6 * ry * grow))
            distance = blend(
                top, ellipse(grid.whole, (0, cy + 0.3 * ry), (0.45 * rx * grow, 0.7 * ry * grow)), 0.06
            )
        else:
            distance = ellipse(grid.whole, (0, cy), (rx * grow, ry * grow))
        self.paint(distance, colour, NOSE, line=0.025)
        self.paint(ellipse(grid.whole, (-0.3 * rx, cy - 0.4 * ry), (0.3 * rx, 0.2 * ry)), WHITE, opacity=0.6)

    def on_nose(self, distance: Tensor, colour: Tensor, part: int | None = None, *, line: float = 0) -> None:
        """What goes with the nose: nostrils, or all of a beak."""
        self.part(partial(self.paint, distance, colour, part, line=line), NOSE)

    def mouth(self, cy: float, width: float, depth: float = 1.0) -> None:
        """A smile in the shape of a w, hanging under the nose."""
        grid = self.front
        bend = ellipse(grid.pair, (width, cy), (width, width * depth)).abs_()
        self.stroke(torch.maximum(bend, cy - grid.y), 0.05, self.line.lerp(INK, 0.5))

    def whiskers(self, cy: float, length: float, colour: Tensor) -> None:
        """Three whiskers on either side; they belong to the head."""
        for lift in (-0.16, 0.0, 0.16):
            grid = self.front
            line = segment(grid.pair, (0.36, cy + 0.4 * lift), (0.36 + length, cy + 1.5 * lift))
            self.stroke(line, 0.028, colour, HEAD)


@dataclass(frozen=True)
class Kind:
    """How one kind of animal is drawn.

    Attributes:
        draw: paints it.
        radius: the head's radius beside other kinds'.
        low: how far below the middle of the picture the head sits, in radii, to leave room for ears.
        coats: the colours it comes in, shape (3, K).
    """

    draw: Callable[[Painter], None]
    radius: float
    low: float
    coats: Tensor


# coats overlap between species on purpose: a mean colour must not give the answer away


def _lit(painter: Painter) -> Tensor:
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
    slope = angle.cos() * middles(width) + angle.sin() * middles(height).view(-1, 1)
    lamp = strength * slope + (0.5 + bright - 0.5 * contrast)
    lit = painter.canvas.mul_(tint * contrast).add_(lamp).mul_(255).round_().clamp_(0, 255)
    return lit.to(torch.uint8).transpose(0, 1)


def painted(
    kind: Kind, scenes: Scenes, ground: Tensor, changed: Mapping[int, Kind | None] | None = None
) -> tuple[Tensor, Tensor]:
    """One batch of one kind: pictures uint8 (N, 3, H, W) and the part every pixel shows, uint8 (N, H, W).

    Args:
        kind: what is drawn.
        scenes: N of them.
        ground: what is behind it, float32 (3, N, H, W) in 0–1; it is painted over.
        changed: the parts that are left out (None) or drawn as another kind has them. Without its head an animal has
            nothing but ears.
    """
    painter = Painter(kind, scenes, ground, changed)
    kind.draw(painter)
    return _lit(painter), painter.owner
