"""The discrete power law P(k) = k^-alpha / zeta(alpha, x_min) for k >= x_min: its fit to samples, and draws.

Clauset, Shalizi and Newman (SIAM Review 51:661, 2009): alpha is the most likely one, x_min the degree from which on the
distance is smallest. Degrees are few different integers: a sample is its histogram here, and the exponents of many
samples are found together. That is much faster than igraph's one likelihood after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TERMS = 16  # of a zeta sum that are added one by one; for the rest Euler and Maclaurin are right to ten figures
FEWEST_VALUES = 3  # distinct degrees from x_min on; through two points goes every law
AT_ONCE = 4_000_000  # terms held in memory: 32 MB a copy
LARGEST = 2.0**62  # degree that is drawn

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Histogram:
    """values  (m,) distinct positive degrees, rising; counts  (m,) how many neurons have each"""

    values: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ZetaLaw:
    """distance  Kolmogorov-Smirnov's: the largest difference between the law's and the sample's share below a degree"""

    alpha: float
    x_min: int
    distance: float


def histogram(degrees: NDArray[np.integer]) -> Histogram:
    """Histogram of the degrees of the neurons that have a connection."""
    values, counts = np.unique(degrees[degrees > 0], return_counts=True)
    return Histogram(values.astype(np.int64), counts.astype(np.int64))


def fit_laws(samples: Sequence[Histogram]) -> list[ZetaLaw | None]:
    """The best law of each sample; None for one with fewer than three distinct degrees."""
    candidates = [len(sample.values) - FEWEST_VALUES + 1 for sample in samples]
    fitted = [(sample, m) for sample, m in zip(samples, candidates, strict=True) if m > 0]
    if not fitted:
        return [None] * len(samples)
    starts = np.concatenate([sample.values[:m] for sample, m in fitted])
    means = np.concatenate([_mean_logs(sample)[:m] for sample, m in fitted])
    alphas = iter(np.split(_most_likely(means, starts), np.cumsum([m for _, m in fitted])[:-1]))
    return [_nearest(sample, next(alphas)) if m > 0 else None for sample, m in zip(samples, candidates, strict=True)]


def resample(sample: Histogram, law: ZetaLaw, count: int, generator: np.random.Generator) -> list[Histogram]:
    """Draw random samples of the same size: below x_min the sample's own degrees, from there on the law's."""
    body = sample.values < law.x_min
    shares = np.append(sample.counts[body], sample.counts[~body].sum()) / sample.counts.sum()
    drawn = generator.multinomial(int(sample.counts.sum()), shares, size=count)
    tails = np.split(draw(law.alpha, law.x_min, int(drawn[:, -1].sum()), generator), np.cumsum(drawn[:-1, -1]))
    made = []
    for counts, tail in zip(drawn[:, :-1], tails, strict=True):
        above = histogram(tail)
        there = counts > 0
        values = np.concatenate([sample.values[body][there], above.values])
        made.append(Histogram(values, np.concatenate([counts[there], above.counts])))
    return made


