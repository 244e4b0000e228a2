"""What a run shows while it trains: a live line on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.text import Text

from set_cli.system.live import LiveLine
from set_cli.system.terminal import printable

# bar(title, bytes or None) is a context manager that gives the function to advance it with.
Bar = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]
PLAIN_BYTES = 10**8  # less is over before a line about it was read


def say(line: str) -> None:
    """Print a line."""
    _print(line, sys.stdout)


def note(line: str) -> None:
    """Print a line beside the results."""
    _print(line, sys.stderr)


def _print(line: str, stream: TextIO) -> None:
    text = "\n".join(map(printable, line.split("\n")))
    print(f"{text}\n", end="", file=stream, flush=True)  # in one piece: runs that train at once print in turns


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
    """progress=rich: the run's folder, and below it one live line."""

    def __init__(self) -> None:
        self._console = Console()
        self._line = LiveLine(console=self._console)

    def __enter__(self) -> Self:
        self._line.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._line.stop()

    def start(self, title: str, epochs: int, done: int) -> None:
        self._line.console.print(Text(title), soft_wrap=True)
        self._line.begin(epochs, done)

    def step(self, epoch: int, rows: int, of: int) -> None:
        self._line.move(epoch - 1 + rows / of, epoch)

    def epoch(self, row: Mapping[str, Any], line: str) -> None:
        self._line.show(row)


def make_view(progress: str) -> View:
    """The view of that name; 'auto' is rich on a terminal outside CI, else plain."""
    if progress == "auto":
        progress = "rich" if sys.stdout.isatty() and not os.environ.get("CI") else "plain"
    views = {"rich": RichView, "plain": PlainView, "none": NoView}
    return views[progress]()
