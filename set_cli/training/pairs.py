"""Checks before a run starts: whether data set and model go together, and which file of the user's own it reads."""

from __future__ import annotations

from pathlib import Path

from set_cli.config import MODELS, Config
from set_cli.data.card import Card, Form
from set_cli.data.catalog import CATALOG
from set_cli.data.custom import check_path
from set_cli.data.files import data_folder
from set_cli.data.sources import choose_form, identify, uses_imports
from set_cli.errors import ConfigError, DataError, NotApplicable
from set_cli.system.files import sha256


def check_pair(config: Config) -> None:
    """NotApplicable, in one sentence that says what to use, where the data cannot train the model.

    ConfigError where a setting of the data does not suit the model.
    """
    name, model = config.dataset.name, config.model
    if not model.facts.needs_labels:
        _check_unlabelled(config)
    if name in CATALOG:
        check_card(config, CATALOG[name])
    if model.facts.needs_probabilities:
        _check_probabilities(config)
    if name == "custom":
        if config.dataset.path is None:
            raise NotApplicable("dataset=custom needs dataset.path=file.npz (or .csv, .mat, .svmlight)")
        check_path(config.dataset.path)
        _check_test_path(config)
        return
    card = CATALOG[name]
    if model.facts.needs_labels and not card.bundled:
        _form(config)


def check_card(config: Config, card: Card) -> None:
    """NotApplicable where data like this cannot train the model; ConfigError for weights of other classes."""
    model = config.model
    if model.facts.needs_probabilities and card.kind == "real":
        if card.name != "custom":
            raise NotApplicable(
                f"{card.name} has real values, which model={model.name} cannot take as probabilities; use model=mlp"
            )
        raise NotApplicable(
            f"{card.title} has values outside 0 to 1, which model={model.name} cannot take as probabilities: scale "
            "each column to 0 to 1 in the file (scikit-learn's MinMaxScaler), or use model=mlp"
        )
    if model.facts.needs_images and card.shape is None:
        raise NotApplicable(no_images(card))
    _check_class_weights(config, card)


def _check_probabilities(config: Config) -> None:
    """ConfigError for settings under which inputs are no probabilities, or are not taken as they are."""
    name = config.model.name
    others = " and ".join(other for other, facts in MODELS.items() if not facts.needs_probabilities)
    if config.data.scaling != "unit":
        raise ConfigError(f"data.scaling: expected unit for model={name}, whose visible units are probabilities")
    if config.backend.precision != "float32":
        raise ConfigError(f"backend.precision: expected float32 for model={name}; bfloat16 is for model={others}")
    if config.data.augment.is_on:
        raise ConfigError(
            f"data.augment changes the rows of model={others}; model={name} is trained on them as they are"
        )
    if config.train.ema is not None:
        raise ConfigError(f"train.ema is for model={others}; the log-probability of averages would take as long again")


def _check_class_weights(config: Config, card: Card) -> None:
    """ConfigError where the weights are not those of this data's classes."""
    weights = config.train.class_weights
    if weights is None or weights == "balanced" or len(weights) == card.classes:
        return
    name = card.title if card.name == "custom" else card.name
    raise ConfigError(
        f"train.class_weights: expected {card.classes} numbers, one for each class of {name}, found {len(weights)}"
    )


def _check_unlabelled(config: Config) -> None:
    """ConfigError for settings of labels, which the model does not look at."""
    name, train = config.model.name, config.train
    others = " and ".join(f"model={other}" for other, facts in MODELS.items() if facts.needs_labels)
    for key, is_set in {"label_smoothing": train.label_smoothing, "class_weights": train.class_weights}.items():
        if is_set:
            raise ConfigError(f"train.{key} is for {others}; model={name} is trained without labels")


def _check_test_path(config: Config) -> None:
    """ConfigError where the second file cannot be the test rows."""
    dataset = config.dataset
    if dataset.test_path is None:
        if dataset.test_checksum is not None:
            raise ConfigError("dataset.test_checksum is the checksum of dataset.test_path, which is not given")
        return
    check_path(dataset.test_path, "dataset.test_path")
    if config.data.holdout:
        raise ConfigError(
            f"dataset.test_path={dataset.test_path} holds the test rows, and data.holdout={config.data.holdout} takes "
            f"them from the training rows: expected one of the two"
        )


def no_images(card: Card) -> str:
    """Why a CNN cannot be trained on this data, and what to use."""
    other = "mlp" if card.classes else "rbm"
    hint = " (or give its file the array `shape`)" if card.name == "custom" else ""
    return f"{card.name} has no images, which model=cnn needs; use model={other}{hint}"


def with_checksum(config: Config) -> Config:
    """The configuration with the checksums of custom files, or of files that are not the ones anybody would fetch.

    Other data makes another run. DataError where a custom file is missing, or is not the one of a checksum given.
    """
    dataset = config.dataset
    found = sha256(check_path(dataset.path)) if dataset.path is not None else _identify(config)
    _compare(dataset.path or dataset.name, found, dataset.checksum, "dataset.checksum")
    update: dict[str, str | None] = {"checksum": found}
    if dataset.test_path is not None:
        update["test_checksum"] = sha256(check_path(dataset.test_path, "dataset.test_path"))
        _compare(dataset.test_path, update["test_checksum"], dataset.test_checksum, "dataset.test_checksum")
    return config.model_copy(update={"dataset": dataset.model_copy(update=update)})


def _compare(what: str, found: str | None, expected: str | None, key: str) -> None:
    if expected is not None and found != expected:
        is_now = (
            f"sha256 is {found[:12]}…" if found else "the files are the publisher's, without a checksum of their own"
        )
        raise DataError(f"{what}: {is_now}, {key} expects {expected[:12]}…")


def data_label(config: Config) -> str:
    """What a table calls data with a checksum of its own: the custom file's name, 'imported', or the format."""
    if config.dataset.path is not None:
        return Path(config.dataset.path).name
    card, form = CATALOG[config.dataset.name], _form(config)
    with_test = config.data.holdout == 0
    return "imported" if uses_imports(form, data_folder(config.data.dir) / card.folder, with_test) else form.format


def _form(config: Config) -> Form:
    card = CATALOG[config.dataset.name]
    with_test, may_fetch = config.data.holdout == 0, config.data.fetch == "auto"
    labels = config.model.facts.needs_labels
    return choose_form(card, data_folder(config.data.dir), labels=labels, with_test=with_test, may_fetch=may_fetch)


def _identify(config: Config) -> str | None:
    """The identity of the files that a run would read; None where they are what anybody's run would fetch."""
    card = CATALOG[config.dataset.name]
    if card.bundled:
        return None
    data_dir, labels = data_folder(config.data.dir), config.model.facts.needs_labels
    return identify(card, _form(config), data_dir, labels=labels, with_test=config.data.holdout == 0)
