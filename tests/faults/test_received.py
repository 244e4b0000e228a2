"""Configuration files that somebody sent: they say nothing to Hydra that reads, writes or runs anything."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.faults.command import command

pytestmark = pytest.mark.faults
QUICK = ("train.epochs=1", "model.hidden=[9]", "data.train_limit=100", "progress=none")
EVIL = "mine/experiment/evil.yaml"
PICKED = ("--config-dir", "mine", "+experiment=evil")


class Canary:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("canary",)


def whole(text: str) -> Mapping[str, str]:
    return {EVIL: f"# @package _global_\n{text}"}


def callback(target: str, **arguments: str) -> Mapping[str, str]:
    lines = [f"      {name}: {value}" for name, value in arguments.items()]
    return whole("\n".join(["hydra:", "  callbacks:", "    evil:", f"      _target_: {target}", *lines]))


HANDLER = (
    "version: 1\nroot: {handlers: [file]}\nhandlers: {file: {class: logging.FileHandler, filename: ../outside/log}}\n"
)
MKDIR = "{_target_: os.mkdir, path: canary}"
CALLED = "# @package _global_\nhydra: {callbacks: {e: {_target_: os.mkdir, path: canary}}}"
WITHOUT = "train: {epochs: 1}\nmodel: {hidden: [9]}\ndata: {train_limit: 100}\nprogress: none\n"
TOP = ("--config-dir", "mine", "--config-name", "top")
LOOKS_PERMITTED = "defaults:\n- 'override /hydra/launcher: joblib'"
SEVERAL = "defaults:\n- /x@hydra.callbacks.e: [good, evil]"
FROM_HERE = "defaults:\n- /x@_here_.hydra.callbacks.e: evil"
UP = "defaults:\n- /../../../../../../../../../../../{here}/up/evil"
SWEEP = "hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1', %s}}}"

# What is in the files, and the words after set-train.
HOSTILE: dict[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    # Callbacks, which Hydra builds first of all
    "sympy": (callback("sympy.sympify", a="\"__import__('os').mkdir('canary')\""), PICKED),
    "joblib": (callback("joblib.load", filename="mine/pickle.bin"), PICKED),
    "pandas": (callback("pandas.read_pickle", filepath_or_buffer="mine/pickle.bin"), PICKED),
    "numpy": (callback("numpy.load", file="mine/pickle.bin", allow_pickle="true"), PICKED),
    "torch": (callback("torch.load", f="mine/pickle.bin", weights_only="false"), PICKED),
    "write": (callback("io.open", file="../outside/written", mode="w"), PICKED),
    "folder": (callback("os.mkdir", path="../outside/made"), PICKED),
    "link": (callback("os.symlink", src="/etc/passwd", dst="canary"), PICKED),
    "copy": (callback("shutil.copyfile", src="mine/pickle.bin", dst="../outside/copied"), PICKED),
    "nested": (callback("builtins.dict", inner="{_target_: os.mkdir, path: canary}"), PICKED),
    # Logging
    "handler": (whole(f"hydra: {{job_logging: {HANDLER}}}"), PICKED),
    "filter": (whole("hydra: {hydra_logging: {version: 1, filters: {e: {'()': os.mkdir, path: canary}}}}"), PICKED),
    "verbose": (whole("hydra: {verbose: true}"), PICKED),
    # Folders, the environment
    "run.dir": (whole("hydra: {run: {dir: ../outside/run}}"), PICKED),
    "sweep.dir": (whole("hydra: {sweep: {dir: ../outside/sweep}}"), (*PICKED, "-m", "seed=0,1")),
    "sweep.subdir": (whole("hydra: {sweep: {subdir: ../../outside/sub}}"), (*PICKED, "-m", "seed=0,1")),
    "output_subdir": (whole("hydra: {output_subdir: ../outside/sub}"), PICKED),
    "chdir": (whole("hydra: {job: {chdir: true}, run: {dir: ../outside}}"), PICKED),
    "env_set": (whole("hydra: {job: {env_set: {PYTHONPATH: mine}}}"), PICKED),
    "env_copy": (whole("hydra: {job: {env_copy: [HOME]}}"), PICKED),
    "an interpolated name": (whole("hydra: {job: {name: '${oc.env:HOME}'}}"), PICKED),
    "hydra as an interpolation": (whole("x: {output_subdir: sub}\nhydra: ${x}"), PICKED),
    # Launcher and sweeper, beyond what is documented
    "launcher": (whole(f"hydra: {{launcher: {MKDIR}}}"), (*PICKED, "-m", "seed=0,1")),
    "n_jobs": (whole("hydra: {launcher: {n_jobs: '${oc.env:HOME}'}}"), (*PICKED, "-m", "hydra/launcher=joblib")),
    "temp_folder": (
        whole("defaults:\n- override /hydra/launcher: joblib\nhydra: {launcher: {temp_folder: ../outside/t}}"),
        (*PICKED, "-m", "seed=0,1"),
    ),
    "job script": (
        whole('hydra: {launcher: {partition: "gpu\\ntouch canary #"}}'),
        (*PICKED, "-m", "hydra/launcher=submitit_local"),
    ),
    "setup": (
        whole("hydra: {launcher: {setup: [touch canary]}}"),
        (*PICKED, "-m", "hydra/launcher=submitit_slurm"),
    ),
    "swept": (whole(SWEEP % "hydra.job.env_set.PYTHONPATH: mine"), PICKED),
    "swept, added": (whole(SWEEP % "+hydra.sweep.subdir: ../../outside/x"), PICKED),
    "swept group": (whole(SWEEP % "hydra/job_logging: default"), PICKED),
    "swept in a key": (whole(SWEEP % "'hydra.job.env_set.A=x': b"), PICKED),
    "swept environment": (whole(SWEEP % "runs_dir: '${oc.env:HOME}'"), PICKED),
    "endless": (whole(SWEEP % "epsilon: 'range(1,1000)', zeta: 'range(1,1000)'"), PICKED),
    # Files that become part of Hydra's settings by their place
    "header": ({EVIL: f"# @package hydra.callbacks.evil\n{MKDIR}"}, PICKED),
    "header, global": ({EVIL: f"# @package _global_.hydra.callbacks.evil\n{MKDIR}"}, PICKED),
    "header, cut off": ({EVIL: f"# @package x._global_xhydra.callbacks.evil\n{MKDIR}"}, PICKED),
    "group": ({"mine/hydra/callbacks/evil.yaml": f"evil: {MKDIR}"},
              ("--config-dir", "mine", "hydra/callbacks=evil")),
    "group, selected by a file": (
        {"mine/hydra/job_logging/evil.yaml": HANDLER, **whole("defaults:\n- override /hydra/job_logging: evil")},
        PICKED,
    ),
    "package": ({"mine/x/evil.yaml": MKDIR, **whole("defaults:\n- /x@hydra.callbacks.evil: evil")}, PICKED),
    "package, typed": ({"mine/x/evil.yaml": MKDIR}, ("--config-dir", "mine", "+x@hydra.callbacks.evil=evil")),
    "package of a file": ({"mine/x/evil.yaml": MKDIR, **whole("defaults:\n- /x/evil@hydra.callbacks.evil")}, PICKED),
    "package, from here": ({"mine/x/evil.yaml": MKDIR, **whole(FROM_HERE)}, PICKED),
    "relative group": (
        {"mine/experiment/hydra/callbacks/x/evil.yaml": MKDIR, **whole("defaults:\n- hydra/callbacks/x: evil")},
        PICKED,
    ),
    "package behind a colon": (
        {"mine/a: b/evil.yaml": MKDIR, **whole("defaults:\n- 'a: b@hydra.callbacks.e': evil")},
        PICKED,
    ),
    "package, indexed": ({EVIL: f"# @package _global_[hydra].callbacks.e\n{MKDIR}"}, PICKED),
    "an entry that reads like a permitted one": (
        {"mine/override /hydra/launcher: joblib.yaml": MKDIR, **whole(LOOKS_PERMITTED)},
        PICKED,
    ),
    "one of several": (
        {"mine/x/evil.yaml": MKDIR, "mine/x/good.yaml": "a: 1", **whole(SEVERAL)},
        PICKED,
    ),
    "a launcher of the same name": (
        {"mine/hydra/launcher/joblib.yaml": MKDIR, **whole("defaults:\n- override /hydra/launcher: joblib")},
        (*PICKED, "-m", "seed=0,1"),
    ),
    "swept package": ({"mine/x/evil.yaml": MKDIR, **whole(SWEEP % "+x@hydra.callbacks.e: evil")}, PICKED),
    "put together": ({"mine/ra/evil.yaml": f"callbacks: {{e: {MKDIR}}}",
                      **whole("defaults:\n- /ra@hyd_group_: evil")}, PICKED),
    "cut off": ({"mine/a_global_xhydra/callbacks/e/evil.yaml": MKDIR},
                ("--config-dir", "mine", "+a_global_xhydra/callbacks/e=evil")),
    "Hydra's whole configuration": ({"mine/hydra/config.yaml": "output_subdir: sub\n"}, ("--config-dir", "mine")),
    "Hydra's launcher": ({"mine/hydra/launcher/basic.yaml": MKDIR}, ("--config-dir", "mine", "-m", "seed=0,1")),
    "up": ({"up/evil.yaml": CALLED, **whole("defaults:\n- /../up/evil")}, PICKED),
    "up from our package": ({"up/evil.yaml": CALLED, **whole(UP)}, PICKED),
    "absolute": ({"up/evil.yaml": CALLED, **whole("defaults:\n- //{here}/up/evil")}, PICKED),
    "a link": ({"up/evil.yaml": "epsilon: 3"}, PICKED),
    "anchors": (whole("x: &x {e: {_target_: os.mkdir, path: canary}}\nhydra: {callbacks: *x}"), PICKED),
    "merged": (whole("x: &x {callbacks: {e: {_target_: os.mkdir, path: canary}}}\nhydra:\n  <<: *x"), PICKED),
    "dotted": (whole("hydra.callbacks.evil: {_target_: os.mkdir, path: canary}"), PICKED),
    "dotted inside": (whole("hydra: {'callbacks.evil': {_target_: os.mkdir, path: canary}}"), PICKED),
    # The first file itself
    "primary": ({"mine/top.yaml": f"defaults: [train, _self_]\n{CALLED}"}, TOP),
    "searchpath": ({"mine/top.yaml": "defaults: [train, _self_]\nhydra: {searchpath: ['file://up']}"},
                   TOP),
    "path": ({"mine/train.yaml": "hydra: {run: {dir: ../outside/x}}"}, ("--config-path", "{here}/mine")),
    "searched": (whole("hydra: {output_subdir: sub}"), ("hydra.searchpath=[file://mine]", "+experiment=evil")),
    "a resolver in the defaults": (whole("defaults:\n- override /dataset: ${oc.env:HOME}"), PICKED),
    "not ours, without our settings": ({"mine/top.yaml": WITHOUT}, TOP),
}  # fmt: skip


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "-report" not in str(path)}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_received_file_does_nothing(kind: str, tmp_path: Path, record: dict[str, int]) -> None:
    folder = tmp_path / "here"
    for place in ("here/mine", "outside"):
        (tmp_path / place).mkdir(parents=True)
    (folder / "mine/pickle.bin").write_bytes(pickle.dumps(Canary()))
    (folder / "mine/sitecustomize.py").write_text("import os; os.mkdir('canary')")
    files, words = HOSTILE[kind]
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.replace("{here}", str(folder).lstrip("/")))
    if kind == "a link":
        (folder / "mine/experiment").mkdir()
        (folder / EVIL).symlink_to(folder / "up/evil.yaml")
    before = everything(tmp_path)
    ending = command(folder, *QUICK, *(word.replace("{here}", str(folder)) for word in words))
    assert everything(tmp_path) == before, ending
    assert ending.events == []
    sentences = [line for line in ending.err.splitlines() if line.startswith("set-train: ")]
    assert (ending.code, len(sentences)) == (2, 1), ending
    assert "Traceback" not in ending.err
    record["hostile configurations refused"] += 1


def test_the_sentence_names_file_and_key(tmp_path: Path) -> None:
    (tmp_path / "here/mine/experiment").mkdir(parents=True)
    (tmp_path / "here" / EVIL).write_text(
        '# @package _global_\nhydra: {callbacks: {"\\e[31mred": {_target_: os.mkdir}}}'
    )
    ending = command(tmp_path / "here", *PICKED)
    assert (
        "mine/experiment/evil.yaml: hydra.callbacks.?[31mred._target_: expected nothing of Hydra's own but"
        in ending.err
    )


def test_a_folder_that_is_shared_works(tmp_path: Path) -> None:
    """Data sets, a base of one's own, a sweep with its launcher: what people put in such a folder."""
    shared = tmp_path / "here/shared"
    for group in ("experiment", "sweep", "method"):
        (shared / group).mkdir(parents=True)
    (shared / "method/slow_set.yaml").write_text("name: set\nregrow_init: random\n")
    (shared / "experiment/small.yaml").write_text(
        "# @package _global_\ndefaults:\n- override /dataset: digits\n- override /model: mlp\n"
        "- override /method: slow_set\nmodel: {hidden: [9]}\n"
    )
    (shared / "sweep/ours.yaml").write_text(
        "# @package _global_\ndefaults:\n- override /hydra/launcher: joblib\n"
        "hydra: {mode: MULTIRUN, launcher: {n_jobs: 1}, sweeper: {params: {+experiment: small, epsilon: '3,4'}}}\n"
    )
    (shared / "lab.yaml").write_text("defaults: [train, _self_]\ntrain: {epochs: 1}\n")
    words = ("--config-dir", "shared", "--config-name", "lab", "data.train_limit=100", "progress=none")
    ending = command(tmp_path / "here", *words, "+sweep=ours", "--dry-run")
    assert (ending.code, ending.err) == (0, ""), ending
    assert "2 in all: 2 train" in ending.out
    assert command(tmp_path / "here", *words, "+experiment=small", "epsilon=3").code == 0
    (config,) = (tmp_path / "here/runs").rglob("config.json")
    assert '"regrow_init": "random"' in config.read_text()
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"shared", "runs"}
