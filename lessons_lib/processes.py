"""Independent runs side by side, each in a process with one thread."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

import torch
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

T = TypeVar("T")

_runs: Sequence[Callable[[], Any]] = ()


def run_all(runs: Sequence[Callable[[], T]], *, processes: int = 1, progress: bool = True) -> list[T]:
    """What each of several independent runs returns, in their order.

    A small network keeps one core busy, but not several: two trainings at a time, a core each, are done sooner than
    one after the other on both. Processes are forked, which costs no imports and takes any function, also one of a
    notebook. A driver's state does not survive that, nor do some libraries of macOS, so runs are side by side only on
    Linux, while no accelerator is in use, and where a forked process can differentiate, which it cannot once this one
    has differentiated after ``torch.compile``. Elsewhere they run here, one after the other.

    Args:
        runs: functions without arguments that do not need each other. Side by side, what they change in memory is
            lost: only what they return comes back, pickled.
        processes: how many at a time.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for fewer than one process.
        concurrent.futures.process.BrokenProcessPool: if a process was killed, as the system does when memory is short.
    """
    if processes < 1:
        raise ValueError(f"need at least 1 process, not {processes}")
    processes = min(processes, len(runs))
    with tqdm(total=len(runs), disable=not progress, unit="run") as bar:
        if processes < 2 or not _can_fork():
            results = []
            for run in runs:
                results.append(run())
                bar.update()
            return results
        others = multiprocessing.active_children()
        with ProcessPoolExecutor(
            processes, multiprocessing.get_context("fork"), initializer=_begin, initargs=(runs,)
        ) as pool:
            try:
                futures = [pool.submit(_run, number) for number in range(len(runs))]
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                for process in set(multiprocessing.active_children()).difference(others):
                    process.terminate()  # what is left to do could take minutes
                raise
            return [future.result() for future in futures]


def _can_fork() -> bool:
    if sys.platform != "linux" or torch.cuda.is_initialized() or torch.xpu.is_initialized():
        return False
    # PyTorch keeps to itself whether autograd has threads that a fork would lose, so one is tried
    with ProcessPoolExecutor(
        1, multiprocessing.get_context("fork"), initializer=_begin, initargs=([_differentiate],)
    ) as pool:
        return pool.submit(_run, 0).exception() is None


def _differentiate() -> None:
    torch.ones(1, requires_grad=True).sum().backward()


def _begin(runs: Sequence[Callable[[], Any]]) -> None:
    global _runs  # noqa: PLW0603 - a forked process inherits it, what cannot be pickled included
    _runs = runs
    # of a pool of threads only the one that forks lives on, and waiting for the others would never end
    torch.set_num_threads(1)
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the stop button interrupts the parent, which ends this one


def _run(number: int) -> Any:
    return _runs[number]()
