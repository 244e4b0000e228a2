"""From files to the arrays a run trains and tests on: split, limit, binarise, scale."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Data as DataConfig
from set_cli.config import Dataset
from set_cli.data.catalog import Card
from set_cli.data.custom import custom_checksums, read_custom
from set_cli.data.entries import CATALOG
from set_cli.data.fetch import fetch
from set_cli.data.files import data_folder
from set_cli.data.parse import Parts
from set_cli.data.parts import Part, no_rows
from set_cli.data.scaling import Scaling
from set_cli.data.sources import Source, choose_form, identity_of, missing_files, missing_sentence, read_source
from set_cli.errors import ConfigError, DataError, NotApplicable
from set_cli.progress import Bar, no_bar

CHUNK = 4096  # rows turned to float64 at a time
BINARIZE_SEED = 2383  # of the draws that make MNIST binary, the same for every run
UNLABELLED = ("rbm",)  # the models that need no labels


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """What one run sees.

    card       of the data set as it came; a custom one's is made from the file
    scaling    how the network gets the rows
    tested_on  'test', or 'holdout' where training rows were held out instead
    checksums  by file: what was read
    origin     'verified', 'imported' where a file is the user's own, 'bundled' or 'custom'
    """

    card: Card
    train: Part
    valid: Part | None
    test: Part
    scaling: Scaling
    tested_on: str
    checksums: dict[str, str]
    origin: Literal["verified", "imported", "bundled", "custom"]


def needs_labels(model: str) -> bool:
    """Whether a model learns from labels."""
    return model not in UNLABELLED


def load_data(
    dataset: Dataset,
    data: DataConfig,
    *,
    labels: bool = True,
    bar: Bar = no_bar,
    say: Callable[[str], None] = lambda line: None,
) -> DataSet:
    """The data set, fetched where it is missing, verified, split and ready to be scaled.

    labels    whether rows without labels are of no use
    bar, say  show what takes long
    DataError where a file is missing or altered; ConfigError where the split asks for more rows than there are, or the
    data does not suit the model (NotApplicable).
    """
    card, parts, checksums, origin = _read(dataset, data, labels, bar, say)
    if dataset.binarize is not None:  # before the split: a row's draws do not depend on which part it becomes
        parts = {split: binarize(part, dataset.binarize, i) for i, (split, part) in enumerate(parts.items())}
    train, valid, test = _split(dataset.name, data, parts)
    if data.augment.is_on and card.shape is None:
        raise ConfigError(f"data.augment needs images; {dataset.name} has none")
    train, test = train[: data.train_limit], test[: data.test_limit]
    scaling = _scaling(card, train, data)
    tested_on = "holdout" if data.holdout else "test"
    return DataSet(card, train, valid if len(valid) else None, test, scaling, tested_on, checksums, origin)


def _read(
    dataset: Dataset, data: DataConfig, labels: bool, bar: Bar, say: Callable[[str], None]
) -> tuple[Card, Parts, dict[str, str], Literal["verified", "imported", "bundled", "custom"]]:
    """Card, rows, checksums and origin of the data set, in the source's order (no test rows without the test files)."""
    if dataset.name == "custom":
        card, parts = read_custom(dataset, missing=data.missing, labels=labels)
        if not labels and card.kind == "real":
            raise NotApplicable(
                f"{dataset.path} has values outside 0 to 1, which model=rbm cannot take as probabilities"
            )
        return card, parts, custom_checksums(dataset), "custom"
    card = CATALOG[dataset.name]
    if card.bundled:
        parts, digest = bundled_digits()
        return card, parts, {"sklearn.datasets.load_digits": f"sha256:{digest}"}, "bundled"
    with_test = data.holdout == 0
    source, identity = obtain(card, data_folder(data.dir), labels, with_test, data.fetch == "auto", bar, say)
    if identity != dataset.checksum:
        raise DataError(f"{dataset.name}: other files than when the command started, or not pinned; run it again")
    return card, source.parts, source.checksums, source.origin


def obtain(
    card: Card, data_dir: Path, labels: bool, with_test: bool, may_fetch: bool, bar: Bar, say: Callable[[str], None]
) -> tuple[Source, str | None]:
    """Rows of a data set of the catalogue, fetched first where that is allowed, and what `identify` says of them."""
    form = choose_form(card, data_dir, labels=labels, with_test=with_test, may_fetch=may_fetch)
    missing = missing_files(card, form, data_dir / card.folder, with_test=with_test)
    if missing:
        if not may_fetch or not form.can_be_fetched:
            why = (
                "data.fetch=never forbids to fetch it" if form.can_be_fetched else "no checksum to fetch it by is known"
            )
            raise DataError(missing_sentence(card, form, data_dir, missing, why))
        fetch(card, form, data_dir, with_test=with_test, bar=bar, say=say)
    source = read_source(card, form, data_dir, with_test=with_test, bar=bar)
    return source, identity_of(card, form, source.checksums, source.origin == "imported", labels=labels)


