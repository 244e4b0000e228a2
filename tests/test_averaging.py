"""The moving average of the weights: what it is, that it follows the connections, and where it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import set_cli
from set_cli.config import from_mapping, identity
from set_cli.errors import ConfigError, DataError
from set_cli.report.collect import read_run
from set_cli.report.rows import compare
from set_cli.report.tables import render
from set_cli.runs.summary import read_rows
from set_cli.sparse import SparseLinear
from set_cli.system.files import read_json
from set_cli.training import supervised
from set_cli.training.averaging import AVERAGE, Averaging, averaged, share_of_step, start_averages
from set_cli.training.pairs import check_pair
from tests.builders import MODELS, TINY, interrupted, science, train, train_in
from tests.conftest import Compose, compose_mapping


def test_the_average_is_the_sum_of_the_weights_so_far_each_with_its_share() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    model = torch.nn.ParameterList([weight])
    optimizer = torch.optim.SGD([weight], lr=1.0)
    averaging, expected = Averaging(model, optimizer, 0.75), None
    for step, gradient in enumerate([3.0, -2.0, 0.5, 1.5] * 20):
        weight.grad = torch.tensor([gradient])
        averaging.begin_step(step)
        optimizer.step()
        averaging.update()
        decay = min(0.75, (1 + step) / (10 + step))
        expected = weight.item() if expected is None else decay * expected + (1 - decay) * weight.item()
        assert optimizer.state[weight][AVERAGE].item() == pytest.approx(expected, rel=1e-5)
    assert share_of_step(0.75, 10**6) == 0.25


def cells(matrix: Any) -> list[tuple[int, int]]:
    return list(zip(matrix.row.tolist(), matrix.col.tolist(), strict=True))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_the_average_follows_the_connections(optimizer: Any) -> None:
    layer = SparseLinear(30, 20, epsilon=4, seed=0)
    descent = optimizer(layer.parameters(), lr=0.01)
    averaging = Averaging(layer, descent, 0.9)
    for step in range(3):
        layer(torch.randn(5, 30)).square().sum().backward()
        averaging.begin_step(step)
        descent.step()
        averaging.update()
        layer.zero_grad()
    before = layer.to_scipy().tocoo()
    values = dict(zip(cells(before), descent.state[layer.weight][AVERAGE].tolist(), strict=True))
    change = layer.evolve(0.4, optimizer=descent, seed=1, regrow_init="random")
    assert change is not None
    start_averages(descent, layer.weight, change.source)
    after, average = layer.to_scipy().tocoo(), descent.state[layer.weight][AVERAGE]
    assert change.regrown
    for cell, weight, value, source in zip(
        cells(after), layer.weight.tolist(), average.tolist(), change.source.tolist(), strict=True
    ):
        assert value == (weight if source < 0 else values[cell])


def test_steps_are_counted_from_the_start_of_the_run(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Watched(Averaging):
        def begin_step(self, step: int) -> None:
            seen.append(step)
            super().begin_step(step)

    monkeypatch.setattr(supervised, "Averaging", Watched)
    train(compose(*TINY, *MODELS["mlp"], "train.ema=0.9"))
    assert seen == list(range(9))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_run_resumes_within_an_epoch_bit_for_bit(model: str, compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS[model], "train.ema=0.9")
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    assert science(interrupted(config, ((1, 40), (2, 120), (3, 80)))) == science(whole.path)
    plain = train(compose(*TINY, *MODELS[model]))
    assert [row["test_loss"] for row in read_rows(plain.path / "metrics.jsonl")] == [
        row["test_loss"] for row in read_rows(whole.path / "metrics.jsonl")
    ]  # averaging changes nothing that is trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_in(tmp_path_factory.mktemp("averaged"), *TINY, *MODELS["mlp"], "train.ema=0.9", "evolve.until=0.5",
                    "evolve.final=until", "data.valid=30")  # fmt: skip


def test_the_average_is_in_the_rows_the_summary_and_the_table(run: Path) -> None:
    row, summary = read_rows(run / "metrics.jsonl")[-1], read_json(run / "summary.json")
    assert summary["averaged"] == row["test_ema_accuracy"]
    assert {"test_ema_loss", "valid_ema_accuracy"} <= row.keys()
    assert row["test_ema_loss"] != row["test_loss"]
    comparison = compare([read_run(run)])
    assert comparison.configurations[0].figures["averaged_mean"] == summary["averaged"]
    shown = render(comparison, "markdown", names=["last", "averaged"])
    assert f"{summary['last']:.2f} |" in shown
    assert f"{summary['averaged']:.2f} |" in shown
    assert render(comparison, "table", sort="-averaged")
    assert "averaged" not in render(comparison, "json")
    params = read_json(run / "params.json")["total"]["bytes"]
    assert params["optimizer"] == 2 * params["values"]


def test_the_averaged_network_is_loaded_and_evaluated_to_the_last_digit(run: Path) -> None:
    row = read_rows(run / "metrics.jsonl")[-1]
    assert set_cli.load(run).evaluate()["loss"] == row["test_loss"]
    assert set_cli.load(run, averaged=True).evaluate()["loss"] == row["test_ema_loss"]


def test_a_run_without_averages_says_so(compose: Compose) -> None:
    path = train(compose(*TINY, *MODELS["mlp"])).path
    assert "averaged" not in read_json(path / "summary.json")
    assert compare([read_run(path)]).configurations[0].figures["averaged_mean"] is None
    with pytest.raises(DataError, match=r"expected averages of the weights, which a run with train\.ema keeps"):
        set_cli.load(path, averaged=True)


def _fail_while_averaged(layer: SparseLinear, optimizer: torch.optim.Optimizer) -> None:
    with averaged(layer, optimizer):
        assert bool((layer.weight == 2).all())
        raise RuntimeError("interrupted")


def test_the_weights_are_put_back_bit_for_bit() -> None:
    layer = SparseLinear(30, 20, epsilon=4, seed=0)
    descent = torch.optim.SGD(layer.parameters(), lr=0.1)
    own = layer.weight.detach().clone()
    descent.state[layer.weight][AVERAGE] = torch.full_like(own, 2.0)
    with pytest.raises(RuntimeError, match="interrupted"):
        _fail_while_averaged(layer, descent)
    assert np.array_equal(layer.weight.detach().numpy(), own.numpy())


def test_what_has_no_meaning_is_refused(compose: Compose) -> None:
    for value in ("0", "1", "-0.5"):
        with pytest.raises(ConfigError, match=r"train\.ema: expected"):
            from_mapping(compose_mapping(f"train.ema={value}"))
    with pytest.raises(ConfigError, match=r"train\.ema is for model=mlp and cnn"):
        check_pair(compose(*MODELS["rbm"], "train.ema=0.9"))
    assert identity(compose("train.ema=0.9")) != identity(compose())
