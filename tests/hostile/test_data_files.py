"""Files made to hurt: each is one sentence. Nothing is executed, written or left behind, and memory stays small."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import re
import socket
import struct
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from set_cli.config import Dataset
from set_cli.data import files
from set_cli.data.card import Card, Digest, Form, SourceFile
from set_cli.data.catalog import CATALOG
from set_cli.data.custom import read_custom
from set_cli.data.files import content_limit, read_file
from set_cli.data.parse import Parts, check_part, parse
from set_cli.data.pins import Pin
from set_cli.data.readers.binary import read_idx
from set_cli.data.readers.higgs import convert, read_converted
from set_cli.data.readers.mat import MEMORY, SECONDS, read_mat
from set_cli.data.readers.npz import HEADER, MEMBERS, read_npz
from set_cli.data.readers.tar import read_members
from set_cli.data.readers.text import read_amat, read_debd, read_letters, read_svmlight
from set_cli.errors import DataError
from set_cli.system.progress import no_bar
from tests.conftest import run_python
from tests.raw_files import (
    SIZES,
    amat,
    archive,
    binary,
    bounded_memory,
    by_file,
    cifar_content,
    debd,
    files_below,
    form_of,
    higgs_text,
    idx,
    letters,
    made,
    npy,
    silhouettes,
    source,
    svmlight,
    tar_gz,
)

pytestmark = pytest.mark.hostile
MEGABYTE = 2**20


def refused(read: Callable[[], object], name: str, most: int = 30 * MEGABYTE) -> str:
    """The sentence of a DataError that names the file; no more memory than `most` was held at once."""
    with bounded_memory(most), pytest.raises(DataError) as caught:
        read()
    sentence = str(caught.value)
    assert name in sentence
    assert sentence.isprintable(), sentence
    assert len(sentence) < 600, sentence
    return sentence


@contextmanager
def nothing_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AssertionError where a file appears, goes or changes: in the folder, or among temporary files."""
    temporary = folder / "temporary files"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.chdir(folder)
    before = files_below(folder)
    yield
    assert files_below(folder) == before


def read_path(path: Path, sha256: str) -> tuple[Card, Parts]:
    """What an RBM would be trained on."""
    return read_custom(Dataset(name="custom", path=str(path), checksum=sha256), missing="refuse", labels=False)


