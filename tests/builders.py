"""What several test modules build on: runs and their folders, reports, tables of data, layers."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_digits, load_iris

from set_cli.config import Augment, Config, Data, Dataset, from_mapping
from set_cli.data import prepare
from set_cli.data.card import Card, Split
from set_cli.data.parts import Part, no_rows
from set_cli.data.prepare import DataSet, load_data
from set_cli.errors import Interrupted
from set_cli.experiment import Outcome, run
from set_cli.models.rbm import RBM
from set_cli.report.collect import find_run_folders, read_run
from set_cli.report.rows import compare
from set_cli.runs.summary import DIGEST, VERSION, digest_of
from set_cli.sparse import SparseLinear
from set_cli.sparse.engines.device_pattern import DevicePattern
from set_cli.sparse.pattern import Csr
from set_cli.system.files import canonical_json, read_arrays, sha256
from set_cli.system.progress import NoView
from set_cli.system.signals import StopSignals
from set_cli.training.pairs import with_checksum
from tests.conftest import ONE_THREAD, TRAIN, compose_mapping
from tests.oracles import random_pattern

# --- Runs that are trained in this process -------------------------------------------------------------------------

TINY = ("data.train_limit=120", "data.test_limit=60", "train.batch_size=40", "train.epochs=3", "progress=none")
# With what draws random numbers in a step: a run that resumes must draw the same.
INPUTS = {
    "mlp": ("data.augment.flip=true", "data.augment.rotation=10", "data.augment.crop=2", "data.augment.mixup=0.4"),
    "cnn": ("data.augment.cutout=3", "train.class_weights=balanced", "train.label_smoothing=0.1"),
}
MODELS = {
    "mlp": ("model=mlp", "model.hidden=[12,10]", *INPUTS["mlp"]),
    "cnn": (
        "model=cnn",
        "model.channels=[4,6]",
        "model.hidden=[12,10]",
        "epsilon=2",
        "model.sparse_convolutions=true",
        *INPUTS["cnn"],
    ),
    "rbm": ("model=rbm", "model.hidden=[12]", "epsilon=3", "model.persistent=true", "model.ais_last=quick"),
}
SMALL = ("train.epochs=4", "model.hidden=[40,30]", "train.batch_size=100", "data.augment.flip=true")


def train(config: Config, view: NoView | None = None, stop: StopSignals | None = None) -> Outcome:
    """Train in this process, as set-train would."""
    with stop or StopSignals() as signals:
        return run(config, {}, ["set-train"], view or NoView(), signals)


class StopAt(NoView):
    """Sends this process a signal after the first step of an epoch, or after one with so many rows done."""

    def __init__(self, epoch: int, number: int = signal.SIGINT, rows: int = 0) -> None:
        self.at, self.number, self.rows = epoch, number, rows

    def step(self, epoch: int, rows: int, of: int) -> None:
        if epoch == self.at and rows >= self.rows:
            self.at = -1
            os.kill(os.getpid(), self.number)


def science(path: Path) -> dict[str, str]:
    """The bytes that may not depend on when or how often a run was interrupted."""
    files = [path / n for n in ("config.json", "metrics.jsonl", "params.json", "checkpoint.npz", "degrees.npz")]
    arrays = {}
    for file in [*files[:3]]:
        arrays[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
    for file in [*files[3:], *sorted((path / "topology").iterdir())]:
        for name, array in read_arrays(file).items():
            if name != "meta":
                arrays[f"{file.name}:{name}"] = hashlib.sha256(array.tobytes()).hexdigest()
    return arrays


def interrupted(config: Config, moments: Sequence[tuple[int, int]]) -> Path:
    """The folder of a run that is interrupted at each of these epochs and rows, and resumed."""
    for epoch, rows in moments:
        with pytest.raises(Interrupted):
            train(config, StopAt(epoch, rows=rows))
    return train(config).path


SHORT_MLP = (
    "model.hidden=[40,30]",
    "train.epochs=3",
    "train.batch_size=50",
    "train.lr=0.1",
    "model.init=sparse_fan_in",
)
SHORT_CNN = ("model=cnn", "model.channels=[4,6]", "model.hidden=[30]", "train.epochs=2", "train.batch_size=50")
SHORT_RBM = ("model=rbm", "model.hidden=[30]", "train.epochs=2", "train.lr=0.1")


def train_in(folder: Path, *overrides: str, view: NoView | None = None) -> Path:
    """The folder of a run below `folder`, trained with these words of the command line."""
    config = from_mapping(compose_mapping(f"runs_dir={folder}", "progress=none", ONE_THREAD, *overrides))
    return train(with_checksum(config), view).path


def iris_frame() -> pd.DataFrame:
    """Iris in an order that mixes the classes."""
    bunch = load_iris()
    frame = pd.DataFrame(bunch.data, columns=["sepal length", "sepal width", "petal length", "petal width"])
    frame["label"] = bunch.target_names[bunch.target]
    return frame.iloc[np.random.default_rng(0).permutation(len(frame))].reset_index(drop=True)


def digits(config: Config) -> DataSet:
    """The data set digits as this configuration has it."""
    return load_data(Dataset(name="digits"), config.data)


def rows_of_digits() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Every fifth row and label of the bundled digits: the test rows of dataset=digits."""
    bunch = load_digits()
    return bunch.data[4::5], bunch.target[4::5]


