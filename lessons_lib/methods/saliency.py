"""Gradient and guided backpropagation: which pixels would change an activation, by automatic differentiation.

They differ from the deconvnet (:mod:`lessons_lib.methods.deconvnet`) in what a ReLU does on the way down. The
gradient passes where the *feature* was positive, the deconvnet where the *reconstruction* is, guided backpropagation
where both are (Springenberg et al., "Striving for Simplicity", 2015, figure 1).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.methods.activations import ForwardHook, get_layer, hooked

_RELUS = ("ReluBackward0", "ThresholdBackward0")  # how autograd calls a ReLU, wherever it is computed


def gradient(model: nn.Module, inputs: Tensor, layer: str, start: Tensor) -> Tensor:
    """The derivative of chosen activations with respect to the pixels.

    K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification
    Models and Saliency Maps", 2014, §3. They show the greatest absolute value over the colours.

    Args:
        model: any differentiable network; it is left as it was, and so are the gradients of its parameters.
        inputs: its input, float, shape (N, ...).
        layer: the layer the activations are in.
        start: their weights, shape of the layer's output: 1 for the activation to be explained and 0 elsewhere, or
            what :func:`lessons_lib.methods.deconvnet.keep` gives.

    Returns:
        Shape of ``inputs``, signed, on the model's device: the gradient of ``(start * activations).sum()``.

    Raises:
        ValueError: for an unknown layer, one that runs twice or not at all, no inputs, NaN, or a ``start`` of another
            shape.
        TypeError: for inputs that are not floating point.
    """
    return _backward(model, inputs, layer, start, relus=())


def guided_backpropagation(model: nn.Module, inputs: Tensor, layer: str, start: Tensor) -> Tensor:
    """The gradient, but negative values are set to 0 at each ReLU on the way down.

    J. Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR workshop 2015, §3.4.

    Args:
        model: a network whose ReLUs are modules (``nn.ReLU``); it is left as it was.
        inputs: its input, float, shape (N, ...).
        layer: the layer the activations are in.
        start: their weights, as in :func:`gradient`.

    Returns:
        Shape of ``inputs``, signed, on the model's device.

    Raises:
        ValueError: as :func:`gradient`, and for a network with no ``nn.ReLU``, or with a ReLU outside a module
            (``F.relu``) on the way.
        TypeError: for inputs that are not floating point.
    """
    relus = [name for name, module in model.named_modules() if name and isinstance(module, nn.ReLU)]
    if not relus:
        raise ValueError(f"{type(model).__name__} has no nn.ReLU, which guided backpropagation is about")
    return _backward(model, inputs, layer, start, relus)


def _backward(model: nn.Module, inputs: Tensor, layer: str, start: Tensor, relus: Collection[str]) -> Tensor:
    """The gradient, with what comes back to the outputs of ``relus`` rectified."""
    get_layer(model, layer)
    if not inputs.is_floating_point():
        raise TypeError(f"inputs must be floating point, not {inputs.dtype}: use to_input for uint8 pictures")
    if not inputs.numel() or torch.isnan(inputs).any():
        raise ValueError("the inputs are empty or hold NaN")
    activations: list[Tensor] = []
    rectified = set()

    def hook(name: str) -> ForwardHook:
        def run(module: nn.Module, given: tuple[Any, ...], output: Any) -> Tensor | None:
            if name in relus and output.requires_grad:
                rectified.add(output.grad_fn)
                output.register_hook(lambda received: received.clamp(min=0))
            if name != layer:
                return None
            if not isinstance(output, Tensor):
                raise TypeError(f"layer {name!r} gives a {type(output).__name__}, not a tensor")
            activations.append(output)
            return output.clone()  # a later layer may work in place

        return run

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    with torch.inference_mode(False), torch.enable_grad():
        leaf = inputs.detach().to(device, copy=True).requires_grad_()
        with hooked(model, {name: hook(name) for name in {layer, *relus}}):
            model(leaf.clone())
        if len(activations) != 1:
            raise ValueError(f"layer {layer!r} ran {len(activations)} times in this forward pass, not once")
        (output,) = activations
        if start.shape != output.shape or torch.isnan(start).any():
            raise ValueError(
                f"start must have the shape of the output of {layer!r}, {tuple(output.shape)}, and hold no NaN; "
                f"its shape is {tuple(start.shape)}"
            )
        if relus and any(node.name() in _RELUS and node not in rectified for node in _graph(output)):
            raise ValueError(
                f"on the way to {layer!r} the network has a ReLU that is not a module nn.ReLU (F.relu, for example), "
                "which guided backpropagation cannot see: make it a module"
            )
        return torch.autograd.grad(output, leaf, start.to(output))[0]


def _graph(output: Tensor) -> Iterator[Any]:
    """All nodes of the computation that ``output`` came from."""
    waiting, known = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in known:
            known.add(node)
            yield node
            waiting += [parent for parent, _ in node.next_functions]
