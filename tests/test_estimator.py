"""SETClassifier in scikit-learn's conventions: its own checks, searches, weights, sparse rows, what is refused."""

from __future__ import annotations

import io
import itertools
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from set_cli import SETClassifier
from set_cli.errors import DivergedError
from set_cli.sparse import SparseLinear

X, Y = load_digits(return_X_y=True)
X, Y = X[:600], Y[:600]
QUICK: dict[str, Any] = {"hidden_layer_sizes": (40,), "epsilon": 4, "max_iter": 6, "random_state": 0}
SLOW = {"check_class_weight_classifiers"}  # which asks for 1,000 epochs
Check = Callable[[Any], None]


def quick(**words: Any) -> SETClassifier:
    return SETClassifier(**{**QUICK, **words})


def first_layer(model: SETClassifier) -> SparseLinear:
    layer = model.model_.get_submodule("layer1")
    assert isinstance(layer, SparseLinear)
    return layer


def checks() -> list[Any]:
    made = SETClassifier((20,), epsilon=3, max_iter=5)
    named = [(getattr(check, "func", check).__name__, check) for _, check in estimator_checks_generator(made)]
    return [pytest.param(c, id=n, marks=[pytest.mark.faults] * (n in SLOW)) for n, c in named]


@pytest.mark.parametrize("check", checks())
def test_scikit_learns_own_checks(check: Check) -> None:
    check(SETClassifier((20,), epsilon=3, max_iter=5))


@pytest.fixture(scope="module")
def trained() -> SETClassifier:
    return quick(max_iter=15).fit(X, Y)


