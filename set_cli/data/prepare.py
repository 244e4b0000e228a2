"""From files to the arrays a run trains and tests on: split, limit, scale."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Data as DataConfig
from set_cli.data.catalog import CATALOG, Card
from set_cli.data.files import data_folder, read_files
from set_cli.data.readers import read_cifar, read_idx
from set_cli.errors import ConfigError, DataError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
CHUNK = 4096  # rows turned to float64 at a time


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """x (rows, features) as the source stores them; y (rows,) class numbers from 0."""

    x: Pixels
    y: Labels

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, rows: slice | NDArray[np.bool_]) -> Part:
        return Part(self.x[rows], self.y[rows])


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """What one run sees.

    offset, scale  (features,) float32: the network gets (x - offset) * scale
    tested_on      'test', or 'holdout' where training rows were held out instead
    checksums      by file: what was read
    """

    card: Card
    train: Part
    valid: Part | None
    test: Part
    offset: NDArray[np.float32]
    scale: NDArray[np.float32]
    tested_on: str
    checksums: dict[str, str]


def load_data(name: str, config: DataConfig) -> DataSet:
    """The data set, verified, split and ready to be scaled.

    DataError where a file is missing or altered; ConfigError where the split asks for more rows than there are.
    """
    card = CATALOG[name]
    train, test, checksums = _read(card, data_folder(config.dir), with_test=config.holdout == 0)
    _check_labels(card, train, test)
    held_out = config.holdout + config.valid
    if held_out >= len(train):
        raise ConfigError(
            f"data.holdout and data.valid: expected fewer than the {len(train)} training rows of {name} together, "
            f"found {held_out}"
        )
    if config.holdout:
        train, test = train[: -config.holdout], train[-config.holdout :]
    valid = None
    if config.valid:
        train, valid = train[: -config.valid], train[-config.valid :]
    train, test = train[: config.train_limit], test[: config.test_limit]
    offset, scale = _scaling(card, train, config.scaling)
    tested_on = "holdout" if config.holdout else "test"
    return DataSet(card, train, valid, test, offset, scale, tested_on, checksums)


def _read(card: Card, folder: Path, *, with_test: bool) -> tuple[Part, Part, dict[str, str]]:
    """Training and test rows in the source's order (no test rows without the test files)."""
    if card.bundled:
        from sklearn.datasets import load_digits  # nearly a second to import, for this set only

        bunch = load_digits()
        everything = Part(bunch.data.astype(np.uint8), bunch.target.astype(np.int64))
        digest = hashlib.sha256(everything.x.tobytes() + everything.y.tobytes()).hexdigest()
        # Every fifth row is a test row: upstream has no split, and a cut at the end would test on other writers.
        tested = np.arange(len(everything)) % 5 == 4
        return everything[~tested], everything[tested], {card.source: f"sha256:{digest}"}
    contents = read_files(card, folder, with_test=with_test)
    checksums = {file.name: f"{file.algorithm}:{file.digest}" for file in card.files if file.name in contents}
    parts = {}
    for role in ("train", "test"):
        names = [file.name for file in card.files if file.role == role and file.name in contents]
        parts[role] = _parse(card, {name: contents[name] for name in names})
    return parts["train"], parts["test"], checksums


def _parse(card: Card, contents: dict[str, bytes]) -> Part:
    if not contents:
        return Part(np.empty((0, card.features), np.uint8), np.empty(0, np.int64))
    if card.name == "cifar10":
        batches = [read_cifar(content, name) for name, content in contents.items()]
    else:
        images, labels = (read_idx(content, name) for name, content in contents.items())
        batches = [(images.reshape(len(images), -1), labels)]
    x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return Part(x, y.astype(np.int64))


def _check_labels(card: Card, *parts: Part) -> None:
    for part in parts:
        if len(part.x) != len(part.y) or part.x.shape[1] != card.features:
            raise DataError(
                f"{card.name}: expected one label per row of {card.features} features, found {len(part.y)} labels "
                f"and an array of shape {part.x.shape}"
            )
        if len(part) and part.y.max() >= card.classes:
            row = int(np.argmax(part.y >= card.classes))
            raise DataError(f"{card.name}: expected labels 0 to {card.classes - 1}, found {part.y[row]} in row {row}")


def _scaling(card: Card, train: Part, rule: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Offset and scale of every feature, from the training rows alone."""
    if rule == "unit":
        return np.zeros(card.features, np.float32), np.full(card.features, 1 / card.maximum, np.float32)
    chunks = range(0, len(train), CHUNK)
    mean = sum(train.x[i : i + CHUNK].sum(axis=0, dtype=np.float64) for i in chunks) / len(train)
    variance = sum(((train.x[i : i + CHUNK] - mean) ** 2).sum(axis=0) for i in chunks) / len(train)
    # A constant feature carries nothing: it becomes 0 everywhere instead of a division by zero.
    scale = np.divide(1, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
    return mean.astype(np.float32), scale.astype(np.float32)
