"""Layers that start with more connections than epsilon asks for."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import set_cli
from set_cli.config import Config, from_mapping, identity
from set_cli.data.catalog import CATALOG
from set_cli.errors import ConfigError
from set_cli.runs.summary import read_rows
from set_cli.sparse import SparseLinear
from set_cli.sparse.rules import connection_probability
from set_cli.system.files import read_json
from set_cli.training.density import connections_after, remaining_share
from set_cli.training.network import plan_network
from tests.builders import MODELS, TINY, interrupted, science, train
from tests.conftest import Compose, compose_mapping


def composed(*words: str) -> Config:
    return from_mapping(compose_mapping("dataset=digits", "model=mlp", "epsilon=5", *words))


@pytest.mark.parametrize("density", ["cubic", "sigmoid"])
def test_connections_become_fewer_until_epsilon_has_its_value(density: str) -> None:
    evolve = composed(
        "evolve.epsilon_start=20", f"evolve.epsilon_schedule={density}", "evolve.epsilon_until=0.8"
    ).evolve
    shares = [remaining_share(evolve, i / 100) for i in range(101)]
    assert shares[0] == pytest.approx(1)
    assert shares[80:] == pytest.approx([0] * 21, abs=1e-12)
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(shares))
    assert shares[40] == pytest.approx({"cubic": 1 / 8, "sigmoid": 1 / 2}[density])


def test_counts_are_those_of_equation_1_at_both_ends() -> None:
    config = composed("evolve.epsilon_start=20", "evolve.epsilon_until=0.5")
    assert connections_after(config, 0.0, 100, 300) == 20 * 400
    assert connections_after(config, 0.5, 100, 300) == connections_after(config, 1.0, 100, 300) == 5 * 400
    assert connections_after(config, 0.0, 10, 20) == 200  # all of them
    assert connections_after(composed(), 0.3, 100, 300) is None


@pytest.mark.parametrize("removal", ["signed", "magnitude"])
@pytest.mark.parametrize("zeta", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("left", [2, 3, 37, 799, 800, 801, 2000])
def test_a_layer_has_exactly_as_many_connections_as_are_asked_for(left: int, zeta: float, removal: str) -> None:
    layer = SparseLinear(40, 50, epsilon=1, seed=0)
    layer.evolve(0.0, connections=800, seed=1, regrow_init="random")
    assert layer.nnz == 800
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.randn(3, 40)).sum().backward()
    optimizer.step()
    change = layer.evolve(zeta, connections=left, seed=2, removal=removal, optimizer=optimizer)
    assert change is not None
    assert layer.nnz == left == 800 - change.pruned + change.regrown
    assert optimizer.state[layer.weight]["momentum_buffer"].shape == (left,)
    if 0 < left < 800:
        assert change.regrown == pytest.approx(zeta * left, abs=4)


def test_the_largest_weights_stay() -> None:
    layer = SparseLinear(40, 50, epsilon=4, seed=0)
    sizes = layer.weight.detach().abs()
    layer.evolve(0.0, connections=100, seed=1, removal="magnitude")
    kept = layer.weight.detach().abs().sort().values
    assert torch.equal(kept[kept > 0], sizes.sort().values[-int((kept > 0).sum()) :])
    full = SparseLinear(6, 7, epsilon=100, seed=0)
    assert full.nnz == 42
    assert full.evolve(0.3, connections=10, seed=0) is not None
    with pytest.raises(ValueError, match=r"connections: expected 2 to 42, got 43"):
        full.evolve(0.3, connections=43)


FALLING = ("evolve.epsilon_start=6", "epsilon=2", "evolve.epsilon_schedule=sigmoid", "evolve.epsilon_until=0.6")


@pytest.mark.parametrize("model", MODELS)
def test_a_run_starts_denser_and_resumes_within_an_epoch_bit_for_bit(
    model: str, compose: Compose, tmp_path: Path
) -> None:
    words = (*TINY, *MODELS[model], *FALLING)
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    assert science(interrupted(config, ((1, 40), (2, 120), (3, 80)))) == science(whole.path)
    epochs = read_rows(whole.path / "metrics.jsonl")
    assert epochs[0]["connections"] > epochs[1]["connections"] > epochs[2]["connections"]
    params = read_json(whole.path / "params.json")
    for layer in params["layers"]:
        if layer["kind"] == "sparse":
            n_in, n_out = layer["shape"]
            assert layer["connections_asked"] == pytest.approx(min(n_in * n_out, 6 * (n_in + n_out)))
    loaded = set_cli.load(whole.path)
    assert sum(np.size(p.detach().numpy()) for n, p in loaded.model.named_parameters() if n.endswith("weight")) > 0


def test_other_methods_start_as_they_stay(compose: Compose) -> None:
    fixed = compose(*TINY, *MODELS["mlp"], "method=fixprob", *FALLING)
    plans = plan_network(fixed, CATALOG["digits"])
    asked = [connection_probability(plan.n_in, plan.n_out, 2) for plan in plans if plan.sparse]
    assert [plan.probability for plan in plans if plan.sparse] == asked
    assert identity(fixed) == identity(compose(*TINY, *MODELS["mlp"], "method=fixprob", "epsilon=2"))
    assert len({identity(composed(*words)) for words in ((), ("evolve.epsilon_start=9",))}) == 2


REFUSED = {
    "evolve.epsilon_start: expected at least epsilon=5, found 4": ("evolve.epsilon_start=4",),
    "evolve.epsilon_schedule is for a run with evolve.epsilon_start": ("evolve.epsilon_schedule=sigmoid",),
    "evolve.epsilon_until is for a run with evolve.epsilon_start": ("evolve.epsilon_until=0.3",),
    "evolve.epsilon_until: expected at most evolve.until=0.4": ("evolve.epsilon_start=9", "evolve.until=0.4"),
    "evolve.epsilon_start: no evolution comes": (
        "evolve.epsilon_start=9",
        "train.epochs=9",
        "evolve.every=5",
        "evolve.epsilon_until=0.7",
    ),
    "evolve.epsilon_start: expected greater than 0": ("evolve.epsilon_start=0",),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_has_no_meaning_is_refused(sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(*REFUSED[sentence])
    assert str(caught.value).startswith(sentence)
