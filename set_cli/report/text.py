"""A table as text: for a terminal, Markdown or LaTeX. What is in a cell stays in it, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

import pandas as pd

from set_cli.system.terminal import WIDER, Column, render_table, text_cells

Row = TypeVar("Row")


def render_text(
    columns: Sequence[Column[Row]],
    rows: Iterable[Row],
    form: str,
    width: int | None = None,
    *,
    everything: bool = False,
    more: str = WIDER,
) -> str:
    """The rows as table, markdown or latex; columns without an entry are left out, no rows give no text.

    width, everything, more  of a table, as `terminal.render_table` takes them
    """
    if form not in ("markdown", "latex"):
        return render_table(columns, rows, width, everything=everything, more=more)
    kept, cells = text_cells(columns, rows)
    return _markdown(kept, cells) if form == "markdown" else _latex(kept, cells)


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
