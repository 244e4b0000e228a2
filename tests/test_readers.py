"""The readers: every published format gives the right rows, and every refusal names the file and the place in it."""

from __future__ import annotations

import gzip
import hashlib
import io
import itertools
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from set_cli.data.card import Card, Digest, Form
from set_cli.data.catalog import CATALOG
from set_cli.data.imports import import_files
from set_cli.data.parse import SPLITS, Parts, parse
from set_cli.data.parts import Part
from set_cli.data.readers import higgs
from set_cli.data.readers.binary import read_idx
from set_cli.data.readers.guard import as_binary, check_finite, reading
from set_cli.data.readers.higgs import convert, read_converted
from set_cli.data.readers.text import letters_order, read_amat, read_debd, read_letters, read_svmlight
from set_cli.data.sources import choose_form, missing_files
from set_cli.data.state import departures, describe_rows
from set_cli.errors import DataError
from set_cli.system.progress import no_bar
from tests.raw_files import (
    SIZES,
    Bytes,
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


def assert_rows(part: Part, x: Bytes, y: list[int] | None) -> None:
    """Bytes as they were written, class numbers as int64."""
    assert part.x.dtype == np.uint8
    assert np.array_equal(part.x, x)
    if y is None:
        assert part.y is None
    else:
        assert part.labels.dtype == np.int64
        assert part.labels.tolist() == y


# IDX and CIFAR.


def test_idx_images_become_rows_and_labels_class_numbers() -> None:
    card, form = form_of("mnist", "idx")
    images = {
        part: np.random.default_rng(0).integers(0, 256, (n, 28, 28)).astype(np.uint8) for part, n in SIZES.items()
    }
    labels = {part: np.arange(n, dtype=np.uint8) for part, n in SIZES.items()}
    content = {file.name: idx(images[file.part] if "images" in file.name else labels[file.part]) for file in form.files}
    parts = parse(card, form, content)
    for part in ("train", "test"):
        assert_rows(parts[part], images[part].reshape(-1, 784), labels[part].tolist())
    assert len(parts["valid"]) == 0
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(read_idx(idx(x), "here"), x)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\0\0\x08", "here: expected an IDX file of unsigned bytes, found the header 000008"),
        (b"\0\0\x0d\x01\0\0\0\x01\0\0\0\0", "here: expected an IDX file of unsigned bytes, found the header 00000d01"),
        (b"\0\0\x08\x02\0\0\0\x01\0", r"here: the header promises 2 sizes, the file ends before them"),
        (b"\0\0\x08\x02\0\0\0\x01\0\0\0\x05abcd", r"here: the header promises \(1, 5\), the file has 4 values"),
        (b"\0\0\x08\x01\0\0\0\x03abcd", r"here: the header promises \(3,\), the file has 4 values"),
    ],
)
def test_an_idx_file_that_is_none_says_what_it_has(content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_idx(content, "here")


def small_cifar(monkeypatch: pytest.MonkeyPatch) -> tuple[Card, Form, dict[str, bytes]]:
    """A CIFAR-10 of 33 rows in the catalogue."""
    card, form = form_of("cifar10", "cifar")
    content = cifar_content(form)
    digests = {
        name: Digest("md5", hashlib.md5(c, usedforsecurity=False).hexdigest(), len(c)) for name, c in content.items()
    }
    form = replace(form, files=tuple(replace(file, content=digests[file.name]) for file in form.files))
    card = replace(card, forms=(form,))
    monkeypatch.setitem(CATALOG, "cifar10", card)
    return card, form, content


def assert_cifar(parts: Parts, content: Mapping[str, bytes]) -> None:
    for part, names in (
        ("train", [f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)]),
        ("test", ["cifar-10-batches-bin/test_batch.bin"]),
    ):
        rows = [content[name][i : i + 3073] for name in names for i in range(0, len(content[name]), 3073)]
        got = parts["train" if part == "train" else "test"]
        assert_rows(got, np.array([list(row[1:]) for row in rows], np.uint8), [row[0] for row in rows])


