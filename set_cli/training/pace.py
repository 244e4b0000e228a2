"""How many training steps a call of the compiled kernels does, and with how many threads: by measurement."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_CALL = 0.03  # seconds: so long a signal, the display and a checkpoint that is due wait, or one step
COMPARED_CALL = 0.01  # seconds, of calls whose threads are compared
ROW = 4  # calls in a row with as many threads; the first does not count, the system has yet to place the threads
SHORT_ROW = 2  # the same where one step takes as long
ROUNDS = 2  # of a row with fewer and a row with more threads
WORTH = 0.95  # of the time: what takes more of it is not worth more threads
HOLDS = 30.0  # seconds of training until the threads are compared again: others come to the machine and leave it
SHARE = 0.05  # of the time that comparing may take


class Pace:
    """The number of steps and threads of each call, from how long the calls before it took.

    The numbers that are computed depend on neither.

    most_threads  that may be used
    tried         whether fewer are tried too: one, two, four and so on, as long as they make it faster
    holds         seconds of training until they are tried again

    threads       of the next call
    asked         most_threads and tried
    """

    def __init__(self, most_threads: int, *, tried: bool, holds: float = HOLDS) -> None:
        self.asked = most_threads, tried
        most = max(1, most_threads)
        powers = [2**power for power in range(most.bit_length()) if 2**power < most]
        self._numbers = [*powers, most] if tried else [most]
        self._holds = holds
        self._at = 0  # of the numbers, the one that is kept
        self._is_settled = False
        self._per_step: dict[int, float] = {}  # seconds, by threads
        self._plan: list[int] = []
        self._spent = self._held = 0.0
        self.threads = self._numbers[0]

    @property
    def is_settled(self) -> bool:
        """Whether nothing is compared at the moment."""
        return self._is_settled and not self._plan

    @property
    def chosen(self) -> int | None:
        """The threads that are kept, where their number was compared."""
        return self._numbers[self._at] if self._is_settled and len(self._numbers) > 1 else None

    def steps(self, left: int) -> int:
        """How many steps the next call does, where so many are left."""
        per_step = self._per_step.get(self.threads)
        if per_step is None:
            return 1
        longest = COMPARED_CALL if self._plan else LONGEST_CALL
        return max(1, min(left, int(longest / per_step)))

    @contextmanager
    def call(self, steps: int) -> Iterator[None]:
        """Around a call of so many steps, with `threads`."""
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        is_first = not self._per_step
        self._per_step[self.threads] = seconds / steps
        if self._plan:
            self._spent += seconds
            self._add(seconds / steps)
        elif is_first:
            self._start()
        else:
            self._held += seconds
            if self._held > max(self._holds, self._spent / SHARE):
                self._start()

    def _start(self) -> None:
        """Compare the number that is kept with its neighbours; one thread with two at first."""
        self._held = self._spent = 0.0
        self._goes_up = self._goes_down = False
        if len(self._numbers) == 1:
            self._is_settled = True
        else:
            self._compare(max(0, self._at - 1))

    def _compare(self, lower: int) -> None:
        """Plan calls with this one of the numbers and with the next one."""
        self._lower = lower
        fewer, more = self._numbers[lower : lower + 2]
        row = SHORT_ROW if self._per_step.get(fewer, 0.0) > COMPARED_CALL else ROW
        self._plan = ([fewer] * row + [more] * row) * ROUNDS
        self._row = row
        self._seconds: dict[int, list[float]] = {fewer: [], more: []}
        self.threads = fewer

    def _add(self, per_step: float) -> None:
        """Count a call of a comparison, and choose the threads of the next one."""
        if len(self._plan) % self._row:
            self._seconds[self.threads].append(per_step)
        self._plan.pop(0)
        if self._plan:
            self.threads = self._plan[0]
            return
        of_fewer, of_more = (statistics.median(found) for found in self._seconds.values())
        is_faster = of_more < WORTH * of_fewer
        self._at = self._lower + is_faster
        self.threads = self._numbers[self._at]
        if is_faster and not self._goes_down and self._at + 1 < len(self._numbers):
            self._goes_up = True
            self._compare(self._at)
        elif not is_faster and not self._goes_up and self._at > 0:
            self._goes_down = True
            self._compare(self._at - 1)
        else:
            self._is_settled = True
