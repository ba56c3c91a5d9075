"""What a sweep is asked for: where the patch stands, of which classes and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lessons_lib.checks import check_choice, check_range
from lessons_lib.methods.occlusion.maps import OcclusionMap
from lessons_lib.methods.occlusion.occluder import Occluder
from lessons_lib.networks import Classes, class_numbers

Placement = Literal["centred", "inside"]
"""Whether patches may stand out of the picture: see ``occlude``."""


def starts(length: int, patch: int, stride: int, placement: Placement) -> Tensor:
    """First pixel of the patch at each position along a side of ``length`` pixels, int64; clipped later.

    Raises:
        ValueError: if the patch or stride does not fit, or for an unknown placement.
    """
    check_range("patch", patch, 1, length)
    check_range("stride", stride, 1)
    check_choice("placement", placement, Placement)
    if placement == "centred":
        return torch.arange(0, length, stride) - patch // 2
    last = length - patch
    return torch.tensor(sorted({*range(0, last + 1, stride), last}))


def blank_map(
    occluder: Occluder, filled: Tensor, patch: int, stride: int, placement: Placement,
    targets: Classes, channels: Sequence[int] | None,
) -> OcclusionMap:  # fmt: skip
    """A map that holds nothing yet, once the request is known to make sense."""
    height, width = filled.shape[1:]
    tops, lefts = (starts(length, patch, stride, placement) for length in (height, width))
    clean, sums = occluder.clean
    wanted = tuple(class_numbers(targets, classes=len(clean)).tolist())
    chosen: tuple[int, ...] = ()
    if sums is None:
        if channels is not None:
            raise ValueError("name the layer that the channels belong to: layer=")
        sums = clean.new_empty(0)
    else:
        chosen = (int(sums.argmax()),) if channels is None else tuple(int(c) for c in channels)
        for channel in chosen:
            check_range(f"a channel of {occluder.layer!r}", channel, 0, len(sums) - 1)
    shape = len(tops), len(lefts)
    return OcclusionMap(
        targets=wanted,
        probabilities=torch.full((len(wanted), *shape), torch.nan),
        predicted=torch.full(shape, -1),
        channels=chosen,
        activations=torch.full((len(chosen), *shape), torch.nan),
        tops=tops,
        lefts=lefts,
        patch=patch,
        image=occluder.image.cpu(),
        filled=filled.cpu(),
        layer=occluder.layer,
        computed=torch.zeros(shape, dtype=torch.bool),
        clean_probabilities=clean.float(),
        clean_activations=sums[list(chosen)].float(),
    )
