"""resume=extend: more epochs for a finished run end with the bits of a run that had them from the start."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import set_cli
from set_cli.config import Config, from_mapping, identity, known_keys
from set_cli.config.length import tied_to_length
from set_cli.errors import ConfigError, DataError, Interrupted
from set_cli.report.collect import FinishedRun, read_run
from set_cli.runs.extend import extend, shorter_run
from set_cli.runs.folder import locate
from set_cli.system.files import read_json
from tests.builders import MODELS, TINY, StopAt, science, train, train_in
from tests.conftest import ONE_THREAD, Command, Compose, compose_mapping

EXTEND = "resume=extend"


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


CASES = {
    "mlp": (*MODELS["mlp"], "method.regrow_init=random"),
    "cnn": MODELS["cnn"],
    "rbm": MODELS["rbm"],
    "fixprob": (*MODELS["mlp"], "method=fixprob", "snapshots.weights=true"),
    "adam": (*MODELS["mlp"], "train.optimizer=adamw", "train.bias_correction=age", "train.warmup=1.5"),
    "within an epoch": (*MODELS["mlp"], "checkpoints.minutes=0"),
    "every other epoch": (*MODELS["mlp"], "evolve.every=2", "data.valid=60"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_extended_run_has_the_bits_of_a_long_one(case: str, compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *CASES[case])
    short = train(compose(*words)).path
    before = contents(short)
    longer = (*words, "train.epochs=5")
    extended = train(compose(*longer, EXTEND)).path
    whole = train(compose(*longer, f"runs_dir={tmp_path}/whole")).path
    assert extended.name == whole.name != short.name
    assert science(extended) == science(whole)
    assert contents(short) == before
    assert read_json(extended / "run.json")[-1]["extends"] == str(short)
    assert len(read_json(extended / "run.json")) == 2
    assert f"extending {short}: its first 2 epochs" in (extended / "train.log").read_text()
    assert isinstance(read_run(extended), FinishedRun)
    assert set_cli.load(extended).topology().keys() == set_cli.load(whole).topology().keys()


def test_runs_that_were_interrupted_and_extended_runs_can_be_extended(compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS["mlp"])
    for epoch, rows in ((2, 40), (3, 80)):
        with pytest.raises(Interrupted):
            train(compose(*words), StopAt(epoch, rows=rows))
    train(compose(*words))
    train(compose(*words, "train.epochs=4", EXTEND))
    with pytest.raises(Interrupted):
        train(compose(*words, "train.epochs=6", EXTEND), StopAt(5, rows=40))
    longer = compose(*words, "train.epochs=6", EXTEND)
    path = train(longer).path
    assert read_json(path / "run.json")[-2]["extends"].endswith(identity(compose(*words, "train.epochs=4")))
    assert "extends" not in read_json(path / "run.json")[-1]
    assert science(path) == science(train(compose(*words, "train.epochs=6", f"runs_dir={tmp_path}/whole")).path)
    assert train(longer).skipped


def test_a_run_that_patience_ended_is_ended_again(compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS["mlp"], "data.valid=60", "train.epochs=6", "train.lr=1e-9", "train.patience=2")
    short = train(compose(*words)).path
    longer = (*words, "train.epochs=9")
    extended = train(compose(*longer, EXTEND)).path
    assert science(extended) == science(train(compose(*longer, f"runs_dir={tmp_path}/whole")).path)
    assert (extended / "metrics.jsonl").read_bytes() == (short / "metrics.jsonl").read_bytes()


def test_a_copy_that_was_broken_off_is_made_again(compose: Compose, tmp_path: Path) -> None:
    words = (*TINY, *MODELS["mlp"])
    config = compose(*words, "train.epochs=5", EXTEND)
    train(compose(*words))
    path, status = locate(config)
    assert status is None
    path.mkdir(parents=True)
    extend(path, shorter_run(config), config)
    (path / "checkpoint.npz").unlink()
    (path / "metrics.jsonl").write_bytes(b"{")
    assert science(train(config).path) == science(
        train(compose(*words, "train.epochs=5", f"runs_dir={tmp_path}/whole")).path
    )


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of runs with one of three epochs; not to be changed."""
    return train_in(tmp_path_factory.mktemp("three"), *TINY, *MODELS["mlp"])


def asking(three: Path, *words: str) -> Config:
    root = three.parent.parent.parent
    return from_mapping(
        compose_mapping(f"runs_dir={root}", "progress=none", ONE_THREAD, *TINY, *MODELS["mlp"], *words, EXTEND)
    )


REFUSED = {
    "resume=extend: with train.schedule=cosine the first epochs of a longer run are others": ("train.schedule=cosine",),
    "resume=extend: with evolve.schedule=linear and evolve.until=0.5 the first epochs": (
        "evolve.schedule=linear",
        "evolve.until=0.5",
    ),
    "resume=extend: expected a finished run in ": ("seed=1",),
}


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_no_run_is_the_start_of_is_refused(sentence: str, three: Path) -> None:
    before = sorted(three.parent.iterdir())
    with pytest.raises(ConfigError) as caught:
        train(asking(three, "train.epochs=5", *REFUSED[sentence]))
    assert str(caught.value).startswith(sentence)
    assert sorted(three.parent.iterdir()) == before


