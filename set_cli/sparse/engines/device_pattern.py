"""A layer's connectivity as torch tensors on one device, and what the engines derive from it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from set_cli import native
from set_cli.sparse.pattern import Csr, check_pattern

OVERWRITTEN = (
    "the layer's indptr or indices were overwritten: an index is out of range; load_state_dict gives a layer other "
    "connections"
)


class ByOutput(NamedTuple):
    """The connections in rows of outputs; all int32.

    indptr, indices  (n_out + 1,), (nnz,)
    order            (nnz,) values[order] are the values in this order
    """

    indptr: Tensor
    indices: Tensor
    order: Tensor


class DevicePattern:
    """The pattern that an engine reads: rows are the layer's inputs, values lie in this order.

    indptr, indices  (n_in + 1,), (nnz,) int32, those of a valid Csr. Where they are changed in place afterwards, they
                     are checked again before anything is computed with them. Torch does not count changes through
                     `.data`, a numpy view or DLPack: of those the engines on the CPU refuse what would leave the
                     layer (`by_input`; `native` looks itself), and do not see indices that another neuron has.
    """

    def __init__(self, shape: tuple[int, int], indptr: Tensor, indices: Tensor) -> None:
        self.shape, self.indptr, self.indices = shape, indptr, indices
        self._versions = self._current_versions()
        self._by_output: ByOutput | None = None
        self._cells: Tensor | None = None
        self._native: Any = None

    def __reduce__(self) -> tuple[type[DevicePattern], tuple[tuple[int, int], Tensor, Tensor]]:
        return DevicePattern, (self.shape, self.indptr, self.indices)  # a copy derives the rest again

    @property
    def csr(self) -> Csr:
        """The same as read-only numpy arrays."""
        indptr, indices = (tensor.cpu().numpy().view() for tensor in (self.indptr, self.indices))
        indptr.flags.writeable = indices.flags.writeable = False
        return Csr(indptr, indices, self.shape)

    @property
    def by_input(self) -> tuple[Tensor, Tensor]:
        """indptr and indices themselves; on the CPU ValueError where somebody has written into them."""
        self._notice_changes()
        if self.indices.is_cpu and len(self.indices):  # on a GPU everyone would wait for the answer
            starts = self.indptr
            lowest, highest = (int(bound) for bound in torch.aminmax(self.indices))
            is_within = lowest >= 0 and highest < self.shape[1] and bool((starts[1:] >= starts[:-1]).all())
            if not is_within or int(starts[0]) != 0 or int(starts[-1]) != len(self.indices):
                raise ValueError(OVERWRITTEN)
        return self.indptr, self.indices

    @property
    def by_output(self) -> ByOutput:
        """The transposed structure on the same device; ValueError where the indices were changed into nonsense."""
        self._notice_changes()
        if self._by_output is None:
            if self.indices.is_cpu:
                transposed, order = self.csr.transposed_order()
                arrays = (transposed.indptr, transposed.indices, order)
                self._by_output = ByOutput(*(torch.from_numpy(array) for array in arrays))
            else:
                self._by_output = ByOutput(*transpose(self.shape, self.indptr, self.indices))
        return self._by_output

    @property
    def cells(self) -> Tensor:
        """(nnz,) int64: input * n_out + output of every connection; ValueError as `by_output`."""
        self._notice_changes()
        if self._cells is None:
            self._cells = positions(self.shape, self.indptr, self.indices)
        return self._cells

    @property
    def compiled(self) -> Any:
        """The kernels' own view, with the transposed structure; ValueError as `by_output`."""
        self._notice_changes()
        if self._native is None:
            assert native.core is not None
            self._native = native.core.Pattern(*self.shape, self.indptr.numpy(), self.indices.numpy())
        return self._native

    def _current_versions(self) -> list[int]:
        return native.versions((self.indptr, self.indices))

    def _notice_changes(self) -> None:
        versions = self._current_versions()
        if versions != self._versions:
            check_pattern(self.csr)
            self._versions, self._by_output, self._cells, self._native = versions, None, None, None


def transpose(shape: tuple[int, int], indptr: Tensor, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The connections in rows of outputs: indptr, indices and the order of their values, all int32."""
    n_in, n_out = shape
    sorted_outputs, order = torch.sort(indices, stable=True)
    inputs = _rows(n_in, indptr, indices).to(torch.int32)
    outputs = torch.arange(n_out + 1, dtype=torch.int32, device=indices.device)
    starts = torch.searchsorted(sorted_outputs, outputs)
    return starts.to(torch.int32), inputs[order], order.to(torch.int32)


def positions(shape: tuple[int, int], indptr: Tensor, indices: Tensor) -> Tensor:
    """(nnz,) int64: input * n_out + output of every connection, ascending."""
    n_in, n_out = shape
    return _rows(n_in, indptr, indices) * n_out + indices


def _rows(n_in: int, indptr: Tensor, indices: Tensor) -> Tensor:
    """The input of every connection; how many there are is given, so that nothing waits for the GPU."""
    inputs = torch.arange(n_in, device=indices.device)
    return inputs.repeat_interleave(indptr.diff(), output_size=len(indices))
