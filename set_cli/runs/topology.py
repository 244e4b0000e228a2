"""topology/epoch_NNNN.npz: the connectivity of every sparse layer after an epoch. Read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from set_cli.errors import DataError
from set_cli.runs.degrees import LARGEST_TOPOLOGY
from set_cli.runs.files import snapshot_epochs, snapshot_path
from set_cli.runs.summary import check_unaltered
from set_cli.sparse.pattern import Csr, check_pattern
from set_cli.system.files import read_arrays


def read_topology(path: Path, checksums: Mapping[str, str], epoch: int | None = None) -> dict[str, Csr]:
    """The pattern of every sparse layer after that epoch's evolution, default the last snapshot.

    checksums  SHA-256 of the run's files by name; empty for an older run that is not finished
    DataError where there is no such snapshot, it is not what the run wrote, or it breaks a pattern's invariants.
    """
    folder = path / "topology"
    if folder.is_symlink():
        raise DataError(f"{folder}: expected a folder, found a symbolic link")
    epochs = snapshot_epochs(path, checksums)
    if epoch is None and epochs:
        epoch = epochs[-1]
    if epoch not in epochs:
        raise DataError(f"{path}: no topology snapshot of epoch {epoch}; there are {epochs}")
    file = snapshot_path(path, epoch)
    check_unaltered(path, str(file.relative_to(path)), checksums, LARGEST_TOPOLOGY)
    arrays = read_arrays(file, LARGEST_TOPOLOGY)
    patterns = {}
    for name in dict.fromkeys(key.rpartition("/")[0] for key in arrays):  # the order of the layers
        try:
            n_in, n_out = arrays[f"{name}/shape"].astype(np.int64, casting="safe").tolist()
            patterns[name] = check_pattern(Csr(arrays[f"{name}/indptr"], arrays[f"{name}/indices"], (n_in, n_out)))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{file}: {name:.60} is no valid pattern ({error!s:.200})") from None
    return patterns
