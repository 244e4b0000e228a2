"""The wirings, and growth nearby: exact counts, the laws that their docstrings state, and what they refuse."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import binom

from set_cli.sparse.pattern import Csr, check_pattern, from_positions
from set_cli.sparse.rules import WIRING, Site, csti, fixed_fan_in, local, nearby, receptive, scale_free, small_world
from tests.oracles import cells_of, random_pattern, view_of

EXACT = [name for name in WIRING if name not in ("erdos_renyi", "erk")]
EQUAL_FANS = ("fixed_fan_in", "local", "receptive")
Weights = NDArray[np.float64]


def site_of(n_in: int, n_out: int, density: float, image: tuple[int, int, int] | None = None) -> Site:
    """A layer with an image, or a row of pixels, and ten rows of data."""
    rows = np.random.default_rng(n_in).random((10, n_in)).astype(np.float32)
    return Site(n_in, n_out, density, image or (1, 1, n_in), rows)


@pytest.mark.parametrize("wiring", EXACT)
@pytest.mark.parametrize(
    ("n_in", "n_out", "image"),
    [(1, 1, None), (1, 9, None), (9, 1, None), (7, 30, None), (48, 20, (3, 4, 4)), (60, 7, (2, 10, 3))],
)
def test_the_number_of_connections_is_exact(
    wiring: str, n_in: int, n_out: int, image: tuple[int, int, int] | None
) -> None:
    for density in (0.0, 0.004, 0.03, 0.25, 0.6, 0.97, 1.0, 2.5):
        site = site_of(n_in, n_out, density, image)
        found = check_pattern(WIRING[wiring](site, np.random.default_rng(3)))
        assert found.shape == (n_in, n_out)
        assert found.nnz == round(min(1, density) * n_in * n_out)
        if wiring in EQUAL_FANS:
            assert np.ptp(found.in_degrees()) <= 1
        assert found.has_connections_of(WIRING[wiring](site, np.random.default_rng(3)))


@pytest.mark.parametrize("wiring", [name for name in EXACT if name != "csti"])
def test_the_seed_decides(wiring: str) -> None:
    first, second = (WIRING[wiring](site_of(60, 50, 0.1), np.random.default_rng(seed)) for seed in (0, 1))
    assert not first.has_connections_of(second)


@pytest.mark.parametrize("wiring", [name for name in EXACT if name != "csti"])
def test_a_layer_of_a_million_neurons_takes_what_its_connections_take(wiring: str) -> None:
    site = Site(1_000_000, 1_000_000, 1e-7, (1, 1000, 1000))
    assert WIRING[wiring](site, np.random.default_rng(0)).nnz == 100_000


@pytest.mark.parametrize("image", [None, (1, 1000, 1000)])
def test_growth_nearby_in_a_layer_of_a_million_neurons(image: tuple[int, int, int] | None) -> None:
    site = Site(1_000_000, 1_000_000, 1e-7, (1, 1000, 1000))
    view = view_of(fixed_fan_in(site, np.random.default_rng(0)), np.ones(100_000, np.float32))
    ranks = nearby(replace(view, image=image), torch.rand(100_000) > 0.3, 30_000, np.random.default_rng(0))
    assert len(ranks) == 30_000
    assert bool((ranks.diff() > 0).all())


# --- Laws: how often each set of cells is drawn, beside its probability ---------------------------------------------


def probabilities(weights: Mapping[int, float], count: int) -> dict[tuple[int, ...], float]:
    """Of every set of `count` drawn one after the other, each time in proportion to the weights of what is left."""
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for order in itertools.permutations(weights, count):
        left, p = sum(weights.values()), 1.0
        for each in order:
            p *= weights[each] / left
            left -= weights[each]
        found[tuple(sorted(order))] += p
    return found


def assert_law(draw: Callable[[], list[int]], weights: Mapping[int, float], count: int, draws: int = 1500) -> None:
    seen = Counter(tuple(sorted(draw())) for _ in range(draws))
    expected = probabilities(weights, count)
    assert seen.keys() <= expected.keys()
    for subset, p in expected.items():
        tail = min(binom.cdf(seen[subset], draws, p), binom.sf(seen[subset] - 1, draws, p))
        assert tail > 1e-6, subset


def gaussian(image: tuple[int, int, int], place: tuple[int, int]) -> dict[int, float]:
    """The weight of each input by its distance from a pixel."""
    _, height, width = image
    sigma = max(height, width) / 8
    distances = [(y - place[0]) ** 2 + (x - place[1]) ** 2 for _, y, x in np.ndindex(*image)]
    return {i: math.exp(-d / (2 * sigma**2)) for i, d in enumerate(distances)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_local_draws_by_the_distance_in_the_picture(count: int) -> None:
    image, rng = (2, 2, 4), np.random.default_rng(0)
    site = Site(16, 1, count / 16, image)
    assert_law(lambda: sorted(i for i, _ in cells_of(local(site, rng))), gaussian(image, (1, 2)), count)


@pytest.mark.parametrize(("r", "n_in"), [(0.25, 12), (0.6, 40), (1.0, 30)])
@pytest.mark.parametrize("count", [1, 2])
def test_receptive_draws_by_the_distance_on_the_ring(r: float, n_in: int, count: int) -> None:
    rng = np.random.default_rng(1)
    site = Site(n_in, 1, count / n_in)
    distances = [min(abs(i - n_in // 2), n_in - abs(i - n_in // 2)) for i in range(n_in)]
    weights = {i: (1 + d) ** ((r - 1) / r) for i, d in enumerate(distances)}
    assert_law(lambda: sorted(i for i, _ in cells_of(receptive(site, rng, r))), weights, count)


def test_receptive_is_strictly_local_at_one_end() -> None:
    found = receptive(Site(12, 4, 3 / 12), np.random.default_rng(0), r=0)
    assert cells_of(found) == {((3 * j + 1 + step) % 12, j) for j in range(4) for step in (-1, 0, 1)}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("image", [None, (1, 2, 3)])
def test_nearby_draws_by_distance_among_the_empty_cells(image: tuple[int, int, int] | None, count: int) -> None:
    rng = np.random.default_rng(2)
    view = replace(view_of(random_pattern(6, 2, 4, rng), np.ones(4, np.float32)), image=image)
    weights: dict[int, float] = {}
    for output, (ring, pixel) in enumerate([(1, (1, 1)), (4, (0, 0))]):
        by_pixel = gaussian((1, 2, 3), pixel)
        for i in range(6):
            around = min(abs(i - ring), 6 - abs(i - ring))
            weights[i * 2 + output] = (1 + around) ** -3 if image is None else by_pixel[i]
    keep = torch.tensor([True, False, True, True])
    kept = [i * 2 + j for i, j in sorted(cells_of(Csr(view.indptr.numpy(), view.indices.numpy(), (6, 2))))]
    kept = [cell for cell, stays in zip(kept, keep.tolist(), strict=True) if stays]
    empty = [cell for cell in range(12) if cell not in kept]
    assert_law(
        lambda: [empty[rank] for rank in nearby(view, keep, count, rng).tolist()],
        {cell: weights[cell] for cell in empty},
        count,
    )


def test_nearby_reaches_distant_inputs_as_often_as_their_weights_say() -> None:
    rng = np.random.default_rng(6)
    view = view_of(random_pattern(14, 3, 0, rng), np.ones(0, np.float32))
    keep = torch.ones(0).bool()
    distance = {
        i * 3 + j: min(abs(i - place), 14 - abs(i - place)) for j, place in enumerate((2, 7, 11)) for i in range(14)
    }
    weights = {cell: (1 + d) ** -3.0 for cell, d in distance.items()}
    share = sum(weight for cell, weight in weights.items() if distance[cell] >= 5) / sum(weights.values())
    assert share * 3000 > 30  # none at all would be seen
    seen = sum(distance[int(nearby(view, keep, 1, rng))] >= 5 for _ in range(3000))
    assert abs(seen / 3000 - share) < 4.5 * math.sqrt(share / 3000)


def test_nearby_finds_distant_cells_where_all_close_ones_are_connected() -> None:
    rng, image = np.random.default_rng(7), (1, 1, 6)
    weights = {i * 2 + j: gaussian(image, (0, place))[i] for j, place in enumerate((3, 0)) for i in range(6)}
    kept = sorted(cell for cell, weight in weights.items() if weight > 0.1)
    view = replace(view_of(from_positions(np.array(kept), (6, 2)), np.ones(len(kept), np.float32)), image=image)
    empty = [cell for cell in range(12) if cell not in kept]
    assert len(kept) == 5
    assert_law(
        lambda: [empty[rank] for rank in nearby(view, torch.ones(len(kept)).bool(), 2, rng).tolist()],
        {cell: weights[cell] for cell in empty},
        2,
    )


@pytest.mark.parametrize("image", [None, (1, 20, 20)])
@pytest.mark.parametrize("nnz", [0, 100, 10_000, 19_000])
def test_nearby_grows_the_number_asked_for(image: tuple[int, int, int] | None, nnz: int) -> None:
    rng = np.random.default_rng(3)
    view = replace(view_of(random_pattern(400, 50, nnz, rng), np.ones(nnz, np.float32)), image=image)
    keep = torch.from_numpy(rng.random(nnz) < 0.7)
    for count in (0, 1, 300, 20_000 - int(keep.sum())):
        ranks = nearby(view, keep, count, rng)
        assert ranks.dtype == torch.int64
        assert len(ranks) == count
        assert bool((ranks.diff() > 0).all())
        assert not count or 0 <= int(ranks[0]) <= int(ranks[-1]) < 20_000 - int(keep.sum())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fixed_fan_in_draws_every_set_equally_often(count: int) -> None:
    rng, site = np.random.default_rng(4), Site(5, 1, count / 5)
    assert_law(lambda: sorted(i for i, _ in cells_of(fixed_fan_in(site, rng))), dict.fromkeys(range(5), 1.0), count)


# --- Patterns -------------------------------------------------------------------------------------------------------


def pixel_distance(found: Csr, image: tuple[int, int, int]) -> float:
    """The mean distance of the inputs of a neuron from their mean place."""
    _, height, width = image
    pixels = np.array([(i % (height * width) // width, i % width) for i in range(found.shape[0])])
    inputs = [np.array(sorted(i for i, o in cells_of(found) if o == j)) for j in range(found.shape[1])]
    return float(np.mean([np.linalg.norm(pixels[i] - pixels[i].mean(axis=0), axis=1).mean() for i in inputs]))


def test_local_neurons_see_a_part_of_the_picture() -> None:
    image = (3, 16, 16)
    site = Site(768, 40, 20 / 768, image)
    found, anywhere = (wire(site, np.random.default_rng(0)) for wire in (local, fixed_fan_in))
    assert pixel_distance(found, image) < 0.45 * pixel_distance(anywhere, image)
    covered = np.unique([i % 256 for i, _ in cells_of(found)])
    assert len(covered) > 190  # the places are all over the picture


def test_scale_free_has_hubs_on_both_sides() -> None:
    site = Site(4000, 3000, 30_000 / 12e6)
    found = scale_free(site, np.random.default_rng(0))
    anywhere = fixed_fan_in(site, np.random.default_rng(0))
    for degrees in (found.out_degrees(), found.in_degrees()):
        assert degrees.max() > 15 * degrees.mean()
        # P(degree >= k) falls as k ** -2: four times as many reach a degree as reach twice that.
        many, few = (int((degrees >= k * degrees.mean()).sum()) for k in (1.5, 3))
        assert 2.8 < many / few < 5.6
    assert anywhere.out_degrees().max() < 5 * anywhere.out_degrees().mean()


def test_small_world_moves_a_quarter_of_a_ring() -> None:
    site = Site(900, 600, 20 / 900)
    found = cells_of(small_world(site, np.random.default_rng(0)))
    ring = cells_of(receptive(site, np.random.default_rng(0), r=0))
    moved = len(found - ring) / len(ring)
    assert abs(moved - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 12_000) + 20 / 900
    degrees = Counter(j for _, j in found)
    assert 8 < min(degrees.values()) < max(degrees.values()) < 40


@pytest.mark.parametrize("n_out", [12, 30, 31, 75])
def test_csti_has_the_largest_correlations(n_out: int) -> None:
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((200, 30)).astype(np.float32)
    rows[:, 10:20] += rows[:, :10]
    rows[:, 7] = 3.5  # never changes
    with np.errstate(invalid="ignore"):
        expected = np.abs(np.nan_to_num(np.corrcoef(rows.astype(np.float64), rowvar=False)))
    np.fill_diagonal(expected, 0)
    tiled = expected[:, np.arange(n_out) % 30]
    for count in (1, n_out * 2, n_out * 11):
        found = csti(Site(30, n_out, count / (30 * n_out), None, rows), rng)
        chosen = np.zeros((30, n_out), bool)
        chosen[tuple(zip(*cells_of(found), strict=True))] = True
        assert chosen.sum() == count
        # Among those that are equal but for the last bits the first are chosen.
        order = sorted(range(30 * n_out), key=lambda cell: (-round(float(tiled.flat[cell]), 8), cell))
        assert set(np.flatnonzero(chosen)) == set(order[:count])


def test_csti_fills_up_at_random_where_nothing_is_correlated() -> None:
    rows = np.zeros((50, 6), np.float32)
    rows[:, 0] = rows[:, 1] = np.arange(50)
    seen = set()
    for seed in range(30):
        found = cells_of(csti(Site(6, 6, 5 / 36, None, rows), np.random.default_rng(seed)))
        assert len(found) == 5
        assert {(0, 1), (1, 0)} <= found
        seen |= found
    assert len(seen) > 30


def test_csti_takes_some_of_many_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((20_000, 8)).astype(np.float32)
    rows[:, 5] = 2 * rows[:, 2] + rows[:, 5]
    found = csti(Site(8, 8, 2 / 64, None, rows), np.random.default_rng(0))
    assert cells_of(found) == {(2, 5), (5, 2)}


# --- Refusals -------------------------------------------------------------------------------------------------------


def test_what_a_wiring_needs_and_does_not_get_is_refused() -> None:
    rng, bare = np.random.default_rng(0), Site(12, 5, 0.2)
    with pytest.raises(ValueError, match=r"local: expected a layer that reads images, .* take receptive"):
        local(bare, rng)
    with pytest.raises(ValueError, match="expected an image of 12 inputs, got 1 x 2 x 5"):
        local(replace(bare, image=(1, 2, 5)), rng)
    with pytest.raises(ValueError, match="csti: expected a layer that reads the data"):
        csti(bare, rng)
    wide = np.broadcast_to(np.float32(0), (8192, 50_000))
    with pytest.raises(ValueError, match=r"csti: expected at most .* take another wiring, such as receptive"):
        csti(Site(50_000, 10, 0.01, None, wide), rng)


@pytest.mark.parametrize("wiring", EXACT)
def test_sizes_that_do_not_fit_are_refused(wiring: str) -> None:
    rows = np.broadcast_to(np.float32(0), (2, 2**20))
    with pytest.raises(ValueError, match="expected at most 2147483647 connections"):
        WIRING[wiring](Site(2**20, 2**20, 0.5, (1, 2**10, 2**10), rows), np.random.default_rng(0))
