"""One network, one picture, and patches on it: probabilities for any of them, in the cheapest way that is right."""

from __future__ import annotations

from typing import Any, Literal

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from lessons_lib.checks import check_choice, check_tensor
from lessons_lib.incremental.plan import (
    CannotPlanError,
    Plan,
    Region,
    make_plan,
    precise,
    record,
    totals,
)
from lessons_lib.networks import feature_maps, logits_of, network_input, recording, uncompiled

Baseline = Literal["zero", "black", "grey", "mean", "blur"]
"""What a patch may show; ``baseline_picture`` says what each is."""

BATCH = {"cpu": 32}  # patches at a time: on a processor more run no faster, and this bounds the memory
_LARGE_BATCH = 256  # on any accelerator
# how near to the network's own probabilities the incremental ones must be, where they are compared
CLOSE = 1e-5
_ALIKE = 1e-4  # and logits and activations, relative to the largest
_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


def baseline_picture(image: Tensor, baseline: Baseline | float | Tensor, patch: int, *, black: Tensor | float = -1.0,
            white: Tensor | float = 1.0) -> Tensor:  # fmt: skip
    """The picture that shows through where the patch is.

    Args:
        image: the network's input for one picture, shape (C, H, W).
        baseline: "zero" (0 in the network's input: after normalisation that is some grey, not black), "black", "grey"
            (midway between black and white), "mean" (the picture's mean colour), "blur" (the picture, blurred with
            a standard deviation of half a patch), a number, or a tensor: a colour (C,) or (C, 1, 1), or a picture
            (C, H, W).
        patch: side of the patch in pixels.
        black: the input value of a black pixel, a number or one for each channel (C,).
        white: that of a white pixel.

    Returns:
        Shape (C, H, W), of the picture's dtype.

    Raises:
        ValueError: for another name or shape.
    """
    image = image.detach()
    if isinstance(baseline, Tensor):
        colour = image.shape[:1]
        if baseline.shape not in {colour, (*colour, 1, 1), image.shape}:
            raise ValueError(
                f"a baseline has shape {tuple(colour)} or {tuple(image.shape)}, not {tuple(baseline.shape)}"
            )
        picture = baseline[:, None, None] if baseline.ndim == 1 else baseline
        return picture.detach().to(image).expand_as(image)
    if not isinstance(baseline, str):
        return torch.full_like(image, float(baseline))
    check_choice("baseline", baseline, Baseline)
    if baseline == "blur":
        pixels = precise(image).cpu().numpy()
        blurred = gaussian_filter(pixels, sigma=(0, patch / 2, patch / 2), mode="nearest")
        return torch.from_numpy(blurred).to(image)
    black, white = (torch.as_tensor(v).to(image).expand(len(image)) for v in (black, white))
    colours = {"zero": 0 * black, "black": black, "grey": (black + white) / 2, "mean": image.mean((1, 2))}
    return colours[baseline][:, None, None].expand_as(image)


