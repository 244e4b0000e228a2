"""Exact numbers of distinct cells, drawn one after another in proportion to weights, in time linear in them.

Drawn without replacement, each cell is one of those left, with a probability proportional to its weight. Two ways lead
there, and one can take over from the other at any time: to draw with replacement and skip what was drawn before, in
time of the draws; or to give each cell an exponential number over its weight and take the smallest (Efraimidis and
Spirakis, 2006), in time of the cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from set_cli.sparse.pattern import Csr, Positions, from_positions
from set_cli.sparse.rules.view import Site

CELLS_AT_ONCE = 2**20  # of a block of rows: memory is some 50 bytes times this

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
Draw = Callable[[Numbers], Numbers]
"""(outputs) -> an input of each, -1 for none: drawn in proportion to weights, which may be of less than all draws."""
LogWeights = Callable[[Numbers], Floats]
"""(outputs) -> (len(outputs), n_in) logarithm of the weight of each of their cells."""


def fan_ins(site: Site, count: int, rng: np.random.Generator) -> Numbers:
    """(n_out,) inputs of each output neuron, `count` together: all the same but for one, which chance decides."""
    fans = np.full(site.n_out, count // site.n_out, np.int64)
    fans[rng.choice(site.n_out, count % site.n_out, replace=False, shuffle=False)] += 1
    return fans


def from_outputs(cells: Numbers, site: Site) -> Csr:
    """The pattern of distinct cells in any order that are output * n_in + input."""
    positions = cells % site.n_in * site.n_out + cells // site.n_in
    positions.sort()
    return from_positions(positions, (site.n_in, site.n_out))


def blocks(first: int, end: int, width: int) -> Iterator[Numbers]:
    """The numbers from `first` to before `end`, so many at a time that `width` for each is CELLS_AT_ONCE."""
    step = max(1, CELLS_AT_ONCE // width)
    for start in range(first, end, step):
        yield np.arange(start, min(start + step, end))


def draw_from(cumulative: Floats, count: int, rng: np.random.Generator) -> Numbers:
    """`count` numbers from 0, each as often as its part of these cumulative weights says."""
    drawn: Numbers = np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")
    return np.minimum(drawn, len(cumulative) - 1)  # a product may have been rounded up


def is_among(cells: Numbers, others: Numbers) -> NDArray[np.bool_]:
    """Say which of these cells are among the others, which are ascending."""
    if not len(others):
        return np.zeros(cells.shape, bool)
    found: NDArray[np.bool_] = others[np.minimum(np.searchsorted(others, cells), len(others) - 1)] == cells
    return found


class Smallest:
    """The `count` cells of the smallest keys, among equals the lowest cells, of all that are added."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.keys: Floats = np.empty(0)
        self.cells: Numbers = np.empty(0, np.int64)
        self.limit = np.inf  # no key above it can be among them any more

    def add(self, keys: Floats, cells: Numbers) -> None:
        """Take note of these cells; infinite keys are none."""
        is_below = (keys <= self.limit) & (keys < np.inf)
        self.keys = np.concatenate([self.keys, keys[is_below]])
        self.cells = np.concatenate([self.cells, cells[is_below]])
        if len(self.keys) > self.count:
            last = float(np.partition(self.keys, self.count - 1)[self.count - 1]) if self.count else -np.inf
            wins = self.keys < last
            ties = np.flatnonzero(self.keys == last)
            wins[ties[np.argsort(self.cells[ties])][: self.count - int(wins.sum())]] = True
            self.keys, self.cells, self.limit = self.keys[wins], self.cells[wins], last


def distinct_inputs(fans: Numbers, n_in: int, draw: Draw, log_weights: LogWeights, rng: np.random.Generator) -> Numbers:
    """Draw distinct inputs of each output, as many as `fans` says: cells output * n_in + input."""
    missing, outputs, drawn = fans.copy(), np.flatnonzero(fans), 0
    have, complete = np.empty(0, np.int64), [np.empty(0, np.int64)]
    while len(outputs) and drawn < len(outputs) * n_in:
        of = np.repeat(outputs, missing[outputs])
        drawn += len(of)
        inputs = draw(of)
        new = np.unique((of * n_in + inputs)[inputs >= 0])
        new = new[~is_among(new, have)]
        np.subtract.at(missing, new // n_in, 1)
        have = np.sort(np.concatenate([have, new]))
        is_complete = missing[have // n_in] == 0
        complete.append(have[is_complete])
        have, outputs = have[~is_complete], outputs[missing[outputs] > 0]
    for block in blocks(0, len(outputs), n_in):
        some = outputs[block]
        keys = np.log(rng.standard_exponential((len(some), n_in))) - log_weights(some)
        cells = some[:, None] * n_in + np.arange(n_in)
        keys[is_among(cells, have)] = np.inf
        first = np.argsort(keys, axis=1, kind="stable")
        is_first = np.arange(n_in) < missing[some][:, None]
        complete.append(np.take_along_axis(cells, first, axis=1)[is_first])
    return np.concatenate([have, *complete])


def distinct_cells(
    count: int,
    shape: tuple[int, int],
    taken: Positions,
    draw: Callable[[int], Positions],
    log_weights: LogWeights,
    rng: np.random.Generator,
) -> Positions:
    """Draw `count` distinct cells input * n_out + output anywhere but in those taken (ascending); ascending.

    draw  (n) -> at most n cells, drawn in proportion to their weights
    """
    n_in, n_out = shape
    have, drawn = np.empty(0, np.int64), 0
    while len(have) < count and drawn < n_in * n_out:
        drawn += count - len(have)
        new = np.unique(draw(count - len(have)))
        have = np.sort(np.concatenate([have, new[~is_among(new, taken) & ~is_among(new, have)]]))
    if len(have) == count:
        return have
    best = Smallest(count - len(have))
    for outputs in blocks(0, n_out, n_in):
        keys = (np.log(rng.standard_exponential((len(outputs), n_in))) - log_weights(outputs)).ravel()
        cells = (np.arange(n_in) * n_out + outputs[:, None]).ravel()
        is_free = ~is_among(cells, taken) & ~is_among(cells, have)
        best.add(keys[is_free], cells[is_free])
    return np.sort(np.concatenate([have, best.cells]))
