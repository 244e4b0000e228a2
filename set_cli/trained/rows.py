"""Rows as people have them, NumPy arrays, DataFrames, tensors, lists, as the values that a run was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import sparse

from set_cli.data.parts import Values
from set_cli.data.readers.guard import one_line
from set_cli.errors import DataError
from set_cli.runs.inputs import RunInputs

MOST_NAMED = 5  # columns in a sentence
FAR = 2.5  # deviations from the training rows' mean: in half of the features a sample's mean is nearer
LARGEST = float(np.finfo(np.float32).max)  # of a value that training had in float32; infinity is larger


class RowsWarning(UserWarning):
    """Rows that do not look like the data file's: predictions for them mean little."""


def as_values(rows: Any, inputs: RunInputs, ignored: Collection[str]) -> Values:
    """(n, features) values of the type that the run was trained on, missing ones filled in.

    rows     (n, features), one row (features,), or images (n, …) of the run's shape, channels first or last: NumPy
             array of numbers, DataFrame, Series (one row), torch tensor, SciPy sparse matrix or nested list, with the
             values that the data file has
    ignored  names of a DataFrame's columns that are no features: labels, groups, what the run dropped
    DataError where these are no such rows, where a value is missing and the run has nothing to put there, and where one
    is infinite; RowsWarning where the values look scaled already.
    """
    table = _as_table(rows, inputs, ignored)
    if isinstance(table, pd.DataFrame):
        table = _numbers_of_frame(table)
    values = _as_rows(_as_numbers(table), inputs)
    values = _complete(values, inputs)
    _warn_of_other_scale(values, inputs)
    return _as_trained(values, inputs)


def _as_table(rows: Any, inputs: RunInputs, ignored: Collection[str]) -> Any:
    """A DataFrame with the run's features in their order, or something that NumPy makes an array of."""
    if isinstance(rows, pd.Series):
        named = inputs.features and set(inputs.features) <= set(map(str, rows.index))
        rows = rows.to_frame().T if named else rows.to_numpy()
    if isinstance(rows, torch.Tensor):
        rows = rows.detach().cpu()
        return (rows.float() if rows.dtype == torch.bfloat16 else rows).numpy()
    if sparse.issparse(rows):
        return rows.toarray()
    if isinstance(rows, np.ma.MaskedArray):
        return np.ma.filled(rows.astype(np.float64), np.nan)
    if isinstance(rows, np.ndarray) and rows.dtype.names is not None:
        rows = pd.DataFrame(rows)
    elif not isinstance(rows, pd.DataFrame | np.ndarray) and hasattr(rows, "to_pandas"):  # Polars, PyArrow
        rows = rows.to_pandas()
    return _matched(rows, inputs.features, ignored) if isinstance(rows, pd.DataFrame) else rows


def _matched(frame: pd.DataFrame, features: Sequence[str], ignored: Collection[str]) -> pd.DataFrame:
    """The columns of these features, in their order; by position where the run does not know its features' names."""
    names = [str(name).strip() for name in frame.columns]
    if not features:
        return frame.iloc[:, [i for i, name in enumerate(names) if name not in ignored]]
    position: dict[str, int] = {}
    wanted = set(features)
    for i, name in enumerate(names):
        if name in wanted and name in position:
            raise DataError(f"expected one column {one_line(name)!r}, found two")
        position[name] = i
    missing = [name for name in features if name not in position]
    if missing:
        raise DataError(f"expected the columns that the run was trained on; missing: {_some(missing)}")
    extra = [name for name in names if name not in wanted and name not in ignored]
    if extra:
        raise DataError(f"expected the columns that the run was trained on, found others too: {_some(extra)}")
    return frame.iloc[:, [position[name] for name in features]]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(one_line(name)[:40]) for name in names[:MOST_NAMED])
    return shown + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


def _numbers_of_frame(frame: pd.DataFrame) -> NDArray[Any]:
    kinds = set(frame.dtypes)
    if len(kinds) == 1 and isinstance(kind := kinds.pop(), np.dtype) and kind.kind in "bui" + "f":
        return frame.to_numpy()
    columns = []
    for i, name in enumerate(frame.columns):
        column = frame.iloc[:, i]
        if column.dtype.kind not in "buifO" and not isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype):
            raise DataError(f"expected numbers, found {column.dtype} in column {one_line(str(name))!r}")
        numbers = pd.to_numeric(column.astype(object), errors="coerce")
        wrong = numbers.isna() & column.notna()
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            found = one_line(str(column.iloc[row]))[:40]
            raise DataError(f"expected numbers, found {found!r} in row {row} (the first is 0), column {str(name)!r}")
        columns.append(numbers.to_numpy(np.float64, na_value=np.nan))
    return np.stack(columns, axis=1) if columns else np.empty((len(frame), 0))


