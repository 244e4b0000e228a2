"""A run and its folder: what is written, that resuming is bit for bit, that nothing is trained twice."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import set_cli
from set_cli import native
from set_cli.config import Dataset, identity, scientific
from set_cli.data.inputs import Inputs
from set_cli.data.prepare import load_data
from set_cli.errors import BusyError, ConfigError, DataError, DivergedError, Interrupted, StorageError, TimeIsUp
from set_cli.report.collect import FinishedRun, read_run
from set_cli.report.rows import compare
from set_cli.runs import checkpoint as checkpoint_module
from set_cli.runs.checkpoint import Checkpoint, load_checkpoint
from set_cli.runs.folder import RunFolder, locate
from set_cli.runs.summary import read_rows
from set_cli.runs.topology import read_topology
from set_cli.system.files import canonical_json, read_arrays, read_json, write_json
from set_cli.system.progress import NoView
from set_cli.system.signals import StopSignals
from set_cli.training import pace, record, session, supervised
from set_cli.training.supervised import evaluate
from set_cli.training.trainers import Scores, Supervised
from tests.builders import MODELS, SMALL, TINY, StopAt, science, train
from tests.conftest import Compose, run_python


def test_a_run_folder_has_what_the_contract_says(compose: Compose) -> None:
    config = compose(*SMALL)
    path = train(config).path
    assert path == Path(config.runs_dir, "digits", "mlp", f"set-e5-z0.3-s0-{identity(config)}")
    names = {file.name for file in path.iterdir()}
    assert names >= {"config.json", "run.json", "status.json", "metrics.jsonl", "timing.jsonl", "params.json"}
    assert names >= {"topology", "degrees.npz", "checkpoint.npz", "checkpoint.prev.npz", "summary.json", "train.log"}
    assert not [name for name in names if "tmp" in name or "part" in name or name == "error.txt"]
    assert (path / "config.json").read_text() == canonical_json(scientific(config))
    assert read_json(path / "status.json") == {"status": "done", "epoch": 4, "reason": None}
    rows = read_rows(path / "metrics.jsonl")
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert not [key for row in rows for key in row if "second" in key or "time" in key]
    start = read_json(path / "run.json")[0]
    assert start["layers"]["layer1"]["engine"] == ("torch" if native.core is None else "native")
    assert start["kernels"] == native.describe()
    assert start["layers"]["output"]["why"] == "output layer: always dense, as in the paper"
    assert start["command"] == ["set-train"]
    assert set(start) >= {"command", "git", "packages", "cpu", "threads", "checksums", "python"}


def test_counts_before_and_after_the_last_removal(compose: Compose) -> None:
    path = train(compose(*SMALL)).path
    rows, params, summary = (
        read_rows(path / "metrics.jsonl"),
        read_json(path / "params.json"),
        read_json(path / "summary.json"),
    )
    during = params["total"]["connections"]
    assert {row["connections"] for row in rows} == {during}  # no connection is lost or made
    assert all(row["pruned"] == row["regrown"] > 0 for row in rows[:-1])
    assert rows[-1]["regrown"] == 0
    assert summary["connections"] == during
    assert summary["connections_final"] == params["total"]["connections_final"] == during - rows[-1]["pruned"]
    assert params["total"]["dense_equivalent"] == 64 * 40 + 40 * 30 + 30 * 10
    for layer in params["layers"]:
        asked = {"layer1": 5 * 104, "layer2": 5 * 70, "output": 300}[layer["name"]]
        assert layer["connections_asked"] == pytest.approx(asked)


def test_bytes_are_those_of_weights_indices_and_momentum(compose: Compose) -> None:
    path = train(compose(*SMALL)).path
    for layer in read_json(path / "params.json")["layers"]:
        n_in, _ = layer["shape"]
        indices = 4 * (layer["connections"] + n_in + 1) if layer["kind"] == "sparse" else 0
        assert layer["bytes"] == {
            "values": 4 * layer["connections"],
            "indices": indices,
            "optimizer": 4 * layer["connections"],
        }


def test_checksums_in_the_summary_are_those_of_the_files(compose: Compose) -> None:
    outcome = train(compose(*SMALL))
    checksums = outcome.summary["sha256"]
    assert {"config.json", "params.json", "metrics.jsonl", "degrees.npz", "checkpoint.npz"} < checksums.keys()
    assert sum(name.startswith("topology/") for name in checksums) == 5
    for name, digest in checksums.items():
        assert hashlib.sha256((outcome.path / name).read_bytes()).hexdigest() == digest


def test_snapshots_are_patterns_of_every_epoch(compose: Compose) -> None:
    outcome = train(compose(*SMALL, "snapshots.weights=true"))
    loaded = set_cli.load(outcome.path)
    assert loaded.snapshots == [0, 1, 2, 3, 4]
    rows = read_rows(outcome.path / "metrics.jsonl")
    for epoch, row in zip(range(1, 5), rows, strict=True):
        before, after = loaded.topology(epoch - 1), loaded.topology(epoch)
        assert after["layer1"].shape == (64, 40)
        kept = {n: len(np.intersect1d(before[n].positions(), after[n].positions())) for n in before}
        total = sum(pattern.nnz for pattern in after.values())
        assert total + 300 == row["connections"] - (row["pruned"] if epoch == 4 else 0)
        assert sum(kept.values()) >= row["connections"] - 300 - row["pruned"]
    arrays = read_arrays(outcome.path / "topology" / "epoch_0002.npz")
    assert arrays["layer1/indices"].dtype == arrays["layer1/indptr"].dtype == np.int32
    assert len(arrays["layer1/data"]) == len(arrays["layer1/indices"])


def test_degrees_are_those_of_the_snapshots(compose: Compose) -> None:
    path = train(compose(*SMALL)).path
    degrees = read_arrays(path / "degrees.npz")
    loaded = set_cli.load(path)
    assert degrees["layer2/in_degree"].shape == (5, 30)
    for epoch in range(5):
        pattern = loaded.topology(epoch)["layer2"]
        assert np.array_equal(degrees["layer2/out_degree"][epoch], pattern.out_degrees())
        assert np.array_equal(degrees["layer2/in_degree"][epoch], pattern.in_degrees())


@pytest.mark.parametrize("method", ["fixprob", "dense"])
def test_methods_that_never_evolve_have_the_initial_snapshot_only(method: str, compose: Compose) -> None:
    outcome = train(compose(*SMALL, f"method={method}"))
    assert [file.name for file in (outcome.path / "topology").iterdir()] == ["epoch_0000.npz"]
    assert outcome.summary["connections"] == outcome.summary["connections_final"]
    assert outcome.summary["epsilon"] == (5 if method == "fixprob" else None)


@pytest.mark.parametrize(("every", "epochs"), [(None, list(range(5))), (3, [0, 3, 4]), (100, [0, 4])])
def test_first_and_last_snapshot_always(every: int | None, epochs: list[int], compose: Compose) -> None:
    config = compose(*SMALL, f"snapshots.every={'null' if every is None else every}")
    assert set_cli.load(train(config).path).snapshots == epochs


def test_about_fifty_snapshots_by_default(compose: Compose) -> None:
    snapshots = compose().snapshots
    assert [snapshots.epochs_between(epochs) for epochs in (1, 50, 100, 1000, 5000)] == [1, 1, 2, 20, 100]


def test_the_same_command_again_skips_and_writes_nothing(compose: Compose) -> None:
    first = train(compose(*SMALL))
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*")}
    second = train(compose(*SMALL, "snapshots.every=1"))
    assert second.skipped
    assert second.path == first.path
    assert second.summary == first.summary
    assert {file: file.stat().st_mtime_ns for file in first.path.rglob("*")} == before


def test_resume_never_trains_again_in_a_new_folder(compose: Compose) -> None:
    first = train(compose(*SMALL))
    again = train(compose(*SMALL, "resume=never"))
    third = train(compose(*SMALL, "resume=never"))
    assert [o.path.name for o in (again, third)] == [first.path.name + "-2", first.path.name + "-3"]
    assert science(again.path) == science(first.path)


def test_an_interrupted_copy_is_the_one_that_goes_on(compose: Compose) -> None:
    first = train(compose(*SMALL))
    with pytest.raises(Interrupted, match=r"with resume=auto resumes in epoch 2"):
        train(compose(*SMALL, "resume=never"), StopAt(2))
    resumed = train(compose(*SMALL, "resume=must"))
    assert resumed.path.name == first.path.name + "-2"
    assert science(resumed.path) == science(first.path)


def test_resume_must_needs_a_run(compose: Compose) -> None:
    config = compose(*SMALL, "resume=must")
    with pytest.raises(ConfigError, match="resume=must: expected a run to resume in"):
        train(config)
    assert not Path(config.runs_dir).exists()


@pytest.mark.parametrize("method", ["set", "fixprob", "dense"])
def test_an_interrupted_run_resumes_bit_for_bit(method: str, compose: Compose, tmp_path: Path) -> None:
    overrides = (*SMALL, f"method={method}")
    whole = train(compose(*overrides))
    config = compose(*overrides, f"runs_dir={tmp_path}/other")
    path, _ = locate(config)
    for epoch, number in ((1, signal.SIGINT), (3, signal.SIGTERM), (4, signal.SIGINT)):
        with pytest.raises(Interrupted) as caught:
            train(config, StopAt(epoch, number))
        assert caught.value.exit_code == 128 + number
        status = read_json(path / "status.json")
        assert (status["status"], status["epoch"]) == ("interrupted", epoch - 1)
    resumed = train(config)
    assert not resumed.skipped
    assert science(resumed.path) == science(whole.path)
    assert [start["resumed_after_epoch"] for start in read_json(path / "run.json")] == [None, 0, 2, 3]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_a_run_goes_on_from_within_an_epoch_bit_for_bit(
    model: str, compiled: bool, compose: Compose, tmp_path: Path
) -> None:
    """At the very step that a signal ended, the last of an epoch too, with augmentation, dropout and chains."""
    with nullcontext() if compiled else native.without_kernels():
        overrides = (*TINY, *MODELS[model], "backend.engine=torch" if not compiled else "backend.engine=native")
        whole = train(compose(*overrides))
        config = compose(*overrides, f"runs_dir={tmp_path}/other")
        path, _ = locate(config)
        for epoch, rows in ((1, 40), (1, 80), (2, 120), (3, 80)):
            with pytest.raises(Interrupted, match=f"resumes in epoch {epoch}"):
                train(config, StopAt(epoch, rows=rows))
        resumed = train(config)
    assert science(resumed.path) == science(whole.path)
    starts = read_json(path / "run.json")
    assert [(start["resumed_after_epoch"], start.get("resumed_after_rows")) for start in starts] == [
        (None, None),
        (0, 40),
        (0, 80),
        (1, 120),
        (2, 80),
    ]
    assert len(read_rows(path / "timing.jsonl")) == 3


def test_a_signal_while_an_epoch_is_measured_does_not_lose_the_epoch(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(*TINY, *MODELS["mlp"])
    measure = Supervised.measure

    def struck(
        self: Supervised, parts: Mapping[str, Inputs], epoch: int, check: Callable[[], None], *, is_last: bool = False
    ) -> Scores:
        if epoch == 2:
            monkeypatch.undo()
            os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, parts, epoch, check, is_last=is_last)

    monkeypatch.setattr(Supervised, "measure", struck)
    with pytest.raises(Interrupted, match="resumes in epoch 2"):
        train(config)
    path = train(config).path
    assert read_json(path / "run.json")[-1]["resumed_after_rows"] == 120
    assert "resuming after 120 rows of epoch 2" in (path / "train.log").read_text()
    assert science(path) == science(train(compose(*TINY, *MODELS["mlp"], f"runs_dir={tmp_path}/whole")).path)


@pytest.mark.parametrize("error", [StorageError("full"), MemoryError()])
def test_where_a_signals_checkpoint_cannot_be_written_the_last_one_stands(
    error: Exception, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(*TINY, *MODELS["mlp"])
    original = checkpoint_module.save_checkpoint

    def save(folder: Path, checkpoint: Checkpoint) -> None:
        if "within/rows" in checkpoint.arrays:
            raise error
        original(folder, checkpoint)

    monkeypatch.setattr(record, "save_checkpoint", save)
    with pytest.raises(Interrupted, match="resumes after epoch 1"):
        train(config, StopAt(2, rows=80))
    monkeypatch.undo()
    assert locate(config)[1] == "interrupted"
    assert science(train(config).path) == science(
        train(compose(*TINY, *MODELS["mlp"], f"runs_dir={tmp_path}/whole")).path
    )


def test_checkpoints_within_epochs_come_in_their_time(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every 10 minutes of a clock that goes 7 minutes a step: after every second step."""
    now, saved = 0.0, []
    original = checkpoint_module.save_checkpoint

    def save(folder: Path, checkpoint: Checkpoint) -> None:
        saved.append((checkpoint.epoch, int(checkpoint.arrays.get("within/rows", 0))))
        original(folder, checkpoint)

    class Clock(NoView):
        def step(self, epoch: int, rows: int, of: int) -> None:
            nonlocal now
            now += 7 * 60

    monkeypatch.setattr(record, "save_checkpoint", save)
    monkeypatch.setattr(pace, "LONGEST_CALL", 0.0)  # or a call of several steps would be one to the clock
    monkeypatch.setattr(record.time, "monotonic", lambda: now)  # type: ignore[attr-defined]
    train(compose(*TINY, "train.epochs=1", "train.batch_size=20", "model.hidden=[12]"), Clock())
    assert saved == [(0, 0), (0, 40), (0, 80), (1, 0)]


