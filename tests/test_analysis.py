"""What is said of a topology: against networkx, igraph, powerlaw and hand-drawn graphs; and nothing that is not so."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import powerlaw
import pytest
from networkx.algorithms import bipartite
from numpy.typing import NDArray

import set_cli
from set_cli.analysis import clustering as clustering_module
from set_cli.analysis import measure as run_module
from set_cli.analysis.clustering import clustering, mean_clustering, shuffle_connections
from set_cli.analysis.graph import chains, count_dead, measure_graph
from set_cli.analysis.measure import FILE, VERSION, keep_analysis, measure_run, read_analysis
from set_cli.analysis.overlap import correlate_degrees, join_positions, measure_overlap
from set_cli.analysis.paper_p import hidden_degrees, paper_p_value
from set_cli.analysis.power_law import fit_power_law
from set_cli.analysis.strength import input_strength
from set_cli.config import from_mapping
from set_cli.errors import DataError
from set_cli.sparse.pattern import Csr, from_positions
from set_cli.sparse.topology import erdos_renyi
from tests.builders import train
from tests.conftest import NO_TORCH, ONE_THREAD, compose_mapping, run_python


def pattern_of(rows: list[list[int]], n_out: int) -> Csr:
    """Row by row the outputs of each input."""
    positions = [i * n_out + j for i, row in enumerate(rows) for j in sorted(row)]
    return from_positions(np.array(positions, np.int64), (len(rows), n_out))


def random_pattern(n_in: int, n_out: int, epsilon: float, seed: int) -> Csr:
    return erdos_renyi(n_in, n_out, epsilon, np.random.default_rng(seed))


def as_graph(patterns: list[Csr]) -> networkx.Graph:
    graph = networkx.Graph()
    start = 0
    for pattern in patterns:
        graph.add_nodes_from(range(start, start + sum(pattern.shape)))
        rows, columns = np.divmod(pattern.positions(), pattern.shape[1])
        graph.add_edges_from(zip(start + rows, start + pattern.shape[0] + columns, strict=True))
        start += pattern.shape[0]
    return graph


SHAPES = [(30, 20, 3.0, 0), (20, 40, 2.0, 1), (7, 7, 3.5, 2), (60, 5, 1.0, 3), (12, 12, 40.0, 4), (50, 50, 0.4, 5)]


@pytest.mark.parametrize(("n_in", "n_out", "epsilon", "seed"), SHAPES)
def test_clustering_is_that_of_networkx(n_in: int, n_out: int, epsilon: float, seed: int) -> None:
    pattern = random_pattern(n_in, n_out, epsilon, seed)
    expected = bipartite.robins_alexander_clustering(as_graph([pattern]))
    assert (clustering(pattern) or 0) == pytest.approx(expected, abs=1e-12)


def test_clustering_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = random_pattern(200, 300, 4, 0)
    whole = clustering(pattern)
    monkeypatch.setattr(clustering_module, "BLOCK", 50)
    assert clustering(pattern) == whole


def test_squares_close_and_trees_have_no_paths() -> None:
    assert clustering(pattern_of([[0, 1], [0, 1]], 2)) == 1  # one square, four paths of three connections
    assert clustering(pattern_of([[0, 1], [1, 2], [2, 0]], 3)) == 0  # a ring of six
    assert clustering(pattern_of([[0], [1]], 2)) is None
    assert clustering(pattern_of([[], []], 2)) is None


def test_a_random_layer_has_the_same_degrees_and_forgets_the_rest() -> None:
    """Blocks of ten inputs and ten outputs, fully connected inside: all squares closed, by chance few."""
    pattern = pattern_of([[10 * (i // 10) + j for j in range(10)] for i in range(100)], 100)
    for shuffled in shuffle_connections(pattern, samples=2, seed=0):
        assert np.array_equal(shuffled.out_degrees(), pattern.out_degrees())
        assert np.array_equal(shuffled.in_degrees(), pattern.in_degrees())
        assert measure_overlap(pattern, shuffled).common < 200  # of 1,000; 100 by chance
    assert clustering(pattern) == 1
    by_chance = mean_clustering(shuffle_connections(pattern, samples=3, seed=0))
    assert by_chance is not None
    assert 0.05 < by_chance < 0.2
    assert mean_clustering(shuffle_connections(pattern, samples=3, seed=0)) == by_chance  # the same seed


@pytest.mark.parametrize(("n_in", "n_out", "epsilon", "seed"), SHAPES)
def test_paths_and_components_are_those_of_networkx(n_in: int, n_out: int, epsilon: float, seed: int) -> None:
    patterns = [random_pattern(n_in, n_out, epsilon, seed), random_pattern(n_out, 15, epsilon, seed + 1)]
    graph = as_graph(patterns)
    found = measure_graph(patterns, sources=1000)  # all of them
    lengths = dict(networkx.all_pairs_shortest_path_length(graph))
    distances = [d for start in lengths for d in lengths[start].values() if d > 0]
    assert found.neurons == found.sources == len(graph)
    assert found.components == networkx.number_connected_components(graph)
    assert found.largest == max(map(len, networkx.connected_components(graph)))
    assert found.path_length == pytest.approx(np.mean(distances))
    assert found.reachable == pytest.approx(len(distances) / (len(graph) * (len(graph) - 1)))


def test_sampled_paths_are_close_to_all_of_them() -> None:
    patterns = [random_pattern(400, 300, 4, 0), random_pattern(300, 300, 4, 1)]
    sampled, exact = measure_graph(patterns), measure_graph(patterns, sources=10_000)
    assert (sampled.sources, exact.sources) == (100, 1000)
    assert sampled.path_length == pytest.approx(exact.path_length, rel=0.02)


def test_dead_neurons_lie_on_no_path() -> None:
    """Hidden 1 has no input, hidden 2 leads nowhere, hidden 4 leads to 2 of the next layer, which nothing follows."""
    first = pattern_of([[0, 2], [0, 4]], 5)
    second = pattern_of([[0], [0, 1], [], [1], [2]], 4)
    third = pattern_of([[0], [0], [], []], 1)
    # Dead: of the first five 1, 3 (no input), 2 (no output), 4 (leads to one that leads nowhere); of the next four
    # 1 (only dead ones before it), 2 (nothing behind it), 3 (nothing before it).
    assert count_dead([first, second, third]) == 4 + 3
    assert count_dead([pattern_of([[0], []], 1)], hidden_inputs=True) == 1  # something dense is before them
    assert count_dead([first]) == 2  # what is behind a last layer is dense: 1 and 3 have no input


def test_layers_that_follow_each_other_are_one_graph() -> None:
    layers = {"conv2": random_pattern(9, 4, 2, 0), "layer1": random_pattern(8, 6, 2, 0)}
    layers |= {"layer2": random_pattern(6, 5, 2, 0), "layer4": random_pattern(5, 5, 2, 0)}
    assert chains(layers) == [["layer1", "layer2"], ["layer4"]]
    with pytest.raises(ValueError, match="layers that follow each other"):
        measure_graph([layers["layer1"], layers["layer4"]])


def zipf(alpha: float, x_min: int, count: int, seed: int = 0) -> NDArray[np.int64]:
    """Degrees from the discrete power law, by inversion."""
    k = np.arange(x_min, 2_000_000, dtype=np.float64)
    cumulated = np.cumsum(k**-alpha)
    draws = np.random.default_rng(seed).random(count) * cumulated[-1]
    found: NDArray[np.int64] = np.searchsorted(cumulated, draws).astype(np.int64) + x_min
    return found


def test_a_power_law_is_found_and_not_rejected() -> None:
    fit = fit_power_law(zipf(2.5, 4, 3000), samples=100)
    assert fit is not None
    assert fit.alpha == pytest.approx(2.5, abs=4 * 1.5 / math.sqrt(fit.tail))
    assert fit.x_min <= 8
    assert fit.p > 0.1
    assert fit.exponential is not None
    assert (fit.exponential.ratio > 5, fit.exponential.p < 1e-6) == (True, True)


def test_a_power_law_is_no_log_normal_one_and_nothing_between_them_is_made_much_of() -> None:
    """In its limit a log-normal law is a power law: half a nat over 3,000 neurons is where a search stopped."""
    fits = [fit_power_law(zipf(4.2, 32, 3000, seed), samples=2) for seed in range(4)]
    found = [fit.log_normal for fit in fits if fit is not None]
    assert len(found) == 4
    assert found.count(None) >= 2
    assert all(one.p > 0.1 for one in found if one is not None)


def test_a_geometric_law_is_rejected_and_its_rival_preferred() -> None:
    fit = fit_power_law(np.random.default_rng(0).geometric(0.15, 5000), samples=100)
    assert fit is not None
    assert fit.exponential is not None
    assert fit.exponential.ratio < 0
    log_normal = fit_power_law(np.rint(np.random.default_rng(0).lognormal(3, 0.5, 5000)), samples=100)
    assert log_normal is not None
    assert log_normal.log_normal is not None
    assert log_normal.log_normal.ratio < 0


def test_the_fit_is_that_of_powerlaw() -> None:
    """Where that library's optimiser arrives: steep tails, as a sparse network's, it cannot fit."""
    degrees = zipf(2.2, 3, 2000)
    fit = fit_power_law(degrees, samples=25)
    assert fit is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = powerlaw.Fit(degrees, discrete=True, xmin=fit.x_min, verbose=0)
        ratio, p = other.distribution_compare("power_law", "exponential", normalized_ratio=True)
    assert fit.alpha == pytest.approx(other.power_law.alpha, abs=1e-3)
    assert fit.distance == pytest.approx(other.power_law.D, abs=2e-3)
    assert fit.exponential is not None
    # Its exponential law is that of a continuous variable rounded; the likelihoods differ in the third figure.
    assert fit.exponential.ratio == pytest.approx(ratio, rel=0.05)
    assert (fit.exponential.p < 1e-6) == (p < 1e-6)


def exact_log_likelihoods(tail: NDArray[np.int64], x_min: int, law: Callable[[NDArray[np.float64]], Any]) -> Any:
    k = np.arange(x_min, 2_000, dtype=np.float64)
    mass = law(k)
    return np.log(mass[tail - x_min] / mass.sum())


def falling(rate: float) -> Callable[[NDArray[np.float64]], Any]:
    return lambda k: np.exp(-rate * k)


def test_the_rivals_likelihoods_are_the_largest() -> None:
    """Against the laws normalised by summing them up, at parameters around those that were found."""
    from set_cli.analysis.power_law import exponential_likelihoods, log_normal_likelihoods

    degrees = np.rint(np.random.default_rng(1).lognormal(2, 0.8, 3000)).astype(np.int64)
    tail = degrees[degrees >= 5]
    ours = exponential_likelihoods(tail, 5).sum()
    of_rates = [exact_log_likelihoods(tail, 5, falling(rate)).sum() for rate in np.linspace(0.02, 0.3, 200)]
    assert ours == pytest.approx(max(of_rates), abs=0.1)
    assert ours >= max(of_rates) - 1e-6
    found = log_normal_likelihoods(tail, 5)
    assert found is not None
    from scipy.special import ndtr

    def of(mu: float, sigma: float) -> float:
        def law(k: NDArray[np.float64]) -> Any:
            return ndtr((np.log(k + 0.5) - mu) / sigma) - ndtr((np.log(k - 0.5) - mu) / sigma)

        return float(exact_log_likelihoods(tail, 5, law).sum())

    around = [of(mu, sigma) for mu in np.linspace(1.5, 2.5, 21) for sigma in np.linspace(0.5, 1.2, 21)]
    assert found.sum() == pytest.approx(max(around), abs=1)  # the grid is coarse
    assert found.sum() >= max(around) - 1e-6


def test_a_fit_says_how_many_samples_its_p_is_of() -> None:
    degrees = random_pattern(500, 400, 5, 0).in_degrees()
    fit = fit_power_law(degrees, samples=40)
    assert fit is not None
    assert fit.samples == 40
    assert fit.p * 40 == pytest.approx(round(fit.p * 40))


def test_fits_repeat_and_know_when_there_is_nothing_to_fit() -> None:
    degrees = random_pattern(500, 400, 5, 0).in_degrees()
    assert fit_power_law(degrees, samples=25) == fit_power_law(degrees, samples=25)
    for nothing in ([], [0, 0], [3] * 50, [1, 2], [0, 5, 5, 6]):
        assert fit_power_law(np.array(nothing, np.int32)) is None


def test_the_papers_test_goes_the_other_way() -> None:
    """Small for a power law, which Clauset's p then does not reject; large for a random layer's degrees."""
    lawful = zipf(2.5, 1, 3000)
    small = paper_p_value(lawful)
    fit = fit_power_law(lawful, samples=100)
    assert small is not None
    assert fit is not None
    assert (small < 1e-6, fit.p > 0.1) == (True, True)
    of_random = [paper_p_value(random_pattern(400, 500, 11, seed).in_degrees()) for seed in range(40)]
    assert sum(p is not None and p < 0.05 for p in of_random) <= 6  # 2 of 40 by chance
    rising = np.repeat([1, 2, 3, 4], [1, 4, 9, 16])
    assert paper_p_value(rising) == pytest.approx(1, abs=0.01)
    for nothing in ([0, 0], [2, 2], [1, 2, 2], [1, 2, 3]):
        assert paper_p_value(np.array(nothing)) is None


@pytest.mark.parametrize("seed", range(6))
def test_the_papers_p_is_that_of_scipys_correlation(seed: int) -> None:
    from scipy.stats import pearsonr

    degrees = np.random.default_rng(seed).poisson(1 + seed**2, 200)
    values, counts = np.unique(degrees[degrees > 0], return_counts=True)
    expected = pearsonr(np.log(values), np.log(counts), alternative="less").pvalue
    assert paper_p_value(degrees) == pytest.approx(expected, rel=1e-9)
    line = np.repeat([1, 2, 4, 8], [8, 4, 2, 1])  # exactly a falling line
    assert paper_p_value(line) == pytest.approx(0, abs=1e-7)


def test_a_hidden_neurons_degree_counts_both_sides() -> None:
    degrees = {
        "layer1/out_degree": np.array([[3, 3]], np.int32),
        "layer1/in_degree": np.array([[1, 2, 3]], np.int32),
        "layer2/out_degree": np.array([[10, 20, 30]], np.int32),
        "layer2/in_degree": np.array([[5]], np.int32),
        "layer4/out_degree": np.array([[9]], np.int32),
        "layer4/in_degree": np.array([[7]], np.int32),
    }
    found = {layer: values.tolist() for layer, values in hidden_degrees(degrees).items()}
    assert found == {"layer1": [[11, 22, 33]], "layer2": [[5]], "layer4": [[7]]}


def test_overlap_counts_what_both_have_and_what_chance_gives() -> None:
    a, b = pattern_of([[0, 1], [2]], 3), pattern_of([[1, 2], [0, 2]], 3)
    overlap = measure_overlap(a, b)
    assert (overlap.first, overlap.second, overlap.common, overlap.kept) == (3, 4, 2, 2 / 3)
    assert overlap.expected == pytest.approx(2 * 2 / 3 + 1 * 2 / 3)  # input by input
    assert overlap.deviation == pytest.approx(
        math.sqrt(4 / 3 * 1 / 3 * 1 / 2 + 2 / 3 * 2 / 3 * 1 / 2)
    )  # hypergeometric
    many = [measure_overlap(random_pattern(60, 50, 5, 2 * i), random_pattern(60, 50, 5, 2 * i + 1)) for i in range(200)]
    off = [(one.common - one.expected) / one.deviation for one in many]
    assert abs(np.mean(off)) < 4 / math.sqrt(200)
    assert 0.8 < np.std(off) < 1.2
    crowded = pattern_of([[0, 1, 2, 3], [], []], 4)  # two runs that look at one input share what they must
    both = measure_overlap(crowded, crowded)
    assert (both.common, both.expected, both.deviation) == (4, 4, 0)
    with pytest.raises(ValueError, match="of one shape"):
        measure_overlap(a, pattern_of([[0]], 3))


def test_joined_positions_are_those_of_either() -> None:
    generator = np.random.default_rng(0)
    for size in (0, 1, 7, 50):
        seen, more = (np.unique(generator.integers(0, 60, count)) for count in (size, 20))
        for first, second in ((seen, more), (more, seen), (seen, seen)):
            assert join_positions(first, second).tolist() == sorted({*first.tolist(), *second.tolist()})


def test_strength_is_the_sum_of_absolute_weights() -> None:
    pattern = pattern_of([[0, 1], [], [2]], 3)
    assert input_strength(pattern, np.array([1.5, -2, -0.25], np.float32)).tolist() == [3.5, 0, 0.25]
    with pytest.raises(ValueError, match="expected 3 weights"):
        input_strength(pattern, np.ones(2, np.float32))


def test_runs_that_look_at_the_same_inputs_correlate() -> None:
    degrees = np.arange(20)
    assert correlate_degrees(degrees, degrees * 3 + 1) == pytest.approx(1)
    assert correlate_degrees(degrees, np.full(20, 4)) is None


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "SAMPLES", 25)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SET-MLP with two sparse layers, snapshots of every epoch."""
    folder = tmp_path_factory.mktemp("analysed")
    overrides = ("train.epochs=5", "model.hidden=[40,30]", "snapshots.every=1", "progress=none", ONE_THREAD)
    return train(from_mapping(compose_mapping(*overrides, f"runs_dir={folder}/runs"))).path


