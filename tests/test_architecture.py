"""The house rules, read from the source: imports point one way, and some things are nowhere."""

from __future__ import annotations

import ast
import re
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from set_cli import errors
from set_cli.config import from_mapping
from set_cli.runs.folder import folder_name
from set_cli.sparse.engines import ENGINES
from tests.conftest import ONE_THREAD, TRAIN, compose_mapping, run_command

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "set_cli"

# Which rooms a room may import from, from the commands down to the machine. Anyone may use the leaves.
LEAVES = {"config", "errors", "system"}
ALLOWED: dict[str, set[str]] = {
    "__init__": {"trained", "estimator"},
    "commands": {"sweeps", "report", "trained", "bench", "training", "data"},
    "sweeps": {"experiment", "training", "models", "runs", "data"},
    "experiment": {"training", "models", "runs", "data", "native"},
    "report": {"analysis", "runs", "data"},
    "trained": {"report", "training", "models", "sparse", "runs", "data"},
    "estimator": {"training", "models", "sparse", "data"},
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
HYDRA = {
    "hydra_arguments.py",
    "hydra_compose.py",
    "hydra_defaults.py",
    "hydra_launcher.py",
    "hydra_received.py",
    "hydra_words.py",
}
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


@pytest.mark.parametrize("path", sorted((PACKAGE / "sweeps").glob("*.py")), ids=lambda path: path.name)
def test_a_sweep_knows_no_architecture(path: Path) -> None:
    """What differs between architectures is in training/architectures.py: a new one changes nothing about sweeps."""
    models = {name for name in imported(path) if name.startswith("set_cli.models.")}
    assert models <= {"set_cli.models.mlp.LayerPlan"}
    assert not re.search(r"isinstance\(\w*\.?model\b|[\"'](mlp|cnn|rbm)[\"']", path.read_text())


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


README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "DECISIONS.md", ROOT / "datasets/README.md", *DOCS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_existing_files_and_commands(page: Path) -> None:
    text = page.read_text()
    for name in re.findall(r"`((?:set_cli|conf|tests|datasets|docs|tools)/[\w./-]*)`", text):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([^)]+)\)", text):
        assert target.startswith("https://") or (page.parent / target.partition("#")[0]).exists(), target
    named = set(re.findall(r"`make ([a-z-]+)`", text)) | set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE))
    assert named <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    if page == README:
        assert {"train", "test"} <= named


def test_the_readme_is_short_and_links_every_page() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 120
    for page in DOCS:
        assert f"(docs/{page.name})" in text, f"README.md does not link docs/{page.name}"


def test_the_docs_name_every_option() -> None:
    table = (ROOT / "docs/training.md").read_text()
    for path in (ROOT / "conf").glob("*/*.yaml"):
        if path.parent.name in ("dataset_model", "recipe_model", "recipe_pair", "method_time", "experiment"):
            continue  # named after the two groups that they join
        assert f"`{path.stem}`" in table, f"docs/training.md does not name {path.stem}"


def test_the_docs_name_every_engine() -> None:
    table = (ROOT / "docs/engines.md").read_text()
    assert [name for name in ENGINES if f"| `{name}` |" not in table] == []


def test_the_docs_name_every_exit_code() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \|", (ROOT / "docs/training.md").read_text(), re.MULTILINE)
    named = {int(code) for row in rows for code in row.split(",")}
    raised = {kind.exit_code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "exit_code")}
    assert named == raised | {0, 128 + signal.SIGINT, 128 + signal.SIGTERM}


def test_the_docs_name_every_file_of_a_run(tmp_path: Path) -> None:
    words = ["train.epochs=1", "data.train_limit=20", "progress=none", ONE_THREAD]
    result = run_command(TRAIN, *words, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (config,) = tmp_path.glob("runs/*/*/*/config.json")
    page = (ROOT / "docs/run_folder.md").read_text()
    for file in config.parent.rglob("*.*"):
        name = re.sub(r"\d{4}", "NNNN", str(file.relative_to(config.parent)))
        assert f"`{name}`" in page, f"docs/run_folder.md does not name {name}"


def test_the_run_that_the_docs_load_is_the_first_one_that_make_train_makes() -> None:
    name = folder_name(from_mapping(compose_mapping()))
    loaded = [folder for page in PAGES for folder in re.findall(r"\bruns/digits/mlp/(set-e[\w.-]+)", page.read_text())]
    assert len(loaded) >= 3
    assert set(loaded) == {name}


def commands_of(page: Path) -> list[str]:
    """What follows set-train in the page's shell blocks, without what is no composition (launchers, options, `…`)."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in re.findall(r"^set-train(.*?)(?:\s#.*)?$", block, re.MULTILINE)]
    return [line for line in lines if not re.search("hydra/|…|--", line)]


LEAST = {"README.md": 2, "training.md": 8}  # else the pattern above has missed them


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_the_train_commands_compose(page: Path) -> None:
    lines = commands_of(page)
    assert len(lines) >= LEAST.get(page.name, 0)
    for line in lines:
        words = [word for word in shlex.split(line) if word != "-m"]
        # The first run of a sweep; of a list in brackets all of it.
        values = [re.split(r",(?![^\[]*\])", word)[0] for word in words if "glob(" not in word]
        from_mapping(compose_mapping(*values))


def test_the_layer_of_the_readme_is_the_first_example_of_its_page() -> None:
    """Which tests/test_docs_python.py runs."""
    (snippet,) = re.findall(r"```python\n(import torch\n.*?)```", README.read_text(), re.DOTALL)
    assert snippet == re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(), re.DOTALL)[0]


def test_the_constraints_pin_every_requirement() -> None:
    pyproject = (ROOT / "pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|dev) = \[(.*?)^\]", pyproject, re.MULTILINE | re.DOTALL)
    wanted = {re.split(r"[<>=]", name)[0] for text in lists for name in re.findall(r'"([^"]+)"', text)}
    pinned = {line.partition("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert wanted
    assert {name.lower() for name in wanted} <= pinned