def test_cifar_is_read_from_its_batches_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    card, form, content = small_cifar(monkeypatch)
    assert_cifar(parse(card, form, content), content)
    for name, batch in content.items():
        (tmp_path / "cifar10" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cifar10" / name).write_bytes(batch)
    assert_cifar(source(card, form, tmp_path).parts, content)


@pytest.mark.parametrize("how", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("order", [1, -1])
def test_cifar_is_read_from_its_archive_and_nothing_is_extracted(
    how: int, order: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card, form, content = small_cifar(monkeypatch)
    (tmp_path / "cifar10").mkdir()
    members = {"cifar-10-batches-bin/readme.html": b"<html>" * 999, **content}
    packed = tar_gz(dict(list(members.items())[::order]), how)
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(packed)
    before = files_below(tmp_path)
    got = source(card, form, tmp_path)
    assert_cifar(got.parts, content)
    assert files_below(tmp_path) == before
    assert got.origin == "verified"


def test_an_archive_of_other_batches_or_without_some_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card, form, content = small_cifar(monkeypatch)
    (tmp_path / "cifar10").mkdir()
    path = tmp_path / "cifar10" / "cifar-10-binary.tar.gz"
    name = "cifar-10-batches-bin/data_batch_3.bin"
    altered = bytes([content[name][0] ^ 1]) + content[name][1:]
    for members, sentence in (
        ({key: c for key, c in content.items() if key != name}, f"{path}: {name} not in the archive"),
        (content | {name: altered}, f"{path}:{name}: md5 is .*, expected"),
        (content | {name: altered + b"\0"}, f"{path}: {name} has {len(altered) + 1:,} bytes, expected"),
    ):
        path.write_bytes(tar_gz(members))
        with pytest.raises(DataError, match=sentence):
            source(card, form, tmp_path)


# MADE's npz.


@pytest.mark.parametrize("long", ["L", ""])
def test_made_gives_bytes_without_labels_also_from_python_2s_headers(long: str) -> None:
    card, form = form_of("dna", "made")
    x = {split: binary(n, 180, seed) for seed, (split, n) in enumerate(SIZES.items())}
    parts = parse(card, form, {"dna.npz": made(x, long)})
    for split in SPLITS:
        assert_rows(parts[split], x[split], None)


def test_made_is_read_however_numpy_lays_it_out() -> None:
    card, form = form_of("dna", "made")
    x = {split: binary(n, 180) for split, n in SIZES.items()}
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        allow_pickle=False,
        train_data=np.asfortranarray(x["train"].astype(">f8")),
        valid_data=x["valid"].astype(bool),
        test_data=x["test"].astype("<i8"),
    )
    parts = parse(card, form, {"dna.npz": stream.getvalue()})
    for split in SPLITS:
        assert_rows(parts[split], x[split], None)


def test_an_npy_of_version_2_is_read() -> None:
    card, form = form_of("dna", "made")
    x = binary(2, 180)
    member = npy("(2, 180)", x.astype("<f4").tobytes(), version=2)
    parts = parse(card, form, {"dna.npz": archive({f"{split}_data.npy": member for split in SPLITS})})
    assert_rows(parts["test"], x, None)


def test_made_names_the_cell_that_is_neither_0_nor_1() -> None:
    card, form = form_of("dna", "made")
    x = {split: binary(n, 180) for split, n in SIZES.items()}
    x["valid"][1, 99] = 2
    with pytest.raises(DataError, match=r"^dna\.npz:valid_data: expected 0 or 1, found 2\.0 in row 2, column 100$"):
        parse(card, form, {"dna.npz": made(x)})
    with pytest.raises(DataError, match=r"^dna\.npz: expected the arrays test_data, train_data, valid_data, found "):
        parse(card, form, {"dna.npz": made({"train": x["train"]})})
    with pytest.raises(DataError, match=r"^dna\.npz:test_data: expected rows, found none"):
        parse(card, form, {"dna.npz": made(x | {"valid": x["train"], "test": x["test"][:0]})})
    with pytest.raises(DataError, match=r"^dna: train: expected rows of 180 features"):
        parse(card, form, {"dna.npz": made({split: x[:, :179] for split, x in (x | {"valid": x["train"]}).items()})})


def test_the_first_wrong_cell_is_named_without_listing_all() -> None:
    x = np.full((4000, 500), 7, np.uint8)
    x[0, :3] = 1
    with bounded_memory(30_000_000), pytest.raises(DataError, match="found 7 in row 1, column 4"):
        as_binary(x, "here")
    values = np.full((4000, 500), np.nan, np.float32)
    with bounded_memory(30_000_000), pytest.raises(DataError, match="found nan in row 1, column 1"):
        check_finite(values, "here")


def test_too_little_memory_and_any_librarys_exception_are_one_sentence() -> None:
    for error, sentence in (
        (MemoryError(), "here: needs more memory than there is; the file is damaged or too large"),
        (RecursionError("too\n\x1b[31mdeep"), "here: malformed (too ?[31mdeep)"),
        (AssertionError(), "here: malformed (AssertionError)"),
        (KeyError("x" * 999), f"here: malformed ('{'x' * 199})"),
    ):
        with pytest.raises(DataError, match=f"^{re.escape(sentence)}$"), reading("here"):
            raise error


# Text.


def test_debd_is_what_loadtxt_reads() -> None:
    card, form = form_of("adult", "debd")
    content = by_file(form, {split: debd(binary(n, 123, n)) for split, n in SIZES.items()})
    parts = parse(card, form, content)
    for split, file in zip(SPLITS, form.files, strict=True):
        expected = np.loadtxt(io.BytesIO(content[file.name]), delimiter=",", dtype=np.uint8)
        assert_rows(parts[split], expected, None)


def test_line_ends_of_other_systems_and_a_missing_last_one_are_read() -> None:
    x = binary(5, 4)
    for content in (debd(x).replace(b"\n", b"\r\n"), debd(x)[:-1]):
        assert np.array_equal(read_debd(content, "here", 4), x)
    for ends in (b"\r\n", b"\n"):
        for cut in (0, len(ends)):
            content = svmlight(x, [1] * 5).replace(b"\n", ends)
            assert np.array_equal(read_svmlight(content[: len(content) - cut], "here", 4, 999)[0], x)
            content = amat(x, [1] * 5).replace(b"\n", ends)
            assert np.array_equal(read_amat(content[: len(content) - cut], "here", 4)[0], x)
            content = letters(x, "abcde").replace(b"\n", ends)
            assert np.array_equal(read_letters(content[: len(content) - cut], "here", 4)[0], x)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "found 0 bytes"),
        (b"0,1,1\n0,1\n", r"found '0,1' in line 2"),
        (b"0,1,1\n0,1,2\n", r"found '0,1,2' in line 2"),
        (b"0,1,1\n0;1;1\n", r"found '0;1;1' in line 2"),
        (b"0,1,1\n\n0,1,1\n", r"found '' in line 2"),
        (b"0,1,1\n" + b"0," * 9999 + b"1\n", r"found '(0,){15}'… in line 2"),
        (b"0 , 1,1\n", r"found '0 , 1,1' in line 1"),
        (b"<html><body>404</body></html>", r"found '<html>.*' in line 1"),
    ],
)
def test_debd_names_the_first_odd_line(content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=f"^here: expected 3 comma-separated 0 or 1 a line, {sentence}$"):
        read_debd(content, "here", 3)


