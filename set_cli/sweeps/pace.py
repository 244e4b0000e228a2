"""How far a sweep has come, in one line before each of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

LOST = "lost"  # what is noted of a run that is under way: so it stays where its process ends without a word


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
        parts.append(f"about {_duration(mean(seconds) * max(1, runs - len(ended)) / at_once)} left")
    return ", ".join(parts)


def _duration(seconds: float) -> str:
    """In the unit that one would say it in."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    if seconds < 3600:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"
