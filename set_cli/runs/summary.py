"""summary.json, written last: the figures that set-report reads, and the checksums of what they came from.

Runs are read by later versions of this program than the one that trained them, and by earlier ones. So a key keeps its
name and its meaning: a figure that is computed in another way gets another name. A key can be added: VERSION rises with
it, and readers take it as optional, since older runs lack it (`ADDED` in report/collect.py).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from set_cli.errors import DataError
from set_cli.runs.checkpoint import CURRENT
from set_cli.runs.degrees import FINAL
from set_cli.runs.folder import snapshot_epochs, snapshot_path
from set_cli.runs.inputs import INPUTS
from set_cli.system.files import parse_json, read_json, sha256, write_json
from set_cli.system.plain_files import open_plain

SUMMARY = "summary.json"
VERSION = 1  # of the keys; a summary without a version is older than 1 and has what 1 has, save the version
# What a report reads is small and checked every time; set_cli.load checks what it reads.
METRICS = ("accuracy", "log_probability")  # percent, nats: of both more is better
REPORTED = ("config.json", "params.json", "metrics.jsonl")
LARGEST_ROWS = 2**30  # bytes; a million epochs take about half of it


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; DataError names the line that is not an object."""
    try:
        with open_plain(path, follow=False) as stream:
            content = stream.read(LARGEST_ROWS + 1)
        lines = content.decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: could not be read ({error})") from None
    if len(content) > LARGEST_ROWS:
        raise DataError(f"{path}: expected at most {LARGEST_ROWS:,} bytes")
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = parse_json(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: expected a JSON object")
        rows.append(row)
    return rows


def check_unaltered(path: Path, name: str, checksums: Mapping[str, str], largest: int | None = None) -> None:
    """DataError where a finished run's file is not what the run wrote; no checksums: of a run that is not finished.

    largest  bytes that it may have
    """
    if checksums and sha256(path / name, largest) != checksums.get(name):
        raise DataError(f"{path / name}: altered after the run; its SHA-256 is not the one in {SUMMARY}")


def metric_of(names: Iterable[str]) -> str:
    """The metric among these names of what was measured; ValueError where there is none."""
    names = set(names)
    for metric in METRICS:
        if metric in names:
            return metric
    raise ValueError(f"expected one of {METRICS} among {sorted(names)}")


def write_summary(
    folder: Path, scientific: Mapping[str, Any], settings: Mapping[str, Any], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Write and return the summary of a finished run.

    The best epoch is the best on the validation rows where there are any, else the best on the test rows (the paper's
    habit, and said so); its test accuracy is `best`.
    """
    rows = read_rows(folder / "metrics.jsonl")
    timing = read_rows(folder / "timing.jsonl")
    timed = [row for row in timing if "paused" not in row] or timing
    metric = metric_of(key.removeprefix("test_") for key in rows[-1])
    best_on = "valid" if f"valid_{metric}" in rows[-1] else "test"
    # An RBM's log-probability is not estimated in every epoch.
    best = max((row for row in rows if f"{best_on}_{metric}" in row), key=lambda row: row[f"{best_on}_{metric}"])
    totals = read_json(folder / "params.json")["total"]
    names = [
        *REPORTED,
        INPUTS,
        CURRENT,
        FINAL,
        *(str(snapshot_path(Path(), epoch)) for epoch in snapshot_epochs(folder)),
    ]
    summary = {
        "version": VERSION,
        "dataset": scientific["dataset"]["name"],
        "model": scientific["model"]["name"],
        "method": scientific["method"]["name"],
        "epsilon": scientific.get("epsilon"),
        "zeta": scientific.get("zeta"),
        "seed": scientific["seed"],
        "settings": dict(settings),
        "metric": metric,
        "epochs": len(rows),
        "last": rows[-1][f"test_{metric}"],
        "best": best[f"test_{metric}"],
        "best_epoch": best["epoch"],
        "best_on": best_on,
        # Of an RBM's log-probabilities: the standard error of log Z, which the best of many estimates hides.
        "last_error": rows[-1].get("test_log_z_error"),
        "best_error": best.get("test_log_z_error"),
        # Whether enough chains carry these estimates (None: nothing was estimated).
        "last_chains_agree": rows[-1].get("test_chains_agree"),
        "best_chains_agree": best.get("test_chains_agree"),
        **{key: totals[key] for key in ("connections", "connections_final", "parameters", "dense_parameters")},
        "seconds_per_epoch": statistics.median(row["train_seconds"] + row["evolve_seconds"] for row in timed),
        "peak_memory_mb": max(row["peak_memory_mb"] for row in timing),
        **figures,
        "sha256": {name: sha256(folder / name) for name in names},
    }
    write_json(folder / SUMMARY, summary)
    return summary
