"""Normalisation in the compiled kernels, against torch's own in double precision."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from set_cli import native
from set_cli.models.activations import Activation, LeakyReLU, ReLU, SReLU, srelu
from set_cli.models.normalization import BatchNorm, LayerNorm
from set_cli.models.stack import SparseSequential
from set_cli.sparse import SparseLinear

pytestmark = [
    pytest.mark.skipif(native.core is None, reason=f"no compiled kernels here: {native.missing}"),
    pytest.mark.usefixtures("two_threads"),
]
CPU = torch.device("cpu")
NORMS: dict[str, Callable[[int], BatchNorm | LayerNorm]] = {"batch": BatchNorm, "layer": LayerNorm}
ACTIVATIONS: dict[str, Callable[[int], Activation]] = {
    "relu": lambda neurons: ReLU(0.3, fused=True),
    "srelu": lambda neurons: SReLU(neurons, np.random.default_rng(3), 0.3, fused=True),
    "leaky": lambda neurons: LeakyReLU(neurons, 0.2, 0.3, fused=True),
}
SIZES = [(1, 33), (2, 1), (2, 100), (15, 1), (16, 7), (17, 32), (17, 64), (100, 33), (100, 100), (5000, 40)]


def layer_and_norm(norm: str, neurons: int, n_in: int = 12) -> SparseSequential:
    """A layer and its normalisation, whose scale and shift are no longer those of the beginning."""
    torch.manual_seed(4)
    own = NORMS[norm](neurons)
    nn.init.normal_(own.weight)
    nn.init.normal_(own.bias)
    layer = SparseLinear(n_in, neurons, epsilon=6, engine="native", seed=1)
    return SparseSequential(layer, own)


def product(layer: SparseLinear, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ W + bias in torch's dense operations."""
    positions = torch.from_numpy(layer.device_pattern().csr.positions())
    dense = weight.new_zeros(layer.in_features * layer.out_features).index_put((positions,), weight)
    return x @ dense.view(layer.in_features, layer.out_features) + bias


def in_double(network: SparseSequential, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], float]:
    """What a layer, its norm and its SReLU, if it has one, compute of x, in torch's operations.

    The output, the parameters, the averages afterwards, and the largest number that a deviation was multiplied by.
    """
    layer, norm, *activation = network
    assert isinstance(layer, SparseLinear)
    weight, bias, scale, shift, *slopes = (p.detach().double().requires_grad_() for p in network.parameters())
    z = product(layer, x, weight, bias)
    averages = [buffer.double() for buffer in norm.buffers()]
    if isinstance(norm, LayerNorm):
        variances = z.var(1, correction=0)
        y = F.layer_norm(z, z.shape[1:], scale, shift)
    else:
        by_batch = norm.training and len(x) > 1
        variances = z.var(0, correction=0) if by_batch else averages[1]
        mean, variance = averages
        y = F.batch_norm(z, mean, variance, scale, shift, by_batch)
    if activation:
        y = srelu(y, *slopes)
    return y, [weight, bias, scale, shift, *slopes], averages, (variances.min() + 1e-5).rsqrt().item()


def assert_close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    at_most = tolerance * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=at_most)


@pytest.mark.parametrize(("n_batch", "neurons"), SIZES)
@pytest.mark.parametrize("norm", [*NORMS, "averages"])
def test_values_gradients_and_moving_averages_are_torchs(simd: str, norm: str, n_batch: int, neurons: int) -> None:
    network = layer_and_norm("layer" if norm == "layer" else "batch", neurons)
    if norm == "averages":
        network(torch.randn(50, 12))
        network.eval()
    x = torch.randn(n_batch, 12, requires_grad=True)
    other = x.detach().double().requires_grad_()
    expected, parameters, averages, factor = in_double(network, other)
    found = network(x)
    assert found.grad_fn.name() == "StackBackward"
    tolerance = 1e-5 * max(1.0, factor)  # the rounding of a product is magnified by as much
    assert_close(found, expected, tolerance)
    for average, expected_average in zip(network[1].buffers(), averages, strict=True):
        assert_close(average, expected_average, 1e-5)
    dy = torch.randn(n_batch, neurons)
    gradients = torch.autograd.grad(found, [x, *network.parameters()], dy)
    of_torch = torch.autograd.grad(expected, [other, *parameters], dy.double())
    for own, gradient in zip(gradients, of_torch, strict=True):
        assert_close(own, gradient, tolerance * max(1.0, n_batch**0.5 / 2))  # of sums over so many rows


