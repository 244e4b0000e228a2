"""Counts what a process does to files under one folder, and lets one of these calls fail, or the process die in it."""

from __future__ import annotations

import builtins
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KILLED = 137  # exit status of a process that SIGKILL ends

# Each takes a path or a descriptor first. Reading opens are not counted: they leave nothing behind.
CALLS = ("replace", "fsync", "truncate", "unlink", "mkdir", "rmdir")


class Faults:
    """Lets call number `at` under `folder` go wrong; 0: none does. `seen` lists the calls by name.

    how  an errno, with which the call fails, or None: the process dies there and then
    A stream's first write is a call too: it leaves half of its bytes behind.
    """

    def __init__(self, folder: Path, at: int, how: int | None) -> None:
        self.folder, self.at, self.how = str(folder), at, how
        self.seen: list[str] = []

    def call(self, name: str, half_done: Callable[[], object] = lambda: None) -> None:
        self.seen.append(name)
        if len(self.seen) != self.at:
            return
        half_done()
        if self.how is None:
            os._exit(KILLED)
        raise OSError(self.how, os.strerror(self.how))

    def is_ours(self, target: Any) -> bool:
        if isinstance(target, int):
            target = os.readlink(f"/proc/self/fd/{target}")
        return os.path.abspath(str(target)).startswith(self.folder)


@contextmanager
def watched(faults: Faults) -> Iterator[Faults]:
    """Calls of this process go through `faults` meanwhile."""
    originals = {name: getattr(os, name) for name in CALLS}
    open_file = builtins.open

    def counting(name: str) -> Callable[..., Any]:
        def call(target: Any, *arguments: Any, **named: Any) -> Any:
            is_there = name == "mkdir" and os.path.isdir(target)  # then nothing is to be done, and nothing fails
            if faults.is_ours(target) and not is_there:
                faults.call(name)
            return originals[name](target, *arguments, **named)

        return call

    def opening(target: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+") or not faults.is_ours(target):
            return open_file(target, mode, *arguments, **named)
        faults.call("open")
        return Torn(open_file(target, mode, *arguments, **named), faults)

    try:
        for name in CALLS:
            setattr(os, name, counting(name))
        builtins.open = opening  # type: ignore[assignment]
        yield faults
    finally:
        for name, original in originals.items():
            setattr(os, name, original)
        builtins.open = open_file


class Torn:
    """A file whose first write is a call that faults can strike."""

    def __init__(self, stream: Any, faults: Faults) -> None:
        self._stream, self._faults, self._untouched = stream, faults, True

    def write(self, content: Any) -> int:
        if self._untouched:
            self._untouched = False
            self._faults.call("write", lambda: self._half(content))
        return int(self._stream.write(content))

    def _half(self, content: Any) -> None:
        data = bytes(memoryview(content))
        self._stream.write(data[: len(data) // 2])
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *details: Any) -> None:
        self._stream.close()
