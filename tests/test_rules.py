"""The rules of a method: each against an oracle, and the seam where a new one goes."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from set_cli.config.method import Method
from set_cli.sparse import SparseLinear
from set_cli.sparse.evolve import LastStep, evolve
from set_cli.sparse.pattern import Csr, check_pattern
from set_cli.sparse.rules import REGROWTH, REMOVAL, WIRING, Site, View, magnitude
from tests.builders import layers
from tests.oracles import cells_of, full_view_of, view_of

Layer = tuple[Csr, np.ndarray[tuple[int], np.dtype[np.float32]], float, int]


@pytest.mark.parametrize(
    ("weights", "zeta", "stays"),
    [
        ([0.1, 0.2, 0.3, 0.4], 0.5, "..oo"),
        ([0.01, 0.02, -5, -6], 0.5, "..oo"),  # whatever the sign
        ([0.4, -0.4, 0.1, -0.1], 0.5, "oo.."),
        ([0.3, 0.2, 0.1], 0.3, "ooo"),  # floor(0.9) = 0
        ([0.0, 0.5, -0.5, 0.0], 0.25, ".ooo"),  # zeros go first, but no more than the fraction says
        ([0.2, -0.2, 0.2, -0.2], 0.5, "..oo"),  # among equals the first go
    ],
)
def test_magnitude_table(weights: list[float], zeta: float, stays: str) -> None:
    pattern = Csr(np.array([0, len(weights)], np.int32), np.arange(len(weights), dtype=np.int32), (1, 9))
    kept = magnitude(view_of(pattern, np.array(weights, np.float32)), zeta, np.random.default_rng(0))
    assert "".join("o" if keep else "." for keep in kept.tolist()) == stays


@pytest.mark.parametrize(
    ("removal", "regrowth"),
    [*((name, "random") for name in REMOVAL), *(("signed", name) for name in REGROWTH if name != "none")],
)
@settings(max_examples=30)
@given(layer=layers())
def test_every_rule_keeps_the_number_of_connections(removal: str, regrowth: str, layer: Layer) -> None:
    pattern, weights, zeta, seed = layer
    view = full_view_of(pattern, weights, seed)
    found = evolve(view, zeta, np.random.default_rng(seed), removal=REMOVAL[removal], regrowth=REGROWTH[regrowth])
    assert check_pattern(found.pattern).nnz == pattern.nnz
    assert found.pruned == found.regrown == int((found.source < 0).sum())
    survivors = found.source[found.source >= 0]
    assert torch.equal(survivors, survivors.sort().values)
    before = dict(enumerate(sorted(cells_of(pattern))))
    after = sorted(cells_of(found.pattern))
    assert all(after[i] == before[source] for i, source in enumerate(found.source.tolist()) if source >= 0)
    if removal not in ("signed", "threshold"):
        assert found.pruned == math.floor(zeta * pattern.nnz)


@pytest.mark.parametrize("wiring", WIRING)
def test_every_wiring_has_the_expected_number_of_connections(wiring: str) -> None:
    rows = np.random.default_rng(0).random((20, 300)).astype(np.float32)
    site = Site(300, 200, 2500 / 60000, (3, 10, 10), rows)
    counts = [check_pattern(WIRING[wiring](site, np.random.default_rng(seed))).nnz for seed in range(20)]
    assert abs(np.mean(counts) - 2500) < 60


def test_the_keys_offer_the_rules_of_the_tables() -> None:
    for key, table in (("removal", REMOVAL), ("regrowth", REGROWTH), ("wiring", WIRING)):
        assert get_args(Method.model_fields[key].annotation) == tuple(table)


def test_a_rule_that_is_not_known_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"removal: expected one of signed, magnitude, .*, or a function, got 'smallest'"
    ):
        SparseLinear(10, 8, epsilon=2).evolve(0.3, removal="smallest")


def test_gradients_at_cells_are_those_of_a_dense_layer() -> None:
    torch.manual_seed(0)
    layer = SparseLinear(12, 7, epsilon=1.5, seed=3)
    dense = torch.zeros(12, 7, requires_grad=True)
    at = torch.from_numpy(layer.pattern.positions())
    with torch.no_grad():
        dense.view(-1)[at] = layer.weight.detach()
    last_step = LastStep(layer)
    x = torch.randn(2, 5, 12)
    layer(x).square().sum().backward()
    (x @ dense).square().sum().backward()  # type: ignore[no-untyped-call]
    view = View(
        (12, 7), layer.indptr, layer.indices, layer.weight.detach(), last_step.inputs, last_step.output_gradients
    )
    assert dense.grad is not None
    cells = torch.arange(84)
    torch.testing.assert_close(view.gradients_at(cells), dense.grad.flatten())
    assert layer.weight.grad is not None
    torch.testing.assert_close(view.gradients_at(at), layer.weight.grad)
    last_step.detach()
    assert last_step.inputs is None
    with pytest.raises(ValueError, match="keep them with LastStep"):
        view_of(layer.pattern, np.zeros(layer.nnz, np.float32)).gradients_at(cells)
