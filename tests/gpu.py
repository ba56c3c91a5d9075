"""``python -m tests.gpu``: every method of the course that is given a network, on an accelerator against the CPU.

The shortest way through each, on a small network with random weights. What a method may differ by follows from how
float32 sums: a sum of n products is what an exact one would be of numbers that are each wrong by at most λ √n u,
whatever the order it is summed in (N. Higham and T. Mary, "A New Approach to Probabilistic Rounding Error Analysis",
SIAM Journal on Scientific Computing 2019; u is half a unit in the last place). So on the CPU each method is also run
with all weights and pixels wrong by that, and the device may differ by as much as those runs do. TensorFloat-32, with
its 11 bits, differs by more.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import pkgutil
import sys
import time
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib import methods, networks
from lessons_lib.course import seed_everything
from lessons_lib.data import critters
from lessons_lib.data.pictures import Pictures, to_input
from lessons_lib.methods import (
    cam,
    class_visualization,
    correspondence,
    deconvnet,
    evaluation,
    filters,
    occlusion,
    patches,
    receptive_field,
    saliency,
    transfer,
)
from lessons_lib.models.chain_cnn import ChainCNN

SIDE = 32
LAYERS = ["relu2", "relu4"]
RUNS = 6  # with wrong numbers: the largest difference among them is hardly ever far under what is possible
CONFIDENCE = 4  # λ

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Given:
    """What a method is given: a network on a device, and pictures on the CPU, as a notebook has them.

    Attributes:
        model: a ``ChainCNN``.
        images: uint8, shape (6, 3, SIDE, SIDE).
        inputs: the same as the model's input.
        classes: one for each, int64, shape (6,).
    """

    model: ChainCNN
    images: Tensor
    inputs: Tensor
    classes: Tensor

    def logits(self, model: nn.Module) -> Tensor:
        """What ``model``, on the same device, says of the pictures."""
        with torch.no_grad():
            return model(self.on_device)

    @property
    def on_device(self) -> Tensor:
        """The inputs where the network is."""
        return self.inputs.to(self.model.linear.weight.device)

    @property
    def start(self) -> Tensor:
        """1 for each picture's class, 0 for all others."""
        return torch.eye(10)[self.classes]

    @property
    def tuned(self) -> transfer.Transfer:
        """The network with a new head for two classes."""
        return transfer.transfer(self.model, 2, self.inputs, freeze="relu2")


