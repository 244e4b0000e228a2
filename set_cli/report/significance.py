"""Does one method do better than another? Pairs of runs with the same seed, and silence where they are too few."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from set_cli.report.collect import FinishedRun
from set_cli.report.rows import by_configuration, label, order_of, settings_text

FEWEST_PAIRS = 6  # with fewer no outcome at all is rarer than 5 %: 2 of 2^5 are 6 %
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


def compare_methods(runs: Sequence[FinishedRun]) -> list[Difference]:
    """Every two configurations of other methods, of one epsilon where both have one, that share at least six seeds."""
    experiments: dict[tuple[str, str, str, str], list[list[FinishedRun]]] = defaultdict(list)
    for members in sorted(by_configuration(runs), key=lambda members: order_of(members[0].summary)):
        summary = members[0].summary
        place = (summary["dataset"], summary["model"], settings_text(summary["settings"]), summary["metric"])
        experiments[place].append(members)
    found = []
    for place, configurations in experiments.items():
        differences = [
            _difference(" ".join(filter(None, place[:3])), first, second)
            for first, second in combinations(configurations, 2)
            if _are_rivals(first[0].summary, second[0].summary)
        ]
        found += _holm([difference for difference in differences if difference is not None])
    return found


def _are_rivals(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Of other methods, and equally sparse where both are: other pairs of a sweep differ in more than the method."""
    epsilons = {summary["epsilon"] for summary in (first, second)} - {None}
    return first["method"] != second["method"] and len(epsilons) < 2


def _difference(experiment: str, first: list[FinishedRun], second: list[FinishedRun]) -> Difference | None:
    ours, theirs = ({run.summary["seed"]: float(run.summary["last"]) for run in runs} for runs in (first, second))
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < FEWEST_PAIRS:
        return None
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
