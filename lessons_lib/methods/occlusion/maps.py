"""The result of a sweep: what the network says for each place of the patch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lessons_lib.checks import check_choice


@dataclass(frozen=True)
class OcclusionMap:
    """What a network says while a patch covers each place of a picture in turn.

    A map has R × C positions, one for each place of the patch. Where none was computed (an interrupted sweep),
    probabilities and activations are NaN and the predicted class is −1.

    Attributes:
        targets: the classes whose probability was asked for.
        probabilities: of each target at each position, float32, shape (T, R, C), in 0–1.
        predicted: the most probable class at each position, int64, shape (R, C).
        channels: the channels of the layer whose activation was asked for.
        activations: the total activation of each channel at each position, float32, shape (K, R, C).
        tops: first pixel row of the patch at each of the R rows of the map, int64; negative where the picture's edge
            clips the patch.
        lefts: likewise the first pixel column for the C columns.
        patch: side of the patch in pixels, before clipping.
        image: the picture as the network's input, shape (C, H, W).
        filled: the picture that showed through the patch, shape (C, H, W).
        layer: the layer of ``channels``, if one was asked for.
        computed: where the network ran, bool (R, C): everywhere unless the sweep was interrupted.
        clean_probabilities: of all classes without a patch, shape (classes,).
        clean_activations: total activation of ``channels`` without a patch, shape (K,).
        note: how it was computed and what was measured on the way, in a sentence or two.
        seconds: how long the sweep took.
    """

    targets: tuple[int, ...]
    probabilities: Tensor
    predicted: Tensor
    channels: tuple[int, ...]
    activations: Tensor
    tops: Tensor
    lefts: Tensor
    patch: int
    image: Tensor
    filled: Tensor
    layer: str | None
    computed: Tensor
    clean_probabilities: Tensor
    clean_activations: Tensor
    note: str = ""
    seconds: float = 0.0

    @property
    def clean_class(self) -> int:
        """The most probable class without a patch."""
        return int(self.clean_probabilities.argmax())

    @property
    def positions(self) -> int:
        """How many places of the patch the map has."""
        return self.predicted.numel()

    @property
    def complete(self) -> bool:
        """Whether every position is computed."""
        return bool(self.computed.all())

    @property
    def keeps(self) -> Tensor:
        """Where the network says the same as without a patch, bool (R, C)."""
        return self.predicted == self.clean_class

    @property
    def kept(self) -> int:
        """At how many positions it does."""
        return int(self.keeps.sum())

    def boxes(self, rows: Tensor, columns: Tensor) -> Tensor:
        """The patches at these positions of the map, clipped: shape (N, 4)."""
        tops, lefts = self.tops[rows], self.lefts[columns]
        height, width = self.filled.shape[1:]
        ends = (tops + self.patch).clamp(max=height), (lefts + self.patch).clamp(max=width)
        return torch.stack([tops.clamp(min=0), lefts.clamp(min=0), *ends], 1)

    def room_of(self, tile: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the rectangle that the patches at ``tile`` rows × columns of positions cover together."""
        strides = [int(starts.diff().max()) if len(starts) > 1 else 1 for starts in (self.tops, self.lefts)]
        height, width = (
            min(self.patch + (side - 1) * stride, length)
            for side, stride, length in zip(tile, strides, self.filled.shape[1:], strict=True)
        )
        return height, width

    def drop(self, target: int | None = None) -> Tensor:
        """How much probability ``target`` (default: the first) loses at each position, shape (R, C).

        Raises:
            ValueError: if the class was not a target of the sweep.
        """
        target = self.targets[0] if target is None else target
        check_choice("target", target, self.targets)
        return self.clean_probabilities[target] - self.probabilities[self.targets.index(target)]

    def attribution(self, target: int | None = None) -> Tensor:
        """For each pixel the mean drop over the patches that cover it, shape (H, W); 0 where none does.

        With placement "inside" and a stride that divides (side − patch) this is what captum's ``Occlusion`` returns;
        otherwise captum lets the last patch stand out of the picture, ours is moved back until it touches the border.

        Raises:
            ValueError: if the class was not a target, or the map is not complete.
        """
        if not self.complete:
            raise ValueError("the sweep was interrupted: sweep again for a complete map")
        rows, columns = (
            _covers(starts, self.patch, length).double()
            for starts, length in zip((self.tops, self.lefts), self.filled.shape[1:], strict=True)
        )
        total = torch.einsum("rc,rh,cw->hw", self.drop(target).double(), rows, columns)
        count = torch.einsum("rh,cw->hw", rows, columns)
        return torch.where(count > 0, total / count.clamp(min=1), 0.0).float()


def _covers(starts: Tensor, patch: int, length: int) -> Tensor:
    """Whether the patch at each start covers each pixel of a line, bool (starts, length)."""
    pixels = torch.arange(length)
    return (pixels >= starts[:, None]) & (pixels < starts[:, None] + patch)
