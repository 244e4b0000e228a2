"""degrees.npz: in- and out-degree of every neuron of every sparse layer, every epoch.

During training the degrees are appended to degrees.part, one fixed-size record per epoch, so that recording costs the
same in every epoch; at the end they become one compressed npz.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError
from set_cli.runs.files import PART
from set_cli.runs.written import Written
from set_cli.system.files import read_arrays, sha256, write_arrays

FINAL = "degrees.npz"
LARGEST_TOPOLOGY = 2**33  # bytes of all degrees, or of a snapshot, that are read for study

Degrees = Mapping[str, NDArray[np.int32]]


def append_degrees(written: Written, degrees: Degrees) -> None:
    """Add one epoch; the same names and lengths in the same order every time."""
    written.append(PART, b"".join(np.ascontiguousarray(d, np.int32).tobytes() for d in degrees.values()))


def read_degrees(folder: Path, checksums: Mapping[str, str]) -> dict[str, NDArray[np.int32]]:
    """What degrees.npz holds of a finished run; nothing of a run without sparse layers.

    DataError where the file is not what the run wrote, or holds something else.
    """
    path = folder / FINAL
    if sha256(path, LARGEST_TOPOLOGY, follow=False) != checksums.get(FINAL):
        raise DataError(f"{path}: altered after the run")
    arrays = read_arrays(path, LARGEST_TOPOLOGY)
    for name, values in arrays.items():
        is_one = name.endswith(("/out_degree", "/in_degree")) and values.ndim == 2 and values.dtype == np.int32
        if not is_one or not values.size or values.min() < 0:
            raise DataError(f"{path}: expected degrees of every epoch, found {name!r:.60}")
    for layer in {name.rpartition("/")[0] for name in arrays}:
        if not _belong_together(arrays.get(f"{layer}/out_degree"), arrays.get(f"{layer}/in_degree")):
            raise DataError(f"{path}: the degrees of {layer!r:.60} are not those of one layer")
    return arrays


def degrees_as_appended(folder: Path, checksums: Mapping[str, str]) -> bytes:
    """What degrees.part of a finished run held: one record an epoch. DataError as `read_degrees`."""
    arrays = read_degrees(folder, checksums)
    return np.concatenate([*arrays.values()], axis=1).tobytes() if arrays else b""


def _belong_together(out: NDArray[np.int32] | None, into: NDArray[np.int32] | None) -> bool:
    """Whether there are layers whose inputs and outputs have these degrees: each connection has two ends."""
    if out is None or into is None or len(out) != len(into):
        return False
    fits = out.max() <= into.shape[1] and into.max() <= out.shape[1]
    return bool(fits) and np.array_equal(out.sum(axis=1, dtype=np.int64), into.sum(axis=1, dtype=np.int64))


def finish_degrees(folder: Path, lengths: Mapping[str, int]) -> None:
    """Write degrees.npz from degrees.part: '<layer>/out_degree' and '<layer>/in_degree', (rows, neurons) int32.

    Row 0 is the initial topology, row N the one after epoch N's evolution; methods that never evolve have row 0 only.
    degrees.part stays. DataError where its records are incomplete.
    """
    width = sum(lengths.values())
    part = folder / PART
    if width == 0:
        write_arrays(folder / FINAL, {}, compress=True)
        return
    if not part.exists() or part.stat().st_size % (4 * width):
        raise DataError(f"{part}: expected whole records of {width} degrees")
    records = np.memmap(part, dtype=np.int32, mode="r").reshape(-1, width)
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for name, length in lengths.items():
        arrays[name] = records[:, start : start + length]
        start += length
    write_arrays(folder / FINAL, arrays, compress=True)
