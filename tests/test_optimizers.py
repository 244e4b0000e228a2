"""train.optimizer: Adam and AdamW beside momentum SGD, their settings, their state and what it takes."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from set_cli.config import Config, from_mapping, identity, scientific
from set_cli.errors import ConfigError, Interrupted
from set_cli.models.counts import count_layers, count_totals, sparse_layers
from set_cli.models.memory import training_bytes
from set_cli.sparse.age import BORN
from set_cli.sweeps.forecast import forecast
from set_cli.training.contents import model_arrays
from set_cli.training.evolution import evolve_model
from set_cli.training.network import build_network, plan_network
from set_cli.training.optimizer import build_optimizer, connection_weights
from tests.builders import MODELS, TINY, StopAt, digits, science, train
from tests.conftest import Compose, compose_mapping

ADAM, ADAMW = "train.optimizer=adam", "train.optimizer=adamw"
CPU = torch.device("cpu")


def composed(*words: str) -> Config:
    return from_mapping(compose_mapping("dataset=digits", "model=mlp", *words))


def test_each_optimiser_has_values_of_its_own() -> None:
    sgd, adam, adamw = (composed(f"train.optimizer={name}").train for name in ("sgd", "adam", "adamw"))
    assert (sgd.lr, sgd.momentum, sgd.nesterov) == (0.01, 0.9, False)
    for train_ in (adam, adamw):
        assert (train_.lr, train_.momentum, train_.nesterov, train_.betas) == (0.001, None, None, None)
    assert composed(ADAM, "train.lr=0.01").train.lr == 0.01


def test_values_that_are_typed_and_those_of_the_optimiser_are_one_run() -> None:
    mapping = copy.deepcopy(dict(compose_mapping("dataset=digits", "model=mlp")))
    for key in ("optimizer", "betas", "adam_eps", "bias_correction"):
        del mapping["train"][key]
    assert identity(from_mapping(mapping)) == identity(composed())
    typed = ("train.lr=0.01", "train.momentum=0.9", "train.nesterov=false")
    assert identity(composed(*typed)) == identity(composed())
    usual = ("train.lr=0.001", "train.betas=[0.9,0.999]", "train.adam_eps=1e-8", "train.bias_correction=step")
    assert identity(composed(ADAM, *usual)) == identity(composed(ADAM))
    others = ("train.betas=[0.9,0.99]", "train.adam_eps=1e-6", "train.bias_correction=age", "train.lr=0.01", ADAMW)
    assert len({identity(composed(*words)) for words in ((), (ADAM,), *((ADAM, word) for word in others))}) == 7
    assert not {"momentum", "nesterov"} & scientific(composed(ADAM))["train"].keys()


REFUSED = {
    "train.momentum is for train.optimizer=sgd, found train.optimizer=adam": (ADAM, "train.momentum=0"),
    "train.nesterov is for train.optimizer=sgd, found train.optimizer=adamw": (ADAMW, "train.nesterov=false"),
    "train.betas is for train.optimizer=adam and adamw, found train.optimizer=sgd": ("train.betas=[0.9,0.999]",),
    "train.adam_eps is for train.optimizer=adam and adamw, found": ("train.adam_eps=1e-8",),
    "train.bias_correction is for train.optimizer=adam and adamw, found": ("train.bias_correction=age",),
    "train.betas: expected two numbers, such as [0.9,0.999], found [0.9]": (ADAM, "train.betas=0.9"),
    "train.betas: expected two numbers, such as [0.9,0.999], found [0.9, 0.99, 0.9]": (
        ADAM,
        "train.betas=[0.9,0.99,0.9]",
    ),
    "train.betas.1: expected less than 1, found 1": (ADAM, "train.betas=[0.9,1]"),
    "train.adam_eps: expected greater than 0, found 0": (ADAM, "train.adam_eps=0"),
    "train.optimizer=adamax is not known: expected 'sgd', 'adam' or 'adamw'; did you mean adam?": (
        "train.optimizer=adamax",
    ),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_has_no_meaning_is_refused(sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        composed(*REFUSED[sentence])
    assert str(caught.value).startswith(sentence)


def network(config: Config) -> torch.nn.Module:
    return build_network(config, digits(config), CPU).model


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_updates_are_torchs_with_decay_on_connections_only(name: str, model: str) -> None:
    words = (*MODELS[model], f"train.optimizer={name}", "train.weight_decay=0.1", "train.betas=[0.8,0.9]")
    config = from_mapping(compose_mapping("dataset=digits", *words))
    ours, theirs = network(config), network(config)
    optimizer = build_optimizer(ours, config.train)
    make: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    decayed = {id(weight) for weight in connection_weights(theirs)}
    others = [
        make([p], lr=0.001, betas=(0.8, 0.9), weight_decay=0.1 if id(p) in decayed else 0.0, foreach=False)
        for p in theirs.parameters()
    ]
    for _ in range(3):
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for each in (optimizer, *others):
            each.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_moments_follow_their_connections_and_new_ones_start_at_none() -> None:
    config = composed(ADAM, "train.bias_correction=age", "epsilon=2")
    model = network(config)
    optimizer = build_optimizer(model, config.train)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    before = {name: (layer.pattern, optimizer.state[layer.weight]) for name, layer in sparse_layers(model).items()}
    before = {name: (pattern, dict(state)) for name, (pattern, state) in before.items()}
    evolve_model(model, optimizer, config, 1)
    for name, layer in sparse_layers(model).items():
        pattern, old = before[name]
        state, at = optimizer.state[layer.weight], dict(zip(pattern.positions().tolist(), itertools.count()))
        source = [at.get(position, -1) for position in layer.pattern.positions().tolist()]
        stayed = torch.tensor(source) >= 0
        for key in ("exp_avg", "exp_avg_sq"):
            moved = torch.where(stayed, old[key][torch.tensor(source)], 0)
            # A new connection may lie where one was removed: it starts anew there.
            assert torch.equal(state[key][state[BORN] == 0], moved[state[BORN] == 0])
            assert not state[key][state[BORN] > 0].any()
        assert set(state[BORN].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("mlp", (ADAM,)),
        ("mlp", (ADAMW, "train.bias_correction=age", "train.schedule=cosine", "train.clip=1")),
        ("cnn", (ADAMW, "train.l1=1e-5")),
        ("rbm", (ADAM,)),
    ],
)
def test_a_run_resumes_within_an_epoch_bit_for_bit(
    model: str, words: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    words = (*TINY, *MODELS[model], *words)
    whole = train(compose(*words))
    config = compose(*words, f"runs_dir={tmp_path}/other")
    for epoch, rows in ((1, 40), (2, 80)):
        with pytest.raises(Interrupted):
            train(config, StopAt(epoch, rows=rows))
    assert science(train(config).path) == science(whole.path)


@pytest.mark.parametrize("model", MODELS)
def test_the_estimate_counts_what_the_optimiser_keeps(model: str) -> None:
    found = {}
    kinds = {
        "none": ("train.momentum=0",),
        "sgd": (),
        "adam": (ADAM,),
        "age": (ADAM, "train.bias_correction=age"),
    }
    for kind, words in kinds.items():
        config = from_mapping(compose_mapping("dataset=digits", *MODELS[model], *words))
        data = digits(config)
        plans = plan_network(config, data.card)
        found[kind] = training_bytes(plans, {}, config, 100, data.card.shape), forecast(config, None)["disk_mb"]
    sparse = 4 * sum(plan.connections_asked for plan in plans if plan.sparse)
    copy_ = sparse + 4 * sum(plan.n_in * plan.n_out for plan in plans if not plan.sparse)
    none = found["none"][0]
    for kind, more in (("sgd", copy_), ("adam", 2 * copy_), ("age", 2 * copy_ + sparse)):
        assert found[kind][0] - none == pytest.approx(more, abs=2)
    assert found["none"][1] <= found["sgd"][1] <= found["adam"][1] <= found["age"][1]


@pytest.mark.parametrize("model", MODELS)
def test_a_checkpoint_holds_all_that_adam_keeps(model: str) -> None:
    words = (*MODELS[model], ADAM, "train.bias_correction=age")
    config = from_mapping(compose_mapping("dataset=digits", *words))
    built = network(config)
    arrays = stepped(built, config)
    names = {name for name, _ in built.named_parameters()}
    sparse = {f"{name}.weight" for name in sparse_layers(built)}
    assert set(arrays) == {
        *(f"{name}/{key}" for name in names for key in ("step", "exp_avg", "exp_avg_sq")),
        *(f"{name}/{BORN}" for name in sparse),
    }
    counts = count_layers(built, config.train.optimizer_copies, with_ages=config.train.has_ages)
    kept = sum(a.nbytes for name, a in arrays.items() if ".weight/" in name and not name.endswith("/step"))
    assert kept == count_totals(counts)["bytes"]["optimizer"]


def stepped(model: torch.nn.Module, config: Config) -> dict[str, Any]:
    """What the optimiser keeps after a step, by name."""
    optimizer = build_optimizer(model, config.train)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    arrays = model_arrays(model, optimizer)
    return {name.removeprefix("optimizer/"): array for name, array in arrays.items() if name.startswith("optimizer/")}
