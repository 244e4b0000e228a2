"""In which cells of a layer connections grow."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from set_cli.sparse.rules.view import View
from set_cli.sparse.sampling import sample_distinct


def random_cells(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow in cells without a connection, every set of them equally likely: SET's regrowth (Algorithm 1).

    A cell that was just emptied may be filled again, as in the authors' code.
    """
    empty = view.cells - int(keep.sum())
    return torch.from_numpy(sample_distinct(empty, count, rng))


def no_cells(view: View, keep: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Grow nowhere: the layer loses what is removed, as in gradual pruning (Zhu and Gupta 2017)."""
    return torch.empty(0, dtype=torch.int64)
