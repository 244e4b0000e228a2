"""From files to the arrays a run trains and tests on: split, limit, fill, binarise, scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from set_cli.config import Data as DataConfig
from set_cli.config import Dataset
from set_cli.data.answers import check_answers
from set_cli.data.augment import check_images
from set_cli.data.bundled import bundled_digits
from set_cli.data.card import Card
from set_cli.data.catalog import CATALOG
from set_cli.data.classes import check_groups, check_measured, check_parts, count_classes
from set_cli.data.custom import custom_checksums, read_custom
from set_cli.data.doubts import check_bytes, check_columns, check_constant, check_scales
from set_cli.data.fetch import fetch
from set_cli.data.files import data_folder
from set_cli.data.kinship import check_repeats, check_unused_groups
from set_cli.data.missing import fill_sentence, fill_values, filled
from set_cli.data.parse import Parts
from set_cli.data.parts import Part
from set_cli.data.scaling import CHUNK, Scaling, fit_scaling, mean_of
from set_cli.data.sources import Source, choose_form, identity_of, missing_files, missing_sentence, read_source
from set_cli.data.split import choose_rows
from set_cli.errors import DataError
from set_cli.system.progress import Bar, no_bar

BINARIZE_SEED = 2383  # of the draws that make MNIST binary, the same for every run


@dataclass(frozen=True, slots=True, eq=False)
class DataSet:
    """What one run sees.

    card       of the data set as it came; a custom one's is made from the file
    train, valid, test  without missing values
    scaling    how the network gets the rows
    tested_on  'test', or 'holdout' where training rows were held out instead
    checksums  by file: what was read
    origin     'verified', 'imported' where a file is the user's own, 'bundled' or 'custom'
    notes      sentences about what was done to the rows
    doubts     sentences about why figures may mislead
    """

    card: Card
    train: Part
    valid: Part | None
    test: Part
    scaling: Scaling
    tested_on: str
    checksums: dict[str, str]
    origin: Literal["verified", "imported", "bundled", "custom"]
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


def load_data(
    dataset: Dataset,
    data: DataConfig,
    *,
    labels: bool = True,
    check: Callable[[Card], None] = lambda card: None,
    bar: Bar = no_bar,
    say: Callable[[str], None] = lambda line: None,
) -> DataSet:
    """The data set, fetched where it is missing, verified, split and ready to be scaled.

    labels    whether rows without labels are of no use
    check     may refuse the data as soon as it is known what it is
    bar, say  show what takes long
    DataError where a file is missing or altered; ConfigError where the split asks for more rows than there are, or the
    check raises.
    """
    card, parts, checksums, origin = _read(dataset, data, labels, bar, say)
    check(card)
    if dataset.binarize is not None:  # before the split: a row's draws do not depend on which part it becomes
        parts = {split: binarize(part, dataset.binarize, i) for i, (split, part) in enumerate(parts.items())}
    whole: dict[str, Part] = {split: part for split, part in parts.items() if len(part)}
    own, name = origin == "custom", str(dataset.path) if origin == "custom" else dataset.name
    doubts = check_measured(card, name, [part.labels for part in whole.values()]) if own and labels else []
    chosen = choose_rows(dataset.name, data, parts, labels=labels)
    check_images(data.augment, dataset.name, card.shape)
    used = {"train": chosen.train, "valid": chosen.valid, "test": chosen.test}
    used = {name: part for name, part in used.items() if len(part)}
    if labels:
        by_class = data.holdout if data.split == "stratified" else 0
        doubts += check_parts(card, name, count_classes(card, used), _hint(data), own=own, drawn=by_class)
    notes, fill = [*chosen.notes], None
    if own and data.missing != "refuse":
        fill = fill_values(card, chosen.train, data.missing)
        notes += fill_sentence(card, list(used.values()), data.missing)
        used = {split: filled(part, fill) for split, part in used.items()}
    scaling, far_out = fit_scaling(card, used["train"], data, fill)
    if own:
        notes = [*card.notes, *notes, *check_constant(card, name, scaling)]
        as_seen = whole if labels else _unlabelled(whole)
        doubts += [*check_columns(card, name, as_seen), *check_answers(card, as_seen["train"], dataset.label)]
        doubts += [*check_groups(used), *check_unused_groups(card, whole["train"]), *check_repeats(card, used)]
        doubts += [*check_scales(card, used), *check_bytes(card, used, data.scaling)]
    return DataSet(
        card,
        used["train"],
        used.get("valid"),
        used["test"],
        scaling,
        "holdout" if data.holdout else "test",
        checksums,
        origin,
        (*notes, *far_out),
        tuple(doubts),
    )


def _hint(data: DataConfig) -> str:
    """What to do where a part lacks classes, as the end of a sentence."""
    limited = data.train_limit is not None or data.test_limit is not None
    if data.split != "stratified" and (data.holdout or data.valid or limited):
        return "; data.split=stratified draws rows of every class"
    return f"; data.train_limit={data.train_limit} leaves few rows" if data.train_limit is not None else ""


def _unlabelled(parts: Mapping[str, Part]) -> dict[str, Part]:
    """The parts for a model that does not look at labels."""
    return {split: replace(part, y=None) for split, part in parts.items()}


def _read(
    dataset: Dataset, data: DataConfig, labels: bool, bar: Bar, say: Callable[[str], None]
) -> tuple[Card, Parts, dict[str, str], Literal["verified", "imported", "bundled", "custom"]]:
    """Card, rows, checksums and origin of the data set, in the source's order (no test rows without the test files)."""
    if dataset.name == "custom":
        card, parts = read_custom(dataset, missing=data.missing, labels=labels)
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


def binarize(part: Part, how: Literal["sample", "threshold"], stream: int) -> Part:
    """Bytes as 0 and 1: drawn once with their value as the probability, or 1 from 128 on."""
    if how == "threshold":
        return replace(part, x=(part.x >= 128).astype(np.uint8))
    rng = np.random.default_rng([BINARIZE_SEED, stream])
    chunks = [part.x[i : i + CHUNK] for i in range(0, len(part), CHUNK)]
    drawn = [(rng.random(chunk.shape, dtype=np.float32) * 255 < chunk).astype(np.uint8) for chunk in chunks]
    return replace(part, x=np.concatenate(drawn) if drawn else part.x)


def training_mean(data: DataSet) -> NDArray[np.float32]:
    """(features,) mean of the training rows as the network gets them."""
    scaling, mean = data.scaling, mean_of(data.train)
    if data.train.x.dtype == np.float64:
        return ((mean - scaling.offset) * scaling.scale).astype(np.float32)
    offset, scale = scaling.offset.astype(np.float32), scaling.scale.astype(np.float32)
    scaled: NDArray[np.float32] = ((mean - offset) * scale).astype(np.float32)
    return scaled
