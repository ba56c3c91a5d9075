"""A network as an ONNX file, which runs without PyTorch: in another program, on a phone, in a web page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from lessons_lib.networks import evaluating, logits_of, network_input, uncompiled

INPUT, OUTPUT = "pictures", "logits"
_AGREES = (
    1e-3  # of the largest logit; rounding in another order costs a hundredth of that, a wrong layer far more
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
    """Write a classifier as an ONNX file once ONNX Runtime has given the same logits for 1, 2 and 3 pictures.

    Its input is called ``pictures``, its output ``logits``, and it takes any number of pictures at a time. The file
    says how to use it: ``classes``, ``mean`` and ``std`` are among its metadata, as JSON.

    Args:
        model: gives logits; float32. It is left as it was.
        inputs: one or more of its inputs, shape (N, C, H, W), normalised.
        file: where to write it; it is replaced.
        classes: the classes' names, in the order of the logits.
        mean: what is taken off each channel of a picture in [0, 1]; with the defaults inputs are in [−1, 1].
        std: what each channel is divided by after that.

    Returns:
        The largest difference between a logit of ONNX Runtime and PyTorch's.

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
        expected = logits_of(model(three)).cpu()
        if classes and len(classes) != expected.shape[1]:
            raise ValueError(f"{len(classes)} names of classes for {expected.shape[1]} logits")
        try:
            program = torch.onnx.export(
                model,
                (three,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
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
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    given = [session.run(None, {INPUT: three[:n].cpu().numpy()})[0] for n in (1, 2, 3)]
    apart = max((torch.from_numpy(y) - expected[: len(y)]).abs().max().item() for y in given)
    if not apart <= _AGREES * expected.abs().max().item():
        raise ValueError(
            f"as ONNX this network gives other logits, by up to {apart:.2g}: nothing was written. Does it compute "
            "in NumPy or at random?"
        )
    Path(file).write_bytes(content)
    return apart
