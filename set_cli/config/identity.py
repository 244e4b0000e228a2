"""Which keys decide a run's numbers, and the eight digits of their hash that name the run's folder."""

from __future__ import annotations

import hashlib
from typing import Any

from set_cli.config.keys import Config
from set_cli.config.section import Section
from set_cli.system.files import canonical_json

WIRED = ("name", "wiring", "wiring_inside")  # what decides of a method that does not evolve
UNSCIENTIFIC = {"runs_dir", "resume", "progress", "time_limit", "retry_failed", "snapshots", "checkpoints"}


def scientific(config: Config) -> dict[str, Any]:
    """The keys that decide a run's numbers: no paths, threads or progress, nothing without meaning for the method.

    Two commands with the same dictionary are one run; its hash names the folder (`identity`).
    """
    keys = config.model_dump(mode="json", exclude=UNSCIENTIFIC | {"backend"})
    del keys["data"]["dir"], keys["data"]["fetch"], keys["dataset"]["path"], keys["dataset"]["test_path"]
    sections: dict[str, Section] = {
        "data": config.data,
        "train": config.train,
        "method": config.method,
        "evolve": config.evolve,
    }
    for name, values in sections.items():
        keys[name] = {key: value for key, value in keys[name].items() if not _is_default(values, key)}
    augment = config.data.augment
    keys["data"]["augment"] = {
        key: value for key, value in keys["data"]["augment"].items() if not _is_default(augment, key)
    }
    for section in ("dataset", "model"):
        keys[section] = {key: value for key, value in keys[section].items() if value is not None}
    if not config.method.evolves:
        del keys["zeta"]
        keys["evolve"] = {}
        keys["method"] = {key: value for key, value in keys["method"].items() if key in WIRED}
    del keys["epsilon" if config.density is not None else "density"]
    if not config.method.facts.has_amount:
        keys.pop("epsilon", None)
        keys.pop("density", None)
        keys["method"] = {"name": config.method.name}
        if config.model.sparse_convolutions:
            keys["model"]["sparse_convolutions"] = False  # without meaning here: one baseline, trained once
    if not keys["evolve"]:
        del keys["evolve"]
    asked = {"engine": (config.backend.engine, "auto"), "precision": (config.backend.precision, "float32")}
    if not config.method.is_sparse:
        del asked["engine"]
    backend = {key: value for key, (value, default) in asked.items() if value != default}
    return keys | ({"backend": backend} if backend else {})


def _is_default(section: Section, key: str) -> bool:
    """Whether a key has the default of its class, which changes nothing.

    Keys that were added later have one, and are no part of a run's identity at it: older runs keep their folders.
    """
    return bool(type(section).model_fields[key].default == getattr(section, key))


def identity(config: Config) -> str:
    """Eight hexadecimal digits of the SHA-256 of the scientific configuration."""
    return hashlib.sha256(canonical_json(scientific(config)).encode()).hexdigest()[:8]