@pytest.mark.parametrize(
    "words", [("train.epochs=2",), ("train.epochs=5", "zeta=0.2"), ("train.epochs=5", "train.lr=0.02")]
)
def test_only_a_shorter_run_that_is_equal_otherwise_is_extended(words: tuple[str, ...], three: Path) -> None:
    with pytest.raises(ConfigError, match=r"fewer epochs than train\.epochs=. and all else equal, found none"):
        shorter_run(asking(three, *words))
    assert shorter_run(asking(three, "train.epochs=4")).path == three


def test_an_rbm_that_would_be_measured_in_other_epochs_is_refused() -> None:
    def tied(*words: str) -> list[str]:
        return tied_to_length(from_mapping(compose_mapping("dataset=digits", *words)), 100)

    assert tied("model=rbm", "train.epochs=200") == ["model.ais_every=null"]
    assert tied("model=rbm", "train.epochs=110") == tied("model=rbm", "train.epochs=200", "model.ais_every=2") == []
    assert tied("model=mlp", "train.epochs=200", "train.warmup=2") == []
    assert tied("model=mlp", "method=fixprob", "evolve.until=0.5") == []


def test_what_changes_in_time_ties_a_run_to_its_length() -> None:
    for word in (
        *("evolve.epsilon_start=9", "evolve.density_start=0.9", "evolve.until=0.9", "train.schedule=step"),
        "method.removal=soft",
    ):
        assert tied_to_length(from_mapping(compose_mapping("epsilon=5", word)), 50) == [word]
    moved = from_mapping(compose_mapping("data.augment.flip=true", "data.augment.until=0.9"))
    assert tied_to_length(moved, 50) == ["data.augment.until=0.9"]
    assert tied_to_length(from_mapping(compose_mapping("train.ema=0.9", "evolve.every_steps=3")), 50) == []


def test_a_shorter_run_that_is_not_whole_is_refused(three: Path, tmp_path: Path) -> None:
    def copied(name: str) -> tuple[Config, Path]:
        root = tmp_path / name
        shutil.copytree(three.parent.parent.parent, root)
        mapping = compose_mapping("progress=none", ONE_THREAD, *TINY, *MODELS["mlp"], "train.epochs=5", EXTEND)
        return from_mapping({**mapping, "runs_dir": str(root)}), root / three.relative_to(three.parent.parent.parent)

    config, path = copied("without")
    (path / "checkpoint.prev.npz").unlink()
    with pytest.raises(DataError, match=r"checkpoint.prev.npz: missing; resume=extend needs it"):
        train(config)
    config, path = copied("swapped")
    shutil.copy(path / "checkpoint.npz", path / "checkpoint.prev.npz")
    with pytest.raises(DataError, match=r"expected a checkpoint before epoch 3, found one after it"):
        train(config)
    config, path = copied("altered")
    (path / "metrics.jsonl").write_bytes((path / "metrics.jsonl").read_bytes().replace(b"2", b"3", 1))
    with pytest.raises(DataError, match="altered after the run"):
        train(config)
    config, path = copied("unsound")
    (path / "topology/epoch_0001.npz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"epoch_0001\.npz: damaged"):
        train(config)


def test_a_command_says_what_it_extends(three: Path, set_train: Command) -> None:
    root = three.parent.parent.parent
    words = (f"runs_dir={root}", ONE_THREAD, *(word for word in TINY if "epochs" not in word), *MODELS["mlp"], EXTEND)
    dry = set_train("--dry-run", "-m", *words, "train.epochs=5", "seed=0,1")
    assert "1 extend, 1 fail" in dry.stdout
    assert not (root / "digits/mlp" / locate(asking(three, "train.epochs=5"))[0].name).exists()


# A key of these sections is here once it is known whether the first epochs of a run depend on train.epochs by it.
FREE = {
    *("train.adam_eps", "train.batch_size", "train.betas", "train.bias_correction", "train.clip", "train.epochs"),
    *("train.l1", "train.lr", "train.momentum", "train.nesterov", "train.optimizer", "train.patience", "train.warmup"),
    *("train.weight_decay", "train.ema", "train.label_smoothing", "train.class_weights"),
    *("evolve.every", "evolve.every_steps"),
    *(f"data.augment.{name}" for name in ("flip", "rotation", "shift", "crop", "cutout", "mixup")),
}
TIED = {
    *("train.schedule", "evolve.schedule", "evolve.until", "evolve.epsilon_start", "evolve.density_start"),
    "data.augment.until",
}
OF_TIED = {  # nothing without one of those
    *("train.lr_end", "train.lr_factor", "train.lr_steps"),
    *("evolve.final", "evolve.epsilon_schedule", "evolve.epsilon_until"),
}


def test_every_key_is_known_to_depend_on_the_length_or_not() -> None:
    assert {
        key for key in known_keys() if key.startswith(("train.", "evolve.", "data.augment."))
    } == FREE | TIED | OF_TIED
