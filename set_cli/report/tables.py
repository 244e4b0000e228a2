"""One comparison, in the formats people ask for."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from set_cli.config.guesses import did_you_mean
from set_cli.errors import ConfigError
from set_cli.report.paper import paper_value
from set_cli.report.rows import ROW_KEYS, Comparison, Configuration
from set_cli.report.text import render_text
from set_cli.system.terminal import Column, printable

Row = dict[str, Any]
LEGEND = "* the mean of those that finished:"
MORE = "--columns all or a wider terminal"


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


METRIC_TITLES = {"accuracy": "accuracy %", "log_probability": "log-prob. (nats)"}
METRIC_NAMES = {"accuracy %": "test accuracy in %", "log-prob. (nats)": "test log-probability in nats"}


def _column(title: str, cell: Callable[[Row], str], right: bool, rank: int, **how: Any) -> Column[Configuration]:
    return Column(title, lambda configuration: cell(configuration.figures), right, rank, **how)


def _seeds_above(text: str) -> str:
    return f"{text} seed" if text == "1" else f"{text} seeds"


# The ranks: what one reads a comparison for stays on the narrowest terminal, and without data set, model and metric,
# where rows differ in them, nobody could tell what a figure is.
TABLE_COLUMNS: list[Column[Configuration]] = [
    _column("data set", lambda row: row["dataset"], False, 0, shared=str),
    _column("model", lambda row: row["model"], False, 0, shared=str),
    _column("method", lambda row: row["method"], False, 0),
    _column("ε", lambda row: _short(row["epsilon"]), True, 1, shared="ε={}".format),
    _column("ζ", lambda row: _short(row["zeta"]), True, 2, shared="ζ={}".format),
    _column("settings", lambda row: row["settings"], False, 3, parts=True),
    Column("n", lambda configuration: configuration.seeds_text, True, 0, _seeds_above),
    _column("metric", lambda row: str(METRIC_TITLES.get(row["metric"], row["metric"])), False, 0,
            shared=lambda text: METRIC_NAMES.get(text, text)),
    _column("last", lambda row: _with_deviation(row, "last"), True, 0),
    _column("averaged", lambda row: "" if row["averaged_mean"] is None else _with_deviation(row, "averaged"), True, 4),
    _column("best", lambda row: _with_deviation(row, "best"), True, 5),
    _column("best on", lambda row: row["best_on"], False, 6, shared="best on {}".format),
    _column("connections", lambda row: f"{row['connections']:,}", True, 7),
    _column("final", lambda row: f"{row['connections_final']:,}", True, 12),
    _column("parameters", lambda row: f"{row['parameters']:,}", True, 13),
    _column("of dense", lambda row: f"{100 * row['parameters'] / row['dense_parameters']:.1f} %", True, 11),
    _column("s/epoch", lambda row: _number(row, "seconds_per_epoch"), True, 10),
    _column("s/evolution", lambda row: _number(row, "seconds_per_evolution", 3), True, 16),
    _column("evolution MB", lambda row: _number(row, "evolution_memory_mb", 0), True, 17),
    _column("peak MB", lambda row: _number(row, "peak_memory_mb", 0), True, 14),
    _column("paper", lambda row: _number(row, "paper"), True, 8),
    _column("paper's network", _papers_network, False, 15),
    _column("difference", lambda row: "" if row["difference"] is None else f"{row['difference']:+.2f}", True, 9),
]  # fmt: skip


def render(
    comparison: Comparison, form: str, width: int | None = None, names: Sequence[str] = (), sort: str | None = None
) -> str:
    """The comparison as table, markdown, latex, csv or json text.

    width  columns of the terminal the table is for; None for as wide as it needs to be
    names  of the columns to show, in this order; 'all' for every one; none: those that fit
    sort   the column to sort by, ascending, with '-' before it descending; None: the paper's order of methods

    ConfigError for names that no column has, and for names with json or csv, which have every figure.
    """
    configurations = _sorted(comparison.configurations, sort)
    if form in ("json", "csv"):
        if names:
            raise ConfigError(f"--columns is for tables: {form} has every column")
        rows = [configuration.row for configuration in configurations]
        return csv_text(rows, ROW_KEYS) if form == "csv" else json.dumps(rows, indent=2, allow_nan=False) + "\n"
    columns, everything = _chosen(names)
    text = render_text(columns, configurations, form, width, everything=everything, more=MORE)
    lost = legend(configurations) if any(column.title == "n" for column in columns) else ""
    if not lost or form == "latex":
        return text
    return f"{text}\n\\{lost}\n" if form == "markdown" else f"{text}{lost}\n"


def legend(configurations: Sequence[Configuration]) -> str:
    """What the asterisk stands for, with how many seeds were lost in which way; nothing where none was."""
    lost = Counter(why for configuration in configurations for why in configuration.lost)
    return f"{LEGEND} {', '.join(f'{count} {why}' for why, count in lost.items())}" if lost else ""


# The keys of the JSON rows are names of columns too.
TITLES_BY_KEY = {
    "dataset": "data set", "epsilon": "ε", "zeta": "ζ", "last_mean": "last", "averaged_mean": "averaged",
    "best_mean": "best", "best_on": "best on",
    "connections_final": "final", "seconds_per_epoch": "s/epoch", "peak_memory_mb": "peak MB",
    "seconds_per_evolution": "s/evolution", "evolution_memory_mb": "evolution MB",
    "dense_parameters": "of dense",
}  # fmt: skip


def _chosen(names: Sequence[str]) -> tuple[list[Column[Configuration]], bool]:
    """The columns of these names, and whether all of them are to be shown whatever the width."""
    if not names or names == ["all"]:
        return TABLE_COLUMNS, bool(names)
    return [_named(name)._replace(shared=None, parts=False) for name in names], True


def _named(name: str) -> Column[Configuration]:
    title = TITLES_BY_KEY.get(name, name).lower()
    for column in TABLE_COLUMNS:
        if column.title.lower() == title:
            return column
    titles = [column.title for column in TABLE_COLUMNS]
    raise ConfigError(f"no column is called {name}{did_you_mean(name, titles)}; expected some of {', '.join(titles)}")


def _sorted(configurations: Sequence[Configuration], sort: str | None) -> list[Configuration]:
    """Rows sorted by a column's figures; those without one come last."""
    if sort is None:
        return list(configurations)
    down = sort.startswith("-")
    title = _named(sort.removeprefix("-")).title
    key = {shown: key for key, shown in TITLES_BY_KEY.items()}.get(title, title)

    def figure(configuration: Configuration) -> Any:
        row = configuration.figures
        return row["parameters"] / row["dense_parameters"] if title == "of dense" else row.get(key, "")

    having = [one for one in configurations if figure(one) is not None]
    others = [one for one in configurations if figure(one) is None]
    return [*sorted(having, key=figure, reverse=down), *others]


FORMULA_SIGNS = ("=", "+", "-", "@")  # in any width (U+FF1D is one more =)


def csv_text(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """The rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    safe = [{key: _no_formula(value) for key, value in row.items()} for row in rows]
    return pd.DataFrame(safe, columns=list(columns)).to_csv(index=False)


def _no_formula(value: object) -> object:
    if not isinstance(value, str):
        return value
    # Before anything is taken from it: a tab before the sign would hide it, and not from a spreadsheet.
    plain = unicodedata.normalize("NFKC", value)
    starts = plain.lstrip()[:1] in FORMULA_SIGNS or value[:1] in ("\t", "\r", "\n")
    return f"'{printable(value)}" if starts else printable(value)
