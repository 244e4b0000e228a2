"""Which of a data set's published forms to read, what of it is missing, and its rows once it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from set_cli.data.card import Card, Form, SourceFile
from set_cli.data.files import (
    Altered,
    Origin,
    advising,
    check_file,
    content_limit,
    find,
    pin_of,
    read_archive,
    read_file,
)
from set_cli.data.parse import Parts, check_part, parse
from set_cli.data.parts import Part, no_rows
from set_cli.data.pins import Pin, read_pins
from set_cli.data.readers.higgs import conversion_folder, convert, read_converted
from set_cli.errors import DataError, NotApplicable
from set_cli.system.files import locked, remove_folder, sha256
from set_cli.system.progress import Bar

LOCK = ".lock"  # held while files of a data set are fetched, converted or imported


@dataclass(frozen=True, slots=True)
class Source:
    """A data set's rows as they came.

    checksums  by file
    origin     'imported' where a file is the user's own
    """

    parts: Parts
    checksums: dict[str, str]
    origin: Origin


def choose_form(card: Card, data_dir: Path, *, labels: bool, with_test: bool, may_fetch: bool) -> Form:
    """The form to read: the first that is there whole, else one that is there in part, else one that can be fetched.

    NotApplicable where only forms without labels can be had and `labels` are needed.
    """
    folder = data_dir / card.folder
    usable = [form for form in card.forms if form.labels or not labels]
    for form in usable:
        if not missing_files(card, form, folder, with_test=with_test):
            return form
    partial = [f for f in usable if len(missing_files(card, f, folder, with_test=True)) < len(f.files)]
    obtainable = [form for form in usable if form.can_be_fetched]
    if may_fetch and obtainable:
        return next((form for form in partial if form in obtainable), obtainable[0])
    if labels and not partial and not obtainable:
        raise NotApplicable(_no_labels(card, usable))
    return (partial or obtainable or usable)[0]


def identify(card: Card, form: Form, data_dir: Path, *, labels: bool, with_test: bool) -> str | None:
    """One checksum for what a run would read, where that is not what anybody's run would fetch; else None.

    That is: files of the user's own, or another published form, which may have other rows.
    """
    folder = data_dir / card.folder
    return identity_of(card, form, *_expected(form, folder, read_pins(folder), with_test), labels=labels)


def uses_imports(form: Form, folder: Path, with_test: bool) -> bool:
    """Whether one of the files that a run would read is the user's own."""
    return _expected(form, folder, read_pins(folder), with_test)[1]


def _expected(form: Form, folder: Path, pins: Mapping[str, Pin], with_test: bool) -> tuple[dict[str, str], bool]:
    """The checksum by file that reading will insist on, and whether one of the files is imported."""
    if form.archive is not None and find(folder, form.archive) is not None:
        pins = {}
    used = {}
    for file in form.needed(with_test=with_test):
        path = find(folder, file)
        used[file] = None if path is None else pin_of(pins, folder, path)
    return {file.name: _checksum(file, pin) for file, pin in used.items()}, any(used.values())


def identity_of(card: Card, form: Form, checksums: Mapping[str, str], imported: bool, *, labels: bool) -> str | None:
    """Identity of files with these checksums; see `identify`."""
    usable = [f for f in card.forms if f.labels or not labels]
    if not imported and form == next((f for f in usable if f.can_be_fetched), None):
        return None
    return hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest()


def _no_labels(card: Card, labelled: list[Form]) -> str:
    sentence = f"{card.name} has no labels, which this model needs; use model=rbm"
    if not labelled:
        return sentence
    names = " ".join(file.name for file in labelled[0].files)
    return (
        f"{card.name}: the copies that can be fetched have no labels, which this model needs; use model=rbm, or take "
        f"the labelled files in with `set-data import {card.name} {names} --unverified`"
    )


def missing_files(card: Card, form: Form, folder: Path, *, with_test: bool) -> list[SourceFile]:
    """The files of a form that are not in the data set's folder; whatever lies under a file's name counts as there."""
    if form.archive is not None and find(folder, form.archive) is not None:
        return []
    missing = [file for file in form.needed(with_test=with_test) if find(folder, file) is None]
    if missing and form.format == "higgs" and _converted(form, folder) is not None:
        return []  # the text is not needed any more
    return missing


def _converted(form: Form, folder: Path) -> Path | None:
    """The conversion of the published HIGGS file, where there is one."""
    packed = form.files[0].packed
    target = conversion_folder(folder, packed.value) if packed else None
    return target if target is not None and target.is_dir() else None


