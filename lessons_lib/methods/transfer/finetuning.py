"""A new head on a trained network, a part of it that truly stays as it is, and a slower body."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lessons_lib.checks import check_range
from lessons_lib.methods.transfer.probes import Probe
from lessons_lib.networks import (
    class_numbers,
    device_of,
    evaluating,
    get_layer,
    head_name,
    hooked,
    noise,
    seeded,
)


class Transfer(nn.Module):
    """A network of which some layers stay as they are while the others learn. ``transfer`` makes one.

    ``requires_grad = False`` does not freeze a layer: in training mode its batch norms still follow the new data and
    its dropout still drops. Here frozen layers stay in evaluation mode whatever ``train()`` says, so what they
    compute for a picture never changes.

    Args:
        network: it is changed in place: its frozen parameters no longer ask for gradients, all others do.
        head: name of the linear layer that gives the logits.
        frozen: names of the layers that stay.
        freeze_norms: whether all batch norms keep the means and variances they came with, also in layers that
            learn. A handful of pictures says too little about them.

    Raises:
        ValueError: for an unknown layer.
    """

    def __init__(
        self, network: nn.Module, head: str, frozen: Sequence[str] = (), *, freeze_norms: bool = True
    ) -> None:
        super().__init__()
        self.network = network.requires_grad_(True)
        get_layer(network, head)
        self.head = head
        self.frozen = tuple(frozen)
        # a tuple, which PyTorch does not take for submodules of their own
        still = [get_layer(network, name).requires_grad_(False) for name in self.frozen]
        norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
        self._still = (*still, *norms) if freeze_norms else tuple(still)

    def train(self, mode: bool = True) -> Self:
        """Training mode for the layers that learn; frozen ones stay in evaluation mode."""
        super().train(mode)
        for module in self._still:
            module.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """The network's logits, shape (N, classes)."""
        return self.network(inputs)


def transfer(
    model: nn.Module,
    classes: int,
    inputs: Tensor | None = None,
    *,
    freeze: str | None = None,
    freeze_norms: bool = True,
    seed: int = 0,
) -> Transfer:
    """A copy of ``model`` with a new head for ``classes`` classes, frozen up to a named layer.

    Args:
        model: a trained classifier; it is left as it is.
        classes: of the new task, at least 2.
        inputs: one input or more of the model, shape (N, ...); the first is run to see which layer is the head and,
            with ``freeze``, in which order the layers run. By default ``noise``.
        freeze: the last layer that stays as it is, with all that run before it; None lets everything learn.
        freeze_norms: see ``Transfer``.
        seed: of the new head's weights; the caller's random generator is left as it was.

    Raises:
        ValueError: for fewer than two classes, an unknown layer, ``freeze`` up to the new head itself, a model whose
            output is not that of a linear layer, or one that needs ``inputs``.
    """
    check_range("the number of classes", classes, 2)
    network = copy.deepcopy(model)
    inputs = noise(network) if inputs is None else inputs[:1]
    name = head_name(network, inputs)
    old = get_layer(network, name)
    with seeded(seed):
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None)  # type: ignore[arg-type]
    network.set_submodule(name, new.to(old.weight))  # type: ignore[arg-type]
    with torch.no_grad(), evaluating(network):
        shape = tuple(network(inputs.to(new.weight.device)).shape)
    if shape != (1, classes):
        raise ValueError(
            f"with a new head in the place of {name!r}, {type(model).__name__} gives shape {shape} for one picture, "
            f"not (1, {classes}): does it use this layer under another name, too, or change its output afterwards?"
        )
    frozen = () if freeze is None else layers_up_to(network, freeze, inputs)
    if name in frozen:
        raise ValueError(f"{freeze!r} holds the new head {name!r} or runs after it: freeze an earlier layer")
    return Transfer(network, name, frozen, freeze_norms=freeze_norms)