def _as_numbers(table: Any) -> NDArray[Any]:
    """An array of bytes, integers or floats."""
    try:
        array = np.asarray(table)
        if array.dtype.kind in "OSU":
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"expected rows of numbers of one length ({one_line(str(error))})") from None
    if array.dtype.kind not in "buif":
        raise DataError(f"expected rows of numbers, found values of type {array.dtype}")
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    return array if array.dtype.kind in "ui" or array.dtype == np.float32 else array.astype(np.float64)


def _as_rows(array: NDArray[Any], inputs: RunInputs) -> NDArray[Any]:
    """(n, features): one row becomes a table of one, images become rows."""
    features, shape = len(inputs.offset), inputs.shape
    if array.ndim == 2 and array.shape[1] == features:
        return array
    if array.ndim == 1 and (len(array) == features or (features == 1 and len(array))):
        return array.reshape(-1, features)
    if shape is not None:
        # A grey image is (height, width) or (1, height, width), whatever the file had.
        plain = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
        alike = {shape, plain} | ({(1, *plain)} if len(plain) == 2 else set())
        if array.shape in alike:
            return array.reshape(1, features)
        if array.shape[1:] in alike:
            return array.reshape(len(array), features)
        if len(plain) == 2 and array.shape[-3:] == (*plain, 1) and array.ndim in (3, 4):
            return array.reshape(-1, features)  # one channel last
        if len(shape) == 3 and array.ndim in (3, 4) and array.shape[-3:] == (*shape[1:], shape[0]):
            return np.moveaxis(array, -1, -3).reshape(-1, features)  # channels last, as the reader of files takes them
    images = "" if shape is None else f", or images (n, {', '.join(map(str, shape))})"
    raise DataError(f"expected rows (n, {features}){images}, found an array of shape {array.shape}")


def _complete(values: NDArray[Any], inputs: RunInputs) -> NDArray[Any]:
    """Missing values filled in; DataError where the run has nothing to put there, or a value is infinite."""
    if values.dtype.kind != "f":
        return values
    missing = np.isnan(values)
    if missing.any():
        if inputs.fill is None:
            row, feature = _place(missing)
            raise DataError(
                f"a value is missing (NaN) in row {row}, feature {_name(feature, inputs)} (the first is 0), and the "
                "run was trained without missing values: fill it in, or train with data.missing=mean"
            )
        values = np.where(missing, inputs.fill.astype(values.dtype), values)
    huge = np.abs(values) > (np.finfo(np.float64).max if inputs.dtype == "float64" else LARGEST)
    if huge.any():
        row, feature = _place(huge)
        found = f"{values[row, feature]:g}"
        raise DataError(
            f"expected finite numbers, found {found} in row {row}, feature {_name(feature, inputs)} (the first is 0)"
        )
    return values


def _place(wrong: NDArray[np.bool_]) -> tuple[int, int]:
    row, feature = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return int(row), int(feature)


def _name(feature: int, inputs: RunInputs) -> str:
    return f"{feature} {one_line(inputs.features[feature])!r}" if inputs.features else str(feature)


def _warn_of_other_scale(values: NDArray[Any], inputs: RunInputs) -> None:
    """The usual mistake: rows that were scaled before. Their predictions are wrong without a sign of it."""
    if not values.size:
        return
    smallest, largest = float(values.min()), float(values.max())
    if inputs.kind != "real":
        is_fraction = inputs.maximum > 1 and largest <= 1 and bool((values != np.trunc(values)).any())
        if is_fraction or smallest < 0 or largest > inputs.maximum:
            _warn(f"values from {smallest:g} to {largest:g}, where the data file has 0 to {inputs.maximum}")
    elif inputs.scale.any():
        varies = inputs.scale > 0
        away = np.abs((values[:, varies].mean(axis=0, dtype=np.float64) - inputs.offset[varies]) * inputs.scale[varies])
        if np.median(away) > FAR:
            _warn("most values lie far from those of the training rows")


def _warn(found: str) -> None:
    sentence = f"{found}: are these rows scaled already? The run takes rows as they are in the data file"
    warnings.warn(sentence, RowsWarning, stacklevel=6)  # the line that called predict


def _as_trained(values: NDArray[Any], inputs: RunInputs) -> Values:
    """The type of the training rows where that loses nothing: the same values then give the same bits."""
    if inputs.dtype == "uint8":
        fits = values.size == 0 or (values.min() >= 0 and values.max() <= 255)
        if fits and (values.dtype.kind != "f" or bool((values == np.trunc(values)).all())):
            return values.astype(np.uint8)
        return values.astype(np.float64)
    return values.astype(np.float32) if inputs.dtype == "float32" else values.astype(np.float64)
