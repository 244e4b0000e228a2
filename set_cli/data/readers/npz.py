"""npz and npy without trust: every header is checked before memory is asked for, and nothing is unpickled."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from set_cli.data.readers.guard import one_line, reading
from set_cli.errors import DataError

MEMBERS = 1000  # more of them is no data file
SIGNATURE = b"PK\x01\x02"  # of a zip's entry for one member
HEADER = 10_000  # characters; numpy's own limit
DIMENSIONS = 8
KINDS, WORDS = "buif", "US"  # of numbers, and of words, by NumPy's letters


def read_npz(
    stream: BinaryIO, name: str, limit: int, wanted: Collection[str], *, words: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """The wanted arrays of an npz (those that are there); limit is the bytes they may have together.

    words  those of them that may hold words instead of numbers
    """
    arrays: dict[str, NDArray[Any]] = {}
    _check_members(stream, name)
    with reading(name), zipfile.ZipFile(stream) as archive:
        left = limit
        for member in archive.infolist():
            key = member.filename.removesuffix(".npy")
            if key not in wanted:
                continue
            if key in arrays:
                raise DataError(f"{name}: two arrays are named {key}")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # zipfile unpacks the others without a limit.
                raise DataError(f"{name}:{key}: expected what numpy packs, found compression {member.compress_type}")
            kinds = KINDS + WORDS * (key in words)
            with archive.open(member) as content:
                # ZipExtFile is a binary stream in all but its type.
                arrays[key] = _read_npy(content, f"{name}:{key}", member.file_size, left, kinds)  # type: ignore[arg-type]
            left -= arrays[key].nbytes
    return arrays


def list_npz(stream: BinaryIO, name: str) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every array of an npz by its name, from the headers alone; DataError where one is malformed."""
    _check_members(stream, name)
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    with reading(name), zipfile.ZipFile(stream) as archive:
        for member in archive.infolist():
            if member.filename.endswith(".npy") and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                with archive.open(member) as content:
                    shape, _, dtype = _header(content, f"{name}:{member.filename}")  # type: ignore[arg-type]
                found[member.filename.removesuffix(".npy")] = (shape, one_line(str(dtype))[:30])
    stream.seek(0)
    return found


def _check_members(stream: BinaryIO, name: str) -> None:
    members = _count(stream, SIGNATURE)  # zipfile would make an object of each first
    if members > MEMBERS:
        raise DataError(f"{name}: expected at most {MEMBERS} arrays, found {members}")


def _count(stream: BinaryIO, word: bytes) -> int:
    """How often the word occurs in the whole stream, which is read block by block and rewound."""
    count, rest = 0, b""
    while block := stream.read(2**20):
        count += (rest + block).count(word)
        rest = (rest + block)[1 - len(word) :]
    stream.seek(0)
    return count


def _header(stream: BinaryIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether it is stored by columns, and type."""
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{name}: expected an npy array of version 1 or 2, found {version}")
    length = stream.read(2 if version == (1, 0) else 4)
    if int.from_bytes(length, "little") > HEADER:  # numpy would read it whole before it says so
        raise DataError(f"{name}: expected a header of at most {HEADER:,} characters, found more")
    text = io.BytesIO(length + stream.read(int.from_bytes(length, "little")))
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, by_columns, dtype = header(text, max_header_size=HEADER)
    return shape, by_columns, dtype


def _read_npy(stream: BinaryIO, name: str, size: int, limit: int, kinds: str) -> NDArray[Any]:
    shape, by_columns, dtype = _header(stream, name)
    if dtype.hasobject or dtype.kind not in kinds:
        kind = one_line(str(dtype))
        raise DataError(f"{name}: expected numbers, found values of type {kind} (nothing was unpickled)")
    if len(shape) > DIMENSIONS or not all(0 <= n < 2**63 for n in shape):
        raise DataError(f"{name}: expected the shape of a table, found {one_line(str(shape))}")
    expected = math.prod(shape) * dtype.itemsize
    if expected > min(limit, size):
        raise DataError(f"{name}: the header promises {expected:,} bytes, expected at most {min(limit, size):,}")
    content = stream.read(expected + 1)
    if len(content) != expected:
        raise DataError(f"{name}: the header promises {expected:,} bytes, found {len(content):,}")
    array = np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if by_columns else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)
