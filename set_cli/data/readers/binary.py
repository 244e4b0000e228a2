"""Readers of the upstream formats: bytes in, arrays out. DataError for anything malformed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError

Bytes = NDArray[np.uint8]

CIFAR_ROW = 1 + 3 * 32 * 32  # a label, then red, green and blue planes, row by row


def read_idx(content: bytes, name: str) -> Bytes:
    """The array of an IDX file of unsigned bytes (MNIST's format): big-endian sizes, then the values."""
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"{name}: expected an IDX file of unsigned bytes, found the header {content[:4].hex()}")
    dimensions = content[3]
    start = 4 + 4 * dimensions
    shape = tuple(int(n) for n in np.frombuffer(content[4:start], dtype=">u4"))
    if len(shape) != dimensions or math.prod(shape) != len(content) - start:
        raise DataError(f"{name}: the header promises {shape}, the file has {max(len(content) - start, 0)} values")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def read_cifar(content: bytes, name: str) -> tuple[Bytes, Bytes]:
    """(n, 3072) pixels and (n,) labels of a CIFAR-10 binary batch."""
    if not content or len(content) % CIFAR_ROW:
        raise DataError(f"{name}: expected rows of {CIFAR_ROW} bytes, found {len(content)} bytes")
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, CIFAR_ROW)
    return rows[:, 1:], rows[:, 0]