def draw(alpha: float, x_min: int, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """(count,) degrees from the law: Pareto draws rounded down, some of them rejected (Devroye 1986, chapter X.6)."""

    def bound(k: Floats) -> Floats:  # what k^-alpha has to be divided by to be the Pareto law's share of [k, k + 1)
        below: Floats = -k * np.expm1((1 - alpha) * np.log1p(1 / k))
        return below

    least = float(bound(np.array([float(x_min)]))[0])
    parts, missing = [np.empty(0, np.int64)], count
    while missing:
        with np.errstate(over="ignore"):
            k = np.floor(x_min * (1 - generator.random(missing)) ** (-1 / (alpha - 1)))
        keep = generator.random(missing) * bound(k) <= least
        parts.append(k[keep & (k < LARGEST)].astype(np.int64))
        missing -= len(parts[-1])
    return np.concatenate(parts)


def log_likelihoods(values: NDArray[np.int64], alpha: float, x_min: int) -> Floats:
    """log P(k) of each of these degrees."""
    start = np.array([float(x_min)])
    total = float(_sums(np.array([alpha]), start)[0][0])
    return np.asarray(-alpha * np.log1p((values - x_min) / x_min) - np.log(total), np.float64)


def _mean_logs(sample: Histogram) -> Floats:
    """Mean of log(k / x) over the neurons with k >= x, for every degree x."""
    above = np.cumsum(sample.counts[::-1])[::-1].astype(np.float64)
    # Step by step: differences of two logarithms would leave nothing of large degrees close together.
    steps = above[1:] * np.log1p(np.diff(sample.values) / sample.values[:-1])
    return np.asarray(np.append(np.cumsum(steps[::-1])[::-1], 0) / above, np.float64)


def _most_likely(means: Floats, starts: NDArray[np.int64]) -> Floats:
    """The alpha under which the mean of log(k / start) is expected: Newton's method on its logarithm, all together."""
    x = starts.astype(np.float64)
    alphas = 1 + 1 / (means - np.log1p(-0.5 / x))  # Clauset et al., equation 3.7: never above the root by much
    step = max(1, AT_ONCE // TERMS)
    for block in (slice(i, i + step) for i in range(0, len(x), step)):
        for _ in range(60):
            total, first, second = _sums(alphas[block], x[block])
            change = (np.log(first / total) - np.log(means[block])) / (second / first - first / total)
            new = np.maximum(alphas[block] + change, (1 + alphas[block]) / 2)
            settled = np.abs(new - alphas[block]) <= 1e-10 * new
            alphas[block] = new
            if settled.all():
                break
    return alphas


def _sums(alpha: Floats, x: Floats) -> tuple[Floats, Floats, Floats]:
    """The sums of (k/x)^-alpha over all k >= x, and the same times log(k/x), times its square; elementwise."""
    logs = np.log1p(np.arange(TERMS) / x[:, None])
    with np.errstate(under="ignore"):
        terms = np.exp(-alpha[:, None] * logs)
        total, first, second = (terms.sum(axis=1), (terms * logs).sum(axis=1), (terms * logs**2).sum(axis=1))
        end = x + TERMS
        rest, log = np.exp(-alpha * np.log(end / x)), np.log(end / x)
        of, slope, bend = _rest(alpha, end)
        return (
            total + rest * of,
            first + rest * (log * of - slope),
            second + rest * (log**2 * of - 2 * log * slope + bend),
        )


def _rest(alpha: Floats, end: Floats) -> tuple[Floats, Floats, Floats]:
    """The sum of (k/end)^-alpha over k >= end by Euler and Maclaurin, and two derivatives of it by alpha; of each."""
    s, cube = alpha, 720 * end**3
    return (
        end / (s - 1) + 0.5 + s / (12 * end) - s * (s + 1) * (s + 2) / cube,
        -end / (s - 1) ** 2 + 1 / (12 * end) - (3 * s**2 + 6 * s + 2) / cube,
        2 * end / (s - 1) ** 3 - (6 * s + 6) / cube,
    )


def _nearest(sample: Histogram, alphas: Floats) -> ZetaLaw:
    """The candidate, one of the first degrees with its alpha, whose law is nearest to the sample from there on."""
    # Every degree and up to fifteen after it are terms; what lies between two runs of terms is summed in one go.
    steps = np.append(np.diff(sample.values), TERMS)
    lengths = np.minimum(steps, TERMS)
    places = np.cumsum(lengths) - lengths
    degrees = np.repeat(sample.values - places, lengths) + np.arange(lengths.sum())
    before = np.flatnonzero(steps > TERMS)  # the degrees that a gap follows
    gaps = places[before] + TERMS - 1
    runs_end = np.append(gaps, len(degrees) - 1)
    between = np.concatenate([degrees[runs_end] + 1, sample.values[before + 1]]).astype(np.float64)
    above = np.cumsum(sample.counts[::-1])[::-1]
    distances = np.empty(len(alphas))
    step = max(1, AT_ONCE // len(degrees))
    for start in range(0, len(alphas), step):
        i = np.arange(start, min(start + step, len(alphas)))[:, None]
        alpha, log_x = alphas[i], np.log(sample.values[i])
        with np.errstate(under="ignore"):
            mass = np.exp(-alpha * np.maximum(np.log(degrees) - log_x, 0))  # below x anything: it is not added up
            rest = np.exp(-alpha * np.maximum(np.log(between) - log_x, 0)) * _rest(alpha, between)[0]
            mass[:, runs_end] += rest[:, : len(runs_end)]
            mass[:, gaps] -= rest[:, len(runs_end) :]
            law = np.cumsum(mass[:, ::-1], axis=1)[:, ::-1][:, places]
            off = np.abs(law / np.take_along_axis(law, i, axis=1) - above / above[i])
        distances[i[:, 0]] = np.where(np.arange(len(places)) >= i, off, 0).max(axis=1)
    best = int(np.argmin(distances))
    return ZetaLaw(float(alphas[best]), int(sample.values[best]), float(distances[best]))
