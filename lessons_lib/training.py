"""One training loop for every lesson: fast on a laptop, safe to interrupt, and resumable."""

from __future__ import annotations

import contextlib
import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from lessons_lib.checks import check_range
from lessons_lib.course import fast_bfloat16
from lessons_lib.data.pictures import Pictures, to_input
from lessons_lib.models.unfolded import unfolded
from lessons_lib.networks import accuracy, device_of, evaluating, memory_format, seeded

State = dict[str, Tensor]

_GREY = 128


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        epochs: passes over the training pictures.
        batch_size: pictures a step; the last, smaller batch of an epoch is left out.
        learning_rate: the peak of the one-cycle schedule (Smith, "Super-Convergence", 2018).
        warmup: share of the steps in which the learning rate rises.
        weight_decay: AdamW's decoupled weight decay.
        filter_rms: if given, convolution filters of a larger root mean square are scaled back to it after each
            step (Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", 2014, §3: 0.1).
        flip: whether pictures are mirrored at random.
        translate: the most pixels that pictures are moved at random, both ways; edges are repeated.
        cutout: side in pixels of a square at a random place of each picture that is painted grey; its centre is
            anywhere, so part of it may lie outside (DeVries & Taylor, "Cutout", 2017). 0 paints none.
        cutmix: share of the batches in which a rectangle of each picture is pasted over with another's (Yun et al.,
            "CutMix", 2019); the loss then asks for both classes, each by its share of the area.
        label_smoothing: share of each target's probability that is spread evenly over all classes, 0–1 (Szegedy et
            al., "Rethinking the Inception Architecture for Computer Vision", 2016, §7).
        mixed_precision: whether layers may multiply in bfloat16 where the hardware does (``torch.autocast``). Faster
            there, and each machine then ends at other weights; without it, all of them train in float32.
        snapshots: epochs after which the weights are kept; 0 is the initialisation.
        seed: decides order, augmentation and dropout, not the initialisation, which is the caller's.
    """

    epochs: int
    batch_size: int = 128
    learning_rate: float = 6e-3
    warmup: float = 0.25
    weight_decay: float = 0.05
    filter_rms: float | None = None
    flip: bool = True
    translate: int = 2
    cutout: int = 0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    mixed_precision: bool = False
    snapshots: tuple[int, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that cannot train."""
        check_range("epochs", self.epochs, 1)
        check_range("batch_size", self.batch_size, 2)  # batch norm needs two pictures
        check_range("learning_rate", self.learning_rate, 1e-12)
        check_range("cutout", self.cutout, 0)
        check_range("cutmix", self.cutmix, 0, 1)
        for epoch in self.snapshots:
            check_range("an epoch of snapshots", epoch, 0, self.epochs)


@dataclass(frozen=True)
class Epoch:
    """One line of a history. Losses are cross-entropies in nats, accuracies shares in 0–1.

    The training loss and accuracy are means over the epoch while the weights change, with augmentation and
    dropout on; the test accuracy is measured after the epoch, with both off, and is NaN without test pictures.
    """

    epoch: int
    seconds: float
    train_loss: float
    train_accuracy: float
    test_accuracy: float


@dataclass
class Run:
    """What ``fit`` returns: the history so far, the kept weights by epoch, and whether it was interrupted."""

    history: list[Epoch] = field(default_factory=list)
    snapshots: dict[int, State] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last complete epoch.

        Raises:
            ValueError: if no epoch was completed or there were no test pictures.
        """
        if not self.history or math.isnan(self.history[-1].test_accuracy):
            raise ValueError(
                "no epoch was completed, or there were no test pictures: no accuracy was measured"
            )
        return self.history[-1].test_accuracy

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all epochs, the tests after each included."""
        return sum(epoch.seconds for epoch in self.history)