def test_a_bad_state_within_an_epoch_replaces_no_checkpoint(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose(*SMALL, "checkpoints.minutes=0", "train.lr=1e6")
    with pytest.raises(DivergedError, match="in epoch 1; try train"):
        train(config)
    checkpoint = load_checkpoint(locate(config)[0])
    assert checkpoint is not None
    assert all(np.isfinite(array).all() for array in checkpoint.arrays.values())


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("threads", 64, "threads: 1, before 64"),
        ("cpu", "another", "cpu: .*, before another"),
        ("packages", {"torch": "2.5.0"}, "torch: .*, before 2.5.0"),
        ("git", {"commit": "0123"}, "code: .*, before 0123"),
    ],
)
def test_a_run_that_goes_on_elsewhere_says_so(
    key: str, value: object, told: str, compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    config = compose(*SMALL)
    path, _ = locate(config)
    with pytest.raises(Interrupted):
        train(config, StopAt(3))
    starts = read_json(path / "run.json")
    changed = starts[0][key] | value if isinstance(value, dict) and starts[0][key] else value
    write_json(path / "run.json", [{**starts[0], key: changed}])
    outcome = train(config)
    (difference,) = outcome.summary["differences"]
    assert re.fullmatch(told, difference)
    assert f"note: {difference}: the run may not end with the bits" in capsys.readouterr().err
    assert read_json(path / "run.json")[-1]["differences"] == [difference]
    finished = read_run(path)
    assert isinstance(finished, FinishedRun)
    assert difference in compare([finished]).doubtful[0]


def test_a_run_that_goes_on_where_it_was_has_no_differences(compose: Compose) -> None:
    config = compose(*SMALL)
    with pytest.raises(Interrupted):
        train(config, StopAt(3))
    assert train(config).summary["differences"] == []


def test_a_time_limit_ends_a_run_which_can_go_on(compose: Compose, tmp_path: Path) -> None:
    config = compose(*SMALL, "time_limit=1e-9")
    with pytest.raises(TimeIsUp, match="time_limit=1e-09: the run took more minutes"):
        train(config)
    assert not Path(config.runs_dir).exists()  # it was over before anything was begun
    config, stop = compose(*SMALL), StopSignals()
    with pytest.raises(TimeIsUp, match="the same command resumes in epoch 3"):
        train(config, LateIn(3, stop), stop)
    assert locate(config)[1] == "failed"
    assert science(train(config).path) == science(train(compose(*SMALL, f"runs_dir={tmp_path}/whole")).path)


class LateIn(NoView):
    """Lets the time be up in an epoch."""

    def __init__(self, epoch: int, stop: StopSignals) -> None:
        self.at, self.stop = epoch, stop

    def step(self, epoch: int, rows: int, of: int) -> None:
        if epoch == self.at:
            self.stop.limit(0)


def test_an_epoch_in_which_the_process_was_stopped_has_no_time(compose: Compose) -> None:
    class Paused(NoView):
        def step(self, epoch: int, rows: int, of: int) -> None:
            if epoch == 2:
                os.kill(os.getpid(), signal.SIGCONT)

    outcome = train(compose(*SMALL), Paused())
    assert [row.get("paused") for row in read_rows(outcome.path / "timing.jsonl")] == [None, True, None, None]


@pytest.mark.parametrize(
    ("victim", "at"),
    [
        ("append_row", 5),  # the metrics of epoch 3
        ("append_row", 6),  # its times
        ("save_checkpoint", 3),
        ("append_degrees", 3),
        ("set_status", 3),
        ("set_status", 6),  # "done"
        ("finish_degrees", 1),
        ("write_summary", 1),
    ],
)
def test_a_failure_between_two_writes_is_recovered(
    victim: str, at: int, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(compose(*SMALL))
    config = compose(*SMALL, f"runs_dir={tmp_path}/other")
    owner: Any = RunFolder if hasattr(RunFolder, victim) else record
    original = getattr(owner, victim)
    calls = 0

    def fails_once(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            raise StorageError("the disk is full")
        return original(*arguments, **named)

    monkeypatch.setattr(owner, victim, fails_once)
    with pytest.raises(StorageError, match="the disk is full"):
        train(config)
    assert science(train(config).path) == science(whole.path)


def test_a_torn_row_is_cut_on_resume(compose: Compose, tmp_path: Path) -> None:
    whole = train(compose(*SMALL))
    config = compose(*SMALL, f"runs_dir={tmp_path}/other")
    path, _ = locate(config)
    with pytest.raises(Interrupted):
        train(config, StopAt(3))
    for name in ("metrics.jsonl", "timing.jsonl", "degrees.part"):
        with open(path / name, "ab") as stream:
            stream.write(b'{"epoch": 3, "tra')
    assert science(train(config).path) == science(whole.path)


def test_snapshots_from_after_the_checkpoint_are_dropped(compose: Compose) -> None:
    config = compose(*SMALL, "snapshots.every=3")
    path, _ = locate(config)
    with pytest.raises(Interrupted):
        train(config, StopAt(2))
    (path / "topology" / "epoch_0002.npz").write_bytes(b"of another start")
    assert set_cli.load(train(config).path).snapshots == [0, 3, 4]


def test_a_damaged_checkpoint_falls_back_to_the_one_before(compose: Compose, tmp_path: Path) -> None:
    whole = train(compose(*SMALL))
    config = compose(*SMALL, f"runs_dir={tmp_path}/other")
    path, _ = locate(config)
    with pytest.raises(Interrupted):
        train(config, StopAt(4))
    content = bytearray((path / "checkpoint.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "checkpoint.npz").write_bytes(content)
    assert science(train(config).path) == science(whole.path)


def test_two_damaged_checkpoints_are_refused_and_left_alone(compose: Compose) -> None:
    config = compose(*SMALL)
    path, _ = locate(config)
    with pytest.raises(Interrupted):
        train(config, StopAt(3))
    for name in ("checkpoint.npz", "checkpoint.prev.npz"):
        (path / name).write_bytes(b"damaged")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(DataError, match="cannot resume"):
        train(config)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_a_busy_folder_is_refused_with_the_pid(compose: Compose) -> None:
    config = compose(*SMALL)
    with RunFolder(locate(config)[0]) as folder:
        folder.set_status("running")
        with pytest.raises(BusyError, match=rf"another process \(pid {os.getpid()}\)"):
            train(config)
    assert train(config).summary["epochs"] == 4


def test_divergence_ends_the_run_and_keeps_the_last_good_state(compose: Compose) -> None:
    config = compose(*SMALL, "train.lr=100000")
    with (
        np.errstate(all="ignore"),
        pytest.raises(DivergedError, match="no longer finite in epoch 1; try train"),
    ):
        train(config)
    path, status = locate(config)
    assert status == "diverged"
    assert read_rows_or_none(path) == []
    assert "DivergedError" in (path / "error.txt").read_text()
    weights = read_arrays(path / "checkpoint.npz")["model/output.weight"]
    assert np.isfinite(weights).all()


def test_a_loss_that_only_the_test_rows_show_is_divergence(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = {"loss": float("inf"), "accuracy": 10.0}
    monkeypatch.setattr(supervised, "evaluate", lambda *arguments: bad)
    with pytest.raises(DivergedError, match="no longer finite in epoch 1"):
        train(compose(*SMALL))


def read_rows_or_none(path: Path) -> list[dict[str, Any]]:
    return read_rows(path / "metrics.jsonl") if (path / "metrics.jsonl").exists() else []


def test_a_bug_is_recorded_as_failed(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(session, "evolve_model", broken)
    config = compose(*SMALL)
    with pytest.raises(ZeroDivisionError):
        train(config)
    path, status = locate(config)
    assert status == "failed"
    assert read_json(path / "status.json")["reason"] == "ZeroDivisionError: a bug"
    assert "in broken" in (path / "error.txt").read_text()
    monkeypatch.undo()
    train(config)
    assert not (path / "error.txt").exists()


def test_nothing_is_created_where_data_is_missing(compose: Compose, tmp_path: Path) -> None:
    config = compose("dataset=mnist", f"data.dir={tmp_path}/empty")
    with pytest.raises(DataError, match="not found in"):
        train(config)
    assert not Path(config.runs_dir).exists()


def test_a_runs_folder_that_cannot_be_made_is_a_storage_error(compose: Compose, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="could not be written"):
        train(compose(*SMALL, f"runs_dir={tmp_path}/file/runs"))


def test_a_missing_gpu_is_refused_with_what_to_do(compose: Compose) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(ConfigError, match="backend=cuda: torch finds no GPU here; use backend=cpu"):
        train(compose(*SMALL, "backend=cuda"))


def test_best_is_chosen_on_validation_rows_where_there_are_any(compose: Compose) -> None:
    summary = train(compose(*SMALL, "data.valid=300", "data.holdout=100")).summary
    assert summary["best_on"] == "valid"
    assert summary["tested_on"] == "holdout"
    assert set(summary["after_last_removal"]) == {"valid", "test"}


def test_engines_agree_on_a_run(compose: Compose) -> None:
    summaries: list[Mapping[str, Any]] = [
        train(compose(*SMALL, f"backend.engine={engine}", "model.dropout=0")).summary for engine in ("torch", "masked")
    ]
    # The same products in another order of summation: close, not equal, after four epochs.
    assert abs(summaries[0]["last"] - summaries[1]["last"]) < 3
    assert summaries[0]["connections"] == summaries[1]["connections"]


def test_a_loaded_run_is_the_trained_model(compose: Compose) -> None:
    outcome = train(compose(*SMALL))
    loaded = set_cli.load(outcome.path)
    assert isinstance(loaded.metrics, pd.DataFrame)
    assert loaded.metrics["test_accuracy"].iloc[-1] == outcome.summary["last"]
    assert loaded.config["epsilon"] == 5
    data = load_data(Dataset(name="digits"), compose().data)
    inputs = Inputs(data.test, data, torch.device("cpu"))
    final = evaluate(loaded.model, inputs)["accuracy"]
    assert final == outcome.summary["after_last_removal"]["test"]


@pytest.mark.parametrize("name", ["checkpoint.npz", "metrics.jsonl", "config.json"])
def test_loading_an_altered_run_is_refused(name: str, compose: Compose) -> None:
    path = train(compose(*SMALL)).path
    (path / name).write_bytes((path / name).read_bytes() + b" ")
    with pytest.raises(DataError, match=f"{name}: altered after the run"):
        set_cli.load(path)


def test_loading_a_run_that_has_no_epoch_yet(compose: Compose) -> None:
    config = compose(*SMALL)
    with pytest.raises(Interrupted):
        train(config, StopAt(1))
    assert set_cli.load(locate(config)[0]).metrics.empty


def test_loading_what_is_no_run_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a run folder, found none"):
        set_cli.load(tmp_path)


def test_a_tampered_snapshot_is_refused(compose: Compose) -> None:
    loaded = set_cli.load(train(compose(*SMALL)).path)
    path = loaded.path / "topology" / "epoch_0001.npz"
    arrays = read_arrays(path)
    arrays["layer1/indices"] = arrays["layer1/indices"] + 1000
    np.savez(path, allow_pickle=False, **arrays)
    with pytest.raises(DataError, match=r"epoch_0001.npz: altered after the run"):
        loaded.topology(1)
    with pytest.raises(DataError, match="layer1 is no valid pattern"):  # nothing vouches for it, so it is looked at
        read_topology(loaded.path, {}, 1)
    with pytest.raises(DataError, match="no topology snapshot of epoch 77"):
        loaded.topology(77)


def test_json_is_strict(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": NaN}')
    with pytest.raises(DataError, match="NaN is not strict JSON"):
        read_json(tmp_path / "x.json")
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))
    assert json.loads(canonical_json({"b": 1, "a": 2.0})) == {"a": 2.0, "b": 1}


def test_peak_memory_is_the_runs_own(tmp_path: Path) -> None:
    """Not that of the process that started it, which Linux would hand on."""
    program = (
        "import subprocess, sys\n"
        "held = bytearray(600_000_000)\n"
        "held[::4096] = b'x' * len(held[::4096])\n"
        "child = 'import torch; from set_cli.system.peak import PROCESS; print(PROCESS.so_far())'\n"
        "print(subprocess.run([sys.executable, '-P', '-c', child], capture_output=True, text=True).stdout)"
    )
    peak = float(run_python("-c", program, folder=tmp_path).stdout)
    assert 50 < peak < 550
