"""The GPU's kernels: under Triton's interpreter against a float64 oracle, and through its compiler for real GPUs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="the package triton is not installed")

from set_cli.sparse import SparseLinear
from set_cli.sparse.engines import find_engine, masked, triton_rows
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.sparse.pattern import Csr, from_positions
from set_cli.sparse.rules import erdos_renyi
from tests.conftest import run_python
from tests.oracles import tolerance

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def on_device(csr: Csr) -> DevicePattern:
    return DevicePattern(csr.shape, *(torch.from_numpy(a.copy()).to(DEVICE) for a in (csr.indptr, csr.indices)))


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(DEVICE)


PATTERNS = {
    "random": erdos_renyi(37, 23, 3, np.random.default_rng(0)),
    "rows longer than one read": erdos_renyi(5, 90, 12, np.random.default_rng(1)),
    "full": erdos_renyi(6, 9, 1e6, np.random.default_rng(2)),
    "empty": from_positions(np.empty(0, np.int64), (4, 3)),
    "one": from_positions(np.array([7], np.int64), (4, 3)),
}


# More blocks of the batch than there are programs for one row, in a layer that the interpreter is done with soon.
WIDE = (triton_rows.MOST_PARTS + 1) * triton_rows.WIDEST_BLOCK + 5
BATCHES = (0, 1, 2, 31, 100, triton_rows.WIDEST_BLOCK + 1, 2 * triton_rows.WIDEST_BLOCK)


@pytest.mark.parametrize(("pattern", "n_batch"), [*itertools.product(PATTERNS, BATCHES), ("full", WIDE)])
def test_products_are_those_of_the_dense_float64_oracle(pattern: str, n_batch: int) -> None:
    csr = PATTERNS[pattern]
    (n_in, n_out), structure = csr.shape, on_device(csr)
    x, dy, values, bias = draw(n_batch, n_in), draw(n_batch, n_out), draw(csr.nnz), draw(n_out)
    x64, dy64, v64, b64 = (tensor.double() for tensor in (x, dy, values, bias))
    largest = 16.0

    def close(found: Tensor | None, expected: Tensor, terms: int) -> None:
        assert found is not None
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance(terms, largest))

    y = triton_rows.spmm(x, values, bias, structure)
    close(y, masked.spmm(x64, v64, b64, structure), n_in)
    close(triton_rows.spmm(x, values, None, structure), masked.spmm(x64, v64, None, structure), n_in)
    assert n_batch < 2 or y.stride(0) == 1
    close(triton_rows.spmm_t(dy, values, structure), masked.spmm_t(dy64, v64, structure), n_out)
    close(triton_rows.sddmm(x, dy, structure), masked.sddmm(x64, dy64, structure), n_batch)
    dx, dw, db = triton_rows.gradients(x, dy, values, structure)
    close(dx, masked.spmm_t(dy64, v64, structure), n_out)
    close(dw, masked.sddmm(x64, dy64, structure), n_batch)
    close(db, dy64.sum(0), n_batch)
    no_dx, dw, db = triton_rows.gradients(x, dy, values, structure, wants_dx=False)
    assert no_dx is None
    close(dw, masked.sddmm(x64, dy64, structure), n_batch)
    close(db, dy64.sum(0), n_batch)


def test_any_strides_are_read() -> None:
    csr = PATTERNS["random"]
    structure, values = on_device(csr), draw(csr.nnz)
    wide = draw(64, 2 * 37)
    for x in (wide[:, ::2], wide[::2, :37], draw(37, 64).t(), draw(37, 100).t()[:64], draw(1, 37).expand(64, 37)):
        expected = masked.spmm(x.double(), values.double(), None, structure)
        found = triton_rows.spmm(x, values, None, structure)
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance(37, 16.0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_activations_are_summed_in_float32(dtype: torch.dtype) -> None:
    """512 times the same 1 + 2^-7: a sum in half precision would stop growing after 256 of them."""
    n_in = 512
    csr = from_positions(np.arange(n_in, dtype=np.int64), (n_in, 1))
    structure, values = on_device(csr), torch.ones(n_in, device=DEVICE)
    x = torch.full((3, n_in), 1 + 2**-7, dtype=dtype, device=DEVICE)
    y = triton_rows.spmm(x, values, None, structure)
    assert y.dtype == dtype
    assert y.float().tolist() == [[n_in * (1 + 2**-7)]] * 3
    dx, dw, db = triton_rows.gradients(x, torch.ones(3, 1, dtype=dtype, device=DEVICE), values, structure)
    assert dx is not None
    assert [t.dtype for t in (dx, dw, db) if t is not None] == [dtype, torch.float32, torch.float32]
    assert dw is not None
    assert dw.tolist() == [3 * (1 + 2**-7)] * n_in


def test_a_layer_takes_half_precision_activations_beside_its_float32_weights() -> None:
    layer = SparseLinear(40, 30, epsilon=4, engine="triton", seed=0).to(DEVICE)
    x = draw(16, 40).requires_grad_()
    halves = x.detach().bfloat16().requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    expected = layer.weight.grad
    layer.zero_grad()
    y = layer(halves)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, expected, rtol=2e-2, atol=2e-2)
    assert halves.grad is not None
    assert halves.grad.dtype == torch.bfloat16


def test_results_repeat_bit_for_bit() -> None:
    csr = PATTERNS["rows longer than one read"]
    structure, values, x, dy = on_device(csr), draw(csr.nnz), draw(300, 5), draw(300, 90)
    first, again = ([*triton_rows.gradients(x, dy, values, structure)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True) if a is not None and b is not None)


def test_types_it_cannot_take_are_refused() -> None:
    layer = SparseLinear(40, 30, epsilon=4, engine="triton", seed=0).to(DEVICE).double()
    with pytest.raises(ValueError, match=r"expected float32, bfloat16 or float16, got torch\.float64; engine torch"):
        layer(draw(2, 40).double())


def test_another_engine_refuses_half_precision_beside_float32_weights() -> None:
    layer = SparseLinear(40, 30, epsilon=4, engine="torch", seed=0).to(DEVICE)
    with pytest.raises(ValueError, match=r"expected torch\.float32 on .* like the weights, got torch\.bfloat16"):
        layer(draw(2, 40).bfloat16())


def test_the_engine_asks_for_a_gpu(tmp_path: Path) -> None:
    program = """