def fit(
    model: nn.Module,
    train: Pictures,
    test: Pictures | None,
    settings: Settings,
    *,
    transform: Callable[[Tensor], Tensor] = to_input,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> Run:
    """Train ``model`` in place with AdamW on a one-cycle schedule and leave it in evaluation mode.

    Computes channels-last if the network can, in float32 unless the settings ask for mixed precision; tests are in
    float32. Interrupting (Ctrl-C, or the stop button) keeps the weights and the history of the complete epochs. With
    ``checkpoint``, each finished epoch is saved there; a later call with the same pictures, settings and parameters
    that learn goes on from it and ends where an uninterrupted run ends. Whether ``transform`` is the same cannot be
    seen: do not change it in between.
    The caller's random generators (CPU and CUDA) are left as they were.

    Args:
        model: a classifier of pictures, giving logits (N, classes); it is trained on the device it is on.
        train: pictures to learn from.
        test: pictures to measure accuracy on after each epoch; never learned from. None measures nothing, where
            testing would take longer than training.
        settings: see ``Settings``.
        transform: turns uint8 pictures (N, 3, H, W) into the model's input.
        checkpoint: a file to save to and resume from.
        progress: whether to show a progress bar.

    Raises:
        TypeError: for a network that gives something else than a tensor.
        ValueError: if the network gives something else than logits, a set is empty, the training set is smaller than
            a batch, or ``checkpoint`` is damaged or belongs to other pictures, settings, parameters that learn or
            another network.
        FloatingPointError: if the loss becomes NaN or infinite; the weights of that step are not applied.
    """
    check_range("the number of training pictures", len(train), settings.batch_size)
    device = device_of(model)
    with seeded(settings.seed), evaluating(model):
        layout = memory_format(model, transform(train.images[:2].to(device)))
    images = train.images.to(device).permute(0, 2, 3, 1).contiguous()
    labels = train.labels.to(device)
    steps = len(train) // settings.batch_size
    optimizer = torch.optim.AdamW(
        model.parameters(),
        settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    identity = {} if checkpoint is None else _identity(settings, train, test, model)
    total = max(3, settings.epochs * steps)
    # the schedule divides by the lengths of its rise and of its fall, which must not be 0 in the shortest runs
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total, pct_start=max(settings.warmup, 2 / total)
    )
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}

    def to_inputs(pictures: Tensor) -> Tensor:
        return transform(pictures).contiguous(memory_format=layout)

    run = Run()
    if checkpoint is not None and checkpoint.exists():
        _resume(checkpoint, run, identity, parts)
    elif 0 in settings.snapshots:
        run.snapshots[0] = _copy(model)

    bar = tqdm(
        total=settings.epochs * steps, initial=len(run.history) * steps, disable=not progress, unit="batch"
    )
    # a GPU has enough convolutions of its own to choose from
    faster = unfolded(model) if device.type == "cpu" else contextlib.nullcontext()
    with bar, torch.random.fork_rng([device] if device.type == "cuda" else []), faster:
        try:
            for number in range(len(run.history) + 1, settings.epochs + 1):
                began = time.perf_counter()
                # a large prime keeps the epochs of different seeds apart
                torch.manual_seed(settings.seed * 1_000_003 + number)
                loss, right = _train_epoch(
                    model, images, labels, len(train.classes), settings, to_inputs, optimizer, schedule, bar
                )
                tested = math.nan if test is None else accuracy(model, test, transform=transform)
                run.history.append(Epoch(number, time.perf_counter() - began, loss, right, tested))
                if number in settings.snapshots:
                    run.snapshots[number] = _copy(model)
                if checkpoint is not None:
                    _save(checkpoint, run, identity, parts)
                if test is not None:
                    bar.set_postfix_str(f"epoch {number}: test accuracy {tested:.3f}")
        except KeyboardInterrupt:
            run.interrupted = True
            print(
                f"Interrupted after {len(run.history)} of {settings.epochs} epochs; the model keeps its weights."
            )
        finally:
            model.eval()
    return run


def _train_epoch(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    classes: int,
    settings: Settings,
    transform: Callable[[Tensor], Tensor],
    optimizer: Any,
    schedule: Any,
    bar: tqdm[Any],
) -> tuple[float, float]:
    """Train on every picture once, in random order; returns the mean loss and the share right."""
    device = labels.device
    steps = len(labels) // settings.batch_size
    loss_sum, right = torch.zeros((), device=device), torch.zeros((), device=device)
    mixed = settings.mixed_precision and fast_bfloat16(device)
    model.train()
    order = torch.randperm(len(labels))[: steps * settings.batch_size].to(device)
    for index in order.split(settings.batch_size):
        pictures = augment(images, index, settings.flip, settings.translate, settings.cutout)
        target = labels[index]
        # nothing is drawn where nothing is pasted, so that runs without it stay as they were
        if settings.cutmix and torch.rand(()) < settings.cutmix:
            pictures, target = _cutmix(pictures, target, classes)
        inputs = transform(pictures)
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed):
            logits = model(inputs).float()
        loss = F.cross_entropy(logits, target, label_smoothing=settings.label_smoothing)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss became {loss.item()}: lower the learning rate ({settings.learning_rate}) "
                "or look for broken pictures"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if settings.filter_rms is not None:
            limit_filters(model, settings.filter_rms)
        loss_sum += loss.detach()
        right += (logits.argmax(1) == labels[index]).sum()
        bar.update()
    return loss_sum.item() / steps, right.item() / (steps * settings.batch_size)


