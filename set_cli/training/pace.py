"""How many training steps a call of the compiled kernels does, and with how many threads: by measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_CALL = 0.03  # seconds: so long a signal, the display and a checkpoint that is due wait, or one step
COMPARED_CALL = 0.01  # seconds, of calls whose threads are compared
ROUNDS = 3  # of a comparison: calls of each number of threads in turn
WORTH = 0.95  # of the time: what takes more of it is not worth more threads
HOLDS = 30.0  # seconds of training until the threads are compared again: others come to the machine and leave it


class Pace:
    """The number of steps and threads of each call, from how long the calls before it took.

    The numbers that are computed depend on neither.

    most_threads  that may be used
    tried         whether fewer are tried too: one, two, four and so on, as long as they make it faster
    """

    def __init__(self, most_threads: int, *, tried: bool) -> None:
        self._most = max(1, most_threads)
        self._is_tried = tried and self._most > 1
        self._per_step: float | None = None
        self._held = 0.0
        self._start_comparing()
        self.threads = 1 if self._is_tried else self._most

    def _start_comparing(self) -> None:
        self._best, self._next = 1, min(2, self._most)
        self._seconds: dict[int, list[float]] = {}

    @property
    def _is_comparing(self) -> bool:
        return self._is_tried and self._next > self._best

    @property
    def chosen(self) -> int | None:
        """The threads of the latest call; None before the first."""
        return None if self._per_step is None else self.threads

    def steps(self, left: int) -> int:
        """How many steps the next call does, where so many are left."""
        if self._per_step is None:
            return 1
        longest = COMPARED_CALL if self._is_comparing else LONGEST_CALL
        return max(1, min(left, int(longest / self._per_step)))

    @contextmanager
    def call(self, steps: int) -> Iterator[None]:
        """Around a call of so many steps, with `threads`."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        is_first, self._per_step = self._per_step is None, seconds / steps
        if self._is_comparing:
            if not is_first:  # memory is touched for the first time
                self._add(seconds / steps)
        elif self._is_tried:
            self._held += seconds
            if self._held > HOLDS:
                self._held = 0.0
                self._start_comparing()
                self.threads = 1

    def _add(self, per_step: float) -> None:
        """Count a call, and choose the threads of the next one."""
        best, larger = self._best, self._next
        self._seconds.setdefault(self.threads, []).append(per_step)
        if min(len(self._seconds.get(threads, ())) for threads in (best, larger)) < ROUNDS:
            self.threads = larger if self.threads == best else best
            return
        of_best, of_larger = (statistics.median(self._seconds.pop(threads)[-ROUNDS:]) for threads in (best, larger))
        if of_larger < WORTH * of_best:
            self._best, self._next = larger, min(2 * larger, self._most)
        else:
            self._next = best
        self.threads = self._best
