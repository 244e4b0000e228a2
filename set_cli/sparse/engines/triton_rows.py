"""Engine `triton`: our GPU kernels, which gather rows of neurons. O(nnz) memory, O(n_batch nnz) time.

Neurons are rows and the batch is contiguous, as for the compiled kernels of the CPU: a connection reads n_batch values
that lie together, and one program keeps its row of results in registers. Everything is summed in float32 in one
fixed order, so results repeat bit for bit; no atomics. Where activations are bfloat16 or float16 the sums are
float32 all the same.

Without a GPU the kernels run under Triton's interpreter (TRITON_INTERPRET=1 before this module is imported): for tests.
"""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager

import torch
import triton
import triton.language as tl
from torch import Tensor

from set_cli.sparse.engines.device_pattern import DevicePattern

# What Triton has decided by its own import: later changes of the variable do not matter to it.
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

WIDEST_BLOCK = 256  # batch elements per program: a row's sums must stay in registers
# One warp reads some rows together: so many values that its registers leave room for other warps. Where rows lie in the
# cache or few programs run, latency counts: more rows then, in blocks up to 128 and in wider ones. Each the fastest on
# an H200 (docs/gpu.md).
VALUES_TOGETHER, MOST_ROWS = 1024, 32
ROWS_OF_FEW, ROWS_OF_FEW_WIDE = 32, 8
FEW_PROGRAMS, DENSE = 2048, 0.03
WARPS = 1
SUMMED = 4096  # values that a program sums at a time
MOST_PARTS = 16  # of a sum over a wide batch, each as large as the weights


