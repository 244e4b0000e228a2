"""HIGGS.csv.gz, 8 GB of text, converted once to arrays that are mapped into memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from set_cli.data.files import reading_file
from set_cli.data.parts import Part
from set_cli.data.readers.guard import reading, shown
from set_cli.data.readers.text import CELL, is_number
from set_cli.errors import DataError
from set_cli.system.files import make_folder, read_json, remove_folder, rename, storage_errors, write_json
from set_cli.system.plain_files import open_plain
from set_cli.system.progress import Bar

Table = NDArray[np.float32]

BLOCK = 16 * 2**20  # bytes of text parsed at a time; a line is far shorter
MOST_TEXT = 9_000_000_000  # bytes; upstream's file unpacks to 8,035,497,980
WORKING = ".converting-"  # begins the name of a folder that is not whole yet
FACTS, VALUES, LABELS = "converted.json", "x.f32", "y.u8"


def conversion_folder(folder: Path, sha256: str) -> Path:
    """Folder of the conversion of the file with this checksum."""
    return folder / f"converted-{sha256[:16]}"


def discard_conversions(folder: Path, current: Collection[str]) -> None:
    """Delete the conversions in a data set's folder that are of none of these checksums: each is 1.2 GB."""
    kept = {conversion_folder(folder, sha256) for sha256 in current}
    for path in folder.glob("converted-*"):
        if path not in kept:
            remove_folder(path)


def convert(source: Path, name: str, features: int, target: Path, bar: Bar) -> None:
    """Write the arrays of a csv(.gz) file, label first, into the folder `target`, whole or not at all.

    The caller holds the lock of the data set's folder: what another conversion left there was killed.
    DataError where the text is not `features` + 1 finite numbers a line with a label 0 or 1.
    """
    make_folder(target.parent)
    for left in target.parent.glob(f"{WORKING}*"):
        shutil.rmtree(left, ignore_errors=True)
    with storage_errors(target):
        working = target.parent / f"{WORKING}{os.getpid()}"
        working.mkdir()
    try:
        with storage_errors(target):
            sums = {VALUES: hashlib.sha256(), LABELS: hashlib.sha256()}
            rows = 0
            with open(working / VALUES, "wb") as values, open(working / LABELS, "wb") as labels:
                for table in _tables(source, name, features, bar):
                    rows += len(table)
                    for stream, array in ((values, table[:, 1:]), (labels, table[:, 0].astype(np.uint8))):
                        content = array.tobytes()
                        sums[Path(stream.name).name].update(content)
                        stream.write(content)
                for stream in (values, labels):
                    stream.flush()
                    os.fsync(stream.fileno())
            if not rows:
                raise DataError(f"{name}: expected lines of {features + 1} numbers, found none")
        sha256 = {key: value.hexdigest() for key, value in sums.items()}
        write_json(working / FACTS, {"rows": rows, "features": features, "sha256": sha256})
        rename(working, target)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def read_converted(target: Path, bar: Bar) -> Part:
    """The arrays of a conversion, mapped, their checksums compared; DataError where they are altered."""
    facts = read_json(target / FACTS, follow=True)
    try:
        rows, features, sha256 = int(facts["rows"]), int(facts["features"]), facts["sha256"]
        expected = {VALUES: (rows * features * 4, str(sha256[VALUES])), LABELS: (rows, str(sha256[LABELS]))}
        if min(rows, features) < 1:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{target / FACTS}: malformed; delete {target}, it is made again") from None
    for name, (size, digest) in expected.items():
        path = target / name
        with bar(f"checking {target.name}/{name}", size) as advance, reading_file(path), open_plain(path) as stream:
            state, found = hashlib.sha256(), 0
            while block := stream.read(2**20):
                state.update(block)
                found += len(block)
                advance(len(block))
        if found != size or state.hexdigest() != digest:
            raise DataError(f"{target / name}: altered after it was made; delete {target}, it is made again")
    # "c": changes would stay in memory. Torch warns about arrays that cannot be written to.
    x = np.memmap(target / VALUES, dtype="<f4", mode="c", shape=(rows, features))
    y = np.fromfile(target / LABELS, np.uint8)
    return Part(x, y.astype(np.int64))


def _tables(source: Path, name: str, features: int, bar: Bar) -> Iterator[Table]:
    """(rows, 1 + features) float32 tables of the whole text, some megabytes at a time."""
    line = 1
    expected = f"{name}: expected a label 0 or 1 and {features} finite numbers a line"
    with reading_file(source), open_plain(source) as packed:
        size = os.fstat(packed.fileno()).st_size
        text: BinaryIO = gzip.GzipFile(fileobj=packed) if source.suffix == ".gz" else packed  # type: ignore[assignment]
        with bar(f"converting {name}, once", size) as advance:
            done = 0
            for block in _whole_lines(text, CELL * (features + 1), expected):
                yield _parse(block, features, line, expected)
                line += block.count(b"\n")
                advance(packed.tell() - done)
                done = packed.tell()


def _whole_lines(text: BinaryIO, longest: int, expected: str) -> Iterator[bytes]:
    rest, total, line = b"", 0, 1
    while block := text.read(BLOCK):
        total += len(block)
        if total > MOST_TEXT:
            raise DataError(f"{expected}, found more than {MOST_TEXT:,} bytes of them")
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
        rest = block[cut:] if cut else rest + block
        line += block.count(b"\n")
        if len(rest) > longest:
            raise DataError(f"{expected}, found more than {longest:,} characters in line {line}")
    if rest.strip():
        yield rest + b"\n"


def _parse(block: bytes, features: int, line: int, expected: str) -> Table:
    """One block of whole lines, of which the first is line `line` of the file."""
    import pandas as pd  # half a second to import, for this format only

    options = {"header": None, "dtype": np.float32, "na_filter": False, "skip_blank_lines": False, "engine": "c"}
    table: Table = np.empty((0, 0), np.float32)
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    # pandas makes columns of whatever is in the first line, and a quote would hide the ends of lines.
    if np.diff(ends, prepend=-1).max() <= CELL * (features + 1) and b'"' not in block:
        with reading(expected), suppress(ValueError, OverflowError):
            frame = pd.read_csv(io.BytesIO(block), **options)  # type: ignore[call-overload]
            table = frame.to_numpy(np.float32)
    whole = table.shape == (len(ends), features + 1) and np.isfinite(table).all()
    if not whole or not ((table[:, 0] == 0) | (table[:, 0] == 1)).all():
        raise DataError(f"{expected}, {_first_bad_line(block, features, line)}")
    return table


def _first_bad_line(block: bytes, features: int, line: int) -> str:
    longest = CELL * (features + 1)
    for number, text in enumerate(io.BytesIO(block), start=line):
        if len(text) > longest:
            return f"found more than {longest:,} characters in line {number}"
        cells = text.rstrip(b"\r\n").split(b",")
        if len(cells) != features + 1:
            return f"found {len(cells)} columns in line {number}"
        for column, cell in enumerate(cells, start=1):
            if not is_number(cell) or (column == 1 and float(cell) not in (0, 1)):
                return f"found {shown(cell)} in line {number}, column {column}"
    return f"found something else from line {line} on"
