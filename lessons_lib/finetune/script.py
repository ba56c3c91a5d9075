"""Fine-tune a network on folders of pictures from the command line, on one processor or many, and use the result.

``python -m lessons_lib.finetune --data FOLDER`` trains; ``python -m lessons_lib.finetune predict RUN
PICTURE …`` names pictures. Under ``accelerate launch`` or ``torchrun`` every process works on its share of each batch.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, broadcast_object_list
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from torchvision.transforms import InterpolationMode
from tqdm.auto import tqdm

from lessons_lib.data.photos import open_picture
from lessons_lib.finetune.folder import PictureFolder, Views, read_folder
from lessons_lib.methods.transfer.finetuning import (
    Transfer,
    head_from_classes,
    head_from_probe,
    slower_body,
    transfer,
)
from lessons_lib.models import imagenet
from lessons_lib.models.imagenet import ImageNetClassifier
from lessons_lib.networks import seeded
from lessons_lib.training import load_checkpoint

BEST, LAST = "best.safetensors", "last.pt"


@dataclass(frozen=True)
class Options:
    """How to fine-tune; a run that was stopped only goes on with the same ones.

    Attributes:
        network: one of ``lessons_lib.models.imagenet.NAMES``.
        from_scratch: begin with random weights, to see what transfer gives: no layer is slower and batch norms learn.
        freeze: the last layer that stays as it is; None lets all learn.
        known: for each class folder, the class of ImageNet that means the same, as "folder=class"; the head begins
            as the network's own for these. Empty: it begins as a linear probe.
        size: side of the pictures in pixels; None takes what the network was trained with.
        epochs: passes over the training pictures.
        batch_size: pictures a step, over all processes together.
        learning_rate: the peak of the head's; the body's is ``slowdown`` times lower.
        slowdown: at least 1.
        weight_decay: AdamW's decoupled weight decay.
        valid_share: see ``lessons_lib.finetune.folder.read_folder``.
        seed: decides the division, the order and the random cuts.
    """

    network: str = imagenet.OFFLINE
    from_scratch: bool = False
    freeze: str | None = None
    known: tuple[str, ...] = ()
    size: int | None = None
    epochs: int = 8
    batch_size: int = 16
    learning_rate: float = 1e-3
    slowdown: float = 10.0
    weight_decay: float = 0.05
    valid_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot train."""
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"epochs and batch size must be at least 1, not {self.epochs} and {self.batch_size}"
            )
        if self.size is not None and self.size < 32:
            raise ValueError(f"pictures must have at least 32 pixels a side, not {self.size}")
        if self.from_scratch and self.freeze:
            raise ValueError(f"from scratch nothing is worth keeping: do not freeze up to {self.freeze!r}")
        if self.from_scratch and self.known:
            raise ValueError("from scratch no class is known")


@dataclass(frozen=True)
class Epoch:
    """One line of the history: the mean training loss (nats), and the share of validation pictures right (0–1)."""

    epoch: int
    loss: float
    accuracy: float


