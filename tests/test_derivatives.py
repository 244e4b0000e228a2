"""Derivatives of derivatives, and torch.func's transforms, beside dense operations that compute the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, vmap

from set_cli import native
from set_cli.models.activations import Activation, ReLU, SReLU, unfused
from set_cli.models.stack import BatchContiguousLinear, SparseSequential
from set_cli.sparse import SparseLinear

# torch's own forward mode still uses what it warns of.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

Weights = Mapping[str, Tensor]
compiled = pytest.mark.skipif(native.core is None, reason="the compiled kernels are not here")
ENGINES = [pytest.param("native", marks=compiled), "torch", "masked"]


def rows(n: int, features: int, seed: int = 0) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed))


def dense(layer: SparseLinear, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The layer's product by torch's dense operations."""
    inputs = torch.arange(layer.in_features).repeat_interleave(layer.indptr.long().diff())
    full = x.new_zeros(layer.in_features, layer.out_features).index_put((inputs, layer.indices.long()), weight)
    return x @ full + bias


def sparse_layer(engine: str) -> SparseLinear:
    layer = SparseLinear(12, 9, epsilon=3, engine=engine, seed=0)
    nn.init.normal_(layer.weight)
    return layer


def energies(layer: SparseLinear) -> tuple[Callable[[Weights, Tensor], Tensor], Callable[[Weights, Tensor], Tensor]]:
    """The same function of weights and rows, by the layer and by dense operations."""
    return (
        lambda weights, x: functional_call(layer, dict(weights), (x,)).pow(3).sum(),
        lambda weights, x: dense(layer, x, weights["weight"], weights["bias"]).pow(3).sum(),
    )


def assert_equal(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_products_with_the_hessian_are_those_of_dense_operations(engine: str) -> None:
    layer, x = sparse_layer(engine), rows(5, 12)
    weights = dict(layer.named_parameters())
    ours, oracle = ([lambda a, f=f: f(weights, a)] for f in energies(layer))
    products: list[Callable[..., tuple[Tensor, Tensor]]] = [
        torch.autograd.functional.hvp,
        torch.autograd.functional.vhp,
    ]
    for product in products:
        assert_equal(product(ours[0], x, rows(5, 12, 1))[1], product(oracle[0], x, rows(5, 12, 1))[1])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("wide", [False, True])
def test_a_gradient_penalty_has_the_gradient_of_dense_operations(engine: str, wide: bool) -> None:
    layer = sparse_layer(engine)
    x = rows(20 if wide else 5, 12).requires_grad_()
    found = []
    for energy in energies(layer):
        (dx,) = torch.autograd.grad(energy(dict(layer.named_parameters()), x), x, create_graph=True)
        penalty = (dx.norm(dim=1) - 1).square().sum()
        found.append(torch.autograd.grad(penalty, [x, *layer.parameters()], materialize_grads=True))
    assert_equal(*found)


@pytest.mark.parametrize("engine", ["torch", "masked"])
def test_derivatives_of_first_and_second_order_are_those_of_finite_differences(engine: str) -> None:
    layer = sparse_layer(engine).double()

    def call(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y: Tensor = functional_call(layer, {"weight": weight, "bias": bias}, (x,))
        return y

    inputs = (rows(4, 12).double().requires_grad_(), *layer.parameters())
    assert gradcheck(call, inputs, check_forward_ad=True)
    assert gradgradcheck(call, inputs)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("transform", [jacrev, jacfwd, hessian])
def test_transforms_of_rows(engine: str, transform: Callable[..., Callable[[Tensor], Tensor]]) -> None:
    layer, x = sparse_layer(engine), rows(3, 12)
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    assert_equal(*(transform(lambda a, f=f: f(weights, a))(x) for f in energies(layer)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("each", ["rows", "weights", "both"])
def test_gradients_of_each_example_and_of_each_member_of_an_ensemble(engine: str, each: str) -> None:
    layer, x = sparse_layer(engine), rows(4, 12)
    weights = {name: value.detach() for name, value in layer.named_parameters()}
    dims = {"rows": (None, 0), "weights": (0, None), "both": (0, 0)}[each]
    if dims[0] == 0:
        weights = {name: torch.stack([value, 2 * value, -value, value + 1]) for name, value in weights.items()}
    assert_equal(*(vmap(grad(f, argnums=(0, 1)), in_dims=dims)(weights, x) for f in energies(layer)))
    values = [vmap(f, in_dims=dims)(weights, x) for f in energies(layer)]
    assert_equal(*values)


def network(activation: str, dropout: float) -> SparseSequential:
    rng = np.random.default_rng(0)

    def behind(neurons: int) -> Activation:
        return ReLU(dropout, fused=True) if activation == "relu" else SReLU(neurons, rng, dropout, fused=True)

    model = SparseSequential(
        SparseLinear(12, 20, epsilon=3, seed=0),
        behind(20),
        SparseLinear(20, 16, epsilon=3, seed=1),
        behind(16),
        BatchContiguousLinear(16, 5),
    )
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # of 0 would lie in ReLU's kink where dropout leaves no input
            nn.init.normal_(parameter)
    for module in model.modules():
        if isinstance(module, Activation):
            module.reseed(3, torch.device("cpu"))
    return model


def one_after_the_other(model: SparseSequential, x: Tensor) -> Tensor:
    """What the network computes, in dense operations, with the dropout masks of its first forward."""
    for module in model:
        if isinstance(module, SparseLinear):
            assert module.bias is not None
            x = dense(module, x, module.weight, module.bias)
        elif isinstance(module, Activation):
            module.reseed(3, torch.device("cpu"))
            x = unfused(x, module.draw(), module.row_parameters)
        else:
            x = module(x)
    return x


@compiled
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("activation", ["relu", "srelu"])
def test_a_whole_network_can_be_differentiated_twice(activation: str, dropout: float) -> None:
    model = network(activation, dropout)
    x = rows(7, 12).requires_grad_()
    parameters = [x, *model.parameters()]
    found = []
    for y in (model(x), one_after_the_other(model, x)):
        first = torch.autograd.grad(y.pow(2).sum(), parameters, create_graph=True)
        penalty = torch.stack([gradient.square().sum() for gradient in first]).sum()
        found.append([*first, *torch.autograd.grad(penalty, parameters, materialize_grads=True)])
    assert_equal(*found)


@compiled
def test_gradients_of_each_example_of_a_whole_network_add_up_to_the_batchs() -> None:
    model = network("srelu", 0.0)
    weights = {name: value.detach() for name, value in model.named_parameters()}

    def energy(weights: Weights, x: Tensor) -> Tensor:
        y: Tensor = functional_call(model, dict(weights), (x,))
        return y.pow(2).sum()

    each = vmap(grad(energy), in_dims=(None, 0))(weights, rows(6, 12).unsqueeze(1))
    energy(dict(model.named_parameters()), rows(6, 12)).backward()  # type: ignore[no-untyped-call]
    assert_equal(
        {name: value.sum(dim=0) for name, value in each.items()},
        {name: parameter.grad for name, parameter in model.named_parameters()},
    )
