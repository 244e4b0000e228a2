"""Many runs as a DataFrame: one row a run, finished or not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun, LeftOut, find_run_folders, read_run
from set_cli.report.rows import settings_text
from set_cli.system.files import read_json

TYPES = {
    "dataset": "object",
    "model": "object",
    "method": "object",
    "epsilon": "float64",
    "zeta": "float64",
    "seed": "Int64",
    "settings": "object",
    "status": "object",
    "epochs": "Int64",
    "metric": "object",
    "last": "float64",
    "best": "float64",
    "best_epoch": "Int64",
    "best_on": "object",
    "tested_on": "object",
    "after_last_removal": "float64",
    "connections": "Int64",
    "connections_final": "Int64",
    "parameters": "Int64",
    "dense_parameters": "Int64",
    "seconds_per_epoch": "float64",
    "peak_memory_mb": "float64",
    "seconds_per_evolution": "float64",
    "evolution_memory_mb": "float64",
    "reason": "object",
    "path": "object",
}


def list_runs(folder: str | os.PathLike[str]) -> pd.DataFrame:
    """One row for every run in or below `folder`, as `set_cli.runs` says."""
    path = Path(folder)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; set-train makes runs/")
    paths, closed = find_run_folders([path])
    rows = [_row(run) for run in [*map(read_run, paths), *closed]]
    return pd.DataFrame(rows, columns=list(TYPES)).astype(TYPES)


def _row(run: FinishedRun | LeftOut) -> dict[str, Any]:
    if isinstance(run, FinishedRun):
        summary = run.summary
        left = summary.get("after_last_removal")
        row = {key: summary.get(key) for key in TYPES} | {
            "settings": settings_text(summary["settings"]),
            "status": "done",
            "after_last_removal": left.get("test") if isinstance(left, Mapping) else None,
        }
        return row | {"reason": None, "path": str(run.path)}
    return _configured(run.path) | {"status": run.why, "reason": run.detail or None, "path": str(run.path)}


def _configured(path: Path) -> dict[str, Any]:
    """What the configuration of a run without figures says of it."""
    with suppress(DataError, LookupError, TypeError, ValueError, AttributeError):
        config = read_json(path / "config.json")
        return {
            **{key: str(config[key]["name"]) for key in ("dataset", "model", "method")},
            **{key: float(config[key]) if key in config else None for key in ("epsilon", "zeta")},
            "seed": int(config["seed"]),
        }
    return {}


def runs_inside(path: Path) -> str:
    """What is in a folder that is no run's, in words."""
    paths = find_run_folders([path])[0] if path.is_dir() else []
    if not paths:
        return "found none"
    runs = f"{len(paths)} runs" if len(paths) > 1 else "1 run"
    return f"but this one holds {runs}, such as {paths[0]}; set_cli.runs({str(path)!r}) lists them"
