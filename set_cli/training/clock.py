"""The time that the parts of an epoch take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds of every part of the epoch in progress, by the part's name."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._started = 0.0
        self._running: str | None = None

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done within to this part; one part at a time."""
        self._started, self._running = time.perf_counter(), name
        self._seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self._seconds[name], self._running = self.so_far(name), None

    def begin_with(self, name: str, seconds: float) -> None:
        """Count these seconds to the part: of an epoch that is resumed."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def so_far(self, name: str) -> float:
        """Seconds of a part that is running, or was."""
        return self._seconds[name] + (time.perf_counter() - self._started if name == self._running else 0.0)

    def take(self) -> dict[str, float]:
        """The seconds of all parts; begins again at none."""
        taken, self._seconds = self._seconds, {}
        return taken
