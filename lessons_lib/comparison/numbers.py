"""Whether a printed text still says what it said, each number within the uncertainty that is printed with it.

Four things are quantities, which may differ a little; words, whole numbers and sizes may not:

- ``0.71 ± 0.03`` and ``0.71 [0.64, 0.77]``, a value and its interval: two agree if either value lies in the other's
  interval;
- ``481 of 529``, a count of outcomes, with Wilson's interval; the 529 is a size;
- ``0.71``, ``-0.02``, ``1.3e-05``, ``86.4 %``, ``91%``, a number that was rounded: two agree if they are a unit of the
  last printed digit apart or less.

A number is part of a name, and exact, where it has two points or touches letters or digits of a name (``2.15.0``,
``layer1.0``). How many spaces stand between words or beside a number is alignment and means nothing.

This module needs the standard library only and nothing of this package.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

Z = 1.96  # of 95 % intervals
# Two estimates of a spread, of three seeds each, differ by up to this factor, 95 times in 100: √F(0.975; 2, 2), √39.
# A new interval that is wider still was not measured but widened.
WIDENED = 6.2

_VALUE = r"[+\-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:[eE][+\-−]?\d+)?"
_ROUNDED = r"[+\-−]?(?:\d+(?:,\d{3})*\.\d+(?:[eE][+\-−]?\d+)?|\d+(?=[ \u202f\xa0]?%))"
_PERCENT = r"(?:[ \u202f\xa0]?%)?"
_COUNT = r"\d+(?:,\d{3})*"
_ENDS = rf"\[\ *(?P<low>{_VALUE}){_PERCENT},\ *(?P<high>{_VALUE}){_PERCENT}\ *\]"
_SHARE = r"(?:(?:\ [^\W\d]+){0,3}\ \((?P<share>\d+(?:\.\d+)?)\ ?%\))?"  # as in: 481 of 529 places (90.9 %)
_QUANTITY = re.compile(
    rf"""(?<![\w.])(?:
        (?P<right>{_COUNT})\ of\ (?P<size>{_COUNT}){_SHARE}
      | (?P<middle>{_VALUE}){_PERCENT}\ ?±\ ?(?P<half>{_VALUE})
      | (?P<value>{_VALUE})(?:{_PERCENT}|\ [^\W\d]+)\ *{_ENDS}
      | (?P<rounded>{_ROUNDED})
    )(?!\w*\d)(?!\.\d)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Quantity:
    """A number with its uncertainty.

    Attributes:
        text: as it is printed.
        form: what must be the same in another: the kind, the digits after the point, the size counted in.
        value: the number; of a count, the share.
        low: the lower end of its interval; of a rounded number, itself.
        high: the upper end.
        unit: of the last printed digit; 0 for a count.
    """

    text: str
    form: tuple[str, int]
    value: float
    low: float
    high: float
    unit: float

    def agrees(self, new: Quantity) -> bool:
        """Whether ``new`` may stand in this one's place."""
        if self.form != new.form:
            return False
        unit = max(self.unit, new.unit)
        if new.high - new.low > WIDENED * (self.high - self.low) + 2.001 * unit:
            return False
        # a thousandth of the last digit, for numbers that binary fractions only come near
        near = 1e-3 * unit
        within = any(
            one.low - near <= other.value <= one.high + near for one, other in ((self, new), (new, self))
        )
        return within or abs(self.value - new.value) <= 1.001 * unit


def agree(stored: str, new: str) -> bool:
    """Whether ``new`` says what ``stored`` says."""
    return reconciled(stored, new) == stored


def reconciled(stored: str, new: str) -> str:
    """``new``, with what agrees as it is in ``stored``: what still differs between the two is wrong."""
    old_lines, new_lines = stored.split("\n"), new.split("\n")
    if len(old_lines) != len(new_lines):
        return new
    return "\n".join(map(_reconciled_line, old_lines, new_lines))


def shape(text: str) -> str:
    """``text`` without what may differ if its numbers are not compared: every number is one sign."""
    return re.sub(r"#(?:\W*#)*", "#", re.sub(r"[+\-−]?\d[\d.,]*(?:[eE][+\-−]?\d+)?", "#", _plain(text)))


