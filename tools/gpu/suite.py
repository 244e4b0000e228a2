"""Part `tests`: the tests that need a GPU."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from gpu.parts import Settings

WORKERS = 6
# A newer Python or torch deprecates more: that says nothing about the GPU. Every other warning stays an error.
QUIET = ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "ImportWarning")
LINES = 25  # of a failure's traceback


def main(settings: Settings) -> None:
    figures, root = settings.new_figures(), Path(settings.root)
    report = Path(settings.work) / "junit.xml"
    modules = sorted(str(p.relative_to(root)) for p in root.glob("tests/test_*.py") if "mark.gpu" in p.read_text())
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--timeout", "120", "--tb", "short"]
    command += ["-p", "no:cacheprovider", "--junitxml", str(report)]
    command += [word for name in QUIET for word in ("-W", f"default::{name}")]
    if importlib.util.find_spec("xdist") is not None:
        command += ["-n", str(WORKERS)]
    code = subprocess.run([*command, *modules], cwd=root, check=False).returncode
    if not report.exists():
        figures.add("pytest", f"exit code {code}, no report", wanted="a report", held=False)
        return
    passed: list[str] = []
    skipped: list[str] = []
    failed: list[str] = []
    for case in ElementTree.parse(report).iter("testcase"):
        name = str(case.get("name"))
        kinds = {child.tag: child for child in case}
        wrong = kinds.get("failure", kinds.get("error"))
        if wrong is not None:
            failed.append(name)
            print(f"\n--- {name}", *(wrong.text or "").splitlines()[-LINES:], sep="\n")
        else:
            (skipped if "skipped" in kinds else passed).append(name)
    figures.add("passed", len(passed), seconds={str(c.get("name")): c.get("time") for c in cases(report)})
    figures.add("failed", len(failed), "", "0", not failed, names=failed)
    figures.add("skipped", len(skipped), names=skipped)
    if failed:
        shown = failed[:8]
        for name in shown:
            figures.add("failure", name, held=False)


def cases(report: Path) -> list[ElementTree.Element]:
    return list(ElementTree.parse(report).iter("testcase"))
