"""What a configuration means: types and bounds, the run's identity, the frozen list of keys, every shipped pair."""

from __future__ import annotations

import copy
import hashlib
import itertools
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from omegaconf import OmegaConf

from set_cli.config import DATASETS, METHODS, Augment, from_mapping, identity, known_keys, method_facts, scientific
from set_cli.config.method import MethodName
from set_cli.data.catalog import CATALOG
from set_cli.errors import ConfigError, NotApplicable
from set_cli.runs.folder import folder_name
from set_cli.system.files import canonical_json
from set_cli.training.pairs import check_pair
from tests.conftest import Compose, compose_mapping

CONF = Path(__file__).resolve().parent.parent / "conf"

# The surface that users and scripts rely on: adding a key is a visible change here.
KEYS = [
    "backend.cuda_graphs",
    "backend.deterministic",
    "backend.engine",
    "backend.name",
    "backend.precision",
    "backend.threads",
    "checkpoints.minutes",
    "data.augment.crop",
    "data.augment.cutout",
    "data.augment.flip",
    "data.augment.mixup",
    "data.augment.rotation",
    "data.augment.shift",
    "data.augment.until",
    "data.clip",
    "data.dir",
    "data.fetch",
    "data.holdout",
    "data.missing",
    "data.scaling",
    "data.split",
    "data.test_limit",
    "data.train_limit",
    "data.valid",
    "dataset.binarize",
    "dataset.checksum",
    "dataset.drop",
    "dataset.features",
    "dataset.group",
    "dataset.label",
    "dataset.name",
    "dataset.path",
    "dataset.test_checksum",
    "dataset.test_path",
    "density",
    "epsilon",
    "evolve.density_start",
    "evolve.epsilon_schedule",
    "evolve.epsilon_start",
    "evolve.epsilon_until",
    "evolve.every",
    "evolve.every_steps",
    "evolve.final",
    "evolve.schedule",
    "evolve.until",
    "method.candidates",
    "method.name",
    "method.redistribution",
    "method.regrow_init",
    "method.regrowth",
    "method.removal",
    "method.removal_of_unreached",
    "method.sensitivity",
    "method.threshold",
    "method.wiring",
    "method.wiring_inside",
    "model.activation",
    "model.ais",
    "model.ais_every",
    "model.ais_last",
    "model.cd_steps",
    "model.channels",
    "model.dropout",
    "model.hidden",
    "model.init",
    "model.name",
    "model.norm",
    "model.persistent",
    "model.slope",
    "model.sparse_convolutions",
    "progress",
    "resume",
    "retry_failed",
    "runs_dir",
    "seed",
    "snapshots.every",
    "snapshots.weights",
    "time_limit",
    "train.adam_eps",
    "train.batch_size",
    "train.betas",
    "train.bias_correction",
    "train.class_weights",
    "train.clip",
    "train.ema",
    "train.epochs",
    "train.l1",
    "train.label_smoothing",
    "train.lr",
    "train.lr_end",
    "train.lr_factor",
    "train.lr_steps",
    "train.momentum",
    "train.nesterov",
    "train.optimizer",
    "train.patience",
    "train.schedule",
    "train.warmup",
    "train.weight_decay",
    "zeta",
]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_the_data_sets_are_the_catalogues_and_custom() -> None:
    assert set(DATASETS) == CATALOG.keys() | {"custom"} == set(options("dataset"))


def test_config_surface() -> None:
    assert sorted(known_keys()) == KEYS


@pytest.mark.parametrize(
    ("dataset", "model", "method"), list(itertools.product(options("dataset"), options("model"), options("method")))
)
def test_every_yaml_composes(dataset: str, model: str, method: str) -> None:
    config = from_mapping(compose_mapping(f"dataset={dataset}", f"model={model}", f"method={method}"))
    assert (config.dataset.name, config.model.name, config.method.name) == (dataset, model, method)


@pytest.mark.parametrize("backend", options("backend"))
def test_every_backend_composes(backend: str) -> None:
    assert from_mapping(compose_mapping(f"backend={backend}")).backend.name == backend


