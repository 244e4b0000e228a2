"""The only functions that write into run and data folders: whole files atomically, rows appended and flushed."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from set_cli.errors import DataError, StorageError
from set_cli.system.plain_files import open_own, open_plain

TEMPORARY = ".tmp"  # suffix of what is being written; left over only after a kill
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAGIC = b"\x93NUMPY"
READ_HEADER = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
BLOCK = 512  # bytes, as os.stat counts them
LARGEST_JSON = 64 * 2**20  # bytes; a run's JSON files are a few kB


def write_atomic(path: Path, write: Callable[[BinaryIO], object], needed: int | None = None) -> None:
    """Replace `path` by what `write` puts into the stream: a reader sees the old file or the whole new one.

    needed  bytes that will be written, where they are known
    StorageError where the disk does not take it; the old file is then still there.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with storage_errors(path, needed):
            with _open_new(temporary) as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
    except BaseException:  # a full disk, or an interruption: nothing half-written stays
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _open_new(path: Path) -> BinaryIO:
    """A new file in place of what a killed process left; never what a link there leads to."""
    try:
        return open(path, "xb")
    except FileExistsError:
        path.unlink()
        return open(path, "xb")


@contextmanager
def storage_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """StorageError, which names the path, for any OSError; needed: the file's bytes, where they are known."""
    try:
        yield
    except OSError as error:
        room = _room(path, needed) if error.errno in NO_ROOM else ""
        raise StorageError(f"{path}: could not be written ({error.strerror or error}){room}") from error


def _room(path: Path, needed: int | None) -> str:
    """What there is too little of, in words: files, whatever bytes are free, or bytes."""
    with suppress(OSError):
        disk = os.statvfs(path.parent)
        if disk.f_files and not disk.f_favail:
            return "; the disk takes no more files (inodes), though it may have room: delete some"
    return "" if needed is None else f"; it takes {needed:,} bytes"


