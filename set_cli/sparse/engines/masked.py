"""Engine `masked`: dense products with zeros where there is no connection, the usual simulation of sparsity.

O(n_in n_out) time and memory in every product, whatever the number of connections. Unlike the usual masked layer it
keeps the weights sparse between products, so that evolution and optimiser are the same for every engine.
"""

from __future__ import annotations

import torch
from torch import Tensor

from set_cli.sparse.engines.device_pattern import DevicePattern


def _dense(values: Tensor, pattern: DevicePattern) -> Tensor:
    n_in, n_out = pattern.shape
    return values.new_zeros(n_in * n_out).index_copy_(0, pattern.cells, values).view(n_in, n_out)


def arrange(x: Tensor) -> Tensor:
    """x itself: dense products read any layout."""
    return x


def spmm(x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern) -> Tensor:
    """y = x @ W + bias, (n_batch, n_out), of x's type."""
    weight = _dense(values.to(x.dtype), pattern)
    return x @ weight if bias is None else torch.addmm(bias.to(x.dtype), x, weight)


def spmm_t(dy: Tensor, values: Tensor, pattern: DevicePattern) -> Tensor:
    """dx = dy @ W.T, (n_batch, n_in), of dy's type."""
    return dy @ _dense(values.to(dy.dtype), pattern).t()


def sddmm(x: Tensor, dy: Tensor, pattern: DevicePattern) -> Tensor:
    """(x.T @ dy) computed whole, then read at the connections, (nnz,)."""
    return (x.t() @ dy).flatten().index_select(0, pattern.cells)
