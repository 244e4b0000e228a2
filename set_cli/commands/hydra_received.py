"""YAML that somebody else wrote: what it may say to Hydra, checked as each file is read and before Hydra acts on it.

Hydra takes its own settings from the same files as ours: callbacks, logging handlers and environment variables run
code, folders are made where a file says. A file of `--config-dir`, `--config-path` or `hydra.searchpath` says nothing
of that kind here; how many runs a launcher starts at once and what a sweep goes through it may say.

Hydra reads every file through a source of configurations. The two classes below take the place of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.core_plugins import file_config_source, importlib_resources_config_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from set_cli.commands.hydra_words import count_runs, parsed_override
from set_cli.errors import ConfigError
from set_cli.system.terminal import printable

SHIPPED = re.compile(r"(hydra\.conf|set_cli\.conf|hydra_plugins\..*)")  # packages whose code runs anyway
LARGEST_YAML = 100_000  # bytes
ALIAS = re.compile(rb"(?m)(?:^|[\s\[,{:-])[&*][^\s,\]}]")
KEYWORDS = ("_global_", "_group_", "_here_")
MEANT_FOR_HYDRA = re.compile("hydra|_global_|_group_|_here_|_name_", re.IGNORECASE)
CALL = re.compile(r"\$\{[^}]*:")  # ${oc.env:HOME}

# What a received file may set, and select, of Hydra's. Values that reach a job script are numbers or one plain word:
# a line break there would be a command.
NUMBERS = (
    "hydra.sweeper.max_batch_size", "hydra.launcher.n_jobs", "hydra.launcher.timeout_min", "hydra.launcher.nodes",
    "hydra.launcher.cpus_per_task", "hydra.launcher.gpus_per_node", "hydra.launcher.tasks_per_node",
    "hydra.launcher.mem_gb", "hydra.launcher.cpus_per_gpu", "hydra.launcher.gpus_per_task",
    "hydra.launcher.signal_delay_s", "hydra.launcher.max_num_timeout", "hydra.launcher.array_parallelism",
)  # fmt: skip
TEXTS = tuple(
    f"hydra.launcher.{name}"
    for name in ("partition", "qos", "constraint", "gres", "account", "mem_per_gpu", "mem_per_cpu")
)
PLAIN_WORD = re.compile(r"[A-Za-z0-9_.,:=+&|*-]{1,200}")
MODES = ("RUN", "MULTIRUN")
SELECTED = {
    ("hydra/launcher", "basic"), ("hydra/launcher", "joblib"), ("hydra/sweeper", "basic"),
    ("hydra/hydra_logging", "disabled"), ("hydra/job_logging", "disabled"),
}  # fmt: skip
PERMITTED = "hydra.mode, hydra.sweeper.params and numbers of hydra.launcher"


class FileConfigSource(file_config_source.FileConfigSource):
    """A folder of YAML files; ConfigError for a file that says to Hydra what it may not.

    Its name is that of the class whose place it takes: Hydra's registry compares names.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        if not path.resolve().is_relative_to(Path(self.path).resolve()):
            raise ConfigError(f"{printable(str(path))}: expected a file inside {self.path}; copy it there")
        with path.open("rb") as file:
            content = file.read(LARGEST_YAML + 1)
        if len(content) > LARGEST_YAML or ALIAS.search(content):
            raise ConfigError(
                f"{printable(str(path))}: expected less than {LARGEST_YAML:,} bytes, and no anchors or aliases"
            )
        return _checked(str(path), config_path, super().load_config(config_path))


class ImportlibResourcesConfigSource(importlib_resources_config_source.ImportlibResourcesConfigSource):
    """The YAML files of a Python package: ours and Hydra's, or one that was named on the command line."""

    def load_config(self, config_path: str) -> ConfigResult:
        parts = Path(config_path).parts
        if Path(config_path).is_absolute() or ".." in parts:
            raise ConfigError(f"{printable(config_path)}: expected the name of an option, no path")
        loaded = super().load_config(config_path)
        return loaded if SHIPPED.fullmatch(self.path) else _checked(f"{self.path}/{config_path}", config_path, loaded)


def guard() -> None:
    """Let Hydra read configurations through the classes above, here and in the processes that it starts."""
    Plugins.instance()  # which fills the registry
    for source in (FileConfigSource, ImportlibResourcesConfigSource):
        SourcesRegistry.instance().types[source.scheme()] = source


