"""The compiled kernels: every instruction set against the float64 oracle, bits, masks, and the boundary to Python."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from set_cli import native
from set_cli.models.activations import Activation, ReLU, SReLU
from set_cli.models.stack import BatchContiguousLinear, SparseSequential
from set_cli.native import records, to_columns, units
from set_cli.native.elementwise import Draws, activate
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import CROSSOVER, choose, compiled
from set_cli.sparse.pattern import Csr
from set_cli.training.loss import cross_entropy
from set_cli.training.optimizer import MomentumSGD
from tests.builders import device_pattern, pattern_with_special_rows
from tests.conftest import run_python
from tests.oracles import dense_weight, philox_words, random_pattern, tolerance

core = native.core
pytestmark = [
    pytest.mark.skipif(core is None, reason=f"no compiled kernels here: {native.missing}"),
    pytest.mark.usefixtures("two_threads"),
]
CPU = torch.device("cpu")


@pytest.mark.parametrize("n_batch", [0, 1, 2, 15, 16, 17, 31, 33, 64, 100, 127, 128, 129, 300])
def test_products_match_the_oracle_for_every_batch(simd: str, n_batch: int) -> None:
    rng = np.random.default_rng(n_batch)
    pattern = pattern_with_special_rows(23, 19, rng)
    weights = rng.standard_normal(pattern.nnz).astype(np.float32)
    bias = rng.standard_normal(19).astype(np.float32)
    x, dy = (rng.standard_normal((n_batch, n)).astype(np.float32) for n in pattern.shape)
    w, b, xs, dys = map(torch.from_numpy, (weights, bias, x, dy))
    dense, on = dense_weight(pattern, weights), device_pattern(pattern)
    expected_dw = (x.T.astype(float) @ dy).reshape(-1)[pattern.positions()]
    dx, dw, db = compiled.gradients(xs, dys, w, on)
    assert dx is not None
    for found, expected, terms in (
        (compiled.spmm(xs, w, b, on), x @ dense + bias, 23),
        (compiled.spmm(xs, w, None, on), x @ dense, 23),
        (compiled.spmm_t(dys, w, on), dy @ dense.T, 19),
        (compiled.sddmm(xs, dys, on), expected_dw, n_batch),
        (dx, dy @ dense.T, 19),
        (dw, expected_dw, n_batch),
        (db, dy.sum(axis=0), n_batch),
    ):
        assert found.shape == expected.shape
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=tolerance(terms, 16.0))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x,
        lambda x: x.t().contiguous().t(),
        lambda x: torch.cat([x, x], dim=1)[:, : x.shape[1]],
        lambda x: torch.cat([x.t(), torch.full_like(x.t(), torch.nan)], dim=1)[:, : len(x)].t(),
        lambda x: x.repeat_interleave(2, dim=0)[::2],
        lambda x: x[:1].expand(len(x), -1),
    ],
    ids=["rows", "columns", "rows of a wider", "columns with NaN behind them", "every second", "expanded"],
)
def test_any_strides_give_the_same(simd: str, spoil: Callable[[Tensor], Tensor]) -> None:
    rng = np.random.default_rng(0)
    on = device_pattern(random_pattern(9, 7, 30, rng))
    w, x = torch.randn(30), torch.randn(13, 9)
    spoilt = spoil(x)
    plain = spoilt.clone(memory_format=torch.contiguous_format)
    assert torch.equal(compiled.spmm(spoilt, w, None, on), compiled.spmm(plain, w, None, on))
    dy = torch.randn(13, 7)
    assert torch.equal(compiled.sddmm(spoilt, dy, on), compiled.sddmm(plain, dy, on))
    assert torch.isfinite(compiled.sddmm(spoilt, dy, on)).all()


@pytest.mark.parametrize("n_batch", [128, 150])
def test_blocks_of_a_large_matrix_add_up_in_the_order_of_a_single_walk(simd: str, n_batch: int) -> None:
    """So many neighbours that 128 columns of them do not fit into L2, while 4 columns of them do."""
    neighbours, rows, few = 20_000, 20, 4
    rng = np.random.default_rng(0)
    wide = random_pattern(rows, neighbours, 40_000, rng)
    on = device_pattern(wide)
    back = device_pattern(wide.transposed_order()[0])
    weights = torch.randn(40_000)
    x, dy = torch.randn(n_batch, rows), torch.randn(n_batch, neighbours)
    dx, dw, _ = compiled.gradients(x, dy, weights, on)
    assert dx is not None
    y = compiled.spmm(dy, weights, torch.ones(rows), back)
    first_dx, _, _ = compiled.gradients(x[:few], dy[:few], weights, on)
    assert first_dx is not None
    assert torch.equal(dx[:few], first_dx)
    assert torch.equal(dx, compiled.spmm_t(dy, weights, on))
    assert torch.equal(y[:few], compiled.spmm(dy[:few], weights, torch.ones(rows), back))
    dense = dense_weight(wide, weights.numpy())
    np.testing.assert_allclose(dx.numpy(), dy.numpy() @ dense.T, rtol=0, atol=tolerance(2000, 16.0))
    expected = (x.numpy().T.astype(float) @ dy.numpy()).reshape(-1)[wide.positions()]
    np.testing.assert_allclose(dw.numpy(), expected, rtol=0, atol=tolerance(n_batch, 16.0))


@pytest.mark.parametrize("n_batch", [0, 1, 16, 37])
def test_the_gradient_of_a_row_major_input_is_row_major(simd: str, n_batch: int) -> None:
    """Else torch turns it over for a leaf, and what is before the layer computes with mixed layouts."""
    layer = SparseLinear(40, 30, density=0.2, engine="native", seed=0)
    rows, dy = torch.randn(n_batch, 40), torch.randn(n_batch, 30)
    found: list[Tensor] = []
    for x in (rows, rows.t().contiguous().t()):
        x.requires_grad_()
        y = layer(x)
        found += torch.autograd.grad(y, x, dy)
    assert found[0].is_contiguous()
    assert torch.equal(*found)


def test_large_matrices_are_fetched_ahead_and_still_right(simd: str) -> None:
    rng = np.random.default_rng(1)
    n_in, n_out, n_batch = 40_000, 300, 128  # 20 MB of inputs
    pattern = random_pattern(200, n_out, 3000, rng)
    indptr = np.concatenate([pattern.indptr, np.full(n_in - 200, pattern.nnz)]).astype(np.int32)
    on = device_pattern(Csr(indptr, pattern.indices, (n_in, n_out)))
    w, x = torch.randn(pattern.nnz), torch.randn(n_batch, n_in)
    expected = x[:, :200].double().numpy() @ dense_weight(pattern, w.numpy())
    np.testing.assert_allclose(compiled.spmm(x, w, None, on).numpy(), expected, rtol=0, atol=tolerance(200, 16.0))
    by_output, _ = pattern.transposed_order()
    back = device_pattern(Csr(by_output.indptr, by_output.indices, (n_out, n_in)))
    wb, inputs = torch.randn(pattern.nnz), torch.randn(n_batch, n_out)
    dx, dw, _ = compiled.gradients(inputs, x, wb, back)
    assert dx is not None
    dense = dense_weight(by_output, wb.numpy())
    expected_dx = x[:, :200].double().numpy() @ dense.T
    expected_dw = (inputs.double().numpy().T @ x[:, :200].double().numpy()).reshape(-1)[by_output.positions()]
    np.testing.assert_allclose(dx.numpy(), expected_dx, rtol=0, atol=tolerance(n_out, 16.0))
    np.testing.assert_allclose(dw.numpy(), expected_dw, rtol=0, atol=tolerance(n_batch, 16.0))


# --- activation and dropout


def srelu(neurons: int, dropout: float = 0.0) -> SReLU:
    layer = SReLU(neurons, np.random.default_rng(3), dropout, fused=True)
    with torch.no_grad():
        layer.t_left.uniform_(-0.5, 0.5)
        layer.right_width.uniform_(-1, 1)
        layer.right_width[0] = 0
        layer.a_right.uniform_(-1, 2)
    return layer


@pytest.mark.parametrize("n_batch", [1, 16, 37, 100])
@pytest.mark.parametrize("kind", ["relu", "srelu"])
def test_activations_are_torchs_formula_with_its_gradients(simd: str, kind: str, n_batch: int) -> None:
    layer: Activation = srelu(11) if kind == "srelu" else ReLU(fused=True)
    slow = copy.deepcopy(layer).double()
    slow.fused = False
    x = torch.randn(n_batch, 11, generator=torch.Generator().manual_seed(4))
    x[0, 1] = 0
    if isinstance(layer, SReLU):
        x[0, 2] = layer.t_left[2].item()  # on the thresholds themselves
    fast_x, slow_x = x.clone().requires_grad_(), x.double().requires_grad_()
    dy = torch.randn(n_batch, 11)
    y = layer(fast_x)
    assert y.grad_fn.name() == "FusedActivationBackward"
    y.backward(dy)
    expected = slow(slow_x)
    expected.backward(dy.double())
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=tolerance(4, 8.0))
    for found, wanted in zip([fast_x, *layer.parameters()], [slow_x, *slow.parameters()], strict=True):
        assert found.grad is not None
        torch.testing.assert_close(found.grad.double(), wanted.grad, rtol=0, atol=tolerance(n_batch, 16.0))


def test_dropout_masks_are_philoxs_words(simd: str) -> None:
    """The published generator, one value at a time: the same mask on every processor."""
    assert philox_words((0, 0, 0, 0), (0, 0)) == (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)  # its known answer
    seed, step, p, n_batch = 0x1234567_89ABCDEF, 2**32 + 5, 0.3, 150
    y, kept = activate(native.to_columns(torch.ones(n_batch, 5)), Draws(p, seed, step), ())
    threshold = round(p * 2**32)
    for row in range(5):
        for column in range(n_batch):
            counter = (column // 64 * 16 + column % 16, row, step & 0xFFFFFFFF, step >> 32)
            word = philox_words(counter, (seed & 0xFFFFFFFF, seed >> 32))[column // 16 % 4]
            assert y[column, row].item() == (np.float32(1 / (1 - p)) if word >= threshold else 0)
    assert kept.numel() == 5 * 10


@pytest.mark.parametrize("kind", ["relu", "srelu"])
def test_dropped_values_pass_no_gradient(simd: str, kind: str) -> None:
    layer: Activation = srelu(40, 0.4) if kind == "srelu" else ReLU(0.4, fused=True)
    x = (torch.rand(100, 40) + 0.1).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    dropped = y == 0
    assert 0.35 < dropped.float().mean() < 0.45
    assert torch.equal(x.grad == 0, dropped)
    assert not torch.equal(layer(x) == 0, dropped)  # another step, another mask
    layer.reseed(7, CPU)
    first = layer(x)
    layer.reseed(7, CPU)
    assert torch.equal(layer(x), first)
    layer.eval()
    assert torch.equal(layer(x), layer.function(x)) or torch.allclose(layer(x), layer.function(x), atol=1e-6)


def test_a_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected 11 neurons, got a tensor of shape \(4, 12\)"):
        srelu(11)(torch.randn(4, 12))


# --- a stack of layers as one node


def network(activation: str, dropout: float, *, ends_with_activation: bool = False) -> SparseSequential:
    rng = np.random.default_rng(5)

    def act(neurons: int) -> Activation:
        return SReLU(neurons, rng, dropout, fused=True) if activation == "srelu" else ReLU(dropout, fused=True)

    modules: list[nn.Module] = [
        SparseLinear(30, 70, epsilon=5, engine="native", seed=1), act(70),
        SparseLinear(70, 20, epsilon=5, engine="native", seed=2),
        SparseLinear(20, 50, epsilon=5, engine="native", seed=3), act(50),
    ]  # fmt: skip
    if not ends_with_activation:
        modules.append(BatchContiguousLinear(50, 10))
    return SparseSequential(*modules)


@pytest.mark.parametrize("ends_with_activation", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("activation", ["relu", "srelu"])
def test_a_stack_is_its_modules_one_after_the_other(
    simd: str, activation: str, dropout: float, ends_with_activation: bool
) -> None:
    stack = network(activation, dropout, ends_with_activation=ends_with_activation)
    apart = nn.Sequential(*copy.deepcopy(stack))
    for model in (stack, apart):
        for i, layer in enumerate(module for module in model if isinstance(module, Activation)):
            layer.reseed(i, CPU)
    x = torch.randn(37, 30)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    for _ in range(2):  # gradients accumulate
        outputs = [model(each) for model, each in zip((stack, apart), inputs, strict=True)]
        assert outputs[0].grad_fn.name() == "StackBackward"
        torch.testing.assert_close(*outputs, rtol=0, atol=tolerance(70, 4.0))
        for output in outputs:
            output.square().mean().backward()
    pairs = zip([inputs[0], *stack.parameters()], [inputs[1], *apart.parameters()], strict=True)
    for found, expected in pairs:
        assert found.grad is not None
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=tolerance(70, 4.0))
    assert torch.equal(x, inputs[0])  # nothing was written over the caller's input


def test_results_do_not_depend_on_the_number_of_threads(simd: str) -> None:
    results = []
    for threads in (1, 2, 3, 5):
        torch.set_num_threads(threads)
        stack = network("srelu", 0.3)
        with torch.no_grad():
            for p in stack[-1].parameters():
                p.fill_(0.01)
        for layer in stack:
            if isinstance(layer, Activation):
                layer.reseed(1, CPU)
        x = torch.randn(100, 30, generator=torch.Generator().manual_seed(2)).requires_grad_()
        stack(x).square().sum().backward()
        results.append([x.grad, *(p.grad for p in stack.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))  # type: ignore[arg-type]


def test_threads_wait_for_each_other(simd: str) -> None:
    """Layers wide enough for a thread that ran ahead to read what is not there yet."""
    torch.manual_seed(0)
    widths = (50, 900, 700, 800, 40)
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        layers += [SparseLinear(n_in, n_out, epsilon=10, engine="native", seed=i), srelu(n_out)]
    x, results = torch.randn(100, 50), []
    for threads in (1, 2, 2, 2, 7, 7):
        torch.set_num_threads(threads)
        stack = SparseSequential(*copy.deepcopy(layers))
        stack(x).square().sum().backward()
        results.append([p.grad for p in stack.parameters()])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))  # type: ignore[arg-type]


def test_work_decides_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert [native.threads(work) for work in (0, native.WORK_PER_THREAD - 1, native.WORK_PER_THREAD, 10**12)] == [
        1,
        1,
        2,
        2,
    ]


def test_a_stack_leaves_no_cycle_behind() -> None:
    import gc
    import weakref

    stack = network("srelu", 0.3)
    gc.disable()
    try:
        y = stack(torch.randn(8, 30))
        alive = weakref.ref(y)
        del y
        assert alive() is None
    finally:
        gc.enable()


def test_what_the_kernels_do_not_take_runs_module_by_module() -> None:
    stack = network("srelu", 0.0).double()
    with pytest.raises(
        ValueError, match=r"engine native: expected a dense float32 tensor on the CPU, got torch.float64"
    ):
        stack(torch.randn(3, 30, dtype=torch.double))
    mixed = SparseSequential(nn.Linear(30, 30), *network("relu", 0.0))
    assert mixed(torch.randn(3, 30)).shape == (3, 10)
    assert network("relu", 0.0)(torch.randn(0, 30)).shape == (0, 10)


# --- the boundary


def test_a_weight_changed_before_the_backward_is_refused() -> None:
    stack = network("relu", 0.0)
    loss = stack(torch.randn(4, 30)).sum()
    with torch.no_grad():
        next(stack.parameters()).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation since the forward"):
        loss.backward()


@pytest.mark.parametrize("step", ["evolve", "optimizer", "indices", "input", "output"])
def test_a_change_under_a_live_gradient_is_refused(step: str) -> None:
    stack = network("relu", 0.0)
    layer = stack[0]
    assert isinstance(layer, SparseLinear)
    optimizer = MomentumSGD(stack.parameters(), lr=0.1, momentum=0.9)
    stack(torch.randn(4, 30)).sum().backward()
    x = native.to_columns(torch.randn(4, 30))  # read where it lies
    y = stack[:2](x) if step == "output" else stack(x)  # what ReLU gave is read again
    loss = y.sum()
    match step:
        case "input":
            x.zero_()
        case "evolve":
            layer.evolve(0.3, optimizer=optimizer, seed=1)
        case "optimizer":
            optimizer.step()
        case "indices":
            layer.indices.add_(0)
        case "output":
            with torch.no_grad():
                y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_logits_may_be_changed_in_place() -> None:
    stack, x = network("relu", 0.0), torch.randn(4, 30)
    stack(x).div_(2).sum().backward()
    halved = [p.grad.clone() for p in stack.parameters() if p.grad is not None]
    stack.zero_grad()
    (stack(x) / 2).sum().backward()
    assert all(torch.equal(a, b.grad) for a, b in zip(halved, stack.parameters(), strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", ["native", "torch", "masked", "auto"])
def test_a_layer_without_bias_trains(engine: str) -> None:
    layer = SparseLinear(20, 15, epsilon=2, bias=False, engine=engine, seed=0)
    x = torch.randn(3, 20, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert layer.weight.grad is not None
    assert SparseSequential(layer, ReLU(fused=True))(x).shape == (3, 15)


def test_activations_of_another_type_are_not_taken_for_float32() -> None:
    stack, x = network("srelu", 0.0), torch.randn(3, 30)
    stack[1].half()  # torch computes float32 with half parameters
    apart = nn.Sequential(*copy.deepcopy(stack))
    torch.testing.assert_close(stack(x), apart(x))
    stack(x).sum().backward()
    stack[1].double()
    with pytest.raises(ValueError, match=r"expected torch.float32 on cpu like the weights, got torch.float64"):
        stack(x)


def test_a_momentum_of_another_length_is_refused() -> None:
    small, large = (SparseLinear(20, 15, epsilon=e, seed=0) for e in (2, 6))
    optimizer = MomentumSGD(small.parameters(), lr=0.1, momentum=0.9)
    small(torch.randn(3, 20)).sum().backward()
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    small.load_state_dict(large.state_dict())
    optimizer.load_state_dict(state)
    small(torch.randn(3, 20)).sum().backward()
    with pytest.raises(ValueError, match="the connections changed without this optimiser"):
        optimizer.step()


def test_torchs_defaults_do_not_matter() -> None:
    results = []
    for dtype, device in ((torch.float32, "cpu"), (torch.float64, "meta")):
        stack = network("srelu", 0.0)  # built with the usual defaults
        with torch.no_grad():
            for parameter in stack[-1].parameters():
                parameter.fill_(0.1)
        x, y = torch.ones(20, 30), torch.zeros(20, dtype=torch.int64)
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                loss = cross_entropy(stack(x), y)
                torch.autograd.backward(loss)
        finally:
            torch.set_default_dtype(torch.float32)
        results.append([loss.detach(), *(p.grad for p in stack.parameters())])
    for one, other in zip(*results, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_inference_mode_and_no_grad_give_the_same() -> None:
    stack = network("srelu", 0.3).eval()
    x = torch.randn(37, 30)
    expected = stack(x).detach()
    with torch.no_grad():
        assert torch.equal(stack(x), expected)
    with torch.inference_mode():
        assert torch.equal(stack(x), expected)
        assert SparseLinear(5, 4, epsilon=1, seed=0)(torch.ones(2, 5)).shape == (2, 4)


def test_evaluation_does_not_move_the_dropout_on() -> None:
    stack, x = network("relu", 0.3), torch.randn(8, 30)
    results = []
    for evaluates in (False, True):
        for layer in stack:
            if isinstance(layer, Activation):
                layer.reseed(3, CPU)
        if evaluates:
            stack.eval()(x)
        results.append(stack.train()(x).detach())
    assert torch.equal(*results)


@pytest.mark.parametrize("kind", ["relu", "srelu"])
def test_nan_stays_nan(simd: str, kind: str) -> None:
    layer: Activation = srelu(11) if kind == "srelu" else ReLU(fused=True)
    x = torch.ones(20, 11)
    x[3, 4] = x[19, 0] = torch.nan
    assert torch.equal(layer(x).isnan(), x.isnan())


def test_hooks_and_subclasses_are_not_passed_over() -> None:
    stack, x, seen = network("relu", 0.0), torch.randn(3, 30), []
    stack[0].register_forward_hook(lambda *_: seen.append(0))
    stack[-1].register_forward_pre_hook(lambda *_: seen.append(1))
    stack(x)
    assert seen == [0, 1]

    class Doubled(ReLU):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    plain = network("relu", 0.0, ends_with_activation=True)
    other = SparseSequential(*list(plain)[:-1], Doubled(fused=True))
    torch.testing.assert_close(other(x), 2 * plain(x))


def test_a_view_with_the_negative_bit_is_read_rightly() -> None:
    on = device_pattern(random_pattern(9, 7, 30, np.random.default_rng(0)))
    x, w = torch.randn(3, 9).t().contiguous().t(), torch.randn(30)
    assert torch.equal(compiled.spmm(torch._neg_view(x), w, None, on), compiled.spmm(-x, w, None, on))


@pytest.mark.parametrize(("n_batch", "classes"), [(1, 2), (64, 3), (100, 10), (130, 26)])
def test_cross_entropy_is_torchs(simd: str, n_batch: int, classes: int) -> None:
    logits = 20 * torch.randn(classes, n_batch).t()
    y = torch.randint(classes, (n_batch,))
    fast, slow = logits.clone().requires_grad_(), logits.double().requires_grad_()
    assert fast.stride(0) == 1
    loss, expected = cross_entropy(fast, y), nn.functional.cross_entropy(slow, y)
    torch.autograd.backward([3 * loss, 3 * expected])
    assert fast.grad is not None
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(fast.grad.double(), slow.grad, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=f"expected labels 0 to {classes - 1}, got {classes} to {classes}"):
        cross_entropy(fast, torch.full((n_batch,), classes))


def test_a_second_backward_through_a_stack_is_refused() -> None:
    y = network("relu", 0.0)(torch.randn(4, 30)).sum()
    y.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="a second backward through one forward is not possible"):
        y.backward()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.randn(3, 9).double(), "expected x as a dense float32 tensor on the CPU, got torch.float64"),
        (torch.randn(3, 9).to(torch.bfloat16), "got torch.bfloat16"),
        (torch.ones(3, 9, dtype=torch.int32), "got torch.int32"),
        (torch.randn(3, 9, device="meta"), "on meta"),
        (torch.randn(3, 9).to_sparse(), "sparse"),
        (torch.randn(3, 8), r"expected x of shape \(3, 9\), got \(3, 8\)"),
    ],
)
def test_wrong_inputs_are_refused(x: Tensor, message: str) -> None:
    on = device_pattern(random_pattern(9, 7, 30, np.random.default_rng(0)))
    with pytest.raises(ValueError, match=message):
        compiled.spmm(x, torch.randn(30), None, on)


def test_wrong_weights_biases_and_gradients_are_refused() -> None:
    on = device_pattern(random_pattern(9, 7, 30, np.random.default_rng(0)))
    x, w = torch.randn(3, 9), torch.randn(30)
    with pytest.raises(ValueError, match=r"expected values of shape \(30,\), got \(29,\)"):
        compiled.spmm(x, w[:29], None, on)
    with pytest.raises(ValueError, match=r"expected bias of shape \(7,\), got \(9,\)"):
        compiled.spmm(x, w, torch.randn(9), on)
    with pytest.raises(ValueError, match=r"expected dy of shape \(3, 7\), got \(4, 7\)"):
        compiled.sddmm(x, torch.randn(4, 7), on)
    assert torch.equal(compiled.spmm(x, w.repeat_interleave(2)[::2], None, on), compiled.spmm(x, w, None, on))


@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize(
    ("buffer", "at", "value"), [("indices", 3, 10**6), ("indices", 0, -1), ("indptr", 2, 10**6), ("indptr", 5, 0)]
)
def test_indices_changed_into_nonsense_are_refused(engine: str, buffer: str, at: int, value: int) -> None:
    layer = SparseLinear(20, 15, epsilon=2, engine=engine, seed=0)
    layer(torch.randn(2, 20))
    getattr(layer, buffer)[at] = value
    with pytest.raises(ValueError, match="expected"):
        layer(torch.randn(2, 20))
    if engine == "native":  # also for a pattern that was never right
        assert core is not None
        with pytest.raises(ValueError, match="in a pattern of 20 x 15"):
            core.Pattern(20, 15, layer.indptr.numpy(), layer.indices.numpy())


def from_dlpack(buffer: torch.Tensor) -> torch.Tensor:
    shared: torch.Tensor = torch.utils.dlpack.from_dlpack(buffer)
    return shared


WAYS: dict[str, Callable[[SparseLinear, str], Any]] = {  # of writing into a layer's indices that torch does not count
    "data": lambda layer, buffer: getattr(layer, buffer).data,
    "numpy": lambda layer, buffer: getattr(layer, buffer).numpy(),
    "dlpack": lambda layer, buffer: from_dlpack(getattr(layer, buffer)),
    "base": lambda layer, buffer: getattr(layer.pattern, buffer).base,
    "detached": lambda layer, buffer: getattr(layer, buffer).detach().numpy(),
    "storage": lambda layer, buffer: np.frombuffer(getattr(layer, buffer).numpy().data, np.int32),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ["native", "torch"])
@pytest.mark.parametrize(
    ("buffer", "at", "values"),
    [
        ("indices", 0, [10**6]),
        ("indices", -1, [-1]),
        ("indices", 7, [15]),
        ("indptr", 3, [10**6]),
        ("indptr", 0, [-4]),
        ("indptr", -1, [2**31 - 1]),
        ("indptr", 1, [2**31 - 1, -(2**31), -1]),  # differences that wrap around to what they should be
    ],
)
def test_what_is_written_into_indices_leaves_no_array(
    engine: str, way: str, buffer: str, at: int, values: list[int]
) -> None:
    layer, x = SparseLinear(20, 15, epsilon=2, engine=engine, seed=0), torch.randn(2, 20, requires_grad=True)
    layer(x).sum().backward()
    target = WAYS[way](layer, buffer)
    for position, value in enumerate(values, start=at):
        target[position] = value
    with pytest.raises(ValueError, match=r"indptr or indices were overwritten: an index is out of range"):
        layer(x).sum().backward()


def test_an_rbm_with_overwritten_indices_is_refused() -> None:
    pattern = device_pattern(random_pattern(9, 7, 30, np.random.default_rng(0)))
    rbm = units.Connections(pattern.compiled, (9, 7), torch.randn(30), torch.zeros(7), torch.zeros(9))
    v = to_columns((torch.rand(5, 9) < 0.5).float())
    units.contrast(rbm, v, None, 1, 0, 0)
    pattern.indices.numpy()[4] = 7
    with pytest.raises(ValueError, match="overwritten"):
        units.contrast(rbm, v, None, 1, 0, 0)


def test_a_pattern_cannot_be_changed_through_its_arrays() -> None:
    pattern = SparseLinear(20, 15, epsilon=2, seed=0).pattern
    with pytest.raises(ValueError, match="read-only"):
        pattern.indices[0] = 10**6


def test_the_core_checks_its_arrays() -> None:
    assert core is not None
    pattern = random_pattern(4, 5, 6, np.random.default_rng(0))
    with pytest.raises(TypeError, match="indices: expected a one-dimensional array"):
        core.Pattern(4, 5, pattern.indptr, pattern.indices.astype(np.int64))
    with pytest.raises(ValueError, match="indptr: expected length 5, got 4"):
        core.Pattern(4, 5, pattern.indptr[:-1], pattern.indices)
    keep = np.ones(6, bool)
    with pytest.raises(ValueError, match="keep: expected length 6, got 5"):
        core.prune(np.ones(6, np.float32), 0.3, keep[:5])
    with pytest.raises(ValueError, match="expected 0 <= zeta < 1"):
        core.prune(np.ones(6, np.float32), 1.0, keep)
    ranks = np.array([3, 99], np.int64)
    new = np.empty(5, np.int32), np.empty(8, np.int32), np.empty(8, np.int32)
    with pytest.raises(ValueError, match="expected ascending ranks of empty cells"):
        core.refill(4, 5, pattern.indptr, pattern.indices, keep, ranks, *new)
    no_bool = np.array([1, 1, 2, 1, 1, 255], np.uint8).view(bool)
    with pytest.raises(ValueError, match="keep: expected bytes 0 or 1"):
        core.refill(4, 5, pattern.indptr, pattern.indices, no_bool, ranks[:0], *new)


def test_the_core_checks_its_records() -> None:
    """What mypy would have refused; the core gets no further than the tuple."""
    product: Any = native.core.product if native.core is not None else None
    columns = records.NO_COLUMNS
    record = records.Product(pattern=None, by_output=True, values=0, bias=0, x=columns, y=columns, n_batch=0)
    with pytest.raises(TypeError, match="expected a Pattern"):
        product(record, 1)
    with pytest.raises(TypeError, match="expected 2 arguments, got 1"):
        product(record)
    with pytest.raises(TypeError, match="expected a Product"):
        product([*record], 1)
    with pytest.raises(TypeError, match="Product: expected 7 fields, got 6"):
        product(record[:-1], 1)
    wrong: Any
    for name, arguments in (("descend", (0.1, 0.9, True, 1)), ("stack_forward", (3, 1)), ("stack_backward", (3, 1))):
        for wrong in (None, (), 5, [None], [()], [[]]):
            with pytest.raises(TypeError, match="expected"):
                getattr(native.core, name)(wrong, *arguments)
    pattern = device_pattern(random_pattern(4, 5, 6, np.random.default_rng(0))).compiled
    record = record._replace(pattern=pattern)
    with pytest.raises(TypeError, match="Columns: expected 2 fields, got 1"):
        product(record._replace(x=cast(Any, (0,))), 1)
    with pytest.raises(OverflowError, match="expected an integer from 0 to 1, got 2"):
        product(record._replace(by_output=cast(Any, 2)), 1)


def test_momentum_sgd_is_torchs() -> None:
    for nesterov in (False, True):
        start = [torch.randn(1001), torch.randn(7, 5)]
        runs = []
        for kind in (MomentumSGD, torch.optim.SGD):
            parameters = [nn.Parameter(value.clone()) for value in start]
            groups: list[dict[str, Any]] = [
                {"params": parameters[:1], "weight_decay": 0.1, "lr": 0.3},
                {"params": parameters[1:]},
            ]
            optimizer = kind(groups, lr=0.1, momentum=0.9, nesterov=nesterov)
            generator = torch.Generator().manual_seed(0)
            for _ in range(4):
                for p in parameters:
                    p.grad = torch.randn(p.shape, generator=generator)
                optimizer.step()
            runs.append([*parameters, *(optimizer.state[p]["momentum_buffer"] for p in parameters)])
        for found, expected in zip(*runs, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=tolerance(10, 8.0))
    other = nn.Parameter(torch.ones(3, dtype=torch.double))  # what the kernels do not take
    other.grad = torch.ones(3, dtype=torch.double)
    MomentumSGD([other], lr=0.5, momentum=0.9).step()
    assert other.tolist() == [0.5, 0.5, 0.5]


# --- which engine, and life without the kernels


def test_auto_takes_the_kernels_up_to_the_crossover() -> None:
    crossover = CROSSOVER["native"]
    assert choose("auto", (100, 100), crossover, torch.float32, CPU).engine.name == "native"
    above = choose("auto", (100, 100), crossover + 0.01, torch.float32, CPU)
    assert above.engine.name == "masked"
    assert "is above" in above.why
    double = choose("auto", (100, 100), 0.01, torch.float64, CPU)
    assert double.engine.name == "torch"
    assert "take float32" in double.why
    with native.without_kernels():
        without = choose("auto", (100, 100), 0.01, torch.float32, CPU)
        assert without.engine.name == "torch"
        assert "the compiled kernels are" in without.why
        with pytest.raises(ValueError, match="engine native: the compiled kernels"):
            SparseLinear(5, 5, engine="native")


def test_a_layer_adapts_to_its_type() -> None:
    layer = SparseLinear(40, 30, epsilon=2, seed=0)
    assert layer.engine.name == "native"
    y = layer(torch.ones(3, 40))
    layer.double()
    assert layer.engine.name == "torch"
    torch.testing.assert_close(layer(torch.ones(3, 40, dtype=torch.double)).float(), y)
    assert copy.deepcopy(layer).float()(torch.ones(3, 40)).shape == (3, 30)


@pytest.mark.slow  # a process that trains on torch's products
def test_everything_works_without_the_compiled_module(tmp_path: Path) -> None:
    program = "import sys; sys.modules['set_cli.native._core'] = None\nfrom set_cli.commands.train import main; main()"
    result = run_python("-c", program, "train.epochs=1", "progress=plain", folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "the compiled kernels are not there" in result.stdout + result.stderr
    assert "a C++ compiler" in result.stdout + result.stderr
    (run,) = tmp_path.glob("runs/*/mlp/*/run.json")
    assert '"missing": "the compiled kernels are not there' in run.read_text()
    refused = run_python("-c", program, "train.epochs=2", "backend.engine=native", folder=tmp_path)
    assert refused.returncode == 2
    assert "backend.engine=native: engine native: the compiled kernels are not there" in refused.stderr


def test_an_instruction_set_can_be_asked_for(tmp_path: Path) -> None:
    program = "from set_cli import native; print(native.describe()['simd'])"
    assert run_python("-c", program, folder=tmp_path, SET_SIMD="portable").stdout == "portable\n"
    refused = run_python("-c", program, folder=tmp_path, SET_SIMD="mmx")
    assert "SET_SIMD=mmx: expected avx512, avx2 or portable" in refused.stderr


def test_the_register_tiles_stay_in_registers() -> None:
    """The compiler may spill them for a careless change, which costs a factor and no result."""
    assert core is not None
    if shutil.which("objdump") is None or core.simd() != "avx512" or "SET_SANITIZED" in os.environ:
        pytest.skip("needs objdump, and kernels for avx512 without sanitizers")
    listing = subprocess.run(["objdump", "-dC", str(core.__file__)], capture_output=True, text=True, check=True).stdout
    functions = [function.partition("\n") for function in listing.split("\n\n")]
    tiles = {name: code for name, _, code in functions if "avx512" in name and "_tile<" in name}
    assert len(tiles) > 40
    on_stack = ("(%rsp", "(%rbp")
    spilt = [
        name
        for name, code in tiles.items()
        if any("zmm" in line and any(place in line for place in on_stack) for line in code.splitlines())
    ]
    assert not spilt
