"""Every configuration key with its meaning, unit, bounds and choices, read from the types in config/keys.py.

`set-train --help` and docs/configuration.md are two ways to print it.
"""

from __future__ import annotations

import math
import re
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
ONE: dict[Kind, str] = {"text": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
SEVERAL: dict[Kind, str] = {**ONE, "text": "texts", "integer": "whole numbers", "number": "numbers"}
COLUMN = 25  # of the second column of `set-train --help`

USAGE = """\
set-train: train a neural network that is sparse from the first step to the
last (SET, Mocanu et al. 2018)

Usage: set-train [key=value ...]            one run
       set-train -m [key=value,value ...]   a sweep: every combination
       set-report [FOLDER ...]              the table of what was run
       set-data list                        the data sets, and which are here

Examples:
  set-train                              SET-MLP on the bundled digits
  set-train dataset=cifar10 model=mlp    the paper's experiment
  set-train dataset=dna model=rbm        the paper's RBM
  set-train -m dataset=mnist method=set,fixprob,dense seed=0,1,2
  set-train -m +sweep=paper15            the paper's fifteen data sets
  set-train dataset=mnist train.epochs=10 data.holdout=10000
                                         a quick look; the test set stays unseen

Options, before, between or behind the keys:
  -m, --multirun      sweep: every combination of values parted by commas
  --dry-run           say what would be done, what it would take, and how long
  --cfg job           print the composed configuration and stop
  --info              print how the configuration was composed
  --config-dir DIR    a folder of your own YAML files, beside the built-in ones
  --help, --version   this text; the version
  --hydra-help        Hydra's own options; tab completion:
                      eval "$(set-train -sc install=bash)\""""

NOTES = """\
null means: not set. A key shown with - has no meaning for this data set, model
or method; add dataset=… and model=… to --help to see another pair's values.
The same for all pairs: docs/configuration.md.\
"""


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    kind       of its value, or of each value of a list
    low, high  bounds in words (≥ 1, < 1); empty where there are none that matter
    words      that stand for a value which is otherwise a list
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
    words: tuple[str, ...] = ()

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
            words = (SEVERAL if self.is_list else ONE)[self.kind]
            text = " ".join(part for part in (words, ", ".join(filter(None, (self.low, self.high)))) if part)
        text += f" ({self.unit})" if self.unit else ""
        others = [*self.words, *(["null"] if self.optional else [])]
        return ("list of " if self.is_list else "") + " or ".join([text, *others])

    @property
    def expected(self) -> str:
        """The same with its article, for a sentence."""
        return f"a {self.values}" if self.is_list or self.kind in ("integer", "number") else self.values

    @property
    def typed(self) -> str:
        """The key as one types it: a group stands for its name."""
        return self.name.removesuffix(".name")


def keys(section: type[BaseModel] = Config, prefix: str = "") -> Iterator[Key]:
    """Every key, in the order of config/keys.py."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield _key(prefix + name, field)


def _key(name: str, field: FieldInfo) -> Key:
    inner, metadata, optional, words = _unwrapped(field.annotation)
    metadata = [*field.metadata, *metadata]
    is_list = get_origin(inner) is tuple
    if is_list:
        inner, metadata, *_ = _unwrapped(get_args(inner)[0])
    choices = get_args(inner) if get_origin(inner) is Literal else ()
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    low, high = _bounds(metadata)
    kind: Kind = "choice" if choices else KINDS[inner]
    unit = str(extra.get("unit", ""))
    optional = optional or bool(extra.get("filled"))
    return Key(name, field.description or "", unit, kind, is_list, optional, choices, low, high, words)


def _unwrapped(annotation: Any) -> tuple[Any, list[Any], bool, tuple[str, ...]]:
    """A type without its annotations and `| None`; the annotations; whether None is allowed; words beside a list."""
    metadata: list[Any] = []
    optional, words = False, tuple[str, ...]()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *found = get_args(annotation)
            for item in found:
                metadata += item.metadata if isinstance(item, FieldInfo) else [item]
        elif get_origin(annotation) in (Union, types.UnionType):
            parts = [part for part in get_args(annotation) if part is not type(None)]
            optional = len(parts) < len(get_args(annotation))
            words = tuple(word for part in parts[1:] for word in get_args(part))
            annotation = parts[0]
        else:
            return annotation, metadata, optional, words


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
    """What each section of keys is about, by name: the first line of its class."""
    found = {"": "Of every run"}
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[name] = re.split(r"[.;\n]", field.annotation.__doc__ or "")[0]
    return found


def shown(value: object) -> str:
    """A value as one types it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    return f"{value:g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def help_text(defaults: Mapping[str, Any], width: int) -> str:
    """The usage, then the keys by section, each with its value, its meaning and what it takes.

    defaults  by key, of this data set, model and method; a key that is missing has no meaning for them
    """
    lines = [USAGE]
    for section, about in sections().items():
        lines += ["", f"{about}:"]
        for key in (key for key in keys() if key.section == section):
            head = f"  {key.typed}={shown(defaults[key.name]) if key.name in defaults else '-'}"
            body = textwrap.wrap(f"{key.meaning} [{key.values}]", width - COLUMN)
            first = body.pop(0) if len(head) < COLUMN - 1 else ""
            lines += [f"{head:<{COLUMN}}{first}".rstrip(), *(" " * COLUMN + line for line in body)]
    return "\n".join([*lines, "", NOTES])
