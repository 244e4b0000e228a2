"""train.patience: a run ends in order when its validation score has not been better for so many epochs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import set_cli
from set_cli.config import Config, from_mapping, identity
from set_cli.errors import ConfigError, Interrupted
from set_cli.report.collect import FinishedRun, read_run
from set_cli.runs.files import snapshot_epochs
from set_cli.runs.folder import locate
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from set_cli.system.progress import NoView
from set_cli.training.patience import Patience
from set_cli.training.schedules import evolution_due
from tests.builders import MODELS, TINY, StopAt, science, train
from tests.conftest import Compose, compose_mapping

# The rate is too small to change a prediction, so no epoch is better than the first one.
STALLS = (*TINY, "data.valid=60", "train.epochs=9", "train.lr=1e-9", "train.patience=2", "zeta=0.3")
SCORE = {"mlp": "valid_accuracy", "cnn": "valid_accuracy", "rbm": "valid_log_probability"}


def composed(*words: str) -> Config:
    return from_mapping(compose_mapping("dataset=digits", "model=mlp", *words))


def ends_after(allowed: int | None, scores: list[float | None]) -> int:
    """The epoch after which a training with these scores ends."""
    patience = Patience(allowed, len(scores), [])
    for epoch, score in enumerate(scores, start=1):
        patience.add(epoch, {} if score is None else {"valid": {"accuracy": score}, "test": {"accuracy": 100.0}})
        if patience.has_run_out:
            return epoch
    return len(scores)


@pytest.mark.parametrize(
    ("allowed", "scores", "epoch"),
    [
        (2, [1, 2, 3, 3, 3, 9, 9], 5),  # as good is not better
        (2, [1, 2, 3, 2, 4, 3, 4, 9], 7),
        (1, [5, 4, 9], 2),
        (3, [5, None, None, 4, 9], 4),  # not measured in every epoch
        (3, [None, None, 5, None, None, 6], 6),
        (None, [5, 4, 3, 2, 1], 5),
        (9, [5, 4, 3], 3),
    ],
)
def test_it_ends_when_no_score_was_better(allowed: int | None, scores: list[float | None], epoch: int) -> None:
    assert ends_after(allowed, scores) == epoch


def test_it_is_a_function_of_the_rows() -> None:
    rows: list[dict[str, Any]] = [{"epoch": n, "valid_accuracy": score} for n, score in enumerate([5, 7, 6], start=1)]
    patience = Patience(2, 9, rows)
    assert (patience.has_run_out, patience.is_due(4), patience.ended) == (False, True, None)
    patience.add(4, {"valid": {"accuracy": 7.0}})
    assert patience.has_run_out
    assert patience.ended is not None
    assert patience.ended.startswith(
        "ended after epoch 4 of 9: the validation score has not been better than after epo"
    )
    assert Patience(2, 4, [*rows, {"epoch": 4, "valid_accuracy": 7.0}]).ended is None  # the last epoch anyway


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^train.patience=3 needs validation rows, .* data.valid above 0, found 0$"):
        composed("train.patience=3")
    with pytest.raises(ConfigError, match=r"^train.patience: expected greater than or equal to 1, found 0"):
        composed("train.patience=0", "data.valid=100")
    words = ("data.valid=100", "train.patience=null", "train.patience=5", "train.patience=6")
    assert len({identity(composed(words[0], word)) for word in words}) == 3


def test_the_removal_after_an_early_end_is_not_refilled() -> None:
    config = composed("train.epochs=8", "zeta=0.4", "evolve.every=3", "evolve.until=0.5", "evolve.final=until")
    first, second = (evolution_due(config, epoch, ends=epoch == 2) for epoch in (1, 2))
    assert first is None
    assert second is not None
    assert (second.zeta, second.refill) == (0.4, False)
    at_end = evolution_due(config, 4)
    assert at_end is not None
    assert (at_end.zeta, at_end.refill) == (0.4, False)
    assert evolution_due(config, 6, ends=True) is None  # the final removal was after epoch 4


@pytest.mark.parametrize("model", MODELS)
def test_a_run_ends_early_in_order(model: str, compose: Compose) -> None:
    words = (*STALLS, *MODELS[model], *(["data.valid=60", "model.ais_every=2"] if model == "rbm" else []))
    config = compose(*words)
    path = train(config).path
    rows, summary = read_rows(path / "metrics.jsonl"), read_json(path / "summary.json")
    last, scores = len(rows), {row["epoch"]: row[SCORE[model]] for row in rows if SCORE[model] in row}
    best = max(scores, key=lambda epoch: scores[epoch])
    assert last == best + 2 < 9
    assert rows[-1]["pruned"] > rows[-1]["regrown"] == 0
    assert all(row["regrown"] == row["pruned"] > 0 for row in rows[:-1])
    assert summary["epochs"] == last == snapshot_epochs(path)[-1]
    assert summary["ended"].startswith(f"ended after epoch {last} of 9")
    assert summary["ended"] in (path / "train.log").read_text()
    assert summary["connections_final"] == rows[-1]["connections"] - rows[-1]["pruned"]
    assert locate(config)[1] == "done"
    assert isinstance(read_run(path), FinishedRun)
    evaluated = set_cli.load(path).evaluate()
    assert evaluated[SCORE[model].removeprefix("valid_")] == summary["after_last_removal"]["test"]


def test_an_rbms_last_epoch_is_estimated_as_the_last_one(compose: Compose) -> None:
    words = (*STALLS, *MODELS["rbm"], "model.hidden=[25]", "model.ais_last=paper", "train.patience=1", "seed=1")
    rows = read_rows(train(compose(*words)).path / "metrics.jsonl")
    assert rows[-1]["epoch"] < 9
    assert rows[-1]["test_temperatures"] > 10_000


def test_before_its_end_the_run_is_what_it_would_have_been(compose: Compose, tmp_path: Path) -> None:
    words = (*STALLS, *MODELS["mlp"])
    ended = read_rows(train(compose(*words)).path / "metrics.jsonl")
    whole = read_rows(
        train(compose(*words, "train.patience=null", f"runs_dir={tmp_path}/other")).path / "metrics.jsonl"
    )
    assert len(whole) == 9
    assert ended[:-1] == whole[: len(ended) - 1]
    assert ended[-1] | {"regrown": 0} == whole[len(ended) - 1] | {"regrown": 0}


class StopAfter(NoView):
    """Sends this process a signal when the checkpoint of an epoch is written."""

    def __init__(self, at: int) -> None:
        self.at = at

    def epoch(self, row: Any, line: str) -> None:
        if row["epoch"] == self.at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("model", ["mlp", "rbm"])
def test_a_run_resumes_bit_for_bit(model: str, compose: Compose, tmp_path: Path) -> None:
    words = (*STALLS, *MODELS[model])
    whole = train(compose(*words)).path
    last = len(read_rows(whole / "metrics.jsonl"))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    for view in (StopAt(2, rows=80), StopAt(last, rows=40), StopAfter(last)):
        with pytest.raises(Interrupted):
            train(config, view)
    resumed = train(config).path
    assert science(resumed) == science(whole)
    assert read_json(resumed / "summary.json")["ended"] == read_json(whole / "summary.json")["ended"]
