"""Files that the user has imported: `imported.json` beside them holds the checksum of each, as it was taken in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from set_cli.errors import DataError
from set_cli.system.files import read_json, remove, write_json

PINS = "imported.json"


@dataclass(frozen=True, slots=True)
class Pin:
    """SHA-256 and size (bytes) of one file as it lies there, compressed or not."""

    sha256: str
    size: int


def read_pins(folder: Path) -> dict[str, Pin]:
    """The pins of a data set's folder, by the file's name; DataError where the list itself is damaged."""
    path = folder / PINS
    if not os.path.lexists(path):
        return {}
    value = read_json(path, follow=True)
    try:
        pins = {str(name): Pin(str(pin["sha256"]), int(pin["size"])) for name, pin in value.items()}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise DataError(f"{path}: expected checksums by file name; import the files again") from None
    return pins


def write_pins(folder: Path, pins: Mapping[str, Pin]) -> None:
    """Replace the list; without pins there is none."""
    if pins:
        write_json(folder / PINS, {name: asdict(pin) for name, pin in sorted(pins.items())})
    else:
        remove(folder / PINS)
