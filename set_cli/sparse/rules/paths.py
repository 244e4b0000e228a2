"""Growth where paths of length three lead: Cannistraci-Hebb training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli import native
from set_cli.sparse.pattern import Csr
from set_cli.sparse.rules.draws import Smallest
from set_cli.sparse.rules.view import View
from set_cli.sparse.sampling import sample_distinct

MOST_STEPS = 2**35  # of paths that are followed: some two minutes in one thread of the compiled kernels
STEPS_AT_ONCE = 2**20  # without the kernels: memory is some 50 bytes times this, or what one input neuron needs

Cells = NDArray[np.int64]
Floats = NDArray[np.float64]
Sparse = Any  # scipy.sparse.csr_array, which has no types


def cannistraci_hebb(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow in the cells of the highest score CH3-L3, among equals in the first: the regrowth of CHT.

    For an empty cell (u, v) of the bipartite graph of the kept connections, over all paths u - z1 - z2 - v
        score = sum of 1 / sqrt((1 + e(z1)) * (1 + e(z2)))
    where e, the external degree, counts the neighbours of z1 that are neither u nor neighbours of v, and the
    neighbours of z2 that are neither v nor neighbours of u. Where fewer cells than `count` have paths, all of these
    grow, and the others anywhere among the empty cells.

    Zhang et al., "Epitopological learning and Cannistraci-Hebb network shape intelligence brain-inspired theory for
    ultra-sparse advantage in deep learning", ICLR 2024; the score is that of Muscoloni et al., 2020. The authors' code
    fills every cell with the last score that fits, which may be more than `count`.

    Nothing of `options` is used. Time: each path is followed, which for random connections is nnz times the square of
    the mean degree; ValueError above MOST_STEPS. Memory: O(neurons + count) for each thread.
    """
    return _grow(view, keep, count, rng, is_soft=False)


