"""Rows that would look alike, because a default changed between two versions: what tells them apart is said."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from set_cli.config import Config, flatten
from set_cli.report.collect import FinishedRun
from set_cli.system.files import canonical_json

# Settings that have no meaning for some methods, which then do not have them.
OF_ONE_METHOD = ("method.regrow_init", "model.sparse_convolutions", "backend.engine")
MOST_KEYS = 5  # more tell nothing more

Experiment = tuple[str, str, str]


def told_apart(runs: Sequence[FinishedRun]) -> list[FinishedRun]:
    """The same runs; where two configurations have one name, with the keys among their settings in which they differ.

    All runs of that experiment (data set, model and settings) get them: what is compared with what depends on it.
    """
    alike: dict[tuple[object, ...], set[str]] = defaultdict(set)
    for run in runs:
        summary = run.summary
        alike[*_experiment(summary), summary["method"], summary["epsilon"], summary["zeta"]].add(run.group)
    differing: dict[Experiment, list[str]] = defaultdict(list)
    for key, groups in alike.items():
        if len(groups) > 1:
            found = _differing([_configuration(group) for group in groups])
            place = (str(key[0]), str(key[1]), str(key[2]))
            differing[place] += [name for name in found if name not in differing[place]]
    return [_named(run, differing.get(_experiment(run.summary), [])) for run in runs]


def _experiment(summary: Mapping[str, Any]) -> Experiment:
    shared = {key: value for key, value in summary["settings"].items() if key not in OF_ONE_METHOD}
    return summary["dataset"], summary["model"], canonical_json(shared)


def _configuration(group: str) -> dict[str, Any]:
    """Its keys as one types them; none where it is deeper than any of ours."""
    try:
        return flatten(json.loads(group))
    except RecursionError:
        return {}


def _differing(configurations: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for configuration in configurations for key in configuration)
    return [
        key for key in keys if any(_value(configurations[0], key) != _value(other, key) for other in configurations[1:])
    ][:MOST_KEYS]


def _value(configuration: Mapping[str, Any], key: str) -> Any:
    """A key that is not there has the default of its class: it is younger than the run."""
    return configuration[key] if key in configuration else _class_default(key)


def _class_default(key: str) -> Any:
    section: Any = Config
    *sections, name = key.split(".")
    for part in sections:
        field = section.model_fields.get(part)
        section = None if field is None else field.annotation
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return None
    field = section.model_fields.get(name)
    return None if field is None or field.default is PydanticUndefined else field.default


def _named(run: FinishedRun, keys: Sequence[str]) -> FinishedRun:
    """The run with these keys among its settings, where they have a meaning for its method."""
    if not keys:
        return run
    configuration = _configuration(run.group)
    own = {
        key: _plain(_value(configuration, key))
        for key in keys
        if key in configuration or (key not in OF_ONE_METHOD and not key.startswith("method."))
    }
    return replace(run, summary={**run.summary, "settings": {**own, **run.summary["settings"]}})


def _plain(value: object) -> object:
    """A value, or a list of values: what settings are made of."""
    if isinstance(value, list | tuple):
        return [item if not isinstance(item, dict | list) else str(item) for item in value]
    return value if isinstance(value, str | int | float | bool | type(None)) else str(value)
