"""The layers together as one graph: how far neurons are apart, what hangs together, and what does nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from scipy.sparse import csgraph

from set_cli.sparse.pattern import Csr

NUMBER = re.compile(r"[0-9]{1,9}")
SOURCES = 100  # neurons from which paths are measured
AT_ONCE = 10_000_000  # distances held in memory: 80 MB


@dataclass(frozen=True, slots=True)
class GraphMeasures:
    """Measures of consecutive sparse layers as one graph; connections are taken without direction.

    neurons       of all layers, inputs included
    components    parts without a path between them, single neurons included
    largest       neurons of the largest component
    path_length   mean number of connections between two neurons that a path joins, from sampled sources; None where
                  there are none
    reachable     share of the other neurons that a sampled source reaches
    sources       how many neurons were sampled
    dead          hidden neurons that lie on no path from the first to the last of these layers: they compute nothing,
                  or nothing that is used
    """

    neurons: int
    components: int
    largest: int
    path_length: float | None
    reachable: float
    sources: int
    dead: int


def chains(layers: Mapping[str, Csr]) -> list[list[str]]:
    """Names of sparse layers that follow each other: a dense layer, or a convolution, between two ends a chain."""
    found: list[list[str]] = []
    for name, pattern in layers.items():
        number = name.removeprefix("layer")
        if not NUMBER.fullmatch(number):
            continue  # a convolution's kernels are no graph of neurons
        before = found[-1][-1] if found else None
        follows = before is not None and int(before.removeprefix("layer")) + 1 == int(number)
        if follows and before is not None and layers[before].shape[1] == pattern.shape[0]:
            found[-1].append(name)
        else:
            found.append([name])
    return found


def measure_graph(
    patterns: Sequence[Csr], seed: int = 0, sources: int = SOURCES, *, hidden_inputs: bool = False
) -> GraphMeasures:
    """Measures of these layers, each one's outputs the next one's inputs; distances from that many random neurons.

    hidden_inputs  whether the first layer's inputs are hidden neurons: something dense is before them
    ValueError for no layers, and for layers that do not fit together.
    """
    if not patterns or any(a.shape[1] != b.shape[0] for a, b in pairwise(patterns)):
        raise ValueError(f"expected layers that follow each other, got {[pattern.shape for pattern in patterns]}")
    graph = _adjacency(patterns)
    neurons = graph.shape[0]
    count, labels = csgraph.connected_components(graph, directed=False)
    chosen = np.random.default_rng(seed).choice(neurons, min(sources, neurons), replace=False)
    total, reached = 0.0, 0
    step = max(1, AT_ONCE // neurons)
    for start in range(0, len(chosen), step):
        distances = csgraph.dijkstra(graph, directed=False, unweighted=True, indices=chosen[start : start + step])
        finite = np.isfinite(distances) & (distances > 0)
        total += float(distances[finite].sum())
        reached += int(finite.sum())
    return GraphMeasures(
        neurons=neurons,
        components=int(count),
        largest=int(np.bincount(labels).max()),
        path_length=total / reached if reached else None,
        reachable=reached / (len(chosen) * (neurons - 1)) if neurons > 1 else 0.0,
        sources=len(chosen),
        dead=count_dead(patterns, hidden_inputs=hidden_inputs),
    )


def count_dead(patterns: Sequence[Csr], *, hidden_inputs: bool = False) -> int:
    """Hidden neurons that no input reaches, or that reach no neuron of the last layer.

    hidden_inputs  as above: they are counted too
    Of one layer alone the outputs without connections: what lies behind them is dense, or nothing.
    """
    forward = [np.ones(patterns[0].shape[0], bool)]
    for pattern in patterns:
        forward.append(_reached(pattern, forward[-1]))
    backward = [np.ones(patterns[-1].shape[1], bool)]
    for pattern in reversed(patterns):
        backward.insert(0, _reaching(pattern, backward[0]))
    first = 0 if hidden_inputs else 1
    return sum(int((~(f & b)).sum()) for f, b in zip(forward[first:], backward[first:], strict=True))


def _reached(pattern: Csr, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = np.zeros(pattern.shape[1], bool)
    found[pattern.indices[np.repeat(alive, pattern.out_degrees())]] = True
    return found


def _reaching(pattern: Csr, alive: NDArray[np.bool_]) -> NDArray[np.bool_]:
    found = np.zeros(pattern.shape[0], bool)
    rows = np.repeat(np.arange(pattern.shape[0]), pattern.out_degrees())
    found[rows[alive[pattern.indices]]] = True
    return found


def _adjacency(patterns: Sequence[Csr]) -> scipy.sparse.csr_array:
    """Row of an input, column of an output, all layers one behind the other."""
    starts = np.cumsum([0, *(pattern.shape[0] for pattern in patterns)])
    neurons = int(starts[-1]) + patterns[-1].shape[1]
    rows, columns = [], []
    for start, pattern in zip(starts, patterns, strict=False):
        rows.append(start + np.repeat(np.arange(pattern.shape[0]), pattern.out_degrees()))
        columns.append(start + pattern.shape[0] + pattern.indices.astype(np.int64))
    ends = np.concatenate(rows), np.concatenate(columns)
    return scipy.sparse.csr_array((np.ones(len(ends[0]), np.int8), ends), shape=(neurons, neurons))
