"""summary.json: which epoch counts as the best, and what the figures are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from set_cli.runs.summary import write_summary
from tests.builders import TINY, train_in

# Best on the validation rows: epoch 2. Best on the test rows: epoch 3. Last: epoch 4.
ACCURACIES = [(50.0, 40.0), (90.0, 61.0), (80.0, 77.0), (70.0, 58.0)]  # of validation and test rows
SCIENTIFIC = {
    "dataset": {"name": "digits"},
    "model": {"name": "mlp"},
    "method": {"name": "set"},
    "epsilon": 5.0,
    "zeta": 0.3,
    "seed": 7,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_in(tmp_path_factory.mktemp("summary"), *TINY, "model=mlp", "model.hidden=[12,10]")


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def summary_of(
    folder: Path, *, with_valid: bool = True, cost: Sequence[dict[str, Any]] = ({}, {}, {}, {})
) -> dict[str, Any]:
    metrics = [
        {"epoch": i, "test_accuracy": test} | ({"valid_accuracy": valid} if with_valid else {})
        for i, (valid, test) in enumerate(ACCURACIES, start=1)
    ]
    write_rows(folder / "metrics.jsonl", metrics)
    paused = {"paused": True}
    measured = [(1.0, 300.0, {}), (2.0, 900.0, {}), (60.0, 400.0, paused), (4.0, 500.0, {})]
    timing = [
        {"epoch": i, "train_seconds": seconds, "evaluate_seconds": 9.0, "evolve_seconds": 0.5, "peak_memory_mb": memory}
        | marked
        | cost[i - 1]
        for i, (seconds, memory, marked) in enumerate(measured, start=1)
    ]
    write_rows(folder / "timing.jsonl", timing)
    return write_summary(folder, SCIENTIFIC, {}, {}, {})


def test_best_is_the_test_accuracy_of_the_epoch_that_is_best_on_validation_rows(folder: Path) -> None:
    summary = summary_of(folder)
    assert (summary["best_on"], summary["best_epoch"], summary["best"], summary["last"]) == ("valid", 2, 61.0, 58.0)


def test_without_validation_rows_best_is_the_largest_test_accuracy(folder: Path) -> None:
    summary = summary_of(folder, with_valid=False)
    assert (summary["best_on"], summary["best_epoch"], summary["best"], summary["last"]) == ("test", 3, 77.0, 58.0)


def test_time_is_the_median_of_training_and_evolution_in_epochs_that_were_not_paused(folder: Path) -> None:
    assert summary_of(folder)["seconds_per_epoch"] == 2.5


def test_the_cost_of_an_evolution_is_the_median_time_and_the_largest_memory(folder: Path) -> None:
    summary = summary_of(folder)
    assert "seconds_per_evolution" not in summary  # no epoch evolved
    assert "evolution_memory_mb" not in summary
    cost = [{}, {"evolutions": 1, "evolve_memory_mb": 8.0}, {"evolutions": 1, "evolve_memory_mb": 90.0},
            {"evolutions": 5, "evolve_memory_mb": 20.0}]  # fmt: skip
    summary = summary_of(folder, cost=cost)
    assert summary["seconds_per_evolution"] == pytest.approx((0.5 + 0.5 / 5) / 2)  # the third epoch was paused
    assert summary["evolution_memory_mb"] == 90.0
    summary = summary_of(folder, cost=[{}, {}, {"evolutions": 1}, {}])  # a system that does not say
    assert summary["seconds_per_evolution"] == 0.5
    assert "evolution_memory_mb" not in summary


def test_memory_is_the_largest_of_all_epochs(folder: Path) -> None:
    assert summary_of(folder)["peak_memory_mb"] == 900.0
