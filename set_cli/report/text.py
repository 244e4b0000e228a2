"""A table as text: for a terminal, Markdown or LaTeX. What is in a cell stays in it, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = TypeVar("Row")


class Column(NamedTuple, Generic[Row]):
    """A column that people read: its title, what stands in it, whether that is aligned right."""

    title: str
    cell: Callable[[Row], str]
    right: bool


def render_text(columns: Sequence[Column[Row]], rows: Iterable[Row], form: str, width: int | None = None) -> str:
    """The rows as table, markdown or latex; columns without an entry are left out, no rows give no text.

    width  columns of the terminal that a table is for; None for as wide as it needs to be
    """
    kept, cells = text_cells(columns, rows)
    match form:
        case "markdown":
            return _markdown(kept, cells)
        case "latex":
            return _latex(kept, cells)
        case _:
            return _table(kept, cells, width)


def text_cells(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> tuple[list[Column[Row]], list[list[str]]]:
    """The columns with at least one entry, and what stands in them line by line."""
    lines = [[printable(column.cell(row)) for column in columns] for row in rows]
    used = [i for i in range(len(columns)) if any(line[i] for line in lines)]
    return [columns[i] for i in used], [[line[i] for i in used] for line in lines]


def printable(text: str) -> str:
    """The text without control characters: what is in a run folder must not steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


# What Markdown would take for more than a character: emphasis, code, links, HTML, a cell's end; `_` within a word is
# none. A colon or an at sign would make a link of an address, a dollar sign mathematics of what is between two.
LIVE = re.compile(r"[\\`*\[\]<>|~$&:@!#]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=www)\.", re.IGNORECASE)


def _markdown(columns: Sequence[Column[Row]], cells: list[list[str]]) -> str:
    escaped = [[LIVE.sub(lambda match: f"\\{match[0]}", cell) for cell in line] for line in cells]
    frame = pd.DataFrame(escaped, columns=[column.title for column in columns])
    align = tuple("right" if column.right else "left" for column in columns)
    return frame.to_markdown(index=False, colalign=align, disable_numparse=True) + "\n" if cells else ""


# Of what a LaTeX without packages cannot set: what our own columns have.
IN_MATHEMATICS = {"ε": r"$\varepsilon$", "ζ": r"$\zeta$", "±": r"$\pm$"}


def _latex(columns: Sequence[Column[Row]], cells: list[list[str]]) -> str:
    """A tabular between booktabs' rules (`\\usepackage{booktabs}`); other characters than ASCII's become '?'."""
    frame = pd.DataFrame(cells, columns=[column.title for column in columns])
    places = "".join("r" if column.right else "l" for column in columns)
    text = frame.to_latex(index=False, escape=True, column_format=places) if cells else ""
    # After a line's end LaTeX takes a bracket or an asterisk for that command's own.
    text = re.sub(r"^(?=[\[*])", "{}", text, flags=re.MULTILINE)
    for character, command in IN_MATHEMATICS.items():
        text = text.replace(character, command)
    return text.encode("ascii", "replace").decode()


def _table(columns: Sequence[Column[Row]], cells: list[list[str]], width: int | None) -> str:
    if not cells:
        return ""
    table = Table(show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for line in cells:
        table.add_row(*map(Text, line))
    console = Console(width=width or 10_000, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
