"""One trained run to be damaged; figures and samples that take less time."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from set_cli.analysis import measure as run_module
from set_cli.config import from_mapping
from set_cli.report.figures import write_figure
from tests.builders import train
from tests.conftest import ONE_THREAD, compose_mapping


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SAMPLES", 4)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SET-MLP with two sparse layers and snapshots, as it was trained."""
    folder = tmp_path_factory.mktemp("trained")
    overrides = ("train.epochs=1", "model.hidden=[12,9]", "snapshots.every=1", "progress=none", ONE_THREAD)
    return train(from_mapping(compose_mapping(*overrides, f"runs_dir={folder}/runs"))).path


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Path:
    """The same, the test's own, in runs/."""
    path = tmp_path / "runs" / "digits" / "mlp" / trained.name
    shutil.copytree(trained, path)
    return path


@pytest.fixture
def quick_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures as SVG only: what breaks one breaks the other, and a PNG takes as long again."""

    def save(figure: Figure, path: Path) -> None:
        if path.suffix == ".svg":
            write_figure(figure, io.BytesIO(), "svg")

    monkeypatch.setattr("set_cli.report.drawing.save_figure", save)
