"""Runs side by side return what runs one after the other return, and nothing is left over when they end early."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from functools import partial

import psutil
import pytest
import torch

from lessons_lib import processes
from lessons_lib.data.pictures import Pictures
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.processes import run_all
from lessons_lib.training import Settings, fit

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


DIFFERENTIATE = processes._differentiate


@pytest.fixture(autouse=True)
def forking(monkeypatch):
    """Another test may have compiled a network in this process; most runs here differentiate nothing."""
    monkeypatch.setattr(processes, "_differentiate", lambda: None)


@pytest.fixture
def one_thread():
    """Sums are rounded alike only with as many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@on_linux
def test_results_come_in_order_from_processes_of_their_own():
    here = os.getpid()

    def run(number):
        time.sleep(0.2 if number == 0 else 0)  # the first is done last
        return (number, os.getpid(), torch.get_num_threads())

    found = run_all([lambda n=n: run(n) for n in range(6)], processes=2, progress=False)
    assert [number for number, _, _ in found] == list(range(6))
    assert 1 <= len({pid for _, pid, _ in found}) <= 2
    assert here not in {pid for _, pid, _ in found}
    assert {threads for _, _, threads in found} == {1}


@pytest.mark.parametrize("count", [1, 2])
def test_one_process_or_one_run_stays_here(count):
    changed = []
    runs = [lambda n=n: changed.append(n) or n for n in range(count)]
    assert run_all(runs, processes=3 - count, progress=False) == list(range(count))
    assert changed == list(range(count))
    assert run_all([], processes=2) == []


@pytest.mark.parametrize("why", ["another system", "an accelerator in use"])
def test_where_forking_is_not_safe_runs_stay_here(why, monkeypatch):
    if why == "another system":
        monkeypatch.setattr(processes.sys, "platform", "darwin")
    else:
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert run_all([os.getpid, os.getpid], processes=2) == [os.getpid()] * 2


def test_fewer_than_one_process_is_refused():
    with pytest.raises(ValueError, match="at least 1 process"):
        run_all([os.getpid], processes=0)


@on_linux
def test_runs_stay_here_where_a_forked_process_cannot_differentiate():
    """In a process of its own: what torch.compile leaves behind stays."""
    code = """
        import os, torch
        from lessons_lib import processes

        def run():
            torch.ones(1, requires_grad=True).sum().backward()
            return os.getpid()

        before = processes.run_all([run] * 2, processes=2, progress=False) if FIRST else []
        torch.compile(torch.nn.Linear(2, 2), backend="eager")(torch.ones(2))
        torch.ones(1, requires_grad=True).sum().backward()
        print(os.getpid() in before, set(processes.run_all([run] * 2, processes=2, progress=False)) == {os.getpid()})
    """
    for first in (False, True):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code.replace("FIRST", str(first)))],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["False", "True"]


def test_trainings_are_the_same_side_by_side(one_thread, monkeypatch):
    monkeypatch.setattr(processes, "_differentiate", DIFFERENTIATE)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), generator=generator, dtype=torch.uint8)
    pool = Pictures(images, torch.arange(24) % 2, ("a", "b"), "made in the test")

    def trained(count, seed):
        """A number in which every step of a training shows."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = SmallCNN(2)
        fit(model, pool.subset(slice(count)), None, Settings(2, 4, seed=seed), progress=False)
        return model.classifier.weight.sum().item()

    runs = [partial(trained, count, seed) for count in (8, 16) for seed in (0, 1)]
    after_one_another, side_by_side = (run_all(runs, processes=n, progress=False) for n in (1, 2))
    assert after_one_another == side_by_side
    assert len({*after_one_another}) == 4


@on_linux
def test_a_failing_run_says_why_and_stops_the_others(tmp_path):
    def fail():
        raise FloatingPointError("the loss became nan")

    runs = [fail, *[lambda n=n: (tmp_path / str(n)).touch() or time.sleep(60) for n in range(40)]]
    with pytest.raises(FloatingPointError, match="the loss became nan"):
        run_all(runs, processes=2, progress=False)
    assert len(list(tmp_path.iterdir())) <= 2
    assert not multiprocessing.active_children()


@on_linux
def test_a_killed_process_is_an_error_and_no_endless_wait():
    with pytest.raises(BrokenProcessPool):
        run_all([lambda: os.kill(os.getpid(), signal.SIGKILL)] * 2, processes=2, progress=False)


@on_linux
def test_a_process_hit_by_the_stop_signal_first_is_not_taken_for_a_broken_one():
    def run():
        os.kill(os.getpid(), signal.SIGINT)  # before the parent has got its own
        return os.getpid()

    assert os.getpid() not in run_all([run] * 2, processes=2, progress=False)


@on_linux
def test_a_stop_while_runs_are_handed_out_does_not_wait_for_them(tmp_path, monkeypatch):
    submit = ProcessPoolExecutor.submit

    def interrupted(pool, run, number):
        if number == 2:
            raise KeyboardInterrupt
        return submit(pool, run, number)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted)
    runs = [lambda n=n: time.sleep(3) or (tmp_path / str(n)).touch() for n in range(4)]
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, processes=2, progress=False)
    assert not multiprocessing.active_children()
    assert not list(tmp_path.iterdir()), "runs went on to their end"


@on_linux
def test_the_stop_button_ends_all_processes_at_once():
    script = textwrap.dedent(
        """
        import os
        import signal
        import time
        from lessons_lib.processes import run_all

        def run():
            os.write(1, b"runs\\n")  # at once: print writes the line and its end apart, and two processes mix them
            time.sleep(60)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin without
        try:
            run_all([run] * 4, processes=2, progress=False)
        except KeyboardInterrupt:
            print("stopped", flush=True)
        """
    )
    # Jupyter sends the signal to the whole group of a kernel's processes
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert [process.stdout.readline(), process.stdout.readline()] == ["runs\n"] * 2
    children = psutil.Process(process.pid).children()
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=20)[0] == "stopped\n"
    assert not any(child.is_running() for child in children)
