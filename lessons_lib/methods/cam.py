"""Class activation maps: where in the picture the evidence for a class lies.

A network that ends in average pooling and one linear layer takes a mean over positions and a weighted sum over
channels. The two commute. In the other order they give, before the mean, one map for each class whose mean *is* the
class's logit: B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, §2, figure 2.

``grad_cam`` takes the weights from the gradient instead, so that any network and any of its layers will do.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lessons_lib.checks import check_tensor
from lessons_lib.networks import (
    Classes,
    at_least_float32,
    capture,
    class_numbers,
    connected,
    differentiating,
    feature_maps,
    get_layer,
    head_name,
    hooked,
    layer_names,
    logits_of,
    network_input,
    recording,
    uncompiled,
)


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
    ``head_name``'s, and the features are the last maps whose averages are its input.

    Args:
        model: a classifier; it is run in evaluation mode and left as it was.
        inputs: its input, float, shape (N, 3, H, W); the first is used.

    Raises:
        ValueError: if the network does not end that way, or for inputs that are empty or hold NaN.
        TypeError: for inputs that are not floating point or not of the network's precision, or a network whose output
            is not a tensor of logits.
    """
    model = uncompiled(model)
    picture = network_input(model, inputs[:1])
    linear = head_name(model, picture)
    averages: dict[str, Tensor] = {}
    pooled = torch.empty(0)
    runs: Counter[str] = Counter()

    def look(name: str, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        nonlocal pooled
        runs[name] += 1
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            averages.pop(name, None)
            averages[name] = output.mean(dim=(2, 3))
        elif name == linear:
            pooled = given[0].clone()

    with hooked(model, {name: partial(look, name) for name in layer_names(model)}):
        model(picture)
    matching = [name for name, average in averages.items() if runs[name] == 1 and _equal(average, pooled)]
    if not matching:
        raise ValueError(
            f"no layer of {type(model).__name__} gives feature maps of two positions or more whose averages are the "
            f"input of {linear!r}, so there is no CAM to read off it: replace the head by average pooling "
            "and one linear layer, use grad_cam, or give larger pictures if its last maps are a single position"
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

    >>> features, weight = torch.tensor([[[[1.0, 3.0]], [[2.0, 0.0]]]]), torch.tensor([[1.0, -1.0]])
    >>> evidence(features, weight)
    tensor([[[[-1.,  3.]]]])
    """
    check_tensor("features for this weight", features, f"N {weight.shape[1]} h w")
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

    def of(self, classes: Classes) -> Tensor:
        """The map of one class for each picture.

        Args:
            classes: one class for all pictures, or shape (N,), each in 0 to K − 1.

        Returns:
            Shape (N, h, w).

        Raises:
            ValueError: for another number of classes, or one out of range.
            TypeError: for what is not a whole number.
        """
        pictures, known = self.logits.shape
        numbers = class_numbers(classes, classes=known, count=pictures)
        return self.maps[torch.arange(pictures), numbers.to(self.maps.device)]


def class_activation_maps(
    model: nn.Module, inputs: Tensor, head: Head | None = None, *, batch_size: int = 10
) -> Evidence:
    """The class activation maps of every class, in evaluation mode.

    Zhou et al. 2016, §2: ``M_k(x, y) = Σ_c w_kc f_c(x, y)``; here with the bias, so that a map's mean is its logit.

    Args:
        model: a classifier that ends in average pooling and one linear layer; it is left as it was.
        inputs: its input, float, shape (N, 3, H, W).
        head: where it pools and classifies; by default ``find_head`` looks.
        batch_size: how many pictures to run at once; the result does not depend on it.

    Returns:
        Maps (N, K, h, w), in float32 at least, and logits (N, K), on the CPU.

    Raises:
        ValueError: if the network has no such head, or ``head`` is not it; for no inputs or NaN in them.
        TypeError: as ``find_head``.
    """
    head = head or find_head(model, inputs)
    linear = get_layer(model, head.linear)
    if not isinstance(linear, nn.Linear):
        raise ValueError(f"{head.linear!r} is a {type(linear).__name__}, not an nn.Linear")
    weight = at_least_float32(linear.weight.detach().cpu())
    bias = None if linear.bias is None else at_least_float32(linear.bias.detach().cpu())
    maps, logits = [], []
    for batch in inputs.split(batch_size):
        layers = capture(model, batch, [head.features, head.linear], batch_size=batch_size)
        with torch.autocast("cpu", enabled=False):  # the caller's would round the result
            maps.append(evidence(layers[head.features].to(weight), weight, bias))
        logits.append(layers[head.linear])
        if not _equal(maps[-1].mean(dim=(2, 3)), logits[-1]):
            raise ValueError(
                f"the means of these maps are not the logits: {head.linear!r} is not given the averages of "
                f"{head.features!r}; leave head out to have it found"
            )
    return Evidence(torch.cat(maps), torch.cat(logits))


def grad_cam(
    model: nn.Module, inputs: Tensor, layer: str, classes: Classes, *, batch_size: int = 10
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
        classes: which logit to explain, one for all pictures or shape (N,).
        batch_size: how many pictures to run at once; the result does not depend on it.

    Returns:
        Shape (N, h, w), none negative, in float32 at least, on the CPU.

    Raises:
        ValueError: for an unknown layer, one that gives no feature maps with channels first
            (``lessons_lib.networks.feature_maps``) or that the logits do not depend on; for a class out
            of range, no inputs or NaN in them.
        TypeError: for inputs that are not floating point or not of the network's precision, a network whose output is
            not a tensor of logits, or classes that are not whole numbers.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 2))
    >>> grad_cam(net, torch.rand(5, 3, 32, 32), "1", 0).shape
    torch.Size([5, 30, 30])
    """
    get_layer(model, layer)
    wanted = class_numbers(classes, count=len(inputs))
    maps = []
    with differentiating(model), recording(model, [layer], graph=True) as outputs:
        for batch, own in zip(inputs.split(batch_size), wanted.split(batch_size), strict=True):
            logits = logits_of(model(network_input(model, batch)))
            numbers = class_numbers(own, classes=logits.shape[1]).to(logits.device, copy=True)
            features = feature_maps(outputs[layer], layer, batch)
            score = logits.gather(1, numbers[:, None]).sum()
            (gradient,) = torch.autograd.grad(score, features, allow_unused=True)
            gradient = connected(gradient, "the logits", f"layer {layer!r}")
            gradient, features = (at_least_float32(part.detach().cpu()) for part in (gradient, features))
            with torch.autocast("cpu", enabled=False):  # the caller's would round the result
                weighted = torch.einsum("nc,nchw->nhw", gradient.mean(dim=(2, 3)), features)
            maps.append(weighted.relu())
    return torch.cat(maps)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Enlarge maps to the size of the picture they explain, bilinearly.

    A position of a map stands for a square of pixels, and its value for that square's middle.

    Args:
        maps: shape (..., h, w).
        size: height and width in pixels.

    Returns:
        Shape (..., height, width).
    """
    flat = maps.reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, size=size, mode="bilinear", align_corners=False).view(*maps.shape[:-2], *size)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether two ways to compute the same numbers agree, to the precision of the second's type."""
    if a.shape != b.shape:
        return False
    tolerance = 1e-4 if b.dtype in {torch.float32, torch.float64} else 1e-2
    return bool((a - b).abs().max() <= tolerance * b.abs().max().clamp(min=1e-6))
