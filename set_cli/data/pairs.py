"""Before a run begins: whether data set and model go together, and which file of the user's own it would read."""

from __future__ import annotations

import hashlib
import json

from set_cli.config import Config
from set_cli.data.custom import check_path
from set_cli.data.entries import CATALOG
from set_cli.data.files import data_folder, find, pin_of
from set_cli.data.pins import read_pins
from set_cli.data.prepare import needs_labels
from set_cli.data.sources import choose_form
from set_cli.errors import ConfigError, DataError, NotApplicable
from set_cli.storage import sha256


def check_pair(config: Config) -> None:
    """NotApplicable, in one sentence that says what to use, where the data cannot train the model.

    ConfigError where a setting of the data does not suit the model.
    """
    name, model = config.dataset.name, config.model.name
    if name in CATALOG and CATALOG[name].kind == "real" and not needs_labels(model):
        raise NotApplicable(f"{name} has real values, which model={model} cannot take as probabilities; use model=mlp")
    if model == "rbm" and config.data.scaling != "unit":
        raise ConfigError("data.scaling: expected unit for model=rbm, whose visible units are probabilities")
    if name == "custom":
        if config.dataset.path is None:
            raise NotApplicable("dataset=custom needs dataset.path=file.npz (or .csv, .mat, .svmlight)")
        check_path(config.dataset.path)
        return
    card = CATALOG[name]
    if needs_labels(model) and not card.bundled:
        with_test, may_fetch = config.data.holdout == 0, config.data.fetch == "auto"
        choose_form(card, data_folder(config.data.dir), labels=True, with_test=with_test, may_fetch=may_fetch)


def with_checksum(config: Config) -> Config:
    """The configuration with the checksum of the user's own file, custom or imported; without one, as it was.

    Other data makes another run. DataError where a custom file is missing, or is not the one of a checksum given.
    """
    dataset = config.dataset
    found = sha256(check_path(dataset.path)) if dataset.path is not None else _imported(config)
    if dataset.checksum is not None and found != dataset.checksum:
        raise DataError(
            f"{dataset.path or dataset.name}: sha256 is {str(found)[:12]}…, dataset.checksum expects "
            f"{dataset.checksum[:12]}…"
        )
    return config.model_copy(update={"dataset": dataset.model_copy(update={"checksum": found})})


def _imported(config: Config) -> str | None:
    """One checksum for the imported files that a run would read; None where it would read none."""
    card = CATALOG[config.dataset.name]
    data_dir = data_folder(config.data.dir)
    pins = read_pins(data_dir / card.folder)
    if not pins:
        return None
    with_test = config.data.holdout == 0
    labels, may_fetch = needs_labels(config.model.name), config.data.fetch == "auto"
    form = choose_form(card, data_dir, labels=labels, with_test=with_test, may_fetch=may_fetch)
    folder = data_dir / card.folder
    paths = {file.name: find(folder, file) for file in form.needed(with_test=with_test)}
    used = {name: pin_of(pins, folder, path) for name, path in paths.items() if path is not None}
    sums = {name: pin.sha256 for name, pin in sorted(used.items()) if pin is not None}
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest() if sums else None
