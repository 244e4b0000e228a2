"""What features and classes are called in sentences about a run's data."""

from __future__ import annotations

import re
from collections.abc import Sequence

from set_cli.data.card import Card
from set_cli.data.readers.guard import one_line

LONGEST = 40  # characters of a name that a sentence shows
MOST = 3  # things that a sentence names


def feature_text(card: Card, i: int) -> str:
    """'feature 24 ("weight")', counted from 1; without its name where it has none."""
    name = card.feature_names[i] if i < len(card.feature_names) else ""
    return f"feature {i + 1}" + (f" ({_short(name)!r})" if name else "")


def class_text(card: Card, i: int) -> str:
    """The name of a class, or its number where it has none."""
    return _short(class_name(card, i))


def class_name(card: Card, i: int) -> str:
    """Name of a class as in the file."""
    return card.class_names[i] if i < len(card.class_names) else str(i)


def drop_hint(card: Card, columns: Sequence[int]) -> str:
    """How to leave these features out."""
    if len(card.feature_names) != card.features:
        return "leave it out of the file" if len(columns) == 1 else "leave them out of the file"
    names = [card.feature_names[i] for i in columns[:MOST]]
    more = ",…" if len(columns) > MOST else ""
    pronoun = "it" if len(columns) == 1 else "them"
    if all(re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII) for name in names):
        return f"dataset.drop=[{','.join(names)}{more}] leaves {pronoun} out"
    quoted = ",".join('"' + _short(name) + '"' for name in names)
    return f"'dataset.drop=[{quoted}{more}]' leaves {pronoun} out"


def group_hint(card: Card, column: int) -> str:
    """How to split by this feature's values, as the end of a sentence."""
    if len(card.feature_names) != card.features:
        return "dataset.group=NAME, an array of them beside the rows, keeps each on one side"
    name = card.feature_names[column]
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", name, re.ASCII)
    setting = f"dataset.group={name}" if plain else f"'dataset.group=\"{_short(name)}\"'"
    return f"{setting} keeps each on one side"


def listed(names: Sequence[str], most: int = MOST) -> str:
    """'a, b, c and 4 more'."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def _short(name: str) -> str:
    name = one_line(name)
    return name if len(name) <= LONGEST else name[:LONGEST] + "…"
