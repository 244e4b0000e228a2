"""Every data set that is here, from its files to a short training run, as a user types it (slow)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from set_cli.data.catalog import CATALOG
from set_cli.data.imports import import_files
from set_cli.data.state import inspect
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from set_cli.system.progress import no_bar
from tests.conftest import TRAIN, run_command

# Model, what it must reach after the epochs, and what is needed because only a part of the set may be here.
# Log-probabilities: what a model of independent pixels reaches, from the training rows' means, is passed by all.
RUNS = [
    ("adult", "rbm", -26.0, ()),
    ("connect4", "rbm", -35.0, ()),
    ("dna", "rbm", -101.0, ()),
    ("mushrooms", "rbm", -35.0, ()),
    ("nips", "rbm", -300.0, ()),
    ("ocr_letters", "rbm", -55.0, ()),
    ("rcv1", "rbm", -62.0, ()),
    ("web", "rbm", -40.0, ()),
    ("caltech28", "rbm", -420.0, ("model.hidden=[500]", "model.cd_steps=1")),
    ("mnist_binary", "rbm", -190.0, ("model.hidden=[500]", "model.cd_steps=1")),
    ("caltech28", "mlp", 10.0, ()),
    ("mnist", "mlp", 80.0, ("data.train_limit=10000",)),
    ("cifar10", "mlp", 12.0, ("data.holdout=10000", "data.train_limit=20000")),
    ("higgs", "mlp", 52.0, ("data.holdout=5000",)),
]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real data with everything taken in whose container is not the publisher's."""
    source = os.environ.get("SET_DATA_DIR")
    if not source:
        pytest.skip("SET_DATA_DIR is not set: no real data here")
    folder = tmp_path_factory.mktemp("data")
    for name, card in CATALOG.items():
        if card.folder_name or not Path(source, name).is_dir():
            continue
        state = inspect(card, Path(source))
        if state.status == "damaged":
            (folder / name).mkdir()
            for path in state.files:
                copy = shutil.copy(path, folder / name)
                import_files(card, folder, [Path(copy)], unverified=True, bar=no_bar)
        else:
            (folder / name).symlink_to(Path(source, name).resolve())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model", "reached", "overrides"), RUNS, ids=lambda value: str(value)[:12])
def test_a_short_run_on_real_data_learns(
    name: str, model: str, reached: float, overrides: tuple[str, ...], data_dir: Path, tmp_path: Path
) -> None:
    state = inspect(CATALOG[name], data_dir)
    if state.status == "missing":
        pytest.skip(f"{name} is not in SET_DATA_DIR")
    arguments = [f"dataset={name}", f"model={model}", "train.epochs=3", f"data.dir={data_dir}", "data.fetch=never"]
    if model == "rbm":
        arguments.append("model.ais_last=quick")  # the paper's schedule takes many times as long as three epochs
    result = run_command(TRAIN, *arguments, *overrides, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "runs" / name / model).iterdir()
    summary = read_json(folder / "summary.json")
    assert summary["last"] > reached
    assert read_json(folder / "run.json")[0]["data"]["origin"] == (
        "imported" if state.status == "imported" else "verified"
    )
    assert ("data" in summary["settings"]) == (state.status == "imported")
    assert len(read_rows(folder / "metrics.jsonl")) == 3
