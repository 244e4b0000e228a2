"""A file of rows to predict, in any format that dataset=custom reads; labels are welcome and not needed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Dataset
from set_cli.data.custom import read_tables
from set_cli.data.custom.columns import NO_LABEL, Columns
from set_cli.data.custom.labels import read_labels
from set_cli.data.custom.tables import Table, listed
from set_cli.data.parse import SPLITS
from set_cli.errors import ConfigError, DataError
from set_cli.runs.inputs import RunInputs

RENAME = "call the array of rows as the training file does, or X"


@dataclass(frozen=True, slots=True, eq=False)
class FileRows:
    """Rows of a file, those of its parts one after the other.

    x         (n, features) as they stand there
    labels    (n,) numbers or words; None where the file has none
    features  the names of the columns; empty where they have none
    parts     (n,) 'train', 'valid' or 'test'; None where the file has one part only
    notes     sentences about how the file was read
    """

    x: NDArray[Any]
    labels: NDArray[Any] | None
    features: tuple[str, ...]
    parts: NDArray[np.str_] | None
    notes: tuple[str, ...]


def read_rows(path: Path, dataset: Dataset, inputs: RunInputs, label: str | None, *, with_labels: bool) -> FileRows:
    """The rows of a file; DataError where it is missing or malformed, ConfigError for an ending that is not known.

    dataset  the run's: what its columns are called
    inputs   the run's: which features it knows
    label    the column or array that holds the labels; None: as in training
    """
    called = dataset if label is None else dataset.model_copy(update={"label": label})
    features = len(inputs.offset)

    def check(columns: Columns) -> None:
        if label not in (None, NO_LABEL) and columns.label is None:
            raise ConfigError(_no_label(label, path, columns.names))
        known = set(inputs.features)
        others = [columns.names[i] for i in columns.features if columns.names[i] not in known]
        if known and others:
            raise DataError(
                f"{path}: expected the columns that the run was trained on, found others too: {listed(others)}; "
                "--label NAME says which one holds the labels"
            )

    try:
        found, notes, form = read_tables(path, called, check)
    except (ConfigError, DataError) as error:
        raise type(error)(_advice_for_predict(str(error))) from None
    tables = {split: found[split] for split in SPLITS if split in found}
    if label not in (None, NO_LABEL) and all(table.labels is None for table in tables.values()):
        raise ConfigError(_no_label(label, path))
    labels = None
    if with_labels and all(table.labels is not None for table in tables.values()):
        labels = _labels(tables, path)
    x = np.concatenate([_rows(table, path) for table in tables.values()])
    if form == "svmlight" and x.shape[1] < features:  # features that are 0 everywhere do not stand there
        x = np.pad(x, ((0, 0), (0, features - x.shape[1])))
    parts = [np.full(len(table.x), split) for split, table in tables.items()]
    names = next(iter(tables.values())).features
    return FileRows(x, labels, names, np.concatenate(parts) if len(parts) > 1 else None, notes)


def _advice_for_predict(message: str) -> str:
    """A sentence of dataset=custom without what only set-train can do: its columns and arrays are the run's."""
    message = re.sub(r"dataset\.features=NAME( and dataset\.label=NAME)? chooses?", RENAME, message)
    message = re.sub(r"(, or |; )?'?dataset\.drop=\[.*\]'? leaves the columns? out(, and [^;]*)?", "", message)
    return message.replace("dataset.label=", "--label ")


def _no_label(label: str | None, path: Path, names: Sequence[str] = ()) -> str:
    there = f" (columns: {listed(names)})" if names else ""
    return f"--label {label}: {path} has no column or array of that name{there}"


def _labels(tables: dict[Any, Table], path: Path) -> NDArray[Any]:
    with labels_can_be_ignored():
        found = [read_labels(table, f"{path}: {split}") for split, table in tables.items()]
    return np.concatenate([part.astype(object) for part in found])


@contextmanager
def labels_can_be_ignored() -> Iterator[None]:
    """Add to a DataError about labels how to do without them."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{error}; --ignore-labels predicts without them") from None


def _rows(table: Table, path: Path) -> NDArray[Any]:
    if table.x.ndim != 2:
        raise DataError(f"{path}: expected rows of features, found an array of shape {table.x.shape}")
    return table.x