@torch.no_grad()
def layers_up_to(model: nn.Module, layer: str, inputs: Tensor) -> tuple[str, ...]:
    """The layers that have run when ``layer`` is done, itself included, in the order in which they run.

    Listed are layers that have weights of their own or no layers inside.

    Args:
        model: any module whose layers have names.
        layer: one of them; it may hold others.
        inputs: one input or more of the model, shape (N, ...).

    Raises:
        ValueError: for an unknown layer, or one that does not run.
    """
    get_layer(model, layer)
    units = _units(model)
    order: list[str] = []
    done = False

    def follow(name: str, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        nonlocal done
        if not done and name in units and name not in order:
            order.append(name)
        done = done or name == layer

    with hooked(model, {name: partial(follow, name) for name in {*units, layer}}):
        model(inputs.to(device_of(model)))
    if not done:
        raise ValueError(f"layer {layer!r} did not run, so nothing runs before it")
    return tuple(order)


def _units(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers that hold weights themselves or hold no layers; timm's batch norms do both."""
    return tuple(
        name
        for name, module in model.named_modules()
        if name and (next(module.parameters(recurse=False), None) is not None or not any(module.children()))
    )


def slower_body(model: Transfer, rate: float, *, slowdown: float = 10) -> list[dict[str, Any]]:
    """Two parameter groups: the head learns at ``rate``, all below it ``slowdown`` times slower.

    Give them to any optimiser of PyTorch.

    Raises:
        ValueError: if ``slowdown`` is below 1.
    """
    check_range("slowdown", slowdown, 1)
    head = _learning(get_layer(model.network, model.head))
    known = {id(parameter) for parameter in head}
    body = [parameter for parameter in _learning(model) if id(parameter) not in known]
    groups = [{"params": body, "lr": rate / slowdown}] if body else []
    return [*groups, {"params": head, "lr": rate}]


@torch.no_grad()
def head_from_probe(model: Transfer, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Let the head begin as a softmax probe on the frozen features instead of at random, in place.

    A random head sends large, meaningless gradients into the body at first, which spoils good features.

    Args:
        model: its head is overwritten.
        batches: inputs (B, ...) and labels (B,), all training pictures once, without augmentation.

    Raises:
        ValueError: for no batches, or labels that are not all classes of the head.

    Source: A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution"
    (ICLR 2022, §3: "LP-FT").
    """
    head = get_layer(model.network, model.head)
    given: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given.append(inputs[0].float().cpu())

    labels = []
    with hooked(model.network, {model.head: keep}):
        for inputs, answers in batches:
            model(inputs.to(head.weight.device))  # type: ignore[arg-type]
            labels.append(answers.cpu())
    check_range("the number of batches", len(labels), 1)
    weight, bias = Probe("softmax").fit(torch.cat(given), torch.cat(labels)).linear()
    if weight.shape != head.weight.shape:
        raise ValueError(f"the head has {len(head.weight)} classes, but the labels only {len(weight)}")  # type: ignore[arg-type]
    head.weight.copy_(weight)  # type: ignore[operator]
    if head.bias is not None:
        head.bias.copy_(bias)  # type: ignore[operator]


@torch.no_grad()
def head_from_classes(model: Transfer, source: nn.Module, classes: Sequence[int]) -> None:
    """Let the head begin as the source's own weights for classes that it has already learned, in place.

    They come from as many pictures as the source was trained on; a probe of a handful can be worse.

    Args:
        model: made from ``source`` by ``transfer``; its head is overwritten.
        source: the network as it was; left as it is.
        classes: for each new class, the class of ``source`` that means the same.

    Raises:
        ValueError: for another number of classes than the head has, a class twice, or one that ``source`` lacks.

    Source: M. Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models" (CVPR 2022), who fine-tune from the head that
    needs no training.
    """
    old, new = get_layer(source, model.head), get_layer(model.network, model.head)
    chosen = list(classes)
    if len(chosen) != len(new.weight) or len(set(chosen)) < len(chosen):  # type: ignore[arg-type]
        raise ValueError(f"the head needs {len(new.weight)} different classes of the source, not {chosen}")  # type: ignore[arg-type]
    class_numbers(chosen, classes=len(old.weight))  # type: ignore[arg-type]
    for mine, its in ((new.weight, old.weight), (new.bias, old.bias)):
        if mine is not None and its is not None:
            mine.copy_(its[chosen])  # type: ignore[index, operator]


def _learning(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]
