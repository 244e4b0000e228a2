"""What is here of each data set: is it whole, is it intact, is it the publisher's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from set_cli.data.card import Card, Form, SourceFile
from set_cli.data.files import Origin, find, pin_of, read_archive
from set_cli.data.parse import SPLITS, Parts
from set_cli.data.pins import Pin, read_pins
from set_cli.data.readers.higgs import conversion_folder, read_converted
from set_cli.data.sources import missing_files, verify_file
from set_cli.errors import DataError
from set_cli.system.progress import no_bar

Status = Literal["verified", "imported", "partial", "missing", "damaged", "bundled"]


@dataclass(frozen=True, slots=True)
class State:
    """How a data set stands; form is the one that is here, or would be fetched; problems are sentences."""

    status: Status
    form: Form | None
    files: tuple[Path, ...]
    problems: tuple[str, ...] = ()


def inspect(card: Card, data_dir: Path) -> State:
    """Look for a data set's files and compare their checksums; nothing is parsed."""
    if card.bundled:
        return State("bundled", None, ())
    folder = data_dir / card.folder
    form = form_at_hand(card, folder)
    if form.archive is not None and (path := find(folder, form.archive)) is not None:
        return _of_archive(form, path)
    try:
        pins = read_pins(folder)
    except DataError as error:
        return State("damaged", form, (), (str(error),))
    origins, altered = _compare(card, form, folder, pins)
    problems = list(altered.values())
    # Another form that is here may be the one that a model with labels reads.
    problems += [
        p for other in card.forms if other is not form for p in _compare(card, other, folder, pins)[1].values()
    ]
    found = {file: find(folder, file) for file in form.files}
    files = tuple(path or folder / file.name for file, path in found.items())
    if form.format == "higgs" and not any(found.values()):
        problems += _conversion_problems(form, folder)
    if problems:
        return State("damaged", form, files, tuple(problems))
    return State(_word(card, form, folder, origins), form, files)


def form_at_hand(card: Card, folder: Path) -> Form:
    """The form that one could train from, else one that is there in part, else the first."""
    missing = {form: len(missing_files(card, form, folder, with_test=True)) for form in card.forms}
    whole = [form for form in card.forms if not missing[form]]
    trainable = [form for form in card.forms if not missing_files(card, form, folder, with_test=False)]
    partial = [form for form in card.forms if missing[form] < len(form.files)]
    return (whole or trainable or partial or list(card.forms))[0]


def _compare(
    card: Card, form: Form, folder: Path, pins: Mapping[str, Pin]
) -> tuple[set[Origin], dict[SourceFile, str]]:
    """Whose files of a form are here, and the sentences about those that are altered."""
    origins: set[Origin] = set()
    altered = {}
    for file in form.files:
        path = find(folder, file)
        try:
            if path is not None:
                origins.add(verify_file(card, form, file, path, pin_of(pins, folder, path)))
        except DataError as error:
            altered[file] = str(error)
    return origins, altered


def still_missing(card: Card, data_dir: Path, form: Form | None) -> str:
    """The names of a form's files that are not here; empty where all are."""
    if form is None:
        return ""
    return ", ".join(file.name for file in missing_files(card, form, data_dir / card.folder, with_test=True))


def damaged_files(card: Card, form: Form, data_dir: Path) -> list[SourceFile]:
    """The files of a form, its archive among them, that are here with another checksum than they should have."""
    folder = data_dir / card.folder
    if form.archive is not None and (path := find(folder, form.archive)) is not None:
        return [] if _of_archive(form, path).status == "verified" else [form.archive]
    return list(_compare(card, form, folder, read_pins(folder))[1])


def _of_archive(form: Form, path: Path) -> State:
    try:
        read_archive(path, form, form.files)
    except DataError as error:
        return State("damaged", form, (path,), (str(error),))
    return State("verified", form, (path,))


def _conversion_problems(form: Form, folder: Path) -> list[str]:
    """What is wrong with HIGGS' conversion, which is enough without the text."""
    packed = form.files[0].packed
    assert packed is not None
    target = conversion_folder(folder, packed.value)
    try:
        if target.is_dir():
            read_converted(target, no_bar)
    except DataError as error:
        return [str(error)]
    return []


def _word(card: Card, form: Form, folder: Path, origins: set[Origin]) -> Status:
    if missing_files(card, form, folder, with_test=False):
        return "missing"
    if missing_files(card, form, folder, with_test=True):
        return "partial"
    return "imported" if "imported" in origins else "verified"


def describe_rows(parts: Parts) -> str:
    """Sizes, range and mean of the values, and class balance, in words."""
    train = parts["train"]
    sizes = " / ".join(f"{len(parts[split]):,}" for split in SPLITS)
    text = (
        f"{sizes} rows of {train.x.shape[1]:,}, values {train.x.min():g} to {train.x.max():g}, mean {mean(parts):.4f}"
    )
    if train.y is not None:
        fewest, most = balance(parts)
        text += f", {len(np.unique(train.y))} classes of {fewest:,} to {most:,} training rows"
    return text


def departures(card: Card, parts: Parts) -> list[str]:
    """Sentences about rows that are not what the card says."""
    found = []
    for split, expected in zip(SPLITS, (card.train, card.valid, card.test), strict=True):
        if len(parts[split]) != expected:
            found.append(f"{len(parts[split]):,} {split} rows, the published set has {expected:,}")
    # The fourth digit of the card's mean, or what another order of a few rows makes.
    if card.mean is not None and abs(mean(parts) - card.mean) > 0.001 * card.maximum:
        found.append(f"mean {mean(parts):.4f} of the training rows, the card says {card.mean:.4f}")
    if card.per_class is not None and parts["train"].y is not None and balance(parts) != card.per_class:
        found.append(f"{balance(parts)} rows in the smallest and largest class, the card says {card.per_class}")
    return found


def mean(parts: Parts) -> float:
    """Mean of the training rows' values."""
    return float(parts["train"].x.mean(dtype=np.float64))


def balance(parts: Parts) -> tuple[int, int]:
    """Training rows in the smallest and in the largest class."""
    counts = np.bincount(parts["train"].labels)
    counts = counts[counts > 0]
    return int(counts.min()), int(counts.max())