# --- set-train as a process of its own -----------------------------------------------------------------------------

ONE_EPOCH = ("train.epochs=1", "model.hidden=[20]", ONE_THREAD)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """set-train in `folder`, in a session of its own: it can be sent a terminal's signals."""
    command = [sys.executable, "-P", "-c", TRAIN, *arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(folder: Path, pattern: str) -> None:
    """Return when a path of that pattern is there."""
    deadline = time.monotonic() + 60
    while not any(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.02)


# --- Run folders that nothing was trained in, and their report -----------------------------------------------------


def finished_run(
    root: Path,
    seed: int,
    last: float,
    best: float,
    method: str = "set",
    dataset: str = "cifar10",
    name: str | None = None,
    **changes: Any,
) -> Path:
    """A finished run's folder with these figures, its checksums right."""
    epsilon = None if method == "dense" else 20.0
    zeta = 0.3 if method == "set" else None
    path = root / dataset / "mlp" / (name or f"{method}-s{seed}-abcdef01")
    path.mkdir(parents=True)
    config = {"dataset": {"name": dataset}, "method": {"name": method}, "seed": seed, "epsilon": epsilon}
    config |= {"settings": changes.get("settings")}  # stands for whatever makes these settings another configuration
    (path / "config.json").write_text(canonical_json(config))
    (path / "params.json").write_text("{}")
    (path / "metrics.jsonl").write_text('{"epoch": 1}\n')
    summary = {
        "dataset": dataset,
        "model": "mlp",
        "method": method,
        "epsilon": epsilon,
        "zeta": zeta,
        "seed": seed,
        "settings": {},
        "metric": "accuracy",
        "last": last,
        "best": best,
        "best_on": "test",
        "connections": 381_000 + seed,
        "connections_final": 279_000 + seed,
        "parameters": 426_000 + seed,
        "dense_parameters": 20_373_010,
        "seconds_per_epoch": 8.0 + seed,
        "peak_memory_mb": 500.0 + seed,
        "sha256": {name: sha256(path / name) for name in ("config.json", "params.json", "metrics.jsonl")},
    } | changes
    write_sealed(path, {"version": VERSION} | summary)
    (path / "status.json").write_text(json.dumps({"status": "done", "epoch": 1, "reason": None}))
    return path


def write_sealed(path: Path, summary: Mapping[str, Any]) -> None:
    """Write a finished run's summary, its digest right."""
    (path / "summary.json").write_text(json.dumps({**summary, DIGEST: digest_of(summary)}))


def reseal(path: Path, *names: str, **changes: Any) -> None:
    """Make the checksums of these files in a finished run's summary right again, and its digest.

    A file that is not there loses its checksum. changes: of the summary itself
    """
    summary = json.loads((path / "summary.json").read_text()) | changes
    for name in names:
        summary["sha256"].pop(name, None)
        if (path / name).is_file():
            summary["sha256"][name] = sha256(path / name)
    write_sealed(path, summary)


def report(root: Path) -> Any:
    """The comparison of all runs in a folder."""
    paths, closed = find_run_folders([root])
    return compare([*map(read_run, paths), *closed])


# --- Data: its configuration, and tables of the user's own as the readers of dataset=custom give them --------------

NO_AUGMENT = Augment(rotation=0.0, shift=0.0, flip=False)


def data_config(
    folder: Path | str | None = None,
    holdout: int = 0,
    valid: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    scaling: str = "standardize",
    **keys: object,
) -> Data:
    """The section `data`, nothing fetched and nothing augmented; keys: others of it."""
    return Data.model_validate(
        {
            "dir": None if folder is None else str(folder),
            "fetch": "never",
            "holdout": holdout,
            "valid": valid,
            "train_limit": train_limit,
            "test_limit": test_limit,
            "scaling": scaling,
            "augment": NO_AUGMENT,
            **keys,
        }
    )


def own_card(parts: dict[Split, Part], classes: Sequence[str] = (), features: Sequence[str] = ()) -> Card:
    """What a reader says of these parts."""
    tables = [part.x for part in parts.values() if len(part)]
    lowest, largest = (float(f([f(x) for x in tables])) for f in (np.nanmin, np.nanmax))
    is_unit = lowest >= 0 and largest <= 1
    bytes_ = all(x.dtype == np.uint8 for x in tables)
    labels = [part.y for part in parts.values() if part.y is not None]
    n_classes = 0 if not labels else 1 + int(max(y.max() for y in labels if len(y)))
    return Card(
        name="custom",
        title="my.csv",
        domain="",
        kind=("binary" if is_unit else "bounded") if bytes_ else ("bounded" if is_unit else "real"),
        features=parts["train"].x.shape[1],
        classes=n_classes,
        maximum=255 if bytes_ and not is_unit else 1,
        train=len(parts["train"]),
        valid=len(parts["valid"]),
        test=len(parts["test"]),
        homepage="",
        licence="",
        citation="",
        class_names=tuple(classes),
        feature_names=tuple(features),
        notes=("read as it is",),
    )


def load_own(
    monkeypatch: pytest.MonkeyPatch,
    x: NDArray[Any],
    y: NDArray[Any] | None,
    *,
    groups: NDArray[Any] | None = None,
    test: tuple[NDArray[Any], NDArray[Any]] | None = None,
    classes: Sequence[str] = (),
    features: Sequence[str] = (),
    labels: bool = True,
    label: str | None = None,
    split: str = "stratified",
    **keys: Any,
) -> DataSet:
    """What a run sees of such a table; keys: of `data`."""
    none = no_rows(x.shape[1], y is not None)
    parts: dict[Split, Part] = {"train": Part(x, y, groups), "valid": none, "test": Part(*test) if test else none}
    card = own_card(parts, classes, features)
    monkeypatch.setattr(prepare, "read_custom", lambda *_, **__: (card, parts))
    monkeypatch.setattr(prepare, "custom_checksums", lambda _: {})
    return load_data(
        Dataset(name="custom", path="my.csv", label=label), data_config(split=split, **keys), labels=labels
    )


def said(data: DataSet) -> str:
    """The doubts, as one text."""
    return "\n".join(data.doubts)


# --- Networks and layers -------------------------------------------------------------------------------------------


def sparse_rbm(n_visible: int, n_hidden: int, engine: str = "torch", seed: int = 0, scale: float = 1.0) -> RBM:
    """Random connections, weights and biases large enough to matter."""
    layer = SparseLinear(n_visible, n_hidden, epsilon=2, engine=engine, seed=seed)
    return randomised(RBM(layer, np.zeros(n_visible, np.float32)), seed, scale)


def randomised(rbm: RBM, seed: int, scale: float) -> RBM:
    """The RBM, its parameters drawn from a normal distribution."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.normal_(std=scale, generator=generator)
    return rbm


def device_pattern(pattern: Csr) -> DevicePattern:
    """The pattern as the engines take it."""
    return DevicePattern(pattern.shape, torch.from_numpy(pattern.indptr), torch.from_numpy(pattern.indices))


def pattern_with_special_rows(n_in: int, n_out: int, rng: np.random.Generator) -> Csr:
    """A random pattern whose first input and output have every connection, and whose last have none."""
    dense = rng.random((n_in, n_out)) < 0.2
    dense[0, :] = dense[:, 0] = True
    dense[-1, :] = dense[:, -1] = False
    indptr = np.concatenate([[0], dense.sum(axis=1).cumsum()]).astype(np.int32)
    return Csr(indptr, np.nonzero(dense)[1].astype(np.int32), (n_in, n_out))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Csr, np.ndarray[tuple[int], np.dtype[np.float32]], float, int]:
    """A layer of any density up to 1, weights with ties and exact zeros, a zeta from 0 to 0.99."""
    n_in, n_out = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    nnz = draw(st.integers(0, n_in * n_out))
    seed = draw(st.integers(0, 2**32))
    zeta = draw(st.integers(0, 99)) / 100
    rng = np.random.default_rng(seed)
    values = rng.choice([0, 0.1, -0.1, 0.5], nnz) + rng.integers(0, 2, nnz) * rng.standard_normal(nnz)
    return random_pattern(n_in, n_out, nnz, rng), values.astype(np.float32), zeta, seed
