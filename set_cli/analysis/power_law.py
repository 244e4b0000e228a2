"""Is the tail of a degree distribution a power law, as Clauset, Shalizi and Newman test it (SIAM Review 51:661, 2009).

A small p REJECTS the power law here. The SET paper's own test goes the other way round: `paper_test`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import erfc, log_ndtr

from set_cli.analysis.zeta_law import Histogram, ZetaLaw, fit_laws, histogram, log_likelihoods, resample

# A log-normal law with ever smaller mu and larger sigma becomes a power law: where the two come as near as that, what
# is left between them is where the search stopped.
NESTED = 0.5  # nats
SAMPLES = 625  # of the bootstrap: p's standard error is 0.02 at most
BLOCK = 1_000_000  # degrees drawn at once

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
    samples     how many samples p is a share of: its standard error is sqrt(p (1 - p) / samples)
    log_normal, exponential  the rivals; None where one could not be fitted, or the log-normal law is the power law but
                for half a nat
    """

    alpha: float
    x_min: int
    tail: int
    distance: float
    p: float
    samples: int
    log_normal: Comparison | None
    exponential: Comparison | None


def fit_power_law(degrees: Degrees, seed: int = 0, samples: int = SAMPLES) -> PowerLawFit | None:
    """Fit the tail of these degrees, test the fit and compare it with its rivals; neurons without connections are left
    out.

    degrees  (neurons,) non-negative integers
    samples  of the bootstrap, from which p is
    Maximum likelihood for alpha, x_min by the smallest distance. None where there are fewer than three different
    degrees: nothing can be fitted there. The same seed gives the same figures.
    """
    observed = histogram(np.asarray(degrees).astype(np.int64))
    (law,) = fit_laws([observed])
    if law is None:
        return None
    of_tail = observed.values >= law.x_min
    tail = np.repeat(observed.values[of_tail], observed.counts[of_tail])
    own = log_likelihoods(tail, law.alpha, law.x_min)
    return PowerLawFit(
        alpha=law.alpha,
        x_min=law.x_min,
        tail=len(tail),
        distance=law.distance,
        p=_share_further(observed, law, samples, np.random.default_rng(seed)),
        samples=samples,
        log_normal=_compare(own, log_normal_likelihoods(tail, law.x_min), least=NESTED),
        exponential=_compare(own, exponential_likelihoods(tail, law.x_min)),
    )


def _share_further(observed: Histogram, law: ZetaLaw, samples: int, generator: np.random.Generator) -> float:
    """The share of samples from this law that are further from their own fits than the observed degrees from it."""
    step = max(1, BLOCK // int(observed.counts.sum()))
    further = 0
    for start in range(0, samples, step):
        drawn = resample(observed, law, min(step, samples - start), generator)
        # A sample of one or two different degrees lies on its law.
        further += sum(fit is not None and fit.distance > law.distance for fit in fit_laws(drawn))
    return further / samples


def exponential_likelihoods(tail: NDArray[np.int64], x_min: int) -> NDArray[np.float64]:
    """Log-likelihoods of P(k) = (1 - q) q^(k - x_min), the most likely q."""
    mean = float((tail - x_min).mean())  # above 0: there are at least three different degrees
    q = mean / (1 + mean)
    return np.asarray(math.log1p(-q) + (tail - x_min) * math.log(q), np.float64)


def log_normal_likelihoods(tail: NDArray[np.int64], x_min: int) -> NDArray[np.float64] | None:
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
