"""A SparseLinear in other people's code: what evolves with it, and what is refused because it cannot."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel

from set_cli.sparse import SparseLinear
from tests.oracles import INSTALLED_ENGINES


def layer(seed: int = 0) -> SparseLinear:
    made = SparseLinear(30, 20, epsilon=4, seed=seed)
    nn.init.normal_(made.weight)
    return made


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrized() -> SparseLinear:
    made = layer()
    parametrize.register_parametrization(made, "weight", Twice())
    return made


def pruned() -> SparseLinear:
    made = layer()
    prune.l1_unstructured(made, "weight", 0.5)  # type: ignore[no-untyped-call]
    return made


def normed() -> SparseLinear:
    made = layer()
    parametrizations.weight_norm(made, dim=None)  # type: ignore[arg-type]
    return made


@pytest.mark.parametrize("made", [parametrized, pruned, normed])
def test_a_weight_that_is_computed_from_others_is_not_evolved(made: Callable[[], SparseLinear]) -> None:
    one = made()
    before = one.indices.clone()
    with pytest.raises(ValueError, match=r"found it computed from others \(torch\.nn\.utils\.parametrize"):
        one.evolve(0.3, seed=0)
    assert torch.equal(one.indices, before)


def test_an_optimiser_that_does_not_train_the_layer_is_refused() -> None:
    one = layer()
    other = torch.optim.Adam(layer(1).parameters())
    with pytest.raises(ValueError, match="its weight is in none of the parameter groups"):
        one.evolve(0.3, optimizer=other, seed=0)
    own = torch.optim.Adam(one.parameters())
    one.load_state_dict(layer(1).state_dict(), assign=True)
    with pytest.raises(ValueError, match="its weight is in none of the parameter groups"):
        one.evolve(0.3, optimizer=own, seed=0)


def test_what_is_no_optimiser_is_refused() -> None:
    one = layer()
    scheduler = torch.optim.lr_scheduler.StepLR(torch.optim.SGD(one.parameters(), lr=0.1), 1)
    with pytest.raises(ValueError, match="expected a torch optimiser, got StepLR"):
        one.evolve(0.3, optimizer=scheduler, seed=0)  # type: ignore[arg-type]


def full(one: SparseLinear) -> Tensor:
    """(n_in, n_out) weights, NaN where there is no connection."""
    inputs = torch.arange(one.in_features).repeat_interleave(one.indptr.long().diff())
    matrix = torch.full((one.in_features, one.out_features), torch.nan)
    matrix[inputs, one.indices.long()] = one.weight.detach()
    return matrix


@pytest.mark.parametrize("refill", [True, False])
@pytest.mark.parametrize("like", [True, False])
def test_an_average_follows_an_evolution(refill: bool, like: bool) -> None:
    one = layer()
    average = AveragedModel(one)
    average.update_parameters(one)
    with torch.no_grad():
        one.weight.mul_(3)
    average.update_parameters(one)
    copied = average.module
    assert isinstance(copied, SparseLinear)
    before = full(copied)
    change = one.evolve(0.3, seed=1, refill=refill, regrow_init="random")
    assert change is not None
    copied.follow(change, one if like else None)
    after, live = full(copied), full(one)
    assert torch.equal(after.isnan(), live.isnan())
    is_new = torch.zeros_like(after, dtype=torch.bool)
    inputs = torch.arange(30).repeat_interleave(one.indptr.long().diff())
    is_new[inputs, one.indices.long()] = change.source < 0
    kept = ~after.isnan() & ~is_new
    assert kept.sum() == one.nnz - change.regrown
    assert torch.equal(after[kept], before[kept])
    assert torch.equal(after[is_new], live[is_new] if like else torch.zeros(change.regrown))
    average.update_parameters(one)  # the next average is one of equal connections
    torch.testing.assert_close(full(copied)[kept], ((2 * before + live) / 3)[kept])
    x = torch.ones(2, 30)
    torch.testing.assert_close(average(x), x @ full(copied).nan_to_num())


def test_a_layer_that_is_no_copy_does_not_follow() -> None:
    one, copied = layer(), copy.deepcopy(layer())
    change = one.evolve(0.3, seed=1, refill=False)
    assert change is not None
    copied.follow(change)
    with pytest.raises(ValueError, match=r"expected a layer \(30, 20\) with the \d+ connections from before"):
        copied.follow(change)  # a second time


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_on_the_cpu(dtype: torch.dtype) -> None:
    one = layer()
    x = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    expected = one(x)
    half = copy.deepcopy(one).to(dtype)
    found = half(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.1)
    found.sum().backward()
    assert half.weight.grad is not None
    assert half.weight.grad.dtype == dtype
    assert half.evolve(0.3, seed=0) is not None


def other_connections(one: SparseLinear) -> SparseLinear:
    """As many connections, most of them elsewhere."""
    other = copy.deepcopy(one)
    assert other.evolve(0.6, seed=7) is not None
    nn.init.normal_(other.weight)
    return other


def cells(one: SparseLinear) -> list[int]:
    return [int(cell) for cell in one.pattern.positions()]


def steps(one: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
    for number in range(count):
        x = torch.randn(8, 30, generator=torch.Generator().manual_seed(number))

        def closure(x: Tensor = x) -> float:
            optimizer.zero_grad()
            loss = one(x).square().sum()
            loss.backward()
            return loss.item()  # type: ignore[no-any-return]

        optimizer.step(closure)


@pytest.mark.parametrize("same_number", [True, False])
def test_the_state_of_a_live_optimiser_follows_load_state_dict(same_number: bool) -> None:
    one = layer()
    optimizer = torch.optim.Adam(one.parameters())
    steps(one, optimizer)
    before = dict(zip(cells(one), optimizer.state[one.weight]["exp_avg"].tolist(), strict=True))
    other = other_connections(one)
    if not same_number:
        other.evolve(0.3, seed=8, refill=False)
    one.load_state_dict(other.state_dict())
    assert (len(before) == one.nnz) == same_number
    moments = dict(zip(cells(one), optimizer.state[one.weight]["exp_avg"].tolist(), strict=True))
    assert moments == {cell: before.get(cell, 0.0) for cell in cells(other)}
    assert 0 < sum(map(bool, moments.values())) < one.nnz
    steps(one, optimizer)


@pytest.mark.parametrize("model_first", [True, False])
def test_an_optimisers_own_state_dict_is_taken_as_it_is(model_first: bool) -> None:
    one = layer()
    other = other_connections(one)
    optimizer, of_other = torch.optim.Adam(one.parameters()), torch.optim.Adam(other.parameters())
    steps(one, optimizer)
    steps(other, of_other)
    saved, state = copy.deepcopy(other.state_dict()), copy.deepcopy(of_other.state_dict())
    if model_first:
        one.load_state_dict(saved)
        optimizer.load_state_dict(state)
    else:
        optimizer.load_state_dict(state)
        one.load_state_dict(saved)
    assert torch.equal(optimizer.state[one.weight]["exp_avg"], of_other.state[other.weight]["exp_avg"])
    steps(one, optimizer)
    steps(other, of_other)
    assert torch.equal(one.weight, other.weight)


def test_the_same_connections_again_leave_an_optimiser_as_it_is() -> None:
    one = layer()
    optimizer = torch.optim.LBFGS(one.parameters(), max_iter=2)
    steps(one, optimizer)
    history = optimizer.state[next(iter(optimizer.state))]["old_dirs"]
    one.load_state_dict(copy.deepcopy(one.state_dict()))
    assert optimizer.state[next(iter(optimizer.state))]["old_dirs"] is history


@pytest.mark.parametrize("loaded", [True, False])
def test_an_optimiser_that_is_not_named_follows_an_evolution(loaded: bool) -> None:
    one = layer()
    optimizer = torch.optim.Adam(one.parameters())
    steps(one, optimizer)
    if loaded:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    before = optimizer.state[one.weight]["exp_avg"].clone()
    change = one.evolve(0.3, seed=1, refill=False)
    assert change is not None
    assert torch.equal(optimizer.state[one.weight]["exp_avg"], before[change.source.long()])
    steps(one, optimizer)


@pytest.mark.parametrize("refill", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_lbfgs_starts_anew_after_an_evolution(refill: bool, named: bool) -> None:
    model = nn.Sequential(nn.Linear(30, 30), layer())
    one = model[1]
    assert isinstance(one, SparseLinear)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    steps(model, optimizer)
    one.evolve(0.3, optimizer=optimizer if named else None, seed=1, refill=refill)
    fresh_model = copy.deepcopy(model)
    steps(model, optimizer)
    steps(fresh_model, torch.optim.LBFGS(fresh_model.parameters(), lr=0.1, max_iter=4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), fresh_model.parameters(), strict=True))


class Preconditioned(torch.optim.SGD):
    """Keeps a matrix for each parameter, as Shampoo does."""

    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter].setdefault("matrix", torch.eye(parameter.numel()))
        super().step(closure)


def test_state_that_cannot_follow_is_dropped() -> None:
    one = layer()
    optimizer = Preconditioned(one.parameters(), lr=0.1)
    steps(one, optimizer)
    assert one.bias is not None
    one.evolve(0.3, optimizer=optimizer, seed=1)
    assert not optimizer.state[one.weight]
    assert "matrix" in optimizer.state[one.bias]


def test_a_weight_that_two_layers_share_is_not_evolved() -> None:
    model = nn.ModuleList([layer(), layer()])
    model[1].weight = model[0].weight
    copied = copy.deepcopy(model)
    for shared in (model[0], copied[1]):
        assert isinstance(shared, SparseLinear)
        before = shared.indices.clone()
        with pytest.raises(ValueError, match="found it in another SparseLinear, whose connections would no longer"):
            shared.evolve(0.3, seed=0)
        assert torch.equal(shared.indices, before)


def test_a_layer_evolves_and_loads_under_inference_mode() -> None:
    one, other = layer(), other_connections(layer())
    with torch.inference_mode():
        one.load_state_dict(other.state_dict())
        change = one.evolve(0.3, seed=1)
        assert change is not None
        other.follow(change)
    optimizer = torch.optim.Adam([*one.parameters(), *other.parameters()])
    steps(nn.Sequential(one, nn.Linear(20, 30), other), optimizer)
    with torch.inference_mode():
        of_inference = layer()
    with pytest.raises(ValueError, match=r"expected a layer made outside of torch\.inference_mode"):
        of_inference.evolve(0.3, seed=1)


def nested(layout: torch.layout) -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2, 30), torch.ones(3, 30)], layout=layout)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: torch.tensor(1.0), r"a tensor of shape \(\)"),
        (lambda: torch.eye(30).to_sparse(), r"a tensor of layout torch\.sparse_coo; `to_dense\(\)` makes a dense one"),
        (lambda: torch.eye(30).to_sparse_csc(), r"a tensor of layout torch\.sparse_csc"),
        (lambda: nested(torch.strided), "a nested tensor"),
        (lambda: nested(torch.jagged), "a nested tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore:Sparse CS. tensor support", "ignore:The PyTorch API of nested tensors")
def test_rows_that_are_not_dense_are_refused(make: Callable[[], Tensor], found: str) -> None:
    with pytest.raises(ValueError, match=f"expected 30 features, got {found}"):
        layer()(make())


@pytest.mark.parametrize("engine", INSTALLED_ENGINES)
def test_weights_and_biases_need_not_be_contiguous(engine: str) -> None:
    one = SparseLinear(30, 20, epsilon=4, engine=engine, seed=0)
    x = torch.randn(5, 30, generator=torch.Generator().manual_seed(0)).requires_grad_()
    constant = {"weight": torch.tensor(0.5).expand(one.nnz), "bias": torch.tensor(0.1).expand(20)}
    dense = torch.zeros(600).index_fill(0, torch.tensor(cells(one)), 0.5).view(30, 20)
    torch.testing.assert_close(functional_call(one, constant, (x,)), x @ dense + 0.1)
    (dw,) = torch.autograd.grad(one(x).sum(), one.weight, create_graph=True)
    (dx,) = torch.autograd.grad(dw.sum(), x)  # of which the gradient of dw is an expanded 1
    torch.testing.assert_close(dx, (2 * dense).sum(dim=1).expand(5, -1))