def _cutmix(pictures: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another picture of the batch into each; labels become shares (B, classes)."""
    # imported here, since torchvision takes seconds and most trainings do not need it
    from torchvision.transforms.v2 import CutMix  # noqa: PLC0415

    return CutMix(num_classes=classes)(pictures, labels)  # type: ignore[no-any-return, unused-ignore]


@torch.no_grad()
def limit_filters(model: nn.Module, rms: float) -> None:
    """Scale each convolution filter whose root mean square exceeds ``rms`` back to it, in place."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            norms = layer.weight.square().mean((1, 2, 3), keepdim=True).sqrt()
            layer.weight *= (rms / norms.clamp(min=1e-12)).clamp(max=1)


def augment(images: Tensor, index: Tensor, flip: bool, translate: int, cutout: int = 0) -> Tensor:
    """Pick pictures and move and mirror each at random, in one gather; then paint a square of each grey.

    Args:
        images: all pictures, shape (N, H, W, 3): channels last, so that a pixel is one piece of memory.
        index: positions of the pictures wanted, shape (B,).
        flip: whether to mirror each with probability ½.
        translate: the most pixels to move by, in both directions; pixels from outside repeat the edge.
        cutout: side of the grey square, which may lie partly outside; 0 paints none.

    Returns:
        The pictures, shape (B, 3, H, W), channels-last in memory.
    """
    count, (height, width) = len(index), images.shape[1:3]
    rows = torch.arange(height).expand(count, height)
    columns = torch.arange(width).expand(count, width)
    if translate:
        rows = (rows + torch.randint(-translate, translate + 1, (count, 1))).clamp(0, height - 1)
        columns = (columns + torch.randint(-translate, translate + 1, (count, 1))).clamp(0, width - 1)
    if flip:
        columns = torch.where(torch.rand(count, 1) < 0.5, width - 1 - columns, columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    picked = images[index[:, None, None], rows[:, :, None], columns[:, None, :]]
    if cutout:
        inside = _interval(count, height, cutout)[:, :, None] & _interval(count, width, cutout)[:, None, :]
        picked[inside.to(images.device)] = _GREY
    return picked.permute(0, 3, 1, 2)


def _interval(count: int, length: int, side: int) -> Tensor:
    """For each of ``count``, which of ``length`` pixels lie within ``side`` pixels around a random one."""
    start = torch.randint(0, length, (count, 1)) - side // 2
    pixels = torch.arange(length)
    return (pixels >= start) & (pixels < start + side)


def _copy(model: nn.Module) -> State:
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def _identity(settings: Settings, train: Pictures, test: Pictures | None, model: nn.Module) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    return asdict(settings) | {
        "training pictures": train.fingerprint(),
        "test pictures": None if test is None else test.fingerprint(),
        "network": {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()},
        "parameters that learn": [name for name, p in model.named_parameters() if p.requires_grad],
    }


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """Read what a stopped run saved, to go on with it.

    Args:
        path: a file of ``torch.save``, a dictionary in which "identity" says what run it is of.
        identity: what must be the same for the run to go on, by names that are put into the error's sentence.

    Raises:
        ValueError: if the file is damaged, does not say all of ``identity``, or says otherwise.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is damaged, delete it to begin again ({error})") from error
    kept = saved.get("identity", {})
    if other := [name for name, value in identity.items() if name not in kept or kept[name] != value]:
        raise ValueError(
            f"{path} is of a run with other {', '.join(other)}: delete it to begin again, or keep this run elsewhere"
        )
    return dict(saved)


def _save(path: Path, run: Run, identity: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Write everything a resumed run needs; an interrupted write leaves the previous file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    saved: dict[str, Any] = {name: learning.state_dict() for name, learning in parts.items()}
    saved |= {"history": [asdict(epoch) for epoch in run.history], "snapshots": run.snapshots}
    torch.save(saved | {"identity": dict(identity)}, part)
    part.replace(path)


def _resume(path: Path, run: Run, identity: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    saved = load_checkpoint(path, identity)
    for name, learning in parts.items():
        learning.load_state_dict(saved[name])
    run.history.extend(Epoch(**row) for row in saved["history"])
    run.snapshots.update(saved["snapshots"])
