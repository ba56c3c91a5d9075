"""Does a map notice when the network forgets all it has learned?"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
from scipy import stats
from torch import Tensor, nn

from lessons_lib.checks import check_tensor
from lessons_lib.networks import at_least_float32, get_layer, seeded, uncompiled
from lessons_lib.statistics import correlation


@contextlib.contextmanager
def randomised(model: nn.Module, layers: Sequence[str], *, seed: int = 0) -> Iterator[nn.Module]:
    """Hold ``model`` with some layers re-initialised; give it all its weights back on any exit.

    Each part of a layer draws new weights by its own ``reset_parameters``: PyTorch's default, and not another
    initialisation that the network's author chose. They are drawn on the CPU, so they are the same on every device.

    Args:
        model: any module whose layers have names.
        layers: which; a layer that has parts stands for all of them. The same seed gives the first layers of a
            longer list the same new weights.
        seed: of the new weights; the caller's random generators are left as they were, those of all devices.

    Raises:
        ValueError: for an unknown layer, one without parameters, or one that does not know how to initialise itself.
    """
    parts = [(name, part) for name in layers for part in _parts(name, get_layer(model, name))]
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        with seeded(seed):
            for name, part in parts:
                _reset(name, part)
        yield model
    finally:
        model.load_state_dict(saved)


def _reset(name: str, part: nn.Module) -> None:
    kind, own = type(part).__name__, dict(part.named_parameters(recurse=False))
    if not hasattr(part, "reset_parameters"):
        raise ValueError(f"in layer {name!r}, {kind} has parameters but no reset_parameters()")
    try:
        fresh = copy.deepcopy(part).cpu()
    except RuntimeError as error:
        raise ValueError(f"in layer {name!r}, {kind} cannot be copied: {error}") from error
    with torch.no_grad():
        for parameter in fresh.parameters(recurse=False):
            parameter.fill_(torch.nan)
    cast(Callable[[], None], fresh.reset_parameters)()
    forgotten = [key for key in own if torch.isnan(fresh.get_parameter(key)).any()]
    if forgotten:
        raise ValueError(
            f"in layer {name!r}, reset_parameters() of {kind} leaves {', '.join(forgotten)} as it is "
            "(weight_norm, for example, computes the weights from others): leave that layer out"
        )
    part.load_state_dict(fresh.state_dict())


def _parts(name: str, layer: nn.Module) -> list[nn.Module]:
    """The parts of a layer that have parameters of their own and know how to initialise them."""
    parts = [part for part in layer.modules() if any(True for _ in part.parameters(recurse=False))]
    if not parts:
        raise ValueError(f"layer {name!r} has no parameters to randomise")
    return parts


def layers_with_weights(model: nn.Module) -> list[str]:
    """The names of all layers with parameters of their own, the last one first.

    The first few of them, more and more, are the "cascading randomization" of J. Adebayo et al., "Sanity Checks for
    Saliency Maps" (NeurIPS 2018, section 3.1).
    """
    named = uncompiled(model).named_modules()
    return [name for name, part in named if name and [*part.parameters(recurse=False)]][::-1]


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Spearman's rank correlation of each map with its other, over pixels.

    Args:
        maps: shape (N, H, W).
        others: same shape.

    Returns:
        float64, shape (N,), in −1 to 1; NaN where a map is the same everywhere.

    Raises:
        ValueError: if the shapes differ.
    """
    check_tensor("maps", maps, "N H W")
    check_tensor("the other maps", others, maps.shape)
    flat = (at_least_float32(stack.detach().cpu()).flatten(1).numpy() for stack in (maps, others))
    return correlation(*(torch.from_numpy(stats.rankdata(values, axis=1)) for values in flat))
