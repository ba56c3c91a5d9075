"""What makes a channel answer: its maximally activating patches, and the parts its strongest activations cover.

Two ways to read a unit from data alone. The first lists the positions of a data set where a channel answers most
and cuts out what it saw there. The second, network dissection, marks the pixels where it answers strongly and
compares them with masks of known parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.data.pictures import to_input
from lessons_lib.methods.receptive_field import ReceptiveField
from lessons_lib.networks import device_of, feature_maps, network_input, recording, run

GREY = 128  # fills what a crop shows beyond a unit's field or the picture
"""The level of the grey beyond a unit's field or the picture."""
_MOST_PARTS = 12  # the table of counts has 2**parts columns


@dataclass(frozen=True)
class TopActivations:
    """The strongest activations of each channel, strongest first; all of shape (C, k), on the CPU.

    Attributes:
        values: the activations.
        picture: index of the picture, int64.
        row: row of the feature map, int64.
        column: column of the feature map, int64.
    """

    values: Tensor
    picture: Tensor
    row: Tensor
    column: Tensor


@torch.no_grad()
def top_activations(
    model: nn.Module,
    images: Tensor,
    layer: str,
    k: int = 9,
    *,
    transform: Callable[[Tensor], Tensor] = to_input,
    batch_size: int = 100,
    per_picture: bool = True,
) -> TopActivations:
    """The k strongest activations of every channel of a layer over a data set, in one pass.

    Only the best so far and one batch are held, however large the data set. Of equal activations, the one in the
    earlier picture comes first, then the one higher up, then the one to the left: as a stable sort has it.

    Args:
        model: any network; it is run in evaluation mode on the device it is on.
        images: uint8, shape (N, 3, H, W).
        layer: name of a layer that gives feature maps (N, C, h, w).
        k: how many to keep for each channel.
        transform: turns uint8 pictures into the model's input.
        batch_size: pictures run at a time; the result does not depend on it.
        per_picture: whether a picture may appear only once for a channel, with its strongest position, so that
            the patches differ.

    Raises:
        TypeError: if the pictures are not uint8, or ``transform`` gives another precision than the network's.
        ValueError: for an unknown layer, a layer that gives no feature maps with channels first, fewer
            pictures (or positions) than ``k``, or NaN among the activations.

    Source: the selection of M. Zeiler and R. Fergus, "Visualizing and Understanding Convolutional Networks",
    ECCV 2014, figure 2.
    """
    check_tensor("pictures", images, "N 3 H W", torch.uint8)
    check_range("k", k, 1)
    device, done = device_of(model), 0
    best: tuple[Tensor, Tensor, Tensor] | None = None
    with recording(model, [layer]) as outputs:
        for batch in images.split(batch_size):
            inputs = network_input(model, transform(batch.to(device)))
            run(model, inputs.contiguous(memory_format=torch.channels_last))
            maps = feature_maps(outputs[layer], layer, inputs)
            worst = best[0][:, -1] if best and best[0].shape[1] == k else None
            best = _better(best, _contenders(maps, worst, k, per_picture), k, done)
            done += len(batch)
    assert best is not None
    values, picture, position = (part.cpu() for part in best)
    if values.shape[1] < k:
        kind = "pictures" if per_picture else "positions"
        raise ValueError(f"there are only {values.shape[1]} {kind} to choose k = {k} from")
    return TopActivations(values, picture, position // maps.shape[3], position % maps.shape[3])


def _contenders(
    maps: Tensor, worst: Tensor | None, k: int, per_picture: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What of a batch may enter the best: nothing at or below the worst of these, nor below the batch's own k-th.

    Activations, channels, pictures and positions (row · width + column), in the order of pictures and positions; each
    of shape (M,).
    """
    peaks = maps.amax((2, 3), keepdim=True)
    if torch.isnan(peaks).any():
        raise ValueError("the activations hold NaN: look for NaN in the weights or in what transform gives")
    scores = peaks if per_picture else maps
    if worst is None:
        by_channel = scores.transpose(0, 1).flatten(1)
        kth = by_channel.topk(min(k, by_channel.shape[1])).values[:, -1]
        chosen = scores >= kth[:, None, None]
    else:
        chosen = scores > worst[:, None, None]
    picture, channel, row, column = chosen.nonzero(as_tuple=True)
    values = scores[picture, channel, row, column]
    position = row * maps.shape[3] + column
    if per_picture:
        # where the peak is matters only for the few that may enter; argmax gives the first of equals
        position = maps[picture, channel].flatten(1).argmax(1)
    return values, channel, picture, position


def _better(
    best: tuple[Tensor, Tensor, Tensor] | None, new: tuple[Tensor, Tensor, Tensor, Tensor], k: int, done: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The k best of each channel: values, pictures and positions (C, up to k), of the best so far and a batch's."""
    values, channel, picture, position = new
    picture = picture + done
    if best is not None:  # first, since of equals the earlier picture wins
        best_values, best_picture, best_position = (part.flatten() for part in best)
        owner = torch.arange(len(best[0]), device=values.device).repeat_interleave(best[0].shape[1])
        values, channel = torch.cat([best_values, values]), torch.cat([owner, channel])
        picture, position = torch.cat([best_picture, picture]), torch.cat([best_position, position])
    order = values.argsort(descending=True, stable=True)
    order = order[channel[order].argsort(stable=True)]
    counts = channel.bincount()
    rank = torch.arange(len(order), device=values.device) - (counts.cumsum(0) - counts)[channel[order]]
    kept = order[rank < k]
    shape = (len(counts), -1)
    return values[kept].view(shape), picture[kept].view(shape), position[kept].view(shape)


def crop(image: Tensor, field: ReceptiveField, row: int, column: int, *, fill: int = GREY) -> Tensor:
    """What the unit at ``row``, ``column`` sees of a picture.

    The crop has the size of the field (or the picture's, where the field is larger), so that crops of one layer
    fit beside each other. Pixels that the unit cannot see, since they lie outside the picture or (where the
    field is larger) outside the field, are grey, or what ``fill`` says.

    Args:
        image: uint8, shape (3, H, W).
        field: the layer's field, of ``lessons_lib.methods.receptive_field.receptive_fields``.
        row: row of the feature map.
        column: column of the feature map.
        fill: 0–255, of the pixels that the unit cannot see.

    Returns:
        uint8, shape (3, h, w).

    Raises:
        TypeError: if the picture is not uint8.
        ValueError: if it does not have the size that ``field`` was computed for, or there is no such position.
    """
    check_tensor("a picture of this field", image, (3, *field.picture), torch.uint8)
    box, window = field.box(row, column), field.window(row, column)
    height, width = (min(a, b) for a, b in zip(field.size, field.picture, strict=True))
    top = window.top if field.size[0] <= field.picture[0] else 0
    left = window.left if field.size[1] <= field.picture[1] else 0
    patch = torch.full((3, height, width), fill, dtype=torch.uint8, device=image.device)
    patch[:, box.top - top : box.bottom - top, box.left - left : box.right - left] = image[
        :, box.top : box.bottom, box.left : box.right
    ]
    return patch


def crops(images: Tensor, top: TopActivations, channel: int, field: ReceptiveField) -> Tensor:
    """The patches of a channel's top activations, strongest first.

    Args:
        images: the pictures that ``top`` was found in, uint8, shape (N, 3, H, W).
        top: what ``top_activations`` returned.
        channel: a row of ``top``.
        field: the layer's field.

    Returns:
        uint8, shape (k, 3, h, w); see ``crop``.

    Raises:
        ValueError: if there is no such channel, or the pictures do not fit.
    """
    check_range("channel", channel, 0, len(top.values) - 1)
    check_range("the number of pictures", len(images), int(top.picture.max()) + 1)
    places = torch.stack([top.picture[channel], top.row[channel], top.column[channel]], dim=1).tolist()
    return torch.stack([crop(images[picture], field, row, column) for picture, row, column in places])


def upsample_by_field(maps: Tensor, field: ReceptiveField) -> Tensor:
    """Feature maps at the size of the picture, by bilinear interpolation.

    Each unit's value stands at the centre of its receptive field, as in network dissection; beyond the outermost
    centres it is repeated. (Plain resizing spreads the units evenly instead, which is wrong by some pixels
    where padding is not symmetric.)

    Args:
        maps: shape (N, C, h, w).
        field: the layer's field.

    Returns:
        Shape (N, C, H, W).

    Raises:
        ValueError: if the maps do not have the positions of the field.
    """
    positions = (len(field.rows), len(field.columns))
    check_tensor("maps of this field", maps, ("N", "C", *positions))
    down, across = (_interpolation(field, axis, positions[axis]).to(maps) for axis in (0, 1))
    return down @ maps @ across.T


def _interpolation(field: ReceptiveField, axis: int, positions: int) -> Tensor:
    """Weights (pixels, positions) of linear interpolation between the centres of the units' fields."""
    first = field.offset[axis] + field.size[axis] / 2
    where = (torch.arange(field.picture[axis]) + 0.5 - first) / max(field.stride[axis], 1)
    return (1 - (where.clamp(0, positions - 1)[:, None] - torch.arange(positions)).abs()).clamp(min=0)


def levels(maps: Tensor, quantile: float) -> Tensor:
    """The level that each channel exceeds at a share of at most ``quantile`` of its positions.

    Args:
        maps: feature maps over a data set, shape (N, C, h, w).
        quantile: between 0 and 1, such as 0.005 in network dissection.

    Returns:
        Shape (C,).

    Raises:
        ValueError: for another shape or quantile, or NaN.
    """
    check_tensor("feature maps", maps, "N C h w", finite=True)
    if not 0 < quantile < 1:
        raise ValueError(f"quantile must lie between 0 and 1, not {quantile}")
    by_channel = maps.transpose(0, 1).flatten(1)
    count = by_channel.shape[1]
    return by_channel.kthvalue(count - int(quantile * count), dim=1).values


def unit_mask(maps: Tensor, field: ReceptiveField, channel: int, quantile: float) -> Tensor:
    """Where a channel answers strongly: the pixels at which its enlarged map lies above its level.

    Args:
        maps: a layer's feature maps over a data set, shape (N, C, h, w).
        field: the layer's field.
        channel: 0 to C − 1.
        quantile: share of positions above the level, see ``levels``.

    Returns:
        bool, shape (N, H, W).

    Raises:
        ValueError: if there is no such channel, or as for ``levels`` and ``upsample_by_field``.

    Source: D. Bau et al., "Network Dissection", CVPR 2017, figure 3.
    """
    check_range("channel", channel, 0, maps.shape[1] - 1)
    one = maps[:, channel : channel + 1]
    return (upsample_by_field(one, field) > levels(one, quantile)[:, None, None])[:, 0]


@dataclass(frozen=True)
class Dissection:
    """How well each channel's strongest activations cover each part of the pictures.

    Attributes:
        parts: names of the parts.
        overlap: intersection over union of a channel's mask and the part's, over the data set, (C, P), in 0–1.
        bar: for each part, what the best of all channels reaches by chance, shape (P,): see ``chance``.
    """

    parts: tuple[str, ...]
    overlap: Tensor
    bar: Tensor

    @property
    def part(self) -> Tensor:
        """Each channel's part, an index: of those it covers better than chance, the one it covers best; else −1."""
        beating = self.overlap.where(self.overlap > self.bar, -1.0)
        best, part = beating.max(1)
        return part.where(best >= 0, -1)

    @property
    def detectors(self) -> dict[str, int]:
        """How many channels answer to each part."""
        return {name: int((self.part == i).sum()) for i, name in enumerate(self.parts)}


class UnitMasks:
    """The pixels that a layer's channels mark: where the enlarged map lies above the channel's level.

    Few pixels are marked, so only they are kept.

    Args:
        maps: feature maps over a data set, shape (N, C, h, w).
        field: the layer's field.
        quantile: share of positions above a channel's level, see ``levels``.

    Raises:
        ValueError: as for ``levels`` and ``upsample_by_field``.

    Source: D. Bau et al., "Network Dissection", CVPR 2017, section 2.
    """

    def __init__(self, maps: Tensor, field: ReceptiveField, quantile: float) -> None:
        self.levels = levels(maps, quantile)
        self._pictures, self._size = len(maps), field.picture
        pixels = field.picture[0] * field.picture[1]
        at_once = max(1, 2**24 // (maps.shape[1] * pixels))
        marked = [
            (upsample_by_field(part, field) > self.levels[:, None, None]).transpose(0, 1).flatten(1).nonzero()
            + torch.tensor([0, start * at_once * pixels])
            for start, part in enumerate(maps.split(at_once))
        ]
        channel, pixel = torch.cat(marked).unbind(1)
        self._channel, self._pixel = channel.int().numpy(), pixel.numpy().copy()  # without the other column

    def overlap(self, masks: Tensor) -> Tensor:
        """Intersection over union with each part, over the data set.

        Args:
            masks: bool, shape (N, P, H, W), one mask for each part of each picture.

        Returns:
            Shape (C, P), in 0–1; 0 where channel and part are both empty.

        Raises:
            TypeError: if the masks are not bool.
            ValueError: if they do not fit the pictures.
        """
        return self._overlap(self._codes(masks), masks.shape[1])

    def chance(self, masks: Tensor, shuffles: int = 99, seed: int = 0) -> Tensor:
        """What the best of all channels reaches when each picture's masks are dealt to another picture.

        The greatest of ``shuffles`` maxima over the channels: a part that a channel covers better than this, it
        covers better than chance at a family-wise level of 1 / (``shuffles`` + 1) over all channels. The masks
        keep their usual places, so knowing where parts lie in most pictures is not enough.

        Args:
            masks: as for ``overlap``.
            shuffles: how many times the masks are dealt.
            seed: of the dealing.

        Returns:
            Shape (P,), in 0–1.

        Raises:
            TypeError: if the masks are not bool.
            ValueError: if they do not fit the pictures, or for fewer than one shuffle or two pictures.

        Source: P. Westfall and S. Young, "Resampling-Based Multiple Testing", 1993: the maximum statistic.
        """
        check_range("shuffles", shuffles, 1)
        check_range("the number of pictures", self._pictures, 2)
        codes = self._codes(masks).reshape(self._pictures, -1)
        generator = np.random.default_rng(seed)
        best = torch.zeros(masks.shape[1], dtype=torch.float64)
        for _ in range(shuffles):
            # a random cycle through the pictures: none keeps its own masks
            cycle = generator.permutation(self._pictures)
            dealt = np.empty_like(codes)
            dealt[cycle] = codes[np.roll(cycle, 1)]
            best = torch.maximum(best, self._overlap(dealt.ravel(), masks.shape[1]).amax(0))
        return best

    def _codes(self, masks: Tensor) -> np.ndarray:
        """For every pixel the parts it belongs to, one bit each: one table of counts then serves all parts."""
        check_tensor("masks", masks, (self._pictures, "P", *self._size), torch.bool)
        check_range("the number of parts", masks.shape[1], 1, _MOST_PARTS)
        bits = 1 << torch.arange(masks.shape[1], dtype=torch.int16)
        return (masks * bits[:, None, None]).sum(1, dtype=torch.int16).flatten().numpy()

    def _overlap(self, codes: np.ndarray, parts: int) -> Tensor:
        channels = len(self.levels)
        counts = np.bincount((self._channel << parts) + codes[self._pixel], minlength=channels << parts)
        holds = (np.arange(1 << parts)[:, None] >> np.arange(parts)) & 1  # (codes, parts)
        shared = counts.reshape(channels, -1) @ holds
        marked = counts.reshape(channels, -1).sum(1, keepdims=True)
        area = np.bincount(codes, minlength=1 << parts) @ holds
        return torch.from_numpy(shared / np.maximum(marked + area - shared, 1))


def dissect(
    maps: Tensor,
    field: ReceptiveField,
    masks: Tensor,
    parts: Sequence[str],
    *,
    quantile: float = 0.01,
    shuffles: int = 99,
    seed: int = 0,
) -> Dissection:
    """Which channel answers to which part.

    Args:
        maps: a layer's feature maps over a data set, shape (N, C, h, w).
        field: the layer's field.
        masks: bool, shape (N, P, H, W).
        parts: the name of each part.
        quantile: share of its positions at which a channel counts as strongly active.
        shuffles: how many times chance is tried, see ``UnitMasks.chance``.
        seed: of those.

    Raises:
        TypeError: if the masks are not bool.
        ValueError: if shapes or names do not fit, for NaN, or a number out of range.

    Source: D. Bau et al., "Network Dissection", CVPR 2017; with chance measured instead of their fixed bar of 0.04.
    """
    check_tensor("masks of these parts", masks, f"N {len(parts)} H W")
    units = UnitMasks(maps, field, quantile)
    return Dissection(tuple(parts), units.overlap(masks), units.chance(masks, shuffles, seed))