def bundled_digits() -> tuple[Parts, str]:
    """The rows of scikit-learn's digits and their SHA-256."""
    from sklearn.datasets import load_digits  # nearly a second to import, for this set only

    bunch = load_digits()
    whole = Part(bunch.data.astype(np.uint8), bunch.target.astype(np.int64))
    assert whole.y is not None
    digest = hashlib.sha256(whole.x.tobytes() + whole.y.tobytes()).hexdigest()
    # Every fifth row is a test row: upstream has no split, and a cut at the end would test on other writers.
    tested = np.arange(len(whole)) % 5 == 4
    return {"train": whole[~tested], "valid": no_rows(64, labels=True), "test": whole[tested]}, digest


def check_split(name: str, data: DataConfig, train: int, valid: int) -> int:
    """How many of so many training rows become validation rows; ConfigError where the split asks for too many."""
    cut = 0 if valid else data.valid
    if data.holdout + cut >= train:
        raise ConfigError(
            f"data.holdout and data.valid: expected fewer than the {train} training rows of {name} together, "
            f"found {data.holdout + cut}"
        )
    if data.valid > valid > 0:
        raise ConfigError(f"data.valid: expected at most the {valid} validation rows of {name}, found {data.valid}")
    return cut


def _split(name: str, data: DataConfig, parts: Parts) -> tuple[Part, Part, Part]:
    """Training, validation and test rows: held out and cut as the configuration says."""
    train, valid, test = parts["train"], parts["valid"], parts["test"]
    cut = check_split(name, data, len(train), len(valid))
    if data.holdout:
        train, test = train[: -data.holdout], train[-data.holdout :]
    if cut:
        train, valid = train[:-cut], train[-cut:]
    if not len(test):
        raise DataError(f"{name}: the files have no test rows; data.holdout=N tests on the last N training rows")
    return train, valid[: data.valid], test


def binarize(part: Part, how: Literal["sample", "threshold"], stream: int) -> Part:
    """Bytes as 0 and 1: drawn once with their value as the probability, or 1 from 128 on."""
    if how == "threshold":
        return replace(part, x=(part.x >= 128).astype(np.uint8))
    rng = np.random.default_rng([BINARIZE_SEED, stream])
    chunks = [part.x[i : i + CHUNK] for i in range(0, len(part), CHUNK)]
    drawn = [(rng.random(chunk.shape, dtype=np.float32) * 255 < chunk).astype(np.uint8) for chunk in chunks]
    return replace(part, x=np.concatenate(drawn) if drawn else part.x)


def _scaling(card: Card, train: Part, data: DataConfig) -> Scaling:
    """Offset and scale of every feature, from the training rows alone."""
    if data.scaling == "unit":
        return Scaling(*_unit_scaling(card, train), clip=data.clip)
    chunks = range(0, len(train), CHUNK)
    mean = _mean(train)
    variance = sum(((train.x[i : i + CHUNK] - mean) ** 2).sum(axis=0) for i in chunks) / len(train)
    # A constant feature carries nothing: it becomes 0 everywhere instead of a division by zero.
    scale = np.divide(1, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    return Scaling(mean, scale, clip=data.clip)


def _mean(part: Part) -> NDArray[np.float64]:
    """(features,) mean of the rows, a chunk at a time: a mapped file is never in memory as a whole."""
    total = np.zeros(part.x.shape[1])
    for i in range(0, len(part), CHUNK):
        total += part.x[i : i + CHUNK].sum(axis=0, dtype=np.float64)
    return total / len(part)


def training_mean(data: DataSet) -> NDArray[np.float32]:
    """(features,) mean of the training rows as the network gets them."""
    offset, scale = data.scaling.offset.astype(np.float32), data.scaling.scale.astype(np.float32)
    mean: NDArray[np.float32] = ((_mean(data.train) - offset) * scale).astype(np.float32)
    return mean


def _unit_scaling(card: Card, train: Part) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """To [0, 1]: by the largest value that is possible, or where there is none by what the training rows have."""
    if card.kind != "real":
        return np.zeros(card.features), np.full(card.features, 1 / card.maximum)
    low, high = train.x.min(axis=0).astype(np.float64), train.x.max(axis=0).astype(np.float64)
    scale = np.divide(1, high - low, out=np.zeros_like(low), where=high > low)
    return low, scale