class Canary:
    """Unpickled, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


# Small published data sets, on the disk and in the catalogue.


def published(folder: Path, name: str, how: str) -> tuple[Card, Form, Path]:
    """A small data set in one of its formats, its checksums known, and the file that the tests damage."""
    card, form, content = SMALL[how]()
    assert card.name == name
    paths = []
    digests = {}
    for file_name, text in content.items():
        path = folder / card.folder / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        paths.append(path)
        digests[file_name] = Digest("sha256", hashlib.sha256(text).hexdigest(), len(text))
    if form.format == "higgs":
        known = tuple(replace(file, packed=digests["HIGGS.csv.gz"]) for file in form.files)
    else:
        known = tuple(replace(file, content=digests[file.name]) for file in form.files)
    form = replace(form, files=known)
    return replace(card, forms=(form,)), form, paths[0]


def small_idx() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("mnist", "idx")
    rng = np.random.default_rng(0)
    content = {}
    for file in form.files:
        shape = (SIZES[file.part], 28, 28) if "images" in file.name else (SIZES[file.part],)
        content[file.name] = idx(rng.integers(0, 256 if "images" in file.name else 10, shape).astype(np.uint8))
    return card, form, content


def small_cifar() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("cifar10", "cifar")
    return card, form, cifar_content(form)


def small_made() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("dna", "made")
    return card, form, {"dna.npz": made({split: binary(n, 180, n) for split, n in SIZES.items()})}


def small_debd() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("adult", "debd")
    return card, form, by_file(form, {split: debd(binary(n, 123, n)) for split, n in SIZES.items()})


def small_svmlight() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("connect4", "svmlight")
    parts = {split: svmlight(binary(n, 126, n), [i % 3 - 1 for i in range(n)]) for split, n in SIZES.items()}
    return card, form, by_file(form, parts)


def small_amat() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("rcv1", "amat")
    parts = {split: amat(binary(n, 150, n), [i % 2 for i in range(n)]) for split, n in SIZES.items()}
    return card, form, by_file(form, parts)


def small_letters() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("ocr_letters", "letters")
    card = replace(card, train=7, valid=3, test=4)
    return card, form, {"letter.data": letters(binary(14, 128), "thequickbrownz")}


def small_mat() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("caltech16", "mat")
    images = {prefix: (binary(n, 256).reshape(n, 16, 16), list(range(1, n + 1))) for prefix, n in
              (("train", 7), ("val", 3), ("test", 4))}  # fmt: skip
    return card, form, {form.files[0].name: silhouettes(images)}


def small_higgs() -> tuple[Card, Form, dict[str, bytes]]:
    card, form = form_of("higgs", "higgs")
    return card, form, {"HIGGS.csv.gz": gzip.compress(higgs_text(40))}


SMALL: dict[str, Callable[[], tuple[Card, Form, dict[str, bytes]]]] = {
    "idx": small_idx,
    "cifar": small_cifar,
    "made": small_made,
    "debd": small_debd,
    "svmlight": small_svmlight,
    "amat": small_amat,
    "letters": small_letters,
    "mat": small_mat,
    "higgs": small_higgs,
}


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "truncated":
            content = content[: len(content) // 2]
        case "one byte short":
            content = content[:-1]
        case "one byte long":
            content += b"\n"
        case "bit flipped":
            content[len(content) // 3] ^= 4
        case "empty":
            content = bytearray()
        case "html":
            content = bytearray(b"<!doctype html><title>404 Not Found</title>")
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "one byte short", "one byte long", "bit flipped", "empty", "html"])
@pytest.mark.parametrize("kind", SMALL)
def test_a_damaged_file_is_refused_by_its_checksum(
    kind: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, form, path = published(tmp_path, SMALL[kind]()[0].name, kind)
    source(card, form, tmp_path)
    for conversion in path.parent.glob("converted-*"):
        conversion.rename(tmp_path / "moved away")
    damage(path, how)
    # HIGGS is locked while it is converted.
    (path.parent / ".lock").touch()
    with nothing_left(tmp_path, monkeypatch):
        read = partial(source, card, form, tmp_path)
        sentence = refused(read, str(path))
    assert re.search(
        r": (sha256 is [0-9a-f]{12}…, expected [0-9a-f]{12}…|expected [a-z ]*[\d,]+ bytes, found )", sentence
    )
    assert card.name in sentence or "put an intact copy there" in sentence


# What lies there is no plain file.


def planted(path: Path, what: str) -> None:
    """Something else under the file's name."""
    path.unlink(missing_ok=True)
    match what:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "link to a folder":
            path.symlink_to(path.parent)
        case "link to nothing":
            path.symlink_to(path.parent / "nothing")
        case "link to itself":
            path.symlink_to(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as endpoint:
                here = os.getcwd()
                os.chdir(path.parent)  # a socket's path has at most 107 bytes
                endpoint.bind(path.name)
                os.chdir(here)


@pytest.mark.parametrize(
    "what",
    ["folder", "pipe", "link to a device", "link to a folder", "link to nothing", "link to itself", "socket"],
)
def test_what_is_no_plain_file_is_refused_at_once(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: dict[Path, Callable[[], object]] = {}
    for kind in ("made", "idx", "higgs", "cifar"):
        card, form, path = published(tmp_path / kind, SMALL[kind]()[0].name, kind)
        if kind == "cifar":
            path = tmp_path / kind / "cifar10" / "cifar-10-binary.tar.gz"
            for batch in path.parent.glob("*/*"):
                batch.unlink()
        (path.parent / ".lock").touch()
        reads[path] = partial(source, card, form, tmp_path / kind)
    for suffix in (".npz", ".csv", ".mat", ".svmlight"):
        path = tmp_path / f"my{suffix}"
        reads[path] = partial(read_path, path, "0" * 64)
    for path in reads:
        planted(path, what)
    with nothing_left(tmp_path, monkeypatch):
        for path, read in reads.items():
            sentence = refused(read, str(path))
            assert "expected a plain file" in sentence or "could not be read" in sentence


def test_a_link_to_a_plain_file_is_as_good_as_the_file(tmp_path: Path) -> None:
    card, form, path = published(tmp_path / "data", "dna", "made")
    elsewhere = path.rename(tmp_path / "elsewhere.npz")
    path.symlink_to(elsewhere)
    assert len(source(card, form, tmp_path / "data").parts["train"]) == SIZES["train"]


# npz.


def parse_made(content: bytes) -> Parts:
    card, form = form_of("dna", "made")
    return parse(card, form, {"dna.npz": content})


def made_with(member: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A small dna.npz whose train_data is this instead."""
    x = npy("(2, 180)", binary(2, 180).astype("<f4").tobytes())
    return archive({"train_data.npy": member, "valid_data.npy": x, "test_data.npy": x}, compression)


def test_nothing_in_an_npz_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = Canary(tmp_path / "executed")
    pickled = pickle.dumps(canary)
    stream = io.BytesIO()
    np.save(stream, np.array([[canary] * 180], object), allow_pickle=True)
    payloads = {
        "object array": stream.getvalue(),
        "a pickle": pickled,
        "header of objects, then a pickle": npy("(1, 180)", pickled, "'|O'"),
        "objects in a structure": npy("(1, 180)", pickled, "[('a', '|O')]"),
        "an npy in an npy": npy("(1, 180)", stream.getvalue(), "'|V9'"),
        "an npz": made_with(pickled),
    }
    with nothing_left(tmp_path, monkeypatch):
        for payload in payloads.values():
            refused(lambda payload=payload: parse_made(made_with(payload)), "dna.npz")  # type: ignore[misc]
        refused(lambda: parse_made(pickled), "dna.npz")
        refused(lambda: parse_made(archive({"train_data.pkl": pickled, "__reduce__": pickled})), "dna.npz")
    pickle.loads(pickled)
    assert (tmp_path / "executed").is_dir()  # the canary would have sung


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        (npy("(10000000000, 180)", b""), "the header promises 7,200,000,000,000 bytes, expected at most"),
        (npy("(9223372036854775807, 9223372036854775807)", b""), "the header promises"),
        (npy("(9223372036854775808, 2)", b""), "expected the shape of a table"),
        (npy("(" + "9" * 4000 + ", 2)", b""), "expected the shape of a table"),
        (npy("(" + "9" * 5000 + ", 2)", b""), "malformed"),
        (npy("(-1, 180)", b"0" * 720), "expected the shape of a table, found"),
        (npy("(-2, -180)", b"0" * 1440), "expected the shape of a table, found"),
        (npy("(True, 180)", b"0" * 720), ""),
        (npy("(1.0, 180)", b"0" * 720), "malformed (shape is not valid"),
        (npy("[1, 180]", b"0" * 720), "malformed (shape is not valid"),
        (npy("()", b"0" * 4), "expected a table of rows and features, found an array of shape ()"),
        (npy("(180,)", b"0" * 720), "expected a table of rows and features, found an array of shape (180,)"),
        (npy("(0, 180)", b""), "expected rows, found none"),
        (npy("(0, 99999999999)", b""), "expected rows, found none"),
        (npy("(1," * 1 + "1," * 40 + ")", b"0" * 4), "expected the shape of a table"),
        (npy("(2, 180)", b"0" * 720), "the header promises 1,440 bytes, expected at most"),
        (npy("(1, 180)", b"0" * 1440), "the header promises 720 bytes, found 721"),
        (npy("(1, 180)", b"0" * 720, "'|O'"), "expected numbers, found values of type object (nothing was unpickled)"),
        (npy("(1, 180)", b"0" * 720, "'<c8'"), "expected numbers, found values of type complex64"),
        (npy("(1, 180)", b"0" * 720, "'<U1'"), "expected numbers, found values of type <U1"),
        (npy("(1, 180)", b"0" * 720, "'<M8[s]'"), "expected numbers, found values of type datetime64[s]"),
        (npy("(1, 180)", b"0" * 720, "'|V4'"), "expected numbers, found values of type |V4"),
        (npy("(1, 180)", b"0" * 720, "[('a', '<f4')]"), "expected numbers, found values of type [('a', '<f4')]"),
        (npy("(1, 180)", b"0" * 720, "('<f4', (2, 2))"), "found values of type ('<f4', (2, 2))"),
        (npy("(1, 180)", b"0" * 720, "'<f4', 'more': 3"), "malformed (Header does not contain the correct keys"),
        (npy("(1, 180)", b"0" * 720, "__import__('os').mkdir('executed')"), "malformed"),
        (npy("(1, 180)", b"0" * 720, order="1"), "malformed (fortran_order is not a valid bool"),
        (npy("(" * 3000, b""), "malformed"),
        (npy("-" * 9000 + "1", b""), ""),
        (npy("1+" * 4000 + "1", b""), ""),
        (npy("(1, 180)" + " " * 10_000_000, b"", version=2), f"expected a header of at most {HEADER:,} characters"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff{}", f"expected a header of at most {HEADER:,} characters"),
        (b"\x93NUMPY\x02\0\xff\xff", f"expected a header of at most {HEADER:,} characters"),
        (b"\x93NUMPY\x01\0\x40\0{}", "malformed"),
        (b"\x93NUMPY\x03\0\x40\0\0\0{}", "expected an npy array of version 1 or 2, found (3, 0)"),
        (b"\x93NUMPY\xff\xff", "expected an npy array of version 1 or 2, found (255, 255)"),
        (b"\x93NUM", "malformed"),
        (b"", "malformed"),
        (npy("(1, 180)", b"\x01\0\x80\x7f" * 180), "expected 0 or 1, found nan in row 1, column 1"),
    ],
)
def test_a_lying_npy_header_is_refused_before_memory_is_asked_for(
    member: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = made_with(member, zipfile.ZIP_DEFLATED)
    with nothing_left(tmp_path, monkeypatch):
        assert sentence in refused(lambda: parse_made(content), "dna.npz", 4 * MEGABYTE)


def test_what_an_npz_unpacks_to_is_bounded() -> None:
    bomb = npy("(1000000000, 1)", bytes(200 * MEGABYTE), "'|u1'")
    content = made_with(bomb, zipfile.ZIP_DEFLATED)
    assert "expected at most" in refused(lambda: parse_made(content), "dna.npz", 4 * MEGABYTE)
    honest = npy(f"({len(bomb)}, 1)", bomb, "'|u1'")
    content = made_with(honest, zipfile.ZIP_DEFLATED)
    assert "expected at most" in refused(lambda: parse_made(content), "dna.npz", 4 * MEGABYTE)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_that_zipfile_unpacks_without_a_limit_are_refused(compression: int) -> None:
    content = made_with(npy("(2, 180)", bytes(200 * MEGABYTE)), compression)
    assert "expected what numpy packs" in refused(lambda: parse_made(content), "dna.npz", 4 * MEGABYTE)


def zip_entry(name: bytes, offset: int, *, size: int, kind: int = 0, flags: int = 0, extra: bytes = b"") -> bytes:
    """An entry of a zip's directory."""
    head = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, flags, kind, 0, 0, 0, size, size, len(name), len(extra), 0, 0, 0, 0, offset)  # fmt: skip # noqa: E501
    return head + name + extra


def zip_of(local: bytes, entries: list[bytes], comment: bytes = b"") -> bytes:
    directory = b"".join(entries)
    count = min(len(entries), 65535)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), len(local), len(comment))
    return local + directory + end + comment