def vague(text: str) -> Iterator[str]:
    """Every interval of ``text`` that is wider than the range of all else that it is compared with.

    That is from the least to the greatest of its own value, the other values of the same text and the ends of their
    intervals. An interval that stands alone is compared with what such a value can be: a share 0 to 1, another number
    0 to twice itself.
    """
    found = [part for line in text.split("\n") for part in _parts(line) if isinstance(part, Quantity)]
    for quantity in found:
        if quantity.form[0] not in {"±", "[]"}:
            continue
        others = [other for other in found if other is not quantity]
        ends = [quantity.value, *(end for other in others for end in (other.low, other.value, other.high))]
        alone = 1.0 if abs(quantity.value) <= 1 else 2 * abs(quantity.value)
        if quantity.high - quantity.low > (max(ends) - min(ends) if others else alone):
            yield quantity.text


def wilson(right: int, size: int) -> tuple[float, float]:
    """The 95 % interval of a share of which ``right`` of ``size`` were seen (Wilson 1927)."""
    share = right / size
    centre = share + Z**2 / (2 * size)
    half = Z * math.sqrt(share * (1 - share) / size + Z**2 / (4 * size**2))
    return (centre - half) / (1 + Z**2 / size), (centre + half) / (1 + Z**2 / size)


def _reconciled_line(stored: str, new: str) -> str:
    old, now = _parts(stored), _parts(new)
    # words and quantities alternate, so that equal lengths have equal places
    if len(old) != len(now) or any(_plain(a) != _plain(b) for a, b in zip(old[::2], now[::2], strict=True)):
        return new
    line = []
    for one, other in zip(old, now, strict=True):
        if isinstance(one, Quantity) and isinstance(other, Quantity):
            line.append(one.text if one.agrees(other) else other.text)
        else:
            line.append(str(one))
    return "".join(line)


def _parts(line: str) -> list[str | Quantity]:
    """Words at the even places, quantities at the odd ones."""
    parts: list[str | Quantity] = []
    end = 0
    for found in _QUANTITY.finditer(line):
        quantity = _quantity(found)
        if quantity:
            parts += [line[end : found.start()], quantity]
            end = found.end()
    return [*parts, line[end:]]


def _quantity(found: re.Match[str]) -> Quantity | None:
    """The quantity that a match is, or None if it only looks like one."""
    text = found[0]
    if found["size"]:
        right, size = int(found["right"].replace(",", "")), int(found["size"].replace(",", ""))
        share = found["share"]
        if right > size or not size or (share and abs(100 * right / size - float(share)) > _unit(share)):
            return None
        low, high = wilson(right, size)
        return Quantity(text, ("of", size), right / size, low, high, 0.0)
    if found["half"]:
        value, half = _number(found["middle"]), _number(found["half"])
        return Quantity(
            text, ("±", _places(found["middle"])), value, value - half, value + half, _unit(found["middle"])
        )
    if found["low"]:
        value, low, high = (_number(found[name]) for name in ("value", "low", "high"))
        if not low <= value <= high:
            return None
        return Quantity(text, ("[]", _places(found["value"])), value, low, high, _unit(found["value"]))
    value = _number(found["rounded"])
    return Quantity(text, ("", _places(found["rounded"])), value, value, value, _unit(found["rounded"]))


def _number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def _places(text: str) -> int:
    """Digits after the point."""
    return len(re.split("[eE]", text)[0].partition(".")[2])


def _unit(text: str) -> float:
    """What a step of the last printed digit is worth."""
    exponent = re.search(r"[eE](.+)", text)
    return 10.0 ** ((int(exponent[1].replace("−", "-")) if exponent else 0) - _places(text))


def _plain(words: str | Quantity) -> str:
    """Words without their alignment: spaces, and the rules of tables."""
    return re.sub(r"([-=─])\1{2,}", r"\1\1\1", re.sub(r"[ \t]+", " ", str(words)).strip())
