"""Wiring by the data: inputs that vary together share neurons."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from set_cli.sparse.pattern import Csr, from_positions, full_pattern
from set_cli.sparse.rules.draws import Floats, Smallest, blocks
from set_cli.sparse.rules.view import Site
from set_cli.sparse.rules.wiring import connections_of
from set_cli.sparse.sampling import sample_distinct

MOST_ROWS = 8192  # of the data, drawn at random: a correlation of 0 is then within 0.02 of it
MOST_WORK = 2**44  # multiply-adds for the correlations: some ten minutes in one thread
CELLS_AT_ONCE = 2**24  # of correlations that are there at a time: 128 MiB; up to 4,096 inputs all of them
STEPS = 2.0**30  # correlations are compared in whole steps of 1 / STEPS: in their last bits BLAS depends on its threads


def csti(site: Site, rng: np.random.Generator) -> Csr:
    """Connect the pairs of the largest absolute correlation of input features: the start of CHT.

    Output neuron j stands for input feature j modulo n_in. The cells of the largest absolute Pearson correlation
    between the features of their input and output have connections, among equals the first; a feature and itself count
    as 0, as does a feature that never changes. Where the others are fewer than the connections, the rest are anywhere.

    Correlated sparse topological initialization: Zhang et al., ICLR 2024 (the paper at `cannistraci_hebb`). The
    authors take all rows of the data; here at most MOST_ROWS of them, drawn at random.

    The number of connections is exact. Time is that of n_rows * n_in^2 multiply-adds, ValueError above MOST_WORK;
    memory is linear in the connections and the rows. ValueError where the layer does not read data.
    """
    if site.rows is None:
        raise ValueError("csti: expected a layer that reads the data, but this one reads what another computes")
    count = connections_of(site)
    if count is None:
        return full_pattern(site.n_in, site.n_out)
    work = min(len(site.rows), MOST_ROWS) * site.n_in**2
    if work > MOST_WORK:
        raise ValueError(
            f"csti: expected at most {MOST_WORK:,} multiply-adds for the correlations of all inputs, found {work:,}; "
            "take another wiring, such as receptive"
        )
    best = Smallest(count)
    features = np.arange(site.n_out) % site.n_in
    for first, correlations in _correlations(_standardized(site.rows, rng)):
        for inputs in blocks(0, len(correlations), site.n_out):
            tiled = correlations[inputs[0] : inputs[-1] + 1, features]
            at = np.flatnonzero((tiled > 0) & (tiled >= -best.limit))
            best.add(-tiled.ravel()[at], at + (first + inputs[0]) * site.n_out)
    found = np.sort(best.cells)
    rest = sample_distinct(site.n_in * site.n_out - len(found), count - len(found), rng)
    rest += np.searchsorted(found - np.arange(len(found)), rest, side="right")
    return from_positions(np.sort(np.concatenate([found, rest])), (site.n_in, site.n_out))


def _standardized(rows: NDArray[np.float32], rng: np.random.Generator) -> Floats:
    """(n_rows, n_in) features with mean 0 and length 1; 0 where a feature never changes."""
    if len(rows) > MOST_ROWS:
        rows = rows[sample_distinct(len(rows), MOST_ROWS, rng)]
    x = rows.astype(np.float64)
    is_constant = (rows == rows[:1]).all(axis=0)
    x -= x.mean(axis=0)
    lengths = np.sqrt(np.einsum("ij,ij->j", x, x))
    x /= np.where(is_constant | (lengths == 0), np.inf, lengths)
    return x


def _correlations(x: Floats) -> Iterator[tuple[int, Floats]]:
    """The first of some inputs, and their absolute correlations with all, a row for each; 0 with itself."""
    n_in = x.shape[1]
    step = max(1, CELLS_AT_ONCE // n_in)
    for first in range(0, n_in, step):
        some = x if step >= n_in else x[:, first : first + step]  # the product of x with itself takes half the time
        found = some.T @ x
        np.abs(found, out=found)
        found[np.arange(len(found)), first + np.arange(len(found))] = 0
        found *= STEPS
        yield first, np.rint(found, out=found)
