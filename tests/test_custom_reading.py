"""Own files as people have them: every separator, packing and name of an array, and one sentence for what is odd."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from set_cli.config import Dataset
from set_cli.data.card import Card
from set_cli.data.custom import check_path, custom_checksums, read_custom
from set_cli.data.parse import Parts
from set_cli.errors import ConfigError, DataError, NotApplicable, SetError
from set_cli.training.pairs import with_checksum
from tests.conftest import Compose

TABLE = "a,b,label\n1.5,2,x\n3,4,y\n5,6,x\n"
X = [[1.5, 2], [3, 4], [5, 6]]
ROWS = np.arange(48.0).reshape(8, 6)
LABELS = np.array([0, 1] * 4)


def saved(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(
    path: Path, *, labels: bool = True, missing: str = "refuse", test: Path | None = None, **keys: Any
) -> tuple[Card, Parts]:
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (path, test) if p is not None]
    if test is not None:
        keys |= {"test_path": str(test), "test_checksum": digests[1]}
    dataset = Dataset(name="custom", path=str(path), checksum=digests[0], **keys)
    return read_custom(dataset, missing=missing, labels=labels)


def refused(path: Path, **how: Any) -> str:
    with pytest.raises(SetError) as caught:
        read(path, **how)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700
    return str(caught.value)


def packed(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def matlab(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    scipy.io.savemat(stream, arrays)
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, TABLE)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", "|"),
        TABLE.replace(",", "  "),
        TABLE.replace(",", ", "),
        "sep=;\n" + TABLE.replace(",", ";"),
        '"a";"b";"label"\n"1,5";2;"x"\n3;4;"y"\n5;6;"x"\n',  # a decimal comma
        TABLE.replace("\n", "\r"),
        TABLE.encode("utf-16"),
        TABLE.encode("utf-16-le"),
        b"\xef\xbb\xbf" + TABLE.encode(),
        "\n\n" + TABLE,
        "'a','b','label'\n" + TABLE.partition("\n")[2],
    ],
)
def test_a_table_is_the_same_with_any_separator_and_encoding(content: bytes | str, tmp_path: Path) -> None:
    card, parts = read(saved(tmp_path, "my.csv", content))
    assert parts["train"].x.tolist() == X
    assert parts["train"].labels.tolist() == [0, 1, 0]
    assert (card.feature_names, card.class_names) == (("a", "b"), ("x", "y"))


def test_words_in_another_encoding_are_read_and_that_is_said(tmp_path: Path) -> None:
    card, _ = read(saved(tmp_path, "my.csv", TABLE.replace("x", "süß").encode("cp1252")))
    assert card.class_names == ("süß", "y")
    assert card.notes == ("the text is no UTF-8: it is read as Windows-1252",)


def test_quoted_cells_may_hold_separators_and_line_ends(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", 'a,"b, c",label\n1,2,"x, y"\n3,4,"two\nlines"\nz,5,w\n')
    assert "found 'z' in line 5, column 'a'" in refused(path)
    card, _ = read(saved(tmp_path, "other.csv", path.read_text().replace("z,5,w\n", "")))
    assert (card.feature_names, card.class_names) == (("a", "b, c"), ("two lines", "x, y"))


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, lambda c: zipped("in.csv")])
def test_packed_files_are_unpacked(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = pack(TABLE.encode())
    suffix = {b"\x1f": ".csv.gz", b"B": ".csv.bz2", b"\xfd": ".csv.xz", b"P": ".zip"}[content[:1]]
    assert read(saved(tmp_path, f"my{suffix}", content))[1]["train"].x.tolist() == X
    assert "is a" in refused(saved(tmp_path, "misnamed.csv", content))


def test_a_zip_of_several_tables_and_a_bomb_are_refused(tmp_path: Path) -> None:
    assert "expected one table in the archive, found a.csv, b.csv" in refused(
        saved(tmp_path, "my.zip", zipped("a.csv", "b.csv"))
    )
    bomb = gzip.compress(bytes(2**28 + 2**21), 1)
    assert "expected at most 268,435,456 bytes of content" in refused(saved(tmp_path, "bomb.csv.gz", bomb))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (",a,label\n0,1.5,x\n1,3,y\n", "row numbers (0, 1 …)"),
        (",a,label\n7,1.5,x\n2,3,y\n", "row numbers (7, 2 …)"),  # after a shuffle
        ('"a","label"\n"1",1.5,"x"\n"2",3,"y"\n', "row numbers (1, 2 …)"),  # R
        ("a,label\nMazda RX4,1.5,x\nDatsun 710,3,y\n", "row names (Mazda RX4, Datsun 710 …)"),
        ("rownames,a,label\n1,1.5,x\n2,3,y\n", "row numbers (1, 2 …)"),
    ],
)
def test_row_numbers_are_no_feature_and_that_is_said(content: str, what: str, tmp_path: Path) -> None:
    card, parts = read(saved(tmp_path, "my.csv", content))
    assert parts["train"].x.tolist() == [[1.5], [3]]
    assert len(card.notes) == 1
    assert what in card.notes[0]


def test_lines_that_end_in_a_separator_are_not_taken_for_row_names(tmp_path: Path) -> None:
    assert "the lines end in a separator" in refused(saved(tmp_path, "my.csv", "a,label\n1,x,\n2,y,\n"))
    card, parts = read(saved(tmp_path, "other.csv", "a,label,\n1,x,\n2,y,\n"))
    assert parts["train"].x.tolist() == [[1], [2]]
    assert "neither a name nor values" in card.notes[0]


MISSING = ["", "NA", "N/A", "n/a", "NaN", "null", "NULL", "None", "?", "-", "#N/A", "  ", ".", "<NA>"]


@pytest.mark.parametrize("word", MISSING)
def test_missing_values_of_features_are_refused_or_become_nan(word: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", f"a,b,label\n1,2,x\n{word},4,y\n3,0.5,x\n")
    sentence = refused(path)
    assert f"found {word.strip()!r} in line 3, column 'a'" in sentence
    assert "data.missing=mean, median or zero" in sentence
    assert np.isnan(read(path, missing="mean")[1]["train"].x).tolist() == [
        [False, False],
        [True, False],
        [False, False],
    ]


def test_a_column_without_any_value_is_refused_even_where_missing_values_are_filled(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", "a,b,label\n1,NA,x\n2,NA,y\n")
    assert "expected some values in column 'b', found none" in refused(path, missing="mean")


@pytest.mark.parametrize("word", ["", "NA", "N/A", "n/a", "NaN", "null", "None", "?", "-", "#N/A"])
@pytest.mark.parametrize("others", ["01", "xy"])
def test_missing_labels_are_refused(word: str, others: str, tmp_path: Path) -> None:
    content = f"a,label\n1,{others[0]}\n2,{others[1]}\n3,{word}\n4,{word}\n"
    sentence = refused(saved(tmp_path, "my.csv", content), missing="mean")
    assert f"expected a class, found {word!r} in line 4, column 'label' (and 1 more such rows); leave out" in sentence


@pytest.mark.parametrize("words", [["+", "-"], ["mild", "none"], ["high", "low"]])
def test_words_that_only_look_missing_are_classes(words: list[str], tmp_path: Path) -> None:
    card, _ = read(saved(tmp_path, "my.csv", f"a,label\n1,{words[0]}\n2,{words[1]}\n"))
    assert card.class_names == tuple(words)


def test_labels_are_compared_as_numbers(tmp_path: Path) -> None:
    card, parts = read(saved(tmp_path, "my.csv", "a,label\n1,1\n2,10\n3,1.0\n4,02\n"))
    assert card.class_names == ("1", "2", "10")
    assert parts["train"].labels.tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(
    "labels",
    [
        "10000000000000000 10000000000000001 3",
        "9007199254740992 9007199254740993.0 3",  # one with a fraction does not make the others floats
        "1e16 10000000000000001 3",
        "-9223372036854775806 -9223372036854775807 9223372036854775807",
    ],
)
def test_no_two_whole_numbers_become_one_class(labels: str, tmp_path: Path) -> None:
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels.split()))
    card, _ = read(saved(tmp_path, "my.csv", "a,label\n" + rows))
    assert card.class_names == tuple(str(n) for n in sorted(int(Decimal(word)) for word in labels.split()))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("my.csv", "a,label\n1,18446744073709551616\n2,18446744073709551617\n3,4\n"),
        ("my.csv", "a,label\n1,1e400\n2,1e401\n3,4\n"),
        ("my.csv", "a,label\n1,1e99999999999999999\n2,3\n3,4\n"),
        ("my.svm", "10000000000000000 1:1\n10000000000000001 1:2\n3 1:3\n"),
        (
            "my.arff",
            "@relation w\n@attribute a numeric\n@attribute label numeric\n@data\n1,1e16\n2,10000000000000001\n",
        ),
        ("my.npz", packed(X=ROWS[:2], y=np.array([2**63, 2**63 + 1], np.uint64))),
        ("my.npz", packed(X=ROWS[:2], y=np.array([2.0**53, 2.0**53 + 2]))),
        ("my.npz", packed(X=ROWS[:2], y=np.array([2**24, 2**24 + 1], np.float32))),
        ("my.npz", packed(X=ROWS[:2], y=np.array([2049, 2], np.float16))),
    ],
)
def test_labels_that_a_float_cannot_tell_apart_are_refused(name: str, content: str | bytes, tmp_path: Path) -> None:
    assert "beyond which some numbers are the same here" in refused(saved(tmp_path, name, content))


@pytest.mark.parametrize("number", ["1_000", "1e1_0", "\u0661\u0662", "\uff11\uff12"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("my.csv", "a,label\n1,x\n{},y\n"),
        ("my.csv", "a,label\n{},x\n{},y\n"),
        ("my.csv", "a,label\n1,2\n2,{}\n"),
        ("my.svm", "1 1:2\n2 1:{}\n"),
        ("my.svm", "1 1:2\n{} 1:3\n"),
        ("my.arff", "@relation w\n@attribute a numeric\n@attribute label {{x,y}}\n@data\n1,x\n{},y\n"),
        ("my.arff", "@relation w\n@attribute label {{'x, z',y}}\n@attribute a numeric\n@data\n'x, z',1\ny,{}\n"),
    ],
)
def test_what_only_python_takes_for_a_number_is_refused(number: str, name: str, content: str, tmp_path: Path) -> None:
    sentence = refused(saved(tmp_path, name, content.replace("{}", number).replace("{{", "{").replace("}}", "}")))
    assert "expected" in sentence
    assert number in sentence or repr(number.encode())[2:-1] in sentence


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("1 2 three 1", "found 'three' in line 4, column 'label'; 3 other rows have numbers"),
        ("a b 3 a", "found '3' in line 4, column 'label'; 3 other rows have words"),
        (">50K <=50K >50K. >50K", "found '>50K' (2 rows) and '>50K.' (1 rows), which differ only in case, blanks or"),
        ("Yes no yes no", "found 'Yes' (1 rows) and 'yes' (1 rows)"),
        ("a a a a", "expected at least two classes among the labels, found 1 (a)"),
        ("1 1e-400 1 2", "expected whole numbers or words as labels, found '1e-400' in line 3"),
        ("1 2.5 1 2", "expected whole numbers or words as labels, found '2.5' in line 3"),
    ],
)
def test_odd_labels_are_refused(labels: str, sentence: str, tmp_path: Path) -> None:
    rows = "".join(f"{i},{label}\n" for i, label in enumerate(labels.split()))
    assert sentence in refused(saved(tmp_path, "my.csv", "a,label\n" + rows))


def test_true_and_false_are_features(tmp_path: Path) -> None:
    _, parts = read(saved(tmp_path, "my.csv", "a,b,label\nTrue,FALSE,x\nfalse,TRUE,y\n"))
    assert parts["train"].x.tolist() == [[1, 0], [0, 1]]
    assert parts["train"].x.dtype == np.uint8


def test_words_in_a_feature_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", "a,colour,label\n1,red,x\n2,blue,y\n")
    assert "found 'red' in line 2, column 'colour'; dataset.drop=[colour] leaves the column out" in refused(path)
    assert read(path, drop=("colour",))[0].feature_names == ("a",)


def test_every_column_with_words_is_named_at_once(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", 'a,colour,"size, cm",b,label\n1,red,big,1,x\n2,blue,4,2,y\n')
    assert refused(path).endswith(
        "found 'red' in line 2, column 'colour'; 2 columns hold such cells; 'dataset.drop=[colour,\"size, cm\"]' "
        "leaves the columns out, and pandas.get_dummies turns words into numbers"
    )
    assert read(path, drop=("colour", "size, cm"))[0].feature_names == ("a", "b")
    assert 'columns: a, colour, "size, cm", b, label' in refused(path, label="size")


def test_large_whole_numbers_stay_exact(tmp_path: Path) -> None:
    _, parts = read(saved(tmp_path, "my.csv", "time,label\n1700000000,0\n1700000001,1\n"))
    assert parts["train"].x.ravel().tolist() == [1700000000, 1700000001]


# Which column is what.


def test_label_group_and_drop_name_columns(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", "id,who,a,kind\nq,p,1,x\nr,s,2,y\nt,p,3,x\n")
    card, parts = read(path, label="kind", group="who", drop=("id",))
    assert card.feature_names == ("a",)
    assert parts["train"].groups is not None
    assert parts["train"].groups.tolist() == [0, 1, 0]


@pytest.mark.parametrize("key", ["label", "group", "drop"])
def test_a_name_that_is_not_there_is_refused_with_the_close_one_and_all(key: str, tmp_path: Path) -> None:
    name = "lable"
    sentence = refused(saved(tmp_path, "my.csv", TABLE), **{key: (name,) if key == "drop" else name})
    assert "has no such column; did you mean label? (columns: a, b, label)" in sentence


def test_without_a_label_the_sentence_names_the_columns_and_the_likely_one(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", TABLE.replace("label", "Target"))
    with pytest.raises(
        ConfigError, match=r"dataset\.label=Target says that it is the class \(columns: a, b, Target"
    ) as e:
        read(path)
    assert not isinstance(e.value, NotApplicable)  # which a sweep skips as if it were in order
    matrix = io.BytesIO()
    scipy.sparse.save_npz(matrix, scipy.sparse.csr_array(np.eye(3)))
    for content in (packed(x=np.eye(3)), matrix.getvalue()):
        with pytest.raises(ConfigError, match=r"no labels|this model needs a class") as e:
            read(saved(tmp_path, "my.npz", content))
        assert not isinstance(e.value, NotApplicable)


@pytest.mark.parametrize("name", ["target", "class", "y", "Label", "labels", "Class", "Target"])
def test_an_rbm_is_not_given_the_class_as_a_feature(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, "my.csv", f"a,b,{name}\n0,1,0\n1,0,1\n")
    with pytest.raises(ConfigError, match=rf"column '{name}' would be trained as a feature.* dataset.drop=\[{name}\]"):
        read(path, labels=False)
    assert read(path, labels=False, label=name)[0].features == 2
    assert read(path, labels=False, drop=(name,))[0].features == 2
    assert read(path, labels=False, label="none")[0].features == 3


def test_a_wide_header_is_read_in_linear_time(tmp_path: Path) -> None:
    n = 100_000  # quadratic work would take longer than a test may
    lines = [",".join([*(f"g{i}" for i in range(n)), "label"]), *(",".join(["1"] * n + [str(i)]) for i in range(2))]
    assert read(saved(tmp_path, "my.csv", "\n".join(lines)))[0].features == n


# Arrays.


@pytest.mark.parametrize("pack", [packed, matlab])
@pytest.mark.parametrize(
    "names", ["X y", "data target", "features labels", "arr_0 arr_1", "train_images train_labels", "X_train y_train"]
)
def test_arrays_go_by_other_peoples_names(names: str, pack: Callable[..., bytes], tmp_path: Path) -> None:
    rows, labels = names.split()
    path = saved(tmp_path, "my.npz" if pack is packed else "my.mat", pack(**{rows: ROWS, labels: LABELS}))
    _, parts = read(path)
    assert np.array_equal(parts["train"].x, ROWS)
    assert parts["train"].labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("pack", [packed, matlab])
def test_arrays_are_chosen_by_name_and_all_are_listed_where_they_are_not_found(
    pack: Callable[..., bytes], tmp_path: Path
) -> None:
    content = pack(foo_train=ROWS, bar_train=LABELS, foo_test=ROWS[:2], bar_test=LABELS[:2])
    path = saved(tmp_path, "my.npz" if pack is packed else "my.mat", content)
    _, parts = read(path, features="foo_train", label="bar_train")
    assert (len(parts["train"]), len(parts["test"])) == (8, 2)
    assert "foo_train 8x6, bar_train " in refused(path)
    assert "has no such array; did you mean foo_train?" in refused(path, features="fo_train")


def test_arrays_of_which_several_could_be_meant_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.npz", packed(data=ROWS, images=ROWS.reshape(8, 2, 3), target=LABELS))
    assert "data 8x6, images 8x2x3, which could all be meant; dataset.features=NAME chooses" in refused(path)
    assert read(path, features="images")[0].shape == (2, 3)
    path = saved(tmp_path, "other.npz", packed(arr_0=ROWS, arr_1=ROWS, arr_2=LABELS, arr_3=LABELS))
    assert "arr_0 8x6, arr_1 8x6, arr_2 8, arr_3 8" in refused(path)


def test_doubles_of_a_mat_stay_doubles_however_small_they_are(tmp_path: Path) -> None:
    whole = np.array([[1.0, 5], [2, 3]])
    arrays = [read(saved(tmp_path, name, pack(X=whole, y=[0, 1])))[1]["train"].x
              for name, pack in (("my.mat", matlab), ("my.npz", packed))]  # fmt: skip
    assert [x.dtype for x in arrays] == [np.float64, np.float64]
    assert (
        read(saved(tmp_path, "bytes.mat", matlab(X=whole.astype(np.uint8), y=[0, 1])))[1]["train"].x.dtype == np.uint8
    )


def test_channels_that_come_last_are_moved_to_the_front_and_that_is_said(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 4, 3)).astype(np.uint8)
    card, parts = read(saved(tmp_path, "my.npz", packed(X=images, y=LABELS)))
    assert card.shape == (3, 5, 4)
    assert np.array_equal(parts["train"].x.reshape(8, 3, 5, 4), images.transpose(0, 3, 1, 2))
    assert "channels last; they are moved to the front: [3, 5, 4]" in card.notes[0]


def test_sparse_matrices_are_read(tmp_path: Path) -> None:
    matrix = scipy.sparse.csc_matrix(ROWS % 2)
    assert np.array_equal(read(saved(tmp_path, "my.mat", matlab(X=matrix, y=LABELS)))[1]["train"].x, ROWS % 2)
    for form in ("csr", "csc", "coo"):
        stream = io.BytesIO()
        scipy.sparse.save_npz(stream, matrix.asformat(form))
        path = saved(tmp_path, f"{form}.npz", stream.getvalue())
        assert np.array_equal(read(path, labels=False)[1]["train"].x, ROWS % 2)
        assert "holds one SciPy sparse matrix and no labels" in refused(path)


def test_words_may_be_labels_of_an_npz(tmp_path: Path) -> None:
    card, parts = read(saved(tmp_path, "my.npz", packed(X=ROWS, y=np.array(["no", "yes"] * 4))))
    assert (card.class_names, parts["train"].labels.tolist()) == (("no", "yes"), LABELS.tolist())


# svmlight, ARFF, Parquet.


def test_svmlight_files_are_known_by_their_first_line(tmp_path: Path) -> None:
    content = b"# made by hand\n+1 3:1 11:1\n-1 2:1\n"
    for name in ("a8a", "a8a.t", "my.txt", "my.svm"):
        assert read(saved(tmp_path, name, content))[0].features == 11
    with pytest.raises(ConfigError, match=r"give it the suffix \.svmlight"):
        check_path(str(saved(tmp_path, "notes", "no table")))


def test_svmlight_that_counts_from_0_is_known_by_an_index_0(tmp_path: Path) -> None:
    card, parts = read(saved(tmp_path, "my.svmlight", b"1 0:1.5 2:2\n0 1:1 # 0:7\n"))
    assert parts["train"].x.tolist() == [[1.5, 0, 2], [0, 1, 0]]
    assert card.notes == ("features are counted from 0, for an index is 0",)


def test_query_ids_are_groups(tmp_path: Path) -> None:
    _, parts = read(saved(tmp_path, "my.svmlight", b"1 qid:3 1:1\n0 qid:3 2:2\n2 qid:4 1:1\n"))
    assert parts["train"].groups is not None
    assert parts["train"].groups.tolist() == [3, 3, 4]


def test_arff_is_read_and_its_sparse_form_is_refused(tmp_path: Path) -> None:
    head = "@relation w\n@attribute a numeric\n@attribute b {0,1}\n@attribute kind {yes,no}\n@data\n"
    card, parts = read(saved(tmp_path, "my.arff", head + "1.5,0,yes\n?,1,no\n"), label="kind", missing="zero")
    assert card.class_names == ("no", "yes")
    np.testing.assert_array_equal(parts["train"].x, [[1.5, 0], [np.nan, 1]])
    assert "sparse form of ARFF" in refused(saved(tmp_path, "sparse.arff", head + "{0 1.5, 2 yes}\n"), label="kind")


def test_parquet_is_read_where_pyarrow_is_installed(tmp_path: Path) -> None:
    path = saved(tmp_path, "my.parquet", b"")
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        assert "Parquet needs the package pyarrow" in refused(path)
        return
    table = pyarrow.table({"a": [1.5, None, 3], "flag": [True, False, True], "label": ["x", "y", "x"]})
    pyarrow.parquet.write_table(table, str(path))
    card, parts = read(path, missing="mean")
    np.testing.assert_array_equal(parts["train"].x, [[1.5, 1], [np.nan, 0], [3, 1]])
    assert card.class_names == ("x", "y")


# A second file.


def test_the_columns_of_the_test_file_are_matched_by_name(tmp_path: Path) -> None:
    first, second = saved(tmp_path, "a.csv", TABLE), saved(tmp_path, "b.csv", ",label,b,a\n0,y,2,1\n1,x,4,3\n")
    _, parts = read(first, test=second)
    assert parts["test"].x.tolist() == [[1, 2], [3, 4]]
    assert parts["test"].labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("a,c,label\n1,2,x\n", "expected the columns of the training file, found b missing and c too many"),
        ("a,b,label\n1,2,z\n", "expected one of the labels x, y of the training rows, found 'z' in line 2"),
        ("a,b\n1,2\n", "has no column label"),
        ("a,b,label,split\n1,2,x,train\n1,2,x,valid\n", "expected the test rows only, found the parts train, valid"),
    ],
)
def test_a_test_file_that_does_not_fit_is_named(content: str, sentence: str, tmp_path: Path) -> None:
    found = refused(saved(tmp_path, "a.csv", TABLE), test=saved(tmp_path, "b.csv", content))
    assert sentence in found
    assert "b.csv" in found


@pytest.mark.parametrize("widths", [(2, 7), (7, 2)])
def test_svmlight_files_have_the_features_of_the_widest(widths: tuple[int, int], tmp_path: Path) -> None:
    first, second = (saved(tmp_path, f"{i}.svmlight", f"1 1:.5 {n}:1\n0 2:1\n") for i, n in enumerate(widths))
    card, parts = read(first, test=second)
    assert parts["train"].x.shape == parts["test"].x.shape == (2, 7)
    assert f"the files go up to {widths[0]} and {widths[1]} features" in card.notes[0]


def test_both_checksums_are_pinned_and_compared(compose: Compose, tmp_path: Path) -> None:
    first, second = saved(tmp_path, "a.csv", TABLE), saved(tmp_path, "b.csv", TABLE)
    words = ["dataset=custom", "model=mlp", f"dataset.path={first}", f"dataset.test_path={second}"]
    config = with_checksum(compose(*words))
    assert config.dataset.test_checksum == hashlib.sha256(TABLE.encode()).hexdigest()
    assert list(custom_checksums(config.dataset)) == ["a.csv", "b.csv"]
    second.write_text(TABLE + "7,8,y\n")
    with pytest.raises(DataError, match=r"b\.csv: sha256 is .*, dataset\.test_checksum expects"):
        with_checksum(config)


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    for name in ("tables", "tables.csv"):
        (tmp_path / name).mkdir()
        for key in ("dataset.path", "dataset.test_path"):
            with pytest.raises(DataError, match=r"found a folder; .* \(it has none that ends in \.npz"):
                check_path(str(tmp_path / name), key)
        saved(tmp_path / name, "my.csv.gz", "")
        with pytest.raises(DataError, match=rf"found a folder; name the table in it, such as .*{name}/my\.csv\.gz$"):
            check_path(str(tmp_path / name))


@pytest.mark.parametrize(
    ("cell", "separator", "write"),
    [
        ("1.234,5", ";", "1234,5 or 1234.5"),
        ("1,234.5", ";", "1234,5 or 1234.5"),
        ('"1,234.5"', ",", "1234,5 or 1234.5"),
        ('"1,234"', ",", "1234"),
        ("-1.234.567", ",", "-1234567"),
        ("1'234.50", ",", "1234,50 or 1234.50"),
        ("12 345", ";", "12345"),
        ("1\u202f234,5", "\t", "1234,5 or 1234.5"),
    ],
)
def test_a_separator_of_thousands_is_no_word(cell: str, separator: str, write: str, tmp_path: Path) -> None:
    table = f"a,label\n1,x\n{'CELL'},y\n2,x\n".replace(",", separator).replace("CELL", cell)
    sentence = refused(saved(tmp_path, "my.csv", table))
    assert "it looks like a number with a separator of thousands" in sentence
    assert f"write {write} (pandas" in sentence
    assert "get_dummies" not in sentence


@pytest.mark.parametrize("cell", ["1.2.3", "1.234.5", "10.0.0.1", "1234.567.890", "one", "2020-01-02"])
def test_other_words_are_words(cell: str, tmp_path: Path) -> None:
    assert "get_dummies" in refused(saved(tmp_path, "my.csv", f"a,label\n1,x\n{cell},y\n2,x\n"))
