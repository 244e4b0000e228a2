"""From verified content to rows: one function per published form."""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.card import Card, Form, SourceFile, Split
from set_cli.data.files import content_limit
from set_cli.data.parts import Labels, Part, no_rows
from set_cli.data.readers.binary import read_cifar, read_idx
from set_cli.data.readers.guard import as_binary
from set_cli.data.readers.mat import read_mat
from set_cli.data.readers.npz import read_npz
from set_cli.data.readers.text import (
    class_numbers,
    letters_order,
    read_amat,
    read_debd,
    read_letters,
    read_svmlight,
)
from set_cli.errors import DataError

Parts = dict[Split, Part]
Content = Mapping[str, bytes]  # by the file's name in the catalogue
SPLITS: tuple[Split, ...] = ("train", "valid", "test")
NAMES_IN_MAT: dict[Split, str] = {"train": "train", "valid": "val", "test": "test"}


def parse(card: Card, form: Form, content: Content) -> Parts:
    """The rows of the parts that these files hold, checked against the card; other parts are empty.

    DataError where the content is malformed or is not this data set's.
    """
    parts = {"idx": _idx, "cifar": _cifar, "made": _made, "debd": _debd, "svmlight": _svmlight, "amat": _amat,
             "mat": _mat, "letters": _letters}[form.format](card, form, content)  # fmt: skip
    whole = {split: parts.get(split, no_rows(card.features, form.labels)) for split in SPLITS}
    for split, part in whole.items():
        check_part(card, part, f"{card.name}: {split}")
    return whole


def check_part(card: Card, part: Part, name: str) -> None:
    """DataError unless the part has one label of the card's classes (or none at all) per row of features."""
    labels = len(part.x) if part.y is None else len(part.y)
    if part.x.ndim != 2 or part.x.shape[1] != card.features or labels != len(part.x):
        found = "" if part.y is None else f"{labels} labels and "
        each = "rows" if part.y is None else "one label per row"
        raise DataError(
            f"{name}: expected {each} of {card.features} features, found {found}an array of shape {part.x.shape}"
        )
    if part.y is None or not len(part):
        return
    strange = (part.y < 0) | (part.y >= card.classes)
    if strange.any():
        row = int(np.argmax(strange))
        raise DataError(f"{name}: expected labels 0 to {card.classes - 1}, found {part.y[row]} in row {row + 1}")


def _files(form: Form, content: Content, split: Split) -> list[SourceFile]:
    return [file for file in form.files if file.part == split and file.name in content]


def _idx(card: Card, form: Form, content: Content) -> Parts:
    parts: Parts = {}
    arrays = {name: read_idx(text, name) for name, text in content.items()}
    for name, array in arrays.items():  # each by itself: an import may bring one of them only
        shape = () if "labels" in name else card.shape
        if array.shape[1:] != shape:
            raise DataError(f"{name}: expected an array of shape {('n', *(shape or ()))}, found {array.shape}")
        most = card.test if name.startswith("t10k") else card.train
        if len(array) > most:
            raise DataError(f"{name}: expected at most {most:,} rows, found {len(array):,}")
    for split in ("train", "test"):
        files = _files(form, content, split)
        if len(files) == 2:
            images, labels = (arrays[file.name] for file in files)
            parts[split] = Part(images.reshape(len(images), -1), labels.astype(np.int64))
    return parts


def _cifar(card: Card, form: Form, content: Content) -> Parts:
    parts: Parts = {}
    for split in ("train", "test"):
        batches = [read_cifar(content[file.name], file.name) for file in _files(form, content, split)]
        if batches:
            x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
            parts[split] = Part(x, y.astype(np.int64))
    return parts


