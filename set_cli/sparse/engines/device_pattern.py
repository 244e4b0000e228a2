"""A layer's connectivity as torch tensors on one device, in both orders."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DevicePattern(NamedTuple):
    """The pattern that an engine reads; all index tensors are int32.

    indptr, indices          rows are the layer's inputs: (n_in + 1,), (nnz,); the order of the values
    out_indptr, out_indices  rows are the layer's outputs: (n_out + 1,), (nnz,)
    out_order                (nnz,) values[out_order] are the values in the second order
    """

    shape: tuple[int, int]
    indptr: Tensor
    indices: Tensor
    out_indptr: Tensor
    out_indices: Tensor
    out_order: Tensor
