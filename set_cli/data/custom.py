"""`dataset=custom`: the user's own table as npz, csv, mat or svmlight, by the conventions of datasets/custom.md."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from set_cli.data.catalog import Card, Split
from set_cli.data.files import reading_file
from set_cli.data.parse import SPLITS, Parts
from set_cli.data.parts import Labels, Part, no_rows
from set_cli.data.readers.guard import check_finite, one_line
from set_cli.data.readers.mat import read_mat
from set_cli.data.readers.npz import read_npz
from set_cli.data.readers.text import LONGEST_LINE, bounded_lines, class_numbers, is_number, read_svmlight
from set_cli.errors import ConfigError, DataError
from set_cli.plain_files import open_plain

SMALL = 2**28  # bytes that any file may unpack to
RATIO = 200  # times its own size that a larger one may: 0/1 data packs 100:1, a bomb 1000:1
LARGEST_FILE = 2**35
SUFFIXES = (".npz", ".csv", ".mat", ".svmlight", ".libsvm")
LABEL, SPLIT = "label", "split"  # columns of a csv
PREFIXES: dict[Split, tuple[str, ...]] = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}
SHAPE = "shape"  # array of an npz or mat: the shape of one image

# What files are called that others have made: {part} is one of the prefixes above.
ROW_NAMES, LABEL_NAMES = ("x_{}", "{}_data"), ("y_{}", "{}_labels")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as they came from a file, before their labels became class numbers; labels None where there are none."""

    x: NDArray[Any]
    labels: NDArray[Any] | None


