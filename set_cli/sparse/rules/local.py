"""Wiring and growth between neurons that are close: in a picture, or on a ring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from set_cli.sparse.pattern import Csr, Positions, full_pattern
from set_cli.sparse.rules.draws import (
    Floats,
    Numbers,
    Smallest,
    blocks,
    distinct_cells,
    distinct_inputs,
    draw_from,
    fan_ins,
    from_outputs,
    is_among,
)
from set_cli.sparse.rules.view import Site, View
from set_cli.sparse.rules.wiring import connections_of
from set_cli.sparse.sampling import sample_distinct

SIGMA = 1 / 8  # of `local` and `nearby`, as a share of the picture's longer side
RANDOMNESS = 0.25  # r of `receptive` and `nearby`
REWIRED = 0.25  # beta of `small_world`
# Two numbers whose multiples fill the unit square evenly: the sequence R2 (Roberts, 2018).
EVEN = (0.7548776662466927, 0.5698402909980532)


def local(site: Site, rng: np.random.Generator) -> Csr:
    """Connect each output neuron with inputs close to its place in the picture; all have the same number of inputs.

    Output neuron j has the pixel of the j-th point of the sequence R2, which fills the picture evenly: the same for
    every seed, so that `nearby` grows around the same places. Its inputs are drawn without replacement with
    probability proportional to exp(-d^2 / (2 sigma^2)), d the distance of the pixels, whatever the channel; sigma is an
    eighth of the picture's longer side.

    The number of connections is exact; fan-ins differ by at most 1. Time and memory are linear in the connections.
    ValueError where the inputs are no image, and as for every wiring.
    """
    if site.image is None:
        raise ValueError(
            "local: expected a layer that reads images, but the rows of this one are no images; take receptive, which "
            "has a distance between any neurons"
        )
    count = connections_of(site)
    if count is None:
        return full_pattern(site.n_in, site.n_out)
    picture = Picture.of(site.image, (site.n_in, site.n_out))
    fans = fan_ins(site, count, rng)
    cells = distinct_inputs(fans, site.n_in, lambda outputs: picture.draw(outputs, rng), picture.log_weights, rng)
    return from_outputs(cells, site)


def receptive(site: Site, rng: np.random.Generator, r: float = RANDOMNESS) -> Csr:
    """Connect each output neuron with inputs close to it on a ring: the bipartite receptive field of CHTs.

    The neurons of both sides lie evenly on a ring. The inputs of a neuron are drawn without replacement with
    probability proportional to d ** ((r - 1) / r), d = 1 for the input at the place of the neuron, 2 for its two
    neighbours, and so on. r = 0 gives the nearest inputs, r = 1 random ones.

    Zhang et al., "Brain network science modelling of sparse neural networks enables Transformers and LLMs to perform
    as fully connected", 2025, with a fixed degree. There d = 0 where two neurons have the same place.

    The number of connections is exact; fan-ins differ by at most 1. Time and memory are linear in the connections and
    neurons for r up to 0.5.
    """
    count = connections_of(site)
    if count is None:
        return full_pattern(site.n_in, site.n_out)
    ring = Ring(site.n_in, site.n_out, r)
    fans = fan_ins(site, count, rng)
    if r == 0:
        return from_outputs(ring.nearest(fans), site)
    window = min(site.n_in, 4 * int(fans.max()) + 8)
    rates = ring.rates(window)
    found = [ring.draw(outputs, fans[outputs], window, rates, rng) for outputs in blocks(0, site.n_out, window)]
    return from_outputs(np.concatenate(found), site)


def small_world(site: Site, rng: np.random.Generator) -> Csr:
    """Connect each output neuron with the nearest inputs on a ring, then move a quarter of the connections anywhere.

    The bipartite small world of CHTs, after Watts and Strogatz, Nature 393:440 (1998): each connection is moved with
    probability beta = 0.25, to any cell that has none. In the authors' code the neurons of the larger side have the
    same number of neighbours at first, here those of the output.

    The number of connections is exact. Time and memory are linear in the connections.
    """
    count = connections_of(site)
    if count is None:
        return full_pattern(site.n_in, site.n_out)
    cells = Ring(site.n_in, site.n_out, 0).nearest(fan_ins(site, count, rng))
    stay = np.sort(cells[rng.random(count) >= REWIRED])
    ranks = sample_distinct(site.n_in * site.n_out - len(stay), count - len(stay), rng)
    moved = ranks + np.searchsorted(stay - np.arange(len(stay)), ranks, side="right")
    return from_outputs(np.concatenate([stay, moved]), site)


def nearby(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow between neurons that are close: the cells are drawn as those of `local`, or, without an image, `receptive`.

    Without replacement, with the same weights of distance, among all empty cells. A rule of our own: growth that keeps
    to the wiring with which the layer may have started.

    Time and memory are linear in the connections and neurons.
    """
    positions = Csr(view.indptr.cpu().numpy(), view.indices.cpu().numpy(), view.shape).positions()
    kept = positions[keep.cpu().numpy()]
    if view.image is None:
        cells = Ring(*view.shape, RANDOMNESS).draw_anywhere(count, kept, rng)
    else:
        picture = Picture.of(view.image, view.shape)
        cells = distinct_cells(
            count, view.shape, kept, lambda n: picture.draw_anywhere(n, rng), picture.log_weights, rng
        )
    return torch.from_numpy(cells - np.searchsorted(kept, cells))


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """Distances in a picture.

    image   (channels, height, width) of the inputs
    n_out   outputs that have a pixel each
    across  (2,) of rows and columns: cumulative weights of the distances from -(side - 1) to side - 1
    """

    image: tuple[int, int, int]
    n_out: int
    across: tuple[Floats, Floats]

    @classmethod
    def of(cls, image: tuple[int, int, int], shape: tuple[int, int]) -> Picture:
        """The picture of these inputs; ValueError where it has another number of pixels."""
        channels, height, width = image
        if channels * height * width != shape[0]:
            raise ValueError(f"expected an image of {shape[0]} inputs, got {channels} x {height} x {width}")
        steps = (np.arange(1 - side, side) / (SIGMA * max(height, width)) for side in (height, width))
        rows, columns = (np.cumsum(np.exp(-0.5 * step**2)) for step in steps)
        return cls(image, shape[1], (rows, columns))

    def places(self, outputs: Numbers) -> tuple[Numbers, Numbers]:
        """Row and column of each output's pixel."""
        row, column = (
            ((0.5 + outputs * even) % 1 * side).astype(np.int64)
            for even, side in zip(EVEN, self.image[1:], strict=True)
        )
        return row, column

    def draw(self, outputs: Numbers, rng: np.random.Generator) -> Numbers:
        """Draw an input of each output in proportion to its weight; -1 for a pixel beside the picture."""
        channels, height, width = self.image
        at = []
        for place, side, cumulative in zip(self.places(outputs), (height, width), self.across, strict=True):
            at.append(place + draw_from(cumulative, len(outputs), rng) - (side - 1))
        row, column = at
        inputs = (rng.integers(channels, size=len(outputs)) * height + row) * width + column
        is_inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return np.where(is_inside, inputs, -1)

    def draw_anywhere(self, count: int, rng: np.random.Generator) -> Positions:
        """Draw at most `count` cells input * n_out + output in proportion to their weights."""
        outputs = rng.integers(self.n_out, size=count)
        inputs = self.draw(outputs, rng)
        return (inputs * self.n_out + outputs)[inputs >= 0]

    def log_weights(self, outputs: Numbers) -> Floats:
        """(len(outputs), n_in)"""
        channels, height, width = self.image
        row, column = self.places(outputs)
        down = (np.arange(height) - row[:, None]) ** 2
        across = (np.arange(width) - column[:, None]) ** 2
        squares = (down[:, :, None] + across[:, None, :]).reshape(len(outputs), -1)
        return np.tile(squares / (-2 * (SIGMA * max(height, width)) ** 2), channels)