def overwrite(path: Path, content: bytes) -> None:
    """Put this in the place of a small file that is there, where the disk takes no new one beside it.

    One write, of no less than was there, into room that the file has: a process that is killed leaves the old content
    or the new.
    """
    with storage_errors(path, len(content)):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            found = os.fstat(descriptor)
            if len(content) > found.st_blocks * BLOCK:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.pwrite(descriptor, content.ljust(found.st_size), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make renames in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Rename within a folder, durably, replacing what is there."""
    with storage_errors(target):
        os.replace(source, target)
        _sync_folder(target.parent)


def remove(path: Path) -> None:
    """Delete a file, if it is there."""
    with storage_errors(path):
        path.unlink(missing_ok=True)


def remove_strays(folder: Path) -> None:
    """Delete what killed processes were writing in the folder or below; the caller holds the folder's lock."""
    for path in folder.rglob(f"*{TEMPORARY}"):
        remove(path)


def remove_folder(path: Path) -> None:
    """Delete a folder with what is in it, if it is there."""
    with storage_errors(path), suppress(FileNotFoundError):
        shutil.rmtree(path)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, if they are not there."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def check_writable(folder: Path) -> None:
    """StorageError where nothing can be written into a folder that may not be there yet; leaves nothing behind."""
    with storage_errors(folder):
        existing = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        with tempfile.TemporaryFile(dir=existing) as stream:
            stream.write(b"x")
            stream.flush()


def truncate(path: Path, length: int) -> None:
    """Shorten a file of ours to so many bytes; DataError where it is a link or no plain file."""
    with storage_errors(path):
        descriptor = open_own(path, os.O_WRONLY)
        try:
            os.truncate(descriptor, length)
        finally:
            os.close(descriptor)


def canonical_json(value: object) -> str:
    """Strict JSON with sorted keys: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: object) -> None:
    """Strict, canonical JSON; ValueError for NaN and infinity."""
    content = canonical_json(value).encode()
    write_atomic(path, lambda stream: stream.write(content))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], *, compress: bool) -> None:
    """An npz without pickles; names may contain '/'."""
    save = np.savez_compressed if compress else np.savez
    needed = None if compress else sum(array.nbytes for array in arrays.values())
    write_atomic(path, lambda stream: save(stream, allow_pickle=False, **arrays), needed)


def append(path: Path, content: bytes, *, durable: bool) -> None:
    """Add to the end of a file of ours; with durable=True it is on the disk when this returns.

    DataError where it is a link or no plain file: what it leads to may be anybody's.
    """
    with storage_errors(path), open(path, "ab", opener=open_own) as stream:
        stream.write(content)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())


def read_json(path: Path, *, follow: bool = False) -> Any:
    """The value of a strict JSON file without a key twice; DataError where there is none to be read.

    follow  whether a symbolic link may stand for it
    """
    try:
        with open_plain(path, follow=follow) as stream:
            content = stream.read(LARGEST_JSON + 1)
        if len(content) > LARGEST_JSON:
            raise DataError(f"{path}: expected a small JSON file, found more than {LARGEST_JSON} bytes")
        return parse_json(content)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: could not be read ({error})") from None


def read_arrays(path: Path, largest: int | None = None, *, stored: bool = False) -> dict[str, NDArray[Any]]:
    """The arrays of an npz without pickles; DataError where it is damaged.

    largest  bytes that the arrays may take, of a file that anybody may have written: a small one can unpack to any size
    stored   whether they were written uncompressed: then they take no more than the file
    """
    try:
        with open_plain(path, follow=False) as stream:
            size = os.fstat(stream.fileno()).st_size
            with np.load(stream, allow_pickle=False) as archive:
                _check_sizes(path, archive.zip, size if stored else largest, stored)
                return {name: archive[name] for name in archive.files}
    except DataError:
        raise
    except MemoryError:
        if largest is None:
            raise
        raise DataError(f"{path}: expected arrays that fit into memory") from None
    except Exception as error:  # numpy and zipfile raise a dozen kinds for a damaged archive
        raise DataError(f"{path}: could not be read ({error!s:.300})") from None


def _check_sizes(path: Path, archive: zipfile.ZipFile, largest: int | None, stored: bool) -> None:
    """DataError where the arrays would take more than that, or one of them another size than its place in the archive:
    numpy allocates what an array's header says before it reads the array."""
    members = archive.infolist()
    if stored and any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise DataError(f"{path}: expected uncompressed arrays, found compressed ones")
    if largest is not None and sum(member.file_size for member in members) > largest:
        raise DataError(f"{path}: expected arrays of at most {largest:,} bytes")
    for member in members:
        with archive.open(member) as stream:
            if stream.read(len(MAGIC)) != MAGIC:
                raise DataError(f"{path}: expected arrays and nothing else")
            stream.seek(0)
            header = READ_HEADER[np.lib.format.read_magic(stream)]
            shape, _, dtype = header(stream)
            if stream.tell() + math.prod(shape) * dtype.itemsize != member.file_size and not dtype.hasobject:
                raise DataError(f"{path}: {member.filename!r:.60} is not as large as its header says")


def sha256(path: Path, largest: int | None = None, *, follow: bool = True) -> str:
    """Hexadecimal SHA-256 of a file; DataError where it cannot be read, or has more than `largest` bytes.

    follow  whether a symbolic link may stand for it
    """
    try:
        with open_plain(path, follow=follow) as stream:
            if largest is not None and os.fstat(stream.fileno()).st_size > largest:
                raise DataError(f"{path}: expected at most {largest:,} bytes")
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: could not be read ({error.strerror})") from None


def parse_json(content: bytes | str) -> Any:
    """The value of strict JSON, without NaN, infinity or a key twice; ValueError, or RecursionError, for others."""
    return json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not strict JSON")


@contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the kernel lock of this file, made if need be; `waiting` is called before another holder is waited for.

    The lock is free the moment its holder dies: nothing stale is ever left.
    """
    with _lock_file(path) as descriptor:
        if not _lock_at_once(descriptor):
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def try_locked(path: Path) -> Iterator[bool]:
    """Take the lock if it is free, and yield whether it was. Never waits."""
    with _lock_file(path) as descriptor:
        yield _lock_at_once(descriptor)


def open_lock(path: Path) -> int:
    """The descriptor of a lock file, made if need be; DataError where it is a link or no plain file."""
    with storage_errors(path):
        return open_own(path, os.O_RDWR | os.O_CREAT, may_be_shared=True)


@contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    make_folder(path.parent)
    descriptor = open_lock(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_at_once(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
