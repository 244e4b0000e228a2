"""`set-data import`: take the user's own files in, in any published format, with their checksums pinned."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from set_cli.data.card import Card, Form, SourceFile, Split
from set_cli.data.files import check_file, content_limit, find, pin_of, read_archive, read_file, reading_file
from set_cli.data.parse import SPLITS, parse
from set_cli.data.pins import Pin, read_pins, write_pins
from set_cli.data.readers.higgs import conversion_folder, convert, discard_conversions, read_converted
from set_cli.data.sources import LOCK, verify_file
from set_cli.errors import DataError
from set_cli.system.files import locked, make_folder, remove_folder, remove_strays, sha256, write_atomic
from set_cli.system.plain_files import open_plain
from set_cli.system.progress import Bar

LARGEST_CHECKED = 2**31  # bytes of a file whose content's size the catalogue does not say


@dataclass(frozen=True, slots=True)
class Imported:
    """One file that was taken in: where it lies now, whether it is the publisher's, and what is worth knowing."""

    path: Path
    verified: bool
    notes: tuple[str, ...] = ()


def import_files(card: Card, data_dir: Path, given: list[Path], *, unverified: bool, bar: Bar) -> list[Imported]:
    """Check the files, copy them to where the data set's files lie, and pin the checksum of what is not published.

    unverified  take also what has another checksum than the catalogue's
    DataError where a file is no form of this data set, malformed, of another shape, or unverified without leave;
    then nothing was copied.
    """
    form, matched = match(card, given)
    for path in given:  # what is missing, a pipe or a folder is refused before anything is made
        with reading_file(path), open_plain(path):
            pass
    folder = data_dir / card.folder
    with locked(folder / LOCK, lambda: None):
        remove_strays(folder)
        verified = {file: _is_published(path, file, form) for file, path in matched.items()}
        strange = [matched[file] for file, known in verified.items() if not known]
        if strange and not unverified:
            raise DataError(
                f"{strange[0]}: its checksum is not that of {card.name} in the catalogue; where you trust it, say "
                f"--unverified: its own checksum is then pinned, and every run and table says `imported`"
            )
        targets = {file: _target(card, form, folder, file, path) for file, path in matched.items()}
        pins = {file: Pin(sha256(path), path.stat().st_size) for file, path in matched.items()}
        notes = _check_content(card, form, folder, matched, pins, verified, bar)
        for file, path in matched.items():
            _copy(path, targets[file])
        if form.format == "higgs":
            discard_conversions(folder, {pin.sha256 for pin in pins.values()} | _published(form))
        kept = _pins(folder)
        for file in matched:
            name = targets[file].relative_to(folder).as_posix()
            before = kept.pop(name, None)
            if before is not None and before != pins[file]:
                notes += (f"replaces an earlier import (sha256 {before.sha256[:12]}…)",)
            if not verified[file]:
                kept[name] = pins[file]
        write_pins(folder, kept)
    return [Imported(targets[file], verified[file], notes) for file in matched]


def _published(form: Form) -> set[str]:
    return {file.packed.value for file in form.files if file.packed}


def match(card: Card, given: list[Path]) -> tuple[Form, dict[SourceFile, Path]]:
    """The published form that these files are, and which is which, by their names; DataError where there is none."""
    best: tuple[int, Form, dict[SourceFile, Path]] | None = None
    for form in card.forms:
        score, matched = _match_form(form, given)
        if len(matched) == len(given) and (best is None or score > best[0]):
            best = (score, form, matched)
    if best is None:
        known = "; ".join(
            ", ".join(Path(f.name).name for f in (*form.files, *([form.archive] if form.archive else [])))
            for form in card.forms
        )
        names = ", ".join(path.name for path in given)
        raise DataError(f"{names}: expected {card.name} as it is published, under names like these: {known}")
    return best[1], best[2]


def _match_form(form: Form, given: list[Path]) -> tuple[int, dict[SourceFile, Path]]:
    score, matched = 0, dict[SourceFile, Path]()
    for path in given:
        candidates = [form.archive] if form.archive is not None else []
        ranked = sorted(
            ((_likeness(form, file, path), i) for i, file in enumerate([*form.files, *candidates])), reverse=True
        )
        likeness, i = ranked[0]
        file = [*form.files, *candidates][i]
        if likeness and file not in matched:
            matched[file] = path
            score += likeness
    return score, matched


