"""A word key=value as Hydra's grammar wants it: text quoted, lists in brackets, one sentence for what means nothing.

Hydra reads ( ) = , [ ] { } : and blanks in a value as grammar. A file called `wine (1).csv` is here what it says.
"""

from __future__ import annotations

import math
import os
import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, Quote, QuotedString, RangeSweep, Sweep
from hydra.errors import HydraException

from set_cli.config.reference import Key, keys
from set_cli.errors import ConfigError

KEYS = {key.name: key for key in keys()}
MOST_RUNS = 100_000  # of one sweep; Hydra makes the list of all of them first
GROUPS = ("dataset", "model", "method", "backend")
NUMBERS = re.compile(r"\s*[(\[]?\s*\d+(\s*[\sx;,:/_-]\s*\d+)+\s*[)\]]?\s*")  # 100x100, (100, 100), [100;100]


def spelt(word: str, sweeps: bool) -> str:
    """A word key=value as Hydra's grammar wants it; ConfigError where it means nothing."""
    name, equals, value = word.partition("=")
    key = KEYS.get(name.lstrip("+"))
    if not equals or name.startswith("~") or (key is None and name not in GROUPS):
        return word  # what there is to say about it, Hydra's composition knows
    group = name.rpartition(".")[0]
    if key is not None and group in GROUPS and name == f"{group}.name":
        raise ConfigError(f"{name}={value} would keep the settings of another {group}; write {group}={value}")
    if key is not None and key.is_list:
        return _list(key, name, value, sweeps)
    if key is not None and key.kind == "text":
        return f"{name}={_text(key, value, sweeps)}"
    parsed = parsed_override(word)
    if key is None and parsed is not None and isinstance(parsed.value(), list | dict):
        raise ConfigError(f"{word}: expected one of {', '.join(KEYS[f'{name}.name'].choices)}")
    if parsed is None and key is not None:
        several = f"; several, for a sweep with -m, are {name}=a,b" if "," in value else ""
        raise ConfigError(f"{word}: expected {key.expected}{several}")
    if parsed is not None and parsed.is_sweep_override() and not sweeps:
        decimal = "; a decimal number has a point" if key and key.kind == "number" and value.count(",") == 1 else ""
        raise ConfigError(f"{word} has several values: add -m to sweep over them{decimal}")
    return word


def parsed_override(word: str) -> Override | None:
    """What Hydra reads; None where its grammar has no such thing."""
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException:
        return None


def _text(key: Key, value: str, sweeps: bool) -> str:
    """A text, quoted where Hydra would not read it as typed. A file of exactly this name comes before a sweep."""
    if key.is_path:
        if value.startswith("~") and not os.path.lexists(value):
            value = os.path.expanduser(value) if "," not in value else value
        if value and os.path.lexists(value):
            return quoted_if_needed(value)
    parsed = parsed_override(f"{key.name}={value}")
    several = "," in value and not any(quote in value for quote in "'\"")
    found = None if parsed is None else parsed.value()
    is_choice = isinstance(found, ChoiceSweep) and found.simple_form
    if several and (parsed is None or is_choice):
        if sweeps:
            return ",".join(quoted_if_needed(_home(key, part.strip())) for part in value.split(","))
        quoted = in_shell(f"{key.name}={_quoted(value)}")
        raise ConfigError(
            f"{key.name}={value} has several values: add -m to sweep over them; a name with a comma is {quoted}"
        )
    if isinstance(found, Sweep) and not sweeps:
        raise ConfigError(f"{key.name}={value} has several values: add -m to sweep over them")
    return value if value and value[0] in "'\"" and parsed is not None else quoted_if_needed(value)


def _home(key: Key, value: str) -> str:
    return os.path.expanduser(value) if key.is_path and value.startswith("~") else value


def quoted_if_needed(value: str) -> str:
    """Quoted where Hydra would read something else than this text; null, functions and ${…} stay what they are."""
    parsed = parsed_override(f"x={value}")
    if parsed is None:
        return _quoted(value)
    found = parsed.value()
    if found is None or found == value or (isinstance(found, Sweep) and not os.path.lexists(value)):
        return value
    return value if isinstance(found, str) and not os.path.lexists(value) else _quoted(value)


def _quoted(value: str) -> str:
    return QuotedString(text=value, quote=Quote.double).with_quotes()


def in_shell(word: str) -> str:
    """A word as one types it, so that the shell leaves its quotes to us."""
    return f"'{word}'"


def _list(key: Key, name: str, value: str, sweeps: bool) -> str:
    """A list; without brackets it would be the values of a sweep, each a list of one."""
    word = f"{name}={value}"
    parsed = parsed_override(word)
    found = None if parsed is None else parsed.value()
    if isinstance(found, ChoiceSweep) and found.simple_form and not all(_is_whole(key, item) for item in found.list):
        if not sweeps:
            raise ConfigError(f"{word}: a list is written in brackets, {name}=[{value}]")
        each = ",".join(f"[{part}]" for part in value.split(","))
        raise ConfigError(f"{word}: write {name}=[{value}] for one list, or {name}={each} to sweep over lists of one")
    if isinstance(found, Sweep) and not sweeps:
        raise ConfigError(f"{word} has several values: add -m to sweep over them")
    if key.kind == "integer":
        numbers = re.findall(r"\d+", value)
        if NUMBERS.fullmatch(value) and (found is None or isinstance(found, str)):
            raise ConfigError(f"{word}: expected {key.expected}; write {name}=[{','.join(numbers)}]")
        if parsed is None:
            raise ConfigError(f"{word}: expected {key.expected}, such as {name}=[300,300]")
        return word
    if key.kind == "number":
        return word
    if any(quote in value for quote in "'\"") or value in ("", "null") or isinstance(found, Sweep):
        return word
    inner = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    return f"{name}=[{','.join(quoted_if_needed(part.strip()) for part in inner.split(','))}]"


def _is_whole(key: Key, item: object) -> bool:
    """Whether a value of a sweep is all of a list's key, not one of the list's."""
    return isinstance(item, list) or item is None or item in key.words


def count_runs(arguments: list[str]) -> int | None:
    """How many runs a sweep has; None where only Hydra can say.

    ConfigError for more than anybody waits for, before Hydra lists them.
    """
    runs, is_known = 1.0, True
    for argument in arguments:
        parsed = parsed_override(argument)
        if parsed is None:  # a flag, or a mistake of which Hydra speaks itself
            continue
        if parsed.is_sweep_override():
            choices = _choices(parsed.value())
            is_known &= choices is not None
            runs *= choices or 1
        is_known &= argument.lstrip("+").partition("=")[0] != "sweep"
    if runs > MOST_RUNS:
        raise ConfigError(f"a sweep of {runs:,.0f} runs: expected at most {MOST_RUNS:,}; sweep over less at a time")
    return int(runs) if is_known else None


def _choices(sweep: object) -> float | None:
    """How many values a swept key takes; None where only Hydra can say."""
    if isinstance(sweep, ChoiceSweep):
        return max(1, len(sweep.list))
    if isinstance(sweep, RangeSweep) and sweep.start is not None and sweep.stop is not None and sweep.step:
        values = (sweep.stop - sweep.start) / sweep.step
        if not math.isfinite(values):
            raise ConfigError("a range without an end: expected finite numbers")
        return max(1, math.ceil(values))
    return None
