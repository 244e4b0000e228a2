"""How many training steps a call of the compiled kernels does, and with how many threads: by measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_CALL = 0.03  # seconds: so long a signal, the display and a checkpoint that is due wait, or one step
COMPARED_CALL = 0.01  # seconds, of calls whose threads are compared
ROW = 4  # calls in a row with as many threads; the first does not count, the system has yet to place the threads
ROUNDS = 2  # of a row with fewer and a row with more threads
WORTH = 0.95  # of the time: what takes more of it is not worth more threads
HOLDS = 30.0  # seconds of training until the threads are compared again: others come to the machine and leave it


class Pace:
    """The number of steps and threads of each call, from how long the calls before it took.

    The numbers that are computed depend on neither.

    most_threads  that may be used
    tried         whether fewer are tried too: one, two, four and so on, as long as they make it faster

    threads       of the next call
    """

    def __init__(self, most_threads: int, *, tried: bool) -> None:
        self._most = max(1, most_threads)
        self._is_tried = tried
        self._per_step: float | None = None
        self.threads = self._most
        self._fewer = self._most
        self._start()

    def _start(self) -> None:
        self._held, self._plan = 0.0, list[int]()
        if self._is_tried and self._most > 1:
            self._compare(1)

    def _compare(self, fewer: int) -> None:
        """Plan calls with so many threads and with twice as many."""
        self._fewer, self._more = fewer, min(2 * fewer, self._most)
        self._plan = ([fewer] * ROW + [self._more] * ROW) * ROUNDS
        self._seconds: dict[int, list[float]] = {fewer: [], self._more: []}
        self.threads = fewer

    @property
    def chosen(self) -> int | None:
        """The threads of the latest call; None before the first."""
        return None if self._per_step is None else self.threads

    def steps(self, left: int) -> int:
        """How many steps the next call does, where so many are left."""
        if self._per_step is None:
            return 1
        longest = COMPARED_CALL if self._plan else LONGEST_CALL
        return max(1, min(left, int(longest / self._per_step)))

    @contextmanager
    def call(self, steps: int) -> Iterator[None]:
        """Around a call of so many steps, with `threads`."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        self._per_step = seconds / steps
        if self._plan:
            self._add(seconds / steps)
        else:
            self._held += seconds
            if self._held > HOLDS:
                self._start()

    def _add(self, per_step: float) -> None:
        """Count a call of a comparison, and choose the threads of the next one."""
        if len(self._plan) % ROW:
            self._seconds[self.threads].append(per_step)
        self._plan.pop(0)
        if self._plan:
            self.threads = self._plan[0]
            return
        of_fewer, of_more = (statistics.median(self._seconds[threads]) for threads in (self._fewer, self._more))
        self.threads = self._more if of_more < WORTH * of_fewer else self._fewer
        if self._fewer < self.threads < self._most:
            self._compare(self.threads)