guard()  # a process of a launcher imports this module and calls nothing of it


def refuse_packages(arguments: list[str]) -> None:
    """ConfigError for `+mine@hydra.callbacks=theirs`, which would make a received file one of Hydra's."""
    for word in arguments:
        parsed = parsed_override(word)
        if parsed is not None and parsed.package is not None and not _is_plain(parsed.package):
            raise ConfigError(f"{printable(word)}: expected no file in a place of Hydra's own; write hydra.…=…")


def _checked(file: str, config_path: str, loaded: ConfigResult) -> ConfigResult:
    """What was read, unless something in it would become a setting of Hydra's."""
    if any(map(MEANT_FOR_HYDRA.search, Path(config_path).parts[:-1])):
        _refuse(file, config_path)
    package = loaded.header.get("package")
    if package is not None and not _is_plain(package):
        _refuse(file, f"# @package {package}")
    config = OmegaConf.to_container(loaded.config, resolve=False)
    if not isinstance(config, Mapping):
        return loaded  # Hydra has a sentence about it
    for group, option in _entries(config.get("defaults")):
        entry = f"{group}: {option}" if group else option
        is_permitted = (group.removeprefix("override ").lstrip("/"), option) in SELECTED
        if not is_permitted and not _is_harmless(group, option):
            _refuse(file, f"defaults: {entry}")
    for key in config:
        if str(key).startswith("hydra"):
            _check_settings(file, str(key), config[key])
    return loaded


def _entries(defaults: Any) -> Iterator[tuple[str, str]]:
    """Groups and options of a defaults list; an entry that is one file has no group."""
    for entry in defaults if isinstance(defaults, list) else []:
        if isinstance(entry, Mapping):
            for group, options in entry.items():
                for option in options if isinstance(options, list) else [options]:
                    yield str(group), str(option)
        else:
            yield "", str(entry)


def _is_harmless(group: str, option: str) -> bool:
    """Whether an entry of a defaults list can only lead to a place that is not Hydra's.

    A place is put together of a group's folders, of what stands after @ and of keywords; `_global_` may stand anywhere
    in it and drops what is before.
    """
    if CALL.search(option) or "${" in group:
        return False
    (path, _, package), last = (group or option).partition("@"), option.partition("@")[0]
    folders = [path if group else "", *last.split("/")[:-1]]
    return not any(map(MEANT_FOR_HYDRA.search, folders)) and (not package or _is_plain(package))


def _is_plain(package: str) -> bool:
    """Whether a package is one of Hydra's keywords, or names none of them, nor Hydra, in any part of a name."""
    first, *rest = package.split(".")
    parts = rest if first in KEYWORDS else [first, *rest]
    return not any(map(MEANT_FOR_HYDRA.search, parts)) and "${" not in package


def _check_settings(file: str, key: str, value: Any) -> None:
    """ConfigError unless everything under `hydra` is permitted."""
    if key == "hydra.sweeper.params" and isinstance(value, Mapping):
        for name, swept in value.items():
            _check_swept(file, f"{name}={swept}")
        count_runs([f"{name}={swept}" for name, swept in value.items()])
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str) or "." in name:
                _refuse(file, f"{key}.{name}")
            _check_settings(file, f"{key}.{name}", inner)
    elif not _is_permitted(key, value):
        _refuse(file, key)


def _is_permitted(key: str, value: Any) -> bool:
    if key in NUMBERS:
        return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    if key in TEXTS:
        return value is None or (isinstance(value, str) and PLAIN_WORD.fullmatch(value) is not None)
    return key == "hydra.mode" and value in MODES


def _check_swept(file: str, word: str) -> None:
    """ConfigError for a word of a sweep that is about Hydra, or that calls a function of OmegaConf's."""
    parsed = parsed_override(word)
    if parsed is None:
        raise ConfigError(f"{printable(file)}: hydra.sweeper.params: {printable(word)}: expected key: values")
    place = f"{parsed.key_or_group}@{parsed.package or ''}"
    if MEANT_FOR_HYDRA.search(place) or "${" in word:
        _refuse(file, f"hydra.sweeper.params: {word}")


def _refuse(file: str, what: str) -> NoReturn:
    raise ConfigError(
        f"{printable(file)}: {printable(what)}: expected nothing of Hydra's own but {PERMITTED};"
        " take it out of the file, or give hydra.… on the command line"
    )
