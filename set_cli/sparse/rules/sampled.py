"""Products of columns, x.T @ y, at chosen cells or in blocks of rows: what gradients and similarities are made of.

On the CPU in float32 the compiled kernel computes them, every sum by one thread in one order; elsewhere torch does.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from set_cli import native
from set_cli.sparse.engines import compiled
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.sparse.pattern import Csr, from_positions, full_pattern

CELLS_AT_ONCE = 2**16  # that torch's operations compute together: memory is this times the rows of a batch
CELLS_IN_BLOCK = 2**20  # of a block of rows: its memory, whatever the batch


def sampled_product(x: Tensor, y: Tensor, cells: Tensor) -> Tensor:
    """(len(cells),) the sum over the rows of x[:, i] * y[:, j] for each cell (i, j).

    x, y   (n_batch, n_in), (n_batch, n_out)
    cells  int64, i * n_out + j, in any order
    O(n_batch * len(cells)) time; memory is a copy of x and y, or of CELLS_AT_ONCE cells in each row.
    """
    x, y = _in_one_type(x, y)
    n_out = y.shape[1]
    if not len(cells):
        return x.new_zeros(0)
    if not native.takes(x, y):
        blocks = torch.split(cells.to(x.device), CELLS_AT_ONCE)
        return torch.cat([(x[:, some // n_out] * y[:, some % n_out]).sum(dim=0) for some in blocks])
    cells = cells.cpu()
    if bool((cells.diff() > 0).all()):
        return _at_ascending(x, y, cells)
    distinct, at = torch.unique(cells, return_inverse=True)
    return _at_ascending(x, y, distinct)[at]


def _at_ascending(x: Tensor, y: Tensor, cells: Tensor) -> Tensor:
    """The kernel takes the cells as a layer's connections, of the inputs from the first to the last that has one."""
    n_out = y.shape[1]
    first, last = int(cells[0]) // n_out, int(cells[-1]) // n_out
    pattern = from_positions((cells - first * n_out).numpy(), (last + 1 - first, n_out))
    return compiled.sddmm(x[:, first : last + 1], y, _on_cpu(pattern))


def products_in_blocks(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """x.T @ y in blocks of whole rows, about CELLS_IN_BLOCK cells each: the first cell, then (cells of the block,)."""
    x, y = _in_one_type(x, y)
    n_in, n_out = x.shape[1], y.shape[1]
    rows = min(n_in, max(1, CELLS_IN_BLOCK // n_out))
    takes = native.takes(x, y)
    if takes:  # once, not for each block
        x, y = native.lay_out(x), native.lay_out(y)
        pattern = _on_cpu(full_pattern(rows, n_out))
    for first in range(0, n_in, rows):
        some = x[:, first : first + rows]
        if not takes:
            yield first * n_out, (some.T @ y).flatten()
            continue
        if some.shape[1] < rows:
            pattern = _on_cpu(full_pattern(some.shape[1], n_out))
        yield first * n_out, compiled.sddmm(some, y, pattern)


def _in_one_type(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 or more: products in half precision would be too rough to compare."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)


def _on_cpu(pattern: Csr) -> DevicePattern:
    return DevicePattern(pattern.shape, torch.from_numpy(pattern.indptr), torch.from_numpy(pattern.indices))
