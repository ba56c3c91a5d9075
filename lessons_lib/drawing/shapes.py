"""Shapes as signed distances, negative inside, and colours.

The distance gives antialiased coverage for painting and, below zero, the exact pixels of a part.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Number = float | Tensor
Pair = tuple[Number, Number]
Points = tuple[Tensor, Tensor]  # the x and the y of every pixel


def _turned(where: Points, centre: Pair, degrees: float) -> Points:
    """Coordinates of ``where`` seen from a shape at ``centre`` that is turned clockwise by ``degrees``."""
    x, y = where[0] - centre[0], where[1] - centre[1]
    if not degrees:
        return x, y
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return c * x + s * y, c * y - s * x


def ellipse(where: Points, centre: Pair, radii: Pair, degrees: float = 0) -> Tensor:
    """Distance to an ellipse, exact to first order at its edge."""
    x, y = _turned(where, centre, degrees)
    x, y = x / radii[0], y / radii[1]
    slope = torch.hypot(x / radii[0], y / radii[1])
    return (x * x + y * y).sub_(1).div_(slope.mul_(2).add_(1e-6))


def leaf(where: Points, centre: Pair, extent: Pair, degrees: float = 0, *, tip: float = 0) -> Tensor:
    """Distance to a leaf: two arcs that meet in points above and below the centre.

    ``extent`` is half the leaf's width and half its length; ``tip`` rounds the points.
    """
    x, y = _turned(where, centre, degrees)
    width, length = extent
    radius = (width * width + length * length) / (2 * width)
    across = (x * x).add_(tip * tip).sqrt_().sub_(tip) if tip else x.abs()
    return torch.hypot(across.add_(radius - width), y).sub_(radius)


def segment(where: Points, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """Distance to a straight line."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    x, y = where[0] - start[0], where[1] - start[1]
    along = (x * dx).add_(y * dy).div_(dx * dx + dy * dy).clamp_(0, 1)
    return torch.hypot(x - along * dx, y - along * dy)


def blend(a: Tensor, b: Tensor, softness: float) -> Tensor:
    """Distance to two shapes melted together: their union with the crease filled."""
    gap = (a - b).abs_().neg_().add_(softness).clamp_(min=0)
    return torch.minimum(a, b).sub_(gap.square_().div_(4 * softness))


def colour(code: str) -> Tensor:
    """A colour like "ffcc00" as shape (3, 1, 1, 1), 0–1, ready to be painted."""
    return torch.tensor(list(bytes.fromhex(code))).float().div(255).view(3, 1, 1, 1)


def palette(*codes: str) -> Tensor:
    """Several colours as shape (3, K)."""
    return torch.cat([colour(code) for code in codes], dim=1)[:, :, 0, 0]