def _likeness(form: Form, file: SourceFile, path: Path) -> int:
    """3: the published name; 1: the same format, and words of the name that tell the form's files apart; 0: another."""
    name, published = _plain_name(path.name), _plain_name(Path(file.name).name)
    if name == published:
        return 3
    if file is form.archive or Path(name).suffix.lower() != Path(published).suffix.lower():
        return 0
    if len(form.files) == 1:
        return 1
    words = set(re.findall(r"[a-z]+|\d+", published.lower()))
    others = [set(re.findall(r"[a-z]+|\d+", Path(f.name).name.lower())) for f in form.files if f is not file]
    telling = {word for word in words if not all(word in other for other in others)}
    return 1 if telling and telling <= set(re.findall(r"[a-z]+|\d+", name.lower())) else 0


def _plain_name(name: str) -> str:
    return name.removesuffix(".gz")


def _is_published(path: Path, file: SourceFile, form: Form) -> bool:
    """Whether the file has the catalogue's checksum, as it is or unpacked."""
    if file is form.archive:
        read_archive(path, form, form.files)  # each member is compared; another packing is as good
        return True
    try:
        if path.suffix == ".gz" and file.packed is not None and file.packed.size in (None, path.stat().st_size):
            check_file(path, file.packed)
        elif file.content is None or path.stat().st_size > LARGEST_CHECKED:
            return False
        else:
            read_file(path, file, None, LARGEST_CHECKED)
    except DataError:
        return False
    return True


def _target(card: Card, form: Form, folder: Path, file: SourceFile, path: Path) -> Path:
    """Path of the imported file; DataError where an intact published file, or another packing, lies there."""
    target = folder / (file.name + ".gz" if path.suffix == ".gz" and not file.name.endswith(".gz") else file.name)
    there = find(folder, file)
    if there is None or (there == target and os.path.samefile(there, path)):
        return target
    if there == target:
        pin = pin_of(_pins(folder), folder, target)
        try:
            verify_file(card, form, file, target, pin)
        except DataError:
            return target  # damaged: better replaced
        if sha256(target) == sha256(path) or pin is not None:
            return target
    raise DataError(f"{there}: is there already; move it away to import another {file.name}")


def _check_content(
    card: Card,
    form: Form,
    folder: Path,
    matched: Mapping[SourceFile, Path],
    pins: Mapping[SourceFile, Pin],
    verified: Mapping[SourceFile, bool],
    bar: Bar,
) -> tuple[str, ...]:
    """Parse what is about to be taken in; DataError where it is malformed or has another shape."""
    unknown = {file: path for file, path in matched.items() if not verified[file]}
    if not unknown:
        return ()
    if form.format == "higgs":
        ((file, path),) = unknown.items()
        target = conversion_folder(folder, pins[file].sha256)
        if not target.is_dir():
            convert(path, path.name, card.features, target, bar)
        rows = len(read_converted(target, bar))
        if rows > card.rows:
            remove_folder(target)
            raise DataError(f"{path}: expected at most {card.rows:,} rows, found {rows:,}")
        whole = "" if rows == card.rows else "; without its test rows: train with data.holdout=N"
        return (f"{rows:,} of {card.rows:,} rows{whole}",)
    limit = content_limit(card)
    content = {file.name: read_file(path, file, pins[file], limit)[0] for file, path in unknown.items()}
    parts = parse(card, form, content)
    notes = []
    expected: dict[Split, int] = {"train": card.train, "valid": card.valid, "test": card.test}
    for split in SPLITS:
        rows, most = len(parts[split]), expected[split]
        if rows > most:
            raise DataError(f"{', '.join(content)}: expected at most {most:,} {split} rows, found {rows:,}")
        if 0 < rows < most:
            notes.append(f"{rows:,} of {most:,} {split} rows")
    return tuple(notes)


def _pins(folder: Path) -> dict[str, Pin]:
    """What was imported before; nothing where the list is damaged, which this import writes anew."""
    try:
        return read_pins(folder)
    except DataError:
        return {}


def _copy(source: Path, target: Path) -> None:
    if target.exists() and os.path.samefile(source, target):
        return
    make_folder(target.parent)

    def write(stream: BinaryIO) -> None:
        with open_plain(source) as content:
            shutil.copyfileobj(content, stream, 2**20)

    write_atomic(target, write)
