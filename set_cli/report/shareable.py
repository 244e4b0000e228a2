"""What of a run's record goes onto a page that is sent around: names without folders, no machine's or user's own."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

OF_THE_MACHINE = ("folder", "host", "pid", "options")  # of an entry of run.json
MOST_CLASSES = 20  # of a part that are named


class Names:
    """What each of these runs is called: its path below what all have in common, data set and model included."""

    def __init__(self, paths: Sequence[Path]) -> None:
        roots = {_root(path) for path in paths}
        self._common = os.path.commonpath([os.path.abspath(root) for root in roots]) if roots else ""
        named = {os.path.join(root, ""): self._below(root) for root in roots if str(root) != "."}
        self._prefixes = sorted(named.items(), key=lambda pair: -len(pair[0]))

    def of(self, path: Path) -> str:
        """The run's name."""
        return os.path.relpath(os.path.abspath(path), self._common or os.getcwd())

    def in_words(self, text: str) -> str:
        """The sentence with runs called by their names."""
        for prefix, name in self._prefixes:
            text = text.replace(prefix, name)
        return text

    def _below(self, root: Path) -> str:
        below = self.of(root)
        return "" if below == "." else f"{below}/"


def _root(path: Path) -> Path:
    """The folder that holds data set, model and run; the run's own where there are not as many above it."""
    return path.parents[2] if len(path.parents) > 2 else path.parent


def shareable(start: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of run.json without host, process and folders; a program and a file are called by their names.

    TypeError or ValueError where it is no entry.
    """
    kept = {key: value for key, value in dict(start).items() if key not in OF_THE_MACHINE}
    command = kept.get("command")
    if isinstance(command, list):
        program = [os.path.basename(str(word)) for word in command[:1]]
        kept["command"] = program + [_without_folder(str(word)) for word in command[1:]]
    return kept


WORD = re.compile(r"([\w.+@-]*=)?([~/].*|['\"][~/].*)", re.DOTALL)


def _without_folder(word: str) -> str:
    """`dataset.path=/home/me/wine.csv` as `dataset.path=wine.csv`; what is relative names no machine."""
    found = WORD.fullmatch(word)
    if found is None:
        return word
    items = [item.strip("'\"") for item in found[2].split(",")]  # of a sweep there may be several
    return (found[1] or "") + ",".join(os.path.basename(item.rstrip("/")) for item in items)


def classes_text(data: object) -> str:
    """'a 50 (test: 10), b 50 (test: 10)' of the classes that run.json counts by part; nothing where it has none.

    data  of an entry of run.json, whatever somebody made of it
    """
    classes = data.get("classes") if isinstance(data, dict) else None
    if not isinstance(classes, list):
        return ""
    named = []
    for counts in (one for one in classes[:MOST_CLASSES] if isinstance(one, dict)):
        others = [f"{part}: {n}" for part, n in counts.items() if part not in ("name", "train")]
        named.append(f"{counts.get('name')} {counts.get('train')}" + (f" ({', '.join(others)})" if others else ""))
    more = f", and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else ""
    return ", ".join(named) + more
