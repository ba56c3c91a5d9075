"""Benchmarks: the course's way against another, on the same machine and in the same process.

A module of this package registers functions with ``benchmark``; ``python -m tests.bench [NAME …]`` runs them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """What a benchmark measured.

    Attributes:
        ours_s: seconds the course's way took.
        peer: what it is compared with, in a few words.
        peer_s: seconds that took.
        note: what a reader must know to trust the figures, such as "timed on a tenth and scaled".
    """

    ours_s: float
    peer: str
    peer_s: float
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.peer_s / self.ours_s


class Skipped(Exception):  # noqa: N818 - not an error
    """Raised by a benchmark that cannot run here; the message says why."""


BENCHMARKS: dict[str, Callable[[], Timing]] = {}
WITH_PROGRAMS: set[str] = set()


def benchmark(name: str, *, programs: bool = False) -> Callable[[Callable[[], Timing]], Callable[[], Timing]]:
    """Register a function as the benchmark ``name``.

    Args:
        name: what it is called on the command line.
        programs: whether it starts programs whose processor time nobody can tell from that of others, as a browser's.
    """

    def register(function: Callable[[], Timing]) -> Callable[[], Timing]:
        BENCHMARKS[name] = function
        if programs:
            WITH_PROGRAMS.add(name)
        return function

    return register


def seconds(action: Callable[[], object]) -> float:
    """Wall-clock seconds one call takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
