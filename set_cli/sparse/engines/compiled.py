"""Engine `native`: our compiled kernels (set_cli/native/src). float32 on the CPU; O(nnz) memory, O(n_batch nnz) time.

Every element of a result is computed by one thread in one fixed order: the number of threads does not change a bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from set_cli import native
from set_cli.native import lay_out, new_columns, records
from set_cli.native.interface import Core
from set_cli.sparse.engines.device_pattern import DevicePattern


def _core() -> Core:
    if native.core is None:
        raise RuntimeError(f"engine native: {native.missing}")
    return native.core


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """ValueError unless the kernels can take this tensor: they see addresses only."""
    if tensor.dtype is not torch.float32 or not tensor.is_cpu or tensor.layout is not torch.strided:
        raise ValueError(
            f"engine native: expected {name} as a dense float32 tensor on the CPU, got {tensor.dtype} "
            f"({tensor.layout}) on {tensor.device}; engine torch takes other types and devices"
        )
    if tensor.shape != shape:
        raise ValueError(f"engine native: expected {name} of shape {shape}, got {tuple(tensor.shape)}")


def _columns(name: str, x: Tensor, neurons: int, n_batch: int | None = None) -> Tensor:
    _check(name, x, (x.shape[0] if n_batch is None else n_batch, neurons))
    return lay_out(x)


def _values(values: Tensor, pattern: DevicePattern) -> Tensor:
    _check("values", values, (pattern.indices.shape[0],))
    return values.contiguous()


def spmm(x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern) -> Tensor:
    """y = x @ W + bias, (n_batch, n_out) with the batch contiguous in memory."""
    n_in, n_out = pattern.shape
    x, values = _columns("x", x, n_in), _values(values, pattern)
    if bias is not None:
        _check("bias", bias, (n_out,))
        bias = bias.contiguous()
    return _product(x, values, bias, pattern, by_output=True)


def spmm_t(dy: Tensor, values: Tensor, pattern: DevicePattern) -> Tensor:
    """dx = dy @ W.T, (n_batch, n_in) with the batch contiguous in memory."""
    dy, values = _columns("dy", dy, pattern.shape[1]), _values(values, pattern)
    return _product(dy, values, None, pattern, by_output=False)


def _product(x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern, *, by_output: bool) -> Tensor:
    n_batch = x.shape[0]
    y = new_columns(n_batch, pattern.shape[1 if by_output else 0])
    _core().product(
        records.Product(
            pattern=pattern.compiled,
            by_output=by_output,
            values=values.data_ptr(),
            bias=0 if bias is None else bias.data_ptr(),
            x=records.columns(x),
            y=records.columns(y),
            n_batch=n_batch,
        ),
        native.threads(values.shape[0] * n_batch),
    )
    return y


def sddmm(x: Tensor, dy: Tensor, pattern: DevicePattern) -> Tensor:
    """(x.T @ dy) at the connections, (nnz,) in the pattern's order."""
    n_in, n_out = pattern.shape
    x, dy = _columns("x", x, n_in), _columns("dy", dy, n_out, len(x))
    dw = native.empty(len(pattern.indices))
    _gradients(x, dy, None, None, dw, None, pattern)
    return dw


def gradients(
    x: Tensor, dy: Tensor, values: Tensor, pattern: DevicePattern, *, wants_dx: bool = True
) -> tuple[Tensor | None, Tensor, Tensor]:
    """dx = dy @ W.T, (x.T @ dy) at the connections and the sum of dy over the batch: each row of dy is read once."""
    n_in, n_out = pattern.shape
    x, dy, values = _columns("x", x, n_in), _columns("dy", dy, n_out, x.shape[0]), _values(values, pattern)
    dx = new_columns(x.shape[0], n_in) if wants_dx else None
    dw, db = torch.empty_like(values), native.empty(n_out)
    _gradients(x, dy, values, dx, dw, db, pattern)
    return dx, dw, db


def _gradients(
    x: Tensor,
    dy: Tensor,
    values: Tensor | None,
    dx: Tensor | None,
    dw: Tensor,
    db: Tensor | None,
    pattern: DevicePattern,
) -> None:
    _core().gradients(
        records.Gradients(
            pattern=pattern.compiled,
            values=0 if values is None else values.data_ptr(),
            x=records.columns(x),
            dy=records.columns(dy),
            dx=records.columns(dx),
            dw=dw.data_ptr(),
            db=0 if db is None else db.data_ptr(),
            n_batch=x.shape[0],
        ),
        native.threads(dw.shape[0] * x.shape[0]),
    )
