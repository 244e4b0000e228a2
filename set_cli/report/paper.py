"""The paper's results, Table 3 (best test accuracy over epochs, percent)."""

from __future__ import annotations

from typing import NamedTuple


class PaperValue(NamedTuple):
    """A published figure and the epsilon and zeta it was reached with (None: without meaning for the method)."""

    value: float
    epsilon: float | None
    zeta: float | None


# The paper's MLP_FixProb has as many connections as SET's final network: 0.7 * 20 = 14 (n_units + n_units before).
FIXPROB_EPSILON = 14.0


def _mlp(dense: float, fixprob: float, evolved: float) -> dict[str, PaperValue]:
    return {
        "dense": PaperValue(dense, None, None),
        "fixprob": PaperValue(fixprob, FIXPROB_EPSILON, None),
        "set": PaperValue(evolved, 20.0, 0.3),
    }


TABLE: dict[tuple[str, str], dict[str, PaperValue]] = {
    ("mnist", "mlp"): _mlp(98.55, 97.68, 98.74),
    ("cifar10", "mlp"): _mlp(68.70, 62.19, 74.84),
}


def paper_value(dataset: str, model: str, method: str, epsilon: float | None, zeta: float | None) -> float | None:
    """The paper's figure for exactly this data set, model, method, epsilon and zeta; None where it has none."""
    published = TABLE.get((dataset, model), {}).get(method)
    if published is None or (published.epsilon, published.zeta) != (epsilon, zeta):
        return None
    return published.value
