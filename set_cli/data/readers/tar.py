"""Plain files of a .tar by name. Nothing is extracted; what headers promise is never allocated (tarfile would)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from set_cli.errors import DataError

RECORD = 512
SKIPPED = 2**20  # bytes read at a time of what is not wanted
PLAIN = (b"0", b"\0")
WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes, whatever their size says
# Where a header has what (POSIX.1-1988, which all later formats keep): name, size, checksum, type, magic, prefix.
NAME, SIZE, CHECKSUM, KIND = slice(0, 100), slice(124, 136), slice(148, 156), slice(156, 157)
MAGIC, PREFIX = slice(257, 263), slice(345, 500)


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


def read_members(stream: Stream, name: str, wanted: Mapping[str, int], most: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of the wanted plain files, whose sizes are given, in the archive's order, the first of each.

    most  bytes that the archive may have up to the last of them
    DataError where it is malformed, longer, or a wanted file has another size.
    """
    left = set(wanted)
    position = 0
    while left and (header := _exactly(stream, RECORD, name)).strip(b"\0"):
        size = 0 if header[KIND] in WITHOUT_CONTENT else _number(header[SIZE], name)
        if _number(header[CHECKSUM], name) != sum(header) - sum(header[CHECKSUM]) + 8 * ord(" "):
            raise DataError(f"{name}: malformed (no header of a file at byte {position:,})")
        rest = size + -size % RECORD
        position += RECORD + rest
        if position > most:
            raise DataError(f"{name}: expected at most {most:,} bytes in the archive, found more")
        member = _text(header[NAME])
        if header[MAGIC] == b"ustar\0" and header[PREFIX].strip(b"\0"):
            member = f"{_text(header[PREFIX])}/{member}"
        if member in left and header[KIND] in PLAIN:
            if size != wanted[member]:
                raise DataError(f"{name}: {member} has {size:,} bytes, expected {wanted[member]:,}")
            left.remove(member)
            yield member, _exactly(stream, size, name)
            rest -= size
        while rest:
            rest -= len(_exactly(stream, min(rest, SKIPPED), name))


def _exactly(stream: Stream, size: int, name: str) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise DataError(f"{name}: malformed (the archive ends in the middle of a file)")
    return content


def _number(field: bytes, name: str) -> int:
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise DataError(f"{name}: malformed (expected an octal number, found {field!r})")
    return int(digits or b"0", 8)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "replace")
