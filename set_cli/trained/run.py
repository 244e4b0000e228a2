"""A trained run: its model, its record, and what it says of rows as they are in the data file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from set_cli.config import Config, model_facts
from set_cli.data.catalog import CATALOG
from set_cli.data.parts import Values
from set_cli.errors import ConfigError, DataError
from set_cli.runs.files import snapshot_epochs
from set_cli.runs.folder import Status
from set_cli.runs.inputs import RunInputs
from set_cli.runs.topology import read_topology
from set_cli.sparse.pattern import Csr
from set_cli.trained import evaluate, predict, show
from set_cli.trained.classes import class_labels, class_numbers
from set_cli.trained.evaluate import PartName
from set_cli.trained.network import engines_of, is_like_trained, share_numbers
from set_cli.trained.rows import as_values


@dataclass(frozen=True, eq=False, repr=False)
class TrainedRun:
    """A run folder's content; `print(run)` says it in six lines.

    path       the run's folder
    config     the scientific configuration
    model      the torch module after the newest checkpoint, of a finished run after the last removal, in evaluation
               mode. It takes rows that were scaled as in training and returns logits (an RBM: probabilities of its
               hidden units): for rows as they are in the data file use `predict`
    metrics    one row per epoch
    checksums  SHA-256 of a finished run's files, or of the snapshots so far, by name: what is read is compared
    status     done, or why it is not
    summary    a finished run's figures, as set-report reads them; empty of others
    inputs     how rows become the network's inputs, and the names of classes and features; None of an older run
    start      the last entry of run.json: machine, threads, engines, where the data lay
    build      makes the architecture anew, with the engines of these layers
    """

    path: Path
    config: dict[str, Any]
    model: nn.Module
    metrics: pd.DataFrame
    checksums: Mapping[str, str]
    status: Status | None
    summary: Mapping[str, Any]
    inputs: RunInputs | None
    start: Mapping[str, Any]
    build: Callable[[Mapping[str, str]], nn.Module]
    params: Mapping[str, Any]

    def __repr__(self) -> str:
        return show.as_text(self)

    def _repr_html_(self) -> str:
        return show.as_html(self)

    @property
    def n_classes(self) -> int:
        """Outputs of the network; 0 of an RBM."""
        has_classes = model_facts(self.config["model"]["name"]).needs_labels
        return int(self.params["layers"][-1]["shape"][1]) if has_classes else 0

    @property
    def classes(self) -> NDArray[Any]:
        """(n_classes,) labels as in the data file, in the order of the columns of `predict_proba`; empty of an RBM."""
        names = self.inputs.classes if self.inputs is not None else ()
        return class_labels(names if len(names) == self.n_classes else (), self.n_classes)

    def predict(self, rows: Any) -> NDArray[Any]:
        """(n,) labels of the classes that are the most probable, as in the data file.

        rows  as they are in the data file, before any scaling: (n, features), one row (features,), or images (n, …);
              a NumPy array of any type of number, a DataFrame (its columns are found by their names), a torch tensor,
              a SciPy sparse matrix, nested lists
        DataError where these are no such rows or a value is missing; ConfigError for an RBM. A warning where the rows
        seem to be scaled already.
        """
        labels: NDArray[Any] = self.classes[predict.logits(self, self._values(rows)).argmax(axis=1)]
        return labels

    def predict_proba(self, rows: Any) -> NDArray[np.float32]:
        """(n, n_classes) probabilities of `classes`; rows and errors as `predict`."""
        return predict.probabilities(predict.logits(self, self._values(rows)))

    def evaluate(
        self,
        rows: Any = None,
        labels: Any = None,
        *,
        part: PartName = "test",
        path: str | Path | None = None,
        test_path: str | Path | None = None,
        data_dir: str | Path | None = None,
    ) -> dict[str, Any]:
        """Accuracy (percent) and loss (nats) of the model as it is now, `rows` and what it was `tested_on`.

        Without rows: of the run's own test rows (part='train' or 'valid': of those), which are read again. For a
        finished run these are the figures of summary.json's after_last_removal to the last digit. With method=set the
        report's `last` is measured before the last removal and differs; with fixprob and dense it is the same. An RBM
        has log_probability and what else metrics.jsonl has of it, log Z estimated as after the last epoch.

        With rows (as `predict`) and labels (n,) as in the data file: of those; an RBM takes rows alone.
        path, test_path, data_dir  where the run's data lies now, if not where it was
        DataError where the data is not there or not the run's, or the rows are none.
        """
        if rows is None:
            if labels is not None:
                raise ConfigError("evaluate: expected rows with these labels")
            found, data = evaluate.load_part(self, part, path, test_path, data_dir)
            tested_on = data.tested_on if part == "test" else part
            return {**evaluate.measure_part(self, found, data), "rows": len(found), "tested_on": tested_on}
        if (path, test_path, data_dir, part) != (None, None, None, "test"):
            raise ConfigError("evaluate: expected rows, or the place of the run's own data; found both")
        values = self._values(rows)
        if not len(values):
            raise DataError("evaluate: expected at least one row")
        numbers = None
        if self.n_classes:
            if labels is None:
                raise ConfigError("evaluate(X, y): expected labels y, found none; predict(X) needs none")
            numbers = class_numbers(np.asarray(labels).ravel(), self.classes)
            if len(numbers) != len(values):
                raise DataError(f"evaluate: expected {len(values)} labels, found {len(numbers)}")
        elif labels is not None:
            raise ConfigError("evaluate: an RBM learns without labels; expected rows alone")
        with evaluate.as_trained(self):
            return {**predict.score_rows(self, values, numbers), "rows": len(values), "tested_on": "rows"}

    def hidden(self, rows: Any) -> NDArray[np.float32]:
        """(n, n_hidden) probabilities of an RBM's hidden units; rows and errors as `predict`, ConfigError elsewhere."""
        predict.rbm_of(self)
        return predict.hidden(self, self._values(rows))

    def reconstruct(self, rows: Any) -> NDArray[np.float32]:
        """(n, features) probabilities of an RBM's visible units given its hidden ones (mean field); see `hidden`."""
        predict.rbm_of(self)
        return predict.reconstruct(self, self._values(rows))

    def log_probability(self, rows: Any) -> NDArray[np.float64]:
        """(n,) log-probabilities under an RBM, nats; see `hidden`. Each call estimates log Z, as `evaluate` does.

        Values between 0 and 1 are probabilities: units are drawn with them, the same ones in every call.
        """
        predict.rbm_of(self)
        values = self._values(rows)
        with evaluate.as_trained(self):
            return predict.log_probability(self, values) if len(values) else np.empty(0)

    @property
    def snapshots(self) -> list[int]:
        """The epochs whose topology was kept; 0 is the initial one."""
        return snapshot_epochs(self.path, self.checksums)

    def topology(self, epoch: int | None = None) -> dict[str, Csr]:
        """The pattern of every sparse layer after that epoch's evolution, default the last snapshot.

        DataError where there is no such snapshot or it breaks a pattern's invariants.
        """
        return read_topology(self.path, self.checksums, epoch)

    def input_degrees(self, epochs: Sequence[int] | None = None) -> dict[int, NDArray[np.int32]]:
        """How many connections every input has after these epochs, default all snapshots; of the first sparse layer.

        DataError as `topology`, and where no layer is sparse.
        """
        degrees = {}
        for epoch in self.snapshots if epochs is None else epochs:
            layers = self.topology(epoch)
            if "layer1" not in layers:
                raise DataError(f"{self.path}: the first layer is not sparse, so every input has all connections")
            degrees[epoch] = layers["layer1"].out_degrees()
        return degrees

    def settings(self) -> Config:
        """The run's configuration, checked."""
        return self._config

    def known_inputs(self) -> RunInputs:
        """How rows become the network's inputs; DataError where nobody knows."""
        if self.inputs is not None:
            return self.inputs
        derived = _derived_inputs(self.settings(), int(self.params["layers"][0]["shape"][0]))
        if derived is None:
            raise DataError(
                f"{self.path}: this run is older than the file that says how it scales its rows (inputs.npz); "
                "run.evaluate() can read its data again, to predict train it again with resume=never"
            )
        return derived

    def trained_network(self) -> nn.Module:
        """The model's numbers in a network that computes as the training did; the model itself where that cannot be.

        run.model is free of the training's engines: it may be moved, converted, traced and differentiated.
        """
        if is_like_trained(self.model, self.start) and share_numbers(self.model, self._copy):
            return self._copy
        return self.model

    def ignored_columns(self) -> set[str]:
        """The columns of a table that are no features of the run."""
        dataset = self.settings().dataset
        return {dataset.label or "label", "split", *(dataset.drop or ()), *([dataset.group] if dataset.group else [])}

    def logits(self, rows: Any) -> NDArray[np.float32]:
        """(n, n_classes) outputs of the network before they become probabilities; rows and errors as `predict`."""
        return predict.logits(self, self._values(rows))

    def _values(self, rows: Any) -> Values:
        return as_values(rows, self.known_inputs(), self.ignored_columns())

    @cached_property
    def _config(self) -> Config:
        try:
            return evaluate.restored_config(self.config)
        except (ConfigError, KeyError, TypeError) as error:
            raise DataError(f"{self.path / 'config.json'}: no configuration of this version ({error})") from None

    @cached_property
    def _copy(self) -> nn.Module:
        return self.build(engines_of(self.start, self.model)).eval()


def _derived_inputs(config: Config, features: int) -> RunInputs | None:
    """What an older run must have had: the catalogue says it where values are scaled by the largest possible one."""
    card = CATALOG.get(config.dataset.name)
    if card is None or card.kind == "real" or card.features != features or config.data.scaling != "unit":
        return None
    if config.model.facts.needs_probabilities:  # its base rates are not known
        return None
    offset, scale = np.zeros(features), np.full(features, 1 / card.maximum)
    names = (card.class_names, card.feature_names)
    return RunInputs(
        offset, scale, None, config.data.clip, card.kind, card.maximum, "uint8", card.shape, *names, 0, None
    )
