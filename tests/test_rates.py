"""Learning rates and zeta that change in a run, and when the connections evolve."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

import set_cli
from set_cli.config import Config, from_mapping, identity
from set_cli.errors import ConfigError
from set_cli.runs.folder import locate
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from set_cli.training.schedules import evolution_due, rate_of, scheduled_values
from tests.builders import MODELS, TINY, interrupted, science, train
from tests.conftest import Command, Compose, compose_mapping

SCHEDULES = ("constant", "cosine", "linear", "exponential", "step")


def composed(*words: str) -> Config:
    return from_mapping(compose_mapping("dataset=digits", "model=mlp", *words))


def rates(steps_per_epoch: int, *words: str) -> list[float]:
    """Of every step of a run."""
    settings = composed(*words).train
    return [rate_of(settings, step, steps_per_epoch) for step in range(settings.epochs * steps_per_epoch)]


def torchs(steps: int, make: Any, lr: float = 0.1) -> list[float]:
    """The rates that a scheduler of torch's gives."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, found = make(optimizer), []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


TORCHS: dict[str, tuple[tuple[str, ...], Any]] = {
    "constant": ((), lambda o: lr_scheduler.ConstantLR(o, factor=1)),
    "cosine": ((), lambda o: lr_scheduler.CosineAnnealingLR(o, 40)),
    "cosine to an end": (("train.lr_end=0.02",), lambda o: lr_scheduler.CosineAnnealingLR(o, 40, eta_min=0.02)),
    "linear": (("train.lr_end=0.01",), lambda o: lr_scheduler.LinearLR(o, 1, 0.1, 40)),
    "exponential": (("train.lr_end=0.001",), lambda o: lr_scheduler.ExponentialLR(o, 0.01 ** (1 / 40))),
    "step": ((), lambda o: lr_scheduler.MultiStepLR(o, [20, 30])),
    "step as asked": (
        ("train.lr_steps=[0.1,0.6]", "train.lr_factor=0.5"),
        lambda o: lr_scheduler.MultiStepLR(o, [4, 24], gamma=0.5),
    ),
}


