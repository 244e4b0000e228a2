"""Write docs/configuration.md, every key and what each pair sets, from set_cli/config and conf/."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from set_cli.config import flatten
from set_cli.config.reference import Key, keys, sections, shown

ROOT = Path(__file__).resolve().parent.parent
CONF, TARGET = ROOT / "conf", ROOT / "docs/configuration.md"
MODELS = ("mlp", "cnn", "rbm")
INTRODUCTION = """\
# Configuration

Made by `make configuration` from `set_cli/config/keys.py` (meaning, unit, bounds) and `conf/` (values);
`set-train --help` prints the same with the values of one command.

A key is typed as `key=value`, in any order with the options: `set-train train.epochs=10 -m seed=0,1`. With `-m`, values
separated by commas are swept over; a list is written `[300,300]`; `null` means not set. The groups `dataset`, `model`,
`method`, `recipe` and `backend` choose a file of `conf/`; data set and model together choose the settings of their pair
(below), recipe and model those of the recipe.
Text is quoted for you where Hydra's grammar would read it otherwise; a name with a comma that is no file yet needs
quotes of its own: `'runs_dir="a,b"'`."""


def main() -> None:
    TARGET.write_text(text())


def text() -> str:
    """The page as Markdown, ending in a newline."""
    lines = [INTRODUCTION]
    defaults = _defaults()
    for section, about in sections().items():
        lines += ["", f"## {section or 'Root'}", "", f"{about}.", "", "| key | default | takes | meaning |"]
        lines += ["|---|---|---|---|"]
        lines += [_row(key, defaults.get(key.name, "")) for key in keys() if key.section == section]
    lines += ["", "## What each pair sets", "", "`conf/dataset_model/`; everything else stays at its default.", ""]
    lines += ["| pair | settings |", "|---|---|", *_pairs()]
    lines += [
        "",
        "## What each recipe sets",
        "",
        "`conf/recipe_model/`, over the settings of the pair, and `conf/recipe_pair/` over those.",
        "",
    ]
    lines += ["| recipe | settings |", "|---|---|", *_recipes()]
    lines += [
        "",
        "## When each method evolves",
        "",
        "`conf/method_time/`, over the settings of the pair and the recipe. Its rules are in `conf/method/`.",
        "",
    ]
    lines += ["| method | settings |", "|---|---|", *_methods()]
    return "\n".join(lines) + "\n"


def _row(key: Key, default: str) -> str:
    cells = (f"`{key.typed}`", default, key.values, key.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _read(path: Path) -> dict[str, Any]:
    values = cast(Mapping[str, Any], OmegaConf.to_container(OmegaConf.load(path)))
    return flatten({key: value for key, value in values.items() if key not in ("defaults", "hydra")})


def _defaults() -> dict[str, str]:
    """By key, the default as one types it; those of an architecture with its name."""
    found = {key: f"`{shown(value)}`" for key, value in _read(CONF / "train.yaml").items()}
    for group, option in (("dataset", "mnist_binary"), ("dataset", "custom"), ("method", "set"), ("backend", "auto")):
        values = _read(CONF / group / f"{option}.yaml")
        found |= {f"{group}.{key}": f"`{shown(value)}`" for key, value in values.items()}
    found["dataset.name"] = "`digits`"
    models = {model: _read(CONF / "model" / f"{model}.yaml") for model in MODELS}
    for key in dict.fromkeys(key for values in models.values() for key in values):
        by_model = {model: shown(values[key]) for model, values in models.items() if key in values}
        found[f"model.{key}"] = ", ".join(f"{model}: `{value}`" for model, value in by_model.items())
    found["model.name"] = "`mlp`"
    return found


def _pairs() -> Iterator[str]:
    for path in sorted((CONF / "dataset_model").glob("*.yaml")):
        dataset, _, model = path.stem.rpartition("_")
        settings = " ".join(f"{key}={shown(value)}" for key, value in _read(path).items())
        yield f"| `dataset={dataset} model={model}` | {settings} |"


def _recipes() -> Iterator[str]:
    for path in (*sorted((CONF / "recipe_model").glob("*.yaml")), *sorted((CONF / "recipe_pair").glob("*.yaml"))):
        recipe, *pair = path.stem.split("_", 1)[0], *path.stem.split("_", 1)[1].rpartition("_")[::2]
        words = " ".join(f"{group}={name}" for group, name in zip(("dataset", "model"), pair, strict=True) if name)
        settings = " ".join(f"{key}={shown(value)}" for key, value in _read(path).items())
        yield f"| `recipe={recipe} {words}` | {settings} |"


def _methods() -> Iterator[str]:
    for path in sorted((CONF / "method_time").glob("*.yaml")):
        settings = " ".join(f"{key}={shown(value)}" for key, value in _read(path).items())
        yield f"| `method={path.stem}` | {settings} |"


if __name__ == "__main__":
    main()
