"""What every method asks of a network: inputs, outputs, classes and random numbers."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from lessons_lib.networks import (
    at_least_float32,
    class_numbers,
    device_of,
    logits_of,
    network_input,
    seeded,
    uncompiled,
)

ONE = (1, np.int64(1), np.uint8(1), np.array(1), torch.tensor(1), torch.tensor(1, dtype=torch.uint8))
ROWS = ([1, 0], (1, 0), np.array([1, 0]), torch.tensor([1, 0]), torch.tensor([1, 0]).int(), [np.int64(1), 0],
        [torch.tensor(1), torch.tensor(0)])  # fmt: skip


@pytest.mark.parametrize("target", ONE, ids=repr)
def test_one_class_of_any_kind_of_whole_number(target):
    assert class_numbers(target, classes=2).tolist() == [1]
    assert class_numbers(target, classes=2, count=3).tolist() == [1, 1, 1]
    assert class_numbers(target).dtype == torch.int64


@pytest.mark.parametrize("targets", ROWS, ids=repr)
def test_a_row_of_classes(targets):
    assert class_numbers(targets, classes=2).tolist() == [1, 0]
    assert class_numbers(targets, classes=2, count=2).tolist() == [1, 0]
    with pytest.raises(ValueError, match="one for each of 3"):
        class_numbers(targets, count=3)


@pytest.mark.parametrize(
    "target", [1.0, True, "1", None, np.float32(1), torch.tensor(1.0), [0.5], [True], 1j]
)
def test_what_is_no_whole_number_is_refused(target):
    with pytest.raises(TypeError, match="whole number"):
        class_numbers(target)


@pytest.mark.parametrize(
    ("targets", "message"), [(2, r"in 0–1, not"), (-1, r"in 0–1"), ([], "shape"), ([[0]], "shape")]
)
def test_classes_out_of_range_or_shape(targets, message):
    with pytest.raises(ValueError, match=message):
        class_numbers(np.array(targets, dtype=np.int64), classes=2)


@pytest.mark.parametrize("nothing", [(), [], np.array([]), torch.tensor([])])
def test_no_class_is_too_few_and_no_wrong_kind_of_number(nothing):
    with pytest.raises(ValueError, match="need one class"):
        class_numbers(nothing)


def test_logits():
    scores = torch.rand(2, 3)
    assert logits_of(scores, softmax=True) is scores
    assert logits_of(scores[:, :1]).shape == (2, 1)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        ((torch.rand(2, 3), torch.rand(2, 3)), TypeError, "a tuple of 2, not one tensor of logits"),
        ([torch.rand(2, 3)], TypeError, "a list of 1"),
        (OrderedDict(out=torch.rand(2, 3), aux=None), TypeError, "a OrderedDict of 'out', 'aux'"),
        (namedtuple("Outputs", "logits aux")(torch.rand(2, 3), None), TypeError, "Outputs of 2"),
        (None, TypeError, "NoneType"),
        (torch.rand(2), ValueError, r"shape \(2,\)"),
        (torch.rand(2, 3, 4, 4), ValueError, r"\(2, 3, 4, 4\)"),
        (torch.rand(2, 0), ValueError, r"\(2, 0\)"),
        (torch.rand(2, 1), ValueError, "one logit"),
    ],
)
def test_other_outputs_are_refused_in_a_sentence_that_says_what_to_do(output, error, message):
    with pytest.raises(error, match=f"{message}.*wrap it"):
        logits_of(output, softmax=True)


def test_what_the_sentence_about_one_logit_advises_is_the_sigmoid():
    z = torch.linspace(-5, 5, 7)[:, None]
    torch.testing.assert_close(torch.cat([0 * z, z], 1).softmax(1)[:, 1], z.sigmoid()[:, 0])


def test_inputs_are_handed_on_without_the_callers_graph():
    inputs = torch.rand(2, 3, requires_grad=True)
    given = network_input(nn.Linear(3, 1), inputs)
    assert torch.equal(given, inputs)
    assert not given.requires_grad
    given.zero_()  # as a first layer that works in place would
    assert inputs.all()


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (torch.zeros(1, 3, dtype=torch.uint8), TypeError, "to_input"),
        (torch.zeros(0, 3), ValueError, r"empty, of shape \(0, 3\)"),
        (torch.tensor([[0, torch.nan, 0]]), ValueError, "NaN"),
        (torch.tensor([[0, torch.inf, 0]]), ValueError, "infinity"),
        (torch.zeros(1, 3).half(), TypeError, r"torch.float16 and the network torch.float32: convert"),
        (torch.zeros(1, 3).double(), TypeError, "torch.float64"),
    ],
)
def test_inputs_that_no_network_can_take(inputs, error, message):
    with pytest.raises(error, match=message):
        network_input(nn.Linear(3, 1), inputs)


def test_precisions_may_differ_where_they_are_converted_anyway():
    with torch.autocast("cpu", torch.bfloat16):
        assert network_input(nn.Linear(3, 1), torch.zeros(1, 3).bfloat16()).dtype == torch.bfloat16
    mixed = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1).half())
    assert network_input(mixed, torch.zeros(1, 3)).dtype == torch.float32
    assert network_input(nn.ReLU(), torch.zeros(1, 3).half()).dtype == torch.float16


def test_a_compiled_network_and_its_device():
    net = nn.Sequential(nn.Linear(3, 1))
    assert uncompiled(torch.compile(net)) is net
    assert uncompiled(net) is net
    assert device_of(net.to("meta")).type == "meta"
    assert device_of(nn.ReLU()).type == "cpu"


def test_seeded_gives_what_manual_seed_does_and_leaves_every_generator_as_it_was(monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(5)
    after = torch.rand(1)
    assert reseeded == [3, 5], "torch.manual_seed seeds other devices too, which this test is about"
    reseeded.clear()
    torch.default_generator.manual_seed(5)
    with pytest.raises(KeyError), seeded(3):
        assert torch.equal(torch.rand(4), expected)
        raise KeyError
    assert torch.equal(torch.rand(1), after)
    assert not reseeded


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_at_least_float32(half):
    assert at_least_float32(torch.ones(2, dtype=half)).dtype == torch.float32
    for full in (torch.ones(2), torch.ones(2).double()):
        assert at_least_float32(full) is full
