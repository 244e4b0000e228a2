"""Checkpoints: everything needed to resume a run bit for bit, as arrays in an npz without pickles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError
from set_cli.system.files import read_arrays, rename, write_arrays

CURRENT, PREVIOUS = "checkpoint.npz", "checkpoint.prev.npz"
META = "meta"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after an epoch, or within the next one. After an epoch random streams need none: they are functions of
    seed and epoch.

    arrays   parameters, topology and optimiser state by name
    lengths  bytes of the appended files (metrics.jsonl, …) that belong to this state
    """

    identity: str
    epoch: int
    arrays: Mapping[str, NDArray[Any]]
    lengths: Mapping[str, int]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Make this the current checkpoint and keep the one before; at every instant one of the two is whole."""
    meta = {
        "identity": checkpoint.identity,
        "epoch": checkpoint.epoch,
        "lengths": dict(checkpoint.lengths),
        "sha256": _digest(checkpoint),
    }
    current = folder / CURRENT
    fresh = folder / "checkpoint.new.npz"
    write_arrays(fresh, {**checkpoint.arrays, META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}, compress=False)
    if current.exists():
        rename(current, folder / PREVIOUS)
    rename(fresh, current)


def load_checkpoint(folder: Path, identity: str | None = None) -> Checkpoint | None:
    """The newest checkpoint that can be read; None where there is none at all.

    DataError where there are only damaged ones, or one of another run than `identity`.
    """
    damaged: DataError | None = None
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            return _read(path, identity)
        except DataError as error:
            damaged = damaged or error
    if damaged:
        raise DataError(
            f"{damaged}; cannot resume: move the folder away, or train again from the start with resume=never"
        )
    return None


def _read(path: Path, identity: str | None) -> Checkpoint:
    arrays = read_arrays(path)
    try:
        meta = json.loads(arrays.pop(META).tobytes())
        checkpoint = Checkpoint(str(meta["identity"]), int(meta["epoch"]), arrays, dict(meta["lengths"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: expected a checkpoint, found something else ({error})") from None
    if meta.get("sha256") != _digest(checkpoint):
        raise DataError(f"{path}: damaged, its content does not have the SHA-256 that it was written with")
    if identity is not None and checkpoint.identity != identity:
        raise DataError(f"{path}: expected the checkpoint of run {identity}, found that of {checkpoint.identity}")
    return checkpoint


def _digest(checkpoint: Checkpoint) -> str:
    """SHA-256 of all that a checkpoint says. The archive's own CRC-32 of each array is too weak to vouch for a run."""
    digest = hashlib.sha256()
    head = [checkpoint.identity, checkpoint.epoch, sorted(checkpoint.lengths.items())]
    digest.update(json.dumps(head).encode())
    for name, array in sorted(checkpoint.arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
