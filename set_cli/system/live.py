"""The live line of a run: epoch, loss, test, a bar and the time left; what there is no room for is not shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rich.cells import cell_len
from rich.console import RenderableType
from rich.progress import Progress
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

BETWEEN = 2  # spaces
BAR, SHORT_BAR = 20, 6  # columns: with less than the first nothing else is added, with less than the second it is gone


def measured_text(row: Mapping[str, Any]) -> str:
    """The metric of each part that was measured in this epoch: an RBM's are not in every one."""
    text = ""
    for part in ("valid", "test"):
        if f"{part}_accuracy" in row:
            text += f"  {part} {row[f'{part}_accuracy']:6.2f} %"
            averaged = row.get(f"{part}_ema_accuracy")
            text += "" if averaged is None else f" (averaged {averaged:.2f} %)"
        elif f"{part}_log_probability" in row:
            error = row[f"{part}_log_z_error"]
            text += f"  {part} log-probability {row[f'{part}_log_probability']:8.2f} ± {error:.2f}"
    return text + ("" if row.get("test_chains_agree", True) else "  (chains disagree)")


class LiveLine(Progress):
    """One task, the epochs, as one line of a terminal of any width."""

    def __init__(self, **options: Any) -> None:
        self._epoch, self._loss, self._measured, self._connections = 0, "", "", ""
        super().__init__(**options)
        self._only = self.add_task("", total=1, start=False)

    def begin(self, epochs: int, done: int) -> None:
        """Training begins, or resumes after so many epochs."""
        self._epoch = done
        self.reset(self._only, total=epochs, completed=done)

    def move(self, done: float, epoch: int) -> None:
        """Show how many epochs are done, parts of one included, and which one is in progress."""
        self._epoch = epoch
        self.update(self._only, completed=done)

    def show(self, row: Mapping[str, Any]) -> None:
        """The figures of a whole epoch stay until the next one's."""
        self._measured = measured_text(row).strip() or self._measured
        self._loss, self._connections = f"loss {row['train_loss']:.4f}", f"{row['connections']:,} connections"
        self.move(row["epoch"], row["epoch"])

    def get_renderables(self) -> Iterable[RenderableType]:
        """The line, for the terminal as wide as it is now."""
        if not self.tasks or not self.tasks[0].started:  # rich draws while it is made, and before training begins
            return
        task, width = self.tasks[0], self.console.width
        total, left = int(task.total or 1), task.time_remaining
        parts = [f"epoch {self._epoch:{len(str(total))}}/{total}", self._loss, self._measured]
        ending = [f"{'-:--:--' if left is None else _clock(left)} left"]
        for droppable in (self._loss, ending[0], self._measured):  # of a terminal too narrow for them
            if _columns([*parts, *ending]) > width:
                parts = [part for part in parts if part != droppable]
                ending = [part for part in ending if part != droppable]
        for more, place in ((self._connections, parts), (f"{_clock(task.elapsed or 0)} so far", ending)):
            if _columns([*parts, *ending, more]) + BETWEEN + BAR <= width:
                place.append(more)
        room = width - _columns([*parts, *ending]) - BETWEEN
        bar = [ProgressBar(total=total, completed=task.completed, width=room)] if room >= SHORT_BAR else []
        cells: list[RenderableType] = [*(Text(part) for part in parts if part), *bar, *map(Text, ending)]
        line = Table.grid(padding=(0, BETWEEN, 0, 0))
        for _ in cells:
            line.add_column(no_wrap=True, overflow="crop")
        line.add_row(*cells)
        yield line


def _columns(parts: Sequence[str]) -> int:
    """What these parts take beside each other."""
    widths = [cell_len(part) for part in parts if part]
    return sum(widths) + BETWEEN * (len(widths) - 1)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=int(seconds)))
