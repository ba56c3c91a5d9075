"""One network, one picture, and patches on it: probabilities for any of them, in the cheapest way that is right."""

from __future__ import annotations

import contextlib
from functools import cached_property
from typing import Literal, get_args

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from lessons_lib.methods.activations import recording
from lessons_lib.methods.occlusion.plan import CannotPlanError, Plan, Recording, Region, make_plan, record
from lessons_lib.training import evaluating

Fill = Literal["zero", "black", "grey", "mean", "blur"]

BATCH = {"cpu": 32}  # patches at a time: on a processor more run no faster, and this bounds the memory
_LARGE_BATCH = 256  # on any accelerator
CLOSE = 1e-5  # how near to the network's own probabilities the incremental ones must be


def filling(image: Tensor, fill: Fill | float | Tensor, patch: int, *, black: Tensor | float = -1.0,
            white: Tensor | float = 1.0) -> Tensor:  # fmt: skip
    """The picture that shows through where the patch is.

    Args:
        image: the network's input for one picture, shape (C, H, W).
        fill: "zero" (0 in the network's input: after normalisation that is some grey, not black), "black", "grey"
            (midway between black and white), "mean" (the picture's mean colour), "blur" (the picture, blurred with
            a standard deviation of half a patch), a number, or a tensor: a colour (C,) or a picture (C, H, W).
        patch: side of the patch in pixels.
        black: the input value of a black pixel, a number or one for each channel (C,).
        white: that of a white pixel.

    Returns:
        Shape (C, H, W), of the picture's dtype.

    Raises:
        ValueError: for another name or shape.
    """
    if isinstance(fill, Tensor):
        if fill.shape not in {image.shape[:1], image.shape}:
            raise ValueError(
                f"a filling has shape {tuple(image.shape[:1])} or {tuple(image.shape)}, not {tuple(fill.shape)}"
            )
        return (fill if fill.ndim == 3 else fill[:, None, None]).to(image).expand_as(image)
    if isinstance(fill, int | float):
        return torch.full_like(image, fill)
    if fill not in get_args(Fill):
        raise ValueError(f"no filling {fill!r}; there are {', '.join(get_args(Fill))}, numbers and tensors")
    if fill == "blur":
        blurred = gaussian_filter(image.cpu().numpy(), sigma=(0, patch / 2, patch / 2), mode="nearest")
        return torch.from_numpy(blurred).to(image)
    black, white = (torch.as_tensor(v).to(image).expand(len(image)) for v in (black, white))
    colours = {"zero": 0 * black, "black": black, "grey": (black + white) / 2, "mean": image.mean((1, 2))}
    return colours[fill][:, None, None].expand_as(image)


