"""The user's own file: which format it has, and its content once the checksum is right, unpacked within limits."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from set_cli.config import Dataset
from set_cli.data.files import reading_file
from set_cli.data.readers.guard import one_line, reading
from set_cli.errors import ConfigError, DataError
from set_cli.system.plain_files import open_plain

SMALL = 2**28  # bytes that any file may unpack to
RATIO = 200  # times its own size that a larger one may: 0/1 data packs 100:1, a bomb 1000:1
LARGEST_FILE = 2**35
BLOCK = 2**20  # bytes unpacked at a time
PEEK = 2**12  # bytes that tell the format of a file whose name does not
MEMBERS = 1000  # a zip with more is no packed table
SIGNATURE = b"PK\x01\x02"  # of a zip's entry for one member

Format = Literal["npz", "mat", "csv", "svmlight", "arff", "parquet"]
Packing = Literal["gz", "bz2", "xz", "zip"]
FORMATS: dict[str, Format] = {
    ".npz": "npz", ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".data": "csv", ".mat": "mat", ".svmlight": "svmlight",
    ".libsvm": "svmlight", ".svm": "svmlight", ".arff": "arff", ".parquet": "parquet",
}  # fmt: skip
PACKINGS: dict[str, Packing] = {".gz": "gz", ".bz2": "bz2", ".xz": "xz", ".zip": "zip"}
SUFFIXES = ".npz, .csv, .tsv, .txt, .data, .mat, .svmlight, .libsvm, .svm, .arff, .parquet"
SPARSE_LINE = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:#[^\n]*\n|\s)*[-+]?[0-9.]+(?:e[-+]?[0-9]+)?(?:[ \t]+(?:qid|[0-9]+):\S+)+"
)

# How files begin that are no tables, whatever their names say.
MAGIC = {
    b"\x1f\x8b": "a file packed by gzip: expected a name that ends in .gz",
    b"BZh": "a file packed by bzip2: expected a name that ends in .bz2",
    b"\xfd7zXZ\0": "a file packed by xz: expected a name that ends in .xz",
    b"PK\x03\x04": "a zip archive or an Excel file: expected text (save the sheet as .csv)",
    b"\xd0\xcf\x11\xe0": "an Excel file: expected text (save the sheet as .csv)",
    b"PAR1": "a Parquet file: expected a name that ends in .parquet",
    b"\x93NUMPY": "a NumPy array: expected text (numpy.savez makes an .npz)",
    b"%PDF": "a PDF: expected text",
}


def check_path(path: str, key: str = "dataset.path") -> Path:
    """ConfigError unless the file's name, or its first line, says what format it has; DataError for a folder."""
    if Path(path).is_dir():
        raise DataError(f"{key}={path}: expected a plain file, found a folder; name the table in it{_tables_in(path)}")
    if _format_of_name(Path(path)) is None and not _looks_sparse(Path(path)):
        raise ConfigError(
            f"{key}={path}: expected a file that ends in {SUFFIXES} (each also packed as .gz, .bz2, .xz or .zip); "
            f"for LIBSVM's format under another name, give it the suffix .svmlight"
        )
    return Path(path)


def _tables_in(folder: str) -> str:
    """The first table of a folder, or that it has none, as the end of a sentence."""
    try:
        names = sorted(path.name for path in Path(folder).iterdir() if _format_of_name(path) and path.is_file())
    except OSError:  # a folder that we may not look into
        return ""
    return f", such as {one_line(str(Path(folder, names[0])))}" if names else f" (it has none that ends in {SUFFIXES})"


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """What is in a file, unpacked.

    limit  bytes that its arrays may take
    """

    path: Path
    data: bytes
    format: Format
    limit: int


