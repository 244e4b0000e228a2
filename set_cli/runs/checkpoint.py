"""Checkpoints: everything needed to resume a run bit for bit, as arrays in an npz without pickles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError
from set_cli.runs.files import APPENDED, APPENDED_BEFORE
from set_cli.system.files import parse_json, read_arrays, remove, rename, write_arrays

CURRENT, PREVIOUS, FRESH = "checkpoint.npz", "checkpoint.prev.npz", "checkpoint.new.npz"
META = "meta"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after an epoch, or within the next one. After an epoch random streams need none: they are functions of
    seed and epoch.

    arrays   parameters, topology and optimiser state by name
    lengths  bytes of the appended files (metrics.jsonl, …) that belong to this state
    digests  SHA-256 of these bytes by the file's name; empty in a checkpoint of a version that kept none
    start    the last entry of run.json; empty as digests
    damage   what a newer checkpoint could not be used for; None where this one is the newest
    """

    identity: str
    epoch: int
    arrays: Mapping[str, NDArray[Any]]
    lengths: Mapping[str, int]
    digests: Mapping[str, str] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)
    damage: str | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Make this the current checkpoint and keep the one before; at every instant one of the two is whole.

    The current one has to be whole: `drop_damaged` removes one that is not.
    """
    meta = {
        "identity": checkpoint.identity,
        "epoch": checkpoint.epoch,
        "lengths": dict(checkpoint.lengths),
        "digests": dict(checkpoint.digests),
        "start": json.loads(json.dumps(checkpoint.start)),  # as it will be read
    }
    meta["sha256"] = _digest(meta, checkpoint.arrays)
    current = folder / CURRENT
    fresh = folder / FRESH
    write_arrays(fresh, {**checkpoint.arrays, META: np.frombuffer(json.dumps(meta).encode(), np.uint8)}, compress=False)
    if current.exists():
        rename(current, folder / PREVIOUS)
    rename(fresh, current)


def drop_damaged(folder: Path, checkpoint: Checkpoint) -> None:
    """Remove the newer checkpoint that could not be used: saving would put it in the place of the one that could."""
    if checkpoint.damage is not None:
        remove(folder / CURRENT)


def load_checkpoint(
    folder: Path, identity: str | None = None, check: Callable[[Checkpoint], object] = lambda checkpoint: None
) -> Checkpoint | None:
    """The newest checkpoint that can be read; None where there is none at all.

    check  raises DataError where the files beside a checkpoint are not those that it vouches for
    DataError where there are only damaged ones, or one of another run than `identity`.
    """
    damaged: DataError | None = None
    for name in (CURRENT, PREVIOUS, FRESH):  # the last is left where a process was killed between two renames
        path = folder / name
        if not path.exists() and not path.is_symlink():
            continue
        try:
            checkpoint = read_checkpoint(path, identity)
            check(checkpoint)
        except DataError as error:
            damaged = damaged or error
        else:
            return replace(checkpoint, damage=str(damaged)) if damaged else checkpoint
    if damaged:
        raise DataError(
            f"{damaged}; cannot resume: move the folder away, or train again from the start with resume=never"
        )
    return None


def read_checkpoint(path: Path, identity: str | None = None) -> Checkpoint:
    """The checkpoint in this file; DataError where it is damaged, or of another run than `identity`."""
    arrays = read_arrays(path, stored=True)
    try:
        meta = parse_json(arrays.pop(META).tobytes())
        checkpoint = Checkpoint(
            str(meta["identity"]),
            int(meta["epoch"]),
            arrays,
            _checked_lengths(meta["lengths"]),
            dict(meta.get("digests", {})),
            dict(meta.get("start", {})),
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: expected a checkpoint, found something else ({error!s:.200})") from None
    if meta.get("sha256") != _digest(meta, arrays):
        raise DataError(f"{path}: damaged, its content does not have the SHA-256 that it was written with")
    if identity is not None and checkpoint.identity != identity:
        raise DataError(f"{path}: expected the checkpoint of run {identity}, found that of {checkpoint.identity:.60}")
    return checkpoint


def _checked_lengths(lengths: Mapping[str, Any]) -> dict[str, int]:
    """The lengths, of our own files and no others: a file that a length names is cut."""
    if lengths.keys() not in (set(APPENDED), set(APPENDED_BEFORE)):
        raise ValueError(f"lengths of other files than a run appends to: {', '.join(map(repr, lengths))}")
    if not all(type(length) is int and length >= 0 for length in lengths.values()):
        raise ValueError("a length that is none")
    return dict(lengths)


def _digest(meta: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 of all that a checkpoint says. The archive's own CRC-32 of each array is too weak to vouch for a run."""
    digest = hashlib.sha256()
    head: Any = {key: value for key, value in meta.items() if key != "sha256"}
    if "digests" not in meta:  # written by a version that kept none
        head = [str(meta["identity"]), int(meta["epoch"]), sorted(meta["lengths"].items())]
    digest.update(json.dumps(head, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