def checksums(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((path / "summary.json").read_text())["sha256"]
    return found


def test_a_run_is_measured_from_its_own_files(trained: Path) -> None:
    told: list[str] = []
    analysis = measure_run(trained, checksums(trained), told.append)
    run = set_cli.load(trained)
    patterns = [run.topology(epoch) for epoch in range(6)]
    end = {row.layer: row for row in analysis.layers if row.epoch == 5}
    assert list(end) == ["layer1", "layer2"]
    for name, row in end.items():
        first, last = patterns[0][name], patterns[5][name]
        ever = {position for one in patterns for position in one[name].positions().tolist()}
        assert row.connections == last.nnz
        assert row.explored == len(ever) / last.cells
        assert row.kept == len(set(first.positions()) & set(last.positions())) / first.nnz
        assert row.clustering == clustering(last)
    steps = [(row.before, row.epoch) for row in analysis.turnover if row.layer == "layer1"]
    assert steps == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)]
    last_step = next(row for row in analysis.turnover if (row.layer, row.epoch) == ("layer1", 5))
    assert last_step.kept == patterns[5]["layer1"].nnz / patterns[4]["layer1"].nnz  # nothing is regrown
    (graph,) = [row for row in analysis.graphs if row.epoch == 0]
    assert graph.layers == ["layer1", "layer2"]
    assert graph.measures.neurons == 64 + 40 + 30
    rows = {(row.layer, row.side, row.epoch): row for row in analysis.degrees}
    assert {epoch for _, _, epoch in rows} == {0, 4, 5}
    inputs = patterns[4]["layer1"].out_degrees()
    assert rows["layer1", "inputs", 4].mean == pytest.approx(inputs.mean())
    assert rows["layer1", "inputs", 4].without == (inputs == 0).sum()
    both = patterns[5]["layer1"].in_degrees() + patterns[5]["layer2"].out_degrees()
    assert rows["layer1", "both", 5].largest == both.max()
    assert ("layer2", "both", 5) not in rows  # what is behind it is dense
    weights = next(p for name, p in run.model.named_parameters() if name == "layer1.weight").detach().numpy()
    (strongest,) = analysis.strength
    assert strongest.inputs[0] == int(np.argmax(input_strength(patterns[5]["layer1"], weights)))
    assert told[0] == "reading"