def missing_sentence(card: Card, form: Form, data_dir: Path, missing: list[SourceFile], why: str) -> str:
    """What is missing, where it was looked for, why it was not fetched, and both ways to get it."""
    names = ", ".join(file.name for file in missing)
    packed = "" if names.endswith(".gz") else " (or .gz)"
    sentence = f"{card.name}: {names}{packed} not found in {(data_dir / card.folder).absolute()}"
    sentence += f" and {why}" if why else ""
    labels = " --labels" if form.labels and not card.forms[0].labels else ""
    fetch = f"run `set-data fetch {card.name}{labels}` where there is a network, or " if form.can_be_fetched else ""
    sentence += f"; {fetch}put your own copy in place with `set-data import {card.name} FILE…`, or say where the data "
    sentence += "sets are with data.dir=… or SET_DATA_DIR"
    if all(file.part == "test" for file in missing):
        sentence += "; data.holdout=N tests on the last N training rows and needs no test file"
    return sentence


def read_source(card: Card, form: Form, data_dir: Path, *, with_test: bool, bar: Bar) -> Source:
    """The rows of a form whose files are there, each checked by the catalogue or its import before it is parsed."""
    folder = data_dir / card.folder
    pins = read_pins(folder)
    checksums, imported = _expected(form, folder, pins, with_test)
    with advising(card):
        if form.format == "higgs":
            parts = _read_higgs(card, form, folder, pins, bar)
        else:
            parts = _read_files(card, form, folder, pins, with_test)
    return Source(parts, checksums, "imported" if imported else "verified")


def _read_files(card: Card, form: Form, folder: Path, pins: Mapping[str, Pin], with_test: bool) -> Parts:
    files = form.needed(with_test=with_test)
    if form.archive is not None and (archive := find(folder, form.archive)) is not None:
        return parse(card, form, read_archive(archive, form, files))
    content = {}
    for file in files:
        path = find(folder, file)
        if path is None:
            raise DataError(f"{card.name}: {file.name} is gone from {folder}; run the command again")
        content[file.name], _ = read_file(path, file, pin_of(pins, folder, path), content_limit(card))
    return parse(card, form, content)


def _checksum(file: SourceFile, pin: Pin | None) -> str:
    if pin is not None:
        return f"sha256:{pin.sha256}"
    digest = file.content or file.packed
    return f"{digest.algorithm}:{digest.value}" if digest else "not known"


def _read_higgs(card: Card, form: Form, folder: Path, pins: Mapping[str, Pin], bar: Bar) -> Parts:
    (file,) = form.files
    path = find(folder, file)
    pin = None if path is None else pin_of(pins, folder, path)
    assert file.packed is not None
    target = conversion_folder(folder, pin.sha256 if pin else file.packed.value)
    try:
        whole = read_converted(target, bar)
    except DataError:
        if path is None:
            raise
        with locked(folder / LOCK, lambda: None):
            whole = _convert(card, file, path, pin, target, bar)
    for part in (whole[:1], whole[-1:]):
        check_part(card, part, card.name)
    nothing = no_rows(card.features, labels=True)
    is_whole = len(whole) == card.rows
    return {
        "train": whole[: card.train] if is_whole else whole,
        "valid": nothing,
        "test": whole[card.train :] if is_whole else nothing,
    }


def _convert(card: Card, file: SourceFile, path: Path, pin: Pin | None, target: Path, bar: Bar) -> Part:
    """Make a conversion that is missing or damaged, unless another process did while the lock was waited for."""
    try:
        return read_converted(target, bar)
    except DataError:
        remove_folder(target)
    verify_higgs(path, file, pin)
    convert(path, f"{card.name}/{path.name}", card.features, target, bar)
    return read_converted(target, bar)


def verify_file(card: Card, form: Form, file: SourceFile, path: Path, pin: Pin | None) -> Origin:
    """What a file is, its checksum compared; DataError where it is neither published nor imported."""
    with advising(card):
        if form.format == "higgs":
            verify_higgs(path, file, pin)
            return "imported" if pin else "verified"
        return read_file(path, file, pin, content_limit(card))[1]


def verify_higgs(path: Path, file: SourceFile, pin: Pin | None) -> None:
    """DataError where the file is neither the published one nor the imported one; it is read block by block."""
    if pin is not None:
        found = sha256(path)
        if found != pin.sha256:
            raise Altered(f"{path}: sha256 is {found[:12]}…, when it was imported {pin.sha256[:12]}…")
    elif path.suffix == ".gz" and file.packed is not None:
        check_file(path, file.packed)
    else:
        raise Altered(f"{path}: no checksum of this file is known")