SPARSE_LINES = b"""# comment
+1 1:1 3:1
-1 2:1 # 3:1

2.0 1:1e0 2:0.0 4:1
-1
"""


def test_svmlight_is_what_its_lines_say() -> None:
    x, y = read_svmlight(SPARSE_LINES, "here", 4, 999)
    expected = []
    for line in SPARSE_LINES.decode().splitlines():
        if tokens := line.partition("#")[0].split():
            cells = dict(token.split(":") for token in tokens[1:])
            expected.append([float(tokens[0]), *(float(cells.get(str(j), 0)) for j in range(1, 5))])
    assert np.column_stack([y, x]).tolist() == expected
    assert x.dtype == np.float32
    assert read_svmlight(b"1 1:1 7:0.5\n", "here", None, 999)[0].tolist() == [[1, 0, 0, 0, 0, 0, 0.5]]


def test_svmlight_labels_become_the_classes_in_order() -> None:
    card, form = form_of("connect4", "svmlight")
    x = {split: binary(n, 126, n) for split, n in SIZES.items()}
    y = {"train": [-1, 0, 1, 1, 0, -1, 0], "valid": [1, 1, 1], "test": [-1, 0, -1, 1]}
    parts = parse(card, form, by_file(form, {split: svmlight(x[split], y[split]) for split in SIZES}))
    for split in SPLITS:
        assert_rows(parts[split], x[split], [label + 1 for label in y[split]])


def test_svmlight_of_training_and_validation_rows_is_cut_where_the_card_says() -> None:
    card, form = form_of("web", "svmlight")
    card = replace(card, train=5, valid=3)
    x, y = binary(12, 300), [-1, 1] * 6
    parts = parse(card, form, {"w6a": svmlight(x[:8], y[:8]), "w6a.t": svmlight(x[8:], y[8:])})
    for split, rows in (("train", slice(5)), ("valid", slice(5, 8)), ("test", slice(8, 12))):
        assert_rows(parts["train" if split == "train" else "valid" if split == "valid" else "test"], x[rows],
                    [(label + 1) // 2 for label in y[rows]])  # fmt: skip


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"1 1:1\n1 2:1 1:1\n", r"found '1:1' in line 2, column 3"),
        (b"1 1:1\n\n1 2:1 2:1\n", r"found '2:1' in line 3, column 3"),
        (b"1 1:1\n1 5:1\n", r"found '5:1' in line 2, column 2"),
        (b"1 0:1\n", r"found '0:1' in line 1, column 2"),
        (b"1 -2:1\n", r"found '-2:1' in line 1, column 2"),
        (b"1 1:1\n1 two:1\n", r"found 'two:1' in line 2, column 2"),
        (b"1 1:1\n1 3\n", r"found '3' in line 2, column 2"),
        (b"1 1:1\n1 3:x\n", r"found '3:x' in line 2, column 2"),
        (b"1 1:1\n1 3:nan\n", r"found '3:nan' in line 2, column 2"),
        (b"1 1:1\n1 3:1e999\n", r"found '3:1e999' in line 2, column 2"),
        (b"1 1:1\n1 3:1e39\n", r"found '3:1e39' in line 2, column 2"),
        (b"1 1:1\ncat 3:1\n", r"found 'cat' in line 2, column 1"),
        (b"1 1:1\nnan 3:1\n", r"found 'nan' in line 2, column 1"),
        (b"1 1:1\n1 3:1\x00\n", r"found '3:1\\x00' in line 2, column 2"),
        (b"1 1:1\n1 3:1,5\n", r"found '3:1,5' in line 2, column 2"),
        (b"1 1:1\n1 " + b"9" * 300 + b":1\n", r"found '9{30}'… in line 2, column 2"),
        (b"1 1:1\n" + b"1" * 10_000_000, r"found more than 320 characters in line 2"),
        (b"# nothing\n", "found none"),
        (b"", "found none"),
    ],
)
def test_svmlight_names_the_line_and_the_column(content: bytes, sentence: str) -> None:
    expected = "expected lines of `label index:value …` with indices from 1 to 4 that rise, "
    with bounded_memory(40_000_000), pytest.raises(DataError, match=f"^here: {expected}{sentence}$"):
        read_svmlight(content, "here", 4, 999)


