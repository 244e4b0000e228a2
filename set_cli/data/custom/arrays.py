"""Arrays of an npz or mat: which are the rows, the labels and the groups of each part, under other people's names."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Dataset
from set_cli.data.card import Split
from set_cli.data.custom.columns import NO_LABEL, group_numbers
from set_cli.data.custom.tables import Table, close_to, quoted, typed
from set_cli.data.readers.guard import one_line
from set_cli.data.readers.mat import NUMBERS, explore_mat, plain
from set_cli.data.readers.npz import list_npz, read_npz
from set_cli.data.readers.sparse import SPARSE_MEMBERS, read_sparse_npz
from set_cli.errors import ConfigError, DataError

# Names as `plain` leaves them; {} is one of a part's prefixes.
PREFIXES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training", "tr"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing", "te"),
}
ROWS = ("x{}", "{}x", "{}data", "data{}", "{}images", "images{}", "{}features", "features{}", "{}inputs", "inputs{}")
LABELS = ("y{}", "{}y", "{}labels", "labels{}", "{}label", "label{}", "{}targets", "targets{}", "{}target", "target{}")
WHOLE_ROWS = ("x", "data", "features", "images", "inputs", "arr0")
WHOLE_LABELS = ("y", "labels", "label", "target", "targets", "class", "arr1", "gnd", "yy")
SHAPE = "shape"  # array of an npz or mat: the shape of one image
COLOURS = (1, 3, 4)  # channels of an image

Listing = Mapping[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True, slots=True)
class Names:
    """The arrays of one part."""

    rows: str
    labels: str | None
    groups: str | None


def read_arrays(
    content: bytes, form: str, path: str, dataset: Dataset, limit: int, *, labels: bool, of_test: bool = False
) -> tuple[dict[Split, Table], tuple[str, ...]]:
    """The parts that the file holds, and what is to be said of them.

    labels   whether the model needs labels
    of_test  whether it is the second file, whose arrays may have other names
    ConfigError where the configuration names an array that is not there, or where labels are needed and there are none;
    DataError where no array, or several, could be the rows.
    """
    if dataset.drop is not None:
        raise ConfigError(f"dataset.drop leaves out columns of a table with names; {path} has arrays")
    if form == "npz":
        listing: Listing = list_npz(io.BytesIO(content), path)
        if listing.keys() >= SPARSE_MEMBERS:
            return _sparse(content, path, dataset, limit, labels=labels), ()
        chosen = _choose(listing, _known(dataset, listing, of_test), path, labels=labels)
        arrays = read_npz(io.BytesIO(content), path, limit, _all(chosen), words=_labels_and_groups(chosen))
    else:
        arrays, listing = explore_mat(content, path, _wanted(dataset), limit)
        chosen = _choose(listing, _known(dataset, listing, of_test), path, labels=labels)
        for name in _all(chosen) - {SHAPE}:
            if name not in arrays:
                raise DataError(
                    f"{path}: {one_line(name)}: expected an array of numbers, found {listing[name][1]} "
                    f"(the file has {_listed(listing)})"
                )
    return _tables(arrays, chosen, path)


def _known(dataset: Dataset, listing: Listing, of_test: bool) -> Dataset:
    """The configuration; for the second file, with those names only that it has."""
    if not of_test:
        return dataset
    named = {key: getattr(dataset, key) for key in ("features", "label", "group")}
    return dataset.model_copy(update={key: None for key, name in named.items() if name not in (*listing, NO_LABEL)})


def _wanted(dataset: Dataset) -> set[str]:
    """Plain names of whatever could be of use."""
    prefixes = [prefix for names in PREFIXES.values() for prefix in names]
    patterns = {pattern.format(prefix) for prefix in prefixes for pattern in (*ROWS, *LABELS)}
    named = {name for name in (dataset.features, dataset.label, dataset.group) if name is not None}
    others = {_of_part(name, part) for name in named for part in PREFIXES}
    return patterns | {*WHOLE_ROWS, *WHOLE_LABELS, SHAPE} | named | {name for name in others if name}


def _all(chosen: Mapping[Split, Names]) -> set[str]:
    names = {name for n in chosen.values() for name in (n.rows, n.labels, n.groups) if name is not None}
    return names | {SHAPE}


def _labels_and_groups(chosen: Mapping[Split, Names]) -> set[str]:
    return {name for n in chosen.values() for name in (n.labels, n.groups) if name is not None}


def _choose(listing: Listing, dataset: Dataset, path: str, *, labels: bool) -> dict[Split, Names]:
    """The arrays of every part that is there."""
    rows = _rows_by_part(listing, dataset, path)
    named = None if dataset.label == NO_LABEL and NO_LABEL not in listing else dataset.label
    for key, name in (("label", named), ("group", dataset.group)):
        if name is not None and name not in listing:
            raise ConfigError(_no_such(f"dataset.{key}", name, listing, path))
    whole = "train" in rows and plain(rows["train"]) not in _patterns("train", ROWS)
    chosen: dict[Split, Names] = {}
    for part, name in rows.items():
        if dataset.label is not None:
            label = named if part == "train" else _of_part(named or "", part)
            label = label if label in listing else None
        else:
            label = _one(listing, _patterns(part, LABELS), "dataset.label", path)
            if label is None and part == "train" and whole:
                label = _one(_without(listing, rows), WHOLE_LABELS, "dataset.label", path)
        chosen[part] = Names(name, label, dataset.group if part == "train" else None)
    if labels and "train" in chosen and chosen["train"].labels is None:
        raise ConfigError(
            f"{path} has no array y (or labels, target), and this model needs a class for every row: "
            f"dataset.label=NAME names it (the file has {_listed(listing)}); without any, use model=rbm"
        )
    return chosen


def _rows_by_part(listing: Listing, dataset: Dataset, path: str) -> dict[Split, str]:
    rows: dict[Split, str] = {}
    if dataset.features is not None:
        if dataset.features not in listing:
            raise ConfigError(_no_such("dataset.features", dataset.features, listing, path))
        rows["train"] = dataset.features
        for part in ("valid", "test"):
            other = _of_part(dataset.features, part)
            if other in listing:
                rows[part] = other
        return rows
    for part in PREFIXES:
        found = _one(listing, _patterns(part, ROWS), "dataset.features", path)
        if found is not None:
            rows[part] = found
    if "train" not in rows:
        whole = _one(listing, WHOLE_ROWS, "dataset.features", path)
        if whole is not None:
            rows["train"] = whole
    if not rows:
        raise DataError(
            f"{path}: expected an array of rows called x_train, X, data or the like, found {_listed(listing)}; "
            f"dataset.features=NAME and dataset.label=NAME choose"
        )
    return rows


def _of_part(name: str, part: Split) -> str:
    """The name for another part: x_test for x_train. '' where it names no part."""
    if re.search(r"train(ing)?", name, re.IGNORECASE) is None:
        return ""

    def other(found: re.Match[str]) -> str:
        word = {"train": found[0], "valid": "val", "test": "test"}[part]
        return word.upper() if found[0].isupper() else word.capitalize() if found[0][0].isupper() else word

    return re.sub(r"train(ing)?", other, name, count=1, flags=re.IGNORECASE)


def _patterns(part: Split, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.format(prefix) for prefix in PREFIXES[part] for name in names)


def _one(listing: Listing, names: tuple[str, ...], key: str, path: str) -> str | None:
    """The only array of one of these plain names; None where there is none, DataError where there are several."""
    found = [name for name in listing if plain(name) in names]
    if any(plain(name) == "arr2" for name in listing):  # more than rows and labels, in an order that nobody knows
        found = [name for name in found if plain(name) not in ("arr0", "arr1")]
    if len(found) > 1:
        few = {name: listing[name] for name in found}
        raise DataError(
            f"{path}: expected one array, found {_listed(few)}, which could all be meant; {key}=NAME chooses"
        )
    return found[0] if found else None


def _without(listing: Listing, rows: Mapping[Split, str]) -> Listing:
    return {name: what for name, what in listing.items() if name not in rows.values()}


def _no_such(key: str, name: str, listing: Listing, path: str) -> str:
    return f"{key}={typed(name)}: {path} has no such array{close_to(name, list(listing))} (it has {_listed(listing)})"


def _listed(listing: Listing) -> str:
    """Every name with its shape, and its type where that is no number's."""
    known = [
        f"{one_line(name)[:40]} {'x'.join(str(n) for n in shape) or 'scalar'}"
        + ("" if kind == NUMBERS or re.match(r"[<>|=]?(u?int|float|bool|[biuf]\d)", kind) else f" {kind}")
        for name, (shape, kind) in listing.items()
    ]
    return (", ".join(known[:20]) or "none") + (f" … ({len(known):,} in all)" if len(known) > 20 else "")


