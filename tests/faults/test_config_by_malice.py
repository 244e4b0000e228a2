"""Configuration that somebody sent: refused in one sentence, nothing executed, nothing made. Reliability, H."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel

from set_cli.config import Config, from_mapping, known_keys
from set_cli.errors import ConfigError
from tests.conftest import compose_mapping
from tests.faults.command import Ending, command

pytestmark = pytest.mark.faults
SECTIONS = ("", *(f"{name}." for name, field in Config.model_fields.items()
                  if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)))  # fmt: skip
INSTANTIATING = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    made.mkdir()
    return made


def refused(ending: Ending, folder: Path, record: dict[str, int], *, left: tuple[str, ...] = ()) -> None:
    """Exit code 2 and one sentence; nothing of what was sent ran, nothing was made."""
    sentences = [line for line in ending.err.splitlines() if line.startswith("set-train: ")]
    assert (ending.code, len(sentences)) == (2, 1), ending
    assert "Traceback" not in ending.err
    assert ending.events == []
    assert sorted(path.name for path in folder.iterdir()) == sorted(left)
    record["hostile configurations refused"] += 1


def test_what_makes_hydra_build_objects(folder: Path, record: dict[str, int]) -> None:
    for section, key in itertools.product(SECTIONS, INSTANTIATING):
        value = {"_target_": "os.system", "_args_": "[touch,canary]"}.get(key, "true")
        ending = command(folder, f"+{section}{key}={value}")
        refused(ending, folder, record)
        assert f"{section}{key} is not a configuration key" in ending.err


def test_the_same_in_a_yaml_file(folder: Path, record: dict[str, int]) -> None:
    (folder / "mine/experiment").mkdir(parents=True)
    for section in SECTIONS:
        lines = [f"{'  ' * i}{name}:" for i, name in enumerate([*section.split(".")][:-1])]
        indent = "  " * len(lines)
        lines += [f"{indent}_target_: os.system", f"{indent}_args_: [touch canary]"]
        (folder / "mine/experiment/evil.yaml").write_text("# @package _global_\n" + "\n".join(lines))
        ending = command(folder, "--config-dir", "mine", "+experiment=evil")
        refused(ending, folder, record, left=("mine",))


HYDRAS_OWN = [
    ["+hydra.callbacks.evil._target_=os.system"],
    ["+hydra.callbacks.evil._target_=subprocess.Popen", "+hydra.callbacks.evil.args=[touch,canary]"],
    ["hydra.launcher._target_=os.system", "-m", "seed=0,1"],
    ["hydra.sweeper._target_=subprocess.Popen", "-m", "seed=0,1"],
    ["hydra/job_logging=default", "+hydra.job_logging.handlers.evil={'()':os.system,command:'touch canary'}"],
    ["hydra/hydra_logging=default", "+hydra.hydra_logging.formatters.evil={'()':os.system,command:'touch canary'}"],
]


@pytest.mark.parametrize("arguments", HYDRAS_OWN, ids=lambda arguments: arguments[0][:40])
def test_hydras_own_ways_to_execute_things(arguments: list[str], folder: Path, record: dict[str, int]) -> None:
    """Whatever Hydra makes of them: none of it runs."""
    ending = command(folder, *arguments, "train.epochs=1", "model.hidden=[9]", "progress=none")
    assert ending.events == []
    assert not (folder / "canary").exists()
    assert ending.code in (0, 2), ending
    record["hostile configurations refused"] += ending.code == 2


class Canary:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch canary",)


def test_a_pickle_to_run_again(folder: Path, record: dict[str, int]) -> None:
    (folder / "config.pickle").write_bytes(pickle.dumps(Canary()))
    for flag in (["--experimental-rerun", "config.pickle"], ["--experimental-rerun=config.pickle"], ["--exp=x"]):
        refused(command(folder, *flag), folder, record, left=("config.pickle",))


NAMES = [
    "../x", "../../x", "../../../../etc/passwd", "/x", "/etc/passwd", "a/b", "a/../b", ".", "..", "...", "con", "nul",
    "digits.yaml", "DIGITS", "d\u0456gits", "digit\u017f", "\uff44igits", "digits\u200b", "\u202edigits",
    "a\nb", "a\tb", "a\\b", "x" * 300, "x" * 5000, "$HOME", "`id`", "$(id)", "a;b", "a|b", "a&b", "~", "~root", "*",
    "?", "%2e%2e", "file:x", "pkg://set_cli", "http://x", "-1", "'", '"', "a b", "null", "true", "1e400",
]  # fmt: skip


def test_names_that_are_paths_or_look_like_others(folder: Path, record: dict[str, int]) -> None:
    for group in ("dataset", "model", "method"):
        for name in NAMES if group == "dataset" else NAMES[:14]:
            refused(command(folder, f"{group}={name}"), folder, record)


INTERPOLATIONS = [
    "${oc.env:SECRET}", "${oc.env:SECRET,x}", "${oc.decode:${oc.env:SECRET}}", "${seed}", "${epsilon}", "${data.dir}",
    "${oc.select:SECRET}", "${oc.dict.keys:train}", "${hydra:runtime.cwd}", "a${oc.env:SECRET}b", "${now:%Y}",
]  # fmt: skip


def test_interpolations(folder: Path, record: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "hunter2hunter2")
    for key, value in itertools.product(("data.dir", "runs_dir", "epsilon", "progress"), INTERPOLATIONS):
        ending = command(folder, f"{key}='{value}'")
        refused(ending, folder, record)
        assert "hunter2" not in ending.err + ending.out


BAD = [float("nan"), float("inf"), -float("inf"), -1, -1.5, 0, 1e308, True, "20", "", 10**30, -(10**30), None, [], {},
       [1], ["x"], {"a": 1}, b"x", "\x00", "x" * 10**6, 2**63, [[1]], [float("nan")]]  # fmt: skip


def test_every_key_with_every_kind_of_value(record: dict[str, int]) -> None:
    """A value is refused in one sentence, or it makes a configuration; nothing else happens."""
    plain = cast(dict[str, Any], compose_mapping())
    for key, value in itertools.product(known_keys(), BAD):
        mapping = copy.deepcopy(plain)
        *path, name = key.split(".")
        section = mapping
        for part in path:
            section = section[part]
        section[name] = value
        sentence = why_not(mapping)
        assert len(sentence) < 500
        assert "\n" not in sentence
        record["odd values refused" if sentence else "odd values that mean something"] += 1


def why_not(mapping: dict[str, Any]) -> str:
    try:
        from_mapping(mapping)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("sweep", [[f"{key}=range(1,1000)" for key in ("epsilon", "seed", "train.epochs")]])
def test_a_sweep_that_never_ends(sweep: list[str], folder: Path, record: dict[str, int]) -> None:
    ending = command(folder, "-m", *sweep)
    refused(ending, folder, record)
    assert "a sweep of 997,002,999 runs" in ending.err
    assert ending.seconds < 5


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [" + ",".join(f"*{before}" for _ in range(9)) + "]\n"
    for before, name in itertools.pairwise("abcdefghi")
)
YAML = {
    "alias bomb": BOMB,
    "100 MB": "epsilon: 3 #" + "x" * 10**8,
    "deep": "epsilon: " + "[" * 20_000,
    "deep and closed": "epsilon: " + "[" * 20_000 + "]" * 20_000,
    "tabs": "train:\n\tepochs: 3",
    "duplicate keys": "epsilon: 3\nepsilon: 4",
    "no mapping": "- a\n- b",
    "binary": "\x00\x01\x02",
    "python object": "epsilon: !!python/object/apply:os.system [touch canary]",
    "a key that is a mapping": "? {a: b}\n: c",
}


@pytest.mark.parametrize("kind", YAML)
def test_yaml_that_nobody_writes_by_hand(kind: str, folder: Path, record: dict[str, int]) -> None:
    (folder / "mine/experiment").mkdir(parents=True)
    (folder / "mine/experiment/evil.yaml").write_text("# @package _global_\n" + YAML[kind])
    ending = command(folder, "--config-dir", "mine", "+experiment=evil")
    refused(ending, folder, record, left=("mine",))
    assert ending.seconds < 10
