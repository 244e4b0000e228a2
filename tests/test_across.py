"""What an evolution does with several layers together, against counts by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from set_cli.sparse.across import shared_out, without_unreached
from set_cli.sparse.pattern import from_positions
from set_cli.sparse.rules import View
from tests.oracles import random_pattern, view_of


def layer(shape: tuple[int, int], *cells: tuple[int, int]) -> View:
    positions = np.sort(np.array([i * shape[1] + j for i, j in cells], np.int64))
    return view_of(from_positions(positions, shape), np.ones(len(cells), np.float32))


def stays(views: list[View], gone: dict[int, list[int]] | None = None, meet: list[bool] | None = None) -> list[str]:
    keeps = [torch.ones(view.nnz, dtype=torch.bool) for view in views]
    for at, removed in (gone or {}).items():
        keeps[at][removed] = False
    found = without_unreached(views, keeps, meet or [True] * len(views))
    return ["".join("o" if kept else "." for kept in keep.tolist()) for keep in found]


def test_a_neuron_that_reaches_nothing_loses_its_connections() -> None:
    first = layer((2, 3), (0, 0), (0, 1), (1, 1), (1, 2))
    second = layer((3, 2), (0, 0), (1, 1), (2, 0))
    assert stays([first, second]) == ["oooo", "ooo"]
    assert stays([first, second], {1: [1]}) == ["o..o", "o.o"]  # neuron 1 has no way on
    assert stays([first, second], {0: [0]}) == [".ooo", ".oo"]  # nothing comes to neuron 0


def test_it_goes_through_all_layers() -> None:
    chain = [layer((1, 2), (0, 0), (0, 1)), layer((2, 2), (0, 0), (1, 1)), layer((2, 1), (0, 0), (1, 0))]
    assert stays(chain, {2: [1]}) == ["o.", "o.", "o."]
    assert stays(chain, {0: [1]}) == ["o.", "o.", "o."]


def test_layers_that_do_not_meet_and_the_last_connections_stay() -> None:
    apart = [layer((1, 2), (0, 0), (0, 1)), layer((3, 2), (0, 0))]
    assert stays(apart, meet=[False]) == ["oo", "o"]
    alike = [layer((1, 2), (0, 0), (0, 1)), layer((2, 2), (0, 0))]  # a dense layer is between them
    assert stays(alike, meet=[False]) == ["oo", "o"]
    assert stays(alike) == ["o.", "o"]
    ending = [layer((1, 2), (0, 0)), layer((2, 1), (1, 0))]  # no way through at all: nothing is taken away
    assert stays(ending) == ["o", "o"]


@given(st.integers(0, 2**32 - 1))
def test_what_stays_has_a_way_through(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(5, 6), (6, 4), (4, 7)]
    views = [view_of(random_pattern(*shape, 9, rng), rng.standard_normal(9).astype(np.float32)) for shape in shapes]
    keeps = [torch.from_numpy(rng.random(9) < 0.7) for _ in shapes]
    found = without_unreached(views, keeps, [True, True])
    for before, after in zip(keeps, found, strict=True):
        assert not (after & ~before).any()
    ends = [
        (view.positions[keep] // view.shape[1], view.positions[keep] % view.shape[1])
        for view, keep in zip(views, found, strict=True)
    ]
    again = without_unreached(views, found, [True, True])
    if all(len(own) for own, _ in ends) and all(torch.equal(a, b) for a, b in zip(found, again, strict=True)):
        for (_, outputs), (inputs, _) in itertools.pairwise(ends):
            full = set(outputs.tolist()) & set(inputs.tolist())
            assert not full or set(inputs.tolist()) <= set(outputs.tolist())


@pytest.mark.parametrize(
    ("total", "scores", "room", "counts"),
    [
        (10, [1, 1], [100, 100], [5, 5]),
        (10, [3, 1], [100, 100], [8, 2]),  # 7.5 and 2.5: the first of equal remainders
        (10, [1, 0], [4, 100], [4, 6]),  # what has no room goes on
        (3, [0, 0], [100, 100], [2, 1]),
        (0, [1, 2], [5, 5], [0, 0]),
        (9, [1, 1, 1], [3, 3, 3], [3, 3, 3]),
    ],
)
def test_connections_are_shared_out(total: int, scores: list[float], room: list[int], counts: list[int]) -> None:
    assert shared_out(total, scores, room) == counts


@given(
    st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 50)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_every_connection_finds_a_place(layers: list[tuple[float, int]], part: float) -> None:
    scores, room = [score for score, _ in layers], [space for _, space in layers]
    total = int(part * sum(room))
    counts = shared_out(total, scores, room)
    assert sum(counts) == total
    assert all(0 <= count <= space for count, space in zip(counts, room, strict=True))
