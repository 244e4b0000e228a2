"""MATLAB's .mat, parsed in a child process: crafted files crash SciPy's reader, so they may take the child alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from set_cli.data.readers.guard import one_line, reading
from set_cli.data.readers.npz import MEMBERS, list_npz, read_npz
from set_cli.errors import DataError

SECONDS = 120
MEMORY = 2 * 2**30  # bytes of address space beyond the arrays themselves
LISTING = "/listing"  # the array in which the child says what else is in the file; no name in a .mat has a slash
NOT_READ = 3  # the child's exit code for a format that is none of ours
NUMBERS = "numbers"  # in the listing: what can be read


def read_mat(content: bytes, name: str, wanted: Collection[str], limit: int) -> dict[str, NDArray[Any]]:
    """The wanted numeric arrays of a .mat file (those that are there); limit is the bytes they may have together."""
    arrays, listing = explore_mat(content, name, wanted, limit)
    for key, (_, kind) in listing.items():
        if key in wanted and key not in arrays:
            raise DataError(f"{name}: malformed ({key}: expected an array of numbers, found {kind})")
    return {key: array for key, array in arrays.items() if key in wanted}


def explore_mat(
    content: bytes, name: str, wanted: Collection[str], limit: int
) -> tuple[dict[str, NDArray[Any]], dict[str, tuple[tuple[int, ...], str]]]:
    """The numeric arrays whose names are like the wanted ones (`plain`), and shape and type of all that is there.

    Arrays have the type that MATLAB gives them; sparse matrices come dense.
    """
    with tempfile.TemporaryDirectory(prefix="set-mat-") as folder:
        arrays = Path(folder, "arrays.npz")
        # -P: a source tree in the current folder must not shadow the installed package.
        command = [sys.executable, "-P", "-m", "set_cli.data.readers.mat_child", str(arrays), str(limit), *wanted]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # every thread's stack counts as address space
        try:
            child = subprocess.run(command, input=content, capture_output=True, timeout=SECONDS, env=environment)
        except subprocess.TimeoutExpired:
            raise DataError(f"{name}: malformed (not read within {SECONDS} s)") from None
        if child.returncode < 0:
            ended = next((s.name for s in signal.Signals if s == -child.returncode), f"signal {-child.returncode}")
            raise DataError(f"{name}: malformed (the process that read it was ended by {ended})")
        if child.returncode:
            lines = [line for line in child.stderr.decode(errors="replace").split("\n") if line.strip()]
            reason = one_line(lines[-1]) if lines else "no reason given"
            raise DataError(f"{name}: {reason}" if child.returncode == NOT_READ else f"{name}: malformed ({reason})")
        # From a process that a crafted file may have taken over: not trusted either.
        if not arrays.is_file():
            raise DataError(f"{name}: malformed (the process that read it left no arrays)")
        with reading(name), open(arrays, "rb") as stream:
            there = list_npz(stream, name)
            found = read_npz(stream, name, limit + 2**20, there)
            listing = _listing(found.pop(LISTING).tobytes())
    return found, listing


def plain(name: str) -> str:
    """A name without what people write differently: X_train, xTrain and x-train are one."""
    return re.sub(r"[^0-9a-z]", "", name.lower())


def _listing(content: bytes) -> dict[str, tuple[tuple[int, ...], str]]:
    rows = json.loads(content)[:MEMBERS]
    return {
        one_line(str(key))[:63]: (tuple(int(n) for n in shape[:32]), one_line(str(kind))) for key, shape, kind in rows
    }
