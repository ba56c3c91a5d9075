"""Whether the outputs of a notebook's cell still say and show what is stored: texts, numbers and pictures."""

from __future__ import annotations

import base64
import copy
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, MutableMapping, Sequence
from typing import Any

from lessons_lib.comparison import numbers, pictures

Output = MutableMapping[str, Any]
Sanitizer = Callable[[str], str]

_EMBEDDED = re.compile(r"data:image/([\w.+-]+);base64,([\w+/=\s]+)")

_PICTURE = "data:image;base64,"


def compared_by(tags: Collection[str]) -> pictures.By:
    """How the pictures of a cell with these tags are compared: ``trained`` and ``chosen`` allow for a training."""
    return "size" if "chosen" in tags else "colours" if "trained" in tags else "place"


def sanitizer(config: str) -> Sanitizer:
    """What replaces in a text what may differ, by the pairs of ``regex:`` and ``replace:`` lines of nbval's file."""
    pairs = [(re.compile(a), b) for a, b in re.findall(r"(?m)^regex: (.*)$\n^replace: (.*)$", config)]

    def sanitize(text: str) -> str:
        for pattern, replacement in pairs:
            text = pattern.sub(replacement, text)
        return text

    return sanitize


def equal(
    stored: Sequence[Output], new: Sequence[Output], sanitize: Sanitizer, *, by: pictures.By = "place"
) -> bool:
    """Whether the outputs of a cell agree, each with the one in its place; ``by`` as for pictures."""
    if [_form(output) for output in stored] != [_form(output) for output in new]:
        return False
    same = reconciled(stored, new, sanitize)
    texts = (_texts(stored, sanitize), _texts(same, sanitize))
    return texts[0] == texts[1] and not picture_differences(stored, new, by=by)


def same_shape(stored: Sequence[Output], new: Sequence[Output], sanitize: Sanitizer) -> bool:
    """Whether the outputs of a cell agree in all but their numbers and pictures."""
    if [_form(output) for output in stored] != [_form(output) for output in new]:
        return False
    one, other = (
        [numbers.shape(_EMBEDDED.sub(_PICTURE, text)) for _, text in _texts(outputs, sanitize)]
        for outputs in (stored, new)
    )
    return one == other


def reconciled(stored: Sequence[Output], new: Sequence[Output], sanitize: Sanitizer) -> list[Output]:
    """A copy of ``new``, sanitized, in which all text that agrees is as in ``stored``.

    As nbval does, it pairs the texts of one kind in their order, whatever stands between.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for kind, text in _texts(stored, sanitize):
        texts[kind].append(text)
    result = copy.deepcopy(list(new))
    for kind, holder, name in _places(result):
        text = sanitize(holder[name])
        holder[name] = _reconciled_around_pictures(texts[kind].pop(0), text) if texts[kind] else text
    return result


def _reconciled_around_pictures(stored: str, new: str) -> str:
    """Text with the pictures that are stored in it, which are compared apart (``picture_differences``)."""
    text = numbers.reconciled(*(_EMBEDDED.sub(_PICTURE, either) for either in (stored, new)))
    for found in _EMBEDDED.finditer(stored):
        text = text.replace(_PICTURE, found[0], 1)
    return text


def picture_differences(
    stored: Sequence[Output], new: Sequence[Output], *, by: pictures.By = "place"
) -> list[str]:
    """A sentence for each picture that does not show what the stored one shows, or for their number.

    Args:
        stored: outputs.
        new: outputs.
        by: as in ``lessons_lib.comparison.pictures.difference``.
    """
    old, now = list(embedded(stored)), list(embedded(new))
    if len(old) != len(now):
        return [f"{len(old)} pictures are stored, and now there are {len(now)}"]
    found = []
    for count, ((kind, one), (new_kind, other)) in enumerate(zip(old, now, strict=True), 1):
        if (kind == "svg+xml") != (new_kind == "svg+xml"):
            said = f"it was {kind} and is {new_kind}"
        else:
            said = _drawings(one, other) if kind == "svg+xml" else pictures.difference(one, other, by=by)
        if said:
            found.append(f"picture {count} of {len(old)}: {said}")
    return found


def embedded(outputs: Sequence[Output]) -> Iterator[tuple[str, bytes]]:
    """Every picture of the outputs, its kind and its file: those of their own, and those inside HTML."""
    for output in outputs:
        data = output.get("data", {})
        for kind in ("png", "jpeg"):
            if f"image/{kind}" in data:
                yield kind, base64.b64decode(data[f"image/{kind}"])
        if "image/svg+xml" in data:
            yield "svg+xml", data["image/svg+xml"].encode()
        for found in _EMBEDDED.finditer(data.get("text/html", "")):
            yield found[1], base64.b64decode(found[2])


def pack(outputs: Sequence[Output]) -> None:
    """Make the PNGs inside the HTML of outputs as small as ``lessons_lib.comparison.pictures.lightest`` does."""

    def smaller(found: re.Match[str]) -> str:
        if found[1] != "png":
            return found[0]
        kind, file = pictures.lightest(base64.b64decode(found[2]))
        return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"

    for output in outputs:
        data = output.get("data", {})
        if "text/html" in data:
            data["text/html"] = _EMBEDDED.sub(smaller, data["text/html"])


def _drawings(stored: bytes, new: bytes) -> str:
    """What tells two SVG drawings apart: their text, where a number of a path is a number, or a picture in them."""
    texts = [
        re.sub(r"(?<=[A-Za-z])(?=-?\d+\.)", " ", _EMBEDDED.sub("", file.decode())) for file in (stored, new)
    ]
    if not numbers.agree(*texts):
        return "the drawing is another"
    inner = [[{"data": {"text/html": file.decode()}}] for file in (stored, new)]
    return "; ".join(picture_differences(*inner))


def _form(output: Output) -> tuple[str, str, list[str]]:
    return output["output_type"], output.get("name", ""), sorted(output.get("data", {}))


def _places(outputs: Sequence[Output]) -> Iterator[tuple[str, Output, str]]:
    """Where the texts are: their kind, and what holds them under which name."""
    for output in outputs:
        if output["output_type"] == "stream":
            yield output["name"], output, "text"
        for name in ("ename", "evalue"):
            if name in output:
                yield name, output, name
        data = output.get("data", {})
        for kind in sorted(data):  # a file holds them in this order, a kernel gives them in another
            if kind.startswith("text/") and isinstance(data[kind], str):
                yield kind, data, kind


def _texts(outputs: Sequence[Output], sanitize: Sanitizer) -> list[tuple[str, str]]:
    return [(kind, sanitize(holder[name])) for kind, holder, name in _places(outputs)]
