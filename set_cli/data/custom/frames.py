"""Tables whose format says what their columns are: ARFF by SciPy, Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.custom.columns import Columns, Frame
from set_cli.data.custom.files import Format
from set_cli.data.custom.labels import NUMBER, is_missing
from set_cli.data.custom.numbers import as_numbers, hint_for
from set_cli.data.custom.tables import quoted
from set_cli.errors import DataError

SAFE_PYARROW = 15  # older ones unpickle what a file tells them to (CVE-2023-47248)
CELL_BYTES = 8


def read_frame(
    content: bytes, form: Format, path: str, limit: int, choose: Callable[[Sequence[str]], Columns]
) -> tuple[Frame, Columns]:
    """The table, and what each of its columns is by `choose`; DataError where a feature is no number.

    limit  bytes that its cells may take
    """
    table = _read_arff(content, path) if form == "arff" else _read_parquet(content, path, limit)
    columns = choose(list(table))
    names, arrays = columns.names, list(table.values())

    def cell(row: int, position: int) -> str:
        value = arrays[position][row]
        word = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        return f"{quoted(word)} in row {row + 1}, column {quoted(names[position])}"

    rows = len(arrays[0]) if arrays else 0
    numbers = np.empty((rows, len(columns.features)), _common_type([arrays[i] for i in columns.features]))
    odds: dict[int, int] = {}  # by column, the first row whose cell is no number
    for j, i in enumerate(columns.features):
        values, odd = as_numbers(arrays[i])
        if odd is None:
            numbers[:, j] = values
        else:
            odds[i] = odd
    if odds:
        i, odd = next(iter(odds.items()))
        hint = hint_for(arrays[i][odd], [names[other] for other in odds])
        raise DataError(f"{path}: expected a number, found {cell(odd, i)}; {hint}")
    return Frame(numbers, {i: arrays[i] for i in columns.words}, cell), columns


def _common_type(columns: list[NDArray[Any]]) -> type[np.float32] | type[np.float64]:
    return np.float32 if columns and all(c.dtype in (np.float16, np.float32) for c in columns) else np.float64


def _read_arff(content: bytes, path: str) -> Mapping[str, NDArray[Any]]:
    from scipy.io import arff

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    if any(line.lstrip().startswith("{") for line in text.split("\n")):
        raise DataError(f"{path}: expected one value for every attribute, found the sparse form of ARFF ({{…}})")
    try:
        rows, meta = arff.loadarff(io.StringIO(text))
    except NotImplementedError as error:  # words of any kind, and dates in some forms
        raise DataError(
            f"{path}: expected attributes that are numbers or lists of words, found others ({error})"
        ) from None
    _refuse_other_digits(text, {n: kind == "numeric" for n, kind in zip(meta.names(), meta.types(), strict=True)}, path)
    return {name: rows[name] for name in meta.names()}


def _refuse_other_digits(text: str, is_number: Mapping[str, bool], path: str) -> None:
    """DataError for `1_000` and for digits that are not 0 to 9: SciPy takes what Python does, other programs do not."""
    lines = iter(enumerate(text.splitlines(), start=1))
    for _, line in lines:
        if line.strip().casefold() == "@data":
            break
    for number, line in lines:
        if "_" not in line and line.isascii():
            continue
        cells = next(csv.reader([line], quotechar="'", skipinitialspace=True), [])
        for cell, (name, numeric) in zip(cells, is_number.items(), strict=False):
            word = cell.strip()
            if numeric and not NUMBER.fullmatch(word) and not is_missing(word):
                hint = hint_for(word, [name])
                raise DataError(f"{path}: expected a number, found {quoted(word)} in line {number}; {hint}")


def _read_parquet(content: bytes, path: str, limit: int) -> Mapping[str, NDArray[Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{path}: Parquet needs the package pyarrow (pip install pyarrow), or save it as csv") from None
    if int(pyarrow.__version__.split(".")[0]) < SAFE_PYARROW:
        raise DataError(f"{path}: Parquet needs pyarrow {SAFE_PYARROW} or later, found {pyarrow.__version__}")
    file = pyarrow.parquet.ParquetFile(io.BytesIO(content))
    cells = file.metadata.num_rows * file.metadata.num_columns
    if cells * CELL_BYTES > limit:
        raise DataError(f"{path}: expected a table of at most {limit // CELL_BYTES:,} cells, found {cells:,}")
    table = file.read()
    names = table.column_names
    if len(set(names)) != len(names):
        raise DataError(f"{path}: expected a name of its own for every column, found one twice")
    return {name: _column(table.column(i)) for i, name in enumerate(names)}


def _column(column: Any) -> NDArray[Any]:
    """Numbers as NumPy has them (NaN where there is no value), anything else as words, None where there is none."""
    series = column.to_pandas()
    if series.dtype.kind in "buif" or str(series.dtype).startswith(("Int", "UInt", "Float")):
        values: NDArray[Any] = series.to_numpy()
        return values
    cells: NDArray[Any] = series.astype(object).to_numpy()
    return cells
