"""The trained networks that ship with the course: float16 safetensors and a model card in data/checkpoints/."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lessons_lib import course
from lessons_lib.checks import check_choice

Model = TypeVar("Model", bound=nn.Module)


def names() -> tuple[str, ...]:
    """The shipped networks, one folder each."""
    return tuple(sorted(path.parent.name for path in course.CHECKPOINTS.glob("*/README.md")))


def epochs(name: str) -> tuple[int, ...]:
    """The epochs after which ``name`` was saved, ascending; 0 is the initialisation.

    Raises:
        ValueError: if no such network ships; the message lists those that do.
    """
    files = (course.CHECKPOINTS / name).glob("epoch_*.safetensors")
    found = sorted(int(match[1]) for file in files if (match := re.fullmatch(r"epoch_(\d+)", file.stem)))
    if not found:
        check_choice(f"checkpoint in {course.CHECKPOINTS}", name, names())
    return tuple(found)


def restore(model: Model, name: str, epoch: int | None = None) -> Model:
    """Load ``name``'s weights into ``model`` and put it in evaluation mode.

    Args:
        model: a network of the architecture that the model card names.
        name: a folder of data/checkpoints/.
        epoch: one of ``epochs``; default: the last.

    Returns:
        ``model`` itself.

    Raises:
        ValueError: if there is no such checkpoint, its file is damaged, or it does not fit ``model``.
    """
    path = _existing(name, epoch)
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); get it again by `git checkout` or pip") from error
    try:
        model.load_state_dict(weights)  # copying into float32 parameters converts the float16 weights
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit this {type(model).__name__}: {error}") from error
    return model.eval()  # type: ignore[return-value, unused-ignore]


def _existing(name: str, epoch: int | None) -> Path:
    available = epochs(name)
    epoch = available[-1] if epoch is None else epoch
    check_choice(f"epoch of {name}", epoch, available)
    return file(name, epoch)


def file(name: str, epoch: int) -> Path:
    """Where ``name``'s weights after ``epoch`` are kept."""
    return course.CHECKPOINTS / name / f"epoch_{epoch:02d}.safetensors"


def test_accuracy(name: str, epoch: int | None = None) -> float:
    """Test accuracy (0–1) that was measured on the weights as shipped; default: the last epoch's.

    Raises:
        ValueError: if there is no such checkpoint.
    """
    with safe_open(_existing(name, epoch), framework="pt") as opened:
        return float(opened.metadata()["test_accuracy"])


def save(name: str, epoch: int, weights: Mapping[str, Tensor], test_accuracy: float) -> Path:
    """Keep ``weights`` as float16 (integers unchanged); an interrupted write leaves the previous file.

    Args:
        name: the network's folder in data/checkpoints/.
        epoch: after which these weights were copied.
        weights: a state dict.
        test_accuracy: share right (0–1), kept in the file's metadata.

    Raises:
        ValueError: if a weight is not finite in float16.
    """
    half = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
    if broken := [key for key, tensor in half.items() if not torch.isfinite(tensor).all()]:
        raise ValueError(f"{broken} are not finite in float16, so this checkpoint would be broken")
    path = file(name, epoch)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    contiguous = {key: tensor.contiguous() for key, tensor in half.items()}
    save_file(contiguous, part, metadata={"test_accuracy": f"{test_accuracy:.4f}"})
    part.replace(path)
    return path
