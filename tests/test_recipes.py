"""Recipes: a set of keys under one word, beside the data set's own settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from set_cli.config import DATASETS, MODELS, flatten, from_mapping, identity
from set_cli.errors import NotApplicable
from set_cli.system.files import read_json
from set_cli.training.pairs import check_pair
from tests.builders import TINY
from tests.conftest import ONE_THREAD, Command, compose_mapping

RECIPES = ("paper", "modern")


def test_the_papers_recipe_changes_nothing() -> None:
    assert compose_mapping("recipe=paper") == compose_mapping()


@pytest.mark.parametrize("epochs", [1, 10, 1000])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow  # every pair
def test_a_recipe_suits_every_pair_however_long_it_trains(model: str, epochs: int) -> None:
    for dataset in DATASETS:
        words = (f"dataset={dataset}", f"model={model}", f"train.epochs={epochs}")
        try:
            plain = from_mapping(compose_mapping(*words))
            check_pair(plain)
        except NotApplicable:
            continue
        config = from_mapping(compose_mapping(*words, "recipe=modern"))
        check_pair(config)
        assert identity(config) != identity(plain)
        assert config.train.schedule != "constant"


def test_a_key_that_is_typed_goes_before_the_recipe() -> None:
    modern = flatten(compose_mapping("recipe=modern", "model=mlp"))
    typed = flatten(compose_mapping("train.lr=0.003", "recipe=modern", "model=mlp"))
    assert {key for key in modern if modern[key] != typed[key]} == {"train.lr"}


def test_the_report_calls_a_recipe_by_its_name(set_train: Command, set_report: Command, tmp_path: Path) -> None:
    tiny = (*TINY, "model.hidden=[12]", "train.epochs=1", ONE_THREAD, "runs_dir=runs")
    set_train("recipe=modern", "train.lr=0.02", *tiny)
    (path,) = (tmp_path / "runs/digits/mlp").iterdir()
    settings = read_json(path / "summary.json")["settings"]
    assert settings["recipe"] == "modern"
    assert settings["train.lr"] == 0.02
    assert "train.schedule" not in settings
    (row,) = json.loads(set_report("runs", "--format", "json").stdout)
    assert "recipe=modern" in row["settings"]
    assert set_train("recipe=moderne", *tiny).returncode == 2