def given(device: torch.device, wrong: int | None = None) -> Given:
    """The same for every device; ``wrong`` numbers the runs whose weights and pixels are each slightly wrong."""
    generator = torch.Generator().manual_seed(4)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = ChainCNN()
    images = torch.randint(256, (6, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    inputs = to_input(images)
    if wrong is not None:
        generator.manual_seed(wrong)
        terms = max(p[0].numel() for p in model.parameters() if p.ndim > 1)
        size = CONFIDENCE * math.sqrt(terms) * torch.finfo(torch.float32).eps / 2
        for tensor in (inputs, *(parameter.data for parameter in model.parameters())):
            tensor.mul_(1 + size * (2 * torch.randint(2, tensor.shape, generator=generator) - 1))
    return Given(model.to(device).eval(), images, inputs, torch.tensor([3, 1, 4, 1, 5, 9]))


def _hooked(method: Callable[..., Any], g: Given) -> Tensor:
    with method(g.model, {"relu2": lambda module, inputs, output: 2 * output}) as model:
        return g.logits(model)


def _evaluating(method: Callable[..., Any], g: Given) -> Tensor:
    with method(g.model) as model:
        return g.logits(model)


def _differentiating(method: Callable[..., Any], g: Given) -> Tensor:
    pixels = g.on_device.clone().requires_grad_()
    with torch.no_grad(), method(g.model):
        (gradient,) = torch.autograd.grad(g.model(pixels).sum(), pixels)
    return gradient


def _recording(method: Callable[..., Any], g: Given) -> dict[str, Tensor]:
    with method(g.model, LAYERS) as outputs:
        g.logits(g.model)
    return outputs


def _randomised(method: Callable[..., Any], g: Given) -> Tensor:
    with method(g.model, ["conv4", "linear"]) as model:
        return g.logits(model)


def _occluder(method: Callable[..., Any], g: Given) -> tuple[Tensor, Tensor | None]:
    boxes = torch.tensor([[0, 0, 8, 8], [8, 4, 16, 12]])
    return method(g.model, g.inputs[0], layer="relu3")(boxes, torch.zeros_like(g.inputs[0]))


def _start_head(method: Callable[..., Any], g: Given) -> Tensor:
    tuned = g.tuned.eval()
    method(tuned, [(g.inputs, g.classes % 2)])
    return g.logits(tuned)


def _keep_head(method: Callable[..., Any], g: Given) -> Tensor:
    tuned = g.tuned.eval()
    method(tuned, g.model, [4, 2])
    return g.logits(tuned)


def _twins() -> critters.Twins:
    return critters.twins(4, 32, seed=1, parts=("left_eye", "nose", "background"))


def _explains(method: Callable[..., Any], g: Given) -> Tensor:
    return method(g.model, g.inputs[:2], g.classes[:2])


MAPS = torch.rand(6, SIDE, SIDE, generator=torch.Generator().manual_seed(8))

CHECKS: dict[Callable[..., Any], Callable[[Callable[..., Any], Given], Any]] = {
    networks.layer_names: lambda method, g: method(g.model),
    networks.get_layer: lambda method, g: method(g.model, "conv2").weight,
    networks.differentiating: _differentiating,
    networks.hooked: _hooked,
    networks.recording: _recording,
    networks.capture: lambda method, g: method(g.model, g.inputs, LAYERS),
    networks.head_name: lambda method, g: method(g.model),
    networks.noise: lambda method, g: method(g.model),
    networks.first_parameter: lambda method, g: method(g.model),
    networks.device_of: lambda method, g: method(g.model) == g.on_device.device,
    networks.network_input: lambda method, g: g.model(method(g.model, g.inputs)),
    networks.evaluating: _evaluating,
    networks.run: lambda method, g: method(g.model, g.on_device),
    networks.memory_format: lambda method, g: str(method(g.model, g.on_device)),
    networks.uncompiled: lambda method, g: g.logits(method(g.model)),
    networks.predict: lambda method, g: method(g.model, g.images),
    networks.features: lambda method, g: method(g.model, g.images, LAYERS, pool=2),
    networks.accuracy: lambda method, g: method(
        g.model, Pictures(g.images, g.classes, tuple("0123456789"), "random numbers")
    ),
    cam.find_head: lambda method, g: method(g.model, g.inputs),
    cam.class_activation_maps: lambda method, g: method(g.model, g.inputs),
    cam.grad_cam: lambda method, g: method(g.model, g.inputs, "relu4", g.classes),
    class_visualization.maximise_activation: lambda method, g: method(
        g.model, g.inputs, 3, steps=2, progress=False
    ),
    correspondence.feature_changes: lambda method, g: method(
        g.model, g.images, {"turned": g.images.flip(3)}, LAYERS
    ),
    deconvnet.trace: lambda method, g: [step.output for step in method(g.model, g.inputs, "relu3").steps],
    deconvnet.max_pool: lambda method, g: method(g.model.conv1(g.on_device), g.model.pool1),
    deconvnet.transposed_filter: lambda method, g: method(
        g.model.conv1(g.on_device), g.model.conv1, (SIDE, SIDE)
    ),
    deconvnet.deconvnet: lambda method, g: method(g.model, g.inputs, "conv3", 5).pixels,
    evaluation.gradient_map: _explains,
    evaluation.guided_backpropagation_map: _explains,
    evaluation.deconvnet_map: _explains,
    evaluation.cam_map: _explains,
    evaluation.constant: _explains,
    evaluation.centre_gaussian: _explains,
    evaluation.edges: _explains,
    evaluation.explain: lambda method, g: method(
        evaluation.occlusion_map(8, 8), g.model, g.inputs[:2], g.classes[:2]
    ),
    evaluation.deletion: lambda method, g: method(g.model, g.inputs, MAPS, g.classes, steps=4),
    evaluation.insertion: lambda method, g: method(g.model, g.inputs, MAPS, g.classes, steps=4),
    evaluation.randomised: _randomised,
    evaluation.layers_with_weights: lambda method, g: method(g.model),
    evaluation.part_effects: lambda method, g: method(g.model, _twins()),
    evaluation.score: lambda method, g: (
        method(evaluation.gradient_map, g.model, _twins(), steps=2, grid_count=0).values
    ),
    filters.weight_layers: lambda method, g: method(g.model),
    filters.weights: lambda method, g: method(g.model, "conv1"),
    occlusion.occlude: lambda method, g: method(
        g.model, g.inputs[0], 3, patch=8, stride=8, layer="relu3", progress=False
    ),
    occlusion.Occluder: _occluder,
    patches.top_activations: lambda method, g: method(g.model, g.images, "relu3", 2),
    receptive_field.receptive_fields: lambda method, g: method(g.model, SIDE, LAYERS),
    receptive_field.effective_receptive_field: lambda method, g: method(g.model, g.inputs, "relu3", 1, 2),
    saliency.gradient: lambda method, g: method(g.model, g.inputs, "linear", g.start),
    saliency.guided_backpropagation: lambda method, g: method(g.model, g.inputs, "linear", g.start),
    transfer.Transfer: lambda method, g: g.logits(method(g.model, "linear", ["conv1"]).eval()),
    transfer.transfer: lambda method, g: g.logits(method(g.model, 2, g.inputs, freeze="relu2").eval()),
    transfer.layers_up_to: lambda method, g: method(g.model, "relu2", g.inputs),
    transfer.slower_body: lambda method, g: method(g.tuned, 0.01),
    transfer.head_from_probe: _start_head,
    transfer.head_from_classes: _keep_head,
}
"""Each method, and how it is called; the method is handed over, so that a test can see that it is."""


def given_a_network() -> Iterator[Callable[..., Any]]:
    """Every public function and class of the networks and the methods that takes a network or a layer."""
    found = pkgutil.iter_modules(methods.__path__, f"{methods.__name__}.")
    for module in (networks, *(importlib.import_module(part.name) for part in found)):
        # of a package public is what it says, of a module what is its own
        names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
        for thing in (getattr(module, name) for name in names):
            # a dataclass is what a method gives
            if dataclasses.is_dataclass(thing) or not (inspect.isfunction(thing) or inspect.isclass(thing)):
                continue
            asks = typing.get_type_hints(thing.__init__ if inspect.isclass(thing) else thing)
            asks.pop("return", None)
            if thing.__module__.startswith(module.__name__) and any(
                inspect.isclass(hint) and issubclass(hint, nn.Module) for hint in asks.values()
            ):
                yield thing


def results(method: Callable[..., Any], g: Given) -> list[Tensor]:
    """All that the method gives, as tensors on the CPU."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return list(_figures(CHECKS[method](method, g)))


def _figures(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result.detach().cpu()
    elif isinstance(result, bool | int | float):
        yield torch.tensor(result)
    elif isinstance(result, str):
        yield torch.tensor(list(result.encode()))
    elif isinstance(result, occlusion.OcclusionMap):  # all but how long it took and how it went about it
        yield from _figures([result.probabilities, result.predicted, result.activations, result.computed])
    elif dataclasses.is_dataclass(result):
        yield from _figures([getattr(result, part.name) for part in dataclasses.fields(result)])
    elif isinstance(result, Mapping):
        yield from _figures([*result, *result.values()])
    elif isinstance(result, Sequence):
        for part in result:
            yield from _figures(part)
    else:
        raise TypeError(f"cannot compare a {type(result).__name__}")


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest, of the largest number expected; whole numbers are the same (0) or not (infinity)."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return math.inf
    if not expected.is_floating_point():
        return 0.0 if torch.equal(found, expected) else math.inf
    nan = expected.isnan()
    if not torch.equal(nan, found.isnan()):
        return math.inf
    apart = (found - expected).masked_fill(nan, 0).abs().max().item() if expected.numel() else 0.0
    return apart and apart / expected.nan_to_num().abs().max().clamp(min=1e-30).item()


@dataclass(frozen=True)
class Reference:
    """What the CPU gives, and how far each tensor of it may be from that; 0 for whole numbers."""

    expected: list[Tensor]
    bounds: list[float]


@functools.cache
def reference(method: Callable[..., Any]) -> Reference:
    """From one run as it is and ``RUNS`` with wrong numbers.

    Raises:
        ValueError: if they differ in a whole number: then rounding decides it, and it says nothing about a device.
    """
    expected = results(method, given(CPU))
    bounds = [0.0] * len(expected)
    for run in range(RUNS):
        apart = [
            difference(mine, its)
            for mine, its in zip(results(method, given(CPU, run)), expected, strict=True)
        ]
        bounds = list(map(max, bounds, apart))
    if math.inf in bounds:
        raise ValueError(f"rounding decides what {method.__qualname__} gives here: choose another seed")
    return Reference(expected, bounds)


@dataclass(frozen=True)
class Row:
    """A method's largest difference from the CPU, among the tensors it gives that which is nearest its bound."""

    method: str
    difference: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether it is within the bound."""
        return self.difference <= self.bound


def against_cpu(method: Callable[..., Any], found: Sequence[Tensor]) -> Row:
    """How far what a device gave is from what the CPU gives."""
    ours = reference(method)
    name = f"{method.__module__.removeprefix('lessons_lib.').removeprefix('methods.')}.{method.__qualname__}"
    if len(found) != len(ours.expected):
        return Row(name, math.inf, 0.0)
    rows = [
        Row(name, difference(mine, its), bound)
        for mine, its, bound in zip(found, ours.expected, ours.bounds, strict=True)
    ]
    return max(
        rows, key=lambda row: (not row.passed, row.difference / row.bound if row.bound else 0.0, row.bound)
    )


def main(device: torch.device | None) -> int:
    """Print the table for ``device``; 1 if a method fails there or differs by more than it may."""
    if device is None:
        print("There is no accelerator here, so there is nothing to compare with the CPU.")
        return 0
    seed_everything(0)
    print(f"{'method':<50}{'device':<8}{'difference':>12}{'bound':>12}{'seconds':>9}")
    failed = 0
    for method in CHECKS:
        began = time.perf_counter()
        try:
            found = results(method, given(device))
        except Exception as error:  # the table goes on
            failed += 1
            print(f"{method.__module__}.{method.__qualname__}: {type(error).__name__}: {error}")
            continue
        seconds = time.perf_counter() - began
        row = against_cpu(method, found)
        failed += not row.passed
        print(
            f"{row.method:<50}{device.type:<8}{row.difference:>12.1e}{row.bound:>12.1e}{seconds:>9.2f}"
            f"{'' if row.passed else '  TOO MUCH'}"
        )
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} methods agree with the CPU.")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(torch.accelerator.current_accelerator(check_available=True)))