def cannistraci_hebb_soft(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow in cells drawn with probability proportional to the score of `cannistraci_hebb`: the regrowth of CHTs.

    Without replacement, one after the other, each time among those not drawn yet. That is the order of E / score, E an
    exponential number of each cell (Efraimidis and Spirakis, 2006; with the Gumbel distribution the same in
    logarithms): a function of the cell and of 64 bits from `rng`.

    Zhang et al., "Brain network science modelling of sparse neural networks enables Transformers and LLMs to perform
    as fully connected", 2025. Where fewer cells than `count` have paths, time, memory and errors: as there.
    """
    return _grow(view, keep, count, rng, is_soft=True)


def _grow(view: View, keep: Tensor, count: int, rng: np.random.Generator, is_soft: bool) -> Tensor:
    seed = int(rng.integers(2**64, dtype=np.uint64))
    graph = Graph.of(view, keep)
    graph.check_time()
    best = graph.best if native.core is None else graph.best_compiled
    found = graph.positions_of(best(count, is_soft, seed))
    # Numbered among the cells without a kept connection, then the missing ones among those without a path.
    ranks = found - np.searchsorted(graph.kept, found)
    rest = sample_distinct(view.cells - len(graph.kept) - len(ranks), count - len(ranks), rng)
    rest += np.searchsorted(ranks - np.arange(len(ranks)), rest, side="right")
    return torch.from_numpy(np.sort(np.concatenate([ranks, rest])))


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """The kept connections, of the neurons that have any.

    kept             (n_kept,) positions in the layer, ascending
    inputs, outputs  which of the layer's neurons these are, ascending
    pattern          their connections; a cell of it is number * len(outputs) + number
    """

    n_out: int
    kept: Cells
    inputs: Cells
    outputs: Cells
    pattern: Csr

    @classmethod
    def of(cls, view: View, keep: Tensor) -> Graph:
        """The graph of the connections that a removal kept."""
        indptr, indices = view.indptr.cpu().numpy(), view.indices.cpu().numpy()
        kept = Csr(indptr, indices, view.shape).positions()[keep.cpu().numpy()]
        inputs, row = np.unique(kept // view.shape[1], return_inverse=True)
        outputs, column = np.unique(kept % view.shape[1], return_inverse=True)
        starts = np.searchsorted(row, np.arange(len(inputs) + 1)).astype(np.int32)
        return cls(
            view.shape[1], kept, inputs, outputs, Csr(starts, column.astype(np.int32), (len(inputs), len(outputs)))
        )

    def positions_of(self, cells: Cells) -> Cells:
        """(len(cells),) positions in the layer of these cells of the graph."""
        if not len(cells):
            return cells
        return self.inputs[cells // len(self.outputs)] * self.n_out + self.outputs[cells % len(self.outputs)]

    @property
    def steps(self) -> int:
        """How many steps the paths of length three take, those included that lead back."""
        of_input, of_output = self.pattern.out_degrees(), self.pattern.in_degrees()
        of_connection = np.repeat(of_input.astype(np.float64), of_input)
        return int((of_connection * of_output[self.pattern.indices]).sum())

    def check_time(self) -> None:
        """ValueError where the paths are too many to follow."""
        if self.steps > MOST_STEPS:
            raise ValueError(
                f"cannistraci_hebb: expected at most {MOST_STEPS:,} steps on paths of length three in a layer, found "
                f"{self.steps:,}; take a smaller density, fewer neurons, or another regrowth, such as random"
            )

    def best_compiled(self, count: int, is_soft: bool, seed: int) -> Cells:
        """What `best` gives, by the kernels."""
        if not len(self.kept) or not count or native.core is None:
            return np.empty(0, np.int64)
        pattern = native.core.Pattern(*self.pattern.shape, self.pattern.indptr, self.pattern.indices)
        cells = np.empty(count, np.int64)
        threads = native.threads(native.ELEMENTWISE * self.steps)
        return cells[: native.core.grow_by_paths(pattern, is_soft, seed, cells, threads)]

    def best(self, count: int, is_soft: bool, seed: int) -> Cells:
        """(at most count,) the empty cells of the highest scores, or of the smallest E / score; ascending."""
        first = Smallest(count)
        for cells, scores in self.scores():
            first.add(_exponential_of(cells, len(self.outputs), seed) / scores if is_soft else -scores, cells)
        return np.sort(first.cells)

    def scores(self) -> Iterator[tuple[Cells, Floats]]:
        """The empty cells with paths and their scores, in blocks.

        SciPy adds in the order of the indices, as the kernels do, so that the scores are the same bit for bit.
        """
        indptr, indices = self.pattern.indptr, self.pattern.indices
        a = scipy.sparse.csr_array((np.ones(len(indices)), indices, indptr), shape=self.pattern.shape)
        by_output = a.T.tocsr()
        steps = by_output @ self.pattern.out_degrees().astype(np.float64)  # of the paths that begin with each output
        before = np.concatenate([[0], np.cumsum(a @ steps)])
        start = 0
        while start < len(self.inputs):
            end = max(start + 1, int(np.searchsorted(before, before[start] + STEPS_AT_ONCE, side="right")) - 1)
            yield self._scores_of(start, end, a, by_output)
            start = end

    def _scores_of(self, start: int, end: int, a: Sparse, by_output: Sparse) -> tuple[Cells, Floats]:
        """The same for the inputs from `start` to before `end`."""
        mine = a[start:end]
        weights = self._weights(mine, by_output)
        sums = weights @ a
        weights.data = np.ones(len(weights.data))
        paths = weights @ a
        sums.sort_indices()
        paths.sort_indices()
        degrees = np.repeat(self.pattern.in_degrees()[mine.indices], np.diff(sums.indptr))
        sums.data /= np.sqrt(np.maximum(degrees - paths.data, 1))  # 1 + e(z1); less than 1 where u and v are connected
        pairs = (np.ones(mine.nnz), np.arange(mine.nnz), mine.indptr)
        scores = (scipy.sparse.csr_array(pairs, shape=(end - start, mine.nnz)) @ sums).tocoo()
        cells = (scores.row.astype(np.int64) + start) * len(self.outputs) + scores.col
        is_empty = ~np.isin(cells, self.pattern.positions()[self.pattern.indptr[start] : self.pattern.indptr[end]])
        return cells[is_empty], scores.data[is_empty]

    def _weights(self, mine: Sparse, by_output: Sparse) -> Sparse:
        """1 / sqrt(1 + e(z2)) of the inputs z2 of z1, a row for each connection (u, z1) of these inputs u."""
        n_in = len(self.inputs)
        common = (mine @ by_output).tocsr()  # outputs that u and z2 share
        common.sort_indices()
        # 1 + e(z2); 0 where z2, as u itself, has no outputs but those of u.
        external = self.pattern.out_degrees()[common.indices] - common.data
        g = np.divide(1.0, np.sqrt(external), out=np.zeros(len(external)), where=external > 0)
        weights = by_output[mine.indices]
        weights.sort_indices()
        u = np.repeat(np.repeat(np.arange(mine.shape[0]), np.diff(mine.indptr)), np.diff(weights.indptr))
        known = np.repeat(np.arange(mine.shape[0]), np.diff(common.indptr)) * n_in + common.indices
        weights.data = g[np.searchsorted(known, u * n_in + weights.indices)]
        weights.eliminate_zeros()
        return weights


def _exponential_of(cells: Cells, n_out: int, seed: int) -> Floats:
    """An exponential number of each cell, bit for bit what native/src/paths.cpp has, whose comments say how."""
    u, exponent = np.frexp(_uniform_of(cells, n_out, seed))
    is_low = u < 0.70710678118654752
    u, exponent = np.where(is_low, u * 2, u), exponent - is_low
    f = (u - 1) / (u + 1)
    z = f * f
    below = np.full(len(cells), 19.0)
    with np.errstate(divide="ignore"):
        for k in range(9, 0, -1):
            below = (2 * k - 1) - (k * k) / (below / z)
        found: Floats = -exponent / 1.4426950408889634 - 2 / (below / f)
    return found


def _uniform_of(cells: Cells, n_out: int, seed: int) -> Floats:
    """A number in (0, 1) of each cell by Philox4x32-7 (Salmon et al., SC 2011), the counter (output, input, 0, 0)."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    c = [(cells % n_out).astype(np.uint64), (cells // n_out).astype(np.uint64), *np.zeros((2, len(cells)), np.uint64)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(7):
        first, second = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [
            (second >> high) ^ c[1] ^ np.uint64(key[0]),
            second & low,
            (first >> high) ^ c[3] ^ np.uint64(key[1]),
            first & low,
        ]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    words = c[1] << np.uint64(20) | c[0] >> np.uint64(12)
    uniform: Floats = (words.astype(np.float64) + 0.5) / 2.0**52
    return uniform
