"""SETClassifier: a sparse multilayer perceptron for scikit-learn's pipelines and searches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from set_cli.config import Config
from set_cli.data.drawn import Drawn
from set_cli.data.scaling import Scaling
from set_cli.errors import DivergedError
from set_cli.estimator.columns import Columns
from set_cli.estimator.network import Network, computing
from set_cli.estimator.rows import gathered, in_order, repeated
from set_cli.estimator.settings import configuration
from set_cli.estimator.weights import class_factors, sample_weights

LARGEST_SEED = 2**31 - 1
EVOLVED_EVERY = 100  # steps, in partial_fit, whose calls are no epochs


class SETClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A multilayer perceptron that is sparse while it trains (SET), with scikit-learn's methods.

    It trains as `set-train` does, on the CPU: momentum SGD on the connections that exist, a fraction `zeta` of which is
    removed and grown elsewhere after every epoch; what the last epoch removes is not replaced. Inputs are standardised,
    a sparse matrix's columns divided by their root mean square, and cut off at 10; labels are of any type.

    hidden_layer_sizes  neurons of each hidden layer
    method        'set', 'fixprob' (a random sparse network that does not evolve) or 'dense'
    epsilon       connections of a hidden layer = epsilon * (inputs + outputs), 20 where nothing is given; a layer with
                  less room for them than that is dense
    density       instead of epsilon: the share of the hidden layers' connections that there are
    zeta          fraction of the connections that an epoch removes and regrows
    activation    'relu', 'srelu' (four trained parameters per neuron), 'leaky_relu', 'all_relu' or 'gelu'
    dropout       fraction of the hidden neurons' outputs set to 0 in training
    learning_rate, momentum, weight_decay  of stochastic gradient descent; weight decay acts on connections
    batch_size    rows of a step
    max_iter      epochs of `fit`
    class_weight  None, 'balanced' or a dictionary from labels to weights
    warm_start    whether `fit` continues the training of the `fit` before
    random_state  an int, a RandomState or None; equal ints give equal bits
    n_threads     of the computation; None: torch's
    verbose       whether a line is printed for every epoch

    classes_, n_features_in_, feature_names_in_  as everywhere
    n_iter_, loss_curve_  epochs trained, and the mean training loss (nats) of each
    model_        the torch module, which takes scaled rows
    n_connections_, density_  of all its layers, the dense output layer included

    Rows are drawn by their weights, so that their number does not change a step's size: with whole-number sample
    weights a row of weight 2 is trained on twice in an epoch, and weight 0 leaves it out. The order of the rows does
    not matter. Raises ValueError for parameters and rows that make no sense, DivergedError (set_cli.errors) where the
    training does.
    """

    classes_: NDArray[Any]
    n_features_in_: int
    _network: Network
    _columns: Columns
    _config: Config
    _scaling: Scaling
    _steps: int

    def __init__(
        self,
        hidden_layer_sizes: Any = (300, 300),
        *,
        method: str = "set",
        epsilon: float | None = None,
        density: float | None = None,
        zeta: float = 0.3,
        activation: str = "relu",
        dropout: float = 0.3,
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 0.0002,
        batch_size: int = 32,
        max_iter: int = 100,
        class_weight: str | Mapping[Any, float] | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        n_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.method = method
        self.epsilon = epsilon
        self.density = density
        self.zeta = zeta
        self.activation = activation
        self.dropout = dropout
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    def fit(self, X: Any, y: Any, sample_weight: ArrayLike | None = None) -> Self:
        """Train `max_iter` epochs on X (n, features), a matrix, data frame or CSR matrix, and labels y (n,)."""
        continues = self.warm_start and hasattr(self, "_network")
        if not continues:
            self._forget()
        x, labels, weights = self._checked(X, y, sample_weight)
        classes = np.unique(labels[weights > 0])  # a row of weight 0 is as none
        self._begin(classes, x.shape[1], has_end=not self.warm_start)
        rows = self._rows(x, labels, weights)
        with self._training():
            for epoch in range(1, self.max_iter + 1):
                loss = self._network.train(self._config, rows)
                self._network.evolve(self._config)
                if self.verbose:
                    print(f"epoch {epoch}/{self.max_iter}: loss {loss:.4f}, {self.n_connections_:,} connections")
        return self

    def partial_fit(
        self, X: Any, y: Any, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train one pass over these rows; connections evolve after every 100 steps, at the end of a call.

        classes  all labels there are; needed by the first call. The scaling follows all rows seen so far.
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' is for fit: partial_fit does not see all rows; give a dictionary")
        is_first = not hasattr(self, "_network")
        if is_first and classes is None:
            raise ValueError("classes: expected all labels in the first call of partial_fit, found None")
        x, labels, weights = self._checked(X, y, sample_weight, reset=is_first)
        known = self.classes_ if classes is None else np.unique(np.asarray(classes))
        if not is_first and not np.array_equal(known, self.classes_):
            raise ValueError(f"classes: expected {self.classes_} as in the first call of partial_fit, found {known}")
        self._begin(known, x.shape[1], has_end=False)
        rows = self._rows(x, labels, weights)
        with self._training():
            self._network.train(self._config, rows)
            self._steps += -(-len(rows) // self._config.train.batch_size)
            if self._steps >= EVOLVED_EVERY:
                self._network.evolve(self._config)
                self._steps = 0
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:
        """(n, classes) probabilities, in the order of `classes_`."""
        check_is_fitted(self)
        x = validate_data(self, X, accept_sparse="csr", dtype=KINDS, reset=False)
        with computing(self._config.backend.threads):
            return self._network.probabilities(self._config, x, self._scaling)

    def predict(self, X: Any) -> NDArray[Any]:
        """(n,) labels."""
        numbers = self.predict_proba(X).argmax(axis=1)
        labels: NDArray[Any] = self.classes_[numbers]
        return labels

    @property
    def model_(self) -> nn.Module:
        return self._fitted.model

    @property
    def n_iter_(self) -> int:
        return len(self._fitted.losses)

    @property
    def loss_curve_(self) -> list[float]:
        return list(self._fitted.losses)

    @property
    def n_connections_(self) -> int:
        return self._fitted.connections

    @property
    def density_(self) -> float:
        return self._fitted.density

    @property
    def _fitted(self) -> Network:
        if not self.__sklearn_is_fitted__():
            raise AttributeError(f"this {type(self).__name__} is not fitted")
        return self._network

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_scaling")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _forget(self) -> None:
        for name in ("_network", "_columns", "_scaling", "classes_"):
            self.__dict__.pop(name, None)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """A context for training; a network that diverges is of no use, also to predict."""
        try:
            with computing(self._config.backend.threads):
                yield
        except DivergedError:
            self._forget()
            raise

    def _checked(
        self, X: Any, y: Any, sample_weight: ArrayLike | None, *, reset: bool = True
    ) -> tuple[Any, NDArray[Any], NDArray[np.float64]]:
        """Rows, labels and weights; ValueError where they do not belong together."""
        x, labels = validate_data(self, X, y, accept_sparse="csr", dtype=KINDS, reset=reset)
        check_classification_targets(labels)
        return x, labels, sample_weights(sample_weight, len(labels))

    def _begin(self, classes: NDArray[Any], features: int, *, has_end: bool) -> None:
        """The network to train and its settings, new or as it is."""
        is_new = not hasattr(self, "_network")
        seed = int(check_random_state(self.random_state).randint(LARGEST_SEED)) if is_new else self._config.seed
        config = configuration(self.get_params(deep=False), seed, features, has_end=has_end)
        if is_new:
            with computing(config.backend.threads):
                self._network, self._steps = Network(config, features, len(classes)), 0
        else:
            same = np.array_equal(classes, self.classes_)
            self._network.continue_as(config, features, len(classes) if same else 0)
        self._config, self.classes_ = config, classes

    def _rows(self, x: Any, labels: NDArray[Any], weights: NDArray[np.float64]) -> Drawn:
        """The rows for the training loop; measures them for the scaling."""
        numbers = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        is_known = (self.classes_[numbers] == labels) | (weights == 0)
        if not is_known.all():
            raise ValueError(f"y: expected labels of {self.classes_}, found {labels[~is_known][0]!r}")
        numbers = numbers.astype(np.int64)
        rows, by = repeated(in_order(x, numbers), weights)
        if not hasattr(self, "_columns"):
            self._columns = Columns(x, int(rows[0]))
        self._columns.add(x, rows, by)
        self._scaling = self._columns.scaling
        totals = np.bincount(numbers[rows], by, len(self.classes_)).astype(np.float64)
        factors = class_factors(self.class_weight, self.classes_, totals)
        if factors is not None:
            by = factors[numbers[rows]] * (1 if by is None else by)
        return Drawn(gathered(x, numbers, self._scaling), rows, by)


KINDS = (np.float64, np.float32, np.uint8)