def test_a_table_too_large_to_lay_out_is_refused_before_it_is() -> None:
    with bounded_memory(1_000_000), pytest.raises(DataError, match=r"^here: expected a table of at most 100 cells"):
        read_svmlight(b"1 2147483647:1\n", "here", None, 100)


def test_amat_is_what_its_lines_say_and_its_last_column_is_the_label() -> None:
    card, form = form_of("rcv1", "amat")
    x = {split: binary(n, 150, n) for split, n in SIZES.items()}
    y = {split: [i % 2 for i in range(n)] for split, n in SIZES.items()}
    parts = parse(card, form, by_file(form, {split: amat(x[split], y[split]) for split in SIZES}))
    for split in SPLITS:
        assert_rows(parts[split], x[split], y[split])
    table, target = read_amat(b"1.0e+00 0.0  7\n\n0 1 -2.5\n", "here", 2)
    assert (table.tolist(), target.tolist()) == ([[1, 0], [0, 1]], [7, -2.5])


def test_amats_dummy_target_is_left_out() -> None:
    card, form = form_of("nips", "amat")
    x = {split: binary(n, 500, n) for split, n in SIZES.items()}
    content = by_file(form, {split: amat(x[split], list(range(n))) for split, n in SIZES.items()})
    parts = parse(card, form, content)
    for split in SPLITS:
        assert_rows(parts[split], x[split], None)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "found none"),
        (b"\n\n", "found none"),
        (b"1 0 1\n1 x 1\n", r"found 'x' in line 2, column 2"),
        (b"1 0 1\n\n1 0\n", r"found 2 columns in line 3"),
        (b"1 0\n1 0\n", r"found 2 columns in line 1"),
        (b"1 0 1\n1 0 1 1\n", r"found 4 columns in line 2"),
        (b"1 0 1\n1 \x001 1\n", r"found '\\x001' in line 2, column 2"),
        (b"1 0 1\n1 1,0 1\n", r"found '1,0' in line 2, column 2"),
        (b"1 0 1\n1 0 nan\n", r"found 'nan' in line 2, column 3"),
        (b"1 0 1\n1 1e999 1\n", r"found '1e999' in line 2, column 2"),
        (b"1 0 1\n1 " + b"0" * 10_000_000, r"found more than 192 characters in line 2"),
        (b"1 0 1\n" + b"1 " * 5_000_000, r"found more than 192 characters in line 2"),
    ],
)
def test_amat_names_the_line_and_the_column(content: bytes, sentence: str) -> None:
    expected = "expected lines of 2 values and a target, "
    with bounded_memory(40_000_000), pytest.raises(DataError, match=f"^here: {expected}{sentence}$"):
        read_amat(content, "here", 2)
    with pytest.raises(DataError, match=r"^here: expected 0 or 1, found 0\.5 in row 2, column 1"):
        read_amat(b"1 0 1\n0.5 1 1\n", "here", 2)


def test_too_many_different_labels_are_counted() -> None:
    card, form = form_of("mushrooms", "svmlight")
    content = by_file(form, {split: svmlight(binary(n, 112), list(range(n))) for split, n in SIZES.items()})
    with pytest.raises(DataError, match=r"mushrooms_train\.libsvm, .*: expected 2 different labels, found 7"):
        parse(card, form, content)


# Taskar's letters.


