"""How long a run would take: earlier runs of the same plan here, else timed steps, else the reason why nobody knows."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from set_cli.config import Config, scientific
from set_cli.data.catalog import CATALOG
from set_cli.sweeps import durations
from set_cli.sweeps.durations import START, WRITING, Size, duration, plan_key
from set_cli.sweeps.table import duration_text
from tests.conftest import Compose

SIZE = Size(CATALOG["digits"], 1438, 359)
SMALL = ("model.hidden=[20]", "backend=cpu")


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Nothing known of earlier tests."""
    durations.forget()


def earlier_run(config: Config, name: str, *, epochs: int, train: float = 2.0, **start: Any) -> None:
    """A run folder with so many epochs, each of `train` seconds, 1 s of evolution and 0.5 s of measuring."""
    folder = Path(config.runs_dir, config.dataset.name, config.model.name, name)
    folder.mkdir(parents=True)
    here = {"host": platform.node(), "device": "cpu", "threads": 1, "processes": 1}
    (folder / "run.json").write_text(json.dumps([here | start]))
    (folder / "config.json").write_text(json.dumps(scientific(config)))
    times = {"train_seconds": train, "evolve_seconds": 1.0, "evaluate_seconds": 0.5}
    rows = [{"epoch": epoch, **times} for epoch in range(1, epochs + 1)]
    rows.append({"epoch": epochs + 1, **times, "train_seconds": 1e6, "paused": True})
    (folder / "timing.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_earlier_runs_of_the_same_plan_give_the_pace(compose: Compose) -> None:
    earlier_run(compose(*SMALL, "train.epochs=4", "seed=7", "zeta=0.1", "train.lr=0.5"), "a", epochs=4)
    found = duration(compose(*SMALL, "train.epochs=20"), SIZE)
    assert found == {"seconds": pytest.approx(START + 20 * (3.5 + WRITING), abs=0.1), "seconds_from": "1 earlier run"}
    left = duration(compose(*SMALL, "train.epochs=20"), SIZE, done=15)
    assert left["seconds"] == pytest.approx(START + 5 * (3.5 + WRITING), abs=0.1)


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["epsilon=9"], {}),
        (["model.hidden=[30]"], {}),
        (["train.batch_size=50"], {}),
        (["data.train_limit=500"], {}),
        (["method=dense"], {}),
        (["model.dropout=0"], {}),
        ([], {"host": "elsewhere"}),
        ([], {"threads": 64}),
        ([], {"device": "H100"}),
        ([], {"processes": 2}),
    ],
)
def test_another_plan_or_machine_says_nothing(overrides: list[str], start: dict[str, Any], compose: Compose) -> None:
    earlier_run(compose(*SMALL, *overrides), "a", epochs=4, **start)
    assert duration(compose(*SMALL), SIZE)["seconds_from"] == "20 timed steps"


def test_a_damaged_folder_is_passed_over(compose: Compose) -> None:
    config = compose(*SMALL)
    earlier_run(config, "a", epochs=4)
    earlier_run(config, "b", epochs=4)
    folder = Path(config.runs_dir, "digits/mlp")
    (folder / "b/timing.jsonl").write_text('{"epoch": 1}\nnot JSON')
    assert duration(config, SIZE)["seconds_from"] == "1 earlier run"


def test_an_rbm_is_measured_in_some_epochs_only(compose: Compose) -> None:
    config = compose("model=rbm", "model.hidden=[20]", "backend=cpu", "train.epochs=200")
    earlier_run(config, "a", epochs=200)
    seconds = duration(config, SIZE)["seconds"]
    assert seconds == pytest.approx(START + 200 * (3 + WRITING) + 50 * 0.5, abs=0.1)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.hidden=[20]"],
        ["model=rbm", "model.hidden=[10]"],
        ["model=rbm", "model.hidden=[30]"],
        ["model=cnn", "model.channels=[4]", "model.hidden=[20]"],
        ["model.hidden=[20]", "train.batch_size=5000"],
        ["model.hidden=[20]", "data.augment.shift=0.1"],
        ["model.hidden=[20]", "method=dense"],
    ],
)
def test_twenty_steps_are_timed_of_every_kind_of_network(overrides: list[str], compose: Compose) -> None:
    config = compose("backend=cpu", *overrides)
    found = duration(config, SIZE)
    assert found["seconds"] > START
    assert found["seconds_from"].endswith(" timed steps")
    assert not Path(config.runs_dir).exists()


def test_a_plan_is_timed_once_in_a_sweep(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    first = duration(compose(*SMALL), SIZE)
    monkeypatch.setattr(durations, "build_network", None)  # which would be timed
    assert duration(compose(*SMALL, "seed=1", "zeta=0.2"), SIZE) == first


@pytest.mark.parametrize(
    ("left", "connections", "reason"),
    [
        (0.0, 1e9, "unknown: 60 s of timing were spent on the runs above"),
        (60.0, 10, "unknown: the network is too large to be built for this"),
    ],
)
def test_a_time_that_nobody_knows_has_its_reason(
    left: float, connections: float, reason: str, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    durations.forget(left)
    monkeypatch.setattr(durations, "MOST_CONNECTIONS", connections)
    assert duration(compose(*SMALL), SIZE) == {"seconds": None, "seconds_from": reason}


def test_a_plan_leaves_out_what_costs_no_time(compose: Compose) -> None:
    assert plan_key(scientific(compose("train.lr=0.1"))) == plan_key(scientific(compose("seed=3", "train.epochs=7")))
    assert plan_key(scientific(compose())) != plan_key(scientific(compose("train.momentum=0")))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(4.2, "4 s"), (99, "99 s"), (180, "3 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min"), (2.7e5, "3 d 3 h")],
)
def test_a_duration_has_no_more_digits_than_a_forecast(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
