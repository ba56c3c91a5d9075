"""Which of several ways of computing the same is the fastest on this machine, now: found out by running them.

A processor's name does not say it. Winograd's convolutions take two thirds of the time of oneDNN's where it is held to
AVX2, and a fifth more where it has AVX-512; both were measured on one machine.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

ROUNDS = 4  # the first is not timed: libraries set up for new sizes in it


@dataclass
class Race(Generic[Answer]):
    """Runs the same work in several ways and keeps the least time that each has taken.

    Ways take turns, and the least counts, since what else runs on a machine only ever adds to a time: one slow call
    changes nothing, and what slows them all down slows all of them down.

    Attributes:
        ways: what to call, by name.
        least: seconds of each way's fastest call but for the first; infinite before there is one.
    """

    ways: Mapping[str, Callable[..., Answer]]
    least: dict[str, float] = field(init=False)
    _rounds: int = 0

    def __post_init__(self) -> None:
        """Nothing has been timed yet."""
        self.least = dict.fromkeys(self.ways, math.inf)

    def run(self, *work: object) -> dict[str, Answer]:
        """What each way makes of ``work``; every other time the last goes first."""
        answers: dict[str, Answer] = {}
        for name in list(self.ways)[:: -1 if self._rounds % 2 else 1]:
            began = time.perf_counter()
            answers[name] = self.ways[name](*work)
            seconds = time.perf_counter() - began
            if self._rounds:
                self.least[name] = min(self.least[name], seconds)
        self._rounds += 1
        return answers

    def fastest(self, allowed: Sequence[str]) -> str:
        """That of the ways ``allowed`` which took the least time."""
        return min(allowed, key=self.least.__getitem__)
