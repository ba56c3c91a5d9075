"""What a sweep is asked for: where the patch stands, of which classes and channels, and what is known already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lessons_lib.methods.occlusion.maps import OcclusionMap
from lessons_lib.methods.occlusion.occluder import Occluder, weights_of
from lessons_lib.networks import class_numbers

Targets = int | Tensor | Sequence[int] | np.ndarray
Placement = Literal["centred", "inside"]
"""Whether patches may stand out of the picture: see ``occlude``."""


def starts(length: int, patch: int, stride: int, placement: Placement) -> Tensor:
    """First pixel of the patch at each position along a side of ``length`` pixels, int64; clipped later.

    Raises:
        ValueError: if the patch or stride does not fit, or for an unknown placement.
    """
    if not 1 <= patch <= length:
        raise ValueError(f"patch must be 1–{length} pixels, the picture's side, not {patch}")
    if stride < 1:
        raise ValueError(f"stride must be at least 1 pixel, not {stride}")
    if placement == "centred":
        return torch.arange(0, length, stride) - patch // 2
    if placement == "inside":
        last = length - patch
        return torch.tensor(sorted({*range(0, last + 1, stride), last}))
    raise ValueError(f"no placement {placement!r}; there are {', '.join(get_args(Placement))}")


def blank_map(
    occluder: Occluder, filled: Tensor, patch: int, stride: int, placement: Placement,
    targets: Targets, channels: Sequence[int] | None,
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
        if not all(0 <= c < len(sums) for c in chosen):
            raise ValueError(f"{occluder.layer!r} has channels 0–{len(sums) - 1}, not {channels}")
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
        weights=weights_of(occluder.model),
        computed=torch.zeros(shape, dtype=torch.bool),
        clean_probabilities=clean.float(),
        clean_activations=sums[list(chosen)].float(),
        mode="exact",
        note="",
        error=0.0,
        seconds=0.0,
    )


def resumable(unfinished: OcclusionMap, blank: OcclusionMap) -> OcclusionMap:
    """A copy of ``unfinished`` to go on with, once it is sure that it belongs to the same sweep as ``blank``."""
    for name in ("targets", "layer", "channels", "patch"):
        if getattr(unfinished, name) != getattr(blank, name):
            raise ValueError(
                f"the map to resume has {name} {getattr(unfinished, name)}, not {getattr(blank, name)}"
            )
    if unfinished.weights != blank.weights:
        raise ValueError("the map to resume belongs to another network, or to other weights of this one")
    for name in ("image", "tops", "lefts", "filled"):
        if not torch.equal(getattr(unfinished, name), getattr(blank, name)):
            raise ValueError(f"the map to resume belongs to another sweep: its {name} differ")
    copies = {
        name: getattr(unfinished, name).clone() for name in ("probabilities", "predicted", "activations")
    }
    return replace(unfinished, computed=unfinished.computed.clone(), **copies)
