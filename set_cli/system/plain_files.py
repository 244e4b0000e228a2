"""Opening what should be a plain file and may be anything: a pipe, a device, a folder, a link to a file elsewhere."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

from set_cli.errors import DataError


def open_plain(path: Path, *, follow: bool = True) -> BufferedReader:
    """The file for reading; OSError where it cannot be opened, DataError where it is no plain file.

    follow  whether a symbolic link may stand for it: a file of ours never is one, a user's data may be
    """
    # O_NONBLOCK: opening a pipe that somebody put there must not wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise DataError(f"{path}: expected a plain file, found something else")
    return os.fdopen(descriptor, "rb")


def open_own(path: str | os.PathLike[str], flags: int, *, may_be_shared: bool = False) -> int:
    """The descriptor of a file of ours that is to be written to; DataError where it is a link or no plain file.

    may_be_shared  whether the file may have a second name (a hard link): of one that nothing is written into
    """
    try:
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DataError(f"{os.fspath(path)}: expected a file, found a symbolic link; remove it") from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or (found.st_nlink > 1 and not may_be_shared):
        os.close(descriptor)
        what = "one that has a second name (a hard link)" if stat.S_ISREG(found.st_mode) else "something else"
        raise DataError(f"{os.fspath(path)}: expected a plain file of its own, found {what}; put a copy in its place")
    return descriptor
