"""Does one method do better than another? Pairs of runs with the same seed, and silence where they are too few.

n differences of one sign have p = 2 / 2^n in the sign-flip test, times the number of comparisons (Holm): six seeds are
enough for two methods, seven for three. Where no outcome at all could come below 5 % no difference is told, but how
many seeds could tell one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count
from typing import Any

import numpy as np

from set_cli.report.collect import FinishedRun
from set_cli.report.rows import by_configuration, experiment_of, label, order_of

LEVEL = 0.05
ALIKE = 0.02  # connections that two networks may differ in, of their number
Pair = tuple[list[FinishedRun], list[FinishedRun]]
RESAMPLES = 9_999  # all sign patterns of up to 13 pairs, random ones of more


@dataclass(frozen=True, slots=True)
class Difference:
    """Two configurations of one experiment, of other methods, over the seeds that both have.

    experiment   data set, model and settings
    difference   mean of second minus first, of the metric after the last epoch; deviation: its standard deviation
                 over the seeds
    p            two-sided, of the sign-flip permutation test, times Holm's factor for the experiment's comparisons
    """

    experiment: str
    first: str
    second: str
    metric: str
    n: int
    difference: float
    deviation: float
    p: float


@dataclass(frozen=True, slots=True)
class TooFew:
    """Configurations of one experiment whose seeds are too few for any outcome to tell them apart."""

    members: list[list[FinishedRun]]
    seeds: int
    needed: int

    @property
    def methods(self) -> list[str]:
        """Names of the compared methods, each once."""
        return list(dict.fromkeys(str(runs[0].summary["method"]) for runs in self.members))


def compare_methods(runs: Sequence[FinishedRun]) -> list[Difference]:
    """Every two configurations of other methods that are equally sparse, and share enough seeds."""
    found = []
    for place, rivals in _rivals_by_experiment(runs):
        pairs = _telling(rivals)
        found += _holm([_difference(" ".join(filter(None, place[:3])), *pair) for pair in pairs])
    return found


def too_few_seeds(runs: Sequence[FinishedRun]) -> list[TooFew]:
    """The experiments whose methods could be compared, had they more seeds in common."""
    found = []
    for _, rivals in _rivals_by_experiment(runs):
        if rivals and not _telling(rivals):
            members = {pair[0][0].group: pair[0] for pair in rivals} | {pair[1][0].group: pair[1] for pair in rivals}
            seeds = min(len(_common_seeds(*pair)) for pair in rivals)
            found.append(TooFew(list(members.values()), seeds, _needed(len(rivals))))
    return found


def _rivals_by_experiment(runs: Sequence[FinishedRun]) -> Iterator[tuple[tuple[str, str, str, str], list[Pair]]]:
    experiments: dict[tuple[str, str, str, str], list[list[FinishedRun]]] = defaultdict(list)
    for members in sorted(by_configuration(runs), key=lambda members: order_of(members[0].summary)):
        summary = members[0].summary
        experiments[*experiment_of(summary), summary["metric"]].append(members)
    for place, configurations in experiments.items():
        pairs = combinations(configurations, 2)
        yield place, [pair for pair in pairs if _are_rivals(*(runs[0].summary for runs in pair))]


def _telling(rivals: Sequence[Pair]) -> list[Pair]:
    """Those pairs whose seeds could tell them apart, as many comparisons as they are."""
    able = [pair for pair in rivals if _least_p(*pair) <= LEVEL]
    return [pair for pair in able if len(able) * _least_p(*pair) <= LEVEL]


def _needed(comparisons: int) -> int:
    """Seeds with which the smallest p of so many comparisons comes below the level."""
    return next(n for n in count(1) if comparisons * 2.0 ** (1 - n) <= LEVEL)


def _common_seeds(first: list[FinishedRun], second: list[FinishedRun]) -> set[int]:
    return {run.summary["seed"] for run in first} & {run.summary["seed"] for run in second}


def _least_p(first: list[FinishedRun], second: list[FinishedRun]) -> float:
    """Smallest p that the seeds of both can give: all differences on one side."""
    return 2.0 ** (1 - len(_common_seeds(first, second)))


def _are_rivals(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether two rows differ in the method only: equally sparse where both are sparse.

    Equally sparse: of one epsilon, or a FixProb with as many connections as SET has at its end (the paper's pair).
    """
    if first["method"] == second["method"]:
        return False
    if len({summary["epsilon"] for summary in (first, second)} - {None}) < 2:
        return True
    counts = [summary["connections_final"] for summary in (first, second)]
    return bool(abs(counts[0] - counts[1]) <= ALIKE * max(counts))


def _difference(experiment: str, first: list[FinishedRun], second: list[FinishedRun]) -> Difference:
    ours, theirs = ({run.summary["seed"]: float(run.summary["last"]) for run in runs} for runs in (first, second))
    seeds = sorted(ours.keys() & theirs.keys())
    from scipy.stats import permutation_test  # takes a second to import, and most reports have nothing to compare

    differences = np.array([theirs[seed] - ours[seed] for seed in seeds])
    test = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=RESAMPLES, vectorized=True, rng=0
    )
    return Difference(
        experiment,
        label(first[0].summary),
        label(second[0].summary),
        first[0].summary["metric"],
        len(seeds),
        float(differences.mean()),
        float(differences.std(ddof=1)),
        float(test.pvalue),
    )


def _holm(differences: list[Difference]) -> list[Difference]:
    """The p of each comparison for all of them together (Holm 1979)."""
    so_far = 0.0
    adjusted = {}
    for rank, i in enumerate(sorted(range(len(differences)), key=lambda i: differences[i].p)):
        so_far = max(so_far, min(1.0, (len(differences) - rank) * differences[i].p))
        adjusted[i] = replace(differences[i], p=so_far)
    return [adjusted[i] for i in range(len(differences))]


def in_words(found: Difference) -> str:
    """The comparison in words."""
    unit = {"accuracy": "points", "log_probability": "nats"}.get(found.metric, found.metric)
    return (
        f"{found.experiment}: {found.second} minus {found.first} is {found.difference:+.2f} ± {found.deviation:.2f} "
        f"{unit} after the last epoch (n={found.n}, p={found.p:.2g}, sign-flip test, Holm)"
    )


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def too_few_in_words(found: TooFew) -> str:
    """How many seeds there are, and how many could tell these methods apart."""
    methods = len(found.methods)
    word = NUMBERS[methods] if methods < len(NUMBERS) else str(methods)
    seeds = "1 seed" if found.seeds == 1 else f"{found.seeds} seeds"
    return f"{seeds} cannot tell these {word} methods apart; {found.needed} can"
