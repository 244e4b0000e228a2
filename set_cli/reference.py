"""Every configuration key with its meaning, unit, bounds and choices, read from the types in config.py.

`set-train --help` and docs/configuration.md are two ways to print it.
"""

from __future__ import annotations

import math
import textwrap
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from set_cli.config import Config

Kind = Literal["text", "choice", "integer", "number", "boolean"]
KINDS: dict[object, Kind] = {str: "text", int: "integer", float: "number", bool: "boolean"}
WORDS: dict[Kind, str] = {"text": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
COLUMN = 25  # of the second column of `set-train --help`
GENERAL = "General"


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    kind       of its value, or of each value of a list
    low, high  bounds in words (≥ 1, < 1); empty where there are none that matter
    """

    name: str
    meaning: str
    unit: str
    kind: Kind
    is_list: bool
    optional: bool
    choices: tuple[str, ...]
    low: str
    high: str

    @property
    def section(self) -> str:
        return self.name.partition(".")[0] if "." in self.name else ""

    @property
    def is_path(self) -> bool:
        return self.kind == "text" and self.name.endswith(("path", "dir"))

    @property
    def values(self) -> str:
        """What it takes, in words: 'whole number ≥ 1 (epochs) or null'."""
        if self.kind == "choice":
            text = ", ".join(self.choices)
        else:
            text = " ".join(part for part in (WORDS[self.kind], self.low, self.high) if part)
        text += f" ({self.unit})" if self.unit else ""
        return ("list of " if self.is_list else "") + text + (" or null" if self.optional else "")


def keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[Key]:
    """In the order of config.py."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield _key(prefix + name, field)


def _key(name: str, field: FieldInfo) -> Key:
    inner, metadata, optional = _unwrapped(field.annotation)
    metadata = [*field.metadata, *metadata]
    is_list = get_origin(inner) is tuple
    if is_list:
        inner, metadata, _ = _unwrapped(get_args(inner)[0])
    choices = get_args(inner) if get_origin(inner) is Literal else ()
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    low, high = _bounds(metadata)
    kind: Kind = "choice" if choices else KINDS[inner]
    return Key(name, field.description or "", str(extra.get("unit", "")), kind, is_list, optional, choices, low, high)


def _unwrapped(annotation: Any) -> tuple[Any, list[Any], bool]:
    """A type without its annotations and `| None`; the annotations; whether None is allowed."""
    metadata: list[Any] = []
    optional = False
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *found = get_args(annotation)
            for item in found:
                metadata += item.metadata if isinstance(item, FieldInfo) else [item]
        elif get_origin(annotation) in (Union, types.UnionType):
            (annotation,) = (part for part in get_args(annotation) if part is not type(None))
            optional = True
        else:
            return annotation, metadata, optional


def _bounds(metadata: Sequence[Any]) -> tuple[str, str]:
    """The least and the largest value; a largest one that only guards against overflow says nothing."""
    low = high = ""
    for bound in metadata:
        match bound:
            case Gt(gt=value):
                low = f"> {value}"
            case Ge(ge=value):
                low = f"≥ {value}"
            case Lt(lt=value):
                high = f"< {value}"
            case Le(le=float() | int() as value) if value < 10**4:
                high = f"≤ {value}"
    return low, high


def sections() -> dict[str, str]:
    """By name, what each section of keys is about: the first line of its class."""
    found = {"": "Of every run"}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = (field.annotation.__doc__ or "").partition("\n")[0].partition(";")[0].rstrip(".")
    return found


def shown(value: object) -> str:
    """A value as one types it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def help_lines(defaults: Mapping[str, Any], width: int = 80) -> Iterator[str]:
    """The keys by section, each with its default for this data set, model and method, its values and its meaning.

    defaults  by key; a key that is missing there has no meaning for this data set, model or method
    """
    grouped = {name: [key for key in keys() if key.section == name] for name in sections()}
    for section, about in sections().items():
        yield ""
        yield f"{about}:"
        for key in grouped[section]:
            default = shown(defaults[key.name]) if key.name in defaults else "-"
            head = f"  {key.name}={default}"
            body = textwrap.wrap(f"{key.meaning} [{key.values}]", width - COLUMN)
            first = body.pop(0) if len(head) < COLUMN - 1 else ""
            yield f"{head:<{COLUMN}}{first}".rstrip()
            yield from (" " * COLUMN + line for line in body)
