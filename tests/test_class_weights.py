"""Class weights: how often an epoch has each class's rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from set_cli.config import from_mapping
from set_cli.data.catalog import CATALOG
from set_cli.data.drawn import balanced
from set_cli.data.inputs import Inputs
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet
from set_cli.data.scaling import unscaled
from set_cli.errors import ConfigError
from set_cli.training.class_weights import Weights, by_class, check_weighted_rows
from set_cli.training.pairs import check_card, check_pair
from tests.conftest import Compose, compose_mapping

CPU = torch.device("cpu")
COUNTS = (600, 300, 90, 10)


def inputs(counts: tuple[int, ...] = COUNTS) -> Inputs:
    """Rows that hold their numbers, class after class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    part = Part(np.arange(len(labels), dtype=np.float32)[:, None], labels)
    card = replace(CATALOG["digits"], features=1, shape=None, kind="real")
    return Inputs(part, DataSet(card, part, None, part, unscaled(1), "test", {}, "bundled"), CPU)


def epoch_of(weights: Weights | None, epoch: int = 1, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers and labels of an epoch's rows."""
    rows = by_class(inputs(), weights, seed, epoch)
    x, y = rows.batch(torch.arange(len(rows)))
    return x[:, 0].numpy().astype(np.int64), y.numpy()


def test_balanced_weights_are_scikit_learns() -> None:
    labels = np.repeat(np.arange(4), COUNTS)
    expected = compute_class_weight("balanced", classes=np.arange(4), y=labels)
    np.testing.assert_allclose(balanced(np.array(COUNTS, np.float64)), expected)
    np.testing.assert_allclose(balanced(np.array([5.0, 0, 15])), [2, 0, 2 / 3])


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("balanced", (250, 250, 250, 250)),
        ((1.0, 1.0, 1.0, 1.0), COUNTS),
        ((1.0, 2.0, 0.0, 0.0), (500, 500, 0, 0)),
        ((0.0, 0.0, 0.0, 1e-3), (0, 0, 0, 1000)),
        ((1.0, 1.0, 10.0, 1.0), (600 / 1.81, 300 / 1.81, 900 / 1.81, 10 / 1.81)),
    ],
)
def test_an_epoch_has_each_class_in_proportion_to_its_weight(weights: Weights, expected: tuple[float, ...]) -> None:
    epochs = [epoch_of(weights, epoch) for epoch in range(1, 21)]
    counts = np.array([np.bincount(labels, minlength=4) for _, labels in epochs])
    assert (counts.sum(axis=1) == 1000).all()  # as many rows as there are
    # Which rows of a class are drawn is random, how many hardly.
    assert np.abs(counts - expected).max() <= 0.1 * max(expected)
    np.testing.assert_allclose(counts.mean(axis=0), expected, rtol=0.05, atol=1)


def test_all_rows_of_a_class_have_their_turn_in_company_that_changes() -> None:
    """Systematic sampling in the order of the file would never draw neighbours of the largest class together."""
    drawn = [epoch_of("balanced", epoch)[0] for epoch in range(1, 41)]
    of_largest = np.array([np.bincount(rows, minlength=1000)[:600] for rows in drawn])
    assert of_largest.max() == 1
    assert of_largest.any(axis=0).all()
    together = (of_largest[:, 1:] * of_largest[:, :-1]).mean()
    assert together == pytest.approx((250 / 600) ** 2, rel=0.1)


def test_an_epoch_is_a_function_of_seed_and_number() -> None:
    first, *others = (epoch_of("balanced", *which)[0] for which in ((1, 0), (1, 0), (2, 0), (1, 1)))
    assert [np.array_equal(first, other) for other in others] == [True, False, False]
    assert by_class(whole := inputs(), None, 0, 1) is whole


def test_weights_of_other_classes_are_refused(compose: Compose) -> None:
    expected = "train.class_weights: expected 10 numbers, one for each class of digits, found"
    for config in (compose("train.class_weights=[1,2,3]"), compose("train.class_weights=2.5")):
        with pytest.raises(ConfigError, match=expected):
            check_pair(config)
    check_pair(compose("train.class_weights=[0,1,1,1,1,1,1,1,1,2.5]"))
    two = replace(CATALOG["digits"], name="custom", title="my.csv", classes=2)
    check_card(compose("train.class_weights=[1,2]"), two)
    with pytest.raises(ConfigError, match=r"expected 2 numbers, one for each class of my\.csv, found 3"):
        check_card(compose("train.class_weights=[1,2,3]"), two)
    rows = Part(np.zeros((4, 1), np.float32), np.array([0, 1, 1, 0]))
    check_weighted_rows(compose("train.class_weights=[0,1,1]"), rows)
    with pytest.raises(ConfigError, match=r"a weight above 0 for a class that has training rows, found \[0,0,2\.5\]$"):
        check_weighted_rows(compose("train.class_weights=[0,0,2.5]"), rows)


@pytest.mark.parametrize(
    "typed",
    [
        "heavy",
        "[]",
        "[0,0]",
        "[1,-1]",
        "[1,x]",
        "[1,true]",
        "[1,inf]",
        "[1,nan]",
        "[1,1e-7]",
        "[1,1e7]",
        "[[1,2]]",
        "{a: 1}",
        "true",
    ],
)
def test_what_is_no_weight_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"^train\.class_weights: expected "):
        from_mapping(compose_mapping("dataset=digits", "model=mlp", f"train.class_weights={typed}"))
