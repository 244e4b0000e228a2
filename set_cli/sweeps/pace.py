"""How far a sweep has come, in one line before each of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from set_cli.sweeps.table import duration_text

LOST = "lost"  # the outcome of a run that is under way; it stays if the run's process ends and leaves no result


def pace_line(number: int, runs: int | None, outcomes: Sequence[Mapping[str, Any]], at_once: int | None) -> str:
    """'run 3 of 9, 1 failed, about 4 min left'.

    number    of the run that is next, from 0
    runs      of the sweep, where they are known
    outcomes  noted so far; 'seconds' of those that were trained
    at_once   runs that are trained at the same time; None where nobody knows
    """
    ended = [outcome for outcome in outcomes if outcome["outcome"] != LOST]
    failed = sum(1 for outcome in ended if outcome["exit_code"])
    parts = [f"run {number + 1}" + (f" of {runs}" if runs else "")]
    parts += [f"{failed} failed"] if failed else []
    seconds = [outcome["seconds"] for outcome in ended if "seconds" in outcome]
    if runs and seconds and at_once:
        parts.append(f"about {duration_text(mean(seconds) * max(1, runs - len(ended)) / at_once)} left")
    return ", ".join(parts)
