"""Opening what should be a plain file and may be anything: a pipe, a device, a folder."""

from __future__ import annotations

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
