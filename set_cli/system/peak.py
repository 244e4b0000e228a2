"""The largest resident memory of this process, and how far something makes it rise."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # what Linux takes for "the largest is the present one"


@dataclass(slots=True)
class Rise:
    """How far memory rose, in MB (10^6 bytes); None while it is measured, and where the system does not say."""

    mb: float | None = None


class PeakMemory:
    """Measures the process's peak resident memory. There is one of it, since it resets the process's only counter."""

    def __init__(self) -> None:
        self._before = 0.0  # the largest before the counter was last reset

    def so_far(self) -> float:
        """The largest since the start of the process, in MB (10^6 bytes)."""
        peak = _counted()
        if peak is None:
            # On Linux this would begin with the memory of the process that started this one.
            used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            peak = used * (1 if sys.platform == "darwin" else 1024) / 1e6
        return round(max(self._before, peak), 1)

    @contextmanager
    def rise(self) -> Iterator[Rise]:
        """Measure how far the resident memory rises within above what it is at the start; not for nested use."""
        rise, start = Rise(), self._reset()
        yield rise
        peak = _counted()
        if start is not None and peak is not None:
            rise.mb = round(max(0.0, peak - start), 1)

    def _reset(self) -> float | None:
        """Begin to count from the present memory, which it returns; None where the system cannot."""
        before = _counted()
        try:
            CLEAR.write_text(RESET_PEAK)
        except OSError:
            return None
        self._before = max(self._before, before or 0.0)
        return _counted()


def _counted() -> float | None:
    """Linux's count of the largest resident memory, in MB; None on other systems."""
    with suppress(OSError, StopIteration):
        lines = STATUS.read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1e6
    return None


PROCESS = PeakMemory()
