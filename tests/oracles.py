"""Slow and obviously right: what the fast code is compared with, and how close it has to come."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from set_cli.sparse.engines import ENGINES, why_missing
from set_cli.sparse.pattern import Csr, from_positions
from set_cli.sparse.rules import Removed, View
from set_cli.sparse.sampling import sample_distinct

Floats = NDArray[np.floating]
INSTALLED_ENGINES = [name for name in ENGINES if why_missing(name) is None]


def pruned_by_hand(weights: list[float], zeta: float) -> set[int]:
    """Algorithm 1's removal, one connection at a time: the indices that go."""
    gone = {i for i, w in enumerate(weights) if w == 0}
    for sign in (1, -1):
        side = [i for i, w in enumerate(weights) if w * sign > 0]
        closest_first = sorted(side, key=lambda i: (abs(weights[i]), i))
        gone |= set(closest_first[: math.floor(zeta * len(side))])
    return gone


def cells_of(pattern: Csr) -> set[tuple[int, int]]:
    """The connected pairs, read row by row."""
    return {
        (i, int(j)) for i in range(pattern.shape[0]) for j in pattern.indices[pattern.indptr[i] : pattern.indptr[i + 1]]
    }


def random_pattern(n_in: int, n_out: int, nnz: int, rng: np.random.Generator) -> Csr:
    """`nnz` connections anywhere."""
    return from_positions(np.sort(rng.permutation(n_in * n_out)[:nnz]).astype(np.int64), (n_in, n_out))


def view_of(pattern: Csr, weights: Floats) -> View:
    """What a rule sees of such a layer."""
    structure = (torch.from_numpy(pattern.indptr.copy()), torch.from_numpy(pattern.indices.copy()))
    return View(pattern.shape, *structure, torch.from_numpy(weights))


def full_view_of(pattern: Csr, weights: Floats, seed: int = 0, rows: int = 5, **changes: Any) -> View:
    """The same with all that any rule may ask for; products of small whole numbers are exact. changes: of the view."""
    rng = np.random.default_rng(seed)
    n_in, n_out = pattern.shape
    inputs, gradients, outputs = (
        torch.from_numpy(rng.integers(-2, 3, (rows, n)).astype(np.float32)) for n in (n_in, n_out, n_out)
    )
    gone = torch.from_numpy(sample_distinct(pattern.cells, pattern.cells // 3 if pattern.cells < 10**6 else 1000, rng))
    removed = Removed(gone, torch.ones(len(gone)))
    given: dict[str, Any] = {
        "inputs": inputs,
        "output_gradients": gradients,
        "outputs": outputs,
        "removed": removed,
    } | changes
    return replace(view_of(pattern, weights), **given)


def gradient_of(view: View) -> NDArray[np.float64]:
    """(n_in, n_out) the gradient with respect to every weight, one row after the other."""
    total = np.zeros(view.shape)
    for x, dy in zip(*(rows.double().numpy() for rows in view.last_step), strict=True):
        total += np.outer(x, dy)
    return total


def inclusion(weights: Sequence[float], count: int) -> NDArray[np.float64]:
    """How likely each is among `count` drawn one after the other, without replacement, in proportion to its weight."""
    likely = np.zeros(len(weights))
    for order in itertools.permutations(range(len(weights)), count):
        left, probability = sum(weights), 1.0
        for i in order:
            probability *= weights[i] / left
            left -= weights[i]
        likely[list(order)] += probability
    return likely


def dense_weight(pattern: Csr, values: Floats) -> NDArray[np.float64]:
    """The (n_in, n_out) matrix with zeros where there is no connection."""
    matrix = np.zeros(pattern.shape)
    for (i, j), value in zip(sorted(cells_of(pattern)), values, strict=True):
        matrix[i, j] = value
    return matrix


def tolerance(terms: int, largest: float) -> float:
    """Of a float32 sum of so many products of at most this size: n * eps, with room for the order of the sum."""
    return 4 * max(terms, 1) * float(np.finfo(np.float32).eps) * max(largest, 1)


def philox_words(counter: tuple[int, ...], key: tuple[int, int], rounds: int = 7) -> tuple[int, ...]:
    """Philox4x32 (Salmon et al., SC 2011) as published, one counter at a time."""
    c, (k0, k1) = counter, key
    for _ in range(rounds):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = ((p1 >> 32) ^ c[1] ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k1, p0 & 0xFFFFFFFF)
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c