REFUSED_PAIRS = {
    **{
        f"{name}_cnn": f"{name} has no images, which model=cnn needs; use model=mlp"
        for name in ("adult", "connect4", "dna", "higgs", "mushrooms", "rcv1", "web")
    },
    "nips_cnn": "nips has no images, which model=cnn needs; use model=rbm",
    "higgs_rbm": "higgs has real values, which model=rbm cannot take as probabilities; use model=mlp",
    "nips_mlp": "nips has no labels, which this model needs; use model=rbm",
}


def test_every_pair_has_settings_or_is_refused(compose: Compose) -> None:
    pairs = {f"{dataset}_{model}" for dataset in options("dataset") for model in options("model")}
    assert set(options("dataset_model")) == pairs - REFUSED_PAIRS.keys()
    for pair, sentence in REFUSED_PAIRS.items():
        dataset, _, model = pair.rpartition("_")
        with pytest.raises(NotApplicable) as caught:
            check_pair(compose(f"dataset={dataset}", f"model={model}"))
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("data.augment.rotation=10", "data.augment changes the rows of model=mlp"),
        (
            "data.scaling=standardize",
            "data.scaling: expected unit for model=rbm, whose visible units are probabilities",
        ),
        ("backend.precision=bfloat16", "backend.precision: expected float32 for model=rbm; bfloat16 is for model=mlp"),
    ],
)
def test_inputs_of_an_rbm_that_are_no_probabilities_are_refused(word: str, sentence: str, compose: Compose) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        check_pair(compose("dataset=digits", "model=rbm", word))


def test_test_rows_come_from_one_place(compose: Compose, tmp_path: Path) -> None:
    for name in ("train.csv", "test.csv"):
        (tmp_path / name).write_text("a,label\n1,x\n2,y\n")
    files = (f"dataset.path={tmp_path}/train.csv", f"dataset.test_path={tmp_path}/test.csv")
    check_pair(compose("dataset=custom", *files))
    with pytest.raises(ConfigError, match=r"holds the test rows, and data.holdout=1 takes them from the training rows"):
        check_pair(compose("dataset=custom", *files, "data.holdout=1"))


def test_every_yaml_says_what_it_is_and_the_command_that_uses_it() -> None:
    for path in CONF.glob("*/*.yaml"):
        comment = "".join(line for line in path.read_text().splitlines()[:2] if line.startswith("# "))
        assert "`set-train" in comment, path


PAPER = {
    ("mnist", "mlp"): {"epsilon": 20, "zeta": 0.3, "hidden": (1000, 1000, 1000), "augmented": False},
    ("cifar10", "mlp"): {"epsilon": 20, "zeta": 0.3, "hidden": (4000, 1000, 4000), "augmented": True},
    ("higgs", "mlp"): {"epsilon": 20, "zeta": 0.3, "hidden": (1000, 1000, 1000), "augmented": False},
    ("cifar10", "cnn"): {"epsilon": 20, "zeta": 0.3, "hidden": (2048, 2048), "augmented": True},
}


@pytest.mark.parametrize(("dataset", "model"), PAPER)
def test_the_papers_pairs_have_the_papers_settings(dataset: str, model: str, compose: Compose) -> None:
    config, paper = compose(f"dataset={dataset}", f"model={model}"), PAPER[(dataset, model)]
    assert (config.epsilon, config.zeta) == (paper["epsilon"], paper["zeta"])
    assert config.model.hidden == paper["hidden"]
    activation = "relu" if model == "cnn" else "srelu"
    assert (config.model.activation, config.model.dropout, config.model.init) == (activation, 0.3, "glorot")
    assert config.method.regrow_init == "zero"
    train = config.train
    assert (train.epochs, train.lr, train.momentum, train.nesterov) == (1000, 0.01, 0.9, False)
    assert (train.weight_decay, train.l1) == (0.0002, 0)
    assert config.data.augment.is_on is paper["augmented"]
    if paper["augmented"]:
        assert (train.batch_size, config.data.scaling) == (100, "standardize")
        assert config.data.augment == Augment(rotation=10, shift=0.1, flip=True)