@triton.jit  # type: ignore[untyped-decorator]
def spmm_kernel(  # type: ignore[no-untyped-def]
    indptr, indices, order, values, bias, x, y,
    n_batch, x_stride, y_stride, programs,
    HAS_ORDER: tl.constexpr, HAS_BIAS: tl.constexpr, BLOCK: tl.constexpr, CONNECTIONS: tl.constexpr,
):  # fmt: skip
    """A block of the batch of one row of y: the rows of x that its connections name, times their values."""
    row = (tl.program_id(0) // programs).to(tl.int64)
    batch = (tl.program_id(0) % programs) * BLOCK + tl.arange(0, BLOCK)
    inside = batch < n_batch
    first, last = tl.load(indptr + row), tl.load(indptr + row + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(first, last, CONNECTIONS):
        k = start + tl.arange(0, CONNECTIONS)
        real = k < last
        neighbour = tl.load(indices + k, mask=real, other=0).to(tl.int64)
        at = tl.load(order + k, mask=real, other=0) if HAS_ORDER else k
        weight = tl.load(values + at, mask=real, other=0.0).to(tl.float32)
        mask = real[:, None] & inside[None, :]
        rows = tl.load(x + neighbour[:, None] * x_stride + batch[None, :], mask=mask, other=0.0).to(tl.float32)
        total += tl.sum(weight[:, None] * rows, axis=0)
    if HAS_BIAS:
        total += tl.load(bias + row).to(tl.float32)
    tl.store(y + row * y_stride + batch, total.to(y.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["nnz"])  # type: ignore[untyped-decorator]
def gradients_kernel(  # type: ignore[no-untyped-def]
    indptr, indices, values, x, dy, dx, dw,
    n_batch, x_stride, dy_stride, dx_stride, nnz, programs,
    WANTS_DX: tl.constexpr, WALKS: tl.constexpr, BLOCK: tl.constexpr, CONNECTIONS: tl.constexpr,
):  # fmt: skip
    """Row `row` of dx, and the gradients of its connections: every row of dy that they name is read once for both.

    dw     (programs, nnz): what the blocks of the batch that a program walks through add up to
    WALKS  whether a program has more than one block
    """
    row = (tl.program_id(0) // programs).to(tl.int64)
    program = (tl.program_id(0) % programs).to(tl.int64)
    first, last = tl.load(indptr + row), tl.load(indptr + row + 1)
    own_dw = dw + program * nnz
    for block in range(program * BLOCK, n_batch, programs * BLOCK):
        batch = block + tl.arange(0, BLOCK)
        inside = batch < n_batch
        own = tl.load(x + row * x_stride + batch, mask=inside, other=0.0).to(tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        for start in range(first, last, CONNECTIONS):
            k = start + tl.arange(0, CONNECTIONS)
            real = k < last
            neighbour = tl.load(indices + k, mask=real, other=0).to(tl.int64)
            mask = real[:, None] & inside[None, :]
            rows = tl.load(dy + neighbour[:, None] * dy_stride + batch[None, :], mask=mask, other=0.0).to(tl.float32)
            gradient = tl.sum(rows * own[None, :], axis=1)
            if WALKS:  # nothing stands there before the first block; nobody else writes there
                gradient += tl.load(own_dw + k, mask=real & (block >= programs * BLOCK), other=0.0)
            tl.store(own_dw + k, gradient, mask=real)
            if WANTS_DX:
                weight = tl.load(values + k, mask=real, other=0.0).to(tl.float32)
                total += tl.sum(weight[:, None] * rows, axis=0)
        if WANTS_DX:
            tl.store(dx + row * dx_stride + batch, total.to(dx.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def sums_kernel(  # type: ignore[no-untyped-def]
    dy, db, neurons, n_batch, stride, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """The sums of some rows of dy over the batch."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    total = tl.zeros((ROWS,), tl.float32)
    for block in range(0, n_batch, BLOCK):
        batch = block + tl.arange(0, BLOCK)
        mask = (row < neurons)[:, None] & (batch < n_batch)[None, :]
        values = tl.load(dy + row.to(tl.int64)[:, None] * stride + batch[None, :], mask=mask, other=0.0)
        total += tl.sum(values.to(tl.float32), axis=1)
    tl.store(db + row, total, mask=row < neurons)


def arrange(x: Tensor) -> Tensor:
    """x with the batch contiguous in memory; ValueError for what the kernels cannot take."""
    if x.is_cpu and not IS_INTERPRETED:
        raise ValueError("engine triton: expected tensors on a GPU, got them on the CPU; use native, torch or masked")
    if x.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"engine triton: expected float32, bfloat16 or float16, got {x.dtype}; engine torch takes it")
    return x if x.stride(0) == 1 else x.t().contiguous().t()


def spmm(x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern) -> Tensor:
    """y = x @ W + bias, (n_batch, n_out) with the batch contiguous in memory."""
    indptr, indices, order = pattern.by_output
    return _product(x, pattern.shape, (indptr, indices, order), values, bias)


def spmm_t(dy: Tensor, values: Tensor, pattern: DevicePattern) -> Tensor:
    """dx = dy @ W.T, (n_batch, n_in) with the batch contiguous in memory."""
    return _product(dy, pattern.shape[::-1], (pattern.indptr, pattern.indices, None), values, None)


def sddmm(x: Tensor, dy: Tensor, pattern: DevicePattern) -> Tensor:
    """(x.T @ dy) at the connections, (nnz,) in the pattern's order; float32."""
    return _gradients(x, dy, None, pattern)[1]


def gradients(
    x: Tensor, dy: Tensor, values: Tensor, pattern: DevicePattern, *, wants_dx: bool = True
) -> tuple[Tensor | None, ...]:
    """dx = dy @ W.T, (x.T @ dy) at the connections and the sum of dy over the batch."""
    x, dy = arrange(x), arrange(dy)
    dx, dw = _gradients(x, dy, values if wants_dx else None, pattern)
    return dx, dw.to(values.dtype), _sums(dy).to(values.dtype)


def _sums(dy: Tensor) -> Tensor:
    """The sum of dy over the batch, (neurons,) float32; torch's own takes six times longer over rows of 32."""
    n_batch, neurons = dy.shape
    block, _ = _blocks(n_batch)
    rows, db = SUMMED // block, torch.empty(neurons, dtype=torch.float32, device=dy.device)
    with _device_of(dy):
        if neurons:
            sums_kernel[(triton.cdiv(neurons, rows),)](
                dy, db, neurons, n_batch, dy.stride(1), ROWS=rows, BLOCK=block
            )  # fmt: skip
    return db


def _blocks(n_batch: int) -> tuple[int, int]:
    """Batch elements per block, and how many blocks that makes."""
    block = min(WIDEST_BLOCK, triton.next_power_of_2(max(n_batch, 1)))
    return block, triton.cdiv(n_batch, block)


def _together(block: int, programs: int, density: float) -> int:
    """Rows that each of these programs reads together, of so many batch elements."""
    if programs < FEW_PROGRAMS or density > DENSE:
        return ROWS_OF_FEW if block <= 128 else ROWS_OF_FEW_WIDE
    return min(MOST_ROWS, VALUES_TOGETHER // block)


def _device_of(x: Tensor) -> AbstractContextManager[None]:
    """Triton launches on the current device, wherever the tensors are."""
    device: AbstractContextManager[None] = torch.cuda.device_of(x)  # type: ignore[no-untyped-call]
    return device


def _new_rows(n_batch: int, neurons: int, like: Tensor) -> Tensor:
    """(n_batch, neurons), uninitialised, with the batch contiguous."""
    return like.new_empty(neurons, n_batch).t()


def _product(
    x: Tensor,
    shape: tuple[int, int],
    structure: tuple[Tensor, Tensor, Tensor | None],
    values: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """x (n_batch, shape[0]) to (n_batch, shape[1]); structure: indptr, indices and order in rows of shape[1]."""
    x, n_batch, values = arrange(x), len(x), values.contiguous()
    bias = None if bias is None else bias.contiguous()
    indptr, indices, order = structure
    y = _new_rows(n_batch, shape[1], x)
    block, programs = _blocks(n_batch)
    with _device_of(x):
        if y.numel():
            spmm_kernel[(shape[1] * programs,)](
                indptr, indices, indices if order is None else order, values, values if bias is None else bias, x, y,
                n_batch, x.stride(1), y.stride(1), programs,
                HAS_ORDER=order is not None, HAS_BIAS=bias is not None, BLOCK=block,
                CONNECTIONS=_together(block, shape[1] * programs, len(indices) / math.prod(shape)), num_warps=WARPS,
            )  # fmt: skip
    return y


def _gradients(x: Tensor, dy: Tensor, values: Tensor | None, pattern: DevicePattern) -> tuple[Tensor | None, Tensor]:
    """(dx or None, dw); dx where values are given."""
    x, dy, n_batch = arrange(x), arrange(dy), len(x)
    n_in, nnz = pattern.shape[0], len(pattern.indices)
    block, blocks = _blocks(n_batch)
    programs = min(blocks, MOST_PARTS)
    values = None if values is None else values.contiguous()
    dx = None if values is None else _new_rows(n_batch, n_in, dy)
    parts = torch.empty(programs, nnz, dtype=torch.float32, device=x.device)
    with _device_of(x):
        if n_batch:
            gradients_kernel[(n_in * programs,)](
                pattern.indptr, pattern.indices, parts if values is None else values, x, dy, dy if dx is None else dx,
                parts, n_batch, x.stride(1), dy.stride(1), 0 if dx is None else dx.stride(1), nnz, programs,
                WANTS_DX=dx is not None, WALKS=blocks > programs, BLOCK=block,
                CONNECTIONS=_together(block, n_in * programs, nnz / math.prod(pattern.shape)), num_warps=WARPS,
            )  # fmt: skip
    dw = parts[0] if programs == 1 else parts.sum(dim=0)
    return dx, dw if values is None else dw.to(values.dtype)