def check_path(path: str) -> Path:
    """ConfigError unless the file's name says what format it has."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise ConfigError(f"dataset.path={path}: expected a file that ends in {', '.join(SUFFIXES)}")
    return Path(path)


def read_custom(path: Path, sha256: str) -> tuple[Card, Parts]:
    """A card made from the file, and its rows; DataError where the file is malformed or not the one of that checksum.

    Parts that the file does not have are empty; a file without parts is all training rows.
    """
    with reading_file(path), open_plain(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_FILE:
            raise DataError(f"{path}: expected at most {LARGEST_FILE:,} bytes, found {size:,}")
        content = stream.read(size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: changed, its sha256 was {sha256[:12]}… when the command started")
    tables, shape = _read_tables(content, path, max(SMALL, RATIO * size))
    if "train" not in tables or not len(tables["train"].x):
        raise DataError(f"{path}: no training rows")
    return _card_and_parts(tables, shape, path)


def _read_tables(content: bytes, path: Path, limit: int) -> tuple[dict[Split, Table], tuple[int, ...] | None]:
    match path.suffix.lower():
        case ".npz":
            return _from_arrays(read_npz(io.BytesIO(content), str(path), limit, _array_names()), path)
        case ".mat":
            return _from_arrays(read_mat(content, str(path), _array_names(), limit), path)
        case ".csv":
            return _from_csv(content, path), None
        case _:
            x, y = read_svmlight(content, str(path), None, limit // 4)
            return {"train": Table(x, y)}, None


def _array_names() -> list[str]:
    prefixes = [prefix for names in PREFIXES.values() for prefix in names]
    named = [pattern.format(prefix) for prefix in prefixes for pattern in (*ROW_NAMES, *LABEL_NAMES)]
    return [*named, "x", "y", SHAPE]


def _from_arrays(arrays: Mapping[str, NDArray[Any]], path: Path) -> tuple[dict[Split, Table], tuple[int, ...] | None]:
    tables: dict[Split, Table] = {}
    for split, prefixes in PREFIXES.items():
        x = _first(arrays, [name.format(p) for p in prefixes for name in ROW_NAMES])
        y = _first(arrays, [name.format(p) for p in prefixes for name in LABEL_NAMES])
        if x is not None:
            tables[split] = Table(x, y)
    if "x" in arrays and "train" not in tables:
        tables["train"] = Table(arrays["x"], arrays.get("y"))
    if "train" not in tables:
        raise DataError(
            f"{path}: expected an array x_train (or train_data, or x), found {', '.join(sorted(arrays)) or 'none'}"
        )
    shape = None
    if SHAPE in arrays:
        sizes = arrays[SHAPE].ravel()[:4].tolist()
        if not all(0 < n < 2**31 and n == int(n) for n in sizes):
            raise DataError(f"{path}: expected whole numbers above 0 as the shape of one image, found {sizes}")
        shape = tuple(int(n) for n in sizes)
    elif tables["train"].x.ndim > 2:
        shape = tables["train"].x.shape[1:]
    return {split: Table(_as_rows(table.x), table.labels) for split, table in tables.items()}, shape


def _as_rows(x: NDArray[Any]) -> NDArray[Any]:
    """Images as rows; what has fewer than two dimensions stays, to be refused."""
    return x.reshape(len(x), math.prod(x.shape[1:])) if x.ndim > 2 else np.atleast_1d(x)


def _first(arrays: Mapping[str, NDArray[Any]], names: list[str]) -> NDArray[Any] | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _from_csv(content: bytes, path: Path) -> dict[Split, Table]:
    """A header line; the column `label` holds the class, `split` the part, all others are features."""
    lines = _csv_lines(content, path)
    _, names = next(lines, (0, []))
    names = [name.strip() for name in names]
    if all(is_number(name) for name in names):
        found = "numbers" if names else "nothing"
        raise DataError(
            f"{path}: expected a header line that names the columns (label, split, features), found {found}"
        )
    odd = next((name for i, name in enumerate(names) if not name or name in names[:i]), None)
    if odd is not None:
        raise DataError(f"{path}: expected a name of its own for every column, found {_cell(odd)}")
    features = [i for i, name in enumerate(names) if name not in (LABEL, SPLIT)]
    if not features:
        raise DataError(f"{path}: expected columns of features beside label and split, found none")
    values, words = bytearray(), {name: list[str]() for name in (LABEL, SPLIT) if name in names}
    for number, cells in lines:
        if len(cells) != len(names):
            raise DataError(f"{path}: expected {len(names)} cells, found {len(cells)} in line {number}")
        row = _finite([cells[i] for i in features])
        if row is None:
            i = next(i for i in features if not is_number(cells[i]))
            raise DataError(f"{path}: expected a number, found {_place(cells, names, i, number)}")
        values += row.tobytes()
        for name, column in words.items():
            i = names.index(name)
            column.append(cells[i].strip())
            if column[-1] not in SPLITS if name == SPLIT else not _is_label(column[-1]):
                expected = "train, valid or test" if name == SPLIT else "a class"
                raise DataError(f"{path}: expected {expected}, found {_place(cells, names, i, number)}")
    x = np.frombuffer(values, np.float32).reshape(-1, len(features))
    labels = _as_labels(words[LABEL]) if LABEL in words else None
    if SPLIT not in words:
        return {"train": Table(x, labels)}
    chosen = {split: np.array([word == split for word in words[SPLIT]], bool) for split in SPLITS}
    return {s: Table(x[rows], None if labels is None else labels[rows]) for s, rows in chosen.items() if rows.any()}


def _csv_lines(content: bytes, path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of every line that is not blank, and its number. No cell spans lines: a quote is closed in its own."""
    for number, line in bounded_lines(content, LONGEST_LINE, f"{path}: expected lines of cells"):
        try:
            for cells in csv.reader([line.decode("utf-8-sig" if number == 1 else "utf-8")], strict=True):
                if cells:
                    yield number, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{path}: malformed in line {number} ({one_line(str(error))})") from None


def _finite(cells: list[str]) -> NDArray[np.float32] | None:
    """The numbers in the cells; None where one is no finite number."""
    try:
        with np.errstate(over="ignore"):
            row = np.array([float(cell) for cell in cells], np.float32)
    except ValueError:
        return None
    return row if np.isfinite(row).all() else None


def _is_label(word: str) -> bool:
    """Neither empty nor `nan`, which is how a number that is missing is written."""
    try:
        return math.isfinite(float(word))
    except ValueError:
        return bool(word)


def _as_labels(words: list[str]) -> NDArray[Any]:
    """Numbers where all of them are, else the words as they are."""
    try:
        return np.array([float(word) for word in words])
    except ValueError:
        return np.array(words, object)


