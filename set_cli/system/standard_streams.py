"""Standard streams that end nothing: a terminal may close, a reader leave, the disk behind stdout be full."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import TextIO, cast

from set_cli.errors import StorageError

NAMES = ("stdin", "stdout", "stderr")  # by the numbers of their descriptors


def secure_streams() -> None:
    """Make writing to this process's stdout and stderr never fail; each command calls this first.

    What cannot be written is dropped, and `code_of_output` tells so; a character that the stream's encoding lacks is
    escaped. A stream that was closed at the start (`>&-`) becomes /dev/null: else the next file to be opened would
    take its number, and what a library prints would go into that file.
    """
    for number in range(len(NAMES)):
        _occupy(number)
    for number, name in enumerate(NAMES):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r"))  # noqa: SIM115
        elif number and type(stream) is io.TextIOWrapper and stream.fileno() == number:  # not what a test reads
            setattr(sys, name, _lasting(stream, number))


def code_of_output() -> int:
    """0 where all that was printed was written, else the exit code of a command that has nothing else to give.

    1 where the reader is gone (`| head`, a closed terminal), who misses nothing; 6 and a sentence on stderr elsewhere.
    """
    sys.stdout.flush()
    raw = _raw(sys.stdout)
    if not isinstance(raw, Lasting) or raw.error is None:
        return 0
    if raw.error.errno in (errno.EPIPE, errno.EIO):
        return 1
    print(f"stdout: not all that was printed could be written ({raw.error.strerror})", file=sys.stderr)
    return StorageError.exit_code


class Lasting(io.FileIO):
    """A descriptor whose writes never fail: `error` is why the first of them would have."""

    error: OSError | None = None

    def write(self, data: memoryview | bytes) -> int:  # type: ignore[override]
        while True:
            try:
                written = cast("int | None", super().write(data))
                if written is not None:
                    return written
                select.select([], [self], [])  # a pipe that its other user set not to wait
            except OSError as error:
                self.error = self.error or error
                return memoryview(data).nbytes


def _occupy(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one, or that of another closed stream
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)


def _lasting(stream: io.TextIOWrapper, number: int) -> io.TextIOWrapper:
    """The stream again, on a descriptor whose writes never fail."""
    if isinstance(_raw(stream), Lasting):
        return stream
    with suppress(OSError):
        stream.flush()
    raw = Lasting(number, "wb", closefd=False)
    raw.name = f"<{NAMES[number]}>"
    return io.TextIOWrapper(
        io.BufferedWriter(raw),  # type: ignore[type-var]
        stream.encoding,
        "backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _raw(stream: TextIO) -> object:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