class _Shuffled(Sampler[int]):
    """Positions in an order that depends on the seed and the epoch alone."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Any:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        return iter(torch.randperm(self.count, generator=generator).tolist())


def train(data: Path, out: Path, options: Options, *, workers: int = 0, progress: bool = True) -> list[Epoch]:
    """Fine-tune on the pictures in ``data``; go on where a run of the same options in ``out`` was stopped.

    After each epoch ``out`` holds last.pt, from which the same call goes on, and best.safetensors, the weights of the
    best epoch so far with all that is needed to use them. Each file is replaced in one step: whatever stops the
    process, a whole one is there.

    Args:
        data: see ``lessons_lib.finetune.folder.read_folder``.
        out: the folder of the run, made if it is missing.
        options: how to train.
        workers: processes that read pictures, for each process that trains.
        progress: whether to show progress bars.

    Returns:
        The history of all epochs, those before a restart included.

    Raises:
        ValueError: for a folder or options that cannot be used, or a run begun with others.
        ConnectionError: if the network's weights are neither on this machine nor reachable.
        FloatingPointError: if the loss becomes NaN or infinite.
        OSError: if the disk is full; the files of the last whole epoch are kept.
    """
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        dataloader_config=DataLoaderConfiguration(split_batches=True),
    )
    quiet = not (progress and accelerator.is_main_process)
    if options.batch_size % accelerator.num_processes:
        raise ValueError(
            f"a batch of {options.batch_size} cannot be shared evenly by {accelerator.num_processes} processes"
        )
    folder = _read_once(data, options, accelerator, progress=not quiet)
    with accelerator.main_process_first(), _only_from(accelerator):
        source = imagenet.load(options.network)
    known = _known_classes(options.known, folder.classes, source.categories)
    source = replace(source, categories=folder.classes, size=options.size or source.size)
    if accelerator.is_main_process:
        _describe(folder, options, source)
    batch = min(
        options.batch_size, len(folder.train) // accelerator.num_processes * accelerator.num_processes
    )
    if not batch:
        raise ValueError(
            f"{len(folder.train)} training pictures for {accelerator.num_processes} processes: too few"
        )

    views = Views(data, folder.train, source, random_crops=True, seed=options.seed)
    order = _Shuffled(len(folder.train), options.seed)
    batches = DataLoader(views, batch, sampler=order, drop_last=True, num_workers=workers)
    valid = DataLoader(Views(data, folder.valid, source), batch, num_workers=workers)
    model = _begin(source, views[0][0][None], options, alone=accelerator.num_processes == 1)
    groups = slower_body(
        model, options.learning_rate, slowdown=1 if options.from_scratch else options.slowdown
    )
    optimizer = torch.optim.AdamW(groups, weight_decay=options.weight_decay)
    total = max(4, options.epochs * len(batches))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [g["lr"] for g in groups], total)

    history, identity = [], _identity(folder, options)
    if (out / LAST).exists():
        history = _resume(out / LAST, identity, model, optimizer, schedule)
    elif accelerator.is_main_process and not options.from_scratch:
        # the other processes get the head when the model is prepared
        head_from_probe(model, DataLoader(Views(data, folder.train, source), batch, num_workers=workers))
    learner, optimizer, batches, valid = accelerator.prepare(model, optimizer, batches, valid)
    if not history and not options.from_scratch:
        _report_start("linear probe on frozen features", learner, valid, accelerator)
    if not history and known:
        head_from_classes(model, source.model, known)
        _report_start("ImageNet's head for these classes", learner, valid, accelerator)
    for number in range(len(history) + 1, options.epochs + 1):
        views.epoch = order.epoch = number
        bar = tqdm(batches, desc=f"epoch {number}", unit="batch", disable=quiet or None, leave=False)
        mean = _train_epoch(learner, bar, optimizer, schedule, accelerator)
        if not math.isfinite(mean):
            raise FloatingPointError(
                f"the loss became {mean}: lower the learning rate ({options.learning_rate})"
            )
        history.append(Epoch(number, mean, _accuracy(learner, valid, accelerator)))
        if accelerator.is_main_process:
            if history[-1].accuracy > max((epoch.accuracy for epoch in history[:-1]), default=-1.0):
                _write(out / BEST, _best(model, source, history[-1], folder))
            _write(out / LAST, _last(history, identity, model, optimizer, schedule))
            print(
                f"epoch {number:2}: loss {mean:.3f}, validation accuracy {history[-1].accuracy:.4f}",
                flush=True,
            )
    if accelerator.is_main_process:
        _report_end(history, out)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return history


def _known_classes(pairs: Sequence[str], folders: Sequence[str], categories: Sequence[str]) -> list[int]:
    """The class of ImageNet for each folder, or none at all."""
    named = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    if pairs and (set(named) != set(folders) or len(named) < len(pairs)):
        wanted = " ".join(f"{name}=…" for name in folders)
        raise ValueError(f"name ImageNet's class for each folder once ({wanted}), not {' '.join(pairs)}")
    for name in named.values():
        if name not in categories:
            near = ", ".join(difflib.get_close_matches(name, categories)) or "none"
            raise ValueError(f"ImageNet has no class {name!r}; like it: {near}")
    if len(set(named.values())) < len(named):
        raise ValueError(f"no two folders can be the same class of ImageNet: {' '.join(pairs)}")
    return [categories.index(named[folder]) for folder in folders] if pairs else []


def _begin(source: ImageNetClassifier, inputs: Tensor, options: Options, *, alone: bool) -> Transfer:
    """The network with a new head for the classes of ``source``, trained before or not."""
    classes = len(source.categories)
    if options.from_scratch:
        with seeded(options.seed):
            network = imagenet.untrained(source.name)
            model = transfer(network, classes, inputs, freeze_norms=False, seed=options.seed)
    else:
        model = transfer(source.model, classes, inputs, freeze=options.freeze, seed=options.seed)
    # channels last is faster on a processor; between processes such gradients make torch warn
    return model.to(memory_format=torch.channels_last) if alone else model


def _only_from(accelerator: Accelerator) -> contextlib.AbstractContextManager[Any]:
    """Let nobody but the main process print."""
    return contextlib.nullcontext() if accelerator.is_main_process else contextlib.redirect_stdout(None)


def _read_once(data: Path, options: Options, accelerator: Accelerator, *, progress: bool) -> PictureFolder:
    """What the folder holds, read by one process for all; what is wrong with it is raised in each."""
    found: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            found = [read_folder(data, valid_share=options.valid_share, seed=options.seed, progress=progress)]
        except (ValueError, OSError) as error:
            found = [error]
    broadcast_object_list(found)
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _describe(folder: PictureFolder, options: Options, source: ImageNetClassifier) -> None:
    for reason in folder.skipped:
        print(f"skipped {reason}")
    if folder.twins:
        print(f"{folder.twins} pictures are both learned from and validated on, so the accuracy will flatter")
    learns = f"all layers after {options.freeze}" if options.freeze else "all layers"
    begins = "with random weights" if options.from_scratch else "as ImageNet left it"
    print(
        f"{len(folder.train)} pictures to learn from and {len(folder.valid)} to validate on, {len(folder.classes)} "
        f"classes ({', '.join(folder.classes)}); {source.name} at {source.size} pixels begins {begins}, {learns} learn."
    )


def _train_epoch(
    learner: nn.Module, batches: Any, optimizer: Any, schedule: Any, accelerator: Accelerator
) -> float:
    """Learn from every batch once; returns the mean loss over all processes."""
    learner.train()
    losses = []
    for inputs, labels in batches:
        loss = F.cross_entropy(learner(inputs), labels)
        accelerator.backward(loss)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    return accelerator.reduce(torch.stack(losses).mean(), reduction="mean").item()


@torch.no_grad()
def _accuracy(learner: nn.Module, batches: Any, accelerator: Accelerator) -> float:
    """Share of the validation pictures right, over all processes."""
    learner.eval()
    right = [
        accelerator.gather_for_metrics(learner(inputs).argmax(1) == labels) for inputs, labels in batches
    ]
    return torch.cat(right).double().mean().item()


def _report_start(what: str, learner: nn.Module, batches: Any, accelerator: Accelerator) -> None:
    """Say how far one gets without training any layer but the last."""
    accelerator.print(
        f"{what}: validation accuracy {_accuracy(learner, batches, accelerator):.4f}", flush=True
    )


def _report_end(history: Sequence[Epoch], out: Path) -> None:
    best = max(history, key=lambda epoch: epoch.accuracy)
    print(
        f"last epoch {history[-1].accuracy:.4f}, best {best.accuracy:.4f} (epoch {best.epoch}), in {out / BEST}. "
        "The best of several epochs flatters: to report an accuracy, take the last, or pictures not used here."
    )


def _identity(folder: PictureFolder, options: Options) -> dict[str, Any]:
    """What must be the same for a run to go on."""
    return asdict(options) | {"pictures and their labels": folder.fingerprint}


def _last(
    history: Sequence[Epoch], identity: dict[str, Any], model: Transfer, optimizer: Any, schedule: Any
) -> bytes:
    buffer = io.BytesIO()
    state = {
        "identity": identity,
        "history": [asdict(epoch) for epoch in history],
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
    }
    torch.save(state, buffer)
    return buffer.getvalue()


def _resume(
    path: Path, identity: dict[str, Any], model: Transfer, optimizer: Any, schedule: Any
) -> list[Epoch]:
    saved = load_checkpoint(path, identity)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    schedule.load_state_dict(saved["schedule"])
    return [Epoch(**row) for row in saved["history"]]


def _best(model: Transfer, source: ImageNetClassifier, epoch: Epoch, folder: PictureFolder) -> bytes:
    """The network's weights and, as metadata, all that is needed to use them."""
    card = {
        "network": source.name,
        "classes": source.categories,
        "size": source.size,
        "mean": source.mean,
        "std": source.std,
        "interpolation": source.interpolation.value,
        "epoch": epoch.epoch,
        "accuracy": epoch.accuracy,
        "trained on": len(folder.train),
        "validated on": len(folder.valid),
    }
    weights = {name: tensor.contiguous() for name, tensor in model.network.state_dict().items()}
    return safetensors.torch.save(weights, metadata={"card": json.dumps(card)})