TABLE_2 = {  # hidden units and CD steps of the paper's best SET-RBM
    "adult": (500, 3),
    "connect4": (500, 10),
    "dna": (250, 3),
    "mushrooms": (250, 10),
    "nips": (500, 3),
    "ocr_letters": (500, 10),
    "rcv1": (500, 10),
    "web": (500, 10),
    "caltech16": (5000, 10),
    "caltech28": (2500, 10),
    "mnist_binary": (5000, 10),
}


@pytest.mark.parametrize("dataset", TABLE_2)
def test_the_papers_rbms_have_the_papers_settings(dataset: str, compose: Compose) -> None:
    config = compose(f"dataset={dataset}", "model=rbm")
    assert (config.epsilon, config.zeta) == (11, 0.3)
    assert (config.model.hidden, config.model.cd_steps) == ((TABLE_2[dataset][0],), TABLE_2[dataset][1])
    assert (config.model.init, config.method.regrow_init) == ("normal", "random")
    train = config.train
    assert (train.epochs, train.lr, train.momentum, train.weight_decay) == (5000, 0.01, 0.9, 0.0002)
    assert config.data.scaling == "unit"


def test_paper15_is_every_set_of_the_paper_with_its_model() -> None:
    sweep = OmegaConf.load(CONF / "sweep/paper15.yaml")
    names = OmegaConf.select(sweep, "hydra.sweeper.params")["+experiment"].split(",")
    pairs = set()
    for name in names:
        mapping = compose_mapping(f"+experiment={name.strip()}")
        pair = (mapping["dataset"]["name"], mapping["model"]["name"])
        assert name.strip() == "_".join(pair)
        direct = compose_mapping(f"dataset={pair[0]}", f"model={pair[1]}")
        assert identity(from_mapping(mapping)) == identity(from_mapping(direct))
        pairs.add(pair)
    assert len(names) == 15
    assert pairs == {(card.name, card.models[0]) for card in CATALOG.values() if card.paper}


REFUSED: list[tuple[str, Any, str]] = [
    ("epsilon", float("nan"), "epsilon: expected a finite number, found nan"),
    ("epsilon", float("inf"), "epsilon: expected a finite number, found inf"),
    ("epsilon", 0, "epsilon: expected greater than 0, found 0"),
    ("epsilon", True, "epsilon: expected a valid number, found True"),
    ("epsilon", "20", "epsilon: expected a valid number, found '20'"),
    ("epsilon", 1e10, "epsilon: expected less than or equal to 1000000000, found 10000000000.0"),
    ("zeta", 1, "zeta: expected less than 1, found 1"),
    ("zeta", -0.1, "zeta: expected greater than or equal to 0, found -0.1"),
    ("seed", -1, "seed: expected greater than or equal to 0, found -1"),
    ("seed", 1.5, "seed: expected a valid integer, found 1.5; write seed=1 or seed=2"),
    ("seed", None, "seed: expected a valid integer, found None"),
    ("seed", 2**63, "seed: expected less than or equal to 9223372036854775807, found 9223372036854775808"),
    ("runs_dir", "", "runs_dir: expected some text, found nothing"),
    ("runs_dir", 5, "runs_dir: expected text, found 5"),
    ("seed", "0..4", "seed: expected a valid integer, found '0..4'; a range, for a sweep with -m, is seed=range(0,5)"),
    ("train.epochs", 1e3, "train.epochs: expected a valid integer, found 1000.0; write train.epochs=1000"),
    ("resume", "allways", "resume=allways is not known: expected 'auto', 'never', 'must' or 'extend'"),
    (
        "progress",
        "ritch",
        "progress=ritch is not known: expected 'auto', 'rich', 'plain' or 'none'; did you mean rich?",
    ),
    ("dataset.name", "cifar", "dataset.name=cifar is not known: expected 'adult', 'connect4', 'dna'"),
    ("dataset.name", "../../etc", "dataset.name=../../etc is not known"),
    ("model.hidden", [], "model.hidden: expected a list that is not empty, found nothing"),
    ("model.hidden", [10, 0], "model.hidden.1: expected greater than or equal to 1, found 0"),
    ("model.hidden", [2**31], "model.hidden.0: expected less than or equal to 2147483647, found 2147483648"),
    ("model.hidden", "wide", "model.hidden.0: expected a valid integer, found 'wide'"),
    ("model.hidden", 1.5, "model.hidden: expected a list, such as [300,300], found 1.5"),
    ("model.dropout", 1, "model.dropout: expected less than 1, found 1"),
    ("train.epochs", 0, "train.epochs: expected greater than or equal to 1, found 0"),
    ("train.epochs", 2.0, "train.epochs: expected a valid integer, found 2.0; write train.epochs=2"),
    (
        "data.holdout",
        "20%",
        "data.holdout: expected a valid integer, found '20%'; it is a number of rows, not a part of them",
    ),
    ("data.valid", 0.2, "data.valid: expected a valid integer, found 0.2; it is a number of rows, not a part of them"),
    ("zeta", "30%", "zeta: expected a valid number, found '30%'; write zeta=0.3"),
    ("model.dropout", "12.5 %", "model.dropout: expected a valid number, found '12.5 %'; write model.dropout=0.125"),
    ("train.batch_size", 0, "train.batch_size: expected greater than or equal to 1, found 0"),
    ("train.lr", 0.0, "train.lr: expected greater than 0, found 0.0"),
    ("train.momentum", 1, "train.momentum: expected less than 1, found 1"),
    ("train.nesterov", 1, "train.nesterov: expected true or false, found 1"),
    ("train.lr", {"_target_": "os.system"}, "train.lr: expected a valid number, found {'_target_': 'os.system'}"),
    ("train", 3, "train: expected a valid dictionary or instance of Train, found 3"),
    ("train._target_", "os.system", "train._target_ is not a configuration key"),
    ("train.nesterov", "yes", "train.nesterov: expected true or false, found 'yes'"),
    ("train.learning_rate", 0.1, "train.learning_rate is not a configuration key; did you mean train.lr?"),
    ("epsilom", 3, "epsilom is not a configuration key; did you mean epsilon?"),
    ("data.holdout", -5, "data.holdout: expected greater than or equal to 0, found -5"),
    ("data.train_limit", 0, "data.train_limit: expected greater than or equal to 1, found 0"),
    ("data.dir", "${oc.env:HOME}", "data.dir: expected a plain value, found the interpolation '${oc.env:HOME}'"),
    ("model.hidden", ["${seed}"], "model.hidden: expected a plain value, found the interpolation '${seed}'"),
    ("backend.threads", 0, "backend.threads: expected greater than or equal to 1, found 0"),
    ("snapshots.every", 0, "snapshots.every: expected greater than or equal to 1, found 0"),
]


