"""The time that the parts of an epoch take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds of every part of the epoch in progress, by the part's name."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._running: list[str] = []  # parts, each within the one before it
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done within to this part; a part that is running already pauses meanwhile."""
        self._count()
        self._seconds.setdefault(name, 0.0)
        self._running.append(name)
        try:
            yield
        finally:
            self._count()
            self._running.pop()

    def begin_with(self, name: str, seconds: float) -> None:
        """Count these seconds to the part: of an epoch that is resumed."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    def so_far(self, name: str) -> float:
        """Seconds of a part that is running, or was; 0 of any other."""
        self._count()
        return self._seconds.get(name, 0.0)

    def take(self) -> dict[str, float]:
        """The seconds of all parts; begins again at none."""
        taken, self._seconds = self._seconds, {}
        return taken

    def _count(self) -> None:
        """Count the seconds since the last call to the innermost part."""
        now = time.perf_counter()
        if self._running:
            self._seconds[self._running[-1]] += now - self._since
        self._since = now
