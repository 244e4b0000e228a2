"""How the runs of a sweep ended, or what a command would do: one line each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from set_cli.system.progress import say
from set_cli.system.terminal import Column, render_table, terminal_width

Outcomes = Sequence[Mapping[str, Any]]
FORECAST = {
    "outcome": "would", "overrides": "run with", "connections": "connections", "memory_mb": "memory MB",
    "disk_mb": "disk MB", "rows": "rows", "epochs": "epochs", "time": "time", "why": "result", "run": "run",
}  # fmt: skip


def print_outcomes(outcomes: Outcomes, runs: int | None, stopped: int | None) -> int:
    """Say how many runs ended how, and how each did; 1 where one failed, else 0 (also for no sweep at all).

    runs     of the sweep, where they are known: of some nothing may have been heard
    stopped  the signal that ended the sweep
    """
    if not outcomes:
        return 0
    _print_table(outcomes, {"outcome": "outcome", "overrides": "run with", "why": "result", "run": "run"})
    counts = Counter(outcome["outcome"] for outcome in outcomes)
    silent = max(0, (runs or 0) - len(outcomes))
    counts["not started"] += silent
    words = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    say(f"sweep of {len(outcomes) + silent}: {words}")
    if stopped is not None:
        say("the same command resumes it")
    if any(word in counts for word in ("failed before", "diverged before")):
        say("the same command with retry_failed=true tries again what failed before")
    return 1 if any(outcome["exit_code"] for outcome in outcomes) or (silent and stopped is None) else 0


def print_forecasts(forecasts: Outcomes) -> int:
    """Say what a command would do, and what that would take; the first exit code that is not 0, of a single run."""
    if not forecasts:
        return 0
    _print_table([{**forecast, "time": _time_of(forecast)} for forecast in forecasts], FORECAST)
    counts = Counter(forecast["outcome"] for forecast in forecasts)
    disk = sum(forecast.get("disk_mb", 0) for forecast in forecasts if forecast["outcome"] in ("train", "resume"))
    words = ", ".join(f"{n} {word}" for word, n in counts.items())
    say(
        f"{len(forecasts)} in all: {words}; {_time_in_all(forecasts)}up to {disk:,.0f} MB on the disk; nothing was done"
    )
    codes = {forecast["exit_code"] for forecast in forecasts} - {0}
    return 0 if not codes else codes.pop() if len(forecasts) == 1 else 1


def _time_of(forecast: Mapping[str, Any]) -> str | None:
    if "seconds_from" not in forecast:
        return None
    seconds = forecast["seconds"]
    return "unknown" if seconds is None else duration_text(seconds)


def _time_in_all(forecasts: Outcomes) -> str:
    """'about 2 h 10 min one after the other (20 timed steps); ', and why the time of some is not known."""
    timed = [forecast for forecast in forecasts if "seconds_from" in forecast]
    seconds = [forecast["seconds"] for forecast in timed if forecast["seconds"] is not None]
    known = sorted({forecast["seconds_from"] for forecast in timed if forecast["seconds"] is not None})
    unknown = sorted({forecast["seconds_from"].removeprefix("unknown: ") for forecast in timed} - set(known))
    text = ""
    if seconds:
        each = " one after the other" if len(seconds) > 1 else ""
        text = f"about {duration_text(sum(seconds))}{each} (from {', '.join(known)}); "
    if unknown:
        text += f"time unknown of {len(timed) - len(seconds)}: {', '.join(unknown)}; "
    return text


def duration_text(seconds: float) -> str:
    """'40 s', '3 min', '2 h 05 min', '3 d 4 h': no more digits than a forecast has."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def _print_table(rows: Outcomes, titles: Mapping[str, str]) -> None:
    """A column for each key that has an entry; on a terminal what all rows share is said above them."""
    place = _common_folder(rows)
    columns: list[Column[Mapping[str, Any]]] = [Column("", lambda row: str(row["number"]), True, 0)]
    for key, title in titles.items():
        columns.append(_column(key, title, rows, place))
    width = terminal_width()
    if width is not None and place:
        say(f"runs in {place}")
    say(render_table(columns, rows, width).rstrip("\n"))


RANKS = {"outcome": 0, "overrides": 0, "why": 1}  # the others leave a narrow terminal in the order of their places


def _column(key: str, title: str, rows: Outcomes, place: str) -> Column[Mapping[str, Any]]:
    def cell(row: Mapping[str, Any]) -> str:
        text = _cell(row, key)
        return text.removeprefix(f"{place}/") if key == "run" and terminal_width() is not None else text

    right = any(isinstance(row.get(key), int | float) for row in rows)
    column = Column(title, cell, right, RANKS.get(key))
    return column._replace(shared="all with {}".format, parts=True) if key == "overrides" else column


def _common_folder(rows: Outcomes) -> str:
    """The folder that all runs are in; nothing where they are in several."""
    folders = {os.path.dirname(str(row["run"])) for row in rows if row.get("run")}
    return folders.pop() if len(folders) == 1 else ""


def _cell(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None:
        return ""
    if column == "why":  # which run it was stands beside it
        return str(value).removeprefix(f"{row.get('run')}: ")
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)
