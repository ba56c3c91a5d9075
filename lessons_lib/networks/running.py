"""Run a network as it is: in evaluation mode, on its device, in its precision, and left as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from lessons_lib.checks import check_range
from lessons_lib.data.pictures import Pictures, to_input
from lessons_lib.networks.inputs import device_of, logits_of


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Hold ``model`` in evaluation mode and give each module its own training flag back on any exit."""
    flags = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in flags:
            module.training = training


@contextlib.contextmanager
def differentiating(model: nn.Module) -> Iterator[None]:
    """Let gradients be computed inside the block, whatever the caller has switched off.

    Raises:
        ValueError: if the network was built under ``torch.inference_mode``, which no gradient can pass.
    """
    if any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            "the network was built under torch.inference_mode, so that no gradient can pass its weights: "
            "build or load it outside"
        )
    with torch.inference_mode(False), torch.enable_grad():
        yield


def connected(gradient: Tensor | None, output: str, wanted: str) -> Tensor:
    """The gradient that ``torch.autograd.grad`` gave, once it is sure that there is one.

    Raises:
        ValueError: if none goes from ``output`` to what it was ``wanted`` for.
    """
    if gradient is None:
        raise ValueError(
            f"no gradient goes from {output} to {wanted}: it does not depend on that, or something on the way has no "
            "derivative; choose another layer"
        )
    return gradient


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Hold PyTorch's random generator on the CPU at ``seed``, and give the caller's state back on any exit.

    The numbers are those after ``torch.manual_seed(seed)``, but generators of other devices are not touched, as they
    are by that function.

    >>> with seeded(0):
    ...     first = torch.rand(2)
    >>> with seeded(0):
    ...     assert torch.equal(torch.rand(2), first)
    """
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(int(seed))
        yield
    finally:
        torch.set_rng_state(state)


def uncompiled(model: nn.Module) -> nn.Module:
    """The network inside what ``torch.compile`` returned, whose layers have the names they had before; or itself."""
    return cast(nn.Module, getattr(model, "_orig_mod", model))


def run(model: nn.Module, inputs: Tensor) -> Any:
    """What the network gives for ``inputs``, in another memory layout if it cannot take theirs.

    With channels last convolutions are faster, but ``x.view(len(x), -1)`` before a linear layer fails on it.
    """
    try:
        return model(inputs)
    except RuntimeError as error:
        if inputs.is_contiguous() or not _is_about_layout(error):
            raise
    return model(inputs.contiguous())


@torch.no_grad()
def memory_format(model: nn.Module, inputs: Tensor) -> torch.memory_format:
    """The memory layout in which a classifier computes fastest: channels last, unless it fails on it.

    Its weights are brought into this layout. It should be in evaluation mode, since it is run.

    Args:
        model: gives logits.
        inputs: some of its inputs, shape (N, C, H, W).

    Raises:
        TypeError: see ``logits_of``.
        ValueError: see ``logits_of``.
    """
    model.to(memory_format=torch.channels_last)
    try:
        logits_of(model(inputs.contiguous(memory_format=torch.channels_last)))
    except RuntimeError as error:
        if not _is_about_layout(error):
            raise
        model.to(memory_format=torch.contiguous_format)
        logits_of(model(inputs.contiguous()))
        return torch.contiguous_format
    return torch.channels_last


@torch.no_grad()
def predict(
    model: nn.Module,
    images: Tensor,
    *,
    transform: Callable[[Tensor], Tensor] = to_input,
    batch_size: int = 64,
) -> Tensor:
    """Logits (N, classes), float32 on the CPU, of uint8 pictures (N, 3, H, W), in evaluation mode.

    The network computes in the precision of its weights. The training flag of every module is put back as it was.

    Raises:
        TypeError: for a network that gives something else than a tensor.
        ValueError: if there are no pictures, or the network gives something else than logits.

    >>> images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    >>> predict(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), images).shape
    torch.Size([4, 10])
    """
    check_range("the number of pictures", len(images), 1)
    device, logits = device_of(model), []
    with evaluating(model):
        for batch in images.split(batch_size):
            inputs = transform(batch.to(device)).contiguous(memory_format=torch.channels_last)
            logits.append(logits_of(run(model, inputs)).float().cpu())
    return torch.cat(logits)


def accuracy(
    model: nn.Module, pictures: Pictures, *, transform: Callable[[Tensor], Tensor] = to_input
) -> float:
    """Share of ``pictures`` (0–1) whose highest logit is the right class."""
    predicted = predict(model, pictures.images, transform=transform).argmax(1)
    return (predicted == pictures.labels).float().mean().item()


def _is_about_layout(error: RuntimeError) -> bool:
    return "view size is not compatible" in str(error)
