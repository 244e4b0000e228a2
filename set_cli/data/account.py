"""What is said of a run's data before it is trained on, and what the record keeps of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from set_cli.data.classes import classes_line, count_classes
from set_cli.data.naming import class_name
from set_cli.data.parts import Part
from set_cli.data.prepare import DataSet


def parts_of(data: DataSet) -> dict[str, Part]:
    """The parts of the data set that there are, by name."""
    parts = {"train": data.train, "valid": data.valid, "test": data.test}
    return {name: part for name, part in parts.items() if part is not None}


def data_lines(data: DataSet) -> list[str]:
    """Lines to print: the classes of the user's own data, what was done to it, and what makes its figures doubtful."""
    lines = []
    if data.origin == "custom" and data.train.y is not None:
        lines.append(classes_line(data.card, count_classes(data.card, parts_of(data))))
    lines += [f"note: {sentence}" for sentence in data.notes]
    return lines + [f"warning: {sentence}" for sentence in data.doubts]


def data_record(data: DataSet) -> dict[str, Any]:
    """Rows of each part, features, and the classes in the order of the network's outputs, for run.json."""
    parts = parts_of(data)
    return {name: len(part) for name, part in parts.items()} | {
        "tested_on": data.tested_on,
        "origin": data.origin,
        "features": data.card.features,
        "classes": _classes(data, parts),
        "notes": list(data.notes),
        "doubts": list(data.doubts),
    }


def _classes(data: DataSet, parts: Mapping[str, Part]) -> list[dict[str, Any]]:
    counts = count_classes(data.card, parts)
    return [
        {"name": class_name(data.card, i)} | {part: int(rows[i]) for part, rows in counts.items()}
        for i in range(data.card.classes if counts else 0)
    ]
