"""npz and npy without trust: every header is checked before memory is asked for, and nothing is unpickled."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from set_cli.data.readers.guard import reading
from set_cli.errors import DataError

MEMBERS = 1000  # more of them is no data file
HEADER = 10_000  # characters; numpy's own limit
DIMENSIONS = 8


def read_npz(stream: BinaryIO, name: str, limit: int, wanted: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an npz by name (only the wanted ones, where given); limit is the bytes they may have together."""
    arrays: dict[str, NDArray[Any]] = {}
    with reading(name), zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if len(members) > MEMBERS:
            raise DataError(f"{name}: expected at most {MEMBERS} arrays, found {len(members)}")
        left = limit
        for member in members:
            key = member.filename.removesuffix(".npy")
            if wanted is not None and key not in wanted:
                continue
            if key in arrays:
                raise DataError(f"{name}: two arrays are named {key}")
            with archive.open(member) as content:
                # ZipExtFile is a binary stream in all but its type.
                arrays[key] = _read_npy(content, f"{name}:{key}", member.file_size, left)  # type: ignore[arg-type]
            left -= arrays[key].nbytes
    return arrays


def _read_npy(stream: BinaryIO, name: str, size: int, limit: int) -> NDArray[Any]:
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{name}: expected an npy array of version 1 or 2, found {version}")
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = header(stream, max_header_size=HEADER)
    if dtype.hasobject or dtype.kind not in "buif":
        raise DataError(f"{name}: expected numbers, found values of type {dtype} (nothing was unpickled)")
    if len(shape) > DIMENSIONS or any(n < 0 for n in shape):
        raise DataError(f"{name}: expected the shape of a table, found {shape}")
    expected = math.prod(shape) * dtype.itemsize
    if expected > limit or expected > size:
        raise DataError(f"{name}: the header promises {expected:,} bytes, expected at most {min(limit, size):,}")
    content = stream.read(expected + 1)
    if len(content) != expected:
        raise DataError(f"{name}: the header promises {expected:,} bytes, found {len(content):,}")
    array = np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if by_columns else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
