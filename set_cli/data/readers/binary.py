"""Readers of the upstream formats: bytes in, arrays out. DataError for anything malformed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError

Bytes = NDArray[np.uint8]

MOST_DIMENSIONS = 4  # of an IDX file: images in colour
CIFAR_ROW = 1 + 3 * 32 * 32  # a label, then red, green and blue planes, row by row


def read_idx(content: bytes, name: str) -> Bytes:
    """The array of an IDX file of unsigned bytes (MNIST's format): big-endian sizes, then the values."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{name}: expected an IDX file of unsigned bytes, found the header {content[:4].hex()}")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise DataError(f"{name}: expected 1 to {MOST_DIMENSIONS} sizes in the header, found {dimensions}")
    if len(content) < start:
        raise DataError(f"{name}: the header promises {dimensions} sizes, the file ends before them")
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4"))
    if math.prod(shape) != len(content) - start or 0 in shape:
        raise DataError(f"{name}: the header promises {shape}, the file has {len(content) - start} values")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_cifar(content: bytes, name: str) -> tuple[Bytes, Bytes]:
    """(n, 3072) pixels and (n,) labels of a CIFAR-10 binary batch."""
    if not content or len(content) % CIFAR_ROW:
        raise DataError(f"{name}: expected rows of {CIFAR_ROW} bytes, found {len(content)} bytes")
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, CIFAR_ROW)
    return rows[:, 1:], rows[:, 0]
