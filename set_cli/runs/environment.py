"""What a run was started with: command, code, packages, machine. One entry of run.json per start."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import set_cli

PACKAGES = ("torch", "triton", "numpy", "scipy", "scikit-learn", "hydra-core", "omegaconf", "pydantic", "pandas")


def describe_environment(command: list[str]) -> dict[str, Any]:
    """Time, command line (as given), versions, git state of the code and the processor."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "folder": str(Path.cwd()),
        "pid": os.getpid(),
        "set_cli": set_cli.__version__,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "git": _git_state(),
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
    }


# What a resumed run must find as it was, to end with the same bits.
DECIDING = ("threads", "processes", "kernels", "device", "python", "cpu", "set_cli")
DECIDING_PACKAGES = ("torch", "triton", "numpy", "scipy")


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What decides a run's last bits and is not as it was at its start before: 'threads: 2, before 1'."""
    old, new = _deciding(before), _deciding(now)
    return [f"{name}: {new[name]}, before {old.get(name)}" for name in new if new[name] != old.get(name)]


def _deciding(start: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the bits of a run, by the names that a message uses."""
    found = {"processes": 1} | {key: start[key] for key in DECIDING if key in start}
    found |= {name: start["packages"].get(name) for name in DECIDING_PACKAGES}
    found |= {f"engine of {name}": layer["engine"] for name, layer in start["layers"].items()}
    return found | {"code": (start["git"] or {}).get("commit")}


def code_changed(start: Mapping[str, Any]) -> bool:
    """Whether an entry of run.json is of another version of this program than the one that runs now."""
    commits = [(git or {}).get("commit") for git in (start.get("git"), _git_state())]
    return start.get("set_cli") != set_cli.__version__ or commits[0] != commits[1]


@functools.cache  # reading the nine takes as long as an epoch of a small network
def _version(package: str) -> str | None:
    """None for a package that is not installed; not all are needed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the checkout this code runs from; None for an installed wheel or without git."""
    folder = Path(set_cli.__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit.strip(), "dirty": bool(_git(folder, "status", "--porcelain").strip())}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout


def cpu_name() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
