"""A trained run, read back from its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from set_cli.config import Model, sentence
from set_cli.description import restore_model
from set_cli.errors import DataError
from set_cli.models.cnn import build_cnn, plan_cnn
from set_cli.models.mlp import build_mlp, plan_mlp
from set_cli.models.rbm import build_rbm, plan_rbm
from set_cli.runs.checkpoint import CURRENT, load_checkpoint
from set_cli.runs.folder import is_run_folder, read_status, snapshot_epochs
from set_cli.runs.summary import SUMMARY, check_unaltered, read_rows
from set_cli.runs.topology import read_topology
from set_cli.sparse.pattern import Csr
from set_cli.storage import read_json


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run folder's content.

    config   the scientific configuration
    model    the torch module after the newest checkpoint, in evaluation mode; logits of scaled rows
    metrics  one row per epoch
    checksums  SHA-256 of a finished run's files, by name; what is read is compared with them
    """

    path: Path
    config: dict[str, Any]
    model: nn.Module
    metrics: pd.DataFrame
    checksums: Mapping[str, str]

    @property
    def snapshots(self) -> list[int]:
        """The epochs whose topology was kept; 0 is the initial one."""
        return snapshot_epochs(self.path)

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


def load_run(folder: str | os.PathLike[str]) -> TrainedRun:
    """See set_cli.load."""
    path = Path(folder)
    if not path.is_dir() or not is_run_folder(os.listdir(path)):
        raise DataError(f"{path}: expected a run folder, found none")
    checksums = read_json(path / SUMMARY)["sha256"] if read_status(path) == "done" else {}
    for name in ("config.json", "params.json", "metrics.jsonl", CURRENT):
        check_unaltered(path, name, checksums)
    config = read_json(path / "config.json")
    checkpoint = load_checkpoint(path)
    if checkpoint is None:
        raise DataError(f"{path}: the run has no checkpoint yet")
    try:
        params, epsilon = read_json(path / "params.json"), config.get("epsilon")  # dense has none
        section = Model.model_validate(config["model"])
        n_chains = len(checkpoint.arrays.get("model/chains", ()))
        model = _untrained(section, epsilon, params, config["seed"], n_chains)
        restore_model(model, None, checkpoint.arrays)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = sentence(error) if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path}: configuration and checkpoint do not fit together ({reason})") from None
    rows = read_rows(path / "metrics.jsonl") if checkpoint.epoch else []
    return TrainedRun(path, config, model.eval(), pd.DataFrame(rows), checksums)


def _untrained(model: Model, epsilon: float | None, params: Mapping[str, Any], seed: int, n_chains: int) -> nn.Module:
    """The architecture of a run, whose arrays are still to be filled in; params: its params.json."""
    shapes = [tuple(layer["shape"]) for layer in params["layers"]]
    features, outputs = int(shapes[0][0]), int(shapes[-1][1])
    match model.name:
        case "cnn":
            plans = plan_cnn(model, epsilon, params["images"], outputs)
        case "rbm":
            plans = plan_rbm(model, epsilon, features)
        case "mlp":
            plans = plan_mlp(model, epsilon, features, outputs)
    if shapes != [(plan.n_in, plan.n_out) for plan in plans]:  # before anything of their size is allocated
        raise ValueError("params.json has other layers than the configuration")
    engines = dict.fromkeys([plan.name for plan in plans], "auto")
    if model.name == "cnn":
        return build_cnn(plans, model, epsilon, engines, seed, params["images"])
    if model.name == "rbm":
        mean = np.full(features, 0.5, np.float32)
        return build_rbm(plans[0], model, epsilon, "auto", seed, mean, 1, n_chains)
    return build_mlp(plans, model, epsilon, engines, seed)
