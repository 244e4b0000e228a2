"""What came out, in one sentence for each experiment: the best sparse network beside the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from set_cli.config import method_facts
from set_cli.report.rows import Configuration, experiment_of, method_text

UNITS = {"accuracy": (" %", "points"), "log_probability": (" nats", "nats")}
CLOSE = 0.005  # of a unit: below it the difference reads 0.00


def outcomes_in_words(configurations: Sequence[Configuration]) -> list[str]:
    """How the best sparse method does in every experiment with several, and with what share of the dense network.

    The figures are those after the last epoch. Rows are compared over the seeds that both have: other seeds are other
    draws and first weights. Whether the difference is more than chance is not said here.
    """
    experiments: dict[tuple[str, ...], list[Configuration]] = defaultdict(list)
    for configuration in configurations:
        of_all = experiment_of(configuration.members[0].summary)
        experiments[*of_all, configuration.row["metric"]].append(configuration)
    shown = len(experiments) > 1
    sentences = []
    for place, rows in experiments.items():
        sentence = _sentence(rows)
        if sentence:
            sentences.append(f"{' '.join(filter(None, place[:3]))}: {sentence}" if shown else sentence)
    return sentences


def _sentence(configurations: Sequence[Configuration]) -> str:
    best: dict[str, Configuration] = {}
    for configuration in configurations:  # of several of one method the best
        row = configuration.row
        if row["method"] not in best or row["last_mean"] > best[row["method"]].row["last_mean"]:
            best[row["method"]] = configuration
    sparse = [one for method, one in best.items() if method_facts(method).is_sparse]
    if len(best) < 2 or not sparse:
        return ""
    first = max(sparse, key=lambda one: one.row["last_mean"])
    compared = list(filter(None, (_beside(first, other) for other in best.values() if other is not first)))
    if not compared:
        return ""
    row = first.row
    unit, _ = UNITS.get(row["metric"], ("", ""))
    share = f" with {100 * row['parameters'] / row['dense_parameters']:.1f} % of dense's parameters"
    return f"{method_text(row)} reaches {row['last_mean']:.2f}{unit}{share}: {', '.join(compared)}"


def _beside(first: Configuration, other: Configuration) -> str:
    """'2.00 points above dense', over the seeds that both rows have; nothing where they share none."""
    ours, theirs = ({run.summary["seed"]: run.summary["last"] for run in one.members} for one in (first, other))
    shared = ours.keys() & theirs.keys()
    if not shared:
        return ""
    difference = fmean(ours[seed] - theirs[seed] for seed in shared)
    side = "from" if abs(difference) < CLOSE else "above" if difference > 0 else "below"
    _, unit = UNITS.get(first.row["metric"], ("", ""))
    all_seeds = ours.keys() | theirs.keys()
    seeds = "1 seed" if len(shared) == 1 else f"{len(shared)} seeds"
    over = "" if shared == all_seeds else f"on the {seeds} they share"
    return " ".join(filter(None, (f"{abs(difference):.2f}", unit, side, other.row["method"], over)))
