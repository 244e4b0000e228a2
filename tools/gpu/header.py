"""What ran where: card, driver, versions, processor, kernels. Standard library only; torch is asked in a child."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

ASK = """
import json, os, platform, torch
from set_cli import native
from set_cli.bench.table import processor
try:
    import triton
    version = triton.__version__
except ImportError:
    version = "none"
gpu = None
if torch.cuda.is_available():
    card = torch.cuda.get_device_properties(0)
    gpu = f"{card.name}, {card.total_memory / 1e9:.1f} GB, L2 {card.L2_cache_size / 2**20:.0f} MiB"
print(json.dumps({"gpu": gpu, "torch": torch.__version__, "triton": version, "python": platform.python_version(),
                  "cpu": processor(), "kernels": str(native.describe())}))
"""


def ask(python: Path, root: Path) -> dict[str, Any]:
    """What the environment says of itself; `error` where it cannot even import the package."""
    done = subprocess.run([str(python), "-c", ASK], cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"gpu": None, "error": done.stderr.strip()[-2000:]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def output_of(command: list[str], root: Path) -> str:
    """The first line that a command prints, empty where it fails."""
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def header(found: dict[str, Any], root: Path, kernels: str, seconds: float) -> list[str]:
    driver = output_of(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], root)
    commit = output_of(["git", "rev-parse", "HEAD"], root)[:12]
    if commit and output_of(["git", "status", "--porcelain"], root):
        commit += " with changes"
    if "error" in found:
        return [f"the package cannot be imported: {found['error'].splitlines()[-1]}"]
    return [
        f"{found['gpu'] or 'no GPU'}; driver {driver or 'unknown'}; torch {found['torch']}, triton {found['triton']}, "
        f"Python {found['python']}",
        f"{found['cpu']}, {os.cpu_count()} cores; kernels {kernels}: {found['kernels']}; "
        f"commit {commit or 'unknown'}; installed in {seconds:.1f} s",
    ]