def local_file(name: bytes, content: bytes, flags: int = 0) -> bytes:
    crc = zlib.crc32(content)
    size = len(content)
    return struct.pack("<4s5H3L2H", b"PK\3\4", 20, flags, 0, 0, 0, crc, size, size, len(name), 0) + name + content


def test_duplicate_members_are_refused() -> None:
    x = npy("(2, 180)", binary(2, 180).astype("<f4").tobytes())
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as packed:
        warnings.simplefilter("ignore")
        for name in ("train_data", "valid_data", "test_data", "train_data"):
            packed.writestr(f"{name}.npy", x)
    assert "two arrays are named train_data" in refused(lambda: parse_made(stream.getvalue()), "dna.npz")


def test_the_arrays_of_an_npz_are_bounded_together() -> None:
    megabyte = npy("(1000000, 1)", bytes(1_000_000), "'|u1'")
    content = archive({f"a{i}.npy": megabyte for i in range(50)}, zipfile.ZIP_DEFLATED)
    names = [f"a{i}" for i in range(50)]
    sentence = refused(lambda: read_npz(io.BytesIO(content), "here.npz", 4_500_000, names), "here.npz", 8_000_000)
    assert "here.npz:a4: the header promises 1,000,000 bytes, expected at most 500,000" in sentence


def test_overlapping_members_are_refused_or_bounded() -> None:
    # Many names for the same megabytes, and a member in a member: zipfile versions differ in what they refuse.
    local = local_file(b"a0.npy", npy("(5000000, 1)", bytes(5_000_000), "'|u1'"))
    names = [f"a{i}" for i in range(900)]
    content = zip_of(local, [zip_entry(f"{name}.npy".encode(), 0, size=len(local) - 36) for name in names])
    refused(lambda: read_npz(io.BytesIO(content), "here.npz", 20 * MEGABYTE, names), "here.npz", 35 * MEGABYTE)
    inner = local_file(b"b.npy", npy("(1000000, 1)", bytes(1_000_000), "'|u1'"))
    outer = local_file(b"a.npy", npy(f"({len(inner)}, 1)", inner, "'|u1'"))
    entries = [
        zip_entry(b"a.npy", 0, size=len(outer) - 35),
        zip_entry(b"b.npy", len(outer) - len(inner), size=len(inner) - 35),
    ]
    read = partial(read_npz, io.BytesIO(zip_of(outer, entries)), "here.npz", 1_500_000, ["a", "b"])
    refused(read, "here.npz", 5_000_000)


@pytest.mark.parametrize("count", [MEMBERS + 1, 65_536, 400_000])
def test_a_zip_of_very_many_members_is_refused_before_they_are_listed(count: int) -> None:
    content = zip_of(b"", [zip_entry(b"%d" % i, 0, size=0) for i in range(count)])
    sentence = refused(lambda: parse_made(content), "dna.npz", len(content) + 5 * MEGABYTE)
    assert f"expected at most {MEMBERS} arrays, found {count}" in sentence


def test_zips_that_lie_are_refused() -> None:
    x = npy("(2, 180)", binary(2, 180).astype("<f4").tobytes())
    name = b"train_data.npy"
    local = local_file(name, x)
    zip64 = struct.pack("<2H2Q", 1, 16, 2**60, 2**60)
    for content in (
        zip_of(local, [zip_entry(name, 0, size=len(x), flags=1)]),  # encrypted
        zip_of(local, [zip_entry(name, 0, size=len(x), kind=99)]),
        zip_of(local, [zip_entry(name, 0, size=2**32 - 1, extra=zip64)]),
        zip_of(local, [zip_entry(name, 0, size=2**32 - 2)]),
        zip_of(local, [zip_entry(name, 2**31, size=len(x))]),
        zip_of(local, [zip_entry(name, 0, size=len(x), extra=b"\1\0\xff\xff")]),
        zip_of(local, [zip_entry(b"\xff" * 60_000, 0, size=len(x), flags=0x800)]),
        zip_of(local, [zip_entry(name, 0, size=len(x))])[:-10],
        zip_of(local, [zip_entry(name, 0, size=len(x))], b"PK\5\6" * 9000),
        zip_of(local_file(b"other", x), [zip_entry(name, 0, size=len(x))]),
        zip_of(b"", [zip_entry(name, 0, size=len(x))]),
        b"PK\5\6" + b"\xff" * 18,
        b"PK\5\6" + bytes(18),
        b"",
    ):
        refused(lambda content=content: parse_made(content), "dna.npz")  # type: ignore[misc]


