"""How good predictions are: accuracy, the confusion matrix, and figures of every class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from set_cli.system.terminal import BETWEEN, Column, render_table
from set_cli.trained.classes import label_words

MOST_CLASSES = 20  # of a confusion matrix that people read
MOST_CONFUSIONS = 10  # named instead where there are more, or a terminal has no room for the matrix


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """All fractions between 0 and 1; of every class in the order of the classes.

    accuracy           percent of the rows that are right
    balanced_accuracy  percent: the mean recall of the classes that have rows
    confusion          (n_classes, n_classes) rows by their label (first) and prediction
    support            rows with that label
    """

    accuracy: float
    balanced_accuracy: float
    confusion: NDArray[np.int64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def measure(labels: NDArray[np.int64], predicted: NDArray[np.int64], n_classes: int) -> Figures:
    """The figures of predictions (n,) beside labels (n,), both class numbers; at least one row."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # most of a second to import

    every = np.arange(n_classes)
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    return Figures(
        100 * int((labels == predicted).sum()) / len(labels),
        100 * float(recall[support > 0].mean()),
        confusion_matrix(labels, predicted, labels=every),
        precision,
        recall,
        f1,
        support,
    )


class _Line(NamedTuple):
    name: str
    cells: Sequence[str]


def as_text(figures: Figures, classes: NDArray[np.generic], width: int | None) -> str:
    """Two sentences and two tables for people."""
    words = label_words(classes)
    rows = int(figures.support.sum())
    head = (
        f"{rows:,} rows: accuracy {figures.accuracy:.2f} %, balanced accuracy {figures.balanced_accuracy:.2f} % (the "
        "mean recall of the classes)\n"
    )
    columns = zip(figures.precision, figures.recall, figures.f1, figures.support, strict=True)
    lines = [
        _Line(word, [*(f"{100 * value:.2f}" for value in (p, r, f)), f"{n:,}"])
        for word, (p, r, f, n) in zip(words, columns, strict=True)
    ]
    titles = ("precision %", "recall %", "F1 %", "rows")
    by_class = _table("class", titles, lines, width)
    return f"{head}\n{by_class}\n{_confusion(figures, words, width)}"


def _confusion(figures: Figures, words: Sequence[str], width: int | None) -> str:
    widths = [max(len(word), len(f"{most:,}")) for word, most in zip(words, figures.confusion.max(axis=0), strict=True)]
    fits = width is None or max(map(len, words)) + sum(widths) + BETWEEN * len(words) <= width
    if len(words) <= MOST_CLASSES and fits:
        lines = [
            _Line(word, [f"{n:,}" if n else "·" for n in row])
            for word, row in zip(words, figures.confusion, strict=True)
        ]
        return "rows by label (down) and prediction (across):\n\n" + _table("label", words, lines, width)
    wrong = figures.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS]
    found = [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True) if wrong[i, j]]
    if not found:
        return "no row is confused\n"
    lines = [_Line(words[i], [words[j], f"{wrong[i, j]:,}"]) for i, j in found]
    return "the most frequent confusions:\n\n" + _table("label", ("prediction", "rows"), lines, width)


def _table(first: str, titles: Sequence[str], lines: Sequence[_Line], width: int | None) -> str:
    columns = [Column[_Line](first, lambda line: line.name, False)]
    columns += [Column(title, _cell(i), True) for i, title in enumerate(titles)]
    return render_table(columns, lines, width)


def _cell(i: int) -> Callable[[_Line], str]:
    return lambda line: line.cells[i]
