"""Classes by the labels of the data file: numbers as numbers, True and False as such, words as words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.readers.guard import one_line
from set_cli.errors import DataError

MOST_NAMED = 10  # classes in a sentence
LONGEST = 30  # characters of one
TRUTH = {"false": False, "true": True}


def class_labels(names: Sequence[str], count: int) -> NDArray[Any]:
    """(count,) labels in the order of the network's outputs: int64, float64, bool or text.

    names  as the run folder has them; none: the classes are 0, 1, …
    """
    if not names:
        return np.arange(count)
    truths = [_truth(name) for name in names]
    if len(names) == len(TRUTH) and set(truths) == {False, True}:
        return np.array(truths, bool)
    kinds: tuple[type[int | float], ...] = (int, float)
    for kind in kinds:
        try:
            if all(str(kind(name)) == name for name in names):
                return np.array([kind(name) for name in names])
        except (ValueError, OverflowError):
            continue
    return np.array(names)


def class_numbers(labels: Iterable[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """(n,) positions of labels among the classes; DataError names the first label that is none of them."""
    position: dict[Any, int] = {label: i for i, label in enumerate(classes.tolist())}
    key_of = {"b": _truth, "i": _number, "f": _number}.get(classes.dtype.kind, _word)
    found = []
    for row, label in enumerate(labels):
        key = key_of(label)
        if key not in position:
            raise DataError(
                f"expected labels out of the run's classes {in_words(classes)}, found {one_line(str(label))!r} for row "
                f"{row} (the first is 0)"
            )
        found.append(position[key])
    return np.array(found, np.int64)


def _word(label: Any) -> str:
    return one_line(str(label))  # as names are kept


def _truth(label: Any) -> bool | None:
    """True or False, as a value, a word as files have it, or 1 and 0; None for anything else."""
    if isinstance(label, int | float | np.number | np.bool_):
        return bool(label) if label in (0, 1) else None
    return TRUTH.get(str(label).strip().casefold())


def _number(label: Any) -> float | None:
    try:
        return float(label)  # 1 and 1.0 are one key
    except (TypeError, ValueError):
        return None


def in_words(classes: NDArray[Any]) -> str:
    """The first classes and the last."""
    words = label_words(classes)
    return ", ".join(words if len(words) <= MOST_NAMED else [*words[: MOST_NAMED - 2], "…", words[-1]])


def label_words(classes: NDArray[Any]) -> list[str]:
    """Labels as tables show them: one line each, not too long."""
    words = [one_line(str(label)) for label in classes.tolist()]
    return [word if len(word) <= LONGEST else f"{word[:LONGEST]}…" for word in words]
