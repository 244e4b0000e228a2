"""The digits that come with scikit-learn, read without importing it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from set_cli.data import bundled
from tests.conftest import run_python

DIGEST = "65e5b4619795efb40c1082f4c350c049e4ad552200d369b6ae99e21eef5e72c5"  # unfinished runs are resumed by it


@pytest.mark.parametrize("file", [bundled.FILE, Path("moved by another version")])
def test_they_are_scikit_learns(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "FILE", file)
    parts, digest = bundled.bundled_digits()
    x, y = load_digits(return_X_y=True)
    tested = np.arange(len(x)) % 5 == 4
    assert np.array_equal(parts["train"].x, x[~tested])
    assert parts["train"].y is not None
    assert np.array_equal(parts["train"].y, y[~tested])
    assert np.array_equal(parts["test"].x, x[tested])
    assert parts["test"].y is not None
    assert np.array_equal(parts["test"].y, y[tested])
    assert digest == DIGEST


def test_reading_them_does_not_import_scikit_learn(tmp_path: Path) -> None:
    program = "import sys; from set_cli.data.bundled import *; bundled_digits(); print('sklearn' in sys.modules)"
    result = run_python("-c", program, folder=tmp_path)
    assert result.stdout == "False\n", result.stderr
