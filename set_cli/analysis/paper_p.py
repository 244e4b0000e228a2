"""The SET paper's reading of a degree distribution: a one-tailed test in which a small p means 'like a power law'.

Its null hypothesis is "no relation between the degree distribution and a power law", and below 0.05 the paper reads the
distribution as approximating one (Mocanu et al. 2018, Results; Fig. 3). Which statistic, bins and fit it used is not
said. Here: the correlation of log k with the log of how many neurons have k connections, over the degrees that occur,
against a falling line. The opposite of a goodness-of-fit test, where a small p rejects: `power_law`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc

FEWEST_VALUES = 3  # distinct degrees: two points always lie on a line


def paper_p_value(degrees: NDArray[np.integer]) -> float | None:
    """One-tailed p of a falling straight line in the log-log histogram; None for fewer than three different degrees.

    degrees  (neurons,) non-negative integers; neurons without connections have no logarithm and are left out
    """
    values, counts = np.unique(degrees[degrees > 0], return_counts=True)
    if len(values) < FEWEST_VALUES or counts.min() == counts.max():
        return None
    correlation = np.corrcoef(np.log(values), np.log(counts))[0, 1]
    # Its distribution where there is none: a beta one. scipy.stats.pearsonr(alternative="less") says the same after a
    # second of imports, which every page and figure would wait for.
    half = len(values) / 2 - 1
    return float(betainc(half, half, np.clip((1 + correlation) / 2, 0, 1)))


def hidden_degrees(degrees: Mapping[str, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
    """Connections of hidden neurons on both sides, (epochs + 1, neurons), by the layer that reaches them.

    degrees  '<layer>/in_degree' and '<layer>/out_degree', as degrees.npz has them. What a dense layer adds is the same
             for every neuron and left out. Layers are kept apart: together, narrow and wide ones would be a mixture of
             degrees that looks like a law of its own.
    """
    hidden = {}
    for name, values in degrees.items():
        layer, _, kind = name.rpartition("/")
        if kind == "in_degree":
            behind = degrees.get(f"{_next(layer)}/out_degree")
            hidden[layer] = values if behind is None or behind.shape != values.shape else values + behind
    return hidden


def _next(layer: str) -> str:
    found = re.fullmatch(r"(\D*)(\d{1,9})", layer, re.ASCII)
    return f"{found[1]}{int(found[2]) + 1}" if found else ""
