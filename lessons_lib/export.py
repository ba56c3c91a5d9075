"""A network as an ONNX file, which runs without PyTorch: in another program, on a phone, in a web page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import onnxruntime
import torch
from torch import Tensor, nn

from lessons_lib.methods import cam
from lessons_lib.networks import evaluating, get_layer, logits_of, network_input, recording, uncompiled

INPUT, OUTPUTS = "pictures", ("logits", "evidence", "maps")
_AGREES = (
    1e-3  # of the largest number; rounding in another order costs a hundredth of that, a wrong layer far more
)


def to_onnx(
    model: nn.Module,
    inputs: Tensor,
    file: str | Path,
    *,
    classes: Sequence[str] = (),
    mean: Sequence[float] = (0.5, 0.5, 0.5),
    std: Sequence[float] = (0.5, 0.5, 0.5),
) -> float:
    """Write a classifier as an ONNX file once ONNX Runtime has given the same numbers for 1, 2 and 3 pictures.

    Its input is called ``pictures``, its output ``logits``, and it takes any number of pictures at a time. A network
    that ends in average pooling and one linear layer has two more: ``evidence``, its class activation maps, and
    ``maps``, the feature maps that these are made of. The file says how to use it: ``classes``, ``mean`` and ``std``
    are among its metadata, as JSON. The lab, a page of the course's website, opens it.

    Args:
        model: gives logits; float32. It is left as it was.
        inputs: one or more of its inputs, shape (N, C, H, W), normalised.
        file: where to write it; it is replaced.
        classes: the classes' names, in the order of the logits.
        mean: what is taken off each channel of a picture in [0, 1]; with the defaults inputs are in [−1, 1].
        std: what each channel is divided by after that.

    Returns:
        The largest difference between a number of ONNX Runtime and PyTorch's.

    Raises:
        TypeError: for inputs of another type than the network's, or an output that is not a tensor.
        ValueError: if the network cannot be written, or not so that it gives the same; if it is not float32 or gives
            no logits; if there is another number of ``classes`` than of logits.
    """
    model = uncompiled(model)
    inputs = network_input(model, inputs)
    if inputs.dtype != torch.float32:
        raise ValueError(f"the network computes in {inputs.dtype}: export network.float(), on float32 inputs")
    with evaluating(model), torch.no_grad():
        # from a single picture PyTorch would not learn that their number may vary
        three = torch.cat([inputs, inputs.flip(-1), inputs.flip(-2)])[:3]
        logits = logits_of(model(three))
        if classes and len(classes) != logits.shape[1]:
            raise ValueError(f"{len(classes)} names of classes for {logits.shape[1]} logits")
        explained = _Explained(model, three).eval()
        expected = [output.cpu() for output in explained(three)]
        names = OUTPUTS[: len(expected)]
        try:
            program = torch.onnx.export(
                explained,
                (three,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[*names],
                dynamic_shapes=({0: "batch"},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason, *_ = str(error.__cause__ or error).split("\n\n")  # the rest is for PyTorch's developers
            raise ValueError(f"this network cannot be written as ONNX: {reason}") from error
    proto = program.model_proto  # type: ignore[union-attr]
    for key, value in {"classes": classes, "mean": mean, "std": std}.items():
        proto.metadata_props.add(key=key, value=json.dumps(list(value), ensure_ascii=False))
    content = proto.SerializeToString()
    apart = 0.0
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for count in (1, 2, 3):
        given = session.run(names, {INPUT: three[:count].cpu().numpy()})
        for name, ours, theirs in zip(names, given, expected, strict=True):
            off = (torch.from_numpy(ours) - theirs[:count]).abs().max().item()
            if not off <= _AGREES * theirs.abs().max().item():
                raise ValueError(
                    f"as ONNX this network gives other {name}, by up to {off:.2g}: nothing was written. Does it "
                    "compute in NumPy or at random?"
                )
            apart = max(apart, off)
    Path(file).write_bytes(content)
    return apart


class _Explained(nn.Module):
    """A classifier that gives its class activation maps and last feature maps, too, if it ends in pooling."""

    def __init__(self, model: nn.Module, inputs: Tensor) -> None:
        super().__init__()
        self.model = model
        self.head: cam.Head | None = None
        with suppress(ValueError, RuntimeError):  # it ends in another way, or takes no single picture
            self.head = cam.find_head(model, inputs)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        if self.head is None:
            return (logits_of(self.model(inputs)),)
        with recording(self.model, [self.head.features], graph=True) as outputs:
            logits = logits_of(self.model(inputs))
        linear = cast(nn.Linear, get_layer(self.model, self.head.linear))
        maps = outputs[self.head.features]
        return logits, cam.evidence(maps, linear.weight, linear.bias), maps
