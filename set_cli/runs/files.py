"""The names of the files that a run appends to, and of its snapshots."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

METRICS_FILE, TIMING_FILE = "metrics.jsonl", "timing.jsonl"
PART = "degrees.part"
CHECKSUMS = "checksums.part"  # SHA-256 of what is written once, as sha256sum writes it
APPENDED_BEFORE = (METRICS_FILE, TIMING_FILE, PART)  # by versions whose checkpoints hold lengths only
APPENDED = (*APPENDED_BEFORE, CHECKSUMS)

SNAPSHOT = re.compile(r"epoch_(\d{4,18})\.npz")


def snapshot_path(path: Path, epoch: int) -> Path:
    """topology/epoch_NNNN.npz: the topology after that epoch's evolution, 0 for the initial one."""
    return path / "topology" / f"epoch_{epoch:04d}.npz"


def snapshot_name(epoch: int) -> str:
    """The snapshot's name within the run folder."""
    return str(snapshot_path(Path(), epoch))


def snapshot_epochs(path: Path, checksums: Mapping[str, str] | None = None) -> list[int]:
    """The epochs of a run's snapshots, ascending.

    checksums  of a finished run: those that it wrote, whatever has become of them; empty or None: those in the folder
    """
    if checksums:
        names = [name.removeprefix("topology/") for name in checksums if name.startswith("topology/")]
    elif (path / "topology").is_symlink():  # which leads elsewhere
        names = []
    else:
        names = [file.name for file in (path / "topology").glob("epoch_*.npz")]
    epochs = {int(match[1]) for name in names if (match := SNAPSHOT.fullmatch(name))}
    return sorted(epoch for epoch in epochs if snapshot_path(path, epoch).name in names)
