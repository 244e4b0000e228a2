"""An RBM's phases in one call of the kernels each: a step of contrastive divergence, a run of annealed chains."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor

from set_cli import native
from set_cli.native import records

DRAW = 32  # multiply-adds that a unit's probability and draw take as long as


def draw(a: Tensor, seed: int, step: int, *, probabilities: bool = False) -> tuple[Tensor, Tensor | None]:
    """Units that are 1 with probability sigmoid(a), else 0; and, where asked for, those probabilities.

    a  (n, units) float32 on the CPU, rows or columns contiguous
    """
    if not (native.is_columns(a) or a.stride(1) == 1):
        a = a.contiguous()
    by_unit = native.is_columns(a)
    lines, length = (a.shape[1], a.shape[0]) if by_unit else a.shape

    def new() -> Tensor:
        return native.new_columns(length, lines) if by_unit else native.new_columns(length, lines).t()

    def columns(x: Tensor | None) -> records.Columns:
        return records.columns(x if by_unit or x is None else x.t())

    drawn, p = new(), new() if probabilities else None
    assert native.core is not None
    native.core.draw(
        records.Draw(
            z=columns(a),
            p=columns(p),
            drawn=columns(drawn),
            rows=lines,
            n_batch=length,
            random=records.Random(seed=seed, step=step),
        ),
        native.threads(a.numel() * DRAW),
    )
    return drawn, p


class Connections(NamedTuple):
    """An RBM for the kernels, all float32 on the CPU and contiguous: its weights (nnz,) and the biases of both sides.

    pattern, shape  core.Pattern of the connections, and (n_visible, n_hidden)
    """

    pattern: Any
    shape: tuple[int, int]
    weight: Tensor
    hidden_bias: Tensor
    visible_bias: Tensor

    def threads(self, rows: int) -> int:
        """Threads for a half step, from one side to the other."""
        n_visible, n_hidden = self.shape
        return native.threads(rows * (len(self.weight) + DRAW * (n_visible + n_hidden) // 2))


class Statistics(NamedTuple):
    """What a step of contrastive divergence gives: minus the gradient of the log-probability, and the loss.

    loss  sum over the batch of the reconstruction's cross-entropy, nats
    """

    weight: Tensor
    hidden_bias: Tensor
    visible_bias: Tensor
    loss: float


class Contrast(NamedTuple):
    """A step of contrastive divergence: its call, where that writes the gradients, and the other memory it works in."""

    record: records.Contrast
    weight: Tensor
    hidden_bias: Tensor
    visible_bias: Tensor
    memory: tuple[Tensor, ...]


def contrast(rbm: Connections, v: Tensor, chain: Tensor | None, steps: int, seed: int, step: int) -> Statistics:
    """CD-k for a batch v (n, n_visible) of 0s and 1s, columns; with a chain, persistent.

    chain  hidden units (m, n_hidden) of 0s and 1s from which the model's phase starts, columns; moved on in place
    step   the first of the random steps; takes 2 steps + 1 of them
    """
    found = new_contrast(rbm, v, chain, steps, seed, step)
    assert native.core is not None
    loss = native.core.contrast(found.record, rbm.threads(max(found.record.n_batch, found.record.n_chains)))
    return Statistics(found.weight, found.hidden_bias, found.visible_bias, loss)


def new_contrast(rbm: Connections, v: Tensor, chain: Tensor | None, steps: int, seed: int, step: int) -> Contrast:
    """What `contrast` does, with memory of its own."""
    n, m = len(v), len(v) if chain is None else len(chain)
    n_visible, n_hidden = rbm.shape
    v1 = native.new_columns(max(n, m), n_visible)
    h0, drawn, h1 = (native.new_columns(rows, n_hidden) for rows in (n, n, m))
    dw, dc, db = torch.empty_like(rbm.weight), native.empty(n_hidden), native.empty(n_visible)
    record = records.Contrast(
        pattern=rbm.pattern,
        values=rbm.weight.data_ptr(),
        hidden_bias=rbm.hidden_bias.data_ptr(),
        visible_bias=rbm.visible_bias.data_ptr(),
        v0=records.columns(v),
        v1=records.columns(v1),
        h0=records.columns(h0),
        h1=records.columns(h1),
        drawn=records.columns(drawn),
        chain=records.columns(chain),
        dw=dw.data_ptr(),
        dc=dc.data_ptr(),
        db=db.data_ptr(),
        n_batch=n,
        n_chains=m,
        steps=steps,
        random=records.Random(seed=seed, step=step),
    )
    return Contrast(record, dw, dc, db, (v, v1, h0, drawn, h1))


class Chains:
    """Annealed chains on their way from the base-rate model to an RBM.

    base, shift  (n_visible,) visible biases of the base-rate model; those of the RBM minus these
    v            (n_chains, n_visible) draws from it, columns; moved on in place
    """

    def __init__(self, base: Tensor, shift: Tensor, n_hidden: int, v: Tensor, seed: int) -> None:
        self._base, self._shift, self._bias = base.contiguous(), shift.contiguous(), torch.empty_like(shift)
        self._v, self._h = v, native.new_columns(len(v), n_hidden)
        assert native.core is not None
        rows = native.core.SUM_BLOCK
        blocks = -(-n_hidden // rows) + -(-v.shape[1] // rows)
        self._sums = torch.zeros(blocks, len(v), dtype=torch.float64, device="cpu")
        self._seed, self._step = seed, 0

    def log_weights(self) -> Tensor:
        """(n_chains,) float64: of what the chains have come through."""
        return self._sums.sum(dim=0)

    def _record(self) -> records.Annealing:
        v, h = self._v, self._h
        return records.Annealing(
            base=self._base.data_ptr(),
            shift=self._shift.data_ptr(),
            bias=self._bias.data_ptr(),
            v=records.columns(v),
            h=records.columns(h),
            n_visible=v.shape[1],
            n_hidden=h.shape[1],
            n_chains=len(v),
            sums=self._sums.data_ptr(),
            random=records.Random(seed=self._seed, step=self._step),
        )


class SparseChains(Chains):
    """Chains of a sparse RBM: any number of temperatures in one call."""

    def __init__(self, rbm: Connections, base: Tensor, v: Tensor, seed: int) -> None:
        super().__init__(base, rbm.visible_bias - base, rbm.shape[1], v, seed)
        self._rbm = rbm

    def move(self, betas: Tensor) -> None:
        """Anneal through these inverse temperatures (float32), of which the chains have reached the first."""
        rbm = self._rbm
        assert native.core is not None
        native.core.anneal(
            records.SparseAnnealing(
                chains=self._record(),
                pattern=rbm.pattern,
                values=rbm.weight.data_ptr(),
                hidden_bias=rbm.hidden_bias.data_ptr(),
                betas=betas.data_ptr(),
                temperatures=len(betas),
            ),
            rbm.threads(len(self._v)),
        )
        self._step += 2 * (len(betas) - 1)


class DenseChains(Chains):
    """Chains of a dense RBM: torch's products, all else by the kernels.

    weight, hidden_bias, visible_bias  (n_hidden, n_visible), (n_hidden,), (n_visible,), float32 on the CPU
    """

    def __init__(
        self, weight: Tensor, hidden_bias: Tensor, visible_bias: Tensor, base: Tensor, v: Tensor, seed: int
    ) -> None:
        super().__init__(base, visible_bias - base, len(hidden_bias), v, seed)
        self._weight, self._hidden_bias = weight, hidden_bias.unsqueeze(1)

    def move(self, betas: Tensor) -> None:
        """Anneal through these inverse temperatures (float32), of which the chains have reached the first."""
        assert native.core is not None
        threads = native.threads(len(self._v) * max(self._weight.shape) * DRAW)
        v, h = self._v.t(), self._h.t()
        products = native.new_columns(len(self._v), len(v)).t()
        for before, beta in itertools.pairwise(betas.tolist()):
            torch.addmm(self._hidden_bias, self._weight, v, out=h)
            record = self._record()
            native.core.anneal_hidden(record, before, beta, threads)
            torch.mm(self._weight.t(), h, out=products)
            native.core.anneal_visible(record, records.columns(products.t()), before, beta, threads)
            self._step += 2
