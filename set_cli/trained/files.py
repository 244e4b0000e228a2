"""A file of rows to predict, in any format that dataset=custom reads; labels are welcome and not needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Dataset
from set_cli.data.custom import LABEL, RATIO, SMALL, SPLIT, Table, _csv_lines, _read_tables, check_path
from set_cli.data.parse import SPLITS
from set_cli.data.readers.guard import reading
from set_cli.errors import ConfigError, DataError
from set_cli.plain_files import open_plain


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
    notes: tuple[str, ...] = ()


def read_rows(path: Path, dataset: Dataset, label: str | None) -> FileRows:
    """The rows of a file; DataError where it is missing or malformed, ConfigError for an ending that is not known.

    dataset  the run's: what its columns are called
    label    the column that holds the labels; None: as in training
    """
    if (label or dataset.label or LABEL) != LABEL:
        raise ConfigError(f"expected the labels in the column {LABEL}")
    check_path(str(path))
    try:
        with open_plain(path) as stream:
            content = stream.read()
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror})") from None
    with reading(str(path)):
        tables, _ = _read_tables(content, path, max(SMALL, RATIO * len(content)))
    names: tuple[str, ...] = ()
    if path.suffix.lower() == ".csv":
        header = [name.strip() for name in next(_csv_lines(content, path), (0, []))[1]]
        names = tuple(name for name in header if name not in (LABEL, SPLIT))
    return _together({str(split): tables[split] for split in SPLITS if split in tables}, names)


def _together(tables: dict[str, Table], names: tuple[str, ...]) -> FileRows:
    """All parts as one table; labels where all parts have them."""
    labels = [table.labels.ravel() for table in tables.values() if table.labels is not None]
    parts = [np.full(len(table.x), name) for name, table in tables.items()]
    return FileRows(
        np.concatenate([table.x for table in tables.values()]),
        np.concatenate(labels) if len(labels) == len(tables) else None,
        names,
        np.concatenate(parts) if len(parts) > 1 else None,
    )