import torch
from set_cli.sparse import SparseLinear
try:
    SparseLinear(40, 30, epsilon=4, engine="triton")(torch.ones(2, 40))
except ValueError as error:
    print(error)
"""
    result = run_python("-c", program, folder=tmp_path)
    assert result.stdout.startswith("engine triton: expected tensors on a GPU, got them on the CPU"), result.stderr
    assert find_engine("triton").takes_half


COMPILE = """
from itertools import product
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from set_cli.sparse.engines import triton_rows as rows

INTEGERS = ("n_batch", "x_stride", "y_stride", "dy_stride", "dx_stride", "nnz", "programs")
INDICES = ("indptr", "indices", "order")
CONSTANTS = ("HAS_ORDER", "HAS_BIAS", "WANTS_DX", "WALKS", "BLOCK", "CONNECTIONS")

def kind(name, half):
    if name in CONSTANTS:
        return "constexpr"
    if name in INTEGERS:
        return "i32"
    if name in INDICES:
        return "*i32"
    return "*bf16" if half and name in ("x", "y", "dx", "dy") else "*fp32"

for capability in (80, 90):
    for kernel, flags in ((rows.spmm_kernel, {"HAS_ORDER": True, "HAS_BIAS": True}),
                          (rows.spmm_kernel, {"HAS_ORDER": False, "HAS_BIAS": False}),
                          (rows.gradients_kernel, {"WANTS_DX": True, "WALKS": False}),
                          (rows.gradients_kernel, {"WANTS_DX": False, "WALKS": True})):
        for block in (1, 32, 128, rows.WIDEST_BLOCK):
            numbers = {rows._together(block, n, 0.0) for n in (1, rows.FEW_PROGRAMS)}
            for half, together in product((False, True), numbers):
                signature = {name: kind(name, half) for name in kernel.arg_names}
                constants = flags | {"BLOCK": block, "CONNECTIONS": together}
                source = ASTSource(kernel, signature, constexprs=constants)
                built = compile(source, target=GPUTarget("cuda", capability, 32))
                assert built.asm["cubin"]
                assert ".local" not in built.asm["ptx"], "a row's sums went to memory"
                print(capability, kernel.fn.__name__, block, half, together)
"""


@pytest.mark.slow  # 96 kernels
def test_the_kernels_compile_for_real_gpus(tmp_path: Path) -> None:
    """Triton's compiler and ptxas need no GPU; the interpreter accepts what they may not."""
    result = run_python("-W", "ignore", "-c", COMPILE, folder=tmp_path, TRITON_CACHE_DIR=str(tmp_path))
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(result.stdout.splitlines()) == 2 * 4 * 2 * (1 + 1 + 2 + 2)  # rows together: two numbers in wide blocks