@pytest.mark.parametrize(("key", "value", "sentence"), REFUSED, ids=lambda value: str(value)[:30])
def test_bad_values_are_refused_in_one_sentence(key: str, value: object, sentence: str) -> None:
    mapping = cast(dict[str, Any], copy.deepcopy(compose_mapping()))
    *path, name = key.split(".")
    section = mapping
    for part in path:
        section = section[part]
    section[name] = value
    with pytest.raises(ConfigError) as caught:
        from_mapping(mapping)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    mapping = cast(dict[str, Any], copy.deepcopy(compose_mapping()))
    del mapping["train"]["epochs"]
    with pytest.raises(ConfigError, match=r"train.epochs has no value; give one with train.epochs=…"):
        from_mapping(mapping)


def test_nesterov_needs_momentum(compose: Compose) -> None:
    with pytest.raises(ConfigError, match=r"train.nesterov=true needs train.momentum above 0"):
        compose("train.nesterov=true", "train.momentum=0")


def test_equal_numbers_are_one_run(compose: Compose) -> None:
    assert identity(compose("epsilon=20", "model.dropout=0")) == identity(compose("epsilon=20.0", "model.dropout=0.0"))
    assert identity(compose("epsilon=20")) != identity(compose("epsilon=20.5"))
    assert folder_name(compose("zeta=-0.0")) == folder_name(compose("zeta=0"))


@pytest.mark.parametrize(
    "override",
    [
        "runs_dir=/elsewhere",
        "progress=plain",
        "resume=never",
        "backend.threads=1",
        "backend=cuda",
        "data.dir=/data",
        "snapshots.every=1",
        "snapshots.weights=true",
        "checkpoints.minutes=0",
        "time_limit=60",
        "retry_failed=true",
    ],
)
def test_paths_threads_and_display_are_no_part_of_a_run(override: str, compose: Compose) -> None:
    assert identity(compose(override)) == identity(compose())


