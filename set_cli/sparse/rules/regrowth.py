"""In which cells of a layer connections grow."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli.sparse.rules.cells import (
    SMALL_LAYER,
    Best,
    cells_of_ranks,
    connected_cells,
    empty_cells,
    filled_at_random,
    is_among,
    kept_cells,
    ranks_of_cells,
)
from set_cli.sparse.rules.sampled import products_in_blocks, sampled_product
from set_cli.sparse.rules.view import View
from set_cli.sparse.sampling import sample_distinct

LARGEST_SEARCH = 2**28  # cells of a layer of which each empty one may be looked at
NONE = torch.empty(0, dtype=torch.int64)  # where nothing grows, nothing has to be known of gradients or activations
FULL = 4  # empty cells for each connection: a layer that has fewer is enumerated, in time linear in its connections


def random_cells(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow in cells without a connection, every set of them equally likely: SET's regrowth (Algorithm 1).

    A cell that was just emptied may be filled again, as in the authors' code.
    """
    empty = view.cells - int(keep.sum())
    return torch.from_numpy(sample_distinct(empty, count, rng))


def gradient(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow where the gradient of the loss is largest in magnitude, of all empty cells or of some drawn at random.

    options.candidates  ceil(candidates * count) distinct empty cells are drawn, as many as there are at most: guided
                        stochastic exploration (GSE), Heddes et al., arXiv 2401.06898 (2024), with uniform draws; they
                        count candidates for each connection of the layer, not for each that grows. None: every empty
                        cell is looked at, which is RigL, Evci et al., ICML 2020
    Among equals the first cells win. Where fewer than `count` have a gradient other than 0 (a pixel that is always
    black, a unit that is never active), the rest grow at random among all empty cells. The gradient is that of the
    rows in the view, at the weights before the removal; a cell that was just emptied may be filled again.

    O(n_batch * candidates) time and O(candidates) memory; for None O(n_batch * n_in * n_out) time in blocks of rows.
    ValueError where the view has no gradients, or None is asked of more than 2**28 cells.
    """
    if not count:
        return NONE
    return _largest_products(view, keep, count, rng, *view.last_step)


def momentum(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow where the exponential mean of the gradients is largest in magnitude; else as `gradient`.

    SNFS: Dettmers and Zettlemoyer, arXiv 1907.04840 (2019). The rows of the view are those of several batches, those
    of a batch multiplied by its power of the momentum, so that their gradient is that mean. It departs from the paper
    in that the weights stand still over these batches, where the paper keeps a dense momentum through training.
    """
    return gradient(view, keep, count, rng)


def cosine(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow where the activations of the input and of the output neuron have the largest |cosine| over the rows.

    CTRE: Atashgahi et al., Machine Learning (2022), the part that is not random; there every empty cell is looked at,
    here options.candidates says how many are, as in `gradient`. A neuron that is 0 in every row has similarity 0 to
    all. Among equals the first cells win; what is missing grows at random. Time and memory as `gradient`.
    ValueError where the view has no activations, or options.candidates is None in a layer of more than 2**28 cells.
    """
    if not count:
        return NONE
    if view.inputs is None or view.outputs is None:
        raise ValueError("regrowth cosine: expected the inputs and outputs of the layer for some rows, got none")
    return _largest_products(view, keep, count, rng, _normalized(view.inputs), _normalized(view.outputs))


def unfired(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow in cells that never had a connection, every set of them equally likely; where they run out, in any others.

    In-time over-parameterization, the share of cells that were ever connected, is what ITOP finds to matter (Liu et
    al., ICML 2021); they reach it by evolving more often, this by never trying a cell twice. Cells that never had one:
    those that are neither in view.removed nor connected before this removal. O(nnz + removed) time and memory.
    ValueError where nobody keeps what was removed.
    """
    if not count:
        return NONE
    if view.removed is None:
        raise ValueError("regrowth unfired: expected the cells that were connected before (View.removed), got none")
    kept = kept_cells(view, keep)
    fired = torch.unique(torch.cat([connected_cells(view), view.removed.cells]))
    fresh = view.cells - len(fired)
    drawn = torch.from_numpy(sample_distinct(fresh, min(fresh, count), rng))
    ranks = ranks_of_cells(cells_of_ranks(drawn, fired), kept)
    return filled_at_random(ranks, view.cells - len(kept), count, rng)


def preferential(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow by preferential attachment: cell (i, j) with probability proportional to (1 + degree_i) (1 + degree_j).

    Barabási and Albert, Science 286:509 (1999), as Mocanu et al. (2018) suggest in their outlook. Degrees are those of
    the kept connections; cells are drawn one after the other without replacement, and degrees do not change while they
    are. O(nnz + count) memory, whatever the layer. Draws that hit a connection are repeated; a layer that is small,
    nearly full, or whose hubs are taken (LARGEST_SEARCH cells at most) is enumerated in blocks, with the same law.
    """
    kept = kept_cells(view, keep)
    empty = view.cells - len(kept)
    cells = torch.empty(0, dtype=torch.int64)
    if view.cells > SMALL_LAYER and empty > FULL * (len(kept) + count):
        cells = _drawn_by_degree(view.shape, kept, count, rng)
    if len(cells) < count:
        rest = _enumerated_by_degree(view.shape, kept, cells, count - len(cells), rng)
        cells = torch.cat([cells, rest]).sort().values
    return ranks_of_cells(cells, kept)


def _largest_products(view: View, keep: Tensor, count: int, rng: np.random.Generator, x: Tensor, y: Tensor) -> Tensor:
    """Ranks of the empty cells (i, j) with the largest |x[:, i] @ y[:, j]|, of all or of candidates, then any."""
    if not (bool(torch.isfinite(x).all()) and bool(torch.isfinite(y).all())):
        raise ValueError("regrowth: expected finite activations and gradients, got NaN or infinity; lower the rate")
    kept = kept_cells(view, keep)
    empty = view.cells - len(kept)
    best = Best(count)
    candidates = view.options.candidates
    if candidates is None:
        if view.cells > LARGEST_SEARCH:
            raise ValueError(
                f"regrowth: expected at most {LARGEST_SEARCH:,} cells where every empty one is a candidate, got a "
                f"layer of {view.cells:,}; give a number of candidates for each connection that grows, such as 10"
            )
        for first, products in products_in_blocks(x, y):
            from_, to = torch.searchsorted(kept, torch.tensor([first, first + len(products)])).tolist()
            scores = products.abs_()
            scores[(kept[from_:to] - first).to(scores.device)] = 0
            best.add(torch.arange(first, first + len(scores)), scores)
    else:
        drawn = sample_distinct(empty, min(empty, math.ceil(candidates * count)), rng)
        cells = cells_of_ranks(torch.from_numpy(drawn), kept)
        best.add(cells, sampled_product(x, y, cells).abs())
    return filled_at_random(ranks_of_cells(best.cells(), kept), empty, count, rng)


def _normalized(x: Tensor) -> Tensor:
    """Columns of length 1, those of zeros as they are."""
    largest = x.abs().amax(dim=0)
    x = x / torch.where(largest > 0, largest, 1)  # squares of very small or large activations leave float32
    lengths = (x * x).sum(dim=0).sqrt()  # `norm` of columns takes twenty times as long
    return x / torch.where(lengths > 0, lengths, 1)


def _enumerated_by_degree(
    shape: tuple[int, int], kept: Tensor, chosen: Tensor, count: int, rng: np.random.Generator
) -> Tensor:
    """`count` empty cells by degree beside those chosen: weight / exponential noise is largest at such draws."""
    n_in, n_out = shape
    of_inputs = 1 + torch.bincount(kept // n_out, minlength=n_in)
    of_outputs = 1 + torch.bincount(kept % n_out, minlength=n_out)
    best = Best(count)
    for cells in empty_cells(shape, torch.cat([kept, chosen]).sort().values):
        weights = (of_inputs[cells // n_out] * of_outputs[cells % n_out]).double()
        best.add(cells, weights / torch.from_numpy(rng.standard_exponential(len(cells))))
    return best.cells()


def _drawn_by_degree(shape: tuple[int, int], kept: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Empty cells by degree: pairs of neurons, independently drawn, and drawn again where they are taken.

    All `count`, or fewer in a layer that can be enumerated where so many draws were in vain that it takes less time.
    """
    n_in, n_out = shape
    inputs, outputs = (kept // n_out).numpy(), (kept % n_out).numpy()
    chosen = np.empty(0, np.int64)
    left = n_in * n_out / 8 if n_in * n_out <= LARGEST_SEARCH else math.inf  # a draw takes longer than a cell
    while len(chosen) < count and left > 0:
        draws = max(1024, 2 * (count - len(chosen)))
        left -= draws
        cells = _neurons_by_degree(n_in, inputs, draws, rng) * n_out + _neurons_by_degree(n_out, outputs, draws, rng)
        cells = cells[~is_among(torch.from_numpy(cells), kept).numpy()]
        together = np.concatenate([chosen, cells])
        first = np.unique(together, return_index=True)[1]
        first.sort()  # in the order of the draws: the first distinct ones are those without replacement
        chosen = together[first[:count]]
    return torch.from_numpy(np.sort(chosen))


def _neurons_by_degree(n: int, ends: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` of n neurons with probability proportional to 1 + degree; ends: this side's neuron of each connection."""
    drawn = rng.integers(n + len(ends), size=count)  # a neuron itself, or the end of a connection
    is_end = drawn >= n
    drawn[is_end] = ends[drawn[is_end] - n]
    return drawn


def no_cells(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow nowhere: the layer loses what is removed, as in gradual pruning (Zhu and Gupta 2017)."""
    return torch.empty(0, dtype=torch.int64)
