"""Sparse rows: LIBSVM's text with query ids and either count of features, and SciPy's npz of one matrix."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from set_cli.data.readers.guard import one_line, reading, shown
from set_cli.data.readers.npz import read_npz
from set_cli.data.readers.text import LONGEST_LINE, PYTHONS_NUMBER, bounded_lines, is_number
from set_cli.errors import DataError

SPARSE_MEMBERS = {"format", "shape", "data"}  # of what scipy.sparse.save_npz writes
COMPRESSED = ("csr", "csc")
ENTRY = re.compile(rb"([0-9]{1,10}):(.+)", re.DOTALL)
QUERY = re.compile(rb"qid:[0-9]{1,18}")


@dataclass(frozen=True, slots=True, eq=False)
class SparseRows:
    """Rows of an svmlight file, before it is known where features are counted from.

    matrix  scipy.sparse csr (rows, largest index + 1), columns as numbered in the file
    y       (rows,) labels
    groups  (rows,) query ids, or None
    """

    matrix: Any
    y: NDArray[np.float64]
    groups: NDArray[np.int64] | None

    @property
    def has_zero(self) -> bool:
        """Whether an index is 0, so that features are counted from 0."""
        return bool(self.matrix.nnz) and int(self.matrix.indices.min()) == 0


def read_sparse_rows(content: bytes, name: str) -> SparseRows:
    """Lines of `label [qid:n] index:value … [# comment]`, indices rising; DataError at the first other cell."""
    from sklearn.datasets import load_svmlight_file  # most of a second to import

    expected = f"{name}: expected lines of `label index:value …` with indices that rise"
    content = content.removeprefix(b"\xef\xbb\xbf")
    for _ in bounded_lines(content, LONGEST_LINE, expected):
        pass
    if PYTHONS_NUMBER.search(content):
        raise DataError(f"{expected}, {_first_odd_entry(content, 'an underscore')}")
    has_queries = re.search(rb"\sqid:", content) is not None
    loaded = None
    with reading(name):
        try:
            loaded = load_svmlight_file(io.BytesIO(content), dtype=np.float64, zero_based=True, query_id=has_queries)
        except (ValueError, OverflowError) as error:
            raise DataError(f"{expected}, {_first_odd_entry(content, one_line(str(error)))}") from None
    matrix, y, *queries = loaded
    if not len(y) or not (np.isfinite(matrix.data).all() and np.isfinite(y).all()):
        raise DataError(f"{expected}, {_first_odd_entry(content, 'none')}")
    if queries and len(queries[0]) != len(y):
        raise DataError(f"{name}: expected a qid in every line, found {len(queries[0]):,} in {len(y):,} lines")
    return SparseRows(matrix, y, np.asarray(queries[0], np.int64) if queries else None)


def _first_odd_entry(content: bytes, otherwise: str) -> str:
    for number, line in enumerate(io.BytesIO(content), start=1):
        last = -1
        for column, cell in enumerate(line.partition(b"#")[0].split(), start=1):
            if column == 1:
                good = is_number(cell)
            elif column == 2 and cell.startswith(b"qid:"):
                good = QUERY.fullmatch(cell) is not None
            else:
                entry = ENTRY.fullmatch(cell)
                index = int(entry[1]) if entry else -1
                good = entry is not None and last < index < 2**31 and is_number(entry[2])
                last = index
            if not good:
                return f"found {shown(cell)} in line {number}, column {column}"
    return f"found {otherwise}"


def read_sparse_npz(stream: BinaryIO, name: str, limit: int) -> NDArray[Any]:
    """(rows, features) dense, from the npz of scipy.sparse.save_npz; limit is the bytes that it may have."""
    import scipy.sparse

    members = ("format", "shape", "data", "indices", "indptr", "row", "col")
    arrays = read_npz(stream, name, limit, members, words=("format",))
    with reading(name):
        form = str(arrays["format"].astype(str))
        shape = tuple(int(n) for n in arrays["shape"].ravel())
        data = arrays["data"]
        if len(shape) != 2 or min(shape) < 0 or math.prod(shape) * data.itemsize > limit:
            raise DataError(f"{name}: expected a matrix of at most {limit:,} bytes when dense, found {shape}")
        if form in COMPRESSED and {"indices", "indptr"} <= arrays.keys():
            kind = scipy.sparse.csr_matrix if form == "csr" else scipy.sparse.csc_matrix
            matrix = kind((data, arrays["indices"], arrays["indptr"]), shape=shape)
            matrix.check_format(full_check=True)
        elif form == "coo" and {"row", "col"} <= arrays.keys():
            matrix = scipy.sparse.coo_matrix((data, (arrays["row"], arrays["col"])), shape=shape)
        else:
            raise DataError(f"{name}: expected a sparse matrix in csr, csc or coo form, found {one_line(form)}")
        dense: NDArray[Any] = matrix.toarray()
    return dense
