"""Tables on a terminal, one style for all commands: columns chosen by width, what all rows share said once above.

A number is never broken. What does not fit is left out and named below.
"""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = TypeVar("Row")

BETWEEN = 3  # characters between two columns: a rule, and a space on each side
NARROW, LONG_WORD = 20, 40  # characters: a column of words is not folded below the one, nor a word below the other
WIDER = "a wider terminal shows them"
PART = re.compile(r" (?=[^\s=]+=)")  # between two settings: `train.lr=0.1 seed=1`


class Column(NamedTuple, Generic[Row]):
    """A column that people read: its title, what stands in it, whether that is aligned right.

    right   numbers, which are never broken; other columns are folded between words where there is no room
    rank    which column a narrow terminal leaves out first: the largest; None: its place, the first column stays
    shared  how a value that all rows have is said above the table; None: it stays in its column
    parts   whether its cells are settings (`key=value …`), of which those that all rows have are said above
    """

    title: str
    cell: Callable[[Row], str]
    right: bool
    rank: int | None = None
    shared: Callable[[str], str] | None = None
    parts: bool = False


@dataclass(frozen=True, slots=True)
class Layout(Generic[Row]):
    """What is shown of a table: words above it, its columns with their widths, its cells, titles left out."""

    above: list[str]
    columns: list[Column[Row]]
    cells: list[list[str]]
    widths: list[int]
    left_out: list[str]


def terminal_width() -> int | None:
    """Columns of the terminal that stdout goes to; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def printable(text: str) -> str:
    """The text without control characters: what is in a run folder must not steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def text_cells(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> tuple[list[Column[Row]], list[list[str]]]:
    """The columns with at least one entry, and what stands in them line by line."""
    lines = [[printable(column.cell(row)) for column in columns] for row in rows]
    used = [i for i in range(len(columns)) if any(line[i] for line in lines)]
    return [columns[i] for i in used], [[line[i] for i in used] for line in lines]


def render_table(
    columns: Sequence[Column[Row]],
    rows: Iterable[Row],
    width: int | None = None,
    *,
    everything: bool = False,
    more: str = WIDER,
) -> str:
    """The rows as a table with its end of line; columns without an entry are left out, no rows give no text.

    width       columns of the terminal it is for; None: as wide as it needs to be, and every row complete
    everything  all columns whatever the width
    more        how one sees what is left out
    """
    layout = lay_out(columns, rows, width, everything=everything)
    if not layout.cells:
        return ""
    lines = [] if width is None else textwrap.wrap(", ".join(layout.above), width, break_long_words=False)
    text = "".join(f"{line}\n" for line in lines) + _draw(layout)
    if layout.left_out:
        named = f"left out: {', '.join(layout.left_out)}; {more}"
        text += "\n".join(textwrap.wrap(named, width or len(named))) + "\n"
    return text


def lay_out(
    columns: Sequence[Column[Row]], rows: Iterable[Row], width: int | None, *, everything: bool = False
) -> Layout[Row]:
    """Choose what is shown on a terminal of this width."""
    kept, cells = text_cells(columns, rows)
    above: list[str] = []
    if width is not None:
        above, kept, cells = share(kept, cells)
    full = [max(cell_len(text) for text in (column.title, *texts)) for column, texts in _by_column(kept, cells)]
    least = [_least(column, texts, full[i]) for i, (column, texts) in enumerate(_by_column(kept, cells))]
    if width is None or everything:
        chosen = list(range(len(kept)))
        widths = full if width is None else least
    else:
        chosen = _fitting(kept, least, width)
        widths = least
    used = sum(widths[i] for i in chosen) + BETWEEN * (len(chosen) - 1)
    final = []
    for i in chosen:  # what room there is left goes to the columns that were folded
        extra = max(0, min(full[i] - widths[i], (width or used) - used))
        final.append(widths[i] + extra)
        used += extra
    return Layout(
        above,
        [kept[i] for i in chosen],
        [[line[i] for i in chosen] for line in cells],
        final,
        [column.title for i, column in enumerate(kept) if i not in chosen],
    )


def share(
    columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]]
) -> tuple[list[str], list[Column[Row]], list[list[str]]]:
    """What all rows have in common, in words, and what is left of the columns and the cells."""
    above: list[str] = []
    left: list[tuple[Column[Row], list[str]]] = []
    for column, texts in _by_column(columns, cells):
        if column.parts:
            common, texts = _common_parts(texts)
            above += [(column.shared or str)(" ".join(common))] if common else []
        elif column.shared is not None and len(set(texts)) == 1:
            above.append(column.shared(texts[0]))
            continue
        if any(texts):
            left.append((column, texts))
    lines = [[texts[i] for _, texts in left] for i in range(len(cells))]
    return above, [column for column, _ in left], lines


def _common_parts(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The settings that all have, and what is left of each."""
    split = [[part for part in PART.split(text) if part] for text in texts]
    common = [part for part in split[0] if all(part in parts for parts in split)] if split else []
    return common, [" ".join(part for part in parts if part not in common) for parts in split]


def _by_column(columns: Sequence[Column[Row]], cells: Sequence[Sequence[str]]) -> list[tuple[Column[Row], list[str]]]:
    return [(column, [line[i] for line in cells]) for i, column in enumerate(columns)]


def _least(column: Column[Row], texts: Sequence[str], full: int) -> int:
    """The width below which a column is not folded."""
    if column.right:
        return full
    longest = max(cell_len(word) for text in (column.title, *texts) for word in (text.split() or [""]))
    return min(full, max(NARROW, min(longest, LONG_WORD)))


def _fitting(columns: Sequence[Column[Row]], widths: Sequence[int], width: int) -> list[int]:
    """The columns that fit beside each other, the important ones first; those of rank 0 in any case."""
    ranks = [i if column.rank is None else column.rank for i, column in enumerate(columns)]
    chosen: list[int] = []
    used = -BETWEEN
    for i in sorted(range(len(columns)), key=lambda i: ranks[i]):
        if not ranks[i] or used + BETWEEN + widths[i] <= width:
            chosen.append(i)
            used += BETWEEN + widths[i]
    return sorted(chosen)


def _draw(layout: Layout[Row]) -> str:
    table = Table(show_edge=False, pad_edge=False)
    for column, width in zip(layout.columns, layout.widths, strict=True):
        side = "right" if column.right else "left"
        table.add_column(Text(column.title), justify=side, overflow="fold", width=width)  # type: ignore[arg-type]
    for line in layout.cells:
        table.add_row(*map(Text, line))
    console = Console(width=sum(layout.widths) + BETWEEN * len(layout.widths), force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"