def read_content(path: Path, sha256: str) -> Content:
    """The content of the file of that checksum.

    DataError where the file is missing, no plain file, changed, too large, or cannot be unpacked.
    """
    with reading_file(path), open_plain(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > LARGEST_FILE:
            raise DataError(f"{path}: expected at most {LARGEST_FILE:,} bytes, found {size:,}")
        content = stream.read(size)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: changed, its sha256 was {sha256[:12]}… when the command started")
    limit = max(SMALL, RATIO * size)
    name, packing = path, _packing(path)
    if packing is not None:
        name = path.with_suffix("")
        content, member = _unpack(content, packing, str(path), limit)
        if member and _format_of_name(Path(member)):
            name = Path(member)
    found = _format_of_name(name)
    if found in (None, "csv") and SPARSE_LINE.match(content[:PEEK]):
        found = "svmlight"
    if found is None:
        raise DataError(f"{path}: expected a table that ends in {SUFFIXES}, found {one_line(name.name)!r}")
    if found in ("csv", "svmlight", "arff"):
        check_is_text(content, str(path))
    return Content(path, content, found, limit)


def custom_checksums(dataset: Dataset) -> dict[str, str]:
    """The checksum of every file of the data set by its name, as a run's record has it."""
    assert dataset.path is not None
    found = {Path(dataset.path).name: f"sha256:{dataset.checksum}"}
    if dataset.test_path is not None:
        name = Path(dataset.test_path).name
        found[f"{name} (test rows)" if name in found else name] = f"sha256:{dataset.test_checksum}"
    return found


def check_is_text(content: bytes, name: str) -> None:
    """DataError where the content begins as a known format that is no text."""
    for magic, what in MAGIC.items():
        if content.startswith(magic):
            raise DataError(f"{name}: is {what}")
    if re.match(rb"\s*<(!doctype|html|\?xml)", content[:200], re.IGNORECASE):
        raise DataError(f"{name}: is a web page or XML: expected a table; download the file itself")


def _packing(path: Path) -> Packing | None:
    return PACKINGS.get(path.suffix.lower())


def _format_of_name(path: Path) -> Format | None:
    """The format that the name says; of a .zip its member may still say another."""
    packing = _packing(path)
    if packing is None:
        return FORMATS.get(path.suffix.lower())
    inner = FORMATS.get(path.with_suffix("").suffix.lower())
    return inner or ("csv" if packing == "zip" else None)


def _looks_sparse(path: Path) -> bool:
    """Whether a file of another name begins with a line of LIBSVM's format; not so where it cannot be read."""
    try:
        with open_plain(path) as stream:
            packing = _packing(path)
            source = stream if packing in (None, "zip") else _opened(stream, packing)
            head = source.read(PEEK)
    except (OSError, EOFError, ValueError, lzma.LZMAError, DataError):
        return False
    return SPARSE_LINE.match(head) is not None


def _opened(stream: IO[bytes], packing: Packing | None) -> IO[bytes]:
    match packing:
        case "gz":
            return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]  # a binary stream in all but its type
        case "bz2":
            return bz2.BZ2File(stream)
        case _:
            return lzma.LZMAFile(stream)


def _unpack(content: bytes, packing: Packing, name: str, limit: int) -> tuple[bytes, str]:
    """The content of the packed file, and for a zip the name of its only member ('' for the others)."""
    with reading(name):
        if packing == "zip":
            return _unpack_zip(content, name, limit)
        with _opened(io.BytesIO(content), packing) as stream:
            return _bounded(stream, name, limit), ""


def _unpack_zip(content: bytes, name: str, limit: int) -> tuple[bytes, str]:
    if content.count(SIGNATURE) > MEMBERS:  # zipfile would make an object of each first
        raise DataError(f"{name}: expected one table in the archive, found more than {MEMBERS} files")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if len(members) != 1:
            found = one_line(", ".join(m.filename for m in members)) or "none"
            raise DataError(f"{name}: expected one table in the archive, found {found}")
        if members[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # zipfile unpacks the others without a limit.
            raise DataError(f"{name}: expected a zip that is stored or deflated, found another compression")
        with archive.open(members[0]) as stream:
            return _bounded(stream, name, limit), members[0].filename


def _bounded(stream: IO[bytes], name: str, limit: int) -> bytes:
    """Unpack at most one block more than allowed, so that a bomb is refused cheaply."""
    content = io.BytesIO()
    while content.tell() <= limit and (block := stream.read(BLOCK)):
        content.write(block)
    if content.tell() > limit:
        raise DataError(f"{name}: expected at most {limit:,} bytes of content, found more")
    return content.getvalue()