# gz and tar.


def taken_in(path: Path, content: bytes, file: SourceFile, limit: int) -> bytes:
    """The content of a file that was imported, whatever it is: no checksum is in the way."""
    path.write_bytes(content)
    return read_file(path, file, Pin(hashlib.sha256(content).hexdigest(), len(content)), limit)[0]


def test_what_a_gz_unpacks_to_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "adult.train.data.gz"
    path.touch()
    one, many = gzip.compress(bytes(300 * MEGABYTE)), gzip.compress(bytes(MEGABYTE)) * 300
    for bomb in (one, many):
        path.write_bytes(bomb)
        with nothing_left(tmp_path, monkeypatch):
            refused(
                lambda: taken_in(path, path.read_bytes(), SourceFile(path.name, "train"), MEGABYTE),
                str(path),
                8 * MEGABYTE,
            )
        (tmp_path / "temporary files").rmdir()


def test_a_small_gz_asks_for_little_memory_whatever_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "adult.train.data.gz"
    with bounded_memory(4 * MEGABYTE):
        content = taken_in(path, gzip.compress(b"0,1\n"), SourceFile(path.name, "train"), 2**33)
    assert content == b"0,1\n"


def test_an_imported_file_is_bounded_by_its_data_set_and_not_by_its_own_size(tmp_path: Path) -> None:
    path = tmp_path / "dna.npz"
    content = bytes(8 * MEGABYTE)
    for digest in (None, Digest("sha256", "0" * 64, 100)):
        file = SourceFile("dna.npz", "all", content=digest)
        refused(lambda file=file: taken_in(path, content, file, MEGABYTE), str(path), MEGABYTE)  # type: ignore[misc]


def test_an_imported_file_may_be_larger_than_the_published_one(tmp_path: Path) -> None:
    for name in ("w6a", "w6a.gz"):
        file = SourceFile("w6a", "all", content=Digest("sha256", "0" * 64, 100))
        content = b"1 1:1\n" * 100
        packed = gzip.compress(content) if name.endswith(".gz") else content
        assert taken_in(tmp_path / name, packed, file, MEGABYTE) == content


def test_a_text_of_higgs_that_is_a_gz_bomb_is_refused_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "HIGGS.csv.gz"
    for content in (bytes(300 * MEGABYTE), b"1,1,1\n" + b"1" * 300 * MEGABYTE, b"\n" + b"1," * 150 * MEGABYTE):
        path.write_bytes(gzip.compress(content, 1))
        with nothing_left(tmp_path, monkeypatch):
            refused(
                partial(convert, path, "HIGGS.csv.gz", 2, tmp_path / "converted-0", no_bar), path.name, 90 * MEGABYTE
            )
        (tmp_path / "temporary files").rmdir()


