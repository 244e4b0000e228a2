"""The configuration that Hydra composes of some words, as plain values: for the help, and for what a sentence needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import hydra
from omegaconf import DictConfig, OmegaConf

from set_cli.config import flatten


def plain(composed: DictConfig) -> Mapping[str, Any]:
    """Plain containers, interpolations as they were written."""
    return cast(Mapping[str, Any], OmegaConf.to_container(composed, resolve=False))


def compose(words: Sequence[str]) -> Mapping[str, Any]:
    """What the shipped files and these words give; Hydra's errors."""
    with hydra.initialize_config_module("set_cli.conf", version_base="1.3"):
        return plain(hydra.compose("train", overrides=list(words)))


def default_values(words: Sequence[str]) -> dict[str, Any]:
    """The values of every key that has one with these words; without the words, where they cannot be composed."""
    for overrides in (words, ()):
        with suppress(Exception):  # Hydra's and OmegaConf's have no class in common
            return flatten(compose(overrides))
    return {}
