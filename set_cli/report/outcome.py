"""What came out, in one sentence for each experiment: the best sparse network beside the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from set_cli.report.rows import Configuration, experiment_of, method_text

UNITS = {"accuracy": (" %", "points"), "log_probability": (" nats", "nats")}
CLOSE = 0.005  # of a unit: below it both figures read the same


def outcomes_in_words(configurations: Sequence[Configuration]) -> list[str]:
    """Of every experiment with several methods: how the best sparse one does, and with how much of the dense network.

    The figures are those after the last epoch; whether they can be told apart is not said here.
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
    sparse = [one.row for method, one in best.items() if method != "dense"]
    if len(best) < 2 or not sparse:
        return ""
    first = max(sparse, key=lambda row: row["last_mean"])
    unit, difference_unit = UNITS.get(first["metric"], ("", ""))
    others = [one.row for one in best.values() if one.row is not first]
    compared = [
        f"{_beside(first['last_mean'] - other['last_mean'], difference_unit)} {other['method']}" for other in others
    ]
    share = f" with {100 * first['parameters'] / first['dense_parameters']:.1f} % of dense's parameters"
    return f"{method_text(first)} reaches {first['last_mean']:.2f}{unit}{share}: {', '.join(compared)}"


def _beside(difference: float, unit: str) -> str:
    if abs(difference) < CLOSE:
        return "as good as"
    return f"{abs(difference):.2f} {unit} {'above' if difference > 0 else 'below'}"
