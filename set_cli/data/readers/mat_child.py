"""The child that reads a .mat from stdin: `python -m set_cli.data.readers.mat_child OUT.npz LIMIT NAME…`."""

from __future__ import annotations

import io
import json
import math
import resource
import sys
import warnings
from typing import Any

LONGEST_NAME = 63  # MATLAB's own limit


def main() -> int:
    from set_cli.data.readers.mat import MEMORY, NOT_READ, SECONDS

    out, limit, *names = sys.argv[1:]
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY + 3 * int(limit)),
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_FSIZE, int(limit) + 2**20),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
    content = sys.stdin.buffer.read()
    warnings.simplefilter("ignore")
    try:
        _convert(content, names, out, int(limit))
    except NotImplementedError:  # MATLAB 7.3 files are HDF5
        print("is a MATLAB 7.3 file (HDF5), which is not read; in MATLAB, save it with -v7", file=sys.stderr)
        return NOT_READ
    except Exception as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


def _convert(content: bytes, names: list[str], out: str, limit: int) -> None:
    """Write the numeric arrays of these names, and a listing of all."""
    import numpy as np
    import scipy.io

    from set_cli.data.readers.mat import LISTING, NUMBERS, plain

    try:
        there = [row for row in scipy.io.whosmat(io.BytesIO(content)) if len(row[0]) <= LONGEST_NAME]
    except TypeError:  # what SciPy raises at an opaque object, and at damage that reading tells apart
        there = [(name, (), "double") for name in _present(content, names)]
    like = {plain(name) for name in names}
    chosen = [name for name, *_ in there if name in names or plain(name) in like]
    # mat_dtype: MATLAB stores small whole doubles as bytes; they are doubles all the same.
    found = scipy.io.loadmat(io.BytesIO(content), variable_names=chosen, mat_dtype=True) if chosen else {}
    arrays, kinds = {}, {}
    for name in chosen:
        if name in found:
            array, kinds[name] = _numbers(found[name], limit)
            if array is not None:
                arrays[name] = array
    listing = [
        (name, [int(n) for n in shape], kinds.get(name, NUMBERS if kind in NUMERIC else kind))
        for name, shape, kind in there
    ]
    text = np.frombuffer(json.dumps(listing[:1000]).encode(), np.uint8)
    np.savez(out, allow_pickle=False, **{**arrays, LISTING: text})


def _present(content: bytes, names: list[str]) -> list[str]:
    """Those of the names that are in the file."""
    import scipy.io

    return [name for name in scipy.io.loadmat(io.BytesIO(content), variable_names=names) if name in names]


NUMERIC = {"double", "single", "logical", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))}


def _numbers(value: Any, limit: int) -> tuple[Any, str]:
    """The value as a dense array, or None, and what it is."""
    import numpy as np
    import scipy.sparse

    if scipy.sparse.issparse(value):
        needed = math.prod(value.shape) * value.dtype.itemsize
        if value.dtype.kind not in "buif" or needed > limit:
            return None, f"a sparse matrix of {needed:,} bytes when dense"
        return value.toarray(), "numbers"
    if type(value) is not np.ndarray:  # functions and objects are subclasses
        return None, type(value).__name__
    return (value, "numbers") if value.dtype.kind in "buif" else (None, str(value.dtype))


if __name__ == "__main__":
    sys.exit(main())