def tar_member(name: str, kind: bytes, content: bytes = b"", link: str = "", size: int | None = None) -> bytes:
    """One member as it lies in a tar; its size may lie."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, link, len(content) if size is None else size
    return entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)


def tar_header(**fields: bytes) -> bytes:
    """A header with these fields overwritten, its checksum right."""
    header = bytearray(tar_member("name", tarfile.REGTYPE))
    for field, value in fields.items():
        start, size = {"size": (124, 12), "name": (0, 100), "type": (156, 1), "magic": (257, 8), "prefix": (345, 155)}[
            field
        ]
        header[start : start + size] = value.ljust(size, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


BATCH = "cifar-10-batches-bin/data_batch_1.bin"


def nasty_members(outside: Path) -> dict[str, bytes]:
    """What may lie in a tar before, or instead of, what we want."""
    evil = b"evil"
    return {
        "above": tar_member("../../evil", tarfile.REGTYPE, evil),
        "absolute": tar_member(f"{outside}/evil", tarfile.REGTYPE, evil),
        "link then file": tar_member("cifar-10-batches-bin", tarfile.SYMTYPE, link=str(outside))
        + tar_member("cifar-10-batches-bin/evil", tarfile.REGTYPE, evil),
        "link for a batch": tar_member(BATCH, tarfile.SYMTYPE, link="/dev/zero"),
        "link for a batch with a size": tar_member(BATCH, tarfile.SYMTYPE, link="/dev/zero", size=30_730_000),
        "hard link for a batch": tar_member(BATCH, tarfile.LNKTYPE, link="/etc/passwd"),
        "device": tar_member(BATCH, tarfile.CHRTYPE),
        "pipe": tar_member(BATCH, tarfile.FIFOTYPE),
        "folder": tar_member(BATCH, tarfile.DIRTYPE),
        "unknown type": tar_member(BATCH, b"Z", b"what is this"),
        "long name": tar_member("././@LongLink", tarfile.GNUTYPE_LONGNAME, BATCH.encode() + b"\0")
        + tar_member("evil", tarfile.REGTYPE, evil),
        "pax path": tar_member("pax", tarfile.XHDTYPE, b"20 path=" + BATCH.encode()[:11] + b"\n")
        + tar_member("evil", tarfile.REGTYPE, evil),
        "endless pax length": tar_member("pax", tarfile.XHDTYPE, b"0" * 5000 + b" a=b\n" * 5000),
        "pax sparse": tar_member("pax", tarfile.XHDTYPE, b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n")
        + tar_member("GNUSparseFile.0/evil", tarfile.REGTYPE, b"99999999\n"),
        "other magic": tar_header(name=b"evil", magic=b"evil"),
        "nothing": b"",
    }


def test_whatever_else_is_in_a_tar_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, form, path = published(tmp_path / "data", "cifar10", "cifar")
    content = {file.name: (tmp_path / "data" / "cifar10" / file.name).read_bytes() for file in form.files}
    expected = source(card, form, tmp_path / "data").parts
    for batch in path.parent.iterdir():
        batch.unlink()
    good = gzip.decompress(tar_gz(content))
    packed = path.parent.parent / "cifar-10-binary.tar.gz"
    for name, nasty in nasty_members(tmp_path / "outside").items():
        packed.write_bytes(gzip.compress(nasty + good, 1))
        with nothing_left(tmp_path, monkeypatch):
            parts = source(card, form, tmp_path / "data").parts
        (tmp_path / "temporary files").rmdir()
        for split in ("train", "test"):
            assert np.array_equal(parts[split].x, expected[split].x), name


def tar_bombs() -> dict[str, Iterator[bytes]]:
    """Tars, a part at a time, that promise or have far too much."""
    nothing = bytes(MEGABYTE)

    def endless(header: bytes) -> Iterator[bytes]:
        yield header
        yield from (nothing for _ in range(300))

    return {
        "pax header of gigabytes": endless(tar_header(type=b"x", size=b"77777777777")),
        "global pax header of gigabytes": endless(tar_header(type=b"g", size=b"77777777777")),
        "long name of gigabytes": endless(tar_header(type=b"L", size=b"77777777777")),
        "a file of gigabytes": endless(tar_header(size=b"77777777777")),
        "our file of gigabytes": endless(tar_header(name=BATCH.encode(), size=b"77777777777")),
        "pax header of megabytes": endless(tar_header(type=b"x", size=b"%o" % (280 * MEGABYTE))),
        "a million members": (tar_header(name=b"%d" % (i // 2)) * 2048 for i in range(300)),
        "a size in binary": endless(tar_header(size=b"\x80" + b"\xff" * 11)),
        "a negative size": endless(tar_header(size=b"-0000000512")),
        "a negative size in binary": endless(tar_header(size=b"\xff" * 12)),
        "a size of letters": endless(tar_header(size=b"0x10")),
        "a size with underscores": endless(tar_header(size=b"1_0")),
        "a wrong checksum": endless(tar_header()[:-1] + b"x"),
        "sparse without end": iter(
            [tar_header(type=b"S")[:482] + b"\1" + tar_header(type=b"S")[483:], b"\1" * 512_000]
        ),
        "no tar": iter([b"\xff" * 100_000]),
        "zeros": iter([nothing]),
        "nothing": iter([b""]),
        "half a header": iter([tar_header()[:100]]),
    }


@pytest.mark.parametrize("bomb", tar_bombs())
def test_a_tar_bomb_is_refused_in_little_memory(bomb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, form, path = published(tmp_path / "data", "cifar10", "cifar")
    for batch in path.parent.iterdir():
        batch.unlink()
    packed = path.parent.parent / "cifar-10-binary.tar.gz"
    with gzip.open(packed, "wb", 1) as stream:
        for block in tar_bombs()[bomb]:
            stream.write(block)
    with nothing_left(tmp_path, monkeypatch):
        sentence = refused(partial(source, card, form, tmp_path / "data"), str(packed), 6 * MEGABYTE)
    said = ("bytes in the archive, found more", "expected an octal number", "no header of a file", "ends in the middle")
    assert any(words in sentence for words in (*said, "not in the archive"))
    if "gigabytes" in bomb or "megabytes" in bomb or "million" in bomb:
        assert said[0] in sentence
    if "size" in bomb:
        assert said[1] in sentence


def test_what_is_not_wanted_is_skipped_in_little_memory() -> None:
    batch = tar_member("wanted", tarfile.REGTYPE, b"here")
    packed = gzip.compress(tar_member("other", tarfile.REGTYPE, bytes(100 * MEGABYTE)) + batch, 1)
    with bounded_memory(4 * MEGABYTE), gzip.GzipFile(fileobj=io.BytesIO(packed)) as stream:
        assert list(read_members(stream, "my.tar", {"wanted": 4}, 2**40)) == [("wanted", b"here")]


def test_a_pickled_cifar_under_our_names_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, form, path = published(tmp_path / "data", "cifar10", "cifar")
    pickled = pickle.dumps({b"data": Canary(tmp_path / "executed"), b"labels": list(range(10))})
    for content in (pickled, pickled + bytes(-len(pickled) % 3073)):
        path.write_bytes(content)
        with nothing_left(tmp_path, monkeypatch):
            refused(partial(source, card, form, tmp_path / "data"), str(path))
            refused(lambda content=content: parse(card, form, {BATCH: content}), "cifar")  # type: ignore[misc]
        (tmp_path / "temporary files").rmdir()
    path.unlink()
    (path.parent.parent / "cifar-10-binary.tar.gz").write_bytes(
        tar_gz({"cifar-10-batches-py/data_batch_1": pickled, BATCH: pickled})
    )
    with nothing_left(tmp_path, monkeypatch):
        refused(partial(source, card, form, tmp_path / "data"), "cifar-10-binary.tar.gz")


# .mat, in its child.


def element(kind: int, content: bytes) -> bytes:
    """One element of a MATLAB 5 file."""
    return struct.pack("<2L", kind, len(content)) + content + bytes(-len(content) % 8)


INT8, INT32, UINT32, DOUBLE, MATRIX, COMPRESSED, UINT8 = 1, 5, 6, 9, 14, 15, 2


def matrix(
    name: bytes, dims: tuple[int, ...], content: bytes, *, mx: int = 9, kind: int = UINT8, promised: int | None = None
) -> bytes:
    """An array of the class mx (9: uint8)."""
    data = struct.pack("<2L", kind, len(content) if promised is None else promised) + content + bytes(-len(content) % 8)
    sizes = struct.pack(f"<{len(dims)}i", *dims)
    return element(
        MATRIX, element(UINT32, struct.pack("<2L", mx, 0)) + element(INT32, sizes) + element(INT8, name) + data
    )


def compressed(content: bytes) -> bytes:
    packed = zlib.compress(content, 1)
    return struct.pack("<2L", COMPRESSED, len(packed)) + packed


def mat_file(*elements: bytes) -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + b"".join(elements)


def of_class(mx: int, *rest: bytes) -> bytes:
    """A variable of the class mx: its flags, then the rest."""
    return element(MATRIX, element(UINT32, struct.pack("<2L", mx, 0)) + b"".join(rest))


ONE = matrix(b"", (1, 1), b"\1")
BY_ONE, NAME = element(INT32, struct.pack("<2i", 1, 1)), element(INT8, b"x")
MCOS = (element(INT8, b"MCOS"), element(INT8, b"string"))
HDF5 = b"\x89HDF\r\n\x1a\n"

MATS: dict[str, Callable[[], bytes]] = {
    "type code 8": lambda: mat_file(matrix(b"x", (1, 1), bytes(8), mx=6, kind=8)),
    "type code 8, packed": lambda: mat_file(compressed(matrix(b"x", (1, 1), bytes(8), mx=6, kind=8))),
    "type code 999": lambda: mat_file(matrix(b"x", (1, 1), bytes(8), kind=999)),
    "class 99": lambda: mat_file(matrix(b"x", (1, 1), bytes(8), mx=99)),
    "a function": lambda: mat_file(of_class(16, BY_ONE, NAME, ONE)),
    "an object": lambda: mat_file(of_class(3, BY_ONE, NAME, element(INT8, b"inline"), ONE)),
    "an opaque object": lambda: mat_file(of_class(17, NAME, *MCOS, ONE)),
    "version 7.3": lambda: b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM".ljust(388) + HDF5 + bytes(99),
    "an HDF5 file": lambda: HDF5 + bytes(500),
    "terabytes promised": lambda: mat_file(matrix(b"x", (2**20, 2**20), bytes(64))),
    "gigabytes promised": lambda: mat_file(matrix(b"x", (2**31 - 1, 1), bytes(64), promised=2**31 - 1)),
    "negative sizes": lambda: mat_file(matrix(b"x", (-1, -64), bytes(64))),
    "sizes that overflow": lambda: mat_file(matrix(b"x", (2**31 - 1,) * 3, bytes(64))),
    "too many sizes": lambda: mat_file(matrix(b"x", (1,) * 10_000, b"1")),
    "zlib bomb": lambda: mat_file(compressed(matrix(b"x", (300 * MEGABYTE, 1), bytes(300 * MEGABYTE)))),
    "zlib bomb in a name": lambda: mat_file(compressed(matrix(b"x" * 2**26, (1, 1), b"1"))),
    "zlib garbage": lambda: mat_file(struct.pack("<2L", COMPRESSED, 500) + bytes(range(250)) * 2),
    "packed in packed": lambda: mat_file(compressed(compressed(compressed(matrix(b"x", (1, 1), b"1"))))),
    "cells in cells": lambda: mat_file(nested_cells(3000)),
    "an endless element": lambda: mat_file(struct.pack("<2L", MATRIX, 2**32 - 1) + bytes(100)),
    "nothing": lambda: b"",
    "a header only": lambda: mat_file()[:100],
    "no variables": mat_file,
    "version 4 that lies": lambda: struct.pack("<5i", 0, 2**30, 2**30, 0, 2) + b"x\0" + bytes(64),
    "html": lambda: b"<!doctype html><title>404 Not Found</title>" * 9,
    "a pickle": lambda: pickle.dumps(Canary(Path("executed"))),
}
WORDS = {
    "version 7.3": "save it with -v7",
    "no variables": "found none",
    "zlib bomb in a name": "found none",
    "a function": "x: expected an array of numbers, found",
    "cells in cells": "x: expected an array of numbers, found",
    "an opaque object": "found none",
}


def nested_cells(depth: int) -> bytes:
    inner = ONE
    for _ in range(depth):
        inner = of_class(1, BY_ONE, NAME, inner)
    return inner


@pytest.mark.parametrize("what", MATS)
def test_a_mat_hurts_its_child_only(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my.mat"
    path.write_bytes(MATS[what]())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with nothing_left(tmp_path, monkeypatch):
        sentence = refused(partial(read_path, path, digest), str(path), 8 * MEGABYTE + 3 * path.stat().st_size)
    assert WORDS.get(what, "malformed (") in sentence


def test_the_child_bounds_its_memory_its_time_and_what_it_writes(tmp_path: Path) -> None:
    program = (
        "import io, resource, sys; from set_cli.data.readers.mat_child import main;"
        "sys.stdin = io.TextIOWrapper(io.BytesIO(b'no .mat')); main();"
        "print(*(resource.getrlimit(getattr(resource, f'RLIMIT_{name}')) for name in ('AS', 'CPU', 'FSIZE', 'CORE')))"
    )
    result = run_python("-c", program, "out.npz", "1000", "x", folder=tmp_path)
    limits = [MEMORY + 3000, SECONDS, 1000 + MEGABYTE, 0]
    assert result.stdout.split("\n")[0] == " ".join(f"({limit}, {limit})" for limit in limits)


def test_a_child_that_is_killed_hangs_or_writes_nothing_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = mat_file(matrix(b"x", (2, 3), bytes(6)))
    assert read_mat(content, "my.mat", ["x"], 1000)["x"].shape == (2, 3)
    monkeypatch.setattr("set_cli.data.readers.mat.SECONDS", 5)
    for program, words in (
        ("import os; os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "ended by signal 40"),
        ("import os; os._exit(0)", "malformed"),
        ("import os; os._exit(7)", "no reason given"),
        ("import sys; sys.exit('\\x1b[31m' + 'a\\rb' * 999)", "malformed (?[31ma b"),
        ("import os, sys; os.mkfifo(sys.argv[1])", "left no arrays"),
        ("import os, sys; os.mkdir(sys.argv[1])", "left no arrays"),
        ("import sys; open(sys.argv[1], 'wb').write(b'PK' * 999)", "malformed"),
        ("import time; time.sleep(60)", "not read within 5 s"),
    ):
        # What the child runs instead of our module: the first -m names it.
        module = tmp_path / "instead.py"
        module.write_text(program)
        monkeypatch.setattr("set_cli.data.readers.mat.sys.executable", str(interpreter(tmp_path)))
        sentence = refused(lambda: read_mat(content, "my.mat", ["x"], 1000), "my.mat")
        assert words in sentence, program


def interpreter(folder: Path) -> Path:
    """A stand-in for python that runs instead.py with the arguments of the child's module."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\nshift 3\nexec python3 "{folder}/instead.py" "$@"\n')
    path.chmod(0o755)
    return path


