"""One run's folder: where it is, who works in it, and what is in it (the file table is in docs/run_folder.md)."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import stat
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from set_cli.config import Config, identity
from set_cli.errors import BusyError, ConfigError, DataError, DivergedError, Interrupted, SetError, StorageError
from set_cli.runs.checkpoint import CURRENT, FRESH, PREVIOUS, Checkpoint
from set_cli.runs.environment import code_changed
from set_cli.runs.files import APPENDED, CHECKSUMS, PART, SNAPSHOT
from set_cli.runs.inputs import INPUTS
from set_cli.runs.rows import check_rows
from set_cli.runs.summary import SUMMARY, read_summary
from set_cli.runs.written import Written
from set_cli.system.files import (
    TEMPORARY,
    append,
    canonical_json,
    make_folder,
    open_lock,
    overwrite,
    read_json,
    remove,
    write_atomic,
    write_json,
)
from set_cli.system.plain_files import open_plain

Status = Literal["running", "done", "interrupted", "diverged", "failed"]

LOCK, LOG = "run.lock", "train.log"
# What a run reads, writes or cuts in its folder.
OURS = {*APPENDED, CURRENT, PREVIOUS, FRESH, INPUTS, LOCK, LOG, "config.json", "run.json", "status.json", "params.json",
        SUMMARY, "degrees.npz", "error.txt"}  # fmt: skip


def folder_name(config: Config) -> str:
    """<method>-e<epsilon>-z<zeta>-s<seed>-<id>; what has no meaning for the method is left out."""
    parts: list[str] = [config.method.name]
    if config.method.facts.has_amount:
        parts.append(f"e{_short(config.epsilon)}" if config.density is None else f"d{_short(config.density)}")
    if config.method.evolves:
        parts.append(f"z{_short(config.zeta)}")
    return "-".join([*parts, f"s{config.seed}", identity(config)])


def _short(number: float) -> str:
    return f"{number:.10g}".replace("+", "")


def locate(config: Config) -> tuple[Path, Status | None]:
    """The folder this configuration belongs to and how its run stands; None where there is no run yet.

    The run's folder is its latest copy (…, …-2, …-3); resume=never gives the next one. ConfigError where resume=must
    finds nothing.
    """
    base = Path(config.runs_dir, config.dataset.name, config.model.name, folder_name(config))
    free = next(number for number in count(1) if not os.path.lexists(_copy(base, number)))
    if config.resume == "never":
        return _copy(base, free), None
    latest = _copy(base, max(free - 1, 1))
    _check_no_link(latest)
    try:
        status = read_status(latest)
    except DataError:  # nothing is lost with it: the run is resumed, and its status written anew
        status = "interrupted"
    if config.resume == "must" and status is None:
        raise ConfigError(f"resume=must: expected a run to resume in {base}, found none; resume=auto starts it")
    return latest, status


def _copy(base: Path, number: int) -> Path:
    """Folder of the run's first, second … copy."""
    return base if number == 1 else base.with_name(f"{base.name}-{number}")


def already_done(path: Path) -> str:
    """The sentence for a command whose run is finished."""
    return f"already done, skipped: {path}"


def read_status(path: Path) -> Status | None:
    """How the run in this folder stands; None where there is none, DataError where its status cannot be read."""
    if not os.path.lexists(path / "status.json"):
        return None
    status = read_json(path / "status.json")
    if not isinstance(status, dict) or status.get("status") not in Status.__args__:  # type: ignore[attr-defined]
        raise DataError(f"{path / 'status.json'}: expected a status out of {', '.join(Status.__args__)}")  # type: ignore[attr-defined]
    found: Status = status["status"]
    return found


def read_reason(path: Path) -> str:
    """What status.json says of why the run is not done; nothing where there is none to be read."""
    with suppress(DataError):
        return str(read_json(path / "status.json").get("reason") or "")
    return ""


def read_epoch(path: Path) -> int:
    """The epochs that are over, as status.json says; 0 where it cannot be read."""
    with suppress(DataError):
        epoch = read_json(path / "status.json").get("epoch")
        return epoch if isinstance(epoch, int) and epoch > 0 else 0
    return 0


def was_killed(path: Path) -> bool:
    """Whether a run that calls itself running cannot be: its process was on this machine, and is no more."""
    status = read_json(path / "status.json")
    pid = status.get("pid")
    if status.get("host") != socket.gethostname() or not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's process
        pass
    return False


def tries_again(path: Path, status: Status | None) -> bool:
    """Whether a sweep resumes a run by itself: it is new, was interrupted, or failed for want of room or time.

    Or another version of this program failed, whose fault or recipe it may have been.
    """
    if status not in ("failed", "diverged"):
        return True
    with suppress(DataError, LookupError, TypeError, AttributeError):
        return bool(read_json(path / "status.json").get("again")) or code_changed(read_json(path / "run.json")[-1])
    return False


def mark_failed(path: Path, reason: str, *, again: bool) -> None:
    """Say of a run whose process was killed that it failed, unless another process works on it by now."""
    with suppress(SetError):
        if read_status(path) == "running":
            epoch = read_json(path / "status.json").get("epoch")
            with RunFolder(path) as folder:
                folder.epoch = epoch
                folder.set_status("failed", reason, again=again)


