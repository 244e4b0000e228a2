"""What each column of a table is: the class, the part, the group, a feature, row numbers, or left out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Dataset
from set_cli.data.card import Split
from set_cli.data.custom.labels import is_missing
from set_cli.data.custom.tables import Table, close_to, listed, quoted, typed
from set_cli.data.parse import SPLITS
from set_cli.errors import ConfigError, DataError

LABEL, SPLIT = "label", "split"
NO_LABEL = "none"  # dataset.label=none: no column is the class, whatever they are called
# Names under which others keep the class, in any case.
CLASS_NAMES = {"label", "labels", "target", "targets", "class", "classes", "y", "classlabel", "classname"}
PERHAPS_CLASSES = {"category", "outcome", "species", "diagnosis", "response", "result", "type", "grade", "quality"}
ROW_NUMBERS = re.compile(r"Unnamed: [0-9]+(?:\.[0-9]+)*|rownames|row\.names|__index_level_[0-9]+__")


MOST_UNNAMED = 10  # columns without a name that are looked at, one by one


@dataclass(frozen=True, slots=True)
class Columns:
    """Positions of a table's columns by their use.

    names     of all columns; one without a name is called as pandas calls it, 'Unnamed: 0'
    unnamed   columns to be looked at: row numbers, or nothing at all
    suspects  features with the name of a class
    """

    names: tuple[str, ...]
    label: int | None
    split: int | None
    group: int | None
    features: tuple[int, ...]
    unnamed: tuple[int, ...]
    suspects: tuple[str, ...]

    @property
    def words(self) -> list[int]:
        """The columns that are read as words."""
        return sorted({i for i in (self.label, self.split, self.group, *self.unnamed) if i is not None})


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A table as it was read.

    numbers  (rows, features), in the order of Columns.features, NaN where there is no value
    words    by position: the columns of Columns.words
    cell     (row, position) -> a cell and its place
    """

    numbers: NDArray[Any]
    words: Mapping[int, NDArray[Any]]
    cell: Callable[[int, int], str]
    notes: tuple[str, ...] = ()


def choose_columns(
    header: Sequence[str], dataset: Dataset, path: str, *, labels: bool, of_test: bool = False
) -> Columns:
    """What each column is, from the names alone.

    labels   whether the model needs labels
    of_test  whether it is the second file, which need not have the columns that are no features
    ConfigError where the configuration names a column that is not there, for a column that could be the class, and
    where labels are needed and no column holds them; DataError for a header that cannot be used.
    """
    stripped = [name.strip() for name in header]
    taken = set(stripped)
    names = tuple(name or _free_name(i, taken) for i, name in enumerate(stripped))
    at = _positions(names, path)
    drop = [name for name in dataset.drop or () if not of_test or name.strip() in at]
    dropped = {_find(name, at, "dataset.drop", path) for name in drop}
    label = _label(dataset, at, path, may_miss=of_test and not labels)
    has_group = dataset.group is not None and (not of_test or dataset.group.strip() in at)
    group = _find(dataset.group or "", at, "dataset.group", path) if has_group else None
    split = at.get(SPLIT)
    for key, position in (("label", label), ("group", group)):
        if position is not None and position in dropped:
            raise ConfigError(f"dataset.drop leaves out {typed(names[position])}, which dataset.{key} needs")
    split = None if split in dropped | {label, group} else split
    unnamed = [i for i, name in enumerate(stripped) if not name]
    leading = next((i for i, name in enumerate(names) if stripped[i] and not ROW_NUMBERS.fullmatch(name)), len(names))
    used = dropped | {i for i in (label, group, split) if i is not None}
    others = {*unnamed, *range(leading)} - used
    features = [i for i in range(len(names)) if i not in used and i not in others]
    if not features and not unnamed:
        raise DataError(f"{path}: expected columns of features beside the class, found {listed(names)}")
    suspects = tuple(names[i] for i in features if re.sub(r"[\W_]", "", names[i].casefold()) in CLASS_NAMES)
    if labels and label is None:
        raise ConfigError(_no_label(names, features, suspects, path))
    if label is None and dataset.label is None and suspects:
        name = typed(suspects[0])
        raise ConfigError(
            f"{path}: column {quoted(suspects[0])} would be trained as a feature, but looks like the class: "
            f"dataset.label={name} says that it is, dataset.drop=[{name}] leaves it out, and dataset.label={NO_LABEL} "
            f"says that no column is the class"
        )
    return Columns(names, label, split, group, tuple(features), tuple(sorted(others)), suspects)


def _free_name(i: int, taken: set[str]) -> str:
    """pandas' name for a column without one."""
    name = f"Unnamed: {i}"
    while name in taken:
        name += ".1"
    return name


def _positions(names: tuple[str, ...], path: str) -> dict[str, int]:
    at: dict[str, int] = {}
    for i, name in enumerate(names):
        if name in at:
            raise DataError(
                f"{path}: expected a name of its own for every column, found {quoted(name)} in columns "
                f"{at[name] + 1} and {i + 1}"
            )
        at[name] = i
    return at


