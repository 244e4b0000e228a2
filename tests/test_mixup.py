"""MixUp: rows and labels of a batch mixed with others of it, against the formula with two losses."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from set_cli import native
from set_cli.data.mixup import MixedLabels, Mixing, draw_mixing, mix
from set_cli.training.loss import cross_entropy

compiled = pytest.mark.skipif(native.core is None, reason="the compiled kernels are not here")


def drawn(alpha: float, rows: int, batch_size: int, seed: int = 0) -> tuple[Tensor, Mixing]:
    """An order of the rows, and their mixing."""
    order = torch.from_numpy(np.random.default_rng(9).permutation(rows))
    return order, draw_mixing(alpha, order, batch_size, np.random.default_rng(seed))


def random_mixing(rows: int) -> Mixing:
    return drawn(1.0, rows, rows)[1]


@pytest.mark.parametrize(("rows", "batch_size"), [(100, 20), (90, 32), (1, 5), (33, 32)])
def test_a_batch_has_one_share_and_a_permutation_of_its_rows(rows: int, batch_size: int) -> None:
    order, mixing = drawn(0.4, rows, batch_size)
    shares: list[float] = []
    for batch in torch.split(order, batch_size):
        of_batch = mixing.of(batch)
        assert sorted(of_batch.places.tolist()) == list(range(len(batch)))
        assert torch.equal(of_batch.rows, batch[of_batch.places])
        shares += {*of_batch.shares.tolist()}
    assert len(shares) == -(-rows // batch_size)  # one a batch
    assert len({*shares}) == len(shares)
    again = drawn(0.4, rows, batch_size)[1]
    assert torch.equal(mixing.places, again.places)
    assert torch.equal(mixing.shares, again.shares)
    other = drawn(0.4, rows, batch_size, seed=1)[1]
    assert not torch.equal(mixing.shares, other.shares)


@pytest.mark.parametrize("alpha", [1e-3, 0.2, 1.0, 8.0, 1000.0])
def test_shares_have_the_moments_of_their_distribution(alpha: float) -> None:
    shares = drawn(alpha, 20_000, 1)[1].shares.double()
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.015)
    assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


@pytest.mark.parametrize(("rows", "features"), [(1, 3), (16, 64), (37, 5), (100, 33)])
@pytest.mark.parametrize("kind", ["columns", "rows", "without kernels"])
def test_a_mixture_is_the_weighted_sum(kind: str, rows: int, features: int) -> None:
    mixing = random_mixing(rows)
    x = native.new_columns(rows, features).normal_()
    x = x if kind == "columns" else x.contiguous()
    share = mixing.shares.double()[:, None]
    expected = share * x.double() + (1 - share) * x.double()[mixing.places]
    with native.without_kernels() if kind == "without kernels" else contextlib.nullcontext():
        found = mix(x, mixing.places, mixing.shares)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def test_a_mixture_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "WORK_PER_THREAD", 1)
    before, mixing = torch.get_num_threads(), random_mixing(50)
    x = native.new_columns(50, 40).normal_()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        copied = native.new_columns(50, 40)
        found.append(mix(copied.copy_(x), mixing.places, mixing.shares))
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


@compiled
def test_places_that_are_not_in_the_batch_are_refused() -> None:
    x = native.new_columns(4, 3).zero_()
    for places in ([0, 1, 2, 4], [-1, 0, 1, 2], [0, 1, 2]):
        with pytest.raises(ValueError, match="expected places in a batch of 4 rows"):
            mix(x, torch.tensor(places), torch.ones(4))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.99])
@pytest.mark.parametrize("is_mixed", [True, False])
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (64, 3), (100, 10), (130, 26)])
@pytest.mark.parametrize("kind", ["columns", "rows"])
def test_the_loss_is_that_of_both_labels(kind: str, rows: int, classes: int, is_mixed: bool, smoothing: float) -> None:
    logits = 20 * torch.randn(classes, rows).t()
    y = torch.randint(classes, (rows,))
    mixed = MixedLabels(torch.randint(classes, (rows,)), torch.rand(rows)) if is_mixed else None
    fast = (logits if kind == "columns" else logits.contiguous()).clone().requires_grad_()
    slow = logits.double().requires_grad_()
    loss = cross_entropy(fast, y, smoothing, mixed)
    by_row = nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="none")
    expected = by_row(slow, y)
    if mixed is not None:
        share = mixed.shares.double()
        expected = share * expected + (1 - share) * by_row(slow, mixed.others)
    torch.autograd.backward([3 * loss, 3 * expected.mean()])
    assert fast.grad is not None
    assert loss.item() == pytest.approx(expected.mean().item(), rel=1e-5, abs=1e-5)
    torch.testing.assert_close(fast.grad.double(), slow.grad, rtol=0, atol=1e-5)


@compiled
def test_labels_that_are_no_classes_are_refused_in_a_mixture() -> None:
    logits, labels = native.new_columns(3, 4).zero_(), torch.tensor([0, 3, 1])
    with pytest.raises(ValueError, match="expected labels 0 to 3, got 0 to 4"):
        cross_entropy(logits, labels, 0.1, MixedLabels(torch.tensor([0, 4, 1]), torch.ones(3)))
    with pytest.raises(ValueError, match="expected other labels and shares of 3 rows, got 2"):
        cross_entropy(logits, labels, 0.1, MixedLabels(labels[:2], torch.ones(2)))
