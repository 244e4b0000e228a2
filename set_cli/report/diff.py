"""Two runs side by side: what differs in configuration and environment, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from set_cli.config import flatten
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun, LeftOut, read_run
from set_cli.report.text import render_text
from set_cli.report.topology import PAIRS, pair_topologies
from set_cli.runs.folder import is_run_folder
from set_cli.storage import read_json
from set_cli.terminal import Column, printable

OUTCOME = (
    "epochs", "last", "best", "best_epoch", "best_on", "connections", "connections_final", "parameters",
    "dense_parameters", "seconds_per_epoch", "peak_memory_mb",
)  # fmt: skip
ENVIRONMENT = ("set_cli", "git", "python", "packages", "cpu", "threads", "device", "checksums", "layers", "data")

Line = tuple[str, Any, Any]


def compare_two(first: Path, second: Path, width: int | None = None) -> str:
    """Tables of what differs, and of the outcome whether it differs or not; the last topologies' overlap.

    DataError where a folder holds no run, or one that cannot be read. A run that did not end is compared as far as it
    came.
    """
    parts = [f"first:  {_standing(first)}\nsecond: {_standing(second)}\n"]
    config = [flatten(_object(path / "config.json")) for path in (first, second)]
    parts.append(_part("Configuration", _changes(*config), width, "the same"))
    environment = [_environment(path) for path in (first, second)]
    parts.append(_part("Environment", _changes(*environment), width, "the same"))
    runs = [read_run(path) for path in (first, second)]
    outcome = [run.summary if isinstance(run, FinishedRun) else {} for run in runs]
    lines = [
        (key, one.get(key), other.get(key)) for one, other in [outcome] for key in OUTCOME if key in one or key in other
    ]
    parts.append(_part("Outcome", lines, width, "neither run ended"))
    if isinstance(runs[0], FinishedRun) and isinstance(runs[1], FinishedRun):
        with suppress(DataError, ValueError):  # a dense run, or layers of another shape: nothing to compare
            text = render_text(PAIRS[2:], pair_topologies(runs[0], runs[1]), "table", width)
            parts.append(f"Topology after the last removal\n{text}" if text else "")
    return "\n".join(part for part in parts if part)


def _standing(path: Path) -> str:
    if not is_run_folder([file.name for file in path.iterdir()]):
        raise DataError(f"{path}: expected a run folder, found none")
    run = read_run(path)
    detail = f" ({run.why}{', ' if run.detail else ''}{run.detail})" if isinstance(run, LeftOut) else ""
    return printable(f"{path}{detail}")


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected an object")
    return found


def _environment(path: Path) -> dict[str, Any]:
    """Of the last start, by the names one reads in run.json."""
    starts = read_json(path / "run.json") if (path / "run.json").exists() else []
    last = starts[-1] if isinstance(starts, list) and starts else {}
    if not isinstance(last, dict):
        raise DataError(f"{path / 'run.json'}: expected one entry per start")
    return flatten({key: last[key] for key in ENVIRONMENT if key in last})


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Line]:
    keys = [*first, *(key for key in second if key not in first)]
    return [(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]


LINES: list[Column[Line]] = [
    Column("", lambda line: line[0], False),
    Column("first", lambda line: _shown(line[1]), False),
    Column("second", lambda line: _shown(line[2]), False),
    Column("difference", lambda line: _difference(line[1], line[2]), True),
]


def _part(title: str, lines: list[Line], width: int | None, nothing: str) -> str:
    return f"{title}\n{render_text(LINES, lines, 'table', width)}" if lines else f"{title}: {nothing}\n"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def _difference(first: object, second: object) -> str:
    numbers = (int, float)
    if not isinstance(first, numbers) or not isinstance(second, numbers) or isinstance(first, bool):
        return ""
    try:
        return f"{second - first:+.6g}" if second != first else "0"
    except OverflowError:  # of numbers that no figure of ours is
        return ""
