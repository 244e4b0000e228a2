"""Cells, their ranks among the empty ones, and the best of them: each against a list that is made one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given

from set_cli.sparse.pattern import Csr
from set_cli.sparse.rules import cells as rules_cells
from set_cli.sparse.rules.cells import (
    Best,
    cells_of_ranks,
    connected_cells,
    empty_cells,
    filled_at_random,
    is_among,
    kept_cells,
    ranks_of_cells,
)
from tests.builders import layers
from tests.oracles import cells_of, view_of

Layer = tuple[Csr, np.ndarray[tuple[int], np.dtype[np.float32]], float, int]


@given(layer=layers())
def test_ranks_count_the_cells_without_a_kept_connection(layer: Layer) -> None:
    pattern, weights, _, seed = layer
    view = view_of(pattern, weights)
    keep = torch.from_numpy(np.random.default_rng(seed).random(pattern.nnz) < 0.6)
    connected = [i * pattern.shape[1] + j for i, j in sorted(cells_of(pattern))]
    assert connected_cells(view).tolist() == connected
    kept = kept_cells(view, keep)
    assert kept.tolist() == [cell for cell, stays in zip(connected, keep.tolist(), strict=True) if stays]
    empty = torch.tensor([cell for cell in range(view.cells) if cell not in set(kept.tolist())], dtype=torch.int64)
    ranks = torch.arange(len(empty))
    assert torch.equal(cells_of_ranks(ranks, kept), empty)
    assert torch.equal(ranks_of_cells(empty, kept), ranks)
    every = torch.arange(view.cells)
    assert is_among(every, kept).tolist() == [cell in set(kept.tolist()) for cell in every.tolist()]


@given(layer=layers())
def test_empty_cells_come_in_blocks_of_rows(layer: Layer) -> None:
    pattern, weights, _, _ = layer
    kept = connected_cells(view_of(pattern, weights))
    expected = [cell for cell in range(pattern.cells) if cell not in set(kept.tolist())]
    with pytest.MonkeyPatch.context() as patch:
        for small, block in ((2**22, 2**20), (0, 17), (0, 1)):
            patch.setattr(rules_cells, "SMALL_LAYER", small)
            patch.setattr(rules_cells, "CELLS_IN_BLOCK", block)
            blocks = list(empty_cells(pattern.shape, kept))
            assert torch.cat(blocks).tolist() == expected
            assert all(len(some) <= max(block, pattern.shape[1]) for some in blocks) or small


@pytest.mark.parametrize("count", [0, 1, 3, 40, 200])
@pytest.mark.parametrize("block", [1, 7, 150])
def test_the_best_are_the_largest_scores_and_the_first_of_equals(count: int, block: int) -> None:
    rng = np.random.default_rng(count)
    scores = rng.integers(0, 9, 150).astype(np.float32)
    best = Best(count)
    for some in torch.split(torch.arange(150), block):
        best.add(some * 10, torch.from_numpy(scores)[some])
    first = sorted((i for i in range(150) if scores[i] > 0), key=lambda i: (-scores[i], i))[:count]
    assert best.cells().tolist() == [10 * i for i in sorted(first)]


def test_what_is_missing_is_filled_at_random() -> None:
    chosen = torch.tensor([1, 4, 7])
    found = np.zeros(10)
    for seed in range(600):
        ranks = filled_at_random(chosen, 10, 5, np.random.default_rng(seed))
        assert len(ranks) == 5
        assert bool((ranks.diff() > 0).all())
        assert set(chosen.tolist()) <= set(ranks.tolist())
        found[ranks.numpy()] += 1
    others = np.delete(found, chosen.numpy())
    assert np.abs(others - 600 * 2 / 7).max() < 50  # four standard deviations
    assert torch.equal(filled_at_random(chosen, 3 + 7, 10, np.random.default_rng(0)), torch.arange(10))
    assert filled_at_random(chosen, 10, 3, np.random.default_rng(0)) is chosen
