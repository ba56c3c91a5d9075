"""Hooks leave no trace, and captured activations are the true ones."""

import pytest
import torch
from torch import nn

from lessons_lib.models.small_cnn import BLOCKS
from lessons_lib.networks import capture, get_layer, hooked, layer_names, recording


def hook_count(model):
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()
    )


def state_of(model):
    return (
        [module.training for module in model.modules()],
        [parameter.grad.clone() for parameter in model.parameters()],
        hook_count(model),
    )


def assert_untouched(model, before):
    flags, gradients, hooks = state_of(model)
    assert flags == before[0]
    assert all(torch.equal(a, b) for a, b in zip(gradients, before[1], strict=True))
    assert hooks == before[2] == 0


def leave_normally(model):
    with recording(model, BLOCKS):
        assert not model.training
        assert hook_count(model) > 0
        model(torch.randn(2, 3, 32, 32))


def fail_in_the_body(model):
    with pytest.raises(RuntimeError, match="boom"), recording(model, BLOCKS):
        raise RuntimeError("boom")


def fail_in_the_forward_pass(model):
    with pytest.raises(ValueError, match="shape"), recording(model, BLOCKS):
        model(torch.randn(2, 3, 16, 16))


def fail_while_registering(model):
    with pytest.raises(ValueError, match="no layer"), recording(model, ["block1", "block9"]):
        pytest.fail("the block must not be entered")


def interrupt(model):
    with pytest.raises(KeyboardInterrupt), recording(model, BLOCKS):
        raise KeyboardInterrupt


def leave_inside_an_outer_block(model):
    with hooked(model, {"block1": lambda module, inputs, output: None}):
        outer = hook_count(model)
        leave_normally(model)
        assert hook_count(model) == outer
        assert not model.training


@pytest.mark.parametrize(
    "leave",
    [
        leave_normally,
        fail_in_the_body,
        fail_in_the_forward_pass,
        fail_while_registering,
        interrupt,
        leave_inside_an_outer_block,
    ],
)
def test_leak_matrix(model, leave):
    before = state_of(model)
    leave(model)
    assert_untouched(model, before)


def test_capture_equals_running_the_blocks_by_hand(model):
    inputs = torch.randn(5, 3, 32, 32)
    captured = capture(model, inputs, BLOCKS, batch_size=2)
    model.eval()
    features = inputs
    for name in BLOCKS:
        features = getattr(model, name)(features)
        torch.testing.assert_close(captured[name], features.detach(), atol=1e-5, rtol=1e-4)


def test_result_does_not_depend_on_batch_size(model):
    model.double()
    inputs = torch.randn(7, 3, 32, 32, dtype=torch.float64)
    one, all_at_once = capture(model, inputs, ["block5"], batch_size=1), capture(model, inputs, ["block5"])
    torch.testing.assert_close(one["block5"], all_at_once["block5"], atol=1e-12, rtol=1e-10)


def test_recording_is_safe_from_in_place_operations():
    model = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True))
    inputs = torch.tensor([[[[-1.0, 2.0]]]])
    captured = capture(model, inputs.clone(), ["0", "1"])
    assert captured["0"].flatten().tolist() == [-1, 2]
    assert captured["1"].flatten().tolist() == [0, 2]


def test_hook_can_replace_an_output(model):
    zeros = {"embedding": lambda module, inputs, output: torch.zeros_like(output)}
    with hooked(model, zeros), torch.no_grad():
        logits = model(torch.randn(1, 3, 32, 32))
    torch.testing.assert_close(logits[0], model.classifier.bias)


@pytest.mark.parametrize("frozen", [False, True])
def test_recording_in_the_graph_gives_true_gradients(model, frozen):
    model.double().requires_grad_(not frozen)
    before = state_of(model)
    inputs = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    layers = ["block2.conv", "block4.norm"]  # before the ReLU: after it, zeros tie in the pooling
    with recording(model, layers, graph=True) as outputs:
        total = model(inputs)[:, 3].sum()
        gradients = torch.autograd.grad(total, [outputs[name] for name in layers])
    assert_untouched(model, before)
    captured = capture(model, inputs, layers)
    step = 1e-8
    for name, gradient in zip(captured, gradients, strict=True):
        torch.testing.assert_close(outputs[name].detach(), captured[name])
        direction = torch.randn_like(captured[name])

        def moved(amount, values=captured[name], along=direction):
            return lambda module, given, output: values + amount * along

        totals = []
        for amount in (step, -step):
            with hooked(model, {name: moved(amount)}), torch.no_grad():
                totals.append(model(inputs)[:, 3].sum())
        slope = (totals[0] - totals[1]) / (2 * step)
        torch.testing.assert_close((gradient * direction).sum(), slope, atol=1e-6, rtol=1e-4)


def test_recording_in_the_graph_is_safe_from_in_place_operations():
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(inplace=True))
    with recording(model, ["0"], graph=True) as outputs:
        total = model(torch.tensor([[[[-1.0, 2.0]]]])).sum()
        before_relu = outputs["0"].detach().clone()
        (gradient,) = torch.autograd.grad(total, outputs["0"])
    assert before_relu.min() < 0, "one of two numbers of different sign stays below zero"
    assert torch.equal(gradient, (before_relu > 0).float())


class Reusing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.relu = nn.ReLU()
        self.unused = nn.ReLU()

    def forward(self, x):
        return self.relu(self.conv(self.relu(x)))


def test_a_layer_that_runs_twice_or_never_is_refused():
    model, inputs = Reusing(), torch.randn(1, 3, 4, 4)
    with pytest.raises(ValueError, match="ran 2 times"):
        capture(model, inputs, ["relu"])
    with pytest.raises(ValueError, match="did not run"):
        capture(model, inputs, ["unused"])
    assert hook_count(model) == 0


def test_a_layer_that_gives_no_tensor_is_refused():
    model = nn.Sequential(nn.LSTM(3, 4))
    with pytest.raises(TypeError, match="tuple"):
        capture(model, torch.randn(2, 5, 3), ["0"])


def test_unknown_layers_list_the_valid_ones(model):
    with pytest.raises(ValueError, match=r"Did you mean 'block4'.*block1, block1\.conv"):
        get_layer(model, "blok4")
    with pytest.raises(ValueError, match="no layer ''"):
        get_layer(model, "")
    assert get_layer(model, "block1.conv") is model.block1.conv
    assert "classifier" in layer_names(model)


@pytest.mark.parametrize(
    ("inputs", "error", "text"),
    [
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), TypeError, "to_input"),
        (torch.zeros(0, 3, 32, 32), ValueError, "empty"),
        (torch.full((1, 3, 32, 32), torch.nan), ValueError, "NaN"),
    ],
)
def test_bad_inputs(model, inputs, error, text):
    with pytest.raises(error, match=text):
        capture(model, inputs, ["block1"])
