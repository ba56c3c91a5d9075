"""What the page needs to answer for the panel of lesson 08: what a network and pictures of the lesson give, as files.

For each layer a picture of all patches, a row for each channel, and numbers, packed; and one picture of new pictures.
"""

from __future__ import annotations

import gzip
import math
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from lessons_lib import models, networks, plots
from lessons_lib.data import critters, to_input
from lessons_lib.methods.patches import top_activations
from lessons_lib.methods.receptive_field import receptive_fields
from lessons_lib.widgets.patches import unit, unit_panel

# the lesson's, in its profile quick
SIZE, PICTURES, NEW = 64, (800, 1), (120, 6)
LAYERS = models.BLOCKS[1:4]
CHANNELS = {"block3": 84, "block4": 67}  # that fit eyes and noses best
COLUMNS = 12  # of the picture of new pictures
BLOCK = 8  # pixels of a JPEG that are packed together: what lies in several does not blur into its neighbours


def write(folder: Path, _: dict[str, Any]) -> dict[str, Any]:
    """Write patches and numbers of all channels; what the panel has to know."""
    trained = models.checkpoints.restore(models.SmallCNN(), "small_cnn_cifar10")
    body = nn.Sequential(OrderedDict((name, trained.get_submodule(name)) for name in models.BLOCKS)).eval()
    pictures, new = (critters.generate(n, SIZE, seed=seed).images for n, seed in (PICTURES, NEW))
    fields = receptive_fields(body, SIZE, LAYERS)
    maps = networks.capture(body, to_input(new), LAYERS)
    patches = {
        name: (pictures, top_activations(body[: i + 2], pictures, name), fields[name])
        for i, name in enumerate(LAYERS)
    }
    scenes = {name: (new, maps[name], fields[name]) for name in LAYERS}
    _save(folder / "patches_new.jpg", new, COLUMNS)
    for name in LAYERS:
        units = [unit(patches[name], scenes[name], c) for c in range(maps[name].shape[1])]
        cut = torch.from_numpy(np.concatenate([one["patches"] for one in units]))[..., :3].movedim(3, 1)
        _save(folder / f"patches_{name}.jpg", _padded(cut), len(units[0]["patches"]), subsampling=0)
        (folder / f"patches_{name}.bin").write_bytes(_packed(units))
    about: dict[str, Any] = unit_panel(patches, scenes, channels=CHANNELS).about
    told = {"patches": units[0]["patches"].shape[0], "columns": COLUMNS, "block": BLOCK}
    return about | told | {"files": [path.name for path in sorted(folder.glob("patches_*"))]}


def _packed(units: list[dict[str, Any]]) -> bytes:
    """Numbers of a layer's channels: float32, then uint16, both one channel after the other.

    Of each channel its largest activation in the new pictures and those of its patches; then its levels, the numbers of
    the new pictures that are shown, and its maps of these. Levels and maps are in 65,535ths of the largest activation.
    """
    largest = [max(one["maps"].max().item(), 1e-9) for one in units]
    floats = [
        np.append(np.float32(peak), one["activations"]) for peak, one in zip(largest, units, strict=True)
    ]
    whole = [
        np.concatenate([_whole(one["levels"], peak), one["numbers"], _whole(one["maps"], peak)])
        for peak, one in zip(largest, units, strict=True)
    ]
    return gzip.compress(np.stack(floats).astype("<f4").tobytes() + np.stack(whole).astype("<u2").tobytes())


def _whole(values: Tensor, largest: float) -> np.ndarray:
    return (values / largest * 65535).round().flatten().numpy()


def _padded(patches: Tensor) -> Tensor:
    """Grey to the right and below, up to a whole number of a JPEG's blocks."""
    height, width = (BLOCK * math.ceil(length / BLOCK) for length in patches.shape[2:])
    padded = patches.new_full((len(patches), 3, height, width), 128)
    padded[..., : patches.shape[2], : patches.shape[3]] = patches
    return padded


def _save(path: Path, images: Tensor, columns: int, **options: Any) -> None:
    tiles = plots.as_image(plots.tiled(images, columns, gap=0, fill=0))
    Image.fromarray(tiles).save(path, quality=80, optimize=True, **options)
