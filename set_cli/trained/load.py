"""A trained run, read back from its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from set_cli.config import Model, model_facts, sentence
from set_cli.errors import DataError
from set_cli.runs.checkpoint import CURRENT, load_checkpoint
from set_cli.runs.folder import is_run_folder, read_status
from set_cli.runs.inputs import INPUTS, RunInputs, read_inputs
from set_cli.runs.summary import SUMMARY, check_unaltered, read_rows
from set_cli.system.files import read_json
from set_cli.trained.listing import runs_inside
from set_cli.trained.network import build_untrained
from set_cli.trained.run import TrainedRun
from set_cli.training.contents import restore_model


def load_run(folder: str | os.PathLike[str]) -> TrainedRun:
    """The trained run in `folder`, as `set_cli.load` says."""
    path = Path(folder)
    if not path.is_dir() or not is_run_folder(os.listdir(path)):
        raise DataError(f"{path}: expected a run folder, {runs_inside(path)}")
    status = read_status(path)
    summary = read_json(path / SUMMARY) if status == "done" else {}
    checksums = summary["sha256"] if status == "done" else {}
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
        build = partial(build_untrained, section, epsilon, params, config["seed"], n_chains)
        model = build({})
        restore_model(model, None, checkpoint.arrays)
        inputs = _read_inputs(path, checksums, int(params["layers"][0]["shape"][0]), section.name)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = sentence(error) if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path}: configuration and checkpoint do not fit together ({reason})") from None
    rows = pd.DataFrame(read_rows(path / "metrics.jsonl") if checkpoint.epoch else [])
    start = _last_start(path)
    return TrainedRun(path, config, model.eval(), rows, checksums, status, summary, inputs, start, build, params)


def _read_inputs(path: Path, checksums: Mapping[str, str], outputs_of_rows: int, model: str) -> RunInputs | None:
    """How the run's rows become inputs; None of a run that is older than the file."""
    if not os.path.lexists(path / INPUTS) and INPUTS not in checksums:
        return None
    check_unaltered(path, INPUTS, checksums)
    inputs = read_inputs(path)
    if model_facts(model).sees_features and len(inputs.offset) != outputs_of_rows:
        raise DataError(f"{path / INPUTS}: expected {outputs_of_rows} features, found {len(inputs.offset)}")
    return inputs


def _last_start(path: Path) -> Mapping[str, Any]:
    """The last entry of run.json; empty where there is none to be read: it decides no number."""
    try:
        starts = read_json(path / "run.json")
    except DataError:
        return {}
    return starts[-1] if isinstance(starts, list) and starts and isinstance(starts[-1], dict) else {}