def mersenne_twister(seed: int) -> Iterator[int]:
    """MT19937 as Matsumoto and Nishimura published it (mt19937ar.c), seeded by an array of one word."""
    state = [19650218]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) % 2**32)
    i = 1
    for _ in range(624):
        state[i] = ((state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) * 1664525)) + seed) % 2**32
        i += 1
        if i == 624:
            state[0], i = state[623], 1
    for _ in range(623):
        state[i] = ((state[i] ^ ((state[i - 1] ^ (state[i - 1] >> 30)) * 1566083941)) - i) % 2**32
        i += 1
        if i == 624:
            state[0], i = state[623], 1
    state[0] = 2**31
    while True:
        for k in range(624):
            y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7FFFFFFF)
            state[k] = state[(k + 397) % 624] ^ (y >> 1) ^ (0x9908B0DF if y & 1 else 0)
        for y in state:
            y ^= y >> 11
            y ^= (y << 7) & 0x9D2C5680
            y ^= (y << 15) & 0xEFC60000
            yield y ^ (y >> 18)


def python_2_shuffle(rows: int, seed: int) -> list[int]:
    """random.shuffle of Python 2.7: 53 bits a draw, from the end."""
    words = mersenne_twister(seed)
    order = list(range(rows))
    for i in reversed(range(1, rows)):
        a, b = next(words) >> 5, next(words) >> 6
        j = int((a * 67108864.0 + b) * (1.0 / 9007199254740992.0) * (i + 1))
        order[i], order[j] = order[j], order[i]
    return order


def test_the_letters_order_is_python_2s_shuffle() -> None:
    assert letters_order(10).tolist() == [1, 3, 9, 5, 8, 7, 2, 6, 0, 4]
    for rows in (1, 2, 700, 52_152):
        assert letters_order(rows).tolist() == python_2_shuffle(rows, 12345)


def test_letters_are_shuffled_then_cut() -> None:
    card, form = form_of("ocr_letters", "letters")
    card = replace(card, train=7, valid=3, test=4)
    x, words = binary(14, 128), "thequickbrownz"
    parts = parse(card, form, {"letter.data": letters(x, words)})
    order = python_2_shuffle(14, 12345)
    for split, rows in (("train", order[:7]), ("valid", order[7:10]), ("test", order[10:])):
        part = parts["train" if split == "train" else "valid" if split == "valid" else "test"]
        assert_rows(part, x[rows], ["abcdefghijklmnopqrstuvwxyz".index(words[row]) for row in rows])
    with pytest.raises(DataError, match=r"letter\.data: expected 14 letters, found 13; the split needs them all"):
        parse(card, form, {"letter.data": letters(x[1:], words[1:])})


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (b"\tb\t", b"\tB\t", "expected a letter from a to z, found 'B' in line 2, column 2"),
        (b"\tb\t", b"\tbb\t", "expected a letter from a to z, found 'bb' in line 2, column 2"),
        (b"\tb\t", b"\t\t", "expected a letter from a to z, found '' in line 2, column 2"),
        (b"\tb\t", b"\t", "expected 10 columns, found 9 in line 2"),
        (b"0\t1\t1\t\n3", b"0\t1\t1\t1\t\n3", "expected 10 columns, found 11 in line 2"),
        (b"0\t1\t1\t\n3", b"0\t1\t2\t\n3", "expected pixels 0 or 1, found '2' in line 2, column 10"),
        (b"0\t1\t1\t\n3", b"0\t01\t\t1\t\n3", "expected 10 columns, found 11 in line 2"),
        (b"1\t0\t1\t1\t\n3", b"\t10\t1\t1\t\n3", "expected pixels 0 or 1, found '' in line 2, column 7"),
        (b"\n3", b"\n\n3", "expected 10 columns, found 1 in line 3"),
        (b"\tb\t", b"\t" * 10_000_000, "expected 10 columns, found more than 640 characters in line 2"),
    ],
)
def test_letters_name_the_line_and_the_column(old: bytes, new: bytes, sentence: str) -> None:
    content = letters(np.array([[0, 1, 1, 0], [1, 0, 1, 1], [0, 0, 0, 1]], np.uint8), "abc")
    assert content.count(old) == 1
    with bounded_memory(60_000_000), pytest.raises(DataError, match=f"^here: {sentence}$"):
        read_letters(content.replace(old, new), "here", 4)
    assert content == letters(read_letters(content, "here", 4)[0], "abc")


# The silhouettes' .mat.