def test_a_mean_far_from_0_costs_no_digits(simd: str) -> None:
    """The variance of values around 1000 is that of the same values around 0, in each block of a sum."""
    x = torch.randn(300, 40)
    for norm in NORMS:
        network = layer_and_norm(norm, 70, n_in=40)
        with torch.no_grad():
            layer, (scale, shift) = network[0], network[1].parameters()
            list(layer.parameters())[1].fill_(1000.0)
            z = layer(x).double()
            over = 0 if norm == "batch" else 1
            centred = z - z.mean(over, keepdim=True)
            expected = centred / (z.var(over, keepdim=True, correction=0) + 1e-5).sqrt() * scale + shift
            torch.testing.assert_close(network(x).double(), expected, rtol=0, atol=2e-4)


def stack(norm: str, activation: str, widths: tuple[int, ...] = (30, 70, 45, 10)) -> SparseSequential:
    modules: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        modules.append(SparseLinear(n_in, n_out, epsilon=5, engine="native", seed=i))
        if i < len(widths) - 2:
            modules += [NORMS[norm](n_out), ACTIVATIONS[activation](n_out)]
    for i, module in enumerate(modules):
        if isinstance(module, Activation):
            module.reseed(i, CPU)
    return SparseSequential(*modules)


@pytest.mark.parametrize("ending", [0, 1, 2])  # the last layer, none, nor an activation
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_stack_is_its_modules_one_after_the_other(simd: str, norm: str, activation: str, ending: int) -> None:
    modules = list(stack(norm, activation))
    whole = SparseSequential(*modules[: len(modules) - ending])
    apart = nn.Sequential(*copy.deepcopy(whole))
    given = torch.randn(37, 30)
    inputs = [given.clone().requires_grad_(), given.clone().requires_grad_()]
    for _ in range(2):
        outputs = [model(x) for model, x in zip((whole, apart), inputs, strict=True)]
        assert outputs[0].grad_fn.name() == "StackBackward"
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
        dy = torch.randn_like(outputs[0])
        for output in outputs:
            output.backward(dy)
    for found, expected in zip([inputs[0], *whole.parameters()], [inputs[1], *apart.parameters()], strict=True):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-3, atol=1e-4)
    for buffer, expected in zip(whole.buffers(), apart.buffers(), strict=True):
        torch.testing.assert_close(buffer, expected)
    assert torch.equal(given, inputs[0])
    with torch.no_grad():
        torch.testing.assert_close(whole.eval()(given), apart.eval()(given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_results_do_not_depend_on_the_number_of_threads(simd: str, norm: str) -> None:
    results = []
    x = torch.randn(100, 30)
    for threads in (1, 2, 3, 2, 7):
        torch.set_num_threads(threads)
        model = stack(norm, "srelu", (30, 300, 170, 200, 10))
        y = model(x)
        y.square().sum().backward()
        results.append([y, *(p.grad for p in model.parameters()), *model.buffers()])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("evaluated", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_gradients_can_be_differentiated(norm: str, evaluated: bool) -> None:
    network = SparseSequential(*layer_and_norm(norm, 9), SReLU(9, np.random.default_rng(0), fused=True))
    network(torch.randn(50, 12))
    network.train(not evaluated)
    x = torch.randn(7, 12, requires_grad=True)
    other = x.detach().double().requires_grad_()
    expected, parameters, *_ = in_double(network, other)
    found = []
    for y, inputs in ((network(x), [x, *network.parameters()]), (expected, [other, *parameters])):
        first = torch.autograd.grad(y.pow(2).sum(), inputs, create_graph=True)
        penalty = torch.stack([gradient.square().sum() for gradient in first]).sum()
        found.append([*first, *torch.autograd.grad(penalty, inputs, materialize_grads=True)])
    for own, of_torch in zip(*found, strict=True):
        assert_close(own, of_torch, 1e-4)


def test_averages_that_changed_since_the_forward_are_noticed() -> None:
    network = layer_and_norm("batch", 9).eval()
    y = network(torch.randn(7, 12))
    list(network.buffers())[1].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_norm_of_another_width_is_refused() -> None:
    network = SparseSequential(SparseLinear(12, 9, epsilon=6, engine="native"), BatchNorm(8))
    with pytest.raises(ValueError, match=r"expected 9 biases and parameters of norm and activation, got shape \(8,\)"):
        network(torch.randn(7, 12))


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_no_number_stays_none(simd: str, norm: str) -> None:
    network = layer_and_norm(norm, 40)
    x = torch.randn(20, 12)
    x[3] = float("nan")
    bad = network(x).isnan()
    assert bad[3].all()
    assert bad.all() == (norm == "batch")


def test_a_norm_with_a_hook_runs_by_itself() -> None:
    network, seen = layer_and_norm("batch", 9), []
    network[1].register_forward_hook(lambda module, args, output: seen.append(output))
    x = torch.randn(7, 12)
    found = network(x)
    assert torch.equal(seen[0], found)
    torch.testing.assert_close(found, copy.deepcopy(layer_and_norm("batch", 9))(x), rtol=1e-4, atol=1e-5)
