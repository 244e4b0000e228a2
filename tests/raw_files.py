"""Files of data sets, byte by byte as their publishers lay them out."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from set_cli.data.card import Card, Form, Format
from set_cli.data.catalog import CATALOG
from set_cli.data.sources import Source, read_source
from set_cli.system.progress import no_bar

Bytes = NDArray[np.uint8]
# Rows of the small tables.
SIZES = {"train": 7, "valid": 3, "test": 4}


def binary(rows: int, features: int, seed: int = 0) -> Bytes:
    """Random zeros and ones."""
    return np.random.default_rng(seed).integers(0, 2, (rows, features)).astype(np.uint8)


def idx(array: Bytes) -> bytes:
    """An IDX file of unsigned bytes."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def npy(shape: str, content: bytes, descr: str = "'<f4'", order: str = "False", version: int = 1) -> bytes:
    """An .npy whose header says what it is told to."""
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
    header = header.ljust((len(header) + 11) // 16 * 16 + 5) + "\n"
    size = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + header.encode("latin-1") + content


def archive(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip of these files."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return stream.getvalue()


def made(parts: Mapping[str, Bytes], long: str = "L") -> bytes:
    """An .npz as MADE's authors saved it from Python 2: sizes with an L, scalars beside the tables."""
    members = {"inputsize.npy": npy("()", b"\xb4\0\0\0", "'<i4'")}
    for split, x in parts.items():
        shape = f"({x.shape[0]}{long}, {x.shape[1]}{long})"
        members[f"{split}_data.npy"] = npy(shape, x.astype("<f4").tobytes())
        members[f"{split}_length.npy"] = npy("()", len(x).to_bytes(4, "little"), "'<i4'")
    return archive(members)


def debd(x: Bytes) -> bytes:
    """Zeros and ones between commas."""
    return b"".join(b",".join(b"%d" % v for v in row) + b"\n" for row in x)


def svmlight(x: Bytes, y: list[int]) -> bytes:
    """LIBSVM's lines, which end in a blank."""
    lines = [f"{label} " + "".join(f"{j + 1}:1 " for j in np.flatnonzero(row)) for row, label in zip(x, y, strict=True)]
    return ("\n".join(lines) + "\n").encode()


def amat(x: Bytes, y: list[int]) -> bytes:
    """Numbers between blanks, the label last."""
    rows = ([*(f"{v}" for v in row), f"{label}"] for row, label in zip(x, y, strict=True))
    return "".join(" ".join(row) + " \n" for row in rows).encode()


def letters(x: Bytes, words: str) -> bytes:
    """Taskar's letter.data: id, letter, next_id, word_id, position, fold, pixels, and a tab at the end."""
    lines = []
    for i, (row, letter) in enumerate(zip(x, words, strict=True)):
        lines.append("\t".join([str(i + 1), letter, str(i + 2), "1", str(i + 1), "0", *(str(v) for v in row), ""]))
    return ("\n".join(lines) + "\n").encode()


def silhouettes(parts: Mapping[str, tuple[Bytes, list[int]]]) -> bytes:
    """A .mat as Marlin publishes it: images column by column, classes from 1."""
    stream = io.BytesIO()
    arrays: dict[str, object] = {"classnames": np.array(["a", "b"], object)}
    for prefix, (images, labels) in parts.items():
        arrays[f"{prefix}_data"] = images.transpose(0, 2, 1).reshape(len(images), -1)
        arrays[f"{prefix}_labels"] = np.array(labels, np.uint8)[:, None]
    scipy.io.savemat(stream, arrays, do_compression=True)
    return stream.getvalue()


def higgs_text(rows: int, features: int = 28, seed: int = 0) -> bytes:
    """UCI's lines: 18 digits after the point, the label first."""
    rng = np.random.default_rng(seed)
    table = np.column_stack([rng.integers(0, 2, rows), rng.normal(size=(rows, features))])
    return "".join(",".join(f"{v:.18e}" for v in row) + "\n" for row in table).encode()


def tar_gz(members: Mapping[str, bytes], how: int = tarfile.PAX_FORMAT) -> bytes:
    """A .tar.gz of plain files in folders."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", format=how, compresslevel=1) as packed:
        for folder in sorted({name.rpartition("/")[0] for name in members}):
            entry = tarfile.TarInfo(folder)
            entry.type = tarfile.DIRTYPE
            packed.addfile(entry)
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def form_of(name: str, how: Format, *, labels: bool | None = None) -> tuple[Card, Form]:
    """A data set of the catalogue and its form in that format."""
    card = CATALOG[name]
    return card, next(f for f in card.forms if f.format == how and labels in (None, f.labels))


def by_file(form: Form, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Content by the names of a form with a file per split."""
    return {file.name: parts[file.part] for file in form.files if file.part in parts}


def source(card: Card, form: Form, folder: Path, *, with_test: bool = True) -> Source:
    """What a run would read of the data set."""
    return read_source(card, form, folder, with_test=with_test, bar=no_bar)


def files_below(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, with what plain files hold."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


@contextmanager
def bounded_memory(most: int) -> Iterator[None]:
    """AssertionError where Python or NumPy held more bytes than this at once."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:,} bytes at once, expected fewer than {most:,}"


def cifar_content(form: Form) -> dict[str, bytes]:
    """Small batches: planes red, green, blue after a label."""
    rng = np.random.default_rng(1)
    return {
        file.name: b"".join(bytes([i % 10]) + rng.bytes(3072) for i in range(3 + k))
        for k, file in enumerate(form.files)
    }
