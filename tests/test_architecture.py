"""The house rules, read from the source: imports point one way, and some things are nowhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from set_cli.config import from_mapping
from tests.conftest import compose_mapping, run_python

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "set_cli"

# Which rooms a room may import from, from the commands down to the machine. Anyone may use the leaves.
LEAVES = {"config", "errors", "system"}
ALLOWED: dict[str, set[str]] = {
    "__init__": {"trained"},
    "commands": {"sweeps", "report", "trained", "bench", "training", "data"},
    "sweeps": {"experiment", "training", "models", "runs", "data"},
    "experiment": {"training", "models", "runs", "data", "native"},
    "report": {"analysis", "runs", "data"},
    "trained": {"report", "training", "models", "sparse", "runs", "data"},
    "bench": {"training", "models", "sparse", "native"},
    "training": {"models", "sparse", "runs", "data", "native"},
    "analysis": {"runs", "sparse"},
    "models": {"sparse", "native"},
    "runs": {"sparse", "trained"},  # trained: set_cli.runs(folder), when it is called
    "data": {"native"},
    "sparse": {"native"},
    "native": set(),
    "config": {"errors", "system"},
    "system": {"errors"},
    "errors": set(),
}
HYDRA = {"hydra_compose.py", "hydra_defaults.py", "hydra_arguments.py", "hydra_words.py"}
# What reads reports, lists runs and composes a command works where torch is not installed, or before it is imported.
WITHOUT_TORCH = {"report", "runs", "config", "errors", "system"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    here = room(path)
    for name in imported(path):
        if name.startswith("set_cli."):
            there = name.split(".")[1]
            if there in ALLOWED and there != here:  # else a name of the package itself, such as __version__
                assert there in ALLOWED[here] | (LEAVES if here not in LEAVES else set()), f"{path.name} imports {name}"


def test_every_room_is_in_the_table() -> None:
    assert {room(path) for path in modules()} == ALLOWED.keys()


FORBIDDEN = {"pickle", "importlib.import_module", "hydra.utils", "joblib", "shelve", "marshal"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_some_things_are_nowhere(path: Path) -> None:
    names = set(imported(path))
    assert not names & FORBIDDEN
    if path.name not in HYDRA:
        assert not any(name.split(".")[0] in ("hydra", "omegaconf") for name in names)
    if room(path) in WITHOUT_TORCH:
        assert not any(name.split(".")[0] == "torch" for name in names)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("exec", "eval", "torch.load", "torch.save", "os.system")
            assert not any(keyword.arg == "shell" for keyword in node.keywords)


def test_no_yaml_names_a_class() -> None:
    for path in (ROOT / "conf").rglob("*.yaml"):
        assert "_target_" not in path.read_text(), path


def test_the_readme_names_existing_files_and_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in re.findall(r"`((?:set_cli|conf|tests|datasets|docs)/[\w./-]*)`", readme):
        assert (ROOT / name).exists(), name
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)`", readme)) | set(re.findall(r"^make ([a-z-]+)", readme, re.MULTILINE))
    assert {"train", "test"} <= named
    assert named <= targets
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name in ("dataset_model", "experiment"):
            continue  # named after the two groups that they join
        assert f"`{path.stem}`" in readme, f"README.md does not name {path.stem}"


def test_the_readmes_train_commands_compose() -> None:
    lines = re.findall(r"^set-train(.*?)(?:#.*)?$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        words = [word.strip("'") for word in line.split() if word != "-m"]
        values = [word.split(",")[0] for word in words if "glob(" not in word]  # the first run of a sweep
        from_mapping(compose_mapping(*values))


def test_the_readmes_layer_works() -> None:
    (snippet,) = re.findall(r"```python\n(import torch\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    result = run_python("-c", snippet + "print(layer.nnz)", folder=ROOT)
    assert result.returncode == 0, result.stderr
    assert abs(int(result.stdout) - 1_000_000) < 5000


def test_the_constraints_pin_every_requirement() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|dev) = \[(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)
    wanted = {re.split(r"[<>=]", name)[0] for text in lists for name in re.findall(r'"([^"]+)"', text)}
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert wanted
    assert {name.lower() for name in wanted} <= pinned
