"""What a part measured, written as it comes, and the table of all parts."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MOST_LINES = 60
WIDTHS = (10, 44, 52, 12)  # of the columns part, what, value, unit


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; held: whether it is as wanted, None where nothing is wanted."""

    part: str
    what: str
    value: str
    unit: str = ""
    wanted: str = ""
    held: bool | None = None


class Figures:
    """The figures of one part: every one is in the file as soon as it is known, so a part that is killed has its own.

    detail  of a figure: numbers that the table has no room for
    """

    def __init__(self, part: str, path: Path) -> None:
        self.part, self.path = part, path
        self.rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def has(self, what: str) -> bool:
        """Whether there is a figure whose name begins so: of this process, or of one that it stands in for."""
        return any(row["what"].startswith(what) for row in self.rows)

    def add(
        self, what: str, value: object, unit: str = "", wanted: str = "", held: bool | None = None, **detail: Any
    ) -> None:
        figure = Figure(self.part, what, in_digits(value), unit, wanted, held)
        self.rows.append(asdict(figure) | ({"detail": detail} if detail else {}))
        print(line(figure), flush=True)
        part_written = self.path.with_suffix(".tmp")
        part_written.write_text(json.dumps(self.rows, indent=1, default=str))
        os.replace(part_written, self.path)


def in_digits(value: object) -> str:
    """Floats with four digits that count."""
    if not isinstance(value, float):
        return f"{value:,}" if type(value) is int else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def read_figures(path: Path) -> list[Figure]:
    """The figures of a part, none where it wrote none."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text())
    return [Figure(**{key: value for key, value in row.items() if key != "detail"}) for row in rows]


def line(figure: Figure) -> str:
    cells = (figure.part, figure.what, figure.value, figure.unit)
    text = " ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
    verdict = {None: "", True: "  ok", False: "  NOT HELD"}[figure.held]
    return (text + (f"wanted {figure.wanted}" if figure.wanted else "") + verdict).rstrip()


def table(header: Sequence[str], figures: Sequence[Figure]) -> str:
    """At most MOST_LINES lines; where there are more figures, what was not held stays and the last others go."""
    room = MOST_LINES - len(header) - 1
    chosen = list(figures)
    dropped = 0
    while len(chosen) > room - bool(dropped):
        others = [i for i, figure in enumerate(chosen) if figure.held is not False]
        del chosen[others[-1] if others else -1]
        dropped += 1
    lines = [*header, "-" * 60, *map(line, chosen)]
    if dropped:
        lines.append(f"... and {dropped} figures more in figures.json")
    return "\n".join(lines) + "\n"