@dataclass(frozen=True, slots=True, eq=False)
class Ring:
    """Neurons of both sides on a ring, and distances between them.

    The inputs of an output neuron have numbers in the order of their distance: 0 at its place, 1 and 2 beside it, and
    so on; number k is at distance 1 + (k + 1) // 2 and has the weight distance ** ((r - 1) / r).
    """

    n_in: int
    n_out: int
    r: float

    def inputs(self, outputs: Numbers, numbers: Numbers) -> Numbers:
        """The inputs that have these numbers for these outputs."""
        places = ((outputs + 0.5) * (self.n_in / self.n_out)).astype(np.int64)
        offsets: Numbers = np.where(numbers % 2, 1, -1).astype(np.int64) * ((numbers + 1) // 2)
        return (places + offsets) % self.n_in

    def nearest(self, fans: Numbers) -> Numbers:
        """The nearest inputs of each output, as many as `fans` says: cells output * n_in + input."""
        outputs = np.repeat(np.arange(self.n_out), fans)
        numbers = np.arange(len(outputs)) - np.repeat(np.cumsum(fans) - fans, fans)
        return outputs * self.n_in + self.inputs(outputs, numbers)

    def times(self, outputs: Numbers, window: int, rng: np.random.Generator) -> Floats:
        """(len(outputs), window) exponential numbers over the weight, of the `window` nearest inputs."""
        times: Floats = rng.standard_exponential((len(outputs), window)) / self._weights(np.arange(window))
        return times

    def rates(self, window: int) -> Floats:
        """(n_in - window,) cumulative weights of all inputs but the `window` nearest."""
        cumulative: Floats = np.cumsum(self._weights(np.arange(window, self.n_in)))
        return cumulative

    def draw(self, outputs: Numbers, fans: Numbers, window: int, rates: Floats, rng: np.random.Generator) -> Numbers:
        """Draw distinct inputs of each output, as many as `fans` says: cells output * n_in + input.

        window  how many are the nearest, not below the fans
        rates   of the others, as `rates` gives them

        Inputs arrive after times that are exponential with their weights as rates; the first are drawn. The nearest
        have each a time. So many of them arrive until T that no other can be drawn after T, and those that arrive
        before are a Poisson process: a few, since together they weigh little.
        """
        times = self.times(outputs, window, rng)
        ends = np.concatenate([np.zeros((len(outputs), 1)), np.sort(times, axis=1)], axis=1)
        until = ends[np.arange(len(outputs)), fans]
        is_first = times <= until[:, None]
        near = np.nonzero(is_first)
        far = self._far_times(until, window, rates, rng)
        row: Numbers = np.concatenate([near[0], far[0]])
        number: Numbers = np.concatenate([near[1], far[1]])
        time = np.concatenate([times[is_first], far[2]])
        order = np.lexsort((time, row))
        row, number = row[order], number[order]
        starts = np.searchsorted(row, np.arange(len(outputs)))
        drawn = np.arange(len(row)) - starts[row] < fans[row]
        row, number = row[drawn], number[drawn]
        return outputs[row] * self.n_in + self.inputs(outputs[row], number)

    def draw_anywhere(self, count: int, kept: Positions, rng: np.random.Generator) -> Positions:
        """Draw `count` distinct cells input * n_out + output that are not kept, of any outputs; ascending."""
        if not count:
            return np.empty(0, np.int64)
        window = min(self.n_in, 4 * ((len(kept) + count) // self.n_out) + 8)
        first = Smallest(count)
        for outputs in blocks(0, self.n_out, window):
            times = self.times(outputs, window, rng).ravel()
            outputs = np.repeat(outputs, window)
            cells = self.inputs(outputs, np.tile(np.arange(window), len(outputs) // window)) * self.n_out + outputs
            is_below = times <= first.limit
            times, cells = times[is_below], cells[is_below]
            is_empty = ~is_among(cells, kept)
            first.add(times[is_empty], cells[is_empty])
        until = np.full(self.n_out, first.keys.max())
        far, numbers, more = self._far_times(until, window, self.rates(window), rng)
        cells = self.inputs(far, numbers) * self.n_out + far
        is_empty = ~is_among(cells, kept)
        first.add(more[is_empty], cells[is_empty])
        return np.sort(first.cells)

    def _far_times(
        self, until: Floats, window: int, rates: Floats, rng: np.random.Generator
    ) -> tuple[Numbers, Numbers, Floats]:
        """Rows of `until`, numbers and times of the inputs beyond the window that arrive until then.

        rates  cumulative weights of these inputs
        """
        if not len(rates):
            return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
        rows: Numbers = np.repeat(np.arange(len(until)), rng.poisson(until * rates[-1]))
        times: Floats = rng.random(len(rows)) * until[rows]
        numbers = window + draw_from(rates, len(rows), rng)
        order = np.lexsort((times, numbers, rows))
        rows, numbers, times = rows[order], numbers[order], times[order]
        is_new = np.ones(len(rows), bool)  # the others arrive for the second time
        is_new[1:] = (rows[1:] != rows[:-1]) | (numbers[1:] != numbers[:-1])
        return rows[is_new], numbers[is_new], times[is_new]

    def _weights(self, numbers: Numbers) -> Floats:
        distances: Floats = np.asarray(1 + (numbers + 1) // 2, np.float64)
        weights: Floats = np.power(distances, (self.r - 1) / self.r)
        return weights