def _place(cells: list[str], names: list[str], i: int, number: int) -> str:
    return f"{_cell(cells[i])} in line {number}, column {_cell(names[i])}"


def _cell(text: str) -> str:
    return repr(text[:30]) + ("…" if len(text) > 30 else "")


def _card_and_parts(tables: dict[Split, Table], shape: tuple[int, ...] | None, path: Path) -> tuple[Card, Parts]:
    x = {split: _values(table.x, f"{path}: {split}") for split, table in tables.items()}
    if any(values.dtype != np.uint8 for values in x.values()):
        x = {split: values.astype(np.float32) for split, values in x.items()}
    features = x["train"].shape[1]
    labelled = tables["train"].labels is not None
    values = _classes(tables["train"].labels, path) if labelled else np.empty(0)
    parts: Parts = {split: no_rows(features, labelled) for split in SPLITS}
    for split, table in tables.items():
        if x[split].shape[1] != features:
            raise DataError(f"{path}: {split} has {x[split].shape[1]} features, the training rows have {features}")
        parts[split] = Part(
            x[split], _labels(table.labels, values, len(x[split]), f"{path}: {split}") if labelled else None
        )
    if shape is not None and (len(shape) not in (2, 3) or math.prod(shape) != features):
        raise DataError(f"{path}: expected the shape of one image of {features} values, found {list(shape)}")
    return _card(path, parts, len(values), shape), parts


def _values(x: NDArray[Any], name: str) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Bytes stay bytes, everything else becomes float32."""
    if x.ndim != 2 or not x.shape[1]:
        raise DataError(f"{name}: expected rows of features, found an array of shape {x.shape}")
    if x.dtype == np.uint8:
        return x
    with np.errstate(all="ignore"):  # what overflows is infinite, and refused for it
        values = x.astype(np.float32)
    check_finite(values, name)
    if values.size and values.min() >= 0 and values.max() <= 1 and np.array_equal(values, values.astype(np.uint8)):
        return values.astype(np.uint8)
    return values


def _classes(labels: NDArray[Any] | None, path: Path) -> NDArray[Any]:
    """The different labels of the training rows, sorted: their positions are the classes."""
    assert labels is not None
    values: NDArray[Any] = np.unique(labels.ravel())
    if values.dtype.kind == "f":
        strange = values[~np.isfinite(values) | (values != np.trunc(values))]
        if len(strange):
            raise DataError(f"{path}: expected whole numbers or words as labels, found {strange[0]}")
    if len(values) < 2:
        raise DataError(f"{path}: expected at least two classes among the labels, found {len(values)}")
    return values


def _labels(labels: NDArray[Any] | None, values: NDArray[Any], rows: int, name: str) -> Labels:
    if labels is None or labels.size != rows:
        found = "none" if labels is None else f"{labels.size:,}"
        raise DataError(f"{name}: expected {rows:,} labels, found {found}")
    return class_numbers(labels.ravel(), values, name)


def _card(path: Path, parts: Parts, classes: int, shape: tuple[int, ...] | None) -> Card:
    """What the rows of all parts say: test rows must mean what training rows mean."""
    kind, maximum = _range([part.x for part in parts.values() if len(part)])
    train = parts["train"].x
    return Card(
        name="custom",
        title=path.name,
        domain="the user's own",
        kind=kind,
        features=train.shape[1],
        classes=classes,
        shape=shape,
        maximum=maximum,
        train=len(train),
        valid=len(parts["valid"]),
        test=len(parts["test"]),
        homepage="",
        licence="",
        citation="",
    )


def _range(tables: list[NDArray[Any]]) -> tuple[Literal["binary", "bounded", "real"], int]:
    """The kind of these values and the largest that is possible."""
    lowest, largest = min(x.min() for x in tables), max(x.max() for x in tables)
    if tables[0].dtype == np.uint8:
        return ("binary", 1) if largest <= 1 else ("bounded", 255)
    return ("bounded", 1) if lowest >= 0 and largest <= 1 else ("real", 1)
