"""From the user's files to a card and parts: every format read, labels made classes, values checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Dataset
from set_cli.data.card import Card, Split
from set_cli.data.custom.arrays import read_arrays
from set_cli.data.custom.columns import NO_LABEL, Columns, choose_columns, split_frame
from set_cli.data.custom.delimited import read_delimited
from set_cli.data.custom.files import Content, Format, check_path, read_content
from set_cli.data.custom.frames import read_frame
from set_cli.data.custom.labels import check_spellings, class_name, class_numbers, class_values, read_labels
from set_cli.data.custom.sparse import sparse_tables
from set_cli.data.custom.tables import Table, check_values, listed
from set_cli.data.parse import SPLITS, Parts
from set_cli.data.parts import Labels, Part, Values, no_rows
from set_cli.data.readers.guard import reading
from set_cli.data.readers.sparse import read_sparse_rows
from set_cli.errors import ConfigError, DataError
from set_cli.system.files import sha256

Tables = dict[Split, Table]
Notes = tuple[str, ...]
Check = Callable[[Columns], None]


def read_custom(dataset: Dataset, *, missing: str, labels: bool) -> tuple[Card, Parts]:
    """A card made from the files of `dataset=custom`, and their rows.

    missing  data.missing: unless it is 'refuse', a missing value of a feature is NaN in x
    labels   whether the model needs labels
    x is uint8 where the file holds bytes (or nothing but 0 and 1), float32 where it holds those, else float64.
    Parts that the files do not have are empty; a file without parts is all training rows. card.notes says what was
    left out or taken otherwise than it stands.
    DataError where a file is malformed or not the one of its checksum; ConfigError for names that it does not have.
    """
    assert dataset.path is not None  # check_pair refused it
    assert dataset.checksum is not None
    first = read_content(check_path(dataset.path), dataset.checksum)
    if dataset.test_path is None:
        tables, notes = _parse(first, dataset, labels=labels)
    else:
        tables, notes = _with_test_file(first, dataset, labels=labels)
    if "train" not in tables or not len(tables["train"].x):
        raise DataError(f"{first.path}: no training rows")
    names = {split: f"{first.path}: {split}" for split in tables}
    if dataset.test_path is not None:
        names["test"] = dataset.test_path
    _check_tables(tables, names, missing)
    return _card_and_parts(tables, notes, first.path, names)


def read_tables(path: Path, dataset: Dataset, check: Check) -> tuple[Tables, Notes, Format]:
    """The parts of a file of rows to predict, and its format; labels, groups and what was dropped may be there or not.

    dataset  what the columns, or arrays, of the training file were called
    check    called with the columns of a table before its cells are read; may raise
    DataError where the file is missing or malformed; ConfigError where its name does not say what it is.
    """
    content = read_content(check_path(str(path), "FILE"), sha256(path))
    meaningless: dict[str, tuple[str, ...]] = {"svmlight": ("features", "label", "drop", "group")}
    meaningless |= {"npz": ("drop", "group"), "mat": ("drop", "group")}
    others = dict.fromkeys(meaningless.get(content.format, ("features",)))
    return *_parse(content, dataset.model_copy(update=others), labels=False, of_test=True, check=check), content.format


def _parse(
    content: Content, dataset: Dataset, *, labels: bool, of_test: bool = False, check: Check = lambda columns: None
) -> tuple[Tables, Notes]:
    """The parts that a file holds.

    of_test  whether it is the second file, which need not have the columns that training leaves out
    check    called with the columns of a table before its cells are read
    """
    name, data = str(content.path), content.data
    if content.format in ("npz", "mat"):
        return read_arrays(data, content.format, name, dataset, content.limit, labels=labels, of_test=of_test)
    if dataset.features is not None:
        raise ConfigError(f"dataset.features names an array of an npz or mat; {name} is a {content.format} file")
    if content.format == "svmlight":
        tables, notes = _sparse_tables([content], dataset)
        return {"train": tables[0]}, notes

    def choose(header: Sequence[str]) -> Columns:
        columns = choose_columns(header, dataset, name, labels=labels, of_test=of_test)
        check(columns)
        return columns

    with reading(name):
        if content.format == "csv":
            frame, columns = read_delimited(data, name, choose)
        else:
            frame, columns = read_frame(data, content.format, name, content.limit, choose)
        return split_frame(frame, columns, name)


def _sparse_tables(contents: list[Content], dataset: Dataset) -> tuple[list[Table], Notes]:
    """One table per svmlight file, all with the features of the widest."""
    path = contents[0].path
    for key, value in (("label", dataset.label), ("drop", dataset.drop)):
        if value not in (None, NO_LABEL):
            raise ConfigError(f"dataset.{key} names a column; {path} is an svmlight file, whose columns have no names")
    if dataset.group not in (None, "qid"):
        raise ConfigError(f"dataset.group: expected qid for the svmlight file {path}, found {dataset.group}")
    files = {str(content.path): read_sparse_rows(content.data, str(content.path)) for content in contents}
    if dataset.group is not None and next(iter(files.values())).groups is None:
        raise ConfigError(f"dataset.group=qid: {path} has no qid")
    return sparse_tables(files, max(content.limit for content in contents) // 4)


def _with_test_file(first: Content, dataset: Dataset, *, labels: bool) -> tuple[Tables, Notes]:
    """The parts of the first file, and the rows of the second as test rows."""
    assert dataset.test_path is not None
    assert dataset.test_checksum is not None
    second = read_content(check_path(dataset.test_path, "dataset.test_path"), dataset.test_checksum)
    if (first.format, second.format) == ("svmlight", "svmlight"):
        (train, test), notes = _sparse_tables([first, second], dataset)
        return {"train": train, "test": test}, notes
    tables, notes = _parse(first, dataset, labels=labels)
    others, other_notes = _parse(second, dataset, labels=labels, of_test=True)
    if "test" in tables:
        raise DataError(f"{first.path}: has test rows of its own beside dataset.test_path; leave one of them out")
    if len(others) != 1:
        raise DataError(f"{second.path}: expected the test rows only, found the parts {listed(others)}")
    (test,) = others.values()
    if "train" in tables:
        test = _same_columns(tables["train"], test, str(second.path))
        if tables["train"].labels is None or test.labels is None:  # an RBM needs none
            tables, test = {s: replace(t, labels=None) for s, t in tables.items()}, replace(test, labels=None)
    return tables | {"test": test}, tuple(dict.fromkeys([*notes, *other_notes]))


def _same_columns(train: Table, test: Table, name: str) -> Table:
    """The test rows with their columns in the order of the training rows; DataError where they have others."""
    if train.features == test.features or not train.features or not test.features:
        return test
    missing = [name for name in train.features if name not in set(test.features)]
    extra = [name for name in test.features if name not in set(train.features)]
    if missing or extra:
        words = [f"{listed(names)} {what}" for names, what in ((missing, "missing"), (extra, "too many")) if names]
        raise DataError(
            f"{name}: expected the columns of the training file, found {' and '.join(words)}; dataset.drop leaves "
            f"columns out of both"
        )
    at = {name: i for i, name in enumerate(test.features)}
    order = np.array([at[name] for name in train.features])
    cell = test.cell
    return replace(
        test, x=test.x[:, order], features=train.features, cell=lambda row, feature: cell(row, int(order[feature]))
    )


def _check_tables(tables: Tables, names: Mapping[Split, str], missing: str) -> None:
    """DataError where a value cannot be taken, or a part has other features than the training rows."""
    for split, table in tables.items():
        check_values(table, names[split], missing, of_training=split == "train")
    train = tables["train"]
    features = train.x.shape[1]
    for split, table in tables.items():
        if table.x.shape[1] != features:
            found = table.x.shape[1]
            raise DataError(f"{names[split]} has {found} features, the training rows have {features}")
        if split != "train" and table.shape is not None and table.shape != train.shape:
            expected = None if train.shape is None else list(train.shape)
            raise DataError(f"{names[split]} has images {list(table.shape)}, the training rows have {expected}")


def _card_and_parts(tables: Tables, notes: Notes, path: Path, names: Mapping[Split, str]) -> tuple[Card, Parts]:
    train = tables["train"]
    features = train.x.shape[1]
    x = _values({split: table.x for split, table in tables.items()})
    numbers, class_names = _classes(tables, path, names)
    labelled = train.labels is not None
    parts: Parts = {split: no_rows(features, labelled) for split in SPLITS}
    for split, table in tables.items():
        parts[split] = Part(x[split], numbers.get(split), table.groups)
    if train.shape is not None and (len(train.shape) not in (2, 3) or math.prod(train.shape) != features):
        raise DataError(f"{path}: expected the shape of one image of {features} values, found {list(train.shape)}")
    card = _card(path, parts, train, class_names)
    return replace(card, notes=notes), parts


def _values(tables: Mapping[Split, NDArray[Any]]) -> dict[Split, Values]:
    """The same type for all parts: bytes and 0/1 tables are uint8, float32 stays, everything else becomes float64."""
    arrays = list(tables.values())
    if all(x.dtype in (np.uint8, np.bool_) for x in arrays) or all(_is_binary(x) for x in arrays):
        return {split: np.ascontiguousarray(x, np.uint8) for split, x in tables.items()}
    narrow = all(x.dtype in (np.float16, np.float32, np.uint8, np.bool_) for x in arrays)
    if narrow:
        return {split: np.ascontiguousarray(x, np.float32) for split, x in tables.items()}
    return {split: np.ascontiguousarray(x, np.float64) for split, x in tables.items()}


def _is_binary(x: NDArray[Any]) -> bool:
    return bool(((x == 0) | (x == 1)).all())


def _classes(tables: Tables, path: Path, names: Mapping[Split, str]) -> tuple[dict[Split, Labels], tuple[str, ...]]:
    """Class numbers of every part, and what the classes are called; nothing where there are no labels."""
    train = tables["train"]
    if train.labels is None:
        return {}, ()
    labels: dict[Split, NDArray[Any]] = {}
    for split, table in tables.items():
        if table.labels is None:
            raise DataError(f"{names[split]}: expected {len(table.x):,} labels, found none")
        labels[split] = read_labels(table, names[split])
    check_spellings(list(labels.values()), str(path))
    values = class_values(labels["train"], str(path))
    numbers = {split: class_numbers(labels[split], values, table, names[split]) for split, table in tables.items()}
    return numbers, tuple(class_name(value) for value in values)


def _card(path: Path, parts: Parts, train: Table, class_names: tuple[str, ...]) -> Card:
    """What the rows of all parts say: test rows must mean what training rows mean."""
    kind, maximum = _range([part.x for part in parts.values() if len(part)])
    return Card(
        name="custom",
        title=path.name,
        domain="the user's own",
        kind=kind,
        features=train.x.shape[1],
        classes=len(class_names),
        shape=train.shape,
        maximum=maximum,
        train=len(parts["train"]),
        valid=len(parts["valid"]),
        test=len(parts["test"]),
        homepage="",
        licence="",
        citation="",
        class_names=class_names,
        feature_names=train.features,
    )


def _range(tables: list[Values]) -> tuple[Literal["binary", "bounded", "real"], int]:
    """The kind of these values and the largest that is possible."""
    if tables[0].dtype == np.uint8:
        return ("binary", 1) if max(x.max() for x in tables) <= 1 else ("bounded", 255)
    lowest, largest = min(float(np.nanmin(x)) for x in tables), max(float(np.nanmax(x)) for x in tables)
    return ("bounded", 1) if lowest >= 0 and largest <= 1 else ("real", 1)
