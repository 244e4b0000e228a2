"""One comparison, in the formats people ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from set_cli.report.paper import paper_value
from set_cli.report.rows import COLUMNS, Comparison
from set_cli.report.text import Column, printable, render_text

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

READABLE: list[Column[Row]] = [
    Column("data set", lambda row: row["dataset"], False),
    Column("model", lambda row: row["model"], False),
    Column("method", lambda row: row["method"], False),
    Column("ε", lambda row: _short(row["epsilon"]), True),
    Column("ζ", lambda row: _short(row["zeta"]), True),
    Column("settings", lambda row: row["settings"], False),
    Column("n", lambda row: str(row["n"]), True),
    Column("metric", lambda row: str(METRICS.get(row["metric"], row["metric"])), False),
    Column("last", lambda row: _with_deviation(row, "last"), True),
    Column("best", lambda row: _with_deviation(row, "best"), True),
    Column("best on", lambda row: row["best_on"], False),
    Column("connections", lambda row: f"{row['connections']:,}", True),
    Column("final", lambda row: f"{row['connections_final']:,}", True),
    Column("parameters", lambda row: f"{row['parameters']:,}", True),
    Column("of dense", lambda row: f"{100 * row['parameters'] / row['dense_parameters']:.1f} %", True),
    Column("s/epoch", lambda row: _number(row, "seconds_per_epoch"), True),
    Column("peak MB", lambda row: _number(row, "peak_memory_mb", 0), True),
    Column("paper", lambda row: _number(row, "paper"), True),
    Column("paper's network", lambda row: _papers_network(row), False),
    Column("difference", lambda row: "" if row["difference"] is None else f"{row['difference']:+.2f}", True),
]


def render(comparison: Comparison, form: str, width: int | None = None) -> str:
    """The comparison as table, markdown, latex, csv or json text.

    width  columns of the terminal the table is for; None for as wide as it needs to be
    """
    match form:
        case "json":
            return json.dumps(comparison.rows, indent=2, allow_nan=False) + "\n"
        case "csv":
            return csv_text(comparison.rows, COLUMNS)
        case _:
            return render_text(READABLE, comparison.rows, form, width)


FORMULA = ("=", "+", "-", "@")


def csv_text(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    safe = [{key: _no_formula(value) for key, value in row.items()} for row in rows]
    return pd.DataFrame(safe, columns=list(columns)).to_csv(index=False)


def _no_formula(value: object) -> object:
    if not isinstance(value, str):
        return value
    # Before anything is taken from it: a tab before the sign would hide it, and not from a spreadsheet.
    return f"'{printable(value)}" if value.lstrip()[:1] in FORMULA else printable(value)
