"""The connections with which a layer starts."""

from __future__ import annotations

import numpy as np

from set_cli.sparse.pattern import Csr, check_room, check_size, from_positions, full_pattern
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


def check_site(site: Site) -> None:
    """ValueError where a width or the count of connections does not fit int32, MemoryError where there is no room."""
    check_size(site.n_in, site.n_out)
    expected = round(site.n_in * site.n_out * min(1.0, site.density))
    check_size(site.n_in, site.n_out, expected)
    check_room(site.n_in, site.n_out, expected)
