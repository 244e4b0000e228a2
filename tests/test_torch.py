"""What torch does with any layer, done with a SparseLinear, beside dense operations; and the invariants of evolving.

The invariants are those of the peers' own tests (google-research/rigl, jaxpruner): see test_invariants_of_evolving.
"""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters
from torch.utils.checkpoint import checkpoint

from set_cli.sparse import SparseLinear
from tests.oracles import INSTALLED_ENGINES

Optimiser = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


def rows(count: int, features: int = 30, seed: int = 0) -> Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed))


def layer(seed: int = 0, **words: Any) -> SparseLinear:
    made = SparseLinear(30, 20, **{"epsilon": 4, "seed": seed, **words})
    if made.bias is not None:
        nn.init.normal_(made.bias)
    return made


def gradients(one: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for parameter in one.parameters()]


def assert_like_dense(one: SparseLinear, x: Tensor, dy: Tensor | None = None) -> None:
    """y and the gradients of x, weights and biases are those of the dense layer."""
    dense = one.to_dense()
    found, expected = x.detach().clone().requires_grad_(), x.detach().clone().requires_grad_()
    y, y_dense = one(found.as_strided(x.shape, found.stride())), dense(expected)
    dy = torch.ones_like(y_dense) if dy is None else dy
    one.zero_grad()
    y.backward(dy)
    y_dense.backward(dy)
    assert dense.weight.grad is not None
    torch.testing.assert_close(y, y_dense, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-4)
    at = dense.weight.grad.t().flatten()[torch.from_numpy(one.pattern.positions())]
    torch.testing.assert_close(one.weight.grad, at, rtol=1e-4, atol=1e-4)


OPTIMISERS: list[Optimiser] = [
    lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True, foreach=True),
    lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True, fused=True),
    lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    lambda p: torch.optim.NAdam(p, lr=0.01),
    lambda p: torch.optim.RAdam(p, lr=0.01),
    lambda p: torch.optim.Adamax(p, lr=0.01),
    lambda p: torch.optim.Adadelta(p, lr=0.1),
    lambda p: torch.optim.Adagrad(p, lr=0.01),
    lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    lambda p: torch.optim.ASGD(p, lr=0.01),
    lambda p: torch.optim.Rprop(p, lr=0.01),
    lambda p: torch.optim.Adafactor(p, lr=0.01),
]


@pytest.mark.parametrize("refill", [True, False])
@pytest.mark.parametrize("make", OPTIMISERS)
def test_every_state_of_every_optimiser_follows(make: Optimiser, refill: bool) -> None:
    one = layer()
    optimizer = make(list(one.parameters()))
    for number in range(6):
        optimizer.zero_grad()
        one(rows(8, seed=number)).square().sum().backward()
        optimizer.step()
        if number % 2:
            before = {k: v.clone() for k, v in optimizer.state[one.weight].items() if v.shape == one.weight.shape}
            change = one.evolve(0.3, optimizer=optimizer, seed=number, refill=refill)
            assert change is not None
            assert before
            is_new, source = change.source < 0, change.source.long()
            for name, value in before.items():
                after = optimizer.state[one.weight][name]
                assert torch.equal(after[~is_new], value[source[~is_new]])
                assert not after[is_new].any()


def test_optimisers_for_other_weights_refuse() -> None:
    one = layer()
    with pytest.raises(ValueError, match="Muon only supports 2D parameters"):
        torch.optim.Muon(one.parameters())
    one(rows(8)).sum().backward()
    with pytest.raises(RuntimeError, match="SparseAdam does not support dense gradients"):
        torch.optim.SparseAdam(one.parameters()).step()  # type: ignore[no-untyped-call]


