"""Engine `torch`: torch's own CSR products (MKL on the CPU, cuSPARSE on a GPU). O(nnz) memory, O(n_batch nnz) time."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from set_cli.sparse.engines.device_pattern import DevicePattern

with warnings.catch_warnings():
    # torch says once per process that CSR is in beta, and 2.11 that it does not look at the indices: ours are checked
    # (pattern.py), and every operation used here is tested against a dense oracle.
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
    warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
    torch.sparse_csr_tensor([0, 1], [0], [1.0], (1, 1), check_invariants=False)


def _product(weight: Tensor, rows: Tensor) -> Tensor:
    """(weight @ rows.T).T with the batch contiguous in what goes in and in what comes out."""
    product: Tensor = torch.sparse.mm(weight, rows.t().contiguous())
    return product.t()


def _csr(indptr: Tensor, indices: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(indptr, indices, values, shape, check_invariants=False)


def arrange(x: Tensor) -> Tensor:
    """x with the batch contiguous in memory."""
    return x.t().contiguous().t()


def spmm(x: Tensor, values: Tensor, bias: Tensor | None, pattern: DevicePattern) -> Tensor:
    """y = x @ W + bias, (n_batch, n_out) with the batch contiguous in memory."""
    n_in, n_out = pattern.shape
    indptr, indices, order = pattern.by_output
    product = _product(_csr(indptr, indices, values.index_select(0, order), (n_out, n_in)), x)
    return product if bias is None else product + bias


def spmm_t(dy: Tensor, values: Tensor, pattern: DevicePattern) -> Tensor:
    """dx = dy @ W.T, (n_batch, n_in) with the batch contiguous in memory."""
    weight = _csr(*pattern.by_input, values, pattern.shape)
    return _product(weight, dy)


def sddmm(x: Tensor, dy: Tensor, pattern: DevicePattern) -> Tensor:
    """(x.T @ dy) at the connections, (nnz,) in the pattern's order."""
    zeros = x.new_zeros(len(pattern.indices))
    weight = _csr(*pattern.by_input, zeros, pattern.shape)
    sampled: Tensor = torch.sparse.sampled_addmm(weight, x.t().contiguous(), dy, beta=0.0)
    return sampled.values()