def _find(name: str, at: Mapping[str, int], key: str, path: str) -> int:
    if name.strip() not in at:
        hint = close_to(name, list(at))
        raise ConfigError(f"{key}={typed(name)}: {path} has no such column{hint} (columns: {listed(at)})")
    return at[name.strip()]


def _label(dataset: Dataset, at: Mapping[str, int], path: str, *, may_miss: bool) -> int | None:
    if dataset.label is None:
        return at.get(LABEL)
    if (dataset.label == NO_LABEL or may_miss) and dataset.label.strip() not in at:
        return None
    return _find(dataset.label, at, "dataset.label", path)


def _no_label(names: tuple[str, ...], features: Sequence[int], suspects: tuple[str, ...], path: str) -> str:
    likely = suspects or [names[i] for i in features if names[i].casefold() in PERHAPS_CLASSES]
    example = likely[0] if likely else names[features[-1]] if features else names[-1]
    is_it = "dataset.label=" + typed(example) + (" says that it is the class" if likely else " names the class, if it")
    is_it += "" if likely else " is that column"
    return (
        f"{path} has no column {LABEL}, and this model needs a class for every row: {is_it} (columns: "
        f"{listed(names)}); without any, use model=rbm"
    )


def split_frame(frame: Frame, columns: Columns, path: str) -> tuple[dict[Split, Table], tuple[str, ...]]:
    """The parts of a table, and what was left out of its features."""
    names, notes = columns.names, [*frame.notes]
    for i in columns.unnamed:
        notes.append(_left_out(frame.words[i], i, columns, frame, path))
    if not columns.features:
        raise DataError(f"{path}: expected columns of features beside the class, found {listed(names)}")
    if columns.label is not None:
        notes += [
            f"column {quoted(name)} is a feature here, though it looks like a class; "
            f"dataset.drop=[{typed(name)}] leaves it out"
            for name in columns.suspects
        ]
    label, group = columns.label, columns.group
    table = Table(
        frame.numbers,
        None if label is None else frame.words[label],
        cell=lambda row, feature: frame.cell(row, columns.features[feature]),
        label_cell=lambda row: frame.cell(row, label or 0),
        groups=None if group is None else group_numbers(frame.words[group], lambda row: frame.cell(row, group), path),
        features=tuple(names[i] for i in columns.features),
    )
    if columns.split is None:
        return {"train": table}, tuple(notes)
    return _by_part(table, frame, columns.split, path), tuple(notes)


def _by_part(table: Table, frame: Frame, split: int, path: str) -> dict[Split, Table]:
    words = np.array([str(word).strip() for word in frame.words[split]], object)
    strange = ~np.isin(words, SPLITS)
    if strange.any():
        found = frame.cell(int(np.argmax(strange)), split)
        raise DataError(
            f"{path}: expected train, valid or test in the column {SPLIT}, found {found}; "
            f"dataset.drop=[{SPLIT}] leaves the column out"
        )
    return {part: table[np.flatnonzero(words == part)] for part in SPLITS if (words == part).any()}


def _left_out(words: NDArray[Any], i: int, columns: Columns, frame: Frame, path: str) -> str:
    """The sentence about a column of row numbers or of nothing; DataError where it is something else."""
    name, cells = columns.names[i], [str(word).strip() for word in words]
    if all(is_missing(word) for word in cells):
        return f"column {i + 1} has neither a name nor values: it is left out"
    is_leading = all(j in columns.unnamed for j in range(i))
    are_numbers = all(re.fullmatch(r"[+-]?[0-9]+(?:\.0*)?", word) for word in cells)
    are_words = not any(re.fullmatch(r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?", word) for word in cells)
    if not (is_leading and (are_numbers or are_words) and len(set(cells)) == len(cells)):
        raise DataError(
            f"{path}: expected a name for every column, or row numbers in the first, found {frame.cell(0, i)}; give "
            f"the column a name, or leave it out with dataset.drop=[{typed(name)}]"
        )
    what = "row numbers" if are_numbers else "row names"
    called = f"column {i + 1}" + ("" if name.startswith("Unnamed: ") else f", {quoted(name)},")
    return f"{called} holds {what} ({cells[0][:30]}, {cells[1][:30] if len(cells) > 1 else ''} …): it is no feature"


def group_numbers(values: NDArray[Any], cell: Callable[[int], str], path: str) -> NDArray[np.int64]:
    """Numbers from 0 for the different values; DataError where one is missing."""
    import pandas as pd  # most of a second to import

    flat = values.ravel()
    absent = np.isnan(flat) if flat.dtype.kind == "f" else np.array([is_missing(str(value)) for value in flat], bool)
    if absent.any():
        raise DataError(f"{path}: expected a group for every row, found {cell(int(np.argmax(absent)))}")
    codes, _ = pd.factorize(flat if flat.dtype.kind in "buif" else np.array([str(v).strip() for v in flat], object))
    return np.asarray(codes, np.int64)
