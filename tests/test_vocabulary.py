"""How the package writes: the field's words, and docstrings that say at once what something is or does."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "set_cli"

# A first line that begins so has neither a subject nor a verb: "Of a sweep that is under way."
FRAGMENTS = {"Of", "As", "Where", "From", "See", "In", "At", "By", "With", "On", "So", "Until", "Out", "For", "After"}
# What others call our terms, by the term that we use (the README has the literature's).
NOT_OUR_WORDS = {
    "zeta": ("drop rate", "drop_rate", "drop fraction", "drop_fraction", "prune rate", "prune_rate", "death_rate"),
    "evolve": ("update_mask", "weightsEvolution", "weights_evolution"),
    "epsilon": ("sparsity level", "sparsity_level"),
    "Erdos-Renyi": ("random mask", "random_mask"),
    "SDDMM": ("masked gradient", "masked_gradient"),
    "parameter count": ("model size", "model_size"),
    "recipe, or settings": ("preset", "presets", "hparams"),
    "run": ("trial", "trials"),
    "sweep": ("grid search", "grid_search"),
    "resume, start": ("began", "begun", "go on", "goes on", "went on", "gone on"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def pages() -> list[Path]:
    """Documentation and settings; not the README, which says once what the literature calls our terms."""
    root = PACKAGE.parent
    return [
        *sorted((root / "docs").glob("*.md")),
        root / "datasets/README.md",
        *sorted((root / "conf").rglob("*.yaml")),
    ]


def documented(path: Path) -> Iterator[tuple[str, str]]:
    """Names and docstrings of a module's functions and classes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
            yield f"{path.relative_to(PACKAGE)}: {node.name}", text


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_docstring_begins_with_what_it_is_or_does(path: Path) -> None:
    assert not [name for name, text in documented(path) if text.split()[0] in FRAGMENTS]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_terms_are_the_fields(path: Path) -> None:
    if path.name == "guesses.py":  # which translates other people's words into ours
        return
    source = path.read_text()
    assert_our_words(source)


@pytest.mark.parametrize("path", pages(), ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_pages_and_settings_use_the_same_terms(path: Path) -> None:
    assert_our_words(path.read_text())


def assert_our_words(text: str) -> None:
    for term, words in NOT_OUR_WORDS.items():
        assert not re.findall(rf"\b(?:{'|'.join(words)})\b", text, re.IGNORECASE), f"we say {term}"