def _sparse(content: bytes, path: str, dataset: Dataset, limit: int, *, labels: bool) -> dict[Split, Table]:
    if labels or dataset.label not in (None, NO_LABEL) or dataset.features is not None or dataset.group is not None:
        raise ConfigError(
            f"{path} holds one SciPy sparse matrix and no labels: write rows and labels into an npz "
            f"(numpy.savez(…, X=matrix.toarray(), y=labels)) or an svmlight file, or use model=rbm"
        )
    return {"train": _table(read_sparse_npz(io.BytesIO(content), path, limit), None, None, None, path)}


def _tables(
    arrays: Mapping[str, NDArray[Any]], chosen: Mapping[Split, Names], path: str
) -> tuple[dict[Split, Table], tuple[str, ...]]:
    tables, notes = {}, []
    for part, names in chosen.items():
        x = arrays[names.rows]
        shape = _shape_of(arrays, x, path) if part == "train" else None
        if x.ndim == 4 and x.shape[3] in COLOURS and x.shape[1] not in COLOURS:
            x = x.transpose(0, 3, 1, 2)
            moved = f"images of {names.rows} have their channels last; they are moved to the front: {list(x.shape[1:])}"
            notes.append(one_line(moved))
        if shape is None and x.ndim > 2:
            shape = x.shape[1:]
        labels = None if names.labels is None else arrays[names.labels]
        if labels is not None:
            _check_count(x, labels, names, path)
        groups = None if names.groups is None else arrays[names.groups]
        if groups is not None and groups.size != len(x):
            raise DataError(f"{path}: expected {len(x):,} groups in {names.groups}, found {groups.size:,}")
        tables[part] = _table(x, labels, groups, shape, path)
    return tables, tuple(notes)


