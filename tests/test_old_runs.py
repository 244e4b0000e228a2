"""Runs that earlier versions trained are reported, loaded, resumed and skipped by this one. See old_runs/README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import set_cli
from set_cli import native
from set_cli.config import Config, from_mapping, scientific
from set_cli.report.collect import FinishedRun, LeftOut, find_run_folders, read_run
from set_cli.runs.degrees import read_degrees
from set_cli.runs.environment import DECIDING_PACKAGES, describe_environment
from set_cli.runs.folder import locate, read_status
from set_cli.runs.summary import VERSION, read_rows
from set_cli.system.files import canonical_json, read_json
from tests.builders import rows_of_digits, science, train
from tests.conftest import TRAIN, Command, compose_mapping, run_command

OLD = Path(__file__).parent / "old_runs"
RUNS, _ = find_run_folders([OLD])
FINISHED = [path for path in RUNS if read_status(path) == "done"]
INTERRUPTED = [path for path in RUNS if read_status(path) == "interrupted"]


def name_of(path: Path) -> str:
    return str(path.relative_to(OLD))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """All of them in a folder that may be written to."""
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old"


def command_of(path: Path, runs_dir: Path) -> list[str]:
    """The words of the set-train command that trained the run, for runs in another folder."""
    _, *words = read_json(path / "run.json")[-1]["command"]
    return [*(word for word in words if not word.startswith("runs_dir=")), f"runs_dir={runs_dir}"]


def config_of(path: Path, runs_dir: Path) -> Config:
    # A checkpoint after every step takes half a minute of writing and changes no number.
    return from_mapping(compose_mapping(*command_of(path, runs_dir), "checkpoints.minutes=null"))


def is_computed_alike(path: Path) -> bool:
    """Whether the run was trained where sums come out as here, to the last bit: the code is not asked for."""
    before, now = read_json(path / "run.json")[-1], describe_environment([])
    packages = all(before["packages"].get(name) == now["packages"].get(name) for name in DECIDING_PACKAGES)
    kernels = before["kernels"].items() <= (native.describe() or {}).items()
    return packages and kernels and (before["cpu"], before["python"]) == (now["cpu"], now["python"])


def test_there_are_old_runs_of_every_kind() -> None:
    """So that none of the tests below is about nothing."""
    models = {read_json(path / "config.json")["model"]["name"] for path in FINISHED}
    assert models == {"mlp", "cnn", "rbm"}
    reasons = [read_json(path / "status.json")["reason"] for path in INTERRUPTED]
    assert any("after epoch" in reason for reason in reasons)
    assert any("in epoch" in reason for reason in reasons)


@pytest.mark.parametrize("path", FINISHED, ids=name_of)
def test_an_old_run_is_read(path: Path) -> None:
    run = read_run(path)
    assert isinstance(run, FinishedRun), run.detail
    written = read_json(path / "summary.json")
    assert run.summary["version"] == written.get("version")
    assert {key: run.summary[key] for key in written} == written


@pytest.mark.parametrize("path", INTERRUPTED, ids=name_of)
def test_an_old_interrupted_run_is_named_with_its_reason(path: Path) -> None:
    run = read_run(path)
    assert isinstance(run, LeftOut)
    assert (run.why, run.seed) == ("interrupted", read_json(path / "config.json")["seed"])
    assert "interrupted by SIGTERM" in run.detail


def test_old_runs_are_rows_of_a_report(copy: Path, set_report: Command) -> None:
    result = set_report(str(copy), "--format", "json", "--strict")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert sum(row["n"] for row in rows) == len(FINISHED)
    figures = sorted(read_json(path / "summary.json")["last"] for path in FINISHED)
    assert sorted(row["last_mean"] for row in rows) == figures  # one run a row
    assert f"not counted: {len(INTERRUPTED)} interrupted" in result.stderr
    listed = set_cli.runs(copy)
    assert sorted(listed["status"]) == ["done"] * len(FINISHED) + ["interrupted"] * len(INTERRUPTED)


@pytest.mark.parametrize("path", FINISHED, ids=name_of)
def test_an_old_run_is_loaded(path: Path) -> None:
    run = set_cli.load(path)
    metric, left = run.summary["metric"], run.summary["after_last_removal"]["test"]
    # On another machine a few of the 359 test rows may fall on the other side of a boundary.
    assert run.evaluate()[metric] == (left if is_computed_alike(path) else pytest.approx(left, abs=1))
    rows, _ = rows_of_digits()
    if run.n_classes:
        probabilities = run.predict_proba(rows)
        assert np.isfinite(probabilities).all()
        assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(rows)), abs=1e-5)
    else:
        assert np.isfinite(run.log_probability(rows)).all()
    degrees = read_degrees(path, run.checksums)
    for epoch in run.snapshots:
        for name, pattern in run.topology(epoch).items():
            assert pattern.nnz == degrees[f"{name}/out_degree"][epoch].sum()
    assert run.snapshots == list(range(len(run.metrics) + 1))


@pytest.mark.parametrize("path", INTERRUPTED, ids=name_of)
def test_an_old_interrupted_run_is_loaded_as_its_checkpoint_has_it(path: Path) -> None:
    run = set_cli.load(path)
    assert (run.status, len(run.metrics)) == ("interrupted", read_json(path / "status.json")["epoch"])
    assert np.isfinite(run.predict_proba(rows_of_digits()[0])).all()


@pytest.mark.parametrize("path", INTERRUPTED, ids=name_of)
def test_an_old_run_is_resumed_to_the_end_that_it_would_have_had(path: Path, copy: Path, tmp_path: Path) -> None:
    version, *_ = path.relative_to(OLD).parts
    resumed = train(config_of(path, copy / version))
    assert resumed.path == copy / path.relative_to(OLD)
    epochs = read_json(path / "status.json")["epoch"]
    assert read_json(resumed.path / "run.json")[-1]["resumed_after_epoch"] == epochs
    assert resumed.summary["version"] == VERSION
    assert isinstance(read_run(resumed.path), FinishedRun)
    before, after = (read_rows(folder / "metrics.jsonl") for folder in (path, resumed.path))
    assert after[:epochs] == before
    assert [row["epoch"] for row in after] == list(range(1, 1 + resumed.summary["epochs"]))
    at_once = train(config_of(path, tmp_path / "at_once")).path
    if is_computed_alike(path):
        assert science(resumed.path) == science(at_once)
    else:  # the old run's first epoch may have other last bits than that of this machine
        assert {row["connections"] for row in after} == {
            row["connections"] for row in read_rows(at_once / "metrics.jsonl")
        }


@pytest.mark.parametrize("path", FINISHED, ids=name_of)
def test_an_old_run_is_found_by_its_configuration(path: Path, copy: Path) -> None:
    """Its id is the one that this version gives the same command."""
    version, *_ = path.relative_to(OLD).parts
    config = config_of(path, copy / version)
    assert locate(config) == (copy / path.relative_to(OLD), "done")
    assert canonical_json(scientific(config)) == (path / "config.json").read_text()


def test_an_old_run_is_not_trained_again(copy: Path, tmp_path: Path) -> None:
    path = FINISHED[0]  # of each the id is tested above
    version, *_ = path.relative_to(OLD).parts
    result = run_command(TRAIN, *command_of(path, copy / version), folder=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"already done, skipped: {copy / path.relative_to(OLD)}" in result.stdout + result.stderr
