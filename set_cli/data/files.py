"""Upstream files: where they lie, and their content once its checksum is the catalogue's or the import's."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from set_cli.data.card import Card, Digest, Form, SourceFile
from set_cli.data.pins import Pin
from set_cli.data.readers.guard import one_line
from set_cli.data.readers.tar import read_members
from set_cli.errors import DataError
from set_cli.system.plain_files import open_plain

BLOCK = 2**20  # bytes read at a time

Origin = Literal["verified", "imported"]


class Altered(DataError):
    """A file that is not what the catalogue, or the import, says."""


@contextmanager
def advising(card: Card) -> Iterator[None]:
    """Add to an altered file's sentence what to do about it."""
    try:
        yield
    except Altered as error:
        raise DataError(
            f"{error}; `set-data fetch {card.name}` gets the published one, `set-data import {card.name} FILE "
            f"--unverified` takes your own copy in"
        ) from None


def data_folder(configured: str | None) -> Path:
    """Folder of the data sets: data.dir, else the environment variable SET_DATA_DIR, else ./datasets."""
    return Path(configured or os.environ.get("SET_DATA_DIR") or "datasets")


def find(folder: Path, file: SourceFile) -> Path | None:
    """The file in the data set's folder, compressed or not; whatever lies there under its name."""
    path = folder / file.name
    return next((p for p in (path, path.with_name(path.name + ".gz")) if os.path.lexists(p)), None)


def read_file(path: Path, file: SourceFile, pin: Pin | None, limit: int) -> tuple[bytes, Origin]:
    """The uncompressed content of a file whose checksum is right, and whose checksum that is.

    limit  bytes that the content may have where the catalogue does not know its size
    DataError where the file is altered, no plain file, or too large.
    """
    if pin is None and file.content and file.content.size is not None:
        limit = file.content.size
    with reading_file(path), open_plain(path) as stream:
        raw = _read_limited(stream, path, limit + BLOCK)
        if pin is not None:
            check_pin(raw, pin, path)
        elif _is_packed(path) and file.packed and not file.content:
            check_digest([raw], len(raw), file.packed, path)
        content = _unpack(raw, path, limit) if _is_packed(path) else raw
        if pin is not None:
            return content, "imported"
        if file.content:
            check_digest([content], len(content), file.content, path)
        elif not (_is_packed(path) and file.packed):
            raise Altered(f"{path}: no checksum of this file is known")
    return content, "verified"


def read_archive(path: Path, form: Form, files: tuple[SourceFile, ...]) -> dict[str, bytes]:
    """Content of the wanted members of a .tar.gz by name, each with the catalogue's checksum; nothing is extracted."""
    digests = {file.name: file.content for file in form.files if file.content is not None}
    sizes = {name: digest.size for name, digest in digests.items() if digest.size is not None}
    wanted = {file.name: sizes[file.name] for file in files if file.name in sizes}
    contents: dict[str, bytes] = {}
    with reading_file(path), open_plain(path) as stream, gzip.GzipFile(fileobj=stream) as archive:
        for name, content in read_members(archive, str(path), wanted, 2 * sum(sizes.values()) + BLOCK):
            check_digest([content], len(content), digests[name], Path(f"{path}:{name}"))
            contents[name] = content
    missing = ", ".join(sorted({file.name for file in files} - contents.keys()))
    if missing:
        raise DataError(f"{path}: {missing} not in the archive; fetch or import it again")
    return contents


def check_pin(raw: bytes, pin: Pin, path: Path) -> None:
    """DataError where the file is not the one that was imported."""
    _compare(hashlib.sha256(raw).hexdigest(), Digest("sha256", pin.sha256), path, "when it was imported")


def check_file(path: Path, digest: Digest) -> None:
    """DataError where the file as it lies there does not have this checksum; read block by block."""
    with reading_file(path), open_plain(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if digest.size is not None and size != digest.size:
            raise Altered(f"{path}: expected {digest.size:,} bytes, found {size:,}")
        check_digest(iter(lambda: stream.read(BLOCK), b""), size, digest, path)


def check_digest(blocks: Iterator[bytes] | list[bytes], size: int, digest: Digest, path: Path) -> None:
    """DataError where these blocks, of `size` bytes together, have another checksum."""
    _compare(hexadecimal(blocks, size, digest.algorithm), digest, path, "expected")


def hexadecimal(blocks: Iterator[bytes] | list[bytes], size: int, algorithm: str) -> str:
    """The checksum of these blocks; git-sha1 puts a header with their size before them."""
    name = "sha1" if algorithm == "git-sha1" else algorithm
    state = hashlib.new(name, b"blob %d\0" % size if algorithm == "git-sha1" else b"", usedforsecurity=False)
    for block in blocks:
        state.update(block)
    return state.hexdigest()


def _compare(found: str, digest: Digest, path: Path, when: str) -> None:
    if found != digest.value:
        raise Altered(f"{path}: {digest.algorithm} is {found[:12]}…, {when} {digest.value[:12]}…")


@contextmanager
def reading_file(path: Path) -> Iterator[None]:
    """DataError for what reading and unpacking a damaged file may raise."""
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        reason = one_line(str(error)) or type(error).__name__
        raise DataError(f"{path}: could not be read ({reason}); put an intact copy there") from None


def _is_packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _read_limited(stream: BinaryIO, path: Path, limit: int) -> bytes:
    size = os.fstat(stream.fileno()).st_size
    if size > limit:
        raise DataError(f"{path}: expected at most {limit:,} bytes, found {size:,}; put an intact copy there")
    return stream.read(size)


def _unpack(raw: bytes, path: Path, limit: int) -> bytes:
    """Unpack at most one byte more than allowed, so that a file that unpacks to gigabytes is refused cheaply."""
    content = io.BytesIO()  # grows with what is there: read(limit) would ask for the whole limit at once
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as unpacked:
        while content.tell() <= limit and (block := unpacked.read(min(BLOCK, limit + 1 - content.tell()))):
            content.write(block)
    if content.tell() > limit:
        raise DataError(f"{path}: expected at most {limit:,} bytes of content, found more; put an intact copy there")
    return content.getvalue()


def content_limit(card: Card) -> int:
    """Bytes that no file of this data set exceeds: 24 characters a cell in the wordiest format, and some room."""
    return 24 * card.rows * (card.features + 8) + BLOCK


def pin_of(pins: Mapping[str, Pin], folder: Path, path: Path) -> Pin | None:
    """The pin of a file in its data set's folder, if it was imported."""
    return pins.get(path.relative_to(folder).as_posix())
