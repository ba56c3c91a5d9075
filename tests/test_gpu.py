"""``python -m tests.gpu``, where there is no accelerator: the CPU stands for one, computing in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from lessons_lib import networks
from lessons_lib.methods import evaluation, filters, receptive_field, transfer
from tests import gpu

# what they give are names, sizes and counts, or maps that do not depend on the network
ASKS_NO_WEIGHTS = {
    networks.layer_names,
    networks.device_of,
    networks.memory_format,
    networks.accuracy,
    evaluation.constant,
    evaluation.layers_with_weights,
    evaluation.centre_gaussian,
    evaluation.edges,
    filters.weight_layers,
    receptive_field.receptive_fields,
    networks.head_name,
    networks.noise,
    transfer.layers_up_to,
    gpu.cam.find_head,
}

every_method = pytest.mark.parametrize("method", gpu.CHECKS, ids=lambda method: method.__qualname__)


def test_every_method_that_takes_a_network_is_there():
    assert set(gpu.given_a_network()) == set(gpu.CHECKS)


@every_method
def test_each_is_called(method: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    spy = Mock(wraps=method)
    gpu.CHECKS[method](spy, gpu.given(gpu.CPU))
    spy.assert_called_once()


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")  # said by the switch itself
@every_method
def test_another_way_to_compute_in_float32_is_within_the_bound(method: Callable[..., Any]):
    with torch.backends.mkldnn.flags(enabled=False):
        found = gpu.results(method, gpu.given(gpu.CPU))
    row = gpu.against_cpu(method, found)
    assert row.passed, row
    assert row.bound < 1e-3, "an activation is so near 0 that rounding decides: choose another seed"


def test_a_whole_number_that_rounding_decides_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(
        gpu.CHECKS, filters.weights, lambda method, g: (method(g.model, "conv1") > tie).sum(dim=(1, 2, 3))
    )
    tie = gpu.given(gpu.CPU).model.conv1.weight.detach()
    with pytest.raises(ValueError, match="rounding decides what weights gives here"):
        gpu.reference.__wrapped__(filters.weights)


def tensor_float32(values: torch.Tensor) -> torch.Tensor:
    """Rounded to 11 bits, as tensor cores round what they are given if nothing forbids it."""
    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@every_method
def test_a_device_that_rounds_to_11_bits_is_noticed(method: Callable[..., Any]):
    rounded = gpu.given(gpu.CPU)
    for parameter in rounded.model.parameters():
        parameter.data = tensor_float32(parameter.data)
    assert gpu.against_cpu(method, gpu.results(method, rounded)).passed == (method in ASKS_NO_WEIGHTS)


def test_differences_are_relative_and_whole_numbers_the_same_or_not():
    expected = torch.tensor([0.0, -4.0, torch.nan])
    assert gpu.difference(torch.tensor([1.0, -4.0, torch.nan]), expected) == 0.25
    assert gpu.difference(torch.tensor([0.0, -4.0, 1.0]), expected) == torch.inf
    assert gpu.difference(torch.tensor([torch.nan, -4.0, torch.nan]), expected) == torch.inf
    assert gpu.difference(expected[:2], expected) == torch.inf
    assert gpu.difference(expected.double(), expected) == torch.inf
    assert gpu.difference(torch.zeros(3), torch.zeros(3)) == 0
    assert gpu.difference(torch.tensor([7, 8]), torch.tensor([7, 8])) == 0
    assert gpu.difference(torch.tensor([7, 9]), torch.tensor([7, 8])) == torch.inf


def run(monkeypatch: pytest.MonkeyPatch, device: torch.device | None, *checked: Callable[..., Any]) -> int:
    monkeypatch.setattr(gpu, "seed_everything", lambda seed: None)
    monkeypatch.setattr(gpu, "CHECKS", {method: gpu.CHECKS[method] for method in checked})
    return gpu.main(device)


def test_without_an_accelerator_it_says_so_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    assert run(monkeypatch, None) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line == "There is no accelerator here, so there is nothing to compare with the CPU."


def test_the_table_names_method_device_difference_bound_and_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    assert run(monkeypatch, gpu.CPU, filters.weights, networks.capture) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["method", "device", "difference", "bound", "seconds"]
    assert [row.split()[:3] for row in rows] == [
        ["filters.weights", "cpu", "0.0e+00"],
        ["networks.hooks.capture", "cpu", "0.0e+00"],
    ]
    assert all(0 < float(row.split()[3]) < 1e-4 for row in rows)
    assert last == "2 of 2 methods agree with the CPU."


def test_a_method_that_fails_or_differs_is_named_and_the_table_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    calls = iter([RuntimeError("no float64 here"), [torch.zeros(16, 3, 5, 5)]])
    real = gpu.results

    def results(method: Callable[..., Any], g: gpu.Given) -> list[torch.Tensor]:
        answer = next(calls, None)  # the device's two; then the CPU's
        if isinstance(answer, Exception):
            raise answer
        return real(method, g) if answer is None else answer

    monkeypatch.setattr(gpu, "results", results)
    assert run(monkeypatch, gpu.CPU, networks.capture, filters.weights) == 1
    _, broken, wrong, last = capsys.readouterr().out.splitlines()
    assert "networks.hooks.capture: RuntimeError: no float64 here" in broken
    assert wrong.startswith("filters.weights")
    assert wrong.endswith("TOO MUCH")
    assert last == "0 of 2 methods agree with the CPU."