class RunFolder:
    """A run folder that this process holds; as a context manager it records how the run ended.

    Raises BusyError where another process holds it, StorageError where it cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.epoch = 0  # completed epochs, as status.json says
        self._started = False  # before the first write a failure leaves the folder as it was
        self._done = False  # and after the last one too
        self.written = Written(path)
        _check_no_link(path)
        make_folder(path)
        self._lock = open_lock(path / LOCK)
        try:
            # A kernel lock is free the moment its holder dies: nothing stale is ever left.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise BusyError(
                f"{path}: another process{_holder(path)} works on this run; wait for it or stop it"
            ) from None
        try:
            _check_content(path)
        except BaseException:
            os.close(self._lock)
            raise
        for leftover in path.rglob(f"*{TEMPORARY}"):
            with suppress(OSError):
                leftover.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self._started and not self._done:
                with suppress(StorageError):  # the disk may be what failed; the first error is the one to report
                    self._record_failure(error)
        finally:
            os.close(self._lock)

    def _record_failure(self, error: BaseException) -> None:
        reason = str(error) if isinstance(error, SetError) else f"{type(error).__name__}: {error}"
        if isinstance(error, Interrupted | KeyboardInterrupt):
            self.set_status("interrupted", reason)
            return
        again = isinstance(error, SetError) and error.again
        self.set_status("diverged" if isinstance(error, DivergedError) else "failed", reason, again=again)
        # After the status, which is smaller: there may be room for one of them only.
        content = "".join(traceback.format_exception(error)).encode()
        write_atomic(self.path / "error.txt", lambda stream: stream.write(content))

    def set_status(self, status: Status, reason: str | None = None, *, again: bool = False) -> None:
        """Write status.json; again: whether a sweep tries a failed run again by itself."""
        value = {"status": status, "epoch": self.epoch, "reason": reason}
        if status == "failed":
            value["again"] = again
        if status == "running":
            value |= {"pid": os.getpid(), "host": socket.gethostname()}
        path = self.path / "status.json"
        try:
            write_json(path, value)
        except StorageError as error:
            is_full = isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)
            if status in ("running", "done") or not is_full or not path.exists():
                raise
            overwrite(path, canonical_json(value).encode())  # a disk that is full, or has no inode left, takes this
        self._done = status == "done"

    def write_config(self, scientific: Mapping[str, Any]) -> None:
        """Write config.json once; DataError where the folder holds another configuration."""
        path = self.path / "config.json"
        content = canonical_json(scientific).encode()
        if not path.exists():
            write_atomic(path, lambda stream: stream.write(content))
            return
        with open_plain(path, follow=False) as stream:
            found = stream.read(len(content) + 1)
        if found != content:
            raise DataError(f"{path}: expected this run's configuration, found another; move that folder away")

    def write_starts(self, starts: Sequence[Mapping[str, Any]]) -> None:
        """Write run.json: each start of the run has its entry. An earlier failure is history now."""
        self._started = True
        remove(self.path / "error.txt")
        write_json(self.path / "run.json", list(starts))

    def write_json(self, name: str, value: object) -> None:
        write_json(self.path / name, value)

    def check(self, checkpoint: Checkpoint) -> None:
        """Take up what a checkpoint vouches for; DataError where the folder does not have it."""
        written = Written.read(self.path, checkpoint.lengths, checkpoint.digests)
        written.check_snapshots()
        check_rows(self.path, checkpoint.lengths, checkpoint.epoch)
        self.written = written

    def is_done(self) -> bool:
        """Whether the run in this folder is finished; its status is written anew where that is damaged or gone."""
        try:
            status = read_status(self.path)
        except DataError:
            status = None
        if status is not None:
            return status == "done"
        try:
            summary = read_summary(self.path)
        except DataError:
            return False
        self.epoch = summary["epochs"]
        self.set_status("done")
        for name in (PART, CHECKSUMS):
            remove(self.path / name)
        return True

    def append_row(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a strict JSON object as a line to an appended file, on the disk when this returns."""
        self.written.append(name, json.dumps(row, allow_nan=False).encode() + b"\n")

    def log(self, line: str) -> None:
        """Add a line to train.log: what was printed."""
        append(self.path / LOG, line.encode() + b"\n", durable=False)


def _check_no_link(path: Path) -> None:
    """DataError where a folder is a symbolic link: what is written into it would land elsewhere."""
    if path.is_symlink():
        raise DataError(f"{path}: expected a folder, found a symbolic link; put the folder itself there, or give its "
                        "own place as runs_dir")  # fmt: skip


def _check_content(path: Path) -> None:
    """DataError where something stands in the place of one of our files that leads elsewhere, or is no file."""
    snapshots = path / "topology"
    _check_no_link(snapshots)
    found = [file for file in path.iterdir() if file.name in OURS]
    if snapshots.is_dir():
        found += [file for file in snapshots.iterdir() if SNAPSHOT.fullmatch(file.name)]
    for file in found:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            what = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "something else"
            raise DataError(f"{file}: expected a plain file, found {what}; remove it, or put the file itself there")
        if status.st_nlink > 1 and file.name in (*APPENDED, LOG):
            raise DataError(
                f"{file}: expected a file of its own, found one with a second name (a hard link), which would change "
                "with it; put a copy in its place"
            )


def _holder(path: Path) -> str:
    with suppress(DataError):
        pid = read_json(path / "status.json").get("pid")
        return f" (pid {pid})" if isinstance(pid, int) else ""
    return ""


def is_run_folder(names: Iterable[str]) -> bool:
    """Whether a folder with these files holds a run: it has a status or a configuration of ours."""
    return not {"status.json", "config.json"}.isdisjoint(names)
