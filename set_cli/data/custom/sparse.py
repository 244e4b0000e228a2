"""Svmlight files as tables: where features are counted from, and as many of them in every file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.custom.tables import Table
from set_cli.data.readers.guard import reading
from set_cli.data.readers.sparse import SparseRows
from set_cli.errors import DataError


def sparse_tables(files: Mapping[str, SparseRows], most_cells: int) -> tuple[list[Table], tuple[str, ...]]:
    """One dense table per file, all with the features of the widest, and what is to be said of them.

    most_cells  rows * features beyond which a table is refused before it is laid out
    """
    from_zero = any(rows.has_zero for rows in files.values())
    widths = [rows.matrix.shape[1] - (not from_zero) for rows in files.values()]
    width = max(widths) + (not from_zero)
    tables, notes = [], []
    for name, rows in files.items():
        shape = (rows.matrix.shape[0], width - (not from_zero))
        if shape[0] * shape[1] > most_cells:
            raise DataError(f"{name}: expected a table of at most {most_cells:,} cells, found {shape}")
        tables.append(_table(rows, _dense(rows, width, from_zero, name)))
    if from_zero:
        notes.append("features are counted from 0, for an index is 0")
    if len(set(widths)) > 1:
        found = " and ".join(f"{n:,}" for n in widths)
        notes.append(f"the files go up to {found} features: those that a file does not name are 0 in it")
    if any(rows.groups is not None for rows in files.values()):
        notes.append("rows with the same qid are kept together")
    return tables, tuple(notes)


def _dense(rows: SparseRows, width: int, from_zero: bool, name: str) -> NDArray[Any]:
    """Bytes where there is nothing but 0 and 1, which is what most such files hold."""
    with reading(name):
        matrix = rows.matrix.astype(np.uint8) if np.isin(rows.matrix.data, (0, 1)).all() else rows.matrix
        matrix.resize(matrix.shape[0], width)
        dense: NDArray[Any] = (matrix if from_zero else matrix[:, 1:]).toarray()
    return dense


def _table(rows: SparseRows, x: NDArray[Any]) -> Table:
    return Table(
        x,
        rows.y,
        cell=lambda row, feature: f"{x[row, feature]} in row {row + 1}, feature {feature + 1}",
        label_cell=lambda row: f"{rows.y[row]:g} in row {row + 1}",
        groups=rows.groups,
    )