def _write(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` in one step; if that fails, the one that was there stays."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(
            f"{path} could not be written ({error.strerror or error}). What the last whole epoch left there is kept: "
            "make room and run the same command again."
        ) from error


def load(run: Path) -> ImageNetClassifier:
    """The best network of a run, in evaluation mode, with its own classes; see ``ImageNetClassifier``.

    Raises:
        ValueError: if there is none in ``run``, or it is damaged.
    """
    path = run / BEST
    if not path.is_file():
        raise ValueError(f"{run} holds no {BEST}: name the folder that training wrote to (its --out)")
    try:
        with safe_open(path, framework="pt") as opened:
            card = json.loads(opened.metadata()["card"])
        weights = safetensors.torch.load_file(path)
        name = card["network"]
        model = transfer(imagenet.untrained(name), len(card["classes"])).network
        model.load_state_dict(weights)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged ({error}): train again") from error
    return ImageNetClassifier(
        name=name,
        model=model.requires_grad_(False).eval(),
        categories=tuple(card["classes"]),
        size=card["size"],
        mean=tuple(card["mean"]),
        std=tuple(card["std"]),
        interpolation=InterpolationMode(card["interpolation"]),
    )


def predict(run: Path, pictures: Sequence[Path]) -> int:
    """Print the most likely class of each picture and its probability; returns how many could not be read.

    Raises:
        ValueError: if ``run`` holds no network.
    """
    network, failed = load(run), 0
    for path in pictures:
        try:
            (name, probability), *_ = network.top(open_picture(path), k=1)
        except (ValueError, OSError) as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
        else:
            print(f"{path}: {name} {probability:.3f}")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; what goes wrong is said in one line on stderr. Returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] == ["predict"]:
            named = _predict_parser().parse_args(given[1:])
            return 1 if predict(named.run, named.pictures) else 0
        chosen = vars(_train_parser().parse_args(given))
        data, out, workers = chosen.pop("data"), chosen.pop("out"), chosen.pop("workers")
        out = out or Path(f"{data.resolve().name}_finetuned")
        chosen["known"] = tuple(chosen["known"])
        train(data, out, Options(**chosen), workers=workers)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on after the last whole epoch", file=sys.stderr)
        return 130
    return 0


def _train_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lessons_lib.finetune",
        description="Fine-tune a network on a folder of class folders (or of train/ and val/ with those inside). "
        'To name new pictures afterwards: "… predict RUN PICTURE …".',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    default = Options()
    parser.add_argument("--data", type=Path, required=True, help="the folder of class folders")
    parser.add_argument("--out", type=Path, help="where the run is kept; by default ./NAME_finetuned")
    parser.add_argument(
        "--network", choices=imagenet.NAMES, default=default.network, help="what to begin from"
    )
    parser.add_argument(
        "--from-scratch", action="store_true", help="begin with random weights, to see what transfer gives"
    )
    parser.add_argument("--freeze", metavar="LAYER", help="keep all layers up to this one as they are")
    parser.add_argument(
        "--known",
        nargs="+",
        default=(),
        metavar="FOLDER=CLASS",
        help="where ImageNet has the classes: begin as its own head for them, not as a probe (ants=ant bees=bee)",
    )
    parser.add_argument("--size", type=int, help="side of the pictures in pixels; by default the network's")
    parser.add_argument("--epochs", type=int, default=default.epochs, help="passes over the pictures")
    parser.add_argument(
        "--batch-size", type=int, default=default.batch_size, help="of all processes together"
    )
    parser.add_argument("--learning-rate", type=float, default=default.learning_rate, help="of the head")
    parser.add_argument(
        "--slowdown", type=float, default=default.slowdown, help="the body learns so much slower"
    )
    parser.add_argument("--weight-decay", type=float, default=default.weight_decay, help="of AdamW")
    parser.add_argument(
        "--valid-share", type=float, default=default.valid_share, help="without a val/ folder"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="of all that is random")
    parser.add_argument("--workers", type=int, default=0, help="processes that read pictures")
    return parser


def _predict_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lessons_lib.finetune predict", description="Name pictures with a trained run."
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of the run (--out)")
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE", help="picture files")
    return parser
