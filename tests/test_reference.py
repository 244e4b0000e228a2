"""The key reference: one source for `set-train --help` and docs/configuration.md."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from set_cli.config import known_keys
from set_cli.config.reference import help_text, keys, shown

ROOT = Path(__file__).resolve().parent.parent
KEYS = {key.name: key for key in keys()}


def test_every_key_has_a_meaning() -> None:
    assert list(KEYS) == known_keys()
    assert [name for name, key in KEYS.items() if not key.meaning] == []


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("epsilon", "number > 0"),
        ("zeta", "number ≥ 0, < 1"),
        ("train.epochs", "whole number ≥ 1 (epochs)"),
        ("time_limit", "number > 0 (minutes) or null"),
        ("model.hidden", "list of whole numbers ≥ 1 (neurons)"),
        ("dataset.drop", "list of texts or null"),
        ("data.fetch", "auto, never"),
        ("train.nesterov", "true or false or null"),
        ("data.augment.rotation", "number ≥ 0, ≤ 180 (degrees)"),
        ("train.class_weights", "list of numbers ≥ 0 or balanced or null"),
        ("backend.threads", "whole number ≥ 1, ≤ 4096 (threads) or null"),
    ],
)
def test_bounds_units_and_choices_are_read_from_the_types(name: str, values: str) -> None:
    assert KEYS[name].values == values


def test_a_value_is_shown_as_one_types_it() -> None:
    assert [shown(value) for value in (True, None, [300, 300], 0.0002, 20.0, "auto")] == [
        "true", "null", "[300,300]", "0.0002", "20", "auto",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100])
def test_the_keys_fit_the_width(width: int) -> None:
    _, _, listed = help_text({name: "x" for name in KEYS}, width).partition("Of every run:")
    assert all(len(line) <= max(width, 80) for line in listed.splitlines())


def test_the_page_of_the_configuration_is_current() -> None:
    page = runpy.run_path(str(ROOT / "tools/configuration.py"))["text"]()
    assert (ROOT / "docs/configuration.md").read_text() == page, "run `make configuration`"
