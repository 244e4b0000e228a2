"""Methods by name, trained as set-train does it: what they keep, that they resume bit for bit, what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from sklearn.datasets import load_iris

import set_cli
from set_cli.config import METHODS
from set_cli.errors import ConfigError
from set_cli.runs.summary import read_rows
from set_cli.system.files import read_json
from tests.builders import MODELS, TINY, interrupted, science, train
from tests.conftest import Compose

EVOLVING = [name for name, facts in METHODS.items() if facts.evolves and name != "set"]
# Every rule that looks at rows, remembers or draws is resumed in one of them.
RESUMED = {
    "mlp": ("chts", "snfs", "granet", "mest", "ctre"),
    "cnn": ("rigl", "chtss"),
    "rbm": ("rigl", "chts", "itop"),
}


@pytest.mark.parametrize("name", EVOLVING)
def test_a_method_keeps_the_number_of_connections_or_comes_to_it(name: str, compose: Compose) -> None:
    words = ("model=mlp", "model.hidden=[30,20]", "density=0.2", "train.epochs=5", "evolve.every=1")
    outcome = train(compose("dataset=digits", *TINY, *words, f"method={name}"))
    asked = sum(layer["connections_asked"] for layer in read_json(outcome.path / "params.json")["layers"])
    rows = read_rows(outcome.path / "metrics.jsonl")
    last = outcome.summary["connections_final"] if name != "ctre" else rows[-1]["connections"]
    falls = name in ("granet", "chtss", "magnitude_pruned")
    assert last == pytest.approx(64 * 30 * 0.2 + 30 * 20 * 0.2 + 200, rel=0.1)
    assert (rows[0]["connections"] > 1.5 * last) == falls
    assert rows[0]["connections"] == pytest.approx(asked, rel=0.1)
    assert any(row["pruned"] for row in rows)
    assert any(row["regrown"] for row in rows) == (name != "magnitude_pruned")
    loaded = set_cli.load(outcome.path)
    assert loaded.evaluate()["accuracy"] == pytest.approx(outcome.summary["after_last_removal"]["test"])


@pytest.mark.parametrize(("model", "name"), [(model, name) for model, names in RESUMED.items() for name in names])
def test_a_method_resumes_within_an_epoch_bit_for_bit(model: str, name: str, compose: Compose, tmp_path: Path) -> None:
    falls = ("evolve.density_start=0.5", "evolve.epsilon_until=0.5") if name in ("granet", "chtss") else ()
    time = ("evolve.every=1", "evolve.until=0.7", *falls)
    words = (*TINY, *MODELS[model], f"method={name}", *time, "train.epochs=4")
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    assert science(interrupted(config, ((1, 40), (2, 120), (3, 80)))) == science(whole.path)


@pytest.mark.parametrize("model", ["mlp", "cnn", "rbm"])
def test_a_small_dense_network_has_as_many_parameters(model: str, compose: Compose) -> None:
    words = ("dataset=digits", *TINY, f"model={model}", "model.hidden=[80]", "train.epochs=1")
    sparse, small = (
        train(compose(*words, f"method={name}", "epsilon=4")).summary for name in ("fixprob", "small_dense")
    )
    assert small["parameters"] <= 1.05 * sparse["parameters"]
    assert small["parameters"] > 0.75 * sparse["parameters"]
    assert small["epsilon"] == 4
    assert small["dense_parameters"] == sparse["dense_parameters"]  # of the network that both stand for


def test_connections_that_were_removed_grow_again_with_the_weight_they_had(compose: Compose) -> None:
    words = ("dataset=digits", *TINY, "model=mlp", "model.hidden=[30]", "epsilon=3")
    ends = {
        init: train(compose(*words, "method.regrowth=nearby", f"method.regrow_init={init}")).summary["sha256"]
        for init in ("zero", "previous")
    }
    assert ends["zero"]["metrics.jsonl"] != ends["previous"]["metrics.jsonl"]


def test_a_layer_that_is_too_large_to_search_is_refused_before_training(compose: Compose) -> None:
    words = ("dataset=digits", *TINY, "model=mlp", "model.hidden=[20000,20000]", "epsilon=1")
    with pytest.raises(ConfigError, match=r"method\.candidates=null: expected layers of at most 268,435,456 cells"):
        train(compose(*words, "method=rigl"))


def test_a_rule_that_does_not_suit_a_layer_is_one_sentence(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("set_cli.sparse.rules.paths.MOST_STEPS", 10)
    words = ("dataset=digits", *TINY, "model=mlp", "model.hidden=[30]", "epsilon=3")
    with pytest.raises(ConfigError, match=r"layer1 cannot evolve with method=set: cannistraci_hebb: expected at most"):
        train(compose(*words, "method.regrowth=cannistraci_hebb"))


def test_a_wiring_that_nothing_reads_is_said(compose: Compose) -> None:
    outcome = train(compose("dataset=digits", *TINY, *MODELS["cnn"], "method=chts", "train.epochs=1"))
    log = (outcome.path / "train.log").read_text()
    assert "note: method.wiring=csti is for a sparse layer that reads the data" in log
    assert "its layers are wired by receptive" in log


def test_an_estimator_trains_no_method_under_another_ones_name() -> None:
    x, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="method: expected set, fixprob, dense, whose rules an estimator has"):
        set_cli.SETClassifier(method="rigl", max_iter=1).fit(x, y)


def test_the_last_removal_is_there_where_connections_became_fewer(compose: Compose) -> None:
    falling = ("evolve.epsilon_start=6", "epsilon=2", "evolve.epsilon_until=0.4", "train.epochs=4")
    summary = train(compose("dataset=digits", *TINY, "model=mlp", "model.hidden=[60]", *falling)).summary
    left = 2 * (64 + 60)
    assert 0.6 * left < summary["connections_final"] - 600 < 0.75 * left  # zeta of them, and those that weigh nothing
