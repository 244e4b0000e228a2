"""The estimator's parameters as a checked configuration: one table of bounds for both."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from set_cli.config import Config, from_mapping
from set_cli.errors import ConfigError
from set_cli.sparse.linear import DEFAULT_EPSILON

METHODS = ("set", "fixprob", "dense")
NO_END = 10**6  # epochs of a training that others continue: no removal of it is the last one
KEYS = {
    "hidden_layer_sizes": "model.hidden",
    "activation": "model.activation",
    "dropout": "model.dropout",
    "method": "method.name",
    "n_threads": "backend.threads",
    "epsilon": "epsilon",
    "zeta": "zeta",
    "random_state": "seed",
    "max_iter": "train.epochs",
    "batch_size": "train.batch_size",
    "learning_rate": "train.lr",
    "momentum": "train.momentum",
    "weight_decay": "train.weight_decay",
}
# What a configuration has and an estimator does not ask for.
FIXED: dict[str, dict[str, Any]] = {
    "dataset": {"name": "custom"},
    "model": {"name": "mlp", "init": "sparse_fan_in"},
    "method": {"regrow_init": "zero"},
    "backend": {"name": "cpu", "engine": "auto", "precision": "float32", "deterministic": False},
    "train": {"nesterov": False, "l1": 0.0},
    "data": {
        "dir": None,
        "fetch": "never",
        "holdout": 0,
        "valid": 0,
        "train_limit": None,
        "test_limit": None,
        "scaling": "standardize",
        "augment": {"rotation": 0.0, "shift": 0.0, "flip": False},
    },
    "snapshots": {"every": None, "weights": False},
    "checkpoints": {"minutes": None},
}
OF_RUNS = {"runs_dir": "runs", "resume": "never", "progress": "none", "time_limit": None, "retry_failed": False}


def configuration(parameters: Mapping[str, Any], seed: int, features: int, *, has_end: bool) -> Config:
    """The configuration that an estimator's parameters ask for; ValueError with one sentence where one is wrong.

    has_end  whether the last of `max_iter` epochs is the last of the training: what it removes is not refilled
    """
    values = {name: _plain(value) for name, value in parameters.items()}
    for name in ("learning_rate", "momentum"):  # in a run's configuration None is the optimiser's own value
        if values[name] is None:
            raise ValueError(f"{name}: expected a number, found None")
    sparsity = values["epsilon"], values["density"]
    values |= {"epsilon": DEFAULT_EPSILON if sparsity[0] is None else sparsity[0], "random_state": seed}
    mapping: dict[str, Any] = {section: dict(keys) for section, keys in FIXED.items()} | OF_RUNS
    for name, key in KEYS.items():
        section, _, own = key.rpartition(".")
        (mapping[section] if section else mapping)[own] = values[name]
    config = _checked(mapping)
    if config.method.name not in METHODS:
        found = values["method"]
        raise ValueError(f"method: expected {', '.join(METHODS)}, whose rules an estimator has, found {found!r}")
    if sparsity[1] is not None:
        mapping["epsilon"] = _epsilon(*sparsity, [features, *config.model.hidden])
    if not has_end:
        mapping["train"]["epochs"] = NO_END
    return _checked(mapping)


def _plain(value: object) -> object:
    """NumPy's numbers, which a search hands over, as Python's."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _checked(mapping: Mapping[str, Any]) -> Config:
    try:
        return from_mapping(mapping)
    except ConfigError as error:
        text = str(error)
        for name, key in KEYS.items():
            if text.startswith(key):
                text = text.replace(key, name)
        raise ValueError(text) from None


def _epsilon(epsilon: object, density: Any, widths: Sequence[int]) -> float:
    """The epsilon with which the hidden layers together have this density (narrow layers a higher one, at most 1)."""
    if epsilon is not None:
        raise ValueError(f"expected epsilon or density, found both: epsilon={epsilon}, density={density}")
    if not isinstance(density, int | float) or isinstance(density, bool) or not 0 < density <= 1:
        raise ValueError(f"density: expected a number above 0, at most 1, found {density!r}")
    pairs = list(itertools.pairwise(widths))
    sizes, neurons = (np.array([f(pair) for pair in pairs], np.float64) for f in (np.prod, sum))
    full = np.unique(sizes / neurons)  # the epsilons at which a layer has every connection
    connections = [np.minimum(epsilon * neurons, sizes).sum() for epsilon in full]
    return float(np.interp(density * sizes.sum(), [0, *connections], [0, *full]))
