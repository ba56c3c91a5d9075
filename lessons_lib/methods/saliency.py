"""Gradient and guided backpropagation: which pixels would change an activation, by automatic differentiation.

They differ from the deconvnet (``lessons_lib.methods.deconvnet``) in what a ReLU does on the way down. The
gradient passes where the *feature* was positive, the deconvnet where the *reconstruction* is, guided backpropagation
where both are (Springenberg et al., "Striving for Simplicity", 2015, figure 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lessons_lib.checks import check_tensor
from lessons_lib.networks import connected, differentiating, network_input, recording

# How autograd calls a ReLU, and a ReLU6 (a "hard tanh" from 0 on), wherever it is computed
_RELUS = ("ReluBackward", "HardtanhBackward")
# What else passes or dampens a gradient by the sign or size of its input: no ReLU, or one that cannot be told from
# others. What works in place on part of a tensor hides behind CopySlices.
_OTHERS = {
    *("Abs", "Celu", "Clamp", "ClampMax", "ClampMin", "CopySlices", "Elu", "Fmax", "Fmin", "Gelu", "Glu"),
    *("Hardshrink", "Hardswish", "Hardtanh", "LeakyRelu", "LogSigmoid", "MaskedFill", "Maximum", "Minimum"),
    *("Mish", "PreluKernel", "RreluWithNoise", "Silu", "Softplus", "Softshrink", "Threshold", "Where"),
}


def gradient(model: nn.Module, inputs: Tensor, layer: str, start: Tensor) -> Tensor:
    """The derivative of chosen activations with respect to the pixels.

    K. Simonyan, A. Vedaldi and A. Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification
    Models and Saliency Maps", 2014, §3. They show the greatest absolute value over the colours.

    Args:
        model: any differentiable network; it is left as it was, and so are the gradients of its parameters.
        inputs: its input, float, shape (N, ...).
        layer: the layer the activations are in.
        start: their weights, shape of the layer's output: 1 for the activation to be explained and 0 elsewhere, or
            what ``lessons_lib.methods.deconvnet.keep`` gives.

    Returns:
        Shape of ``inputs``, signed, on the model's device: the gradient of ``(start * activations).sum()``.

    Raises:
        ValueError: for an unknown layer, one that runs twice or not at all or does not depend on the inputs, no
            inputs, NaN, or a ``start`` of another shape.
        TypeError: for inputs that are not floating point or not of the network's precision, or a layer without a
            gradient.
    """
    return _backward(model, inputs, layer, start, guided=False)


def guided_backpropagation(model: nn.Module, inputs: Tensor, layer: str, start: Tensor) -> Tensor:
    """The gradient, but negative values are set to 0 at each ReLU on the way down.

    J. Springenberg et al., "Striving for Simplicity: The All Convolutional Net", ICLR workshop 2015, §3.4.

    ReLUs and ReLU6s are found in what was computed, so it makes no difference whether they are modules or functions.

    Args:
        model: a network whose activation functions are all ReLU or ReLU6; it is left as it was.
        inputs: its input, float, shape (N, ...).
        layer: the layer the activations are in.
        start: their weights, as in ``gradient``.

    Returns:
        Shape of ``inputs``, signed, on the model's device.

    Raises:
        ValueError: as ``gradient``, and for a network with no ReLU on the way, or with an activation function that
            is not one, or that cannot be told from others (``clamp``, ``maximum``, ``where``).
        TypeError: as ``gradient``.
    """
    return _backward(model, inputs, layer, start, guided=True)


def _backward(model: nn.Module, inputs: Tensor, layer: str, start: Tensor, *, guided: bool) -> Tensor:
    """The gradient, with what comes back to the ReLUs rectified if it is guided."""
    # the backward pass too is inside, since it may run parts of the network again (activation checkpointing)
    with differentiating(model), recording(model, [layer], graph=True) as outputs:
        leaf = network_input(model, inputs).requires_grad_()
        model(leaf.clone())
        output = outputs[layer]
        check_tensor("start", start, output.shape, finite=True)
        if guided:
            _rectify(output, layer)
        (found,) = torch.autograd.grad(output, leaf, start.detach().to(output), allow_unused=True)
    return connected(found, f"layer {layer!r}", "the inputs")


def _rectify(output: Tensor, layer: str) -> None:
    """Have each ReLU that ``output`` was computed by set what comes back to it to 0 where that is negative."""
    relus, others = [], []
    for node in _graph(output):
        kind = node.name().rstrip("0123456789").removesuffix("Backward")
        if node.name().startswith(_RELUS) and getattr(node, "_saved_min_val", 0) == 0:
            relus.append(node)
        elif kind in _OTHERS or isinstance(node, torch.autograd.function.BackwardCFunction):
            others.append(kind)
    if others or not relus:
        found = f"the network computes {others[0]}" if others else "there is no ReLU"
        raise ValueError(
            f"on the way to {layer!r} {found}, and guided backpropagation is about networks whose activation functions "
            "are all ReLU or ReLU6: write them as nn.ReLU(), not in place on part of a tensor, or take gradient()"
        )
    for node in relus:
        node.register_prehook(lambda received: tuple(part.clamp(min=0) for part in received))


def _graph(output: Tensor) -> Iterator[Any]:
    """All nodes of the computation that ``output`` came from."""
    waiting, known = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in known:
            known.add(node)
            yield node
            waiting += [parent for parent, _ in node.next_functions]
