"""The way up: run a chain of layers, record the switches, and refuse what is no chain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from lessons_lib.checks import check_tensor
from lessons_lib.methods.deconvnet.steps import Step, Switches, check_invertible, max_pool
from lessons_lib.networks import (
    ForwardHook,
    check_ran_once,
    evaluating,
    get_layer,
    hooked,
    network_input,
    uncompiled,
)


@dataclass(frozen=True)
class Trace:
    """The way of some pictures up through a chain of layers.

    Attributes:
        inputs: the network's input, shape (N, ...).
        steps: the layers in the order in which they ran, the one asked for last.
    """

    inputs: Tensor
    steps: tuple[Step, ...]

    @property
    def activations(self) -> Tensor:
        """The output of the layer asked for, shape (N, C, H, W), or (N, C) for a fully connected one."""
        return self.steps[-1].output

    @property
    def switches(self) -> dict[str, Switches]:
        """The switches of each max pooling by name."""
        return {step.name: step.switches for step in self.steps if step.switches is not None}


@torch.inference_mode(False)
@torch.no_grad()
def trace(model: nn.Module, inputs: Tensor, layer: str) -> Trace:
    """Run ``inputs`` up to ``layer``, layer by layer, and record the switches.

    The layers are found by running the network in evaluation mode and watching all of its modules that have no
    parts. Each must get exactly what the one before it gave. Then they are run again one after the other, which must
    give the same activations: so what the way down is built on is the network, or an error.

    Args:
        model: a feed-forward network of convolutions, ReLUs, poolings, batch or contrast normalisations and fully
            connected layers, each a module of its own; it is left as it was.
        inputs: the model's input, float, shape (N, C, H, W).
        layer: where to stop.

    Raises:
        ValueError: for no inputs, NaN in them, an unknown layer, or a network that is not a chain of layers which a
            deconvnet can invert; the message names the layer and the reason.
        TypeError: for inputs that are not floating point.
    """
    get_layer(model, layer)
    check_tensor("inputs", inputs, "N C H W")
    inputs = network_input(model, inputs)
    model = uncompiled(model)
    watch = _Watch(inputs, layer)
    leaves = [name for name, module in model.named_modules() if name and not any(module.children())]
    parts: dict[str, ForwardHook] = {name: partial(watch.module, name) for name in leaves}
    with hooked(model, parts | ({} if layer in parts else {layer: watch.container})):
        model(watch.last)
    watch.finish()
    with evaluating(model):
        return Trace(inputs, tuple(_again(watch.steps, inputs)))


class _Watch:
    """Follows the data through the modules of one forward pass, and objects where it leaves the chain.

    That a module gets what the one before gave is decided by the memory it lies in and by the version that torch
    counts there, not by value: a ReLU outside a module changes nothing where all values happen to be positive.
    """

    def __init__(self, inputs: Tensor, target: str) -> None:
        self.target = target
        self.steps: list[Step] = []
        self.runs: Counter[str] = Counter()
        self.reached = False
        self.pass_on(inputs)

    def pass_on(self, output: Tensor) -> Tensor:
        """A copy to give to the next module: if that works in place, what was recorded stays.

        Its values lie in order, so that flattening it outside a module is a view and not a computation.
        """
        self.last = output.clone(memory_format=torch.contiguous_format)
        self.version = self.last._version
        return self.last

    def module(
        self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> Tensor | None:
        """The hook of a module without parts."""
        self.runs[name] += 1
        if self.reached:
            return None
        before = f"{self.steps[-1].name!r} and {name!r}" if self.steps else f"the input and {name!r}"
        if not inputs or not self._came_from_last(inputs[0], int(getattr(module, "inplace", False))):
            raise ValueError(
                f"between {before} the network computes something that is not a module: a skip connection, a "
                "branch, or a function such as F.relu. A deconvnet cannot see it, and needs a chain of modules"
            )
        check_invertible(name, module)
        if not isinstance(output, Tensor):
            raise TypeError(f"layer {name!r} gives a {type(output).__name__}, not a tensor")
        self.steps.append(Step(name, module, inputs[0].shape, output))
        self.reached = name == self.target
        return self.pass_on(output)

    def container(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """The hook of the layer asked for, if that has parts: it must give what its last part gave."""
        self.runs[self.target] += 1
        if not self.steps or not self._came_from_last(output, 0):
            raise ValueError(
                f"{self.target!r} does not end with a module: choose a layer inside it, of those that have no parts"
            )
        self.reached = True

    def finish(self) -> None:
        """Check that each layer of the chain ran once."""
        for name in (self.target, *(step.name for step in self.steps)):
            check_ran_once(name, self.runs[name])

    def _came_from_last(self, tensor: Tensor, own_changes: int) -> bool:
        return (
            isinstance(tensor, Tensor)
            and tensor.untyped_storage().data_ptr() == self.last.untyped_storage().data_ptr()
            and tensor.numel() == self.last.numel()
            and tensor._version - self.version <= own_changes
        )


def _again(steps: list[Step], inputs: Tensor) -> list[Step]:
    """Run the steps one after the other, with switches; ValueError if that is not what the network did."""
    maps, done = inputs, []
    for step in steps:
        maps, switches = maps.reshape(step.shape), None
        if isinstance(step.module, nn.MaxPool2d):
            maps, switches = max_pool(maps, step.module)
        else:
            maps = step.module(maps.clone())  # which may work in place
        # of the layer's precision: 1e-4 in float32
        tolerance = 800 * torch.finfo(maps.dtype).eps
        off = tolerance * step.output.abs().max().item() / 10
        if maps.shape != step.output.shape or not torch.allclose(maps, step.output, tolerance, off):
            raise ValueError(
                f"run by itself, layer {step.name!r} gives something else than in the network: "
                "part of what the network computes before it is not a module, so a deconvnet cannot invert it"
            )
        done.append(replace(step, output=maps, switches=switches))
    return done
