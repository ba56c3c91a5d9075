"""Class activation maps: where in the picture the evidence for a class lies.

A network that ends in average pooling and one linear layer takes a mean over positions and a weighted sum over
channels. The two commute. In the other order they give, before the mean, one map for each class whose mean *is* the
class's logit: B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, §2, figure 2.

:func:`grad_cam` takes the weights from the gradient instead, so that any network and any of its layers will do.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.methods.activations import ForwardHook, capture, get_layer, hooked, recording
from lessons_lib.methods.heads import head_name
from lessons_lib.training import evaluating


def cam_head(channels: int, classes: int) -> nn.Sequential:
    """The head of a CAM network: average pooling, then one linear layer without bias.

    Args:
        channels: of the feature maps it is given, shape (N, channels, h, w).
        classes: of the logits it gives, shape (N, classes).

    Raises:
        ValueError: if either is under 1.
    """
    if channels < 1 or classes < 1:
        raise ValueError(f"a head needs one channel and one class or more, not {channels} and {classes}")
    return nn.Sequential(
        OrderedDict(
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            linear=nn.Linear(channels, classes, bias=False),
        )
    )


@torch.no_grad()
def with_cam_head(body: nn.Module, classes: int, *, size: int = 224) -> nn.Sequential:
    """Put a new :func:`cam_head` on ``body``, which it shares (not copies).

    Args:
        body: gives feature maps (N, C, h, w) of pictures (N, 3, H, W): a network without its pooling and classifier.
        classes: how many to tell apart.
        size: side of the pictures it will be given; a blank one of that size is tried.

    Returns:
        A ``Sequential`` with the children ``body`` and ``head``, on the body's device.

    Raises:
        ValueError: if the body's output is no feature map of two positions or more.
    """
    device = _device(body)
    with evaluating(body):
        features = body(torch.zeros(1, 3, size, size, device=device))
    if not _is_map(features):
        raise ValueError(
            f"this body turns a picture of {size}×{size} into {_shape(features)}, but a CAM needs feature maps "
            "(N, C, h, w) of two positions or more: cut the network before its pooling, or give larger pictures"
        )
    return nn.Sequential(OrderedDict(body=body, head=cam_head(features.shape[1], classes).to(device)))


@dataclass(frozen=True)
class Head:
    """Where a network pools and classifies.

    Attributes:
        features: name of the layer whose maps are averaged over all positions.
        linear: name of the ``nn.Linear`` that is given these averages and gives the logits.
    """

    features: str
    linear: str


@torch.no_grad()
def find_head(model: nn.Module, inputs: Tensor) -> Head:
    """Find the average pooling and the linear layer that a network ends in, by running it on one picture.

    Names and types of layers say little (pooling may be a function), so the numbers decide: the linear layer is
    :func:`~lessons_lib.methods.heads.head_name`'s, and the features are the last maps whose averages are its input.

    Args:
        model: a classifier; it is run in evaluation mode and left as it was.
        inputs: its input, float, shape (N, 3, H, W); the first is used.

    Raises:
        ValueError: if the network does not end that way, or for inputs that are empty or hold NaN.
        TypeError: for inputs that are not floating point.
    """
    _check_inputs(inputs)
    linear = head_name(model, inputs)
    averages: dict[str, Tensor] = {}
    pooled = torch.empty(0)
    runs: dict[str, int] = {}

    def look(name: str) -> ForwardHook:
        def hook(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            nonlocal pooled
            runs[name] = runs.get(name, 0) + 1
            if _is_map(output):
                averages.pop(name, None)
                averages[name] = output.mean(dim=(2, 3))
            elif name == linear:
                pooled = given[0].clone()

        return hook

    with hooked(model, {name: look(name) for name, _ in model.named_modules() if name}):
        model(inputs[:1].to(_device(model)))
    matching = [name for name, average in averages.items() if runs[name] == 1 and _equal(average, pooled)]
    if not matching:
        raise ValueError(
            f"no layer of {type(model).__name__} gives feature maps of two positions or more whose averages are the "
            f"input of {linear!r}, so there is no CAM to read off it: replace the head (with_cam_head), use grad_cam, "
            "or give larger pictures if its last maps are a single position"
        )
    return Head(features=matching[-1], linear=linear)


def evidence(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The linear layer before the pooling: one map a class, whose mean over positions is the class's logit.

    Args:
        features: shape (N, C, h, w).
        weight: of the linear layer, shape (K, C).
        bias: shape (K,), or none; every position bears it in full, so that the mean does too.

    Returns:
        Shape (N, K, h, w), in units of logits: positive speaks for the class, negative against it.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if features.ndim != 4 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            "need features (N, C, h, w) and a weight (K, C) of as many channels, "
            f"not {tuple(features.shape)} and {tuple(weight.shape)}"
        )
    maps = torch.einsum("kc,nchw->nkhw", weight, features)
    return maps if bias is None else maps + bias[:, None, None]


@dataclass(frozen=True)
class Evidence:
    """Where the evidence for every class lies.

    Attributes:
        maps: shape (N, K, h, w), signed, in units of logits.
        logits: shape (N, K), what the network says; each is the mean of its map.
    """

    maps: Tensor
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """The softmax of the logits, shape (N, K), each in 0–1."""
        return self.logits.softmax(1)

    def of(self, classes: Tensor) -> Tensor:
        """The map of one class for each picture.

        Args:
            classes: int64, shape (N,), each in 0 to K − 1.

        Returns:
            Shape (N, h, w).
        """
        _check_classes(classes, self.logits.shape)
        return self.maps[torch.arange(len(classes)), classes]


def class_activation_maps(
    model: nn.Module, inputs: Tensor, head: Head | None = None, *, batch_size: int = 10
) -> Evidence:
    """The class activation maps of every class, in evaluation mode.

    Zhou et al. 2016, §2: ``M_k(x, y) = Σ_c w_kc f_c(x, y)``; here with the bias, so that a map's mean is its logit.

    Args:
        model: a classifier that ends in average pooling and one linear layer; it is left as it was.
        inputs: its input, float, shape (N, 3, H, W).
        head: where it pools and classifies; by default :func:`find_head` looks.
        batch_size: how many pictures to run at once; the result does not depend on it.

    Returns:
        Maps (N, K, h, w) and logits (N, K), on the CPU.

    Raises:
        ValueError: if the network has no such head, or ``head`` is not it; for no inputs or NaN in them.
        TypeError: for inputs that are not floating point.
    """
    _check_inputs(inputs)
    head = head or find_head(model, inputs)
    linear = get_layer(model, head.linear)
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"{head.linear!r} is a {type(linear).__name__}, not an nn.Linear")
    weight = linear.weight.detach().cpu()
    bias = None if linear.bias is None else linear.bias.detach().cpu()
    maps, logits = [], []
    for batch in inputs.split(batch_size):
        layers = capture(model, batch, [head.features, head.linear], batch_size=batch_size)
        maps.append(evidence(layers[head.features], weight, bias))
        logits.append(layers[head.linear])
        if not _equal(maps[-1].mean(dim=(2, 3)), logits[-1]):
            raise ValueError(
                f"the means of these maps are not the logits: {head.linear!r} is not given the averages of "
                f"{head.features!r}; leave head out to have it found"
            )
    return Evidence(torch.cat(maps), torch.cat(logits))


def grad_cam(
    model: nn.Module, inputs: Tensor, layer: str, classes: Tensor, *, batch_size: int = 10
) -> Tensor:
    """Grad-CAM: the feature maps of any layer, weighted by how much each channel moves a class's logit.

    R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV
    2017, §3, equations 1 and 2: ``ReLU(Σ_c α_c A_c)`` with ``α_c`` the mean over positions of the gradient of the
    logit with respect to ``A_c``. On the last maps of a CAM network that gradient is ``w_kc / (h w)`` everywhere, so
    the result is the CAM's positive part divided by the number of positions (§3.1, for a head without bias).

    Args:
        model: any classifier with logits (N, K); it is left as it was, and so are the gradients of its parameters.
        inputs: its input, float, shape (N, 3, H, W).
        layer: a layer that gives feature maps (N, C, h, w) and runs once.
        classes: which logit to explain for each picture, int64, shape (N,).
        batch_size: how many pictures to run at once; the result does not depend on it.

    Returns:
        Shape (N, h, w), none negative, on the CPU.

    Raises:
        ValueError: for an unknown layer, one that gives no feature maps or that the logits do not depend on; for a
            class out of range, no inputs or NaN in them.
        TypeError: for inputs that are not floating point.
    """
    _check_inputs(inputs)
    get_layer(model, layer)
    device, maps = _device(model), []
    if len(classes) != len(inputs):
        raise ValueError(f"{len(inputs)} pictures need {len(inputs)} classes, not {len(classes)}")
    with torch.inference_mode(False), torch.enable_grad(), recording(model, [layer], graph=True) as outputs:
        for batch, wanted in zip(inputs.split(batch_size), classes.split(batch_size), strict=True):
            logits = model(batch.detach().to(device, copy=True))
            _check_classes(wanted, logits.shape)
            features = outputs[layer]
            if features.ndim != 4:
                raise ValueError(f"layer {layer!r} gives {_shape(features)}, not feature maps (N, C, h, w)")
            score = logits.gather(1, wanted.to(device)[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, features, allow_unused=True)
            if gradient is None:
                raise ValueError(f"the logits do not depend on layer {layer!r}: choose another")
            weighted = torch.einsum("nc,nchw->nhw", gradient.mean(dim=(2, 3)), features.detach())
            maps.append(weighted.relu().cpu())
    return torch.cat(maps)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps to the size of the picture they explain, bilinearly.

    A position of a map stands for a square of pixels, and its value for that square's middle.

    Args:
        maps: shape (..., h, w).
        size: height and width in pixels.

    Returns:
        Shape (..., height, width).

    Raises:
        ValueError: for no maps, or a size under 1.
    """
    if maps.ndim < 2 or not maps.numel() or min(size) < 1:
        raise ValueError(f"cannot enlarge maps of shape {tuple(maps.shape)} to {size}")
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).view(*maps.shape[:-2], *size)


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _is_map(output: Any) -> bool:
    return isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1


def _shape(output: Any) -> str:
    return f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two ways to compute the same numbers agree, to the precision of their type."""
    if a.shape != b.shape:
        return False
    tolerance = 1e-4 if a.dtype in {torch.float32, torch.float64} else 1e-2
    return bool((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-6))


def _check_inputs(inputs: Tensor) -> None:
    if not inputs.is_floating_point():
        raise TypeError(f"inputs must be floating point, not {inputs.dtype}: use to_input for uint8 pictures")
    if not inputs.numel() or torch.isnan(inputs).any():
        raise ValueError("the inputs are empty or hold NaN")


def _check_classes(classes: Tensor, logits: torch.Size) -> None:
    pictures, count = logits
    if classes.dtype != torch.int64 or classes.shape != (pictures,):
        raise ValueError(
            f"need one class for each of {pictures} pictures, int64, not {classes.dtype} {tuple(classes.shape)}"
        )
    if not 0 <= int(classes.min()) <= int(classes.max()) < count:
        raise ValueError(f"classes must lie in 0–{count - 1}, not {classes.tolist()}")
