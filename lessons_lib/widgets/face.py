"""A panel that is drawn in the reader's browser, in JupyterLab as on the website; here this kernel answers it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from torch import Tensor

FACES = Path(__file__).parent / "faces"
# what a browser has for numbers, by the names that NumPy has
TYPES = {
    "uint8": "Uint8Array",
    "uint16": "Uint16Array",
    "int32": "Int32Array",
    "float32": "Float32Array",
}


class Face(anywidget.AnyWidget):
    """A panel: ``faces/NAME.js`` shows it and asks questions, functions of this kernel answer them.

    Args:
        name: of the module in ``faces``.
        about: what it needs to begin with: what can be chosen, in what JSON can say.
        answers: by question a function of what is given with it. It returns what JSON can say by name; tensors and
            arrays among it arrive as flat typed arrays. What it raises is shown under the panel.

    >>> answers = {"clean": lambda name: {"probabilities": np.array([0.9, 0.1], np.float32)}}
    >>> Face("cam", {"classes": ["day", "night"]}, answers).about
    {'classes': ['day', 'night']}
    """

    _css = FACES / "faces.css"
    _esm: Any = traitlets.Unicode().tag(sync=True)
    about: Any = traitlets.Dict().tag(sync=True)

    def __init__(
        self, name: str, about: Mapping[str, Any], answers: Mapping[str, Callable[..., Mapping[str, Any]]]
    ) -> None:
        super().__init__(about=dict(about), _esm=_module(name))
        self._answers = dict(answers)
        self.on_msg(self._answer)

    def _answer(self, _: Any, asked: Mapping[str, Any], __: Any = None) -> None:
        try:
            answer, buffers = packed(self._answers[asked["question"]](**asked["given"]))
        except Exception as error:
            self.send({"id": asked["id"], "error": f"{type(error).__name__}: {error}"})
            return
        self.send({"id": asked["id"], "answer": answer}, buffers)


def packed(answer: Mapping[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """An answer as it is sent: what JSON can say, and of arrays their type and which of the buffers has their numbers.

    Raises:
        KeyError: for numbers of a type that browsers have no array for.
    """
    arrays = {
        name: np.ascontiguousarray(value)
        for name, value in answer.items()
        if isinstance(value, Tensor | np.ndarray)
    }
    values = {name: value for name, value in answer.items() if name not in arrays}
    told = {
        name: {"type": TYPES[array.dtype.name], "buffer": i} for i, (name, array) in enumerate(arrays.items())
    }
    return {"values": values, "arrays": told}, [array.tobytes() for array in arrays.values()]


def pixels(picture: Tensor) -> dict[str, Any]:
    """A picture, uint8, shape (3, H, W) or (1, H, W), as faces want it: red, green, blue and opacity, row by row."""
    rgb = picture.expand(3, -1, -1).permute(1, 2, 0).numpy()
    opaque = np.full((*rgb.shape[:2], 1), 255, np.uint8)
    return {"pixels": np.concatenate([rgb, opaque], 2), "height": rgb.shape[0], "width": rgb.shape[1]}


def _module(name: str) -> str:
    """The pieces, the face and its home as one module: what a kernel sends has no address to import others from."""
    text = "".join((FACES / f"{part}.js").read_text(encoding="utf-8") for part in ("pieces", name, "kernel"))
    return re.sub(r"(?m)^import \{[^}]*\} from \"\./pieces\.js\";$|^export (?!default)", "", text)
