"""Pictures as points: what layers make of them, one vector a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.checks import check_range, check_tensor
from lessons_lib.data.pictures import to_input
from lessons_lib.networks.hooks import recording
from lessons_lib.networks.inputs import device_of, feature_maps, network_input
from lessons_lib.networks.running import run


@torch.no_grad()
def features(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str],
    *,
    pool: int | None = None,
    transform: Callable[[Tensor], Tensor] = to_input,
    batch_size: int = 64,
) -> dict[str, Tensor]:
    """What ``layers`` make of each picture, as one point a picture, in one pass over all of them.

    Pictures are turned into the model's input batch by batch and feature maps into points at once, so beside the
    points themselves memory holds one batch. The model runs in evaluation mode and is left as it was.

    Args:
        model: any module whose layers have names.
        images: uint8, shape (N, 3, H, W).
        layers: the names of the layers.
        pool: feature maps are averaged over ``pool`` × ``pool`` regions, so that layers of different sizes give
            vectors of comparable length that still know roughly where things are; 1 averages over all positions. By
            default every position is kept. A layer without positions, (N, C), is kept as it is.
        transform: turns a batch of uint8 pictures into the model's input.
        batch_size: how many pictures to run at once; the result does not depend on it.

    Returns:
        Points by layer, on the CPU, shape (N, D): of feature maps (N, C, h, w), D is C·h·w, or C·pool² (less for
        maps smaller than that).

    Raises:
        TypeError: if the pictures are not uint8, or ``transform`` gives another precision than the network's.
        ValueError: for no pictures, another shape, a pool below 1, no or an unknown layer, one that runs twice or not
            at all, one whose output holds NaN or infinity, or one to be pooled that gives no feature maps with
            channels first.

    >>> from lessons_lib.models.small_cnn import SmallCNN
    >>> images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    >>> {name: tuple(points.shape) for name, points in features(SmallCNN(), images, ["block1"], pool=2).items()}
    {'block1': (2, 128)}
    """
    check_tensor("pictures", images, "N 3 H W", torch.uint8)
    check_range("the number of layers", len(layers), 1)
    check_range("pool", 1 if pool is None else pool, 1)
    device = device_of(model)
    points: dict[str, Tensor] = {}
    with recording(model, layers) as outputs:
        for start in range(0, len(images), batch_size):
            inputs = network_input(model, transform(images[start : start + batch_size].to(device)))
            run(model, inputs.contiguous(memory_format=torch.channels_last))  # quicker
            for name in layers:
                rows = _rows(outputs[name], name, inputs, pool)
                if not torch.isfinite(rows).all():
                    raise ValueError(f"layer {name!r} gives NaN or infinity: its features cannot be compared")
                if name not in points:
                    points[name] = torch.empty(len(images), rows.shape[1], dtype=rows.dtype)
                points[name][start : start + len(rows)] = rows.cpu()
    return points


def _rows(output: Tensor, name: str, inputs: Tensor, pool: int | None) -> Tensor:
    if pool is None or output.ndim == 2:
        return output.flatten(1)
    maps = feature_maps(output, name, inputs)
    height, width = (min(pool, side) for side in maps.shape[2:])
    return F.adaptive_avg_pool2d(maps, (height, width)).flatten(1)
