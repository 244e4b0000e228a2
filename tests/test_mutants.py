"""Every fault of tools/mutants.py is noticed by the tests that are there for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mutants
import pytest

import set_cli

PARTS = 3
PACKAGE = Path(set_cli.__file__).parent
TOOL = Path(__file__).parent.parent / "tools" / "mutants.py"


def test_every_fault_can_still_be_put_in() -> None:
    for mutant in mutants.MUTANTS:
        found = (PACKAGE / mutant.file).read_text().count(mutant.old)
        assert found == 1, f"{mutant.name}: expected once in {mutant.file}, found {found} times: {mutant.old}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", [f"{k}/{PARTS}" for k in range(1, PARTS + 1)])
def test_no_fault_goes_unnoticed(part: str) -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--part", part], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert done.stdout.endswith("\n0 survived\n")
