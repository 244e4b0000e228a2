"""MATLAB's .mat, parsed in a child process: crafted files crash SciPy's reader, so they may take the child alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from set_cli.data.readers.guard import one_line, reading
from set_cli.data.readers.npz import read_npz
from set_cli.errors import DataError

SECONDS = 120
MEMORY = 2 * 2**30  # bytes of address space beyond the arrays themselves


def read_mat(content: bytes, name: str, wanted: Collection[str], limit: int) -> dict[str, NDArray[Any]]:
    """The wanted numeric arrays of a .mat file (those that are there); limit is the bytes they may have together."""
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
            raise DataError(f"{name}: malformed ({one_line(lines[-1]) if lines else 'no reason given'})")
        # From a process that a crafted file may have taken over: not trusted either.
        if not arrays.is_file():
            raise DataError(f"{name}: malformed (the process that read it left no arrays)")
        with reading(name), open(arrays, "rb") as stream:
            return read_npz(stream, name, limit, wanted)
