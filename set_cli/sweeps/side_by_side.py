"""Several runs of a sweep at once: a thread for each, which waits for the run's process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from set_cli.system.signals import SIGNALS

T = TypeVar("T")


class SideBySide:
    """Does at most `places` pieces of work at a time; `errors` are those that the ended ones raised.

    The processes are children of this one, so nothing is between the sweep and its runs that could be killed alone.
    """

    def __init__(self, places: int) -> None:
        self._free = threading.Semaphore(places)
        self._threads: list[threading.Thread] = []
        self.errors: list[Exception] = []

    def start(self, work: Callable[[], None]) -> None:
        """Begin with the work, once there is a free place; signals are handled meanwhile."""
        self._free.acquire()
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._do, args=(work,), daemon=True)
        thread.start()
        self._threads.append(thread)

    def wait(self) -> None:
        """Return when all is done."""
        for thread in self._threads:
            thread.join()

    def _do(self, work: Callable[[], None]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they are the main thread's, which waits and would not wake
        try:
            work()
        except Exception as error:
            self.errors.append(error)
        finally:
            self._free.release()


def settled(work: Callable[[], T]) -> Callable[[], T]:
    """Do the work now; what is returned gives its result, or raises its error, whenever it is called."""
    future: Future[T] = Future()
    try:
        future.set_result(work())
    except Exception as error:
        future.set_exception(error)
    return future.result