SHAPES = [(5, 7), (7, 5), (1, 40), (40, 1), (16, 16), (3, 100), (64, 33)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_invariants_of_evolving(shape: tuple[int, int], density: float) -> None:
    for seed, zeta in enumerate((0.0, 0.1, 0.3, 0.5, 0.8, 0.99)):
        one = SparseLinear(*shape, density=density, seed=seed)
        optimizer = torch.optim.Adam(one.parameters(), lr=0.01)
        one(rows(4, shape[0])).square().sum().backward()
        optimizer.step()
        nn.init.normal_(one.weight, generator=torch.Generator().manual_seed(seed))
        names, at = ("exp_avg", "exp_avg_sq"), one.pattern.positions().tolist()
        columns = [one.weight.tolist(), *(optimizer.state[one.weight][name].tolist() for name in names)]
        before = dict(zip(at, zip(*columns, strict=True), strict=True))
        change = one.evolve(zeta, optimizer=optimizer, seed=seed)
        columns = [one.weight.tolist(), *(optimizer.state[one.weight][name].tolist() for name in names)]
        after = dict(zip(one.pattern.positions().tolist(), zip(*columns, strict=True), strict=True))
        assert len(after) == len(before) == one.nnz  # as many as before, none twice
        if change is None:
            assert one.density == 1
            continue
        if zeta == 0:
            assert after == before
        survivors = {cell for cell, source in zip(after, change.source.tolist(), strict=True) if source >= 0}
        assert len(survivors) == len(before) - change.pruned
        assert all(after[cell] == before[cell] for cell in survivors)
        assert all(after[cell] == (0, 0, 0) for cell in after.keys() - survivors)


def test_a_call_with_other_connections_leaves_the_layer_as_it_was() -> None:
    one, other = layer(), layer(1, epsilon=2)
    before, state = copy.deepcopy(one.state_dict()), other.state_dict()
    torch.testing.assert_close(functional_call(one, state, (rows(4),)), other(rows(4)))
    assert all(torch.equal(value, before[name]) for name, value in one.state_dict().items())
    assert_like_dense(one, rows(4))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_gradient_scaling(dtype: torch.dtype) -> None:
    model = nn.Sequential(layer(), nn.ReLU(), nn.Linear(20, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=256)
    with torch.autocast("cpu", dtype=dtype):
        y = model[0](rows(4).to(dtype))
        loss = model(rows(4)).float().square().mean()
    torch.testing.assert_close(y.float(), model[0](rows(4)), rtol=0.02, atol=0.05)
    scaler.scale(loss).backward()
    before = parameters_to_vector(model.parameters()).clone()
    scaler.step(optimizer)
    scaler.update()
    assert not torch.equal(parameters_to_vector(model.parameters()), before)


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
def test_types_of_weights_that_only_some_engines_take() -> None:
    assert_like_dense(layer().double(), rows(4).double())
    complex_layer = layer().to(torch.complex64)
    torch.testing.assert_close(
        complex_layer(rows(4).to(torch.complex64)), complex_layer.to_dense()(rows(4).to(torch.complex64))
    )
    if "native" in INSTALLED_ENGINES:
        with pytest.raises(ValueError, match="engine native: expected a dense float32 tensor"):
            layer(engine="native").double()(rows(4).double())


@pytest.mark.parametrize("engine", INSTALLED_ENGINES)
@pytest.mark.parametrize(
    "arrange",
    [
        lambda: rows(30, 6).t(),
        lambda: rows(12)[::2],
        lambda: rows(6, 60)[:, ::2],
        lambda: rows(1).expand(6, 30),
        lambda: rows(6, 30).flip(1),
        lambda: rows(30, 6).view(30, 2, 3).permute(2, 1, 0),
        lambda: torch.randn(2, 3, 2, 30, generator=torch.Generator().manual_seed(0)),
    ],
)
def test_rows_may_lie_anyhow_in_memory(engine: str, arrange: Callable[[], Tensor]) -> None:
    one, x = layer(engine=engine), arrange()
    dense = one.to_dense()
    torch.testing.assert_close(one(x), dense(x), rtol=1e-4, atol=1e-4)
    assert_like_dense(one, x.contiguous(), torch.tensor(0.5).expand(*x.shape[:-1], 20))


def test_copies_are_independent() -> None:
    one = layer()
    file = io.BytesIO()
    torch.save(one, file)
    file.seek(0)
    copies = [copy.deepcopy(one), pickle.loads(pickle.dumps(one)), torch.load(file, weights_only=False)]
    y = one(rows(4))
    one.evolve(0.3, seed=1, refill=False)
    for other in copies:
        assert torch.equal(other(rows(4)), y)
        other.evolve(0.3, seed=1, refill=False)
        assert torch.equal(other(rows(4)), one(rows(4)))


@pytest.mark.parametrize("words", [{}, {"assign": True}])
def test_state_dicts_fill_any_layer(words: dict[str, Any]) -> None:
    one = layer()
    one.evolve(0.3, seed=1, refill=False)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    empty = SparseLinear(30, 20, epsilon=4, seed=0, device="meta").to_empty(device="cpu")
    for other in (layer(3), empty):
        other.load_state_dict(state, strict=True, **words)
        assert torch.equal(other(rows(4)), one(rows(4)))
        assert_like_dense(other, rows(4))


def test_a_step_may_consist_of_several_forwards_and_backwards() -> None:
    one = layer()
    once = copy.deepcopy(one)
    loss = one(rows(4)).square().sum()
    loss.backward(retain_graph=True)
    loss.backward()
    (one(rows(4)).square().sum() + one(rows(4)).square().sum()).backward()
    once(rows(4)).square().sum().mul(4).backward()
    torch.testing.assert_close(gradients(one), gradients(once))
    norm = clip_grad_norm_(one.parameters(), 0.1)
    assert norm > 0.1
    vector_to_parameters(parameters_to_vector(one.parameters()), once.parameters())
    assert torch.equal(one(rows(4)), once(rows(4)))


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpointing_a_layer_that_occurs_twice(use_reentrant: bool) -> None:
    shared = SparseLinear(30, 30, epsilon=4, seed=0)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    x = rows(4).requires_grad_()
    found = []
    calls: list[Any] = [model, lambda x: checkpoint(model, x, use_reentrant=use_reentrant)]
    for call in calls:
        model.zero_grad()
        call(x).square().sum().backward()
        found.append(gradients(model))
    torch.testing.assert_close(found[0], found[1])


def test_frozen_layers_and_calls_without_gradients() -> None:
    one = layer().requires_grad_(False)
    x = rows(4).requires_grad_()
    one(x).sum().backward()
    assert x.grad is not None
    assert gradients(one) == [None, None]
    y = one(rows(4))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(one(rows(4)), y)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("engine", [name for name in INSTALLED_ENGINES if name != "masked"])
def test_what_is_not_finite_stays_in_its_row_and_reaches_connected_outputs_only(engine: str, value: float) -> None:
    one, x = layer(engine=engine), rows(4)
    expected = one(x)
    x[2, 5] = value
    y = one(x)
    connected = one.indices[one.indptr[5] : one.indptr[6]].long()
    is_same = torch.ones(4, 20, dtype=torch.bool)
    is_same[2, connected] = False
    assert torch.equal(y[is_same], expected[is_same])
    assert not y[2, connected].isfinite().any()


def test_indices_that_are_edited_in_place_are_noticed() -> None:
    one = layer()
    one(rows(4))
    start, end = (int(i) for i in one.indptr[:2])
    free = next(j for j in range(20) if j not in one.indices[start:end].tolist())
    one.indices[start:end] = one.indices[start:end].index_fill(0, torch.tensor([0]), free).sort().values
    assert_like_dense(one, rows(4))
    one.indices[start] = 20
    with pytest.raises(ValueError, match=r"expected indices in 0\.\.19, got 0\.\.20"):
        one(rows(4))


def test_hooks_are_called_before_and_after_another_number_of_connections() -> None:
    one, called = layer(), []
    one.register_forward_pre_hook(lambda *_: called.append("before"))
    one.register_forward_hook(lambda *_: called.append("after"))
    one.register_full_backward_hook(lambda *_: called.append("backward"))
    tensor: Any = one.weight
    tensor.register_hook(lambda gradient: called.append(f"tensor {len(gradient)}"))
    tensor.register_post_accumulate_grad_hook(lambda weight: called.append(f"accumulated {len(weight)}"))
    for number in range(2):
        called.clear()
        one(rows(4).requires_grad_()).sum().backward()
        names = {"before", "after", "backward", f"tensor {one.nnz}", f"accumulated {one.nnz}"}
        assert set(called) == names
        one.evolve(0.3, seed=number, refill=False)


def test_threads_may_use_a_layer_for_the_first_time_at_once() -> None:
    for seed in range(5):
        one = layer(seed)
        expected = copy.deepcopy(one)(rows(4))
        found: list[Tensor] = []
        threads = [threading.Thread(target=lambda one=one, found=found: found.append(one(rows(4)))) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        assert all(torch.equal(y, expected) for y in found)


def test_memory_can_be_shared_and_the_profiler_names_the_product() -> None:
    one = layer()
    y = one(rows(4))
    one.share_memory()
    assert torch.equal(one(rows(4)), y)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        one(rows(4))
    assert "SparseProduct" in {event.name for event in profile.events()}


def test_a_layer_of_sparselab_computes_the_same() -> None:
    sparselab = pytest.importorskip("sparselab", reason="the package sparselab is not installed")
    one = layer()
    theirs = sparselab.SparseLinear(30, 20, sparsity=0.5)
    csr = sparselab.PaddedCSR.from_dense(one.to_dense().weight.detach())
    theirs._csr, theirs._values = csr, nn.Parameter(torch.as_tensor(csr.values))
    with torch.no_grad():
        theirs.bias.copy_(one.bias)
    torch.testing.assert_close(theirs(rows(4)), one(rows(4)), rtol=1e-4, atol=1e-4)


def test_a_layer_is_made_where_the_default_device_has_no_numbers() -> None:
    """As transformers makes networks whose weights it is about to load."""
    with torch.device("meta"):
        layer = SparseLinear(20, 30, epsilon=4)
    assert layer.nnz > 0
