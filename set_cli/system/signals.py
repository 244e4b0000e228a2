"""SIGINT and SIGTERM as a request to stop between two steps; how long a run may take."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from set_cli.errors import Interrupted, TimeIsUp

SIGNALS = (signal.SIGINT, signal.SIGTERM)
UNDER_TORCHRUN = "TORCHELASTIC_RUN_ID"
NOT_STARTED = "this run had not started"  # of a sweep others may have
Handler = Callable[[int, FrameType | None], object] | int | None


def _nothing() -> None:
    pass


class StopSignals:
    """While active, the first signal is remembered until `check`; a second one ends the process at once.

    Handlers are set even where the shell started us with SIGINT ignored (a command in the background of a script). A
    terminal that is closed (SIGHUP) ends nothing.
    on_first is called with the first signal; before_exit before the second one's exit: for what must not outlive us.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.on_first: Callable[[int], object] = lambda number: None
        self.before_exit: Callable[[], object] = _nothing
        self._before: dict[int, Handler] = {}
        self._at_once: str | None = None
        self._paused = False
        self._minutes, self._deadline = math.inf, math.inf

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        if UNDER_TORCHRUN in os.environ:  # which hands a terminal's Ctrl-C on as a SIGTERM: a second signal
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._before[signal.SIGCONT] = signal.signal(signal.SIGCONT, self._note_pause)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # a sweep's child is born with them blocked
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
        self.on_first(number)
        if self._at_once is not None:
            self.check(self._at_once)

    def _note_pause(self, number: int, frame: FrameType | None) -> None:
        self._paused = True

    def was_paused(self) -> bool:
        """Whether the process was stopped (Ctrl-Z) and continued since the last call."""
        paused, self._paused = self._paused, False
        return paused

    def limit(self, minutes: float | None) -> None:
        """Make `check` raise TimeIsUp once so many minutes are over; None: never."""
        self._minutes = math.inf if minutes is None else minutes
        self._deadline = time.monotonic() + 60 * self._minutes

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

    @property
    def is_asked(self) -> bool:
        """Whether `check` would raise."""
        return self.received is not None or time.monotonic() > self._deadline

    def check(self, what: str) -> None:
        """Raise Interrupted where a signal came in, TimeIsUp after the time limit; `what` says what stays behind."""
        if self.received is not None:
            raise Interrupted(self.received, f"interrupted by {signal.Signals(self.received).name}; {what}")
        if time.monotonic() > self._deadline:
            raise TimeIsUp(f"time_limit={self._minutes:g}: the run took more minutes; {what}")
