"""Upstream files, checked before anything in them is parsed."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path
from typing import BinaryIO

from set_cli.data.catalog import Card, SourceFile
from set_cli.errors import DataError
from set_cli.plain_files import open_plain


def data_folder(configured: str | None) -> Path:
    """Where the data sets lie: data.dir, else the environment variable SET_DATA_DIR, else ./datasets."""
    return Path(configured or os.environ.get("SET_DATA_DIR") or "datasets")


def read_files(card: Card, folder: Path, *, with_test: bool) -> dict[str, bytes]:
    """The content of the set's files by upstream name, each with the catalogue's size and checksum.

    DataError where one is missing, altered or not a plain file; missing ones are named together.
    """
    wanted = [file for file in card.files if with_test or file.role == "train"]
    found = {file: _find(folder / card.name / file.name) for file in wanted}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        raise DataError(_missing_sentence(card, folder, missing))
    return {file.name: _read_checked(path, file) for file, path in found.items() if path is not None}


def _find(path: Path) -> Path | None:
    return next((p for p in (path, path.with_name(path.name + ".gz")) if p.exists()), None)


def _missing_sentence(card: Card, folder: Path, missing: list[SourceFile]) -> str:
    names = ", ".join(file.name for file in missing)
    sentence = (
        f"{card.name}: {names} (or .gz) not found in {(folder / card.name).absolute()}; download from {card.source} "
        f"and put the files there, or say where they are with data.dir=… or SET_DATA_DIR"
    )
    if all(file.role == "test" for file in missing):
        sentence += "; data.holdout=N tests on the last N training rows and needs no test file"
    return sentence


def _read_checked(path: Path, file: SourceFile) -> bytes:
    try:
        with open_plain(path) as stream:
            content = _read_limited(stream, path, file.size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: could not be read ({error}); put an intact copy there") from None
    digest = hashlib.new(file.algorithm, content, usedforsecurity=False).hexdigest()
    if digest != file.digest:
        raise DataError(
            f"{path}: {file.algorithm} of the content is {digest[:12]}…, expected {file.digest[:12]}…; "
            f"put an intact copy there"
        )
    return content


def _read_limited(stream: BinaryIO, path: Path, size: int) -> bytes:
    """At most one byte more than expected, so that a file that unpacks to gigabytes is refused cheaply."""
    if path.suffix == ".gz":
        with gzip.GzipFile(fileobj=stream) as unpacked:
            content = unpacked.read(size + 1)
    else:
        content = stream.read(size + 1)
    if len(content) != size:
        found = f"{len(content):,}" if len(content) < size else "more"
        raise DataError(f"{path}: expected {size:,} bytes of content, found {found}; put an intact copy there")
    return content
