"""SIGINT and SIGTERM as a request to stop between two steps."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from set_cli.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
Handler = Callable[[int, FrameType | None], object] | int | None


def _nothing() -> None:
    pass


class StopSignals:
    """While active, the first signal is remembered until `check`; a second one ends the process at once.

    Handlers are set even where the shell started us with SIGINT ignored (a command in the background of a script).
    before_exit is called before the second signal's exit: for a child that must not outlive us.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.before_exit: Callable[[], object] = _nothing
        self._before: dict[int, Handler] = {}
        self._at_once: str | None = None

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self.before_exit()
            os._exit(128 + number)
        self.received = number
        if self._at_once is not None:
            self.check(self._at_once)

    @contextmanager
    def at_once(self, what: str) -> Iterator[None]:
        """Within, a signal raises Interrupted where the program stands: for waits that have no steps between them."""
        self.check(what)
        self._at_once = what
        try:
            yield
        finally:
            self._at_once = None
        self.check(what)

    def check(self, what: str) -> None:
        """Raise Interrupted where a signal came in; `what` says what stays behind."""
        if self.received is not None:
            raise Interrupted(self.received, f"interrupted by {signal.Signals(self.received).name}; {what}")