def _made(card: Card, form: Form, content: Content) -> Parts:
    (name,) = content
    wanted = {f"{split}_data" for split in SPLITS}
    arrays = read_npz(io.BytesIO(content[name]), name, content_limit(card), wanted)
    if arrays.keys() != wanted:
        raise DataError(f"{name}: expected the arrays {_words(wanted)}, found {_words(arrays) or 'none of them'}")
    return {split: Part(as_binary(arrays[f"{split}_data"], f"{name}:{split}_data"), None) for split in SPLITS}


def _debd(card: Card, form: Form, content: Content) -> Parts:
    return {
        split: Part(read_debd(content[file.name], file.name, card.features), None)
        for split in SPLITS
        for file in _files(form, content, split)
    }


def _amat(card: Card, form: Form, content: Content) -> Parts:
    tables = {name: read_amat(text, name, card.features) for name, text in content.items()}
    return _labelled(card, form, tables)


def _svmlight(card: Card, form: Form, content: Content) -> Parts:
    cells = 2 * card.rows * card.features
    tables = {}
    for name, text in content.items():
        x, y = read_svmlight(text, name, card.features, cells)
        tables[name] = (as_binary(x, name), y)
    return _labelled(card, form, tables)


def _labelled(card: Card, form: Form, tables: Mapping[str, tuple[NDArray[np.uint8], NDArray[np.float64]]]) -> Parts:
    """Parts of a form with one table per file; the labels of the training rows, sorted, are the classes from 0."""
    parts: Parts = {}
    values: NDArray[Any] = np.unique(np.concatenate([y for _, y in tables.values()]))
    if form.labels and len(values) > card.classes:
        names = ", ".join(tables)
        raise DataError(f"{names}: expected {card.classes} different labels, found {len(values)}")
    for file in form.files:
        if file.name not in tables:
            continue
        x, y = tables[file.name]
        part = Part(x, class_numbers(y, values, file.name) if form.labels else None)
        if file.part == "all":  # training and validation rows in one file
            parts["train"], parts["valid"] = part[: card.train], part[card.train :]
        else:
            parts[file.part] = part
    return parts


def _mat(card: Card, form: Form, content: Content) -> Parts:
    (name,) = content
    wanted = [f"{prefix}_{what}" for prefix in NAMES_IN_MAT.values() for what in ("data", "labels")]
    arrays = read_mat(content[name], name, wanted, content_limit(card))
    if arrays.keys() != set(wanted):
        raise DataError(f"{name}: expected the arrays {_words(wanted)}, found {_words(arrays) or 'none of them'}")
    assert card.shape is not None
    height, width = card.shape
    parts: Parts = {}
    for split in SPLITS:
        prefix = NAMES_IN_MAT[split]
        x = as_binary(arrays[f"{prefix}_data"], f"{name}:{prefix}_data")
        if x.shape[1] != card.features:
            raise DataError(f"{name}: expected rows of {card.features} values, found {x.shape[1]}")
        # MATLAB stores images column by column; everything else here goes row by row.
        x = x.reshape(-1, width, height).transpose(0, 2, 1).reshape(len(x), -1)
        parts[split] = Part(np.ascontiguousarray(x), _matlab_labels(arrays[f"{prefix}_labels"], name))
    return parts


def _matlab_labels(values: NDArray[Any], name: str) -> Labels:
    """Classes are counted from 1 there."""
    flat = values.ravel()
    with np.errstate(invalid="ignore"):
        labels = flat.astype(np.int64)
    strange = labels != flat
    if strange.any():
        row = int(np.argmax(strange))
        raise DataError(f"{name}: expected whole numbers as labels, found {flat[row]} in row {row + 1}")
    return labels - 1


def _letters(card: Card, form: Form, content: Content) -> Parts:
    (name,) = content
    x, y = read_letters(content[name], name, card.features)
    if len(x) != card.rows:
        raise DataError(f"{name}: expected {card.rows:,} letters, found {len(x):,}; the split needs them all")
    whole = Part(x, y)[letters_order(len(x))]
    cut = card.train + card.valid
    return {"train": whole[: card.train], "valid": whole[card.train : cut], "test": whole[cut:]}


def _words(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
