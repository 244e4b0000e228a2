"""Is the tail of a degree distribution a power law, as Clauset, Shalizi and Newman test it (SIAM Review 51:661, 2009).

A small p REJECTS the power law here. The SET paper's own test goes the other way round: `paper_test`.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import igraph
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import erfc, log_ndtr, zeta
from threadpoolctl import threadpool_limits

# A log-normal law with ever smaller mu and larger sigma becomes a power law: where the two come as near as that, what
# is left between them is where the search stopped.
NESTED = 0.5  # nats
FEWEST_VALUES = 3  # distinct degrees in the tail; through two points goes every law

Degrees = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A power law against a rival on the same tail (Vuong's test).

    ratio  log-likelihood ratio over its standard deviation; positive: the power law fits better
    p      two-sided; above 0.1 the sign of `ratio` says nothing
    """

    ratio: float
    p: float


@dataclass(frozen=True, slots=True)
class PowerLawFit:
    """P(k) ~ k^-alpha for k >= x_min.

    tail        neurons with x_min or more connections, the only ones that the law speaks of
    distance    Kolmogorov-Smirnov distance of the tail from the law
    p           of the bootstrap: the share of samples from the law that lie further from their own fit; small: no
                power law. A short tail cannot reject anything
    log_normal, exponential  the rivals; None where one could not be fitted, or the log-normal law is the power law but
                for half a nat
    """

    alpha: float
    x_min: int
    tail: int
    distance: float
    p: float
    log_normal: Comparison | None
    exponential: Comparison | None


def fit_power_law(degrees: Degrees, seed: int = 0, precision: float = 0.02) -> PowerLawFit | None:
    """Fit the tail of these degrees, test the fit and compare it with its rivals; neurons without connections are left
    out.

    degrees    (neurons,) non-negative integers
    precision  of p, its standard error at most: 0.25 / precision^2 samples are drawn
    Maximum likelihood for alpha, x_min by the smallest distance, p by bootstrap: igraph's plfit. None where the tail
    has fewer than three different degrees: nothing can be fitted there. The same seed gives the same figures.
    """
    values = np.asarray(degrees)[np.asarray(degrees) > 0].astype(np.int64)
    if len(np.unique(values)) < FEWEST_VALUES:
        return None
    igraph.set_random_number_generator(random.Random(seed))
    try:
        with threadpool_limits(1, user_api="openmp"):  # several threads would share out the samples by chance
            fit = igraph.power_law_fit(values.tolist(), method="discrete", p_precision=precision)
    finally:
        igraph.set_random_number_generator(random)
    x_min = int(fit.xmin)
    tail = values[values >= x_min]
    if len(np.unique(tail)) < FEWEST_VALUES:
        return None
    own = -fit.alpha * np.log(tail) - _log_zeta(fit.alpha, x_min)
    return PowerLawFit(
        alpha=float(fit.alpha),
        x_min=x_min,
        tail=len(tail),
        distance=float(fit.D),
        p=float(fit.p),
        log_normal=_compare(own, _log_normal(tail, x_min), least=NESTED),
        exponential=_compare(own, _exponential(tail, x_min)),
    )


def _log_zeta(alpha: float, x_min: int) -> float:
    """log of the Hurwitz zeta function, also where the function itself is below the smallest double."""
    value = float(zeta(alpha, x_min))
    if value > 0 and math.isfinite(value):
        return math.log(value)
    if x_min > 100_000:  # Euler and Maclaurin's first terms
        return -alpha * math.log(x_min) + math.log(x_min / (alpha - 1) + 0.5 + alpha / (12 * x_min))
    # Only a steep law underflows, and then few terms count.
    terms = -alpha * np.log1p(np.arange(10 * x_min + 100) / x_min)
    with np.errstate(under="ignore"):
        return float(-alpha * math.log(x_min) + np.log(np.exp(terms).sum()))


def _exponential(tail: NDArray[np.int64], x_min: int) -> NDArray[np.float64]:
    """Log-likelihoods of P(k) = (1 - q) q^(k - x_min), the most likely q."""
    mean = float((tail - x_min).mean())  # above 0: there are at least three different degrees
    q = mean / (1 + mean)
    return np.asarray(math.log1p(-q) + (tail - x_min) * math.log(q), np.float64)


def _log_normal(tail: NDArray[np.int64], x_min: int) -> NDArray[np.float64] | None:
    """Log-likelihoods of a log-normal variable rounded to integers, given x_min or more; the most likely mu and sigma.

    None where the likelihood has no maximum: in its limit the law is a power law again.
    """
    values, counts = np.unique(tail, return_counts=True)
    low, high, least = np.log(values - 0.5), np.log(values + 0.5), math.log(x_min - 0.5)

    def of_values(mu: float, sigma: float) -> NDArray[np.float64]:
        inside = _log_between((low - mu) / sigma, (high - mu) / sigma)
        return inside - float(log_ndtr((mu - least) / sigma))

    def loss(parameters: NDArray[np.float64]) -> float:
        with np.errstate(all="ignore"):
            total = -float(counts @ of_values(parameters[0], math.exp(min(parameters[1], 50.0))))
        return total if math.isfinite(total) else 1e300

    logs = np.log(tail)
    best = None
    for spread in (1.0, 3.0):  # a truncated tail can be that of a much broader law
        start = np.array([logs.mean() - (spread - 1) * logs.std(), math.log(spread * logs.std())])
        found = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-6, "fatol": 1e-8})
        best = found if best is None or found.fun < best.fun else best
    if best is None or best.fun >= 1e300:
        return None
    with np.errstate(all="ignore"):
        likelihoods = of_values(float(best.x[0]), math.exp(min(float(best.x[1]), 50.0)))
    if not np.isfinite(likelihoods).all():
        return None
    by_value: NDArray[np.float64] = likelihoods[np.searchsorted(values, tail)]
    return by_value


def _log_between(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """log of the normal probability between two points, in the tail where it is the smaller one."""
    swap = low > 0
    above = np.where(swap, -low, high)
    below = np.where(swap, -high, low)
    larger, smaller = log_ndtr(above), log_ndtr(below)
    difference: NDArray[np.float64] = larger + np.log1p(-np.exp(smaller - larger))
    return difference


def _compare(own: NDArray[np.float64], rival: NDArray[np.float64] | None, least: float = 0.0) -> Comparison | None:
    """Vuong's test of two laws that are not nested, as Clauset et al. (appendix C).

    least  nats that have to lie between them
    """
    if rival is None or abs(float((own - rival).sum())) < least:
        return None
    differences = own - rival
    deviation = float(differences.std()) * math.sqrt(len(differences))
    if deviation == 0:
        return None
    ratio = float(differences.sum()) / deviation
    return Comparison(ratio, float(erfc(abs(ratio) / math.sqrt(2))))