def test_silhouettes_are_turned_from_columns_to_rows() -> None:
    card, form = form_of("caltech16", "mat")
    card = replace(card, shape=(4, 3), features=12)
    images = {p: binary(n, 12, n).reshape(n, 4, 3) for p, n in (("train", 7), ("val", 3), ("test", 4))}
    y = {"train": [1, 2, 101, 4, 5, 6, 7], "val": [8, 9, 10], "test": [1, 101, 3, 4]}
    name = form.files[0].name
    parts = parse(card, form, {name: silhouettes({p: (images[p], y[p]) for p in images})})
    for split, prefix in (("train", "train"), ("valid", "val"), ("test", "test")):
        part = parts["train" if split == "train" else "valid" if split == "valid" else "test"]
        expected = [[image[row][column] for row in range(4) for column in range(3)] for image in images[prefix]]
        assert_rows(part, np.array(expected, np.uint8), [label - 1 for label in y[prefix]])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"train_data": np.array([[0, 1], [1, 2]], np.uint8)},
            ":train_data: expected 0 or 1, found 2 in row 2, column 2",
        ),
        ({"val_data": np.zeros((2, 3), np.uint8)}, ": expected rows of 2 values, found 3"),
        ({"test_data": np.zeros((0, 2), np.uint8)}, ":test_data: expected rows, found none"),
        ({"train_labels": np.array([1.5, 2])}, ": expected whole numbers as labels, found 1.5 in row 1"),
        ({"train_labels": np.array([1, np.nan])}, ": expected whole numbers as labels, found nan in row 2"),
        ({"train_labels": np.array([1, 1e300])}, ": expected whole numbers as labels, found 1e\\+300 in row 2"),
        ({"train_labels": np.array([1, 102])}, ": train: expected labels 0 to 100, found 101 in row 2"),
        ({"train_labels": np.array([1, 0])}, ": train: expected labels 0 to 100, found -1 in row 2"),
        ({"test_labels": np.array([1])}, ": test: expected one label per row of 2 features, found 1 labels"),
        ({"val_labels": None}, ": expected the arrays .*, found test_data, .*"),
        ({"val_labels": np.array(["a", "b"])}, ": malformed \\(val_labels: expected an array of numbers, found .*\\)"),
        ({"val_data": np.array([[1, "b"]], object)}, ": malformed \\(val_data: expected an array of numbers, .*\\)"),
    ],
)
def test_a_mat_that_is_no_silhouettes_says_where(changes: dict[str, object], sentence: str) -> None:
    card, form = form_of("caltech16", "mat")
    card = replace(card, shape=(1, 2), features=2)
    arrays: dict[str, object] = {}
    for prefix in ("train", "val", "test"):
        arrays[f"{prefix}_data"] = np.array([[0, 1], [1, 0]], np.uint8)
        arrays[f"{prefix}_labels"] = np.array([[1], [2]], np.uint8)
    stream = io.BytesIO()
    scipy.io.savemat(stream, {key: value for key, value in (arrays | changes).items() if value is not None})
    with pytest.raises(DataError, match=f"^(caltech16|{form.files[0].name}){sentence}"):
        parse(card, form, {form.files[0].name: stream.getvalue()})


# HIGGS.


def expected_higgs(text: bytes) -> tuple[list[list[float]], list[int]]:
    """Cell by cell; NumPy rounds to float32."""
    rows = [line.split(",") for line in text.decode().splitlines()]
    return [[float(np.float32(cell)) for cell in row[1:]] for row in rows], [int(float(row[0])) for row in rows]


def converted(folder: Path, text: bytes, name: str = "HIGGS.csv", features: int = 28) -> Part:
    """The text, converted in the folder, and read back."""
    source, target = folder / name, folder / "converted-0"
    source.write_bytes(gzip.compress(text, 1) if name.endswith(".gz") else text)
    shutil.rmtree(target, ignore_errors=True)
    convert(source, f"higgs/{name}", features, target, no_bar)
    return read_converted(target, no_bar)


@pytest.mark.parametrize("name", ["HIGGS.csv", "HIGGS.csv.gz"])
def test_higgs_becomes_float32_rows_that_are_mapped(name: str, tmp_path: Path) -> None:
    text = higgs_text(50)
    part = converted(tmp_path, text, name)
    x, y = expected_higgs(text)
    assert isinstance(part.x, np.memmap)
    assert part.x.dtype == np.float32
    assert part.labels.dtype == np.int64
    assert (part.x.tolist(), part.labels.tolist()) == (x, y)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name, "converted-0"]  # sorted: capitals come first


