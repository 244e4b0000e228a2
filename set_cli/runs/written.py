"""What a run has written into its folder so far, vouched for by its checkpoints.

A checkpoint holds the length and the SHA-256 of every file that is appended to. The SHA-256 of what is written once
(the snapshots) are lines of one of these files, CHECKSUMS. So what a checkpoint holds, and what it costs to make, does
not grow with the run: a byte is hashed when it is written, and once when the run is resumed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from set_cli.errors import DataError
from set_cli.runs.files import APPENDED, CHECKSUMS, SNAPSHOT, snapshot_epochs, snapshot_name
from set_cli.system.files import append, canonical_json, make_folder, remove, sha256, truncate, write_arrays
from set_cli.system.plain_files import open_plain

if TYPE_CHECKING:
    from hashlib import _Hash

LINE = re.compile(rf"([0-9a-f]{{64}})  (topology/{SNAPSHOT.pattern})")  # as sha256sum writes and reads it
PIECE = 2**20  # bytes that are read at a time


@dataclass(slots=True)
class Appended:
    """The length of an appended file and the state of its SHA-256."""

    length: int = 0
    digest: _Hash = field(default_factory=hashlib.sha256)

    def add(self, content: bytes) -> None:
        self.length += len(content)
        self.digest.update(content)


class Written:
    """The appended files and the snapshots of a run, and how long and what they have to be.

    checksums  SHA-256 of the snapshots by their names in the folder
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._appended = {name: Appended() for name in APPENDED}
        self.checksums: dict[str, str] = {}

    @classmethod
    def read(cls, path: Path, lengths: Mapping[str, int], digests: Mapping[str, str]) -> Written:
        """What a checkpoint vouches for, read and compared; DataError where the folder does not have it.

        lengths  bytes of the appended files that belong to the checkpoint, or of those of them that matter
        digests  SHA-256 of these bytes; empty in a checkpoint of a version that kept none
        """
        written = cls(path)
        for name, length in lengths.items():
            written._appended[name] = _read_appended(path / name, length, digests.get(name))
        written.checksums = _read_checksums(path / CHECKSUMS, lengths.get(CHECKSUMS, 0))
        return written

    def check_snapshots(self) -> None:
        """DataError where a snapshot is not what the run wrote."""
        for name, expected in self.checksums.items():
            if sha256(self._path / name, follow=False) != expected:
                raise DataError(f"{self._path / name}: damaged, its SHA-256 is not that of what the run wrote")

    @property
    def lengths(self) -> dict[str, int]:
        """Bytes of the appended files by name."""
        return {name: appended.length for name, appended in self._appended.items()}

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the appended files by name."""
        return {name: appended.digest.hexdigest() for name, appended in self._appended.items()}

    def append(self, name: str, content: bytes) -> None:
        """Add to the end of a file, on the disk when this returns."""
        append(self._path / name, content, durable=True)
        self._appended[name].add(content)

    def add_snapshot(self, epoch: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write the topology after an epoch."""
        path = self._path / snapshot_name(epoch)
        make_folder(path.parent)
        write_arrays(path, arrays, compress=True)
        self.vouch_for_snapshot(epoch)

    def vouch_for_snapshot(self, epoch: int) -> None:
        """Note the SHA-256 of a snapshot that is there."""
        name = snapshot_name(epoch)
        self.checksums[name] = sha256(self._path / name, follow=False)
        self.append(CHECKSUMS, checksum_line(name, self.checksums[name]).encode())

    def cut(self) -> None:
        """Remove what is in the files beyond this, such as half a row of a process that was killed."""
        for name, appended in self._appended.items():
            path = self._path / name
            if appended.length == 0:
                remove(path)
            elif path.stat().st_size > appended.length:
                truncate(path, appended.length)

    def drop_other_snapshots(self) -> None:
        """Remove the snapshots that are not among these: of epochs that no checkpoint has seen."""
        for epoch in snapshot_epochs(self._path):
            if snapshot_name(epoch) not in self.checksums:
                remove(self._path / snapshot_name(epoch))


def checksum_line(name: str, digest: str) -> str:
    """The line of a snapshot."""
    return f"{digest}  {name}\n"


def params_digest(params: Mapping[str, Any]) -> str:
    """SHA-256 of params.json without what is filled in when the run ends.

    DataError where these are no parameters of layers.
    """
    try:
        rows = [*params["layers"], params["total"]]
        known = [{key: value for key, value in row.items() if key != "connections_final"} for row in rows]
        others = sorted(params.keys() - {"layers", "total"})
        content = canonical_json([known, [(key, params[key]) for key in others]])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"params.json: expected the parameters of layers, found something else ({error!s:.100})"
        ) from None
    return hashlib.sha256(content.encode()).hexdigest()


def _read_appended(path: Path, length: int, expected: str | None) -> Appended:
    """The first bytes of an appended file; DataError where it is shorter, or they have another SHA-256."""
    appended = Appended()
    try:
        if length:
            with open_plain(path, follow=False) as stream:
                while appended.length < length and (piece := stream.read(min(PIECE, length - appended.length))):
                    appended.add(piece)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror})") from None
    if appended.length < length:
        raise DataError(f"{path}: expected at least {length} bytes, found {appended.length}")
    if expected is not None and appended.digest.hexdigest() != expected:
        raise DataError(f"{path}: damaged, its first {length} bytes do not have the SHA-256 of what the run wrote")
    return appended


def _read_checksums(path: Path, length: int) -> dict[str, str]:
    """SHA-256 by name; DataError where a line names anything but a snapshot."""
    found: dict[str, str] = {}
    if not length:
        return found
    try:
        with open_plain(path, follow=False) as stream:
            lines = stream.read(length).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: could not be read ({error})") from None
    for number, line in enumerate(lines, start=1):
        match = LINE.fullmatch(line)
        if match is None:
            raise DataError(f"{path}, line {number}: expected the SHA-256 of a snapshot, found {line!r:.100}")
        found[match[2]] = match[1]
    return found
