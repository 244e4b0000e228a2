"""One run's folder: where it is, who works in it, and what is in it (the file table is in docs/run_folder.md)."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import traceback
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from set_cli.config import Config, identity
from set_cli.errors import BusyError, ConfigError, DataError, DivergedError, Interrupted, SetError, StorageError
from set_cli.runs.environment import code_changed
from set_cli.system.files import (
    TEMPORARY,
    append,
    append_row,
    canonical_json,
    make_folder,
    overwrite,
    read_json,
    remove,
    storage_errors,
    truncate,
    write_atomic,
    write_json,
)

Status = Literal["running", "done", "interrupted", "diverged", "failed"]

MOST_COPIES = 1000  # of one run, made with resume=never


def folder_name(config: Config) -> str:
    """<method>-e<epsilon>-z<zeta>-s<seed>-<id>; what has no meaning for the method is left out."""
    parts: list[str] = [config.method.name]
    if config.method.is_sparse:
        parts.append(f"e{_short(config.epsilon)}")
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
    copies = [base, *(base.with_name(f"{base.name}-{n}") for n in range(2, MOST_COPIES))]
    free = next(i for i, path in enumerate(copies) if not os.path.lexists(path))
    if config.resume == "never":
        return copies[free], None
    latest = copies[max(free - 1, 0)]
    status = read_status(latest)
    if config.resume == "must" and status is None:
        raise ConfigError(f"resume=must: expected a run to resume in {base}, found none; resume=auto starts it")
    return latest, status


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
        make_folder(path)
        with storage_errors(path / "run.lock"):
            self._lock = os.open(path / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # A kernel lock is free the moment its holder dies: nothing stale is ever left.
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise BusyError(
                f"{path}: another process{_holder(path)} works on this run; wait for it or stop it"
            ) from None
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
        elif path.read_bytes() != content:
            raise DataError(f"{path}: expected this run's configuration, found another; move that folder away")

    def add_start(self, start: Mapping[str, Any]) -> None:
        """Add one entry to run.json: each start of the run has its own. An earlier failure is history now."""
        self._started = True
        remove(self.path / "error.txt")
        path = self.path / "run.json"
        starts = read_json(path) if path.exists() else []
        write_json(path, [*starts, start])

    def write_json(self, name: str, value: object) -> None:
        write_json(self.path / name, value)

    def append_row(self, name: str, row: Mapping[str, Any]) -> None:
        append_row(self.path / name, row)

    def log(self, line: str) -> None:
        """Add a line to train.log: what was printed."""
        append(self.path / "train.log", line.encode() + b"\n", durable=False)

    def cut(self, lengths: Mapping[str, int]) -> None:
        """Shorten the appended files to the lengths (bytes) that a checkpoint vouches for; 0 removes a file.

        DataError where a file is shorter than that: rows are missing which nothing can bring back.
        """
        for name, length in lengths.items():
            path = self.path / name
            found = path.stat().st_size if path.exists() else 0
            if found < length:
                raise DataError(f"{path}: expected at least {length} bytes, found {found}; cannot resume")
            if length == 0:
                remove(path)
            elif found > length:
                truncate(path, length)

    def lengths(self, *names: str) -> dict[str, int]:
        """The sizes of these files in bytes, 0 where there is none."""
        return {name: (self.path / name).stat().st_size if (self.path / name).exists() else 0 for name in names}


def _holder(path: Path) -> str:
    with suppress(DataError):
        pid = read_json(path / "status.json").get("pid")
        return f" (pid {pid})" if isinstance(pid, int) else ""
    return ""


def is_run_folder(names: Iterable[str]) -> bool:
    """Whether a folder with these files holds a run: it has a status or a configuration of ours."""
    return not {"status.json", "config.json"}.isdisjoint(names)


SNAPSHOT = re.compile(r"epoch_(\d{4,})\.npz")


def snapshot_path(path: Path, epoch: int) -> Path:
    """topology/epoch_NNNN.npz: the topology after that epoch's evolution, 0 for the initial one."""
    return path / "topology" / f"epoch_{epoch:04d}.npz"


def snapshot_epochs(path: Path) -> list[int]:
    """The epochs of the snapshots in this run folder, ascending."""
    matches = (SNAPSHOT.fullmatch(file.name) for file in (path / "topology").glob("epoch_*.npz"))
    return sorted(int(match[1]) for match in matches if match)
