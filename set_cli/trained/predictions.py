"""The predictions for a file of rows, or for a run's own test rows, as tables and arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from set_cli.system.files import sha256
from set_cli.trained import evaluate
from set_cli.trained.classes import class_numbers
from set_cli.trained.figures import Figures, measure
from set_cli.trained.files import labels_can_be_ignored, read_rows
from set_cli.trained.predict import probabilities
from set_cli.trained.run import TrainedRun


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predicted rows.

    what         whose rows these are, in words
    classes      (n_classes,) labels in the order of the probabilities
    probability  (n, n_classes) float32
    predicted    (n,) class numbers
    labels       (n,) class numbers; None where nobody knows
    parts        (n,) which part of the file a row is of; None where it has one
    notes        sentences about how the file was read
    """

    what: str
    classes: NDArray[Any]
    probability: NDArray[np.float32]
    predicted: NDArray[np.int64]
    labels: NDArray[np.int64] | None
    parts: NDArray[np.str_] | None = None
    notes: tuple[str, ...] = ()

    def as_frame(self) -> pd.DataFrame:
        """One line a row: row, (part,) prediction, (label,) probability of every class."""
        columns: dict[str, Any] = {"row": np.arange(len(self.predicted))}
        if self.parts is not None:
            columns["part"] = self.parts
        columns["prediction"] = self.classes[self.predicted]
        if self.labels is not None:
            columns["label"] = self.classes[self.labels]
        probabilities = pd.DataFrame(
            self.probability, columns=[f"probability_{label}" for label in self.classes.tolist()]
        )
        return pd.concat([pd.DataFrame(columns), probabilities], axis=1)

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """The same as arrays: prediction, probability, classes, and label, confusion and part where there are any."""
        arrays: dict[str, NDArray[Any]] = {
            "prediction": self.classes[self.predicted],
            "probability": self.probability,
            "classes": self.classes,
        }
        figures = self.figures()
        if self.labels is not None and figures is not None:
            arrays |= {"label": self.classes[self.labels], "confusion": figures.confusion}
        return arrays if self.parts is None else arrays | {"part": self.parts}

    def figures(self) -> Figures | None:
        """How good they are; None without labels or rows."""
        if self.labels is None or not len(self.labels):
            return None
        return measure(self.labels, self.predicted, len(self.classes))

    def accuracies(self) -> dict[str, tuple[float, int]]:
        """Percent and rows of each part of the file; empty where there is one part, or without labels."""
        if self.labels is None or self.parts is None:
            return {}
        right = self.labels == self.predicted
        rows = {part: right[self.parts == part] for part in dict.fromkeys(self.parts.tolist())}
        return {part: (100 * int(own.sum()) / len(own), len(own)) for part, own in rows.items()}


def predict_file(run: TrainedRun, path: Path, label: str | None = None, *, ignore_labels: bool = False) -> Predictions:
    """Predict the rows of a file; DataError where they are not the run's, or have labels that it does not know.

    label  the column or array that holds the labels; None: as in training
    """
    found = read_rows(path, run.settings().dataset, run.known_inputs(), label, with_labels=not ignore_labels)
    labels = None
    if found.labels is not None:
        with labels_can_be_ignored():
            labels = class_numbers(found.labels.tolist(), run.classes)
    rows = pd.DataFrame(found.x, columns=list(found.features)) if found.features else found.x
    notes = (*found.notes, *_trained_on(run, path, len(found.x)))
    return _predicted(run, rows, labels, path.name, found.parts, notes)


def _trained_on(run: TrainedRun, path: Path, rows: int) -> list[str]:
    """A sentence where the file is the run's own: of rows that it was trained on, figures are better than of others."""
    if run.config["dataset"].get("checksum") is None or sha256(path) != run.config["dataset"]["checksum"]:
        return []
    data = run.start.get("data")
    trained = data.get("train") if isinstance(data, Mapping) else None
    many = f": {trained:,} of its {rows:,} rows are training rows" if type(trained) is int else ""
    tested = "held-out" if run.config["data"].get("holdout") else "test"
    return [
        f"{path} is the file that the run was trained on{many}; set-predict {run.path} measures the {tested} rows alone"
    ]


def predict_test_rows(run: TrainedRun) -> Predictions:
    """Predict the run's own test rows; their accuracy is summary.json's after the last removal."""
    part, data = evaluate.load_part(run, "test", None, None, None)
    words = "test rows" if data.tested_on == "test" else "held-out rows"
    return _predicted(run, part.x, part.y, f"{words} of {run.config['dataset']['name']}")


def _predicted(
    run: TrainedRun,
    rows: Any,
    labels: NDArray[np.int64] | None,
    what: str,
    parts: NDArray[np.str_] | None = None,
    notes: tuple[str, ...] = (),
) -> Predictions:
    with evaluate.as_trained(run):
        logits = run.logits(rows)
    return Predictions(what, run.classes, probabilities(logits), logits.argmax(axis=1), labels, parts, notes)
