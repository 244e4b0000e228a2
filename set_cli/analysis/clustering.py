"""Bipartite clustering of one layer. A layered graph has no triangles, so the usual coefficient is 0 for every network;
closed here are squares: two inputs that share two outputs.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from set_cli.sparse.pattern import Csr

SWAPS = 10  # tried per connection: the random layer has forgotten the one it was made from
BLOCK = 20_000_000  # products formed at once: 240 MB


def clustering(pattern: Csr) -> float | None:
    """Robins and Alexander's coefficient, 4 * squares / paths of three connections; None where there are no such paths.

    0 to 1. Robins & Alexander, Computational and Mathematical Organization Theory 10:69 (2004). Time and memory: one
    blocked product of the pattern with its transpose.
    """
    rows, columns = pattern.out_degrees().astype(np.int64), pattern.in_degrees().astype(np.int64)
    paths = int(((np.repeat(rows, rows) - 1) * (columns[pattern.indices] - 1)).sum())
    return 4 * _squares(pattern, rows, columns) / paths if paths else None


def _squares(pattern: Csr, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> int:
    ones = np.ones(pattern.nnz, np.int32)
    matrix = scipy.sparse.csr_array((ones, pattern.indices, pattern.indptr), shape=pattern.shape)
    if (rows**2).sum() < (columns**2).sum():  # pairs of outputs are fewer products than pairs of inputs
        matrix, rows, columns = matrix.T.tocsr(), columns, rows
    transposed = matrix.T.tocsr()
    # What each row's part of the product takes: the degrees of the neurons behind its connections.
    work = np.concatenate([[0], np.cumsum(columns[matrix.indices], dtype=np.int64)])[matrix.indptr]
    twice, start = 0, 0
    while start < len(rows):
        end = max(start + 1, int(np.searchsorted(work, work[start] + BLOCK, side="right")) - 1)
        shared = (matrix[start:end] @ transposed).data.astype(np.int64)
        twice += int((shared * (shared - 1)).sum()) // 2
        start = end
    # Each pair was met twice, and each neuron once with itself.
    return (twice - int((rows * (rows - 1) // 2).sum())) // 2


def mean_clustering(patterns: Iterable[Csr]) -> float | None:
    """The mean coefficient of these layers, those left out that have none; None where none has one."""
    found = [clustering(pattern) for pattern in patterns]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if known else None


def shuffle_connections(pattern: Csr, samples: int, seed: int) -> list[Csr]:
    """Random patterns with the same degrees: pairs of connections swap their ends (igraph's `rewire`)."""
    import igraph  # with matplotlib a second, which a page of what was measured before need not wait for

    if not pattern.nnz:
        return [pattern] * samples
    n_in, n_out = pattern.shape
    rows = np.repeat(np.arange(n_in), pattern.out_degrees())
    made = []
    original = igraph.Graph(n=n_in + n_out, edges=np.c_[rows, pattern.indices + n_in], directed=True)
    generator = random.Random(seed)
    igraph.set_random_number_generator(generator)
    try:
        for _ in range(samples):
            graph = original.copy()
            graph.rewire(n=SWAPS * pattern.nnz)
            edges = np.array(graph.get_edgelist(), np.int64)
            matrix = scipy.sparse.csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1] - n_in)), pattern.shape)
            matrix.sort_indices()
            made.append(Csr(matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), pattern.shape))
    finally:
        igraph.set_random_number_generator(random)
    return made
