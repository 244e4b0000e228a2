"""What a run shows while it trains: a live line on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# bar(title, bytes or None) is a context manager that gives the function to advance it with.
Bar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
PLAIN_BYTES = 10**8  # less is over before a line about it was read


def epoch_line(row: Mapping[str, Any], epochs: int, seconds: float) -> str:
    """One epoch in words and units, aligned with the lines before and after it."""
    width = len(str(epochs))
    return (
        f"epoch {row['epoch']:{width}}/{epochs}  loss {row['train_loss']:.4f}{measured_text(row)}  "
        f"{row['connections']:,} connections  {seconds:.2f} s"
    )


def measured_text(row: Mapping[str, Any]) -> str:
    """The metric of each part that was measured in this epoch: an RBM's are not in every one."""
    text = ""
    for part in ("valid", "test"):
        if f"{part}_accuracy" in row:
            text += f"  {part} {row[f'{part}_accuracy']:6.2f} %"
        elif f"{part}_log_probability" in row:
            error = row[f"{part}_log_z_error"]
            text += f"  {part} log-probability {row[f'{part}_log_probability']:8.2f} ± {error:.2f}"
    return text + ("" if row.get("test_chains_agree", True) else "  (chains disagree)")


def start_line(path: Path, epoch: int, rows: int) -> str:
    """Which run it is, and from where it goes on: after so many epochs, and rows of the next one."""
    if rows:
        return f"{path}, going on after {rows:,} rows of epoch {epoch + 1}"
    return str(path) + (f", going on after epoch {epoch}" if epoch else "")


def result_line(summary: Mapping[str, Any], path: Path) -> str:
    """What came out of a finished run."""
    final = summary["connections_final"]
    left = f", {final:,} after the last removal" if final != summary["connections"] else ""
    tested = "" if summary["tested_on"] == "test" else " (tested on held-out training rows)"
    name, unit = {"accuracy": ("accuracy", "%"), "log_probability": ("log-probability", "nats")}[summary["metric"]]
    last, best = (
        f"{summary[key]:.2f}"
        + (f" ± {summary[f'{key}_error']:.2f}" if summary[f"{key}_error"] is not None else "")
        + (" (chains disagree)" if summary[f"{key}_chains_agree"] is False else "")
        for key in ("last", "best")
    )
    return (
        f"done: {summary['method']} on {summary['dataset']}, test {name} {last} {unit} after the last "
        f"epoch{tested}, best {best} {unit} (epoch {summary['best_epoch']}, chosen on {summary['best_on']}); "
        f"{summary['connections']:,} connections{left}; {summary['seconds_per_epoch']:.2f} s per epoch: {path}"
    )


def say(line: str) -> None:
    """Print a line; where nobody reads us any more (`| head`) go on in silence: training is worth more."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        silence_stdout()


def note(line: str) -> None:
    """Print a line beside the results."""
    print(line, file=sys.stderr, flush=True)


def make_bar(progress: str) -> Bar:
    """Shows what takes long before training: a bar where the view is rich, a line where it is plain."""
    if progress == "auto":
        progress = "rich" if sys.stderr.isatty() and not os.environ.get("CI") else "plain"
    bars: dict[str, Bar] = {"rich": _rich_bar, "plain": _plain_bar, "none": no_bar}
    return bars[progress]


@contextmanager
def _rich_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def _plain_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Silent about what is over at once."""
    if total is None or total >= PLAIN_BYTES:
        size = "" if total is None else f" ({total / 1e6:,.0f} MB)"
        note(f"{title}{size}")
    yield lambda count: None


@contextmanager
def no_bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


def silence_stdout() -> None:
    """Send what is still to be printed nowhere; Python's own flush at the end would fail otherwise."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class View(Protocol):
    """What the training loop tells; a context manager around the run."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

    def start(self, title: str, epochs: int, done: int) -> None: ...

    def step(self, epoch: int, rows: int, of: int) -> None: ...

    def epoch(self, row: Mapping[str, Any], line: str) -> None: ...


class NoView:
    """progress=none: nothing until the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, title: str, epochs: int, done: int) -> None:
        pass

    def step(self, epoch: int, rows: int, of: int) -> None:
        pass

    def epoch(self, row: Mapping[str, Any], line: str) -> None:
        pass


class PlainView(NoView):
    """progress=plain: a line per epoch."""

    def start(self, title: str, epochs: int, done: int) -> None:
        say(title)

    def epoch(self, row: Mapping[str, Any], line: str) -> None:
        say(line)


class RichView(NoView):
    """progress=rich: one live line with loss, accuracy, connections and time left."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("epoch {task.fields[epoch]}/{task.total}  {task.fields[figures]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(),
        )
        self._measured = ""  # an RBM's test rows are not measured in every epoch: the last figures stay
        self._task = self._bar.add_task("", total=1, epoch=0, figures="", start=False)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def start(self, title: str, epochs: int, done: int) -> None:
        self._bar.reset(self._task, total=epochs, completed=done, description=title, epoch=done, figures="")

    def step(self, epoch: int, rows: int, of: int) -> None:
        self._bar.update(self._task, completed=epoch - 1 + rows / of, epoch=epoch)

    def epoch(self, row: Mapping[str, Any], line: str) -> None:
        self._measured = measured_text(row) or self._measured
        figures = f"loss {row['train_loss']:.4f}{self._measured}  {row['connections']:,} connections"
        self._bar.update(self._task, completed=row["epoch"], figures=figures)


def make_view(progress: str) -> View:
    """The view of that name; 'auto' is rich on a terminal outside CI, else plain."""
    if progress == "auto":
        progress = "rich" if sys.stdout.isatty() and not os.environ.get("CI") else "plain"
    views = {"rich": RichView, "plain": PlainView, "none": NoView}
    return views[progress]()
