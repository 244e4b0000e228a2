"""The folder in which the processes of one sweep meet, whatever launches them: outcomes, and whether to stop."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

from set_cli.system.files import locked, read_json, storage_errors, try_locked, write_json

POLL = 0.2  # seconds
PREFIX, OWNER = ".set-sweep-", "owner.lock"
VARIABLE = "SET_SWEEP_FOLDER"  # passes the folder to the runs' processes, and to Hydra's own files


class SweepFolder:
    """Folder in which the processes of a running sweep exchange results, locks and stop requests.

    The sweep's own process makes it, with a lock that it holds for as long as it lives, and removes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner: int | None = None

    @classmethod
    def of_this_process(cls) -> SweepFolder:
        return cls(Path(os.environ[VARIABLE]))

    def make(self) -> None:
        """Make the folder, if it is not there yet, and hold it."""
        if self._owner is None:
            with storage_errors(self._path):
                self._path.mkdir(0o700, exist_ok=True)
                new = self._path / f"{OWNER}.new"
                self._owner = os.open(new, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._owner, fcntl.LOCK_EX)
                new.rename(self._path / OWNER)  # there is none that is not locked while its owner lives

    def remove(self) -> None:
        """Remove the folder, if it was made."""
        with suppress(OSError):
            _remove(self._path)
        if self._owner is not None:
            os.close(self._owner)
            self._owner = None

    def note(self, number: int, outcome: Mapping[str, Any]) -> None:
        """Write the outcome of run `number`, instead of what was noted of it before."""
        write_json(self._path / f"outcome-{number:06d}.json", {"number": number, **outcome})

    def outcomes(self) -> list[dict[str, Any]]:
        """Outcomes in the order of the runs."""
        return [read_json(path) for path in sorted(self._path.glob("outcome-*.json"))]

    def has_started(self) -> bool:
        """Whether a run has noted anything."""
        return any(self._path.glob("outcome-*.json"))

    def alive(self, number: int) -> AbstractContextManager[object]:
        """Hold the lock that tells the sweep's other processes that run `number` is under way."""
        return try_locked(self._path / f"alive-{number:06d}.lock")

    def only_one(self, what: str, waiting: Callable[[], None]) -> AbstractContextManager[None]:
        """Hold the lock for `what`, so that no other process of the sweep does it at the same time."""
        name = hashlib.sha256(what.encode()).hexdigest()[:16]
        return locked(self._path / f"run-{name}.lock", waiting)

    def wait_for_others(self) -> None:
        """Wait until all started and submitted runs have ended; for queued ones, until a stop is requested."""
        submitted = len(list(self._path.glob(".submitit/*/*_submitted.pkl")))
        while True:
            started = [path.name[8:14] for path in self._path.glob("outcome-*.json")]
            busy = any(map(self._is_under_way, started))
            if not busy and (len(started) >= submitted or self.asked_to_stop() is not None):
                return
            time.sleep(POLL)

    def _is_under_way(self, number: str) -> bool:
        with try_locked(self._path / f"alive-{number}.lock") as free:
            return not free

    def ask_to_stop(self, number: int) -> None:
        """Ask every run of the sweep to stop as if it had received this signal, and no further run to start."""
        with suppress(FileNotFoundError):  # a single run has no such folder
            (self._path / "stop").write_text(str(number))

    def ask_to_die(self) -> None:
        """Ask every run to end at once."""
        with suppress(FileNotFoundError):
            (self._path / "die").touch()

    def asked_to_stop(self) -> int | None:
        """The signal that the sweep has received."""
        try:
            return int((self._path / "stop").read_text())
        except (OSError, ValueError):  # none, or not yet written
            return None

    def asked_to_die(self) -> bool:
        return (self._path / "die").exists()

    @contextmanager
    def one_of(self, places: Sequence[str], users: int) -> Iterator[str]:
        """Yield one of these places (GPUs); up to `users` runs share them as evenly as possible."""
        turns = -(-users // len(places))
        for turn in range(turns):
            for number, place in enumerate(places):
                with try_locked(self._path / f"place-{number}-{turn}.lock") as held:
                    if held:
                        yield place
                        return
        yield places[0]  # more runs than were said to come


def remove_abandoned(parent: Path) -> None:
    """Remove the folders of sweeps whose own process was killed."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another command removes it, or it is somebody else's
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
                _remove_if_abandoned(path)


def _remove_if_abandoned(path: Path) -> None:
    owner = os.open(path / OWNER, os.O_RDWR)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(owner)


def _remove(path: Path) -> None:
    """Remove the folder, its owner's lock last: what a process leaves that is killed here, the next sweep removes."""
    for found in path.iterdir():
        if found.is_dir() and not found.is_symlink():
            shutil.rmtree(found, ignore_errors=True)
        elif found.name != OWNER:
            found.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
