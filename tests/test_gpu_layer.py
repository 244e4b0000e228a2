"""A sparse layer in anyone's network on a GPU: derivatives, half precision, conversions, optimisers, evolution."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap
from torch.optim.swa_utils import AveragedModel

from set_cli.sparse import Evolution, SparseLinear, densify, sparsify
from set_cli.sparse.age import BORN
from tests.oracles import INSTALLED_ENGINES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS:UserWarning"),
    # torch's own forward mode still uses what it warns of.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
]
ON_GPU = sorted({*INSTALLED_ENGINES} - {"native"})
Function = Callable[[dict[str, Tensor], Tensor], Tensor]
HALF = (torch.bfloat16, torch.float16)


def rows(n: int, features: int, seed: int = 0) -> Tensor:
    return torch.randn(n, features, generator=torch.Generator().manual_seed(seed)).cuda()


def dense(layer: SparseLinear, x: Tensor, weights: dict[str, Tensor]) -> Tensor:
    """The layer's product by torch's dense operations."""
    inputs = torch.arange(layer.in_features, device=x.device).repeat_interleave(layer.indptr.long().diff())
    full = x.new_zeros(layer.in_features, layer.out_features)
    return x @ full.index_put((inputs, layer.indices.long()), weights["weight"]) + weights["bias"]


@pytest.mark.parametrize("engine", ON_GPU)
def test_derivatives_of_any_order_are_those_of_dense_operations(engine: str) -> None:
    layer, x = SparseLinear(40, 30, epsilon=3, engine=engine, seed=0, device="cuda"), rows(8, 40)
    nn.init.normal_(layer.weight)
    weights = {name: value.detach() for name, value in layer.named_parameters()}

    def ours(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = functional_call(layer, weights, (x,))
        return y.pow(3).mean()

    def oracle(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return dense(layer, x, weights).pow(3).mean()

    def hessian_product(f: Function) -> Tensor:
        found: Tensor = jvp(lambda a: grad(f, argnums=1)(weights, a), (x,), (rows(8, 40, 1),))[1]
        return found

    torch.testing.assert_close(hessian_product(ours), hessian_product(oracle), rtol=2e-3, atol=1e-3)
    found, expected = (grad(f)(weights, x) for f in (ours, oracle))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-3)
    found, expected = (vmap(grad(f), in_dims=(None, 0))(weights, x[:, None]) for f in (ours, oracle))
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("engine", ON_GPU)
def test_a_gradient_penalty_trains_as_with_dense_operations(engine: str) -> None:
    layer, x = SparseLinear(40, 30, epsilon=3, engine=engine, seed=0, device="cuda"), rows(8, 40).requires_grad_()
    gradients = []
    for forward in (layer, lambda x: dense(layer, x, dict(layer.named_parameters()))):
        slopes = torch.autograd.grad(forward(x).square().sum(), x, create_graph=True)[0]
        gradients.append(torch.autograd.grad((slopes.norm(dim=1) - 1).square().mean(), layer.weight)[0])
    torch.testing.assert_close(*gradients, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", HALF)
def test_a_layer_of_half_precision_is_close_to_one_of_float32(dtype: torch.dtype) -> None:
    layer, x = SparseLinear(300, 200, density=0.05, seed=0, device="cuda"), rows(64, 300)
    half = copy.deepcopy(layer).to(dtype)
    expected = layer(x)
    for found in (half(x.to(dtype)), autocast(layer, x, dtype)):
        torch.testing.assert_close(found.float(), expected, rtol=0.03, atol=0.03)
        found.float().sum().backward()
    assert half.weight.grad is not None
    assert layer.weight.grad is not None
    torch.testing.assert_close(half.weight.grad.float(), layer.weight.grad.float(), rtol=0.05, atol=0.3)


def autocast(layer: SparseLinear, x: Tensor, dtype: torch.dtype) -> Tensor:
    with torch.autocast("cuda", dtype=dtype):
        y: Tensor = layer(x)
    return y


def test_a_network_is_made_sparse_and_dense_again_where_it_is() -> None:
    model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 10)).cuda()
    x = rows(16, 300)
    sparsify(model, density=0.1)
    sparse = [module for module in model if isinstance(module, SparseLinear)]
    assert [layer.weight.device.type for layer in sparse] == ["cuda", "cuda"]
    assert [layer.nnz for layer in sparse] == [6000, 200]
    before, again = model(x), copy.deepcopy(model)
    densify(again)
    assert all(p.is_cuda for p in again.parameters())
    torch.testing.assert_close(again(x), before, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        x.cpu().numpy() @ sparse[0].to_scipy() + sparse[0].bias.detach().cpu().numpy(),  # type: ignore[union-attr]
        sparse[0](x).detach().cpu().numpy(), rtol=1e-3, atol=1e-3,
    )  # fmt: skip


OPTIMISERS: dict[str, Any] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.003),
    "AdamW, capturable": lambda p: torch.optim.AdamW(p, lr=0.003, capturable=True),
    "AdamW, fused": lambda p: torch.optim.AdamW(p, lr=0.003, fused=True),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_network_learns_while_it_evolves_and_its_average_follows(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(SparseLinear(64, 256, density=0.1, seed=0), nn.ReLU(), nn.Linear(256, 4)).cuda()
    layer: Any = model[0]
    average: Any = AveragedModel(model)
    optimizer = OPTIMISERS[name](model.parameters())
    by_age: dict[str, Any] = {"bias_correction": "age"} if name.startswith("Adam") else {}
    evolution = Evolution(model, optimizer, zeta=0.2, every=20, followers=[average], seed=0, **by_age)
    x, truth = rows(2048, 64), rows(64, 4, 1)
    y = (x @ truth).argmax(dim=1)
    losses = []
    for number in range(200):
        some = slice(number % 16 * 128, number % 16 * 128 + 128)
        loss = nn.functional.cross_entropy(model(x[some]), y[some])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.detach())
        evolution.step()
    first, last = (float(torch.stack(part).mean()) for part in (losses[:10], losses[-10:]))
    assert last < 0.5 * first
    state = optimizer.state[layer.weight]
    assert all(value.shape == layer.weight.shape for value in state.values() if torch.is_tensor(value) and value.ndim)
    assert (BORN in state) == bool(by_age)
    assert torch.equal(average.module[0].indices, layer.indices)
    torch.testing.assert_close(
        average(x).argmax(dim=1).float().mean(), model(x).argmax(dim=1).float().mean(), atol=0.2, rtol=0
    )


def test_a_resumed_training_has_the_connections_of_an_unbroken_one() -> None:
    layer = SparseLinear(64, 64, density=0.1, seed=0, device="cuda")
    other = SparseLinear(64, 64, density=0.2, seed=5, device="cuda")
    layer.evolve(0.3, seed=1)
    other.load_state_dict({name: value.cpu() for name, value in layer.state_dict().items()})
    for each in (layer, other):
        each.evolve(0.3, seed=2)
    assert other.weight.is_cuda
    assert torch.equal(layer.indices, other.indices)
    assert torch.equal(layer.weight, other.weight)
