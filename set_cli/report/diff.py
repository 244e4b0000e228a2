"""Two runs side by side: what differs in configuration and environment, and what came out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from set_cli.config import flatten
from set_cli.errors import DataError
from set_cli.report.collect import FinishedRun, LeftOut, read_run
from set_cli.report.text import render_text
from set_cli.report.topology import PAIR_COLUMNS, pair_topologies
from set_cli.runs.folder import is_run_folder
from set_cli.system.files import read_json
from set_cli.system.terminal import Column, printable

PERCENT, POINTS = " %", " points"  # a difference of percentages
Said = Callable[[Any], str]


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _shown(value)


def _in(unit: str, digits: int = 2) -> Said:
    """A figure with its unit, as many digits as the table has."""
    return lambda value: f"{value:,.{digits}f}{unit}" if _is_number(value) else _shown(value)


# By the names and in the units of the table: of a run's metric those are its own.
METRICS = {"accuracy": ("accuracy", _in(PERCENT)), "log_probability": ("log-probability", _in(" nats"))}
OUTCOME: dict[str, tuple[str, Said]] = {
    "epochs": ("epochs", _count),
    "last": ("{}, last epoch", _in("")),
    "best": ("{}, best epoch", _in("")),
    "best_epoch": ("best epoch", _count),
    "best_on": ("best on", str),
    "connections": ("connections", _count),
    "connections_final": ("final connections", _count),
    "parameters": ("parameters", _count),
    "dense_parameters": ("parameters if dense", _count),
    "seconds_per_epoch": ("time per epoch", _in(" s", 3)),
    "peak_memory_mb": ("peak memory", _in(" MB", 0)),
    "seconds_per_evolution": ("time per evolution", _in(" s", 3)),
    "evolution_memory_mb": ("evolution's memory", _in(" MB", 0)),
}
ENVIRONMENT = ("set_cli", "git", "python", "packages", "cpu", "threads", "device", "checksums", "layers", "data")

Line = tuple[str, str, str, str]  # a name, both values, their difference


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
    lines = _outcome(outcome[0], outcome[1])
    parts.append(_part("Outcome", lines, width, "neither run ended"))
    if isinstance(runs[0], FinishedRun) and isinstance(runs[1], FinishedRun):
        with suppress(DataError, ValueError):  # a dense run, or layers of another shape: nothing to compare
            text = render_text(PAIR_COLUMNS[2:], pair_topologies(runs[0], runs[1]), "table", width)
            parts.append(f"Topology after the last removal\n{text}" if text else "")
    return "\n".join(part for part in parts if part)


def _outcome(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Line]:
    """The figures of both runs in words and units; what only one of them has as well."""
    metrics = [run["metric"] for run in (first, second) if "metric" in run]
    name, of_metric = METRICS.get(metrics[0] if metrics else "", ("metric", _in("")))
    if len(set(metrics)) > 1:  # of other units: each figure would need its own
        name, of_metric = "metric", _in("")
    lines = []
    for key, (title, said) in OUTCOME.items():
        if key in first or key in second:
            said = of_metric if "{}" in title else said
            lines.append(_line(title.format(name), first.get(key), second.get(key), said))
    return lines


def _line(name: str, first: object, second: object, said: Said) -> Line:
    one, other = (said(value) if value is not None else "-" for value in (first, second))
    if not _is_number(first) or not _is_number(second):
        return name, one, other, ""
    try:
        difference = second - first  # type: ignore[operator]
        sign = "+" if difference > 0 else "-" if difference < 0 else ""
        return name, one, other, f"{sign}{said(abs(difference)).replace(PERCENT, POINTS)}"
    except OverflowError:  # of numbers that no figure of ours is
        return name, one, other, ""


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
    """Environment of the last start, by the names that run.json has."""
    starts = read_json(path / "run.json") if (path / "run.json").exists() else []
    last = starts[-1] if isinstance(starts, list) and starts else {}
    if not isinstance(last, dict):
        raise DataError(f"{path / 'run.json'}: expected one entry per start")
    return flatten({key: last[key] for key in ENVIRONMENT if key in last})


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Line]:
    keys = [*first, *(key for key in second if key not in first)]
    different = [key for key in keys if first.get(key) != second.get(key)]
    return [_line(key, first.get(key), second.get(key), _shown) for key in different]


DIFF_COLUMNS: list[Column[Line]] = [
    Column("", lambda line: line[0], False, 0),
    Column("first", lambda line: line[1], False, 0),
    Column("second", lambda line: line[2], False, 0),
    Column("difference", lambda line: line[3], True),
]


def _part(title: str, lines: list[Line], width: int | None, nothing: str) -> str:
    return f"{title}\n{render_text(DIFF_COLUMNS, lines, 'table', width)}" if lines else f"{title}: {nothing}\n"


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
