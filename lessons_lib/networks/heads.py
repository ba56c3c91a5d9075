"""The head of a classifier: the linear layer whose output is the network's, found by running the network."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.networks.hooks import hooked
from lessons_lib.networks.inputs import device_of, first_parameter, logits_of
from lessons_lib.networks.running import evaluating

# those that take one size only take one of these; the cheapest is tried first
_USUAL_SIZES = (32, 64, 224)


@torch.no_grad()
def head_name(model: nn.Module, inputs: Tensor | None = None) -> str:
    """The name of the linear layer whose output is the network's.

    The order in which layers were registered says nothing about it, so one input is run and the numbers decide.

    Args:
        model: a classifier; it is run in evaluation mode and left as it was.
        inputs: its input, shape (N, ...), of which the first is used; by default ``noise``.

    Raises:
        ValueError: if no linear layer gives the network's output, or if the network takes no picture of a usual size
            and ``inputs`` are left out.
        TypeError: if its output is no tensor of logits.

    >>> from lessons_lib.models.small_cnn import SmallCNN
    >>> head_name(SmallCNN())
    'classifier'
    """
    given = noise(model) if inputs is None else inputs[:1].to(device_of(model))
    outputs: dict[str, Tensor] = {}

    def look(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        outputs.pop(name, None)  # so that the layer that ran last is the last one
        outputs[name] = output.clone()

    linears = [name for name, module in model.named_modules() if name and isinstance(module, nn.Linear)]
    with hooked(model, {name: partial(look, name) for name in linears}):
        logits = logits_of(model(given))
    found = [name for name, output in outputs.items() if _same(output.to(logits.dtype), logits)]
    if not found:
        raise ValueError(
            f"the output of {type(model).__name__} does not come from an nn.Linear, so it has no head to read or to "
            "replace: take off what follows the head, such as a softmax, or put one on (with_cam_head); grad_cam "
            "needs none"
        )
    return found[-1]


@torch.no_grad()
def noise(model: nn.Module) -> Tensor:
    """A picture of noise that ``model`` takes, shape (1, 3, size, size), float in 0–1, of the weights' type and place.

    Not a blank one, on which layers without bias all give the same zeros. It is the same each time.

    Raises:
        ValueError: if the network takes no picture of a usual size.
    """
    weights = first_parameter(model)
    problem = ""
    with evaluating(model):
        for size in _USUAL_SIZES:
            picture = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(weights)
            try:
                model(picture)
            except Exception as error:  # networks refuse a size with whatever they like
                problem = problem or str(error)
            else:
                return picture
    sizes = ", ".join(map(str, _USUAL_SIZES))
    raise ValueError(
        f"{type(model).__name__} takes no picture of {sizes} pixels a side ({problem}): give inputs that it takes"
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
