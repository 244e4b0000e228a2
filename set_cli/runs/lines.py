"""The lines that a run prints and logs: one an epoch, and three when it has finished."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from set_cli.config import model_facts
from set_cli.system.live import measured_text


def epoch_line(row: Mapping[str, Any], epochs: int, seconds: float) -> str:
    """One epoch in words and units, aligned with the lines before and after it."""
    width = len(str(epochs))
    return (
        f"epoch {row['epoch']:{width}}/{epochs}  loss {row['train_loss']:.4f}{measured_text(row)}  "
        f"{row['connections']:,} connections  {seconds:.2f} s"
    )


def start_line(path: Path, epoch: int, rows: int) -> str:
    """Which run it is, and from where it resumes: after so many epochs, and rows of the next one."""
    if rows:
        return f"{path}, resuming after {rows:,} rows of epoch {epoch + 1}"
    return str(path) + (f", resuming after epoch {epoch}" if epoch else "")


METRICS = {"accuracy": ("accuracy", "%"), "log_probability": ("log-probability", "nats")}


def result_lines(summary: Mapping[str, Any], path: Path, runs_dir: str) -> list[str]:
    """What came out of a finished run, what it took, and what to do next: three short lines.

    Before them, why it ended before its last epoch.
    """
    name, unit = METRICS[summary["metric"]]
    last, best = (
        f"{summary[key]:.2f}"
        + (f" ± {summary[f'{key}_error']:.2f}" if summary[f"{key}_error"] is not None else "")
        + f" {unit}"
        + (" (chains disagree)" if summary[f"{key}_chains_agree"] is False else "")
        for key in ("last", "best")
    )
    rows = "" if summary["tested_on"] == "test" else "; tested on held-out training rows"
    final, left = summary["connections_final"], ""
    if final != summary["connections"]:  # the network that is kept is the one after the last removal
        kept = summary["after_last_removal"].get("test")
        left = f", {final:,} after the last removal" + (f" (test {kept:.2f} {unit})" if kept is not None else "")
    ended = [summary["ended"]] if summary.get("ended") else []
    return [
        *ended,
        f"done: {summary['method']} on {summary['dataset']}, test {name} {last}, best on {summary['best_on']} {best} "
        f"(epoch {summary['best_epoch']}){rows}",
        f"{summary['connections']:,} connections{left}; {summary['seconds_per_epoch']:.2f} s/epoch",
        next_line(summary["model"], path, runs_dir),
    ]


def next_line(model: str, path: Path, runs_dir: str) -> str:
    """What to do with a run that is done; the last word but one names its folder."""
    report = shlex.join(["set-report", *([] if Path(runs_dir) == Path("runs") else [runs_dir])])
    if not model_facts(model).needs_labels:  # which has no classes to predict
        return f'compare: {report}; load: set_cli.load("{path}")'
    return f"compare: {report}; predict: set-predict {shlex.quote(str(path))} FILE"