def test_what_was_measured_is_kept_until_its_files_change(trained: Path) -> None:
    sums = checksums(trained)
    assert read_analysis(trained, sums) is None
    analysis = measure_run(trained, sums)
    keep_analysis(trained, analysis)
    try:
        assert read_analysis(trained, sums) == analysis
        assert read_analysis(trained, {**sums, "degrees.npz": "0" * 64}) is None
        text = (trained / FILE).read_text()
        for content in ("", "[]", "{}", "[" * 100_000, text.replace(f'"version": {VERSION}', '"version": 0')):
            (trained / FILE).write_text(content)
            assert read_analysis(trained, sums) is None
        (trained / FILE).write_text(text.replace('"mean": ', '"mean": -'))
        assert read_analysis(trained, sums) is None
    finally:
        (trained / FILE).unlink()


def test_a_dense_run_has_no_topology(tmp_path: Path) -> None:
    overrides = ("train.epochs=1", "model.hidden=[4]", "method=dense", "progress=none", ONE_THREAD)
    path = train(from_mapping(compose_mapping(*overrides, f"runs_dir={tmp_path}"))).path
    with pytest.raises(DataError, match="no layer is sparse"):
        measure_run(path, checksums(path))


def test_the_analysis_needs_no_torch(trained: Path) -> None:
    program = (
        f"{NO_TORCH}import json\n"
        "from pathlib import Path; from set_cli.analysis import run; from set_cli.analysis.measure import measure_run\n"
        "run.SAMPLES = 6\n"
        f"path = Path({str(trained)!r})\n"
        "print(len(measure_run(path, json.loads((path / 'summary.json').read_text())['sha256']).layers))"
    )
    result = run_python("-c", program, folder=trained)
    assert (result.returncode, result.stdout) == (0, "4\n"), result.stderr