@pytest.mark.parametrize("last", [b"", b"\n", b"\r\n"])
def test_higgs_is_the_same_wherever_blocks_are_cut(
    last: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = higgs_text(6, features=2).rstrip(b"\n")
    expected = expected_higgs(text)
    longest = max(len(line) for line in text.split(b"\n")) + 2
    for block in [*range(1, 30), *range(longest, longest + 30), len(text) - 1, len(text), len(text) + 1, 2 * len(text)]:
        monkeypatch.setattr(higgs, "BLOCK", block)
        part = converted(tmp_path, text + last, features=2)
        assert (part.x.tolist(), part.labels.tolist()) == expected, block


@pytest.mark.parametrize("last", [b"", b"\n", b"\n1,2\n"])
@pytest.mark.parametrize("size", [200, 3000])
def test_a_line_too_long_for_a_row_is_refused(
    size: int, last: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(higgs, "BLOCK", 1000)
    text = higgs_text(30, features=2) + b"1," + b"1" * size + last
    with pytest.raises(DataError, match=r"^higgs/HIGGS\.csv: expected .*, found more than 192 characters in line 31$"):
        converted(tmp_path, text, features=2)


@pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-Infinity", "1e39", "9" * 100, "", "x", "0x10", "1.5.2", "1 2"])
@pytest.mark.parametrize("column", [1, 2, 3])
def test_higgs_names_line_and_column_of_what_is_no_finite_number(
    cell: str, column: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(higgs, "BLOCK", 500)
    lines = higgs_text(40, features=2).decode().splitlines()
    cells = lines[32].split(",")
    cells[column - 1] = cell
    text = "\n".join([*lines[:32], ",".join(cells), *lines[33:]])
    sentence = re.escape(f"found {cell[:30]!r}{'…' if len(cell) > 30 else ''} in line 33, column {column}")
    with pytest.raises(
        DataError, match=rf"^higgs/HIGGS\.csv: expected a label 0 or 1 and 2 finite numbers a line, {sentence}$"
    ):
        converted(tmp_path, text.encode(), features=2)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"1,2", "found 2 columns in line 33"),
        (b"1,2,3,4", "found 4 columns in line 33"),
        (b"", "found 1 columns in line 33"),
        (b"2,0.5,0.5", "found '2' in line 33, column 1"),
        (b"0.5,0.5,0.5", "found '0.5' in line 33, column 1"),
        (b"-1,0.5,0.5", "found '-1' in line 33, column 1"),
        (b"1,0.5,\x00", r"found '\\x00' in line 33, column 3"),
        (b"1,0.5,0.5\x005", r"found '0.5\\x005' in line 33, column 3"),
        (b'1,0.5,"0.5"', "found '\"0.5\"' in line 33, column 3"),
        (b'1,0.5,"0.5', "found '\"0.5' in line 33, column 3"),
        (b"1,0.5,\xff", r"found '\\xff' in line 33, column 3"),
        (b"1,0.5,0.5\r1,0.5,0.5", "found 5 columns in line 33"),
        (b"1;0.5;0.5", "found 1 columns in line 33"),
    ],
)
def test_higgs_names_the_line_that_is_no_row(
    line: bytes, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for block in (500, 10_000):
        monkeypatch.setattr(higgs, "BLOCK", block)
        lines = higgs_text(40, features=2).splitlines()
        text = b"\n".join([*lines[:32], line, *lines[32:]])
        with pytest.raises(DataError, match=rf"^higgs/HIGGS\.csv: expected .*, {sentence}$"):
            converted(tmp_path, text, features=2)
    with pytest.raises(DataError, match=r"higgs/HIGGS\.csv: expected .*, found .* in line 1"):
        converted(tmp_path, line + b"\n" + text, features=2)
    assert [p.name for p in tmp_path.iterdir()] == ["HIGGS.csv"]


@pytest.mark.parametrize("text", [b"", b"\n", b"\n\n\n"])
def test_a_text_without_rows_is_refused(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^higgs/HIGGS\.csv: expected "):
        converted(tmp_path, text)
    assert [p.name for p in tmp_path.iterdir()] == ["HIGGS.csv"]


@pytest.mark.parametrize("how", ["exception", "interrupt", "disk full", "truncated"])
def test_an_interrupted_conversion_leaves_nothing(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(higgs, "BLOCK", 1000)
    source = tmp_path / "HIGGS.csv.gz"
    packed = gzip.compress(higgs_text(100, features=2))
    source.write_bytes(packed[:-30] if how == "truncated" else packed)
    advanced = itertools.count(1)

    def advance(_: int) -> None:
        if next(advanced) == 3:
            match how:
                case "exception":
                    raise ValueError("in the middle")
                case "interrupt":
                    raise KeyboardInterrupt
                case "disk full":
                    raise OSError(28, "No space left on device")

    @contextmanager
    def bar(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
        yield advance

    with pytest.raises((DataError, KeyboardInterrupt)):
        convert(source, "higgs/HIGGS.csv.gz", 2, tmp_path / "converted-0", bar)
    assert next(advanced) > 3
    assert [p.name for p in tmp_path.iterdir()] == ["HIGGS.csv.gz"]


def test_what_a_killed_conversion_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".converting-killed").mkdir()
    (tmp_path / ".converting-killed" / "x.f32").write_bytes(b"half")
    converted(tmp_path, higgs_text(3))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["HIGGS.csv", "converted-0"]


def change(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    match how:
        case "flipped":
            content[len(content) // 2] ^= 1
        case "shorter":
            content = content[:-1]
        case "longer":
            content += b"\0"
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how != "missing":
        path.write_bytes(content)


@pytest.mark.parametrize("file", ["x.f32", "y.u8"])
@pytest.mark.parametrize("how", ["flipped", "shorter", "longer", "missing", "pipe"])
def test_an_altered_conversion_is_refused(how: str, file: str, tmp_path: Path) -> None:
    converted(tmp_path, higgs_text(20))
    change(tmp_path / "converted-0" / file, how)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "converted-0" / file))) as caught:
        read_converted(tmp_path / "converted-0", no_bar)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "facts",
    [
        "[]",
        "3",
        "null",
        "{}",
        '{"rows": 1e999, "features": 28, "sha256": {"x.f32": "0", "y.u8": "0"}}',
        '{"rows": -20, "features": -28, "sha256": {"x.f32": "0", "y.u8": "0"}}',
        '{"rows": 0, "features": 28, "sha256": {"x.f32": "0", "y.u8": "0"}}',
        '{"rows": "many", "features": 28, "sha256": {"x.f32": "0", "y.u8": "0"}}',
        '{"rows": 20, "features": 28, "sha256": 5}',
        '{"rows": 20, "features": 28, "sha256": {}}',
        '{"rows": NaN}',
        "not json",
        "[" * 100_000,
    ],
)
def test_a_conversion_whose_facts_are_malformed_is_refused(facts: str, tmp_path: Path) -> None:
    converted(tmp_path, higgs_text(20))
    (tmp_path / "converted-0" / "converted.json").write_text(facts)
    with pytest.raises(DataError, match=r"converted\.json: ") as caught:
        read_converted(tmp_path / "converted-0", no_bar)
    assert "\n" not in str(caught.value)


def test_the_memory_of_a_conversion_is_that_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(higgs, "BLOCK", 2**20)
    some = higgs_text(1000)
    times = 60_000_000 // len(some) + 1
    with gzip.open(tmp_path / "HIGGS.csv.gz", "wb", 1) as stream:
        for _ in range(times):
            stream.write(some)
    with bounded_memory(15_000_000):
        convert(tmp_path / "HIGGS.csv.gz", "higgs", 28, tmp_path / "converted-0", no_bar)
    part = read_converted(tmp_path / "converted-0", no_bar)
    assert len(part) == 1000 * times
    assert part.x[-1].tolist() == expected_higgs(some)[0][-1]


# Real files, where they are.

# What is known to be other than the published sets: sentences of `departures`.
REAL: dict[str, tuple[str, ...]] = {
    "adult": (),
    "connect4": (),
    "dna": (),
    "mushrooms": (),
    "nips": (),
    "ocr_letters": (),
    "web": (),
    "caltech28": (),
    "mnist": (),
    "cifar10": ("0 test rows, the published set has 10,000",),
    "higgs": ("train rows, the published set has 10,500,000", "0 test rows, the published set has 500,000"),
}
BY_IMPORT = ("adult", "connect4", "ocr_letters", "web", "higgs")


@pytest.mark.parametrize("name", REAL)
def test_real_rows_are_what_the_card_says(name: str, real_data: str, tmp_path: Path) -> None:
    card, folder = CATALOG[name], Path(real_data)
    if not (folder / name).is_dir():
        pytest.skip(f"{name} is not in {folder}")
    if name in BY_IMPORT:
        for path in sorted(p for p in (folder / name).iterdir() if p.name.startswith((name, "HIGGS"))):
            import_files(card, tmp_path, [path], unverified=True, bar=no_bar)
        folder = tmp_path
    with_test = name != "cifar10"
    form = choose_form(card, folder, labels=False, with_test=with_test, may_fetch=False)
    if missing := missing_files(card, form, folder / name, with_test=with_test):
        pytest.skip(f"{', '.join(file.name for file in missing)} not in {folder / name}")
    got = source(card, form, folder, with_test=with_test)
    assert got.origin == ("imported" if name in BY_IMPORT else "verified")
    found = departures(card, got.parts)
    assert len(found) == len(REAL[name]), found
    assert all(sentence.endswith(expected) for sentence, expected in zip(found, REAL[name], strict=True)), found
    text = describe_rows(got.parts)
    assert f" rows of {card.features:,}, " in text
    if card.kind == "binary":
        assert "values 0 to 1, " in text
    elif card.kind == "bounded":
        assert f"values 0 to {card.maximum}, " in text
    if form.labels:
        assert f"{card.classes} classes of " in text


def test_real_silhouettes_are_scipys_turned_from_columns_to_rows(real_data: str) -> None:
    path = Path(real_data, "caltech28", "caltech101_silhouettes_28_split1.mat")
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    card, form = form_of("caltech28", "mat")
    parts = parse(card, form, {form.files[0].name: path.read_bytes()})
    there = scipy.io.loadmat(path)
    image = there["test_data"][5].reshape(28, 28, order="F")
    assert np.array_equal(parts["test"].x[5].reshape(28, 28), image)
    assert np.array_equal(parts["valid"].labels + 1, there["val_labels"].ravel())
