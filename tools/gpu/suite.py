"""Part `tests`: the tests that need a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from xml.etree import ElementTree

from gpu.parts import Settings

WORKERS = max(1, min(12, (os.cpu_count() or 1) - 2))
# A newer Python or torch deprecates more: that says nothing about the GPU. Every other warning stays an error.
QUIET = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "ImportWarning")
LINES = 25  # of a failure's traceback
SHOWN = 6  # failures in the table
ENDED = re.compile(r"(PASSED|FAILED|ERROR|SKIPPED)\b.*?(tests/\S+)|(tests/\S+) (PASSED|FAILED|ERROR|SKIPPED)")


def main(settings: Settings) -> None:
    figures, root = settings.new_figures(), Path(settings.root)
    report = Path(settings.work) / "junit.xml"
    modules = sorted(str(p.relative_to(root)) for p in root.glob("tests/test_*.py") if "mark.gpu\n" in marks(p))
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--timeout", "120", "--tb", "short"]
    # pytest-benchmark, where it is there, warns of xdist.
    command += ["-p", "no:cacheprovider", "-p", "no:benchmark", "--junitxml", str(report)]
    command += [word for name in QUIET for word in ("-W", f"default::{name}")]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(WORKERS)]
    seen, code = run_tests([*command, *modules], root, settings.seconds - 5)
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        wrong = next((child for child in case if child.tag in ("failure", "error")), None)
        if wrong is not None:
            print(f"\n--- {case.get('name')}", *(wrong.text or "").splitlines()[-LINES:], sep="\n")
    failures = sorted(name for name, result in seen.items() if result in ("FAILED", "ERROR"))
    count = {result: sum(found == result for found in seen.values()) for result in ("PASSED", "SKIPPED")}
    figures.add("passed, failed, skipped", f"{count['PASSED']}, {len(failures)}, {count['SKIPPED']}", results=seen)
    # 0: all passed, or were skipped
    figures.add("pytest's exit code", code, "", "0", code == 0, failures=failures)
    for name in failures[:SHOWN]:
        figures.add("failed", name.rpartition("::")[2][:90], held=False)


def marks(path: Path) -> str:
    """The lines that mark tests, each ended by the mark's name."""
    return "".join(f"{mark}\n" for mark in re.findall(r"pytest\.(mark\.\w+)", path.read_text()))


def run_tests(command: list[str], root: Path, seconds: float) -> tuple[dict[str, str], int]:
    """The result of every test that ended in this time, and the exit code."""
    seen = {}
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
        watch = threading.Timer(seconds, child.kill)
        watch.start()
        for line in child.stdout or ():
            print(line, end="", flush=True)
            found = ENDED.search(line)
            if found and "::" in line and " - " not in line:
                result, name, other_name, other_result = found.groups()
                seen[name or other_name] = result or other_result
        code = child.wait()
        watch.cancel()
    return seen, code
