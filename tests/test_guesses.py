"""What a name that is no configuration key may have meant."""

from __future__ import annotations

import pytest

from set_cli.config import known_keys
from set_cli.config.guesses import MEANT, OPTIONS, WORDS, did_you_mean, meaning, not_a_key, option_meant

KEYS = known_keys()
GROUPS = {key.partition(".")[0] for key in KEYS}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", ["train.lr"]),
        ("optim.lr", ["train.lr"]),
        ("model.lr", ["train.lr"]),
        ("hidden", ["model.hidden"]),
        ("clip", ["train.clip", "data.clip"]),
        ("weight-decay", ["train.weight_decay"]),
        ("learning_rate", ["train.lr"]),
        ("Learning-Rate", ["train.lr"]),
        ("training.num_epochs", ["train.epochs"]),
        ("connectivity", ["epsilon"]),
        ("ε", ["epsilon"]),
        ("dropout", ["model.dropout"]),
        ("epsilom", ["epsilon"]),
        ("EPSILON", ["epsilon"]),
        ("train.epoch", ["train.epochs"]),
        ("momentun", ["train.momentum"]),
        ("modle", ["model"]),
        ("qqq", []),
        ("train.qqq", []),
        ("foo.bar", []),
    ],
)
def test_a_name_means_the_same_last_part_then_a_word_of_the_field_then_a_slip(name: str, meant: list[str]) -> None:
    assert meaning(name, KEYS) == meant


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lr", "lr is not a configuration key; did you mean train.lr? (set-train --help lists them)"),
        (
            "clip",
            "clip is not a configuration key; did you mean train.clip or data.clip? (set-train --help lists them)",
        ),
        ("qqq", "qqq is not a configuration key (set-train --help lists them)"),
        (
            "train.adamw",
            "train.adamw is not a configuration key; train.optimizer=sgd, adam and adamw are the optimisers",
        ),
        ("gpu", "gpu is not a configuration key; backend=cuda computes on a GPU, backend=cpu on the CPU"),
    ],
)
def test_the_sentence_says_the_key_or_what_there_is(name: str, sentence: str) -> None:
    assert not_a_key(name, KEYS) == sentence


def test_every_word_means_a_key_a_group_or_a_sentence() -> None:
    for meant in WORDS:
        assert meant in KEYS or meant in GROUPS or " " in meant, meant
    words = [word for listed in WORDS.values() for word in listed.split()]
    assert len(words) == len(set(words)), "a word with two meanings"
    assert not MEANT.keys() & {key.rpartition(".")[2] for key in KEYS} - {"name", "dir", "path"}, "a key needs no word"


@pytest.mark.parametrize(
    ("group", "name", "meant"),
    [
        ("model", "lenet", "cnn"),
        ("model", "mpl", "mlp"),
        ("dataset", "MNIST", "mnist"),
        ("dataset", "cifar-10", "cifar10"),
        ("backend", "gpu", "cuda"),
        ("method", "static", "fixprob"),
    ],
)
def test_an_options_name_is_guessed(group: str, name: str, meant: str) -> None:
    known = {
        "model": ["cnn", "mlp", "rbm"],
        "dataset": ["mnist", "cifar10"],
        "backend": ["auto", "cpu", "cuda"],
        "method": ["set", "fixprob", "dense"],
    }[group]
    assert option_meant(group, name, known) == f"; did you mean {meant}?"
    assert all(option in (*known, "custom", "fashion_mnist") for option in OPTIONS[group].values())


def test_did_you_mean_is_silent_about_far_names() -> None:
    assert did_you_mean("epsilno", KEYS) == "; did you mean epsilon?"
    assert did_you_mean("qqq", KEYS) == ""
