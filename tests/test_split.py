"""Which rows are held out: drawn by class, by group, or cut from the end; the same for every seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from set_cli.data.account import parts_of
from set_cli.data.card import Split
from set_cli.data.parts import Part, no_rows
from set_cli.data.prepare import DataSet
from set_cli.data.split import SPLIT_SEED, Chosen, choose_rows, shares
from set_cli.errors import ConfigError, DataError
from tests.builders import data_config, load_own

RNG = np.random.default_rng(0)


def choose(
    y: Sequence[int] | NDArray[Any] | None, groups: Sequence[int] | None = None, *, rows: int = 0, **keys: Any
) -> Chosen:
    """The parts of rows whose only feature is their number in the file."""
    n = rows if y is None else len(y)
    label, group = (None if values is None else np.array(values, np.int64) for values in (y, groups))
    none = no_rows(1, y is not None)
    parts: dict[Split, Part] = {
        "train": Part(np.arange(n, dtype=np.float32)[:, None], label, group),
        "valid": none,
        "test": none,
    }
    return choose_rows("custom", data_config(**{"split": "stratified", **keys}), parts, labels=y is not None)


def numbers(part: Part) -> list[int]:
    return [int(value) for value in part.x[:, 0]]


def groups_of(part: Part) -> set[int]:
    assert part.groups is not None
    return set(part.groups.tolist())


@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_digits])
def test_each_class_is_held_out_in_proportion_however_the_file_is_sorted(load: Any) -> None:
    y = np.sort(load().target)
    n = len(y) // 5
    for order in (y, RNG.permutation(y)):
        chosen = choose(order, holdout=n)
        counts = np.bincount(chosen.test.labels)
        assert counts.sum() == n
        assert np.abs(counts - np.bincount(y) * n / len(y)).max() < 1


@pytest.mark.parametrize(("holdout", "valid"), [(30, 0), (20, 10), (0, 30), (31, 0)])
@pytest.mark.parametrize("split", ["stratified", "random", "last"])
def test_a_split_leaves_a_row_to_train_on(split: str, holdout: int, valid: int) -> None:
    found = holdout + valid
    with pytest.raises(ConfigError, match=f"fewer than the 30 training rows of custom together, found {found}"):
        choose(None, rows=30, split=split, holdout=holdout, valid=valid)


def test_rows_stay_in_the_order_of_the_file_and_none_is_lost() -> None:
    chosen = choose(RNG.integers(0, 4, 90).tolist(), holdout=20, valid=11)
    parts = [numbers(part) for part in (chosen.train, chosen.valid, chosen.test)]
    assert [len(part) for part in parts] == [59, 11, 20]
    assert all(part == sorted(part) for part in parts)
    assert sorted(np.concatenate(parts).tolist()) == list(range(90))


def test_the_draw_is_the_same_every_time_and_whatever_the_validation_rows() -> None:
    y = RNG.integers(0, 3, 60).tolist()
    first = numbers(choose(y, holdout=12).test)
    assert first == numbers(choose(y, holdout=12).test)
    assert first == numbers(choose(y, holdout=12, valid=9).test)
    rng = np.random.default_rng([SPLIT_SEED, 0])  # fixed for good: another draw would be another experiment
    assert numbers(choose(None, rows=60, holdout=12).test) == sorted(rng.permutation(60)[:12].tolist())


def test_last_is_a_cut_from_the_end() -> None:
    chosen = choose([0, 0, 0, 1, 1, 1, 2, 2, 2, 2], split="last", holdout=3, valid=2, train_limit=4, test_limit=2)
    assert (numbers(chosen.train), numbers(chosen.valid), numbers(chosen.test)) == ([0, 1, 2, 3], [5, 6], [7, 8])
    assert chosen.test.x.base is not None  # a view: mapped files are not copied


def test_rows_are_drawn_from_all_over_the_file() -> None:
    drawn = np.array(numbers(choose(np.repeat([0, 1, 2], 100), holdout=60).test))
    assert (
        np.bincount(drawn % 100 // 34, minlength=3).min() > 10
    )  # a cut within each class would leave one of them empty


def test_random_ignores_the_classes_and_stratified_without_labels_is_random() -> None:
    y = [0] * 80 + [1] * 20
    drawn = choose(y, split="random", holdout=21)
    assert numbers(drawn.test) == numbers(choose(None, rows=100, holdout=21).test)
    assert numbers(drawn.test) != numbers(choose(y, holdout=21).test)


def test_every_class_keeps_a_training_row() -> None:
    y = [0] * 6 + [1, 2, 2]
    chosen = choose(y, holdout=6)
    assert sorted(chosen.train.labels.tolist()) == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"data.holdout: expected at most 6 of 9 rows, so that each class keeps one"):
        choose(y, holdout=7)
    with pytest.raises(ConfigError, match=r"data.valid: expected at most 2 of 5 rows"):
        choose(y, holdout=4, valid=3)


def test_a_limit_keeps_each_class_in_proportion_and_a_row_of_each() -> None:
    chosen = choose([0] * 60 + [1] * 36 + [2] * 4, holdout=25, train_limit=8, test_limit=5)
    assert np.bincount(chosen.train.labels).tolist() == [4, 3, 1]
    assert np.bincount(chosen.test.labels, minlength=3).tolist() == [3, 2, 0]


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(lambda rows: sum(rows) > 0),
    st.floats(0, 1, allow_subnormal=False),
    st.booleans(),
)
def test_shares_add_up_within_their_bounds(rows: list[int], part: float, bounded: bool) -> None:
    counts = np.array(rows)
    least, most = (np.minimum(counts, 1), np.maximum(counts - 1, 0)) if bounded else (np.zeros_like(counts), counts)
    least = np.minimum(least, most)
    n = int(least.sum() + part * (most.sum() - least.sum()))
    given_ = shares(counts, n, least, most)
    assert given_.sum() == n
    assert (given_ >= least).all()
    assert (given_ <= most).all()
    if not bounded:
        assert np.abs(given_ - counts * n / counts.sum()).max() < 1


@pytest.mark.parametrize("split", ["stratified", "random", "last"])
@pytest.mark.parametrize("sizes", [[7] * 21 + [3], [1] * 100, [30, 40, 50, 60], [2, 90, 3, 4, 1], [50, 50]])
def test_groups_are_never_cut_in_two(split: str, sizes: list[int]) -> None:
    groups = np.repeat(np.arange(len(sizes)) + 5, sizes)[np.random.default_rng(1).permutation(sum(sizes))]
    y = RNG.integers(0, 2, len(groups))
    chosen = choose(y.tolist(), groups.tolist(), split=split, holdout=sum(sizes) // 4)
    train, test = groups_of(chosen.train), groups_of(chosen.test)
    assert train
    assert test
    assert not train & test
    assert len(chosen.train) + len(chosen.test) == sum(sizes)
    off = abs(len(chosen.test) - sum(sizes) // 4)
    if split != "last":
        assert off == {22: 1, 100: 0, 4: 5, 5: 15, 2: 25}[len(sizes)]  # no choice of groups comes nearer
    assert any("groups are never cut in two" in note for note in chosen.notes) == (off > 0)


def test_validation_rows_are_whole_groups_too() -> None:
    groups = np.repeat(np.arange(20), 5)
    chosen = choose((groups % 2).tolist(), groups.tolist(), holdout=20, valid=10)
    found = [sorted(groups_of(part)) for part in (chosen.train, chosen.valid, chosen.test)]
    assert [len(part) for part in found] == [14, 2, 4]
    assert sorted(np.concatenate(found).tolist()) == list(range(20))
    assert chosen.notes == ()


def test_drawn_groups_keep_the_classes_in_proportion() -> None:
    groups = np.repeat(np.arange(60), 5)
    y = (groups >= 45).astype(int)  # a quarter of the groups, each of one class
    chosen = choose(y.tolist(), groups.tolist(), holdout=100)
    assert np.bincount(chosen.test.labels).tolist() == [75, 25]


def test_each_class_of_few_groups_keeps_one_to_train_on() -> None:
    groups = np.repeat(np.arange(12), 5)
    for classes in range(2, 12):
        y = groups % classes
        assert len(np.unique(choose(y, groups.tolist(), holdout=20).train.labels)) == classes


def test_one_group_cannot_be_parted() -> None:
    with pytest.raises(
        ConfigError, match=r"data.holdout: expected rows of several groups \(dataset.group\), found one"
    ):
        choose([0, 1] * 5, [4] * 10, holdout=2)
    with pytest.raises(ConfigError, match=r"data.valid: expected rows of several groups"):
        choose([0, 1] * 5, [4] * 5 + [5] * 5, holdout=4, valid=2)


@pytest.mark.parametrize(
    ("split", "how"),
    [
        ("last", "the last N training rows"),
        ("random", "N training rows drawn at random"),
        ("stratified", "N training rows, drawn with each class in proportion"),
    ],
)
def test_without_test_rows_the_sentence_says_how_a_holdout_is_drawn(split: str, how: str) -> None:
    with pytest.raises(DataError) as caught:
        choose([0, 1] * 50, split=split)
    assert str(caught.value) == (
        f"custom: the files have no test rows; data.holdout=N tests on {how} (a fifth of them: data.holdout=20)"
    )


def test_a_holdout_beside_test_rows_of_the_file_says_that_those_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = RNG.normal(size=(60, 2)), np.arange(60) % 2
    data: DataSet = load_own(monkeypatch, x, y, test=(x[:10], y[:10]), holdout=12)
    assert {name: len(part) for name, part in parts_of(data).items()} == {"train": 48, "test": 12}
    assert any("the 10 test rows of the file itself are not used" in note for note in data.notes)


def test_a_published_set_is_cut_from_the_end_unless_asked(compose: Any) -> None:
    assert compose("dataset=mnist").data.split == "last"
    for model in ("mlp", "cnn", "rbm"):
        assert compose("dataset=custom", f"model={model}", "dataset.path=my.npz").data.split == "stratified"
