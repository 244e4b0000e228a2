"""The comparison on a terminal, printed again every few seconds, with the runs in progress."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from set_cli.report.collect import FinishedRun, LeftOut, find_run_folders, read_run
from set_cli.report.rows import compare
from set_cli.report.tables import TABLE_COLUMNS, legend
from set_cli.report.text import render_text
from set_cli.system.terminal import printable

SECONDS_BETWEEN_TABLES = 3
MOST_LINES = 20  # of runs that do not count

# What fits beside each other on a terminal; the other columns do not change while one looks.
WATCHED_TITLES = ("data set", "model", "method", "ε", "ζ", "settings", "n", "last", "best", "s/epoch")
WATCHED_COLUMNS = [column for column in TABLE_COLUMNS if column.title in WATCHED_TITLES]

Read = dict[Path, tuple[object, FinishedRun | LeftOut]]


def watch_runs(folders: Sequence[Path]) -> None:
    """Print the comparison until Ctrl-C. A run is read again when its status or its rows have changed."""
    console = Console(no_color=True)
    read: Read = {}
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while console.is_terminal:  # no longer, once it is closed
            live.update(render_comparison(folders, read, console.width), refresh=True)
            time.sleep(SECONDS_BETWEEN_TABLES)


def render_comparison(folders: Sequence[Path], read: Read, width: int) -> Group:
    """What is on the terminal now. `read` keeps what was read of each run until it changes."""
    there = [folder for folder in folders if folder.is_dir()]  # the others may be made while one looks
    paths, closed = find_run_folders(there)
    for path in paths:
        stamp = [_stamp(path / name) for name in ("status.json", "summary.json", "metrics.jsonl")]
        known = read.get(path)
        # Nothing in the folder of a run changes when its process is killed.
        if known is None or known[0] != stamp or (isinstance(known[1], LeftOut) and known[1].why == "running"):
            read[path] = (stamp, read_run(path))
    comparison = compare([*(read[path][1] for path in paths), *closed])
    lines = [f"{run.why}: {run.path}" + (f" ({run.detail})" if run.detail else "") for run in comparison.left_out]
    lines.sort(key=lambda line: not line.startswith("running"))
    more = [f"… and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    clock = f"{len(comparison.counted)} finished, {len(lines)} others, {time.strftime('%H:%M:%S')}; Ctrl-C ends"
    waiting = [f"waiting for {folder}" for folder in folders if folder not in there]
    table = render_text(WATCHED_COLUMNS, comparison.configurations, "table", width)
    # What a small terminal cuts off is at the end.
    text = [clock, *map(printable, [*waiting, *lines[:MOST_LINES], *more]), table, legend(comparison.configurations)]
    return Group(*(Text(part.rstrip("\n")) for part in text if part))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