class Occluder:
    """Probabilities for a picture with a patch on it, incrementally where the network allows.

    Whatever cannot be done incrementally is done by running the whole network: ``whole_because``. When the
    network has changed, the next call begins anew with the new one.

    Args:
        model: a classifier; its output is logits, shape (N, classes). It is left as it was.
        image: its input for one picture, float, shape (C, H, W).
        layer: a layer whose channels' total activation is wanted too.
        incremental: ``False`` runs the whole network for each patch.

    Attributes:
        whole_because: why the whole network runs for each patch; empty if it runs incrementally.
        batch: how many patches run at a time.
        plan: the incremental plan of the last call, if there is one.
        clean: probabilities (classes,) of the picture without a patch, and each channel's total activation
            (channels,); those of the network of the last call.

    Raises:
        TypeError: for a picture that is not floating point, or one not of the model's dtype; for an output that is
            not one tensor.
        ValueError: for another shape, NaN or infinity, an unknown layer, a layer without feature maps, or a model
            whose output is not one vector of at least two logits for each picture.
    """

    def __init__(
        self, model: nn.Module, image: Tensor, *, layer: str | None = None, incremental: bool = True
    ) -> None:  # fmt: skip
        self.model, self.layer = uncompiled(model), layer
        self.image, self.incremental = image, incremental
        self.batch = BATCH.get(image.device.type, _LARGE_BATCH)
        self._seen: tuple[Any, ...] | None = None
        self.refresh()

    def _begin(self) -> None:
        """Ask for the picture without a patch, and plan."""
        check_tensor("the input for one picture", self.image, "C H W")
        self.image = network_input(self.model, self.image).clone()  # the caller may paint on it
        self.plan: Plan | None = None
        self.clean = self._ask_clean()
        self.whole_because = ""
        if not self.incremental:
            self.whole_because = "it was asked for"
            return
        if self.image.dtype in {torch.float16, torch.bfloat16}:
            self.whole_because = f"in {self.image.dtype} a part of it does not round as the whole does"
            return
        try:
            self.plan = self._make_plan()
        except CannotPlanError as reason:
            self.whole_because = str(reason)
        except Exception as error:  # the network ran just now, so that it is the plan that fails
            what = str(error).strip().partition("\n")[0]
            self.whole_because = f"running it in part fails ({type(error).__name__}: {what})"

    def refresh(self) -> None:
        """Begin anew if the network is no longer as it was: other layers, or other numbers in them."""
        now = _state(self.model)
        if self._seen != now:
            self._begin()
            self._seen = now  # only once nothing was refused

    def _make_plan(self) -> Plan:
        with torch.no_grad():
            plan = make_plan(record(self.model, self.image, self.layer), self.image)
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
        # one alone and several together: what mixes the pictures of a batch shows
        found, found_sums = zip(
            *(self._run_plan(plan, some, blank) for some in boxes.split([1, 2])), strict=True
        )
        logits = torch.cat(found)
        near = _apart(logits.softmax(1), expected.softmax(1)) <= CLOSE
        if not (near and _apart(logits, expected) <= _ALIKE * float(expected.abs().max())):
            raise CannotPlanError("its own probabilities differ from the incremental ones")
        if sums is not None and not _apart(torch.cat(found_sums), sums) <= _ALIKE * float(sums.abs().max()):
            raise CannotPlanError("its own activations differ from the incremental ones")

    @torch.inference_mode()
    def _ask_clean(self) -> tuple[Tensor, Tensor | None]:
        logits, sums = self._run_whole(torch.zeros(1, 4, dtype=torch.int64), self.image)
        if len(logits) != 1:
            raise ValueError(f"the network gives {len(logits)} rows of logits for one picture")
        return _probabilities(logits)[0], None if sums is None else sums[0].cpu()

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

        Raises:
            ValueError: if the network's answer is NaN.
        """
        self.refresh()
        return self.run(boxes, filled, room)

    @torch.inference_mode()
    def run(
        self, boxes: Tensor, filled: Tensor, room: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """What a call does, for many of them in a row: without looking whether the network has changed."""
        filled = filled.to(self.image)
        logits, sums = [], []
        for some in boxes.split(self.batch):
            if self.plan is None:
                found = self._run_whole(some, filled)
            else:
                padded = torch.cat([some, some[-1:].expand(_rounded_up(len(some)) - len(some), 4)])
                found = self._run_plan(self.plan, padded, filled, room)
            logits.append(_probabilities(found[0][: len(some)]))
            if found[1] is not None:
                sums.append(found[1][: len(some)].cpu())
        return torch.cat(logits), torch.cat(sums) if sums else None

    def _run_plan(
        self, plan: Plan, boxes: Tensor, filled: Tensor, room: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        rows, columns = _around(boxes)
        room = room or (rows[1] - rows[0], columns[1] - columns[0])
        patched = _patched(self.image, filled, boxes, plan.region(rows, columns, room))
        return plan(patched, rows, columns, room)

    def _run_whole(self, boxes: Tensor, filled: Tensor) -> tuple[Tensor, Tensor | None]:
        height, width = self.image.shape[1:]
        inputs = _patched(self.image, filled, boxes, ((0, height), (0, width)))
        with recording(self.model, [self.layer] if self.layer else []) as outputs:
            logits = self.model(inputs)
        maps = None if self.layer is None else feature_maps(outputs[self.layer], self.layer, inputs)
        return precise(logits_of(logits, softmax=True)), None if maps is None else totals(maps)


def _around(boxes: Tensor) -> Region:
    """The rows and columns of the rectangle that holds all boxes."""
    (top, left), (bottom, right) = boxes[:, :2].amin(0).tolist(), boxes[:, 2:].amax(0).tolist()
    return (top, bottom), (left, right)


def _rounded_up(count: int) -> int:
    """The next power of two: few sizes of batches, for the same reason as few sizes of windows."""
    return 1 << (count - 1).bit_length()


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference; NaN if there is one in either."""
    return float((one - other).abs().max())


def _probabilities(logits: Tensor) -> Tensor:
    """The softmax, on the CPU."""
    probabilities = logits.softmax(1).cpu()
    if probabilities.isnan().any():
        raise ValueError(
            "the network answers NaN: look for NaN in its weights or in the baseline, or for numbers beyond its "
            "precision, as float16 has"
        )
    return probabilities


def _state(model: nn.Module) -> tuple[Any, ...]:
    """What a network is made of now; compared, never read."""
    tensors = [*model.parameters(), *model.buffers()]
    # a tensor made in inference mode has no version
    versions = [(id(t), 0 if t.is_inference() else t._version) for t in tensors]
    return list(model.modules()), versions, weights_of(model)


def weights_of(model: nn.Module) -> int:
    """A number that any change of a single weight or buffer changes, on every machine the same.

    PyTorch counts what is changed in place, but not what is changed through ``.data``, as fastai's optimizers do. So
    this adds up all of them, as if their bits were whole numbers: a millisecond for ten million.
    """
    with torch.no_grad():
        sums = (
            t.view(kind).sum(dtype=torch.promote_types(kind, torch.int32))
            for t in (*model.parameters(), *model.buffers())
            if t.numel() and (kind := _WHOLE_NUMBERS.get(t.element_size()))
        )
        return sum((place + 1) * int(found) for place, found in enumerate(sums))


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
