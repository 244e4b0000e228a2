"""Learning that does not explode, and what is said where a network learns nothing."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from set_cli.data.catalog import CATALOG
from set_cli.data.prepare import load_data
from set_cli.errors import DivergedError
from set_cli.runs.folder import locate, tries_again
from set_cli.system.files import read_json, write_json
from set_cli.training.divergence import Divergence
from set_cli.training.doubts import doubts_at_end, independent_log_probability
from set_cli.training.optimizer import build_optimizer, clip_gradients
from tests.builders import SMALL, train
from tests.conftest import Command, Compose

TINY = (*SMALL, "train.epochs=1")


def notes(folder: Path) -> list[str]:
    return [
        line for line in (folder / "train.log").read_text().splitlines() if line.startswith(("note: ", "warning: "))
    ]


@pytest.mark.parametrize("largest", [1e-3, 0.5, 1e6, None])
def test_gradients_are_scaled_down_to_the_norm_asked_for_all_together(compose: Compose, largest: float | None) -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    optimizer = build_optimizer(model, compose().train)
    model(torch.ones(7, 5)).square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    before = torch.cat([g.flatten() for g in gradients]).clone()
    clip_gradients(optimizer, largest)
    after = torch.cat([g.flatten() for g in gradients])
    norm = float(before.norm())
    expected = before if largest is None or norm <= largest else before * (largest / norm)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("overrides", [(), ("model=rbm",), ("method=dense",)])
def test_clipping_changes_a_run_and_a_wide_limit_does_not(compose: Compose, overrides: tuple[str, ...]) -> None:
    def loss(*more: str) -> object:
        path = train(compose(*overrides, "data.train_limit=100", "train.epochs=2", "data.test_limit=50", *more)).path
        return (path / "metrics.jsonl").read_bytes()

    free = loss()
    assert loss("train.clip=1000000") == free
    assert loss("train.clip=0.01") != free


@pytest.mark.parametrize(("model", "chance"), [("mlp", np.log(10)), ("rbm", 64 * np.log(2))])
def test_a_training_loss_beyond_any_sense_is_divergence(
    compose: Compose, tmp_path: Path, model: str, chance: float
) -> None:
    watch = Divergence(compose(f"model={model}"), CATALOG["digits"], nn.Linear(2, 2), tmp_path)
    watch.check(1, 99 * chance)
    with pytest.raises(DivergedError, match=r"the training loss is .* in epoch 3; try .*train\.lr than 0\.01"):
        watch.check(3, 101 * chance)


def test_a_large_test_loss_alone_is_no_divergence(compose: Compose, tmp_path: Path) -> None:
    watch = Divergence(compose(), CATALOG["digits"], nn.Linear(2, 2), tmp_path)
    watch.check(1, 0.1, {"test": {"loss": 1e9, "accuracy": 90.0}})


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ("epsilon=0.0001", r"layer1 \(64 x \d+\) has no connection at epsilon=0.0001: nothing passes through it"),
        ("epsilon=0.2", r"% of its neurons have none; take a larger one"),
        ("epsilon=1000", r"nothing in this network is sparse, .* take an epsilon below \d+"),
        (
            "train.batch_size=5000",
            r"train.batch_size=5000 is larger than the 1,438 training rows: every epoch is one step",
        ),
        ("train.weight_decay=1", r"no better than .* train.weight_decay=1 may leave nothing of the weights"),
        ("train.l1=1", r"no better than .* train.l1=1 may leave nothing of the weights"),
    ],
)
def test_what_makes_a_run_doubtful_is_said_logged_and_kept(
    compose: Compose, capsys: pytest.CaptureFixture[str], overrides: str, sentence: str
) -> None:
    outcome = train(compose(*TINY, overrides))
    said = capsys.readouterr().err
    line = next(line for line in notes(outcome.path) if re.search(sentence, line))
    assert line in said
    assert line.removeprefix("warning: ") in outcome.summary["doubts"]


def test_a_layer_that_is_full_beside_sparse_ones_is_named_as_that(compose: Compose) -> None:
    path = train(compose(*TINY, "model.hidden=[4,300,300]", "epsilon=5")).path
    (line,) = [line for line in notes(path) if "too small" in line]
    assert line.startswith(
        "note: layer1 (64 x 4) and layer2 (4 x 300) are too small to be sparse at epsilon=5: trained "
    )


@pytest.mark.parametrize("overrides", ["method=dense", "method=fixprob", "method=set"])
def test_a_run_that_learns_is_not_doubted(compose: Compose, overrides: str) -> None:
    outcome = train(compose("train.epochs=3", overrides))
    assert (outcome.summary["doubts"], notes(outcome.path)) == ([], [])


def test_an_rbm_is_compared_with_independent_units(compose: Compose) -> None:
    config = compose("model=rbm")
    data = load_data(config.dataset, config.data, labels=False)
    p, x = (data.train.x.mean(axis=0) / 16).clip(1e-4, 1 - 1e-4), data.test.x / 16
    expected = (x * np.log(p) + (1 - x) * np.log(1 - p)).sum(axis=1).mean()
    assert independent_log_probability(data) == pytest.approx(expected, abs=0.2)
    found = doubts_at_end(config, data, {"epoch": 1, "test_log_probability": float(expected) - 1})
    assert "no better than that of independent units" in found[0]
    assert doubts_at_end(config, data, {"epoch": 1, "test_log_probability": float(expected) + 1}) == []


def test_inputs_are_cut_off_at_data_clip(compose: Compose) -> None:
    from set_cli.data.inputs import Inputs

    config = compose("data.scaling=standardize", "data.clip=2")
    data = load_data(config.dataset, config.data)
    x, _ = Inputs(data.train, data, torch.device("cpu")).batch(torch.arange(200))
    free, _ = Inputs(data.train, replace(data, scaling=replace(data.scaling, clip=None)), torch.device("cpu")).batch(
        torch.arange(200)
    )
    assert float(free.abs().max()) > 5
    assert torch.equal(x, free.clamp(-2, 2))


def test_a_sweep_tries_a_diverged_run_again_when_the_code_has_changed(compose: Compose) -> None:
    config = compose(*SMALL, "train.lr=100000")
    with np.errstate(all="ignore"), pytest.raises(DivergedError):
        train(config)
    path, status = locate(config)
    assert not tries_again(path, status)
    starts = read_json(path / "run.json")
    write_json(path / "run.json", [*starts[:-1], starts[-1] | {"set_cli": "0.0.1"}])
    assert tries_again(path, status)


def test_a_report_names_a_doubtful_run(set_train: Command, set_report: Command) -> None:
    trained = set_train("train.epochs=1", "train.batch_size=5000", "backend.threads=1", "progress=none")
    assert trained.returncode == 0, trained.stderr
    found = set_report()
    assert "counted, but doubtful:" in found.stderr
    assert "train.batch_size=5000 is larger than the 1,438 training rows" in found.stderr
    assert len(json.loads(set_report("--format", "json").stdout)) == 1


@pytest.mark.parametrize("code", [0, 1, 130])
def test_make_train_prints_the_comparison_and_ends_with_the_sweeps_code(tmp_path: Path, code: int) -> None:
    """Whatever the runs did: one that diverged must not hide the others."""
    bin_folder = tmp_path / "venv" / "bin"
    bin_folder.mkdir(parents=True)
    for name, body in {"set-train": f"exit {code}", "set-report": "echo the table"}.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (bin_folder / name).chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()
    root = Path(__file__).resolve().parent.parent
    command = ["make", "-s", "-C", str(root), "train", f"VENV={tmp_path / 'venv'}"]
    made = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "the table" in made.stdout
    assert (made.returncode != 0) == (code != 0)
    assert ("Error " + str(code) in made.stderr) == (code != 0)