def test_a_fit_is_sparse_and_learns(trained: SETClassifier) -> None:
    assert trained.score(X, Y) > 0.9
    layer = first_layer(trained)
    assert trained.n_connections_ == layer.nnz + 40 * 10
    assert trained.density_ == trained.n_connections_ / (64 * 40 + 40 * 10)
    assert trained.n_iter_ == len(trained.loss_curve_) == 15
    assert trained.loss_curve_[-1] < trained.loss_curve_[0]
    probabilities = trained.predict_proba(X)
    assert probabilities.shape == (600, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert (trained.predict(X) == trained.classes_[probabilities.argmax(axis=1)]).all()


@pytest.mark.faults
@pytest.mark.parametrize(
    ("load", "least"), [(load_iris, 0.9), (load_wine, 0.94), (load_breast_cancer, 0.94), (load_digits, 0.92)]
)
def test_small_data_with_the_defaults(load: Callable[..., Any], least: float) -> None:
    rows, labels = load(return_X_y=True)
    assert cross_val_score(SETClassifier(random_state=0), rows, labels, cv=3).mean() > least


def copies(model: SETClassifier) -> list[Any]:
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return [pickle.loads(pickle.dumps(model)), joblib.load(file)]


def test_copies_predict_and_train_the_same_bits() -> None:
    model = quick(max_iter=2).fit(X, Y)
    before = model.predict_proba(X)
    others = copies(model)
    assert all(np.array_equal(other.predict_proba(X), before) for other in others)
    after = model.partial_fit(X, Y).predict_proba(X)
    assert not np.array_equal(before, after)
    assert all(np.array_equal(other.partial_fit(X, Y).predict_proba(X), after) for other in others)


def test_equal_random_states_give_equal_bits(trained: SETClassifier) -> None:
    again, other = clone(trained), clone(trained).set_params(random_state=1)
    order = np.random.default_rng(0).permutation(len(X))
    assert np.array_equal(again.fit(X[order], Y[order]).predict_proba(X), trained.predict_proba(X))
    assert not np.array_equal(other.fit(X, Y).predict_proba(X), trained.predict_proba(X))


def subnormal() -> float:
    """A number that is 0 where subnormal numbers are flushed."""
    return (torch.tensor([1e-38]) * 0.1).item()


def test_the_state_of_torch_is_as_before(trained: SETClassifier) -> None:
    threads, before = torch.get_num_threads(), subnormal()
    torch.set_default_dtype(torch.float64)  # somebody else's
    try:
        again = clone(trained).set_params(n_threads=threads + 1).fit(X, Y)
        assert torch.get_default_dtype() == torch.float64
        assert np.array_equal(again.predict_proba(X), trained.predict_proba(X))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.get_num_threads() == threads
    assert subnormal() == before


@pytest.mark.faults
def test_a_search_in_a_pipeline_with_two_processes() -> None:
    grid = {
        "setclassifier__zeta": np.array([0.2, 0.3]),
        "setclassifier__batch_size": np.array([16]),
        "setclassifier__hidden_layer_sizes": [(30,), (30, 20)],
    }
    pipeline = make_pipeline(StandardScaler(), quick())
    search = GridSearchCV(pipeline, grid, cv=2, n_jobs=2, error_score="raise").fit(X, Y)
    assert search.best_score_ > 0.7


def test_whole_number_weights_repeat_rows() -> None:
    weights = np.random.default_rng(0).integers(0, 3, len(X))
    rows = np.repeat(np.arange(len(X)), weights)
    for class_weight in (None, "balanced", {0: 2.0}):
        model = quick(class_weight=class_weight)
        expected = clone(model).fit(X[rows], Y[rows]).predict_proba(X)
        assert np.array_equal(model.fit(X, Y, weights).predict_proba(X), expected)


def two_blobs(share: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Overlapping classes, of which the second has this share of the rows."""
    rng = np.random.default_rng(0)
    labels = (rng.random(1000) < share).astype(int)
    return rng.normal(labels[:, None], 1.0, (1000, 5)), labels


@pytest.mark.parametrize(
    ("words", "by_row"),
    [({}, 1.0), ({"class_weight": "balanced"}, None), ({"class_weight": {1: 9.5}}, None), ({}, 9.5), ({}, 0.95)],
)
def test_probabilities_follow_the_weights(words: dict[str, Any], by_row: float | None) -> None:
    """What a fit predicts on the whole is the weighted share of a class."""
    rows, labels = two_blobs(0.1)
    weights = None if by_row is None else np.where(labels == 1, by_row, 0.1 if by_row < 1 else 1.0)
    found = quick(max_iter=20, **words).fit(rows, labels, weights).predict_proba(rows)[:, 1]
    factor = 1.0 if (words, by_row) == ({}, 1.0) else 9.5
    factors = np.where(labels == 1, factor, 1)
    assert np.average(found, weights=factors) == pytest.approx(np.average(labels, weights=factors), abs=0.06)


def test_sparse_rows_are_never_dense_as_a_whole() -> None:
    """25 million cells would be 100 MB, or 200 in double precision; a batch has 10."""
    rng = np.random.default_rng(0)
    rows = np.repeat(np.arange(500), 20)
    labels = np.arange(500) % 2
    columns = 2 * rng.integers(0, 25_000, len(rows)) + labels[rows]
    x = csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(500, 50_000))
    tracemalloc.start()
    quick(hidden_layer_sizes=(20,), max_iter=1, epsilon=2, batch_size=50).fit(x, labels).predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 10e6 < peak < 80e6


def test_sparse_and_dense_rows_are_predicted_alike(trained: SETClassifier) -> None:
    for kind in (csr_array, csr_matrix):
        assert np.array_equal(trained.predict(kind(X)), trained.predict(X))
    of_sparse = quick().fit(csr_array(X), Y)
    assert np.array_equal(of_sparse.predict(csr_array(X)), of_sparse.predict(X))
    assert of_sparse.score(X, Y) > 0.8


@pytest.mark.parametrize(
    "move", [lambda x: x * 1e12, lambda x: x * 1e-30, lambda x: x + 1e9, lambda x: 1.7e9 + x / 1e5]
)
def test_it_scales_its_inputs_itself(move: Callable[[Any], Any]) -> None:
    assert quick().fit(move(X), Y).score(move(X), Y) > 0.85


def test_constant_columns_and_far_values_do_no_harm(trained: SETClassifier) -> None:
    constant = np.hstack([X, np.full((len(X), 2), 0.1)])  # whose mean is 0.1 but for rounding
    model = quick().fit(constant, Y)
    constant[:, -1] = 1e9
    assert model.score(constant, Y) > 0.85
    far = X.copy()
    far[0, 20], far[1, 21] = 1e9, -1e30
    assert quick().fit(far, Y).score(far, Y) > 0.85
    one, other = X[:1].copy(), X[:1].copy()
    one[0, 20], other[0, 20] = X[:, 20].mean() + 11 * X[:, 20].std(), 1e30  # both are cut off at ten deviations
    assert np.array_equal(trained.predict_proba(one), trained.predict_proba(other))


@pytest.mark.parametrize(
    "labels",
    [
        Y.astype(str),
        np.array(["no", "yes"], object)[Y % 2],
        Y > 4,
        Y - 5,
        Y.astype(np.float32),
        pd.Series(Y.astype(str)),
    ],
    ids=["text", "objects", "bool", "negative", "float", "series"],
)
def test_labels_of_any_type(labels: Any) -> None:
    model = quick().fit(X, labels)
    assert model.classes_.dtype == np.unique(labels).dtype
    assert set(model.predict(X)) <= set(labels)
    assert model.score(X, labels) > 0.8


@pytest.mark.parametrize("kind", [np.float32, np.uint8, np.int64])
def test_numbers_of_any_type(kind: Any) -> None:
    assert quick().fit(X.astype(kind), Y).score(X.astype(kind), Y) > 0.85


def test_partial_fit_learns_and_evolves_every_hundred_steps() -> None:
    model = quick(batch_size=10)
    layers = []
    for _ in range(12):
        for start in range(0, 600, 120):
            model.partial_fit(X[start : start + 120], Y[start : start + 120], classes=range(10))
            layers.append(first_layer(model).indices.clone())
    changes = [call for call in range(1, len(layers)) if not torch.equal(layers[call], layers[call - 1])]
    assert [later - earlier for earlier, later in itertools.pairwise(changes)] == [9] * 5  # of 12 steps
    assert layers[-1].shape == layers[0].shape
    assert model.score(X, Y) > 0.9


def test_a_warm_start_continues() -> None:
    model = quick(warm_start=True).fit(X, Y)
    connections, loss = model.n_connections_, model.loss_curve_[-1]
    model.set_params(learning_rate=0.005).fit(X, Y)
    assert (model.n_iter_, model.n_connections_) == (12, connections)
    assert model.loss_curve_[6] < loss * 1.5
    cold = quick().fit(X, Y)
    assert cold.fit(X, Y).n_iter_ == 6
    with pytest.raises(ValueError, match="warm_start: expected the features, the classes and the parameters"):
        model.set_params(hidden_layer_sizes=(5,)).fit(X, Y)
    with pytest.raises(ValueError, match="warm_start"):
        model.set_params(hidden_layer_sizes=(40,)).fit(X, Y.astype(str))


@pytest.mark.parametrize("density", [0.02, 0.2, 0.7, 1.0])
def test_density_is_that_of_the_hidden_layers_together(density: float) -> None:
    model = quick(hidden_layer_sizes=(100, 50), epsilon=None, density=density, method="fixprob", max_iter=1).fit(X, Y)
    assert model.n_connections_ - 500 == pytest.approx(density * (64 * 100 + 100 * 50), rel=0.1)


def test_the_methods() -> None:
    dense, fixed = quick(method="dense", max_iter=1).fit(X, Y), quick(method="fixprob", max_iter=1).fit(X, Y)
    assert dense.density_ == 1
    more = clone(fixed).set_params(max_iter=3).fit(X, Y)
    assert torch.equal(first_layer(fixed).indices, first_layer(more).indices)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"zeta": 1.5}, "zeta: expected less than 1, found 1.5"),
        ({"hidden_layer_sizes": ()}, "hidden_layer_sizes: expected a list that is not empty"),
        ({"hidden_layer_sizes": (3, -1)}, "hidden_layer_sizes.1: expected greater than or equal to 1, found -1"),
        ({"learning_rate": "adaptive"}, "learning_rate: expected a valid number, found 'adaptive'"),
        (
            {"activation": "tanh"},
            "activation=tanh is not known: expected 'srelu', 'relu', 'leaky_relu', 'all_relu' or 'gelu'",
        ),
        ({"density": 0.1}, "expected epsilon or density, found both: epsilon=4, density=0.1"),
        ({"epsilon": None, "density": 20}, "density: expected a number above 0, at most 1, found 20"),
        ({"class_weight": "auto"}, "class_weight: expected None, 'balanced' or a dictionary, found 'auto'"),
        ({"class_weight": {"1": 2.0}}, r"class_weight: expected the labels \[0, .*, 9\], found \['1'\]"),
        ({"learning_rate": None}, "learning_rate: expected a number, found None"),
        ({"max_iter": 10.0}, "max_iter: expected a valid integer, found 10.0; write max_iter=10"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quick(**words).fit(X, Y)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], r"expected shape \(600,\)"), (-np.ones(600), "expected finite numbers of 0 and more")],
)
def test_weights_that_make_no_sense_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"sample_weight: {message}"):
        quick().fit(X, Y, weights)


def test_calls_of_partial_fit_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="classes: expected all labels in the first call"):
        quick().partial_fit(X, Y)
    with pytest.raises(ValueError, match="class_weight='balanced' is for fit"):
        quick(class_weight="balanced").partial_fit(X, Y, classes=range(10))
    with pytest.raises(ValueError, match=r"y: expected labels of \[0 1 2\], found np.int64\(\d\)"):
        quick().partial_fit(X, Y, classes=range(3))


def test_a_training_that_diverges_says_so() -> None:
    model = quick(learning_rate=1e6)
    with pytest.raises(DivergedError, match="NaN or infinite in epoch 1: expected a learning_rate that"):
        model.fit(X, Y)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_a_column_of_too_large_values_is_named() -> None:
    with pytest.raises(ValueError, match="column 1: the values are too large"):
        quick().fit(np.hstack([X[:, :1], X[:, 20:] * 1e300]), Y)


def test_verbose_prints_every_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    quick(verbose=True, max_iter=2).fit(X, Y)
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.faults
def test_the_package_imports_neither_torch_nor_scikit_learn_for_it() -> None:
    code = "import set_cli, sys; assert not {'torch', 'sklearn'} & set(sys.modules); set_cli.SETClassifier()"
    run = partial(subprocess.run, capture_output=True, text=True, timeout=120)
    done = run([sys.executable, "-P", "-c", code])
    assert done.returncode == 0, done.stderr
