"""One comparison, in the formats people ask for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from set_cli.report.paper import paper_value
from set_cli.report.rows import COLUMNS, Comparison

Row = dict[str, Any]


def _number(row: Row, key: str, digits: int = 2) -> str:
    return "" if row[key] is None else f"{row[key]:.{digits}f}"


def _with_deviation(row: Row, name: str) -> str:
    deviation = "" if row[f"{name}_std"] is None else f" ± {row[f'{name}_std']:.2f}"
    return f"{row[f'{name}_mean']:.2f}{deviation}"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _papers_network(row: Row) -> str:
    """What the paper's figure was reached with, where it chose that for each data set and method."""
    paper = paper_value(*(row[key] for key in ("dataset", "model", "method", "epsilon", "zeta")))
    if paper is None:
        return ""
    chosen = f"{paper.hidden:,} hidden, CD-{paper.cd_steps}, " if paper.hidden else ""
    return f"{chosen}{paper.connections:,} connections"


METRICS = {"accuracy": "accuracy %", "log_probability": "log-probability, nats"}

# What a person reads: title, cell, whether it is aligned right.
READABLE: list[tuple[str, Callable[[Row], str], bool]] = [
    ("data set", lambda row: row["dataset"], False),
    ("model", lambda row: row["model"], False),
    ("method", lambda row: row["method"], False),
    ("ε", lambda row: _short(row["epsilon"]), True),
    ("ζ", lambda row: _short(row["zeta"]), True),
    ("settings", lambda row: row["settings"], False),
    ("n", lambda row: str(row["n"]), True),
    ("metric", lambda row: str(METRICS.get(row["metric"], row["metric"])), False),
    ("last", lambda row: _with_deviation(row, "last"), True),
    ("best", lambda row: _with_deviation(row, "best"), True),
    ("best on", lambda row: row["best_on"], False),
    ("connections", lambda row: f"{row['connections']:,}", True),
    ("final", lambda row: f"{row['connections_final']:,}", True),
    ("parameters", lambda row: f"{row['parameters']:,}", True),
    ("of dense", lambda row: f"{100 * row['parameters'] / row['dense_parameters']:.1f} %", True),
    ("s/epoch", lambda row: _number(row, "seconds_per_epoch"), True),
    ("peak MB", lambda row: _number(row, "peak_memory_mb", 0), True),
    ("paper", lambda row: _number(row, "paper"), True),
    ("paper's network", lambda row: _papers_network(row), False),
    ("difference", lambda row: "" if row["difference"] is None else f"{row['difference']:+.2f}", True),
]


def render(comparison: Comparison, form: str, console_width: int | None = None) -> str:
    """The comparison as table, markdown, latex, csv or json text.

    console_width  columns of the terminal the table is for; None for as wide as it needs to be
    """
    match form:
        case "json":
            return json.dumps(comparison.rows, indent=2, allow_nan=False) + "\n"
        case "csv":
            return pd.DataFrame(comparison.rows, columns=COLUMNS).to_csv(index=False)
        case "markdown":
            return _markdown(comparison.rows)
        case "latex":
            return _latex(comparison.rows)
        case _:
            return _table(comparison.rows, console_width)


def printable(text: str) -> str:
    """The text without control characters: what is in a run folder must not steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def _cells(rows: list[Row]) -> list[list[str]]:
    return [[printable(cell(row)) for _, cell, _ in READABLE] for row in rows]


def _used(lines: list[list[str]]) -> list[int]:
    """The columns with at least one entry; an empty one only takes room."""
    return [i for i in range(len(READABLE)) if any(line[i] for line in lines)]


def _markdown(rows: list[Row]) -> str:
    lines = [[cell.replace("|", "\\|") for cell in line] for line in _cells(rows)]
    used = _used(lines)
    frame = pd.DataFrame([[line[i] for i in used] for line in lines], columns=[READABLE[i][0] for i in used])
    align = tuple("right" if READABLE[i][2] else "left" for i in used)
    return frame.to_markdown(index=False, colalign=align, disable_numparse=True) + "\n" if rows else ""


# Of what a LaTeX without packages cannot set: what our own columns have.
IN_MATHEMATICS = {"ε": r"$\varepsilon$", "ζ": r"$\zeta$", "±": r"$\pm$"}


def _latex(rows: list[Row]) -> str:
    """A tabular between booktabs' rules (`\\usepackage{booktabs}`); other characters than ASCII's become '?'."""
    lines = _cells(rows)
    used = _used(lines)
    frame = pd.DataFrame([[line[i] for i in used] for line in lines], columns=[READABLE[i][0] for i in used])
    columns = "".join("r" if READABLE[i][2] else "l" for i in used)
    text = frame.to_latex(index=False, escape=True, column_format=columns) if rows else ""
    for character, command in IN_MATHEMATICS.items():
        text = text.replace(character, command)
    return text.encode("ascii", "replace").decode()


def _table(rows: list[Row], width: int | None) -> str:
    table = Table(show_edge=False, pad_edge=False)
    lines = _cells(rows)
    used = _used(lines)
    for i in used:
        table.add_column(READABLE[i][0], justify="right" if READABLE[i][2] else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(line[i]) for i in used))
    console = Console(width=width or 10_000, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
