"""The profile comes from one place, and setting up twice gives the same state."""

import platform
import random
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from lessons_lib import course


def test_the_argument_wins_then_the_environment_then_quick(monkeypatch):
    monkeypatch.delenv("LESSONS_PROFILE", raising=False)
    assert course.resolve_profile() == "quick"
    monkeypatch.setenv("LESSONS_PROFILE", "full")
    assert course.resolve_profile() == "full"
    assert course.resolve_profile("quick") == "quick"


@pytest.mark.parametrize("name", ["Full", "fast", "0"])
def test_unknown_profiles_name_the_valid_ones(name, monkeypatch):
    with pytest.raises(ValueError, match="'quick', 'full'"):
        course.resolve_profile(name)
    monkeypatch.setenv("LESSONS_PROFILE", name)
    with pytest.raises(ValueError, match="'quick', 'full'"):
        course.setup()


def test_setup_repeats(capsys):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    lesson = course.setup("quick", seed=3)
    first = draw()
    plt.rcParams["font.size"] = 3
    assert course.setup("quick", seed=3) == lesson
    assert draw() == first
    assert plt.rcParams["font.size"] == 10
    assert not lesson.full
    assert lesson.device.type == "cpu"
    assert capsys.readouterr().out.splitlines() == ["Profile quick: nothing is downloaded. Seed 3."] * 2


def test_matrix_products_outside_torch_get_one_thread():
    threads = torch.get_num_threads()
    with threadpool_limits(2, user_api="blas"):
        course.setup("quick")
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} == {1}
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_memory_that_a_tensor_gave_back_is_used_again():
    script = """
import resource, torch
from lessons_lib import course

def pages_asked_for():  # by twenty tensors of 40 MB, one after the other
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(pages_asked_for())
course.setup("quick")
print(pages_asked_for())
"""
    printed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    before, _, after = printed.splitlines()
    assert int(after) < int(before) / 2


def test_full_takes_an_accelerator_if_there_is_one(monkeypatch):
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    assert course.setup("full").device.type == "cuda"
    assert course.setup("quick").device.type == "cpu"
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: None)
    assert course.setup("full").device.type == "cpu"
    assert course.setup("full").full


def test_a_gpu_keeps_all_of_float32s_digits(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    course.seed_everything(0)
    assert not torch.backends.cudnn.allow_tf32


def test_bfloat16_follows_the_hardware(monkeypatch):
    cpu = torch.device("cpu")
    for known, expected in (
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "aarch64", "bf16": True}, False),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda known=known: known, raising=False)
        assert course.fast_bfloat16(cpu) is expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert not course.fast_bfloat16(cpu), "PyTorch 2.9 does not say"
    assert not course.fast_bfloat16(torch.device("mps"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert course.fast_bfloat16(torch.device("cuda"))


def test_the_data_folder_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.delenv("LESSONS_DATA", raising=False)
    assert course.data_folder() == course.REPOSITORY / "data"
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    assert course.data_folder() == tmp_path


def test_the_environment_is_described_without_naming_this_disk(monkeypatch, tmp_path):
    monkeypatch.delenv("LESSONS_DATA", raising=False)
    facts = course.environment()
    assert torch.__version__.startswith(facts["torch"])
    assert facts["data folder"] == "data"
    assert facts["fast bfloat16"] in {"yes", "no"}
    monkeypatch.setenv("LESSONS_DATA", str(tmp_path))
    assert course.environment()["data folder"] == str(tmp_path)
