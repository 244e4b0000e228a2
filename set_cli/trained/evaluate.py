"""The run's own rows again, and its last measurement of them: the same figures to the last digit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from set_cli.config import Config, from_mapping
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet, load_data, training_mean
from set_cli.errors import ConfigError, DataError
from set_cli.models.rbm import log_odds
from set_cli.system.files import sha256
from set_cli.trained.predict import scaling_of
from set_cli.training.architectures import ARCHITECTURES
from set_cli.training.contents import describe_inputs
from set_cli.training.group import ALONE

if TYPE_CHECKING:
    from set_cli.trained.run import TrainedRun

PartName = Literal["train", "valid", "test"]


def restored_config(config: Mapping[str, Any]) -> Config:
    """The configuration of a run, from its config.json: what does not decide its numbers is left at a default."""
    backend = {"name": "auto", "engine": "auto", "threads": None, "precision": "float32", "deterministic": False}
    rest = {
        "epsilon": 1.0,
        "zeta": 0.0,
        "runs_dir": "runs",
        "resume": "auto",
        "progress": "none",
        "time_limit": None,
        "retry_failed": False,
        "snapshots": {"every": None, "weights": False},
        "checkpoints": {"minutes": None},
    }
    return from_mapping(
        rest
        | dict(config)
        | {
            "backend": backend | config.get("backend", {}),
            "method": {"regrow_init": "zero"} | config["method"],
            "data": {"dir": None, "fetch": "auto"} | config["data"],
        }
    )


def load_part(
    run: TrainedRun, part: PartName, path: str | Path | None, test_path: str | Path | None, data_dir: str | Path | None
) -> tuple[Part, DataSet]:
    """A part of the data that the run was trained on; where it lies now, if that is not where the run found it.

    DataError where it is not there, is other data than the run's, or has no such part.
    """
    config = run.settings()
    dataset = config.dataset
    if dataset.name == "custom":
        places = {"path": (path, dataset.checksum), "test_path": (test_path, dataset.test_checksum)}
        found = {key: _find_file(run, key, given, checksum) for key, (given, checksum) in places.items()}
        dataset = dataset.model_copy(update=found)
    elif path is not None or test_path is not None:
        raise ConfigError(f"path is for a run on a file of your own; data_dir is the folder that holds {dataset.name}")
    folder = data_dir if data_dir is not None else _data_folder(run)
    wanted = config.data.model_copy(update={"dir": None if folder is None else str(folder)})
    data = load_data(dataset, wanted, labels=config.model.facts.needs_labels)
    _check_same_data(run, data)
    if run.inputs is not None:
        if not describe_inputs(data, with_mean=run.inputs.mean is not None).agrees_with(run.inputs):
            raise DataError(
                f"{run.path}: this version of set_cli scales or names the data differently from the one that trained "
                "the run; evaluate it with that version, or train it again with resume=never"
            )
        data = replace(data, scaling=scaling_of(run.inputs))
    rows = {"train": data.train, "valid": data.valid, "test": data.test}[part]
    if rows is None:
        raise DataError(f"{run.path}: the run has no {part} rows")
    return rows, data


def _find_file(run: TrainedRun, key: str, given: str | Path | None, checksum: str | None) -> str | None:
    """Path of a file of the user's own: as given, else as in the run's record, from here or from the run's folder."""
    if checksum is None:  # the run had no such file
        return None
    told = run.start.get("options", {}).get(f"dataset.{key}")
    if given is not None:
        places = [Path(given)]
    elif isinstance(told, str):
        places = [Path(told), Path(str(run.start.get("folder", ".")), told)]
    else:
        raise DataError(f"{run.path}: the run's record does not name its data; give it as run.evaluate({key}=…)")
    there = [place for place in places if place.is_file()]
    if not there:
        raise DataError(f"{places[-1]}: the data file is not there; give its place as run.evaluate({key}=…)")
    same = next((place for place in there if sha256(place) == checksum), None)
    if same is None:
        raise DataError(f"{there[0]}: the file has changed since the run was trained on it (SHA-256 {checksum[:12]}…)")
    return str(same)


def _data_folder(run: TrainedRun) -> str | None:
    """The folder of the data sets as the run had it, if that is still there; else today's."""
    told = run.start.get("options", {}).get("data.dir")
    if not isinstance(told, str):
        return None
    places = [Path(told), Path(str(run.start.get("folder", ".")), told)]
    return next((str(place) for place in places if place.is_dir()), None)


def _check_same_data(run: TrainedRun, data: DataSet) -> None:
    before = run.start.get("checksums")
    if isinstance(before, Mapping) and sorted(before.values()) != sorted(data.checksums.values()):
        changed = ", ".join(sorted(name for name in data.checksums if data.checksums[name] not in before.values()))
        raise DataError(f"{run.path}: {changed or 'the data'} changed since the run was trained on it")
    counts = run.start.get("data")
    now = {"train": len(data.train), "test": len(data.test)} | ({"valid": len(data.valid)} if data.valid else {})
    if isinstance(counts, Mapping) and any(counts.get(name, rows) != rows for name, rows in now.items()):
        raise DataError(f"{run.path}: this version of set_cli splits the data differently from the one that trained it")


def measure_part(run: TrainedRun, rows: Part, data: DataSet) -> dict[str, float]:
    """What the run measured last, after the last removal, of these rows."""
    model, config = run.trained_network(), run.settings()
    inputs = Inputs(rows, data, next(model.parameters()).device)

    def base_bias() -> NDArray[np.float32]:
        mean = training_mean(data) if run.inputs is None or run.inputs.mean is None else run.inputs.mean
        return log_odds(mean, len(data.train))

    trainer = ARCHITECTURES[config.model.name].trainer(config, model, base_bias, [], ALONE)
    name = "valid" if config.data.valid else "test"  # the part that an RBM's best epoch is chosen on
    with as_trained(run):
        # An RBM's estimate takes the schedule and the chains of the last epoch.
        return trainer.measure({name: inputs}, config.train.epochs, lambda: None)[name]


@contextmanager
def as_trained(run: TrainedRun) -> Iterator[None]:
    """Threads and small numbers as in the training, on which torch's dense products depend in their last digits."""
    threads, flushes = torch.get_num_threads(), bool((torch.tensor([1e-38]) * 0.1).item() == 0)
    told = run.start.get("threads")
    on_gpu = any(parameter.is_cuda for parameter in run.model.parameters())
    rounds = on_gpu and torch.backends.cudnn.allow_tf32
    torch.set_num_threads(told if type(told) is int and 0 < told <= 4096 else threads)
    torch.set_flush_denormal(True)
    if on_gpu:
        torch.backends.cudnn.allow_tf32 = False  # else convolutions round their inputs to 10 bits
    try:
        yield
    finally:
        torch.set_flush_denormal(flushes)
        torch.set_num_threads(threads)
        if on_gpu:
            torch.backends.cudnn.allow_tf32 = rounds
