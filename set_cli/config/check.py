"""From plain values to a checked `Config`, or one sentence that says what is wrong with them."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from set_cli.config.guesses import did_you_mean, not_a_key
from set_cli.config.keys import Config, flatten, known_keys
from set_cli.errors import ConfigError

MOST_SHOWN = 60  # characters of what was found
RANGE = re.compile(r"(\d+)(?:\.\.+|-|:)(\d+)")  # as other programs write one
PERCENT = re.compile(r"([0-9]+(?:\.[0-9]*)?)\s*%")
ROWS = {"data.holdout", "data.valid", "data.train_limit", "data.test_limit"}
EXPECTED = {
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "string_too_short": "some text",
    "tuple_type": "a list, such as [300,300]",
    "too_short": "a list that is not empty",
}


def from_mapping(mapping: Mapping[str, Any]) -> Config:
    """The checked configuration, or ConfigError with one sentence that names the key."""
    _refuse_interpolation(mapping)
    try:
        return Config.model_validate(dict(mapping))
    except ValidationError as error:
        raise ConfigError(sentence(error)) from None


def _refuse_interpolation(mapping: Mapping[str, Any]) -> None:
    for key, value in flatten(mapping).items():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str) and "${" in item:
                raise ConfigError(f"{key}: expected a plain value, found the interpolation {item!r}")


def sentence(error: ValidationError) -> str:
    """The first fault: what was expected of which key, and what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    message, found = first["msg"], first["input"]
    match first["type"]:
        case "extra_forbidden":
            return not_a_key(key, known_keys())
        case "missing":
            return f"{key} has no value; give one with {key}=…"
        case "value_error":
            return message.removeprefix("Value error, ")
        case "literal_error":
            names, found = first["ctx"]["expected"], str(found)[:MOST_SHOWN]
            near = did_you_mean(found, names.replace("'", "").replace(" or ", ", ").split(", "))
            return f"{key}={' '.join(found.split())} is not known: expected {names}{near}"
        case kind:
            expected = EXPECTED.get(kind, message.replace("Input should be ", ""))
            return f"{key}: expected {expected}, found {_shown(found)}{_how_to_write(kind, key, found)}"


def _shown(found: object) -> str:
    return "nothing" if found in ("", (), []) else reprlib.repr(found)


def _how_to_write(kind: str, key: str, found: object) -> str:
    """How it is written here: 1e3 as a whole number, 30% as a fraction, 0..4 as a range; what a number of rows is."""
    if not kind.startswith(("int", "float")) or isinstance(found, bool) or not isinstance(found, str | int | float):
        return ""
    percent = PERCENT.fullmatch(found) if isinstance(found, str) else None
    if key in ROWS and (percent or (isinstance(found, float) and 0 < found < 1)):
        return "; it is a number of rows, not a part of them"
    if isinstance(found, float) and kind.startswith("int") and abs(found) < 2**53:
        whole = int(found)
        return f"; write {key}={whole}" + ("" if found.is_integer() else f" or {key}={whole + 1}" if found > 0 else "")
    if percent and kind.startswith("float"):
        return f"; write {key}={float(percent[1]) / 100:.12g}"
    span = RANGE.fullmatch(found) if isinstance(found, str) else None
    return f"; a range, for a sweep with -m, is {key}=range({span[1]},{int(span[2]) + 1})" if span else ""