# IDX and text.


@pytest.mark.parametrize(
    "header",
    [
        bytes([0, 0, 8, 0]),
        bytes([0, 0, 8, 1]) + b"\0\0\0\0",
        bytes([0, 0, 8, 2]) + b"\0\0\0\0\xff\xff\xff\xff",
        bytes([0, 0, 8, 1]) + b"\xff\xff\xff\xff",
        bytes([0, 0, 8, 3]) + b"\x80\0\0\0\0\0\0\2\0\0\0\1",
        bytes([0, 0, 8, 4]) + b"\xff\xff\xff\xff" * 4,
        bytes([0, 0, 8, 4]) + b"\x80\0\0\0" * 4,  # 2^124: 0 in 64 bits
        bytes([0, 0, 8, 255]) + b"\0\0\0\1" * 255,
        bytes([0, 0, 8, 255]),
        bytes([0, 0, 13, 1]) + b"\0\0\0\1",
        bytes([1, 0, 8, 1]) + b"\0\0\0\1",
    ],
)
@pytest.mark.parametrize("trailing", [b"", b"x", b"xy" * 50])
def test_idx_sizes_that_lie_are_refused(header: bytes, trailing: bytes) -> None:
    assert "here" in refused(lambda: read_idx(header + trailing, "here"), "here", MEGABYTE)


def test_idx_files_of_other_dimensions_are_refused() -> None:
    card, form, content = small_idx()
    images, labels, *_ = content
    for change in (
        {images: idx(np.zeros(7, np.uint8))},
        {images: idx(np.zeros((7, 784, 1, 2), np.uint8))},
        {images: idx(np.zeros((7, 28, 27), np.uint8))},
        {images: idx(np.zeros((6, 28, 28), np.uint8))},
        {labels: idx(np.zeros((7, 1), np.uint8))},
        {labels: idx(np.zeros((7, 28, 28), np.uint8))},
        {labels: idx(np.full(7, 10, np.uint8))},
        {images: content[labels], labels: content[images]},
    ):
        refused(lambda change=change: parse(card, form, content | change), "")  # type: ignore[misc]