def _shape_of(arrays: Mapping[str, NDArray[Any]], x: NDArray[Any], path: str) -> tuple[int, ...] | None:
    """What the array `shape` says."""
    if SHAPE not in arrays or arrays[SHAPE] is x:
        return None
    sizes = arrays[SHAPE].ravel()[:4].tolist()
    if not all(0 < n < 2**31 and n == int(n) for n in sizes):
        raise DataError(f"{path}: expected whole numbers above 0 as the shape of one image, found {sizes}")
    return tuple(int(n) for n in sizes)


def _check_count(x: NDArray[Any], labels: NDArray[Any], names: Names, path: str) -> None:
    rows = len(x) if x.ndim else 1
    if labels.size == rows:
        return
    found = f"{labels.size:,}" if labels.ndim < 2 or 1 in labels.shape else f"an array of shape {labels.shape}"
    hint = ""
    if labels.ndim == 2 and len(labels) == rows:
        hint = "; of one column per class (one-hot), take numpy.argmax(…, axis=1)"
    elif x.ndim > 1 and labels.size == x.shape[-1]:
        hint = f"; the rows seem to be the last dimension of {one_line(names.rows)}: expected them in the first"
    raise DataError(f"{path}: expected {rows:,} labels in {one_line(names.labels or '')}, found {found}{hint}")


def _table(
    x: NDArray[Any], labels: NDArray[Any] | None, groups: NDArray[Any] | None, shape: tuple[int, ...] | None, path: str
) -> Table:
    rows = x.reshape(len(x), math.prod(x.shape[1:])) if x.ndim > 2 else np.atleast_1d(x)
    flat = None if labels is None else labels.ravel()
    if flat is not None and flat.dtype.kind in "US":
        flat = (
            flat.astype(str).astype(object)
            if flat.dtype.kind == "U"
            else np.char.decode(flat, "latin-1").astype(object)
        )
    numbers = None
    if groups is not None:
        of_rows = groups.ravel()
        numbers = group_numbers(of_rows, lambda row: f"{quoted(of_rows[row])} in row {row + 1}", path)
    return Table(
        rows,
        flat,
        cell=lambda row, feature: f"{rows[row, feature]} in row {row + 1}, column {feature + 1}",
        label_cell=lambda row: f"{_shown(flat, row)} in row {row + 1}",
        groups=numbers,
        shape=shape,
    )


def _shown(labels: NDArray[Any] | None, row: int) -> str:
    assert labels is not None
    return quoted(labels[row]) if labels.dtype.kind == "O" else str(labels[row])