@pytest.mark.parametrize("name", TORCHS)
def test_rates_are_torchs(name: str) -> None:
    words, make = TORCHS[name]
    found = rates(8, "train.epochs=5", "train.lr=0.1", f"train.schedule={name.split()[0]}", *words)
    assert found == pytest.approx(torchs(40, make), rel=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_grows_to_the_rate_and_the_schedule_follows_it(schedule: str) -> None:
    words = ("train.lr=0.1", f"train.schedule={schedule}")
    found = rates(10, "train.epochs=6", "train.warmup=1.5", *words)
    assert found[:15] == pytest.approx([0.1 * (i + 1) / 15 for i in range(15)])
    if schedule != "step":  # whose moments are of the whole run
        assert found[15:] == pytest.approx(rates(9, "train.epochs=5", *words))
    assert found == rates(10, "train.epochs=6", "train.warmup=1.5", *words)


def evolutions(*words: str) -> list[float | None]:
    config = composed(*words)
    found = [evolution_due(config, epoch, 7, 7) for epoch in range(1, config.train.epochs + 1)]
    return [None if due is None else due.zeta for due in found]


def test_connections_evolve_when_they_are_asked_to() -> None:
    run = ("train.epochs=6", "zeta=0.4")
    assert evolutions(*run) == [0.4] * 6
    assert evolutions(*run, "evolve.every=4") == [None, None, None, 0.4, None, 0.4]  # the last one is the final removal
    assert evolutions(*run, "evolve.until=0.5") == [0.4, 0.4, 0.4, None, None, 0.4]
    assert evolutions(*run, "evolve.until=0.5", "evolve.final=until") == [0.4, 0.4, 0.4, None, None, None]
    assert evolutions(*run, "evolve.until=0.01") == [0.4, None, None, None, None, 0.4]
    falling = evolutions(*run, "evolve.schedule=linear", "evolve.until=0.7", "evolve.final=until")
    assert falling == [pytest.approx(zeta) if zeta else None for zeta in (0.4, 0.3, 0.2, 0.1, None, None)]
    halfway = evolutions(*run, "evolve.schedule=cosine")[3]
    assert halfway == pytest.approx(0.2)


def test_connections_evolve_every_so_many_steps() -> None:
    config = composed("train.epochs=3", "zeta=0.4", "evolve.every_steps=4", "evolve.schedule=linear")
    found = {(e, s): evolution_due(config, e, s, 6) for e in (1, 2, 3) for s in range(1, 7)}
    due = {at: one for at, one in found.items() if one is not None}
    assert list(due) == [(1, 4), (2, 2), (2, 6), (3, 4), (3, 6)]
    assert [one.refill for one in due.values()] == [True, True, True, True, False]
    assert [one.progress for one in due.values()] == pytest.approx([4 / 18, 8 / 18, 12 / 18, 16 / 18, 1])
    assert [one.zeta for one in due.values()][:4] == pytest.approx([0.4 * (1 - i * 4 / 18) for i in range(4)])
    early = composed("train.epochs=3", "evolve.every_steps=4", "evolve.until=0.67", "evolve.final=until")
    kept = [(e, s) for e in (1, 2, 3) for s in range(1, 7) if evolution_due(early, e, s, 6) is not None]
    assert kept == [(1, 4), (2, 2), (2, 6)]


@pytest.mark.parametrize("model", MODELS)
def test_a_run_that_evolves_within_epochs_resumes_bit_for_bit(model: str, compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS[model], "evolve.every_steps=2", "evolve.schedule=linear")
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    resumed = interrupted(config, ((1, 80), (2, 40), (2, 120), (3, 80)))
    assert science(resumed) == science(whole.path)
    epochs = read_rows(whole.path / "metrics.jsonl")
    once = read_rows(train(compose(*TINY, *MODELS[model], "evolve.schedule=linear")).path / "metrics.jsonl")
    for path in (whole.path, resumed):
        assert [row["evolutions"] for row in read_rows(path / "timing.jsonl")] == [1, 2, 2]
    assert epochs[1]["pruned"] > 1.3 * once[1]["pruned"]  # after its first and its third step
    assert {row["connections"] for row in epochs} == {epochs[0]["connections"]}
    assert (epochs[1]["regrown"], epochs[1]["zeta"]) == (epochs[1]["pruned"], epochs[1]["zeta"])


def test_more_steps_between_evolutions_than_the_run_has_are_told(
    compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    path = train(compose(*TINY, *MODELS["mlp"], "evolve.every_steps=10")).path
    assert "evolve.every_steps=10 is more than the 9 steps of the run: nothing evolves" in capsys.readouterr().err
    assert any("nothing evolves" in doubt for doubt in read_json(path / "summary.json")["doubts"])


def test_the_defaults_are_no_part_of_a_runs_identity() -> None:
    mapping = copy.deepcopy(dict(compose_mapping("dataset=digits", "model=mlp")))
    del mapping["evolve"]
    for key in ("schedule", "warmup", "lr_end", "lr_steps", "lr_factor"):
        del mapping["train"][key]
    assert identity(from_mapping(mapping)) == identity(composed())
    others = ("train.schedule=cosine", "train.warmup=2", "evolve.until=0.5", "evolve.every=2", "evolve.schedule=cosine")
    assert len({identity(composed()), *(identity(composed(word)) for word in others)}) == 6
    fixed = {identity(composed("method=fixprob", word)) for word in ("evolve.until=0.5", "evolve.every=3", "seed=0")}
    assert len(fixed) == 1  # nothing evolves there


REFUSED = {
    "train.lr_end is for train.schedule=cosine, linear and exponential": ("train.lr_end=0.001",),
    "train.lr_steps is for train.schedule=step": ("train.schedule=cosine", "train.lr_steps=[0.5]"),
    "train.lr_factor is for train.schedule=step": ("train.lr_factor=0.5",),
    "train.lr_end: expected at most train.lr=0.01, found 0.1": ("train.schedule=linear", "train.lr_end=0.1"),
    "train.lr_end: expected more than 0 for train.schedule=exponential": (
        "train.schedule=exponential",
        "train.lr_end=0",
    ),
    "train.lr_steps: expected ascending fractions": ("train.schedule=step", "train.lr_steps=[0.7,0.3]"),
    "train.warmup: expected fewer than train.epochs=3, found 3": ("train.warmup=3", "train.epochs=3"),
    "train.schedule=cos is not known: expected": ("train.schedule=cos",),
    "evolve.until: expected greater than 0, found 0": ("evolve.until=0",),
    "evolve.every: expected greater than or equal to 1, found 0": ("evolve.every=0",),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_has_no_meaning_is_refused(sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed("train.lr=0.01", *REFUSED[sentence])
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("typed", "expected"), [("[0.1,0.6]", [0.1, 0.6]), ("0.5", [0.5]), ("1", [1.0]), ("null", None)]
)
def test_the_moments_of_steps_are_read_as_they_are_typed(
    typed: str, expected: list[float] | None, set_train: Command
) -> None:
    shown = set_train("--cfg", "job", "train.schedule=step", f"train.lr_steps={typed}").stdout
    found = composed("train.schedule=step", f"train.lr_steps={typed}").train.lr_steps
    assert (found and list(found)) == expected
    assert '"' not in shown.partition("lr_steps:")[2].partition("lr_factor")[0]
    assert "'" not in shown.partition("lr_steps:")[2].partition("lr_factor")[0]


CHANGING = (
    "train.schedule=cosine",
    "train.warmup=0.5",
    "evolve.schedule=cosine",
    "evolve.until=0.7",
    "evolve.final=until",
)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_resumes_within_an_epoch_bit_for_bit(model: str, compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS[model], *CHANGING)
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    assert science(interrupted(config, ((1, 40), (2, 120), (3, 80)))) == science(whole.path)
    epochs = read_rows(whole.path / "metrics.jsonl")
    assert epochs[0]["lr"] > epochs[1]["lr"] > epochs[2]["lr"] > 0
    assert [("zeta" in row, row["pruned"] > 0, row["regrown"] > 0) for row in epochs] == [
        (True, True, True),
        (True, True, False),
        (False, False, False),
    ]


def test_after_an_early_final_removal_the_rest_trains_what_is_left(compose: Compose) -> None:
    words = (*TINY, *MODELS["mlp"], "evolve.until=0.4", "evolve.final=until")
    path = train(compose(*words)).path
    rows, summary = read_rows(path / "metrics.jsonl"), read_json(path / "summary.json")
    assert rows[0]["pruned"] > rows[0]["regrown"] == 0
    left = rows[0]["connections"] - rows[0]["pruned"]
    assert [row["connections"] for row in rows[1:]] == [left, left]
    assert all("lr" not in row and "zeta" not in row for row in rows)
    assert (summary["connections"], summary["connections_final"]) == (rows[0]["connections"], left)
    assert summary["after_last_removal"]["test"] == summary["last"]  # nothing was removed since it was measured
    assert set_cli.load(path).evaluate()["accuracy"] == summary["last"]


def test_a_run_with_one_rate_has_the_bytes_of_before(compose: Compose) -> None:
    config = compose(*TINY, *MODELS["mlp"])
    assert "evolve" not in read_json(train(config).path / "config.json")
    assert locate(config)[1] == "done"
    assert scheduled_values(config, torch.optim.SGD([torch.zeros(1)], lr=0.1), 0.3) == {}