LONG = 10_000_000
TEXTS = {
    "one long line": b"1" * LONG,
    "a long line of cells": b"1 " * (LONG // 2),
    "a long line of commas": b"," * LONG,
    "long lines of commas": (b"," * (LONG // 10) + b"\n") * 2,
    "a row, then a long line": b"1," + b"1," * 27 + b"1\n" + b"1," * (LONG // 2) + b"1\n",
    "a long line of tabs": b"\t" * LONG,
    "a long line of entries": b"1 " + b"1:1 " * (LONG // 4),
    "a long comment": b"1 1:1 # " + b"x" * LONG,
    "blank lines": b"\n" * 100_000,
    "nul bytes": b"\0" * 100_000,
    "nul bytes in lines": b"1 0\0 1\n" * 1000,
    "no text": bytes(range(256)) * 100,
    "byte order mark": b"\xff\xfe1\0,\0" * 100,
    "digits beyond float": b"9" * 50 + b"\n" + b"9" * 400 + b"\n",
    "digits beyond int": b"1 " + b"9" * 5000 + b":1\n",
    "not finite": b"nan inf -inf 1e999\n" * 10,
    "locale commas": b"1,5 0,5\n" * 10,
    "html": b"<!doctype html>\n<title>404 Not Found</title>\n",
    "a pickle": pickle.dumps(Canary(Path("executed"))),
    "gzip": gzip.compress(b"0,1\n"),
}
TEXT_READERS: dict[str, Callable[[bytes], object]] = {
    "debd": lambda content: read_debd(content, "here.txt", 123),
    "amat": lambda content: read_amat(content, "here.txt", 150),
    "svmlight": lambda content: read_svmlight(content, "here.txt", 126, 10_000_000),
    "svmlight of any width": lambda content: read_svmlight(content, "here.txt", None, 10_000_000),
    "letters": lambda content: read_letters(content, "here.txt", 128),
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_that_is_no_table_is_refused_in_little_memory(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = TEXTS[text]
    (tmp_path / "my.csv").write_bytes(content)
    (tmp_path / "HIGGS.csv").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    with nothing_left(tmp_path, monkeypatch):
        for read in TEXT_READERS.values():
            refused(lambda read=read: read(content), "here.txt", 60 * MEGABYTE)  # type: ignore[misc]
        refused(partial(read_path, tmp_path / "my.csv", digest), "my.csv", 60 * MEGABYTE)
        target = tmp_path / "converted-0"
        refused(partial(convert, tmp_path / "HIGGS.csv", "HIGGS.csv", 28, target, no_bar), "HIGGS.csv", 60 * MEGABYTE)


# Mutations: valid files, damaged at random.

TOKENS = [b"0", b"1", b"a", b"train", b"", b"nan", b"-inf", b"1e999", b"-1", b"2", b"0.5", b"1e39", b"\0", b"9" * 400]
TOKENS += [b"x", b"1:1", b"0:0", b":", b"#", b"qid:1", b"99999999999:1", b",", b"\t", b"\n", b"\r", b'"', b" ", b"\xff"]
TOKENS += [b"0x1", b"1_0", b"True", b"1" * 5000]


def mutated(content: bytes, rng: np.random.Generator, *, text: bool) -> bytes:
    """The content with one to three damages."""
    for _ in range(rng.choice([1, 1, 2, 3])):
        content = _mutated_once(content, rng, text=text)
    return content


def _mutated_once(content: bytes, rng: np.random.Generator, *, text: bool) -> bytes:
    size = len(content)
    if not size:
        return rng.bytes(5)
    # Headers and directories are at the ends.
    at = int(rng.choice([rng.integers(size), rng.integers(min(size, 200)), size - 1 - rng.integers(min(size, 200))]))
    length = int(rng.integers(1, 1 + min(size, int(rng.choice([4, 100, size])))))
    middle = content[at : at + length]
    match int(rng.integers(14 if text else 7)):
        case 0:
            return content[:at]
        case 1:
            return content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
        case 2:
            return content[:at] + rng.bytes(len(middle)) + content[at + length :]
        case 3:
            return content[:at] + rng.bytes(length) + content[at:]
        case 4:
            return content[:at] + content[at + length :]
        case 5:
            return content[:at] + middle * int(rng.integers(2, 4)) + content[at + length :]
        case 6:
            return content[:at] + bytes(len(middle)) + content[at + length :]
    pieces = re.split(rb"([\s,:]+)", content)
    pieces[int(rng.integers(len(pieces)))] = TOKENS[int(rng.integers(len(TOKENS)))]
    return b"".join(pieces)


def check_rows(card: Card, parts: Parts) -> None:
    """What every accepted file must have given."""
    for split, part in parts.items():
        check_part(card, part, split)
        assert part.x.dtype == np.uint8
        assert part.y is None or part.labels.dtype == np.int64
        assert card.kind != "binary" or not len(part) or part.x.max() <= 1
    assert len(parts["train"])


def parse_one(kind: str, content: bytes, folder: Path) -> None:
    """The first file of a small data set is this."""
    card, form, others = SMALL[kind]()
    name = next(iter(others))
    check_rows(card, parse(card, form, others | {name: content}))


def read_gz(content: bytes, folder: Path) -> None:
    card, form, others = small_debd()
    file = form.files[0]
    unpacked = taken_in(
        folder / f"{file.name}.gz", content, file, content_limit(replace(card, train=7, test=0, valid=0))
    )
    check_rows(card, parse(card, form, others | {file.name: unpacked}))


def read_tar(content: bytes, folder: Path) -> None:
    card, form, batches = small_cifar()
    digests = {name: Digest("md5", "0", len(batch)) for name, batch in batches.items()}
    form = replace(form, files=tuple(replace(file, content=digests[file.name]) for file in form.files))
    (folder / "my.tar.gz").write_bytes(content)
    check_rows(card, parse(card, form, files.read_archive(folder / "my.tar.gz", form, form.files)))


def read_text(name: str, content: bytes, folder: Path) -> None:
    """HIGGS.csv, compressed or not."""
    (folder / name).write_bytes(content)
    target = folder / "converted-0"
    try:
        convert(folder / name, name, 28, target, no_bar)
        part = read_converted(target, no_bar)
        check_part(CATALOG["higgs"], part, name)
        assert np.isfinite(part.x).all()
        assert len(part)
    finally:
        for path in [*target.glob("*"), target] if target.is_dir() else []:
            path.rmdir() if path.is_dir() else path.unlink()
    assert [path.name for path in folder.iterdir()] == [name]


def read_own(suffix: str, content: bytes, folder: Path) -> None:
    path = folder / f"my{suffix}"
    path.write_bytes(content)
    card, parts = read_path(path, hashlib.sha256(content).hexdigest())
    for split, part in parts.items():
        check_part(card, part, split)
        assert part.x.dtype in (np.uint8, np.float32, np.float64)
        assert np.isfinite(part.x).all()
    assert len(parts["train"])
    assert card.shape is None or np.prod(card.shape) == card.features


def own_npz() -> bytes:
    stream = io.BytesIO()
    x = np.random.default_rng(0).normal(size=(9, 6))
    np.savez(
        stream,
        allow_pickle=False,
        x_train=x,
        y_train=np.arange(9) % 3,
        x_test=x[:4],
        y_test=np.arange(4) % 3,
        shape=[2, 3],
    )
    return stream.getvalue()


def own_csv() -> bytes:
    rows = [f"{i},{i / 7},{'cat' if i % 2 else 'dog'},{'train' if i < 8 else 'test'}" for i in range(12)]
    return "\n".join(["a,b,label,split", *rows, ""]).encode()


def own_svmlight() -> bytes:
    return b"".join(b"%d 1:0.5 %d:%d\n" % (i % 2, i + 2, i) for i in range(12))


def repacked_zip(content: bytes, rng: np.random.Generator) -> bytes:
    """One member damaged, and packed with the right checksum."""
    with zipfile.ZipFile(io.BytesIO(content)) as packed:
        members = {member.filename: packed.read(member) for member in packed.infolist()}
    name = sorted(members)[int(rng.integers(len(members)))]
    return archive(members | {name: mutated(members[name], rng, text=False)}, int(rng.choice([0, 8])))


def repacked_gz(content: bytes, rng: np.random.Generator, *, text: bool) -> bytes:
    return gzip.compress(mutated(gzip.decompress(content), rng, text=text), 1)


Mutate = Callable[[bytes, np.random.Generator], bytes]
Read = Callable[[bytes, Path], None]
BINARY: Mutate = partial(mutated, text=False)
TEXT: Mutate = partial(mutated, text=True)


def first(kind: str) -> bytes:
    return next(iter(SMALL[kind]()[2].values()))


def targets() -> dict[str, tuple[Callable[[], bytes], Mutate, Read]]:
    """By name: a valid file, how it is damaged, and the reader with its checks."""
    plain: dict[str, tuple[Callable[[], bytes], Mutate, Read]] = {
        kind: (partial(first, kind), BINARY if kind in ("idx", "cifar", "made") else TEXT, partial(parse_one, kind))
        for kind in ("idx", "cifar", "made", "debd", "svmlight", "amat", "letters")
    }
    packed_debd = lambda: gzip.compress(first("debd"))  # noqa: E731
    tar = lambda: tar_gz(small_cifar()[2])  # noqa: E731
    return plain | {
        "made, packed again": (partial(first, "made"), repacked_zip, partial(parse_one, "made")),
        "gz": (packed_debd, BINARY, read_gz),
        "gz, packed again": (packed_debd, partial(repacked_gz, text=True), read_gz),
        "tar.gz": (tar, BINARY, read_tar),
        "tar.gz, packed again": (tar, partial(repacked_gz, text=False), read_tar),
        "higgs": (partial(higgs_text, 12), TEXT, partial(read_text, "HIGGS.csv")),
        "higgs.gz": (partial(first, "higgs"), BINARY, partial(read_text, "HIGGS.csv.gz")),
        "custom npz": (own_npz, BINARY, partial(read_own, ".npz")),
        "custom npz, packed again": (own_npz, repacked_zip, partial(read_own, ".npz")),
        "custom csv": (own_csv, TEXT, partial(read_own, ".csv")),
        "custom svmlight": (own_svmlight, TEXT, partial(read_own, ".svmlight")),
    }


def mutations(default: int) -> int:
    return int(os.environ.get("SET_MUTATIONS", default))


def outcome(read: Callable[[], None], what: str) -> str:
    """'valid' or 'refused'; AssertionError, with what reproduces it, for anything else."""
    sentence = None
    try:
        read()
    except DataError as error:
        sentence = str(error)
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    if sentence is None:
        return "valid"
    assert sentence.isprintable(), f"{what}: {sentence!r}"
    assert len(sentence) < 1000, f"{what}: {sentence!r}"
    return "refused"


@pytest.mark.parametrize("target", targets())
def test_a_mutated_file_is_refused_or_gives_rows_of_the_right_kind(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, mutate, read = targets()[target]
    monkeypatch.setattr(files, "check_digest", lambda *arguments: None)
    monkeypatch.setattr("set_cli.system.files.LARGEST_JSON", MEGABYTE)  # read_json asks for its limit at once
    valid = make()
    read(valid, tmp_path)
    count = Counter[str]()
    for i in range(mutations(300)):
        rng = np.random.default_rng([zlib.crc32(target.encode()), i])
        content = mutate(valid, rng)
        with bounded_memory(40 * MEGABYTE):
            count[outcome(partial(read, content, tmp_path), f"mutation {i} of {target}")] += 1
    print(f"\n{target}: {count.total()} mutations, {count['refused']} refused, {count['valid']} valid", end=" ")
    assert count["refused"]


def uncompressed_mat() -> bytes:
    stream = io.BytesIO()
    arrays = scipy.io.loadmat(io.BytesIO(first("mat")))
    scipy.io.savemat(stream, {name: array for name, array in arrays.items() if not name.startswith("_")})
    return stream.getvalue()


def mutated_mat(valid: bytes, i: int) -> bytes:
    """Damaged as it lies there, or its elements damaged and packed again."""
    rng = np.random.default_rng([13, i])
    if i % 3 == 0:
        return mutated(first("mat"), rng, text=False)
    if i % 3 == 1:
        return valid[:128] + mutated(valid[128:], rng, text=False)
    return valid[:128] + compressed(mutated(valid[128:], rng, text=False))


def test_a_mutated_mat_is_refused_or_gives_rows_of_the_right_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    valid = uncompressed_mat()
    parse_one("mat", valid, tmp_path)

    def one(i: int) -> str:
        content = mutated_mat(valid, i)
        return outcome(lambda: parse_one("mat", content, tmp_path), f"mutation {i}")

    # catch_warnings is not made for threads: what they leave is put back here.
    quiet, pool = warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count())
    with quiet, nothing_left(tmp_path, monkeypatch), bounded_memory(60 * MEGABYTE), pool:
        count = Counter(pool.map(one, range(mutations(40))))
    print(f"\nmat: {count.total()} mutations, {count['refused']} refused, {count['valid']} valid", end=" ")
    assert count["refused"]


def test_the_same_mutation_is_made_again() -> None:
    valid = own_csv()
    assert [TEXT(valid, np.random.default_rng(i)) for i in range(50)] == [
        TEXT(valid, np.random.default_rng(i)) for i in range(50)
    ]
    assert len({TEXT(valid, np.random.default_rng(i)) for i in range(50)}) > 45