@pytest.mark.parametrize(
    "override", ["seed=1", "train.epochs=3", "data.holdout=100", "backend.engine=torch", "zeta=0.2"]
)
def test_what_changes_the_numbers_is_another_run(override: str, compose: Compose) -> None:
    assert identity(compose(override)) != identity(compose())


@pytest.mark.parametrize(
    ("method", "meaningless"),
    [
        ("dense", ["epsilon=3", "zeta=0.1", "method.regrow_init=random", "backend.engine=masked"]),
        ("fixprob", ["zeta=0.1", "method.regrow_init=random"]),
    ],
)
def test_keys_without_meaning_for_the_method_are_left_out(
    method: str, meaningless: list[str], compose: Compose
) -> None:
    plain = compose(f"method={method}")
    for override in meaningless:
        assert identity(compose(f"method={method}", override)) == identity(plain), override


def test_identity_is_the_hash_of_the_config_file(compose: Compose) -> None:
    config = compose()
    assert identity(config) == hashlib.sha256(canonical_json(scientific(config)).encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["epsilon=20", "zeta=0.3", "seed=7"], "set-e20-z0.3-s7-"),
        (["epsilon=0.5"], "set-e0.5-z0.3-s0-"),
        (["epsilon=1e-7"], "set-e1e-07-z0.3-s0-"),
        (["method=fixprob"], "fixprob-e5-s0-"),
        (["method=dense"], "dense-s0-"),
    ],
)
def test_folder_names(overrides: list[str], name: str, compose: Compose) -> None:
    config = compose(*overrides)
    assert folder_name(config) == name + identity(config)


def test_one_number_is_a_list_of_one(compose: Compose) -> None:
    assert compose("model.hidden=100").model.hidden == (100,)
    assert identity(compose("model.hidden=100")) == identity(compose("model.hidden=[100]"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_evolves_carries_zeta_and_its_rules_in_its_identity(name: str) -> None:
    """Two runs that are trained otherwise must not share a folder: the second would be skipped as done."""
    mapping = cast(dict[str, Any], copy.deepcopy(compose_mapping(f"method={name}")))
    plain = from_mapping(mapping)
    ids = {identity(plain)}
    ids.add(identity(from_mapping(mapping | {"zeta": 0.1})))
    for rule in ({"removal": "largest"}, {"regrow_init": "random"}):
        ids.add(identity(from_mapping(mapping | {"method": mapping["method"] | rule})))
    assert len(ids) == (4 if plain.method.evolves else 1)
    assert ("z0.3" in folder_name(plain)) == plain.method.evolves
    is_default = plain.method.removal == "signed"  # which came later than the first runs
    assert ("removal" not in scientific(plain)["method"]) == (is_default or not plain.method.evolves)


def test_what_decides_how_many_connections_there_are_is_in_the_identity() -> None:
    def ids(*commands: tuple[str, ...]) -> int:
        return len({identity(from_mapping(compose_mapping("dataset=digits", *words))) for words in commands})

    sparse = ("method=fixprob",)
    assert ids(sparse, (*sparse, "density=0.1"), (*sparse, "density=0.2"), (*sparse, "epsilon=7")) == 4
    assert ids((*sparse, "density=0.1"), (*sparse, "density=0.1", "epsilon=7")) == 1  # which has no meaning beside it
    assert ids(sparse, (*sparse, "method.wiring=local"), (*sparse, "method.wiring_inside=receptive")) == 3
    assert ids(("method=dense",), ("method=dense", "density=0.1"), ("method=dense", "method.wiring=local")) == 1
    assert ids(("method=small_dense",), ("method=small_dense", "density=0.1"), ("method=small_dense", "epsilon=7")) == 3
    assert ids(("method=rigl",), ("method=rigl", "method.candidates=10"), ("method=rigl", "evolve.until=0.5")) == 3


def test_every_method_has_facts_and_a_file() -> None:
    assert set(METHODS) == set(get_args(MethodName)) == {path.stem for path in (CONF / "method").glob("*.yaml")}
    assert method_facts("of another version").is_sparse
