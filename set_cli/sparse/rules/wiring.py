"""The connections with which a layer starts."""

from __future__ import annotations

import numpy as np

from set_cli.sparse.pattern import Csr, check_room, check_size, from_positions, full_pattern
from set_cli.sparse.rules.draws import (
    Floats,
    Numbers,
    distinct_cells,
    distinct_inputs,
    draw_from,
    fan_ins,
    from_outputs,
)
from set_cli.sparse.rules.view import Site
from set_cli.sparse.sampling import sample_distinct


def connection_probability(n_in: int, n_out: int, epsilon: float) -> float:
    """epsilon * (n_in + n_out) / (n_in * n_out), Eq. 1; 1 or more means a dense layer."""
    return epsilon * (n_in + n_out) / (n_in * n_out)


def erdos_renyi(n_in: int, n_out: int, epsilon: float, rng: np.random.Generator) -> Csr:
    """A random pattern in which every pair is connected independently with the probability of Eq. 1.

    The number of connections is binomial with mean epsilon * (n_in + n_out); a probability of 1 or more gives the
    full pattern. ValueError where a width or the count does not fit int32, MemoryError where there is no room.
    """
    check_size(n_in, n_out)
    return random_wiring(Site(n_in, n_out, connection_probability(n_in, n_out, epsilon)), rng)


def random_wiring(site: Site, rng: np.random.Generator) -> Csr:
    """Every pair is connected independently with probability `density`: Erdős-Rényi, the paper's Eq. 1."""
    check_site(site)
    if site.density >= 1:
        return full_pattern(site.n_in, site.n_out)
    # A binomial count, then that many distinct cells: in law the same as one coin per cell, without the cells.
    count = int(rng.binomial(site.n_in * site.n_out, site.density))
    return from_positions(sample_distinct(site.n_in * site.n_out, count, rng), (site.n_in, site.n_out))


def fixed_fan_in(site: Site, rng: np.random.Generator) -> Csr:
    """Connect each output neuron with the same number of inputs, every set of them equally likely.

    As the networks of SRigL have it: Lasby et al., "Dynamic sparse training with structured sparsity", ICLR 2024. The
    number of connections is exact; fan-ins differ by at most 1. Time and memory are linear in the connections.
    """
    count = connections_of(site)
    if count is None:
        return full_pattern(site.n_in, site.n_out)

    def draw(outputs: Numbers) -> Numbers:
        return rng.integers(site.n_in, size=len(outputs))

    def log_weights(outputs: Numbers) -> Floats:
        return np.zeros((len(outputs), site.n_in))

    return from_outputs(distinct_inputs(fan_ins(site, count, rng), site.n_in, draw, log_weights, rng), site)


def scale_free(site: Site, rng: np.random.Generator) -> Csr:
    """Wire hubs on both sides: degrees whose distribution falls as degree ** -3, as those of Barabasi and Albert.

    The static model: neuron number i of a side, in an order that chance decides, weighs i ** -0.5; cells are drawn
    without replacement with probability proportional to the product of their neurons' weights. Goh, Kahng and Kim, PRL
    87:278701 (2001), for two sides. The bipartite scale-free networks of CHTs (Zhang et al., 2025) grow, one neuron at
    a time, as Barabasi and Albert's, and have their exponent too.

    The number of connections is exact. Time and memory are linear in the connections and neurons.
    """
    count = connections_of(site)
    if count is None:
        return full_pattern(site.n_in, site.n_out)
    sides = [rng.permutation((1.0 + np.arange(n)) ** -0.5) for n in (site.n_in, site.n_out)]
    (of_input, of_output), logarithms = (np.cumsum(side) for side in sides), [np.log(side) for side in sides]

    def draw(n: int) -> Numbers:
        return draw_from(of_input, n, rng) * site.n_out + draw_from(of_output, n, rng)

    def log_weights(outputs: Numbers) -> Floats:
        of_cells: Floats = logarithms[1][outputs][:, None] + logarithms[0]
        return of_cells

    shape = (site.n_in, site.n_out)
    return from_positions(distinct_cells(count, shape, np.empty(0, np.int64), draw, log_weights, rng), shape)


def connections_of(site: Site) -> int | None:
    """How many connections a wiring with an exact number of them has; None for all."""
    check_site(site)
    cells = site.n_in * site.n_out
    count = round(cells * min(1.0, site.density))
    return count if count < cells else None


def check_site(site: Site) -> None:
    """ValueError where a width or the count of connections does not fit int32, MemoryError where there is no room."""
    check_size(site.n_in, site.n_out)
    expected = round(site.n_in * site.n_out * min(1.0, site.density))
    check_size(site.n_in, site.n_out, expected)
    check_room(site.n_in, site.n_out, expected)
