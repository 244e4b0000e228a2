"""The RBM's kernels against slow replays of the same random words: draws, contrastive divergence, annealed chains."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from set_cli import native
from set_cli.native import units
from set_cli.native.units import Connections, DenseChains, SparseChains, Statistics
from set_cli.training.contrastive import Divergence
from set_cli.training.sampling import Sampler
from tests.builders import device_pattern, pattern_with_special_rows, sparse_rbm
from tests.oracles import dense_weight, philox_words, tolerance

core = native.core
pytestmark = [
    pytest.mark.skipif(core is None, reason=f"no compiled kernels here: {native.missing}"),
    pytest.mark.usefixtures("two_threads"),
]

Floats = NDArray[np.float64]
SEED = 0x1234567_89ABCDEF  # both halves of the key
STEP = 2**33 - 2  # both halves of the counter; a run of steps carries from one to the other
# The kernels' probabilities, in float32, are nearer than this to the replay's.
MARGIN = 1e-6
BETAS = np.linspace(0, 1, 10, dtype=np.float32)
BEYOND = 7.0  # what lies behind the rows, where nothing is to be written; no value that a unit can have


def uniforms(rows: int, columns: int, seed: int, step: int) -> Floats:
    """(rows, columns) numbers in [0, 1): those of the published generator, its counters laid out as dropout's."""
    column, row = np.arange(columns, dtype=np.uint64), np.arange(rows, dtype=np.uint64)[:, None]
    parts = (column // 64 * 16 + column % 16, row, np.uint64(step & 0xFFFFFFFF), np.uint64(step >> 32))
    counter = cast(Any, tuple(np.broadcast_arrays(*parts)))  # the oracle's arithmetic is that of arrays too
    four = np.stack(cast(Any, philox_words(counter, (seed & 0xFFFFFFFF, seed >> 32))))
    word: NDArray[np.uint64] = np.take_along_axis(four, (column // 16 % 4).astype(np.int64)[None, None, :], axis=0)[0]
    return (word >> np.uint64(8)).astype(np.float64) * 2.0**-24


def sigmoid(a: Floats) -> Floats:
    p: Floats = 1 / (1 + np.exp(-a))
    return p


class Replay(NamedTuple):
    """An RBM in float64 that draws with the kernels' random words, one matrix product after the other."""

    weights: Floats
    hidden_bias: Floats
    visible_bias: Floats
    seed: int

    def hidden(self, v: Floats) -> Floats:
        return v @ self.weights + self.hidden_bias

    def visible(self, h: Floats) -> Floats:
        return h @ self.weights.T + self.visible_bias

    def draw(self, a: Floats, step: int) -> Floats:
        """Fails where a number is so near its probability that float32 and float64 may decide differently."""
        u, p = uniforms(a.shape[1], a.shape[0], self.seed, step).T, sigmoid(a)
        assert np.abs(u - p).min() > MARGIN, "too near to call: take another seed"
        return (u < p).astype(np.float64)

    def contrast(self, v0: Floats, chain: Floats | None, steps: int, step: int) -> tuple[Floats, ...]:
        """dw (n_visible, n_hidden), dc, db, the loss, and the chain afterwards."""
        h0 = sigmoid(self.hidden(v0))
        h = self.draw(self.hidden(v0), step)
        a = self.visible(h)
        loss = (np.logaddexp(0, a) - v0 * a).sum()
        v1 = self.draw(a if chain is None else self.visible(chain), step + 1)
        for t in range(1, steps):
            h = self.draw(self.hidden(v1), step + 2 * t)
            v1 = self.draw(self.visible(h), step + 2 * t + 1)
        h1 = sigmoid(self.hidden(v1))
        after = v1[:, :0] if chain is None else self.draw(self.hidden(v1), step + 2 * steps)
        dw = v1.T @ h1 / len(v1) - v0.T @ h0 / len(v0)
        return dw, h1.mean(axis=0) - h0.mean(axis=0), v1.mean(axis=0) - v0.mean(axis=0), loss, after

    def anneal(self, base: Floats, v: Floats, betas: Floats) -> tuple[Floats, Floats]:
        """The logarithms of the weights, and the visible units afterwards."""
        shift, logs = self.visible_bias - base, np.zeros(len(v))
        for t, (before, beta) in enumerate(itertools.pairwise(betas)):
            a = self.hidden(v)
            logs += (beta - before) * (v @ shift)
            logs += (np.logaddexp(0, beta * a) - np.logaddexp(0, before * a)).sum(axis=1)
            h = self.draw(beta * a, 2 * t)
            v = self.draw((1 - beta) * base + beta * self.visible(h), 2 * t + 1)
        return logs, v


class Case(NamedTuple):
    """The same RBM for the kernels and for the replay, and where its connections are."""

    kernels: Connections
    replay: Replay
    cells: NDArray[np.intp]


def case(n_visible: int, n_hidden: int, seed: int) -> Case:
    """Weights that matter; one unit of each side has all connections, one has none."""
    rng = np.random.default_rng(seed)
    pattern = pattern_with_special_rows(n_visible, n_hidden, rng)
    weight, c, b = (rng.standard_normal(n).astype(np.float32) for n in (pattern.nnz, n_hidden, n_visible))
    on = device_pattern(pattern)
    kernels = Connections(on.compiled, pattern.shape, *(torch.from_numpy(a) for a in (weight, c, b)))
    replay = Replay(dense_weight(pattern, weight), c.astype(np.float64), b.astype(np.float64), SEED)
    return Case(kernels, replay, pattern.positions().astype(np.intp))


def coins(n: int, number: int, seed: int) -> Floats:
    return np.random.default_rng(seed).integers(0, 2, (n, number)).astype(np.float64)


def columns(x: Floats) -> Tensor:
    return native.to_columns(torch.from_numpy(x.astype(np.float32)))


@pytest.fixture
def nothing_beyond(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Room behind every row of a new matrix and behind the last one; the result says whether it is untouched."""
    made: list[tuple[Tensor, int]] = []

    def new_columns(n_batch: int, neurons: int) -> Tensor:
        stride = native.row_stride(n_batch) + native.ROW_FLOATS
        memory = torch.full((neurons + 1, stride), BEYOND)
        made.append((memory, n_batch))
        return memory.as_strided((n_batch, neurons), (1, stride))

    def check() -> None:
        assert made
        for memory, n_batch in made:
            assert (memory[:-1, n_batch:] == BEYOND).all()
            assert (memory[-1] == BEYOND).all()
            assert not (memory[:-1, :n_batch] == BEYOND).any()  # and all that was asked for is there

    monkeypatch.setattr(native, "new_columns", new_columns)
    return check


# --- draws


@pytest.mark.parametrize("n", [1, 15, 16, 17, 63, 64, 65, 100, 130])
@pytest.mark.parametrize("layout", ["columns", "rows"])
def test_units_are_1_where_philoxs_number_is_below_the_sigmoid(
    simd: str, layout: str, n: int, nothing_beyond: Callable[[], None]
) -> None:
    """A row is what lies together in memory: a unit's batch, or all units of one example."""
    memory = np.full((9, n + 3), np.nan, np.float32)
    a = memory[:, :n]
    a[:] = np.random.default_rng(n).uniform(-6, 6, a.shape)
    a[:, 0] = [80, -80, np.nan, 0, -17.3, 17.3, 40, -0.0, 1e-30]
    a[:, -1] = a[::-1, 0]
    by_unit = layout == "columns"
    given = torch.from_numpy(memory)[:, :n]
    drawn, p = units.draw(given.t() if by_unit else given, SEED, STEP, probabilities=True)
    assert p is not None
    found, chosen = (x.t().numpy() if by_unit else x.numpy() for x in (p, drawn))
    np.testing.assert_allclose(found, sigmoid(a.astype(np.float64)), rtol=4e-7, atol=0)
    assert np.isnan(found).any()
    assert np.array_equal(chosen, uniforms(9, n, SEED, STEP) < found)
    nothing_beyond()


def test_a_draw_without_probabilities_is_the_same_on_any_number_of_threads(simd: str) -> None:
    a = torch.randn(130, 37, generator=torch.Generator().manual_seed(0))
    expected, _ = units.draw(a, SEED, STEP, probabilities=True)
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        drawn, p = units.draw(a, SEED, STEP)
        assert p is None
        assert torch.equal(drawn, expected)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: a.repeat_interleave(2, dim=0)[::2],
        lambda a: a[:1].expand(len(a), -1),
        lambda a: a[:, :1].expand(-1, a.shape[1]),
        lambda a: a.repeat_interleave(2, dim=1)[:, ::2],
        lambda a: a[:, :1],
        lambda a: a[:1],
        lambda a: a[:1].t().contiguous().t(),
        lambda a: a[:0],
    ],
    ids=["every second", "one row", "one unit", "every second unit", "a unit", "a row", "a row's columns", "none"],
)
def test_any_strides_are_drawn_from(simd: str, spoil: Callable[[Tensor], Tensor]) -> None:
    spoilt = spoil(torch.randn(21, 6, generator=torch.Generator().manual_seed(0)))
    drawn, p = units.draw(spoilt, SEED, STEP, probabilities=True)
    assert p is not None
    assert drawn.shape == p.shape == spoilt.shape
    torch.testing.assert_close(p, spoilt.sigmoid(), rtol=4e-7, atol=0)
    n, number = spoilt.shape
    by_unit = native.is_columns(spoilt)
    u = uniforms(number, n, SEED, STEP).T if by_unit else uniforms(n, number, SEED, STEP)
    assert np.array_equal(drawn.numpy(), u < p.numpy())


def test_every_draw_of_a_sampler_takes_a_random_step_of_its_own() -> None:
    a = torch.zeros(40, 50)
    sampler = Sampler(SEED, a.device)
    drawn = [sampler.units(a), sampler.units_and_probabilities(a)[0], sampler.units(a)]
    assert all(torch.equal(found, units.draw(a, SEED, step)[0]) for step, found in enumerate(drawn, start=1))
    assert len({tuple(found.flatten().tolist()) for found in drawn}) == 3


# --- contrastive divergence

BATCHES = [(1, None, 1), (64, None, 1), (65, None, 3), (37, 20, 1), (20, 37, 3), (100, 130, 2)]


@pytest.mark.parametrize(("n", "chains", "steps"), BATCHES)
def test_a_step_of_contrastive_divergence_is_the_slow_replays(
    simd: str, n: int, chains: int | None, steps: int, nothing_beyond: Callable[[], None]
) -> None:
    rbm = case(45, 37, seed=n)
    v, chain = coins(n, 45, seed=n), None if chains is None else coins(chains, 37, seed=n + 1)
    dw, dc, db, loss, after = rbm.replay.contrast(v, chain, steps, STEP)
    moved = None if chain is None else columns(chain)
    found = units.contrast(rbm.kernels, columns(v), moved, steps, SEED, STEP)
    atol = tolerance(max(n, chains or 0), 1.0)
    np.testing.assert_allclose(found.weight, dw.reshape(-1)[rbm.cells], rtol=0, atol=atol)
    np.testing.assert_allclose(found.hidden_bias, dc, rtol=0, atol=atol)
    np.testing.assert_allclose(found.visible_bias, db, rtol=0, atol=atol)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    if moved is not None:
        assert chain is not None
        assert np.array_equal(moved, after)
        assert not np.array_equal(after, chain)
    nothing_beyond()


def moved_on(rbm: Case, chain: Floats | None, threads: int) -> tuple[Statistics, Tensor | None]:
    torch.set_num_threads(threads)
    moved = None if chain is None else columns(chain)
    assert rbm.kernels.threads(50) == threads
    return units.contrast(rbm.kernels, columns(coins(50, 70, seed=0)), moved, 2, SEED, STEP), moved


@pytest.mark.parametrize("persistent", [False, True])
def test_a_step_has_the_same_bits_on_any_number_of_threads(simd: str, persistent: bool) -> None:
    """The visible units are three blocks: two of five threads have none."""
    rbm = case(70, 90, seed=0)
    chain = coins(33, 90, seed=1) if persistent else None
    expected, afterwards = moved_on(rbm, chain, 1)
    for threads in (2, 5):
        found, moved = moved_on(rbm, chain, threads)
        assert all(torch.equal(a, b) for a, b in zip(found[:3], expected[:3], strict=True))
        assert found.loss == expected.loss
        if moved is not None:
            assert afterwards is not None
            assert torch.equal(moved, afterwards)


@pytest.mark.parametrize("steps", [1, 3])
def test_batch_after_batch_takes_random_steps_that_no_other_took(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rbm = sparse_rbm(45, 37, "native")
    kernels = rbm.compiled()
    assert kernels is not None
    taken: list[int] = []
    one_call = units.contrast

    def contrast(kernels: Connections, v: Tensor, chain: Tensor | None, steps: int, seed: int, step: int) -> Statistics:
        assert seed == SEED
        taken.extend(range(step, step + 2 * steps + 1))
        return one_call(kernels, v, chain, steps, seed, step)

    monkeypatch.setattr(units, "contrast", contrast)
    divergence = Divergence(rbm, steps, SEED)
    v = columns(coins(20, 45, seed=0))
    for batch in range(3):
        loss = divergence.differentiate(v)
        expected = one_call(kernels, v, None, steps, SEED, batch * (2 * steps + 1))
        assert rbm.layer1.bias is not None
        gradients = [rbm.layer1.weight.grad, rbm.layer1.bias.grad, rbm.visible.bias.grad]
        assert all(torch.equal(cast(Tensor, a), b) for a, b in zip(gradients, expected[:3], strict=True))
        assert loss == expected.loss
    assert len(taken) == len(set(taken)) == 3 * (2 * steps + 1)


@pytest.mark.parametrize(("where", "seen"), [("weight", 0), ("hidden_bias", 1), ("visible_bias", 3)])
def test_nan_is_seen_in_the_gradients_or_the_loss(simd: str, where: str, seen: int) -> None:
    rbm = case(45, 37, seed=0)
    getattr(rbm.kernels, where)[20] = torch.nan
    found = units.contrast(rbm.kernels, columns(coins(20, 45, seed=0)), None, 1, SEED, STEP)
    assert torch.as_tensor(found[seen]).isnan().any()
    moving = SparseChains(rbm.kernels, torch.zeros(45), columns(coins(20, 45, seed=0)), SEED)
    moving.move(torch.from_numpy(BETAS))
    assert moving.log_weights().isnan().any()


# --- annealed chains


KINDS = ["sparse", "dense"]


def annealed_chains(kind: str, rbm: Case, base: Tensor, v: Tensor) -> SparseChains | DenseChains:
    if kind == "sparse":
        return SparseChains(rbm.kernels, base, v, SEED)
    weight = torch.from_numpy(rbm.replay.weights.T.astype(np.float32))
    return DenseChains(weight, rbm.kernels.hidden_bias, rbm.kernels.visible_bias, base, v, SEED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("n_visible", "n_hidden", "chains", "seed"), [(45, 37, 20, 1), (64, 32, 65, 4), (1, 70, 16, 1), (33, 1, 1, 1)]
)
def test_annealed_chains_are_the_slow_replays(
    simd: str, n_visible: int, n_hidden: int, chains: int, seed: int, kind: str, nothing_beyond: Callable[[], None]
) -> None:
    rbm = case(n_visible, n_hidden, seed)
    base = np.random.default_rng(2).standard_normal(n_visible).astype(np.float32)
    v = coins(chains, n_visible, seed=3)
    logs, afterwards = rbm.replay.anneal(base.astype(np.float64), v, BETAS.astype(np.float64))
    moved = columns(v)
    moving = annealed_chains(kind, rbm, torch.from_numpy(base), moved)
    moving.move(torch.from_numpy(BETAS))
    assert moving.log_weights().dtype == torch.float64
    np.testing.assert_allclose(moving.log_weights(), logs, rtol=0, atol=1e-4)
    assert np.array_equal(moved, afterwards)
    nothing_beyond()


def annealed(kind: str, pieces: list[int]) -> tuple[Tensor, Tensor]:
    """Log weights and visible units after all of BETAS, stopping at these."""
    rbm, v = case(70, 90, seed=0), columns(coins(50, 70, seed=3))
    moving = annealed_chains(kind, rbm, torch.linspace(-1, 1, 70), v)
    for first, last in itertools.pairwise([0, *pieces, len(BETAS) - 1]):
        moving.move(torch.from_numpy(BETAS)[first : last + 1])
    return moving.log_weights(), v


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("pieces", "threads"), [([], 2), ([], 5), ([3], 1), ([1, 4, 8], 2)])
def test_annealing_in_pieces_and_on_more_threads_has_the_same_bits(
    simd: str, kind: str, pieces: list[int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)  # of its products of dense matrices, which promise no bits
    expected = annealed(kind, [])
    monkeypatch.setattr(native, "threads", lambda work: threads)
    assert all(torch.equal(a, b) for a, b in zip(annealed(kind, pieces), expected, strict=True))
