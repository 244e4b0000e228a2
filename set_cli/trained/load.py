"""A trained run, read back from its folder."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from set_cli.config import Model, model_facts, sentence
from set_cli.errors import DataError
from set_cli.runs.checkpoint import CURRENT, Checkpoint, load_checkpoint, read_checkpoint
from set_cli.runs.files import CHECKSUMS, METRICS_FILE, snapshot_epochs, snapshot_name
from set_cli.runs.folder import is_run_folder, read_status
from set_cli.runs.inputs import INPUTS, RunInputs, read_inputs
from set_cli.runs.summary import check_unaltered, read_rows, read_summary
from set_cli.runs.written import Written, params_digest
from set_cli.system.files import read_json, sha256
from set_cli.trained.listing import runs_inside
from set_cli.trained.network import build_untrained
from set_cli.trained.run import TrainedRun
from set_cli.training.averaging import restore_averages
from set_cli.training.contents import optimizer_states, restore_model


class RunWarning(UserWarning):
    """Something of a run folder is damaged or gone that the model does not depend on."""


def load_run(folder: str | os.PathLike[str], *, averaged: bool = False) -> TrainedRun:
    """The trained run in `folder`, as `set_cli.load` says."""
    path = Path(folder)
    if not path.is_dir() or not is_run_folder(os.listdir(path)):
        raise DataError(f"{path}: expected a run folder, {runs_inside(path)}")
    if path.is_symlink():
        path = path.resolve()
    status = read_status(path)
    summary: Mapping[str, Any] = read_summary(path) if status == "done" else {}
    checksums: Mapping[str, str] = summary.get("sha256", {})
    checkpoint, snapshots = _finished(path, checksums) if checksums else _unfinished(path)
    config = read_json(path / "config.json")
    try:
        params = read_json(path / "params.json")
        section = Model.model_validate(config["model"])
        n_chains = len(checkpoint.arrays.get("model/chains", ()))
        saved = sum(array.size for array in checkpoint.arrays.values())
        build = partial(build_untrained, section, params, config["seed"], n_chains, saved)
        model = build({})
        restore_model(model, None, checkpoint.arrays)
        inputs = _read_inputs(path, checksums, int(params["layers"][0]["shape"][0]), section.name)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = sentence(error) if isinstance(error, ValidationError) else str(error)
        raise DataError(f"{path}: configuration and checkpoint do not fit together ({reason})") from None
    if averaged:
        try:
            restore_averages(model, optimizer_states(checkpoint.arrays))
        except ValueError as error:
            raise DataError(f"{path}: {error}") from None
    rows = pd.DataFrame(read_rows(path / METRICS_FILE, checkpoint.lengths[METRICS_FILE]) if checkpoint.epoch else [])
    start = _last_start(path)
    return TrainedRun(path, config, model.eval(), rows, snapshots, status, summary, inputs, start, build, params)


def _finished(path: Path, checksums: Mapping[str, str]) -> tuple[Checkpoint, Mapping[str, str]]:
    """The checkpoint of a finished run, and the SHA-256 of its files; DataError where it is not what the run wrote."""
    check_unaltered(path, CURRENT, checksums)
    gone = [name for epoch in snapshot_epochs(path, checksums) if not (path / (name := snapshot_name(epoch))).is_file()]
    if gone:
        _warn(f"{path}: {len(gone)} snapshots of the topology are gone since the run: {', '.join(gone):.300}")
    return read_checkpoint(path / CURRENT), checksums


def _unfinished(path: Path) -> tuple[Checkpoint, Mapping[str, str]]:
    """The newest checkpoint of a run that is not finished, and the SHA-256 of its snapshots.

    DataError where there is none, or the files beside it are not those that it vouches for.
    """
    checksums: Mapping[str, str] = {}

    def check(checkpoint: Checkpoint) -> None:
        nonlocal checksums
        if sha256(path / "config.json", follow=False)[: len(checkpoint.identity)] != checkpoint.identity:
            raise DataError(
                f"{path / 'config.json'}: not the configuration of the checkpoint, run {checkpoint.identity}"
            )
        expected = checkpoint.digests.get("params.json")
        if expected is not None and params_digest(read_json(path / "params.json")) != expected:
            raise DataError(f"{path / 'params.json'}: damaged, it is not what the run wrote; the same command mends it")
        # The model does not depend on snapshots and degrees: they are compared when they are read.
        lengths = {name: checkpoint.lengths.get(name, 0) for name in (METRICS_FILE, CHECKSUMS)}
        checksums = Written.read(path, lengths, checkpoint.digests).checksums

    checkpoint = load_checkpoint(path, check=check)
    if checkpoint is None:
        raise DataError(f"{path}: the run has no checkpoint yet")
    if checkpoint.damage is not None:
        _warn(f"{checkpoint.damage}; this is the run after epoch {checkpoint.epoch}")
    return checkpoint, checksums


def _warn(sentence: str) -> None:
    warnings.warn(sentence, RunWarning, stacklevel=5)  # the line that called load


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