class Occluder:
    """Probabilities for a picture with a patch on it, incrementally where the network allows.

    Args:
        model: a classifier; its output is logits, shape (N, classes). It is left as it was.
        image: its input for one picture, float, shape (C, H, W).
        layer: a layer whose channels' total activation is wanted too.
        bfloat16: compute in bfloat16 instead of the picture's dtype: faster where the machine is good at it, with
            errors in the third decimal.
        incremental: ``False`` runs the whole network for each patch.
        recording: the ``recording`` of another occluder of the same model, layer and picture size, to save the time.

    Attributes:
        whole_because: why the whole network runs for each patch; empty if it runs incrementally.

    Raises:
        TypeError: for a picture that is not floating point, or one not of the model's dtype.
        ValueError: for another shape, NaN, an unknown layer, a layer without feature maps, or a model whose output
            is not one vector of logits for each picture.
    """

    def __init__(
        self, model: nn.Module, image: Tensor, *, layer: str | None = None, bfloat16: bool = False,
        incremental: bool = True, recording: Recording | None = None,
    ) -> None:  # fmt: skip
        self.model, self.layer, self.bfloat16 = model, layer, bfloat16
        self.image = _checked(model, image)
        self.whole_because = "" if incremental else "it was asked for"
        self.recording = recording
        self._plan: Plan | None = None
        self.clean  # noqa: B018 - finds out early what does not fit
        if incremental:
            try:
                self._plan = self._make_plan()
            except CannotPlanError as reason:
                self.whole_because = str(reason)

    def _make_plan(self) -> Plan:
        with torch.no_grad():
            self.recording = self.recording or record(self.model, self.image, self.layer)
            plan = make_plan(self.recording, self.image.bfloat16() if self.bfloat16 else self.image)
        if not self.bfloat16:
            self._prove(plan)
        return plan

    @torch.inference_mode()
    def _prove(self, plan: Plan) -> None:
        """Compare the plan with the network itself on a few patches, and give it up if they differ."""
        height, width = self.image.shape[1:]
        blank = torch.zeros_like(self.image)
        corners = torch.tensor([[0, 0], [height // 3, width // 2], [height - height // 4, 0]])
        boxes = torch.cat([corners, corners + torch.tensor([-(-height // 4), -(-width // 4)])], 1)
        boxes[:, 2:] = boxes[:, 2:].minimum(torch.tensor([height, width]))
        expected, sums = self._run_whole(boxes, blank)
        for i, box in enumerate(boxes):
            found, found_sums = self._run_plan(plan, box[None], blank)
            if (expected[i].softmax(0) - found[0].softmax(0)).abs().max() > CLOSE:
                raise CannotPlanError("its own probabilities differ from the incremental ones")
            if sums is None or found_sums is None:
                continue
            if not torch.allclose(sums[i], found_sums[0], rtol=1e-3, atol=float(sums.abs().max()) / 1e3):
                raise CannotPlanError("its own activations differ from the incremental ones")

    @property
    def batch(self) -> int:
        """How many patches run at a time."""
        return BATCH.get(self.image.device.type, _LARGE_BATCH)

    @property
    def plan(self) -> Plan | None:
        """The incremental plan, if there is one."""
        return self._plan

    @cached_property
    def clean(self) -> tuple[Tensor, Tensor | None]:
        """Probabilities (classes,) of the picture without a patch, and each channel's total activation (channels,)."""
        with torch.inference_mode():
            logits, sums = self._run_whole(torch.zeros(1, 4, dtype=torch.int64), self.image)
        if logits.ndim != 2 or len(logits) != 1:
            raise ValueError(
                f"the model must give logits of shape (N, classes), not {tuple(logits.shape)} for one picture"
            )
        return logits.softmax(1)[0].cpu(), None if sums is None else sums[0].cpu()

    @torch.inference_mode()
    def __call__(
        self, boxes: Tensor, filled: Tensor, room: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Probabilities for one patch at a time; boxes side by side cost least.

        Args:
            boxes: int64, shape (N, 4): top, left, bottom, right, the last two exclusive, inside the picture.
            filled: the picture that shows through the patch, shape (C, H, W).
            room: height and width that hold all boxes of this and of other calls; calls with the same room share
                what PyTorch sets up for new sizes. Default: what the boxes need.

        Returns:
            Probabilities (N, classes), and the total activation of each channel of the layer (N, channels) or
            ``None``; both on the CPU.
        """
        filled = filled.to(self.image)
        logits, sums = [], []
        for some in boxes.split(self.batch):
            # few sizes of batches, for the same reason as few sizes of windows
            padded = torch.cat([some, some[-1:].expand((1 << (len(some) - 1).bit_length()) - len(some), 4)])
            if self._plan is None:
                found = self._run_whole(some, filled)
            else:
                found = self._run_plan(self._plan, padded, filled, room)
            logits.append(found[0][: len(some)].softmax(1).cpu())
            if found[1] is not None:
                sums.append(found[1][: len(some)].cpu())
        return torch.cat(logits), torch.cat(sums) if sums else None

    def _run_plan(
        self, plan: Plan, boxes: Tensor, filled: Tensor, room: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        top, left = (int(v) for v in boxes[:, :2].amin(0))
        bottom, right = (int(v) for v in boxes[:, 2:].amax(0))
        rows, columns, room = (top, bottom), (left, right), room or (bottom - top, right - left)
        patched = _patched(self.image, filled, boxes, plan.region(rows, columns, room))
        return plan(patched.bfloat16() if self.bfloat16 else patched, rows, columns, room)

    def _run_whole(self, boxes: Tensor, filled: Tensor) -> tuple[Tensor, Tensor | None]:
        height, width = self.image.shape[1:]
        inputs = _patched(self.image, filled, boxes, ((0, height), (0, width)))
        rounding = (
            torch.autocast(inputs.device.type, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()
        )
        with rounding:
            if self.layer is None:
                with evaluating(self.model):
                    return _at_least_float(self.model(inputs)), None
            with recording(self.model, [self.layer]) as outputs:
                logits = self.model(inputs)
        maps = outputs[self.layer]
        if maps.ndim != 4:
            raise ValueError(
                f"layer {self.layer!r} gives shape {tuple(maps.shape)}, not feature maps (N, C, H, W): "
                "choose an earlier one"
            )
        return _at_least_float(logits), maps.double().sum((2, 3)).float()


def _patched(image: Tensor, filled: Tensor, boxes: Tensor, region: Region) -> Tensor:
    """The region of the picture with each box in turn showing ``filled``: shape (N, C, rows, columns)."""
    (top, bottom), (left, right) = region
    boxes = boxes.to(image.device)
    rows = torch.arange(top, bottom, device=image.device)
    columns = torch.arange(left, right, device=image.device)
    hidden_rows = (rows >= boxes[:, :1]) & (rows < boxes[:, 2:3])
    hidden_columns = (columns >= boxes[:, 1:2]) & (columns < boxes[:, 3:])
    hidden = (hidden_rows[:, :, None] & hidden_columns[:, None, :])[:, None]
    return torch.where(hidden, filled[:, top:bottom, left:right], image[:, top:bottom, left:right])


def _at_least_float(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype == torch.bfloat16 else logits


def _checked(model: nn.Module, image: Tensor) -> Tensor:
    """The picture on the model's device, once it is sure that it is one."""
    if not image.is_floating_point():
        raise TypeError(
            f"the picture must be the network's float input, not {image.dtype}: use to_input or prepare"
        )
    if image.ndim != 3 or not image.numel():
        raise ValueError(f"need the input for one picture, shape (C, H, W), not {tuple(image.shape)}")
    if torch.isnan(image).any():
        raise ValueError("the picture holds NaN")
    parameter = next(model.parameters(), image)
    if parameter.dtype != image.dtype:
        raise TypeError(f"the picture is {image.dtype} and the model {parameter.dtype}: convert one of them")
    return image.to(parameter.device)
