"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import gzip
import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from set_cli.data.parse import Parts
from set_cli.data.parts import Part, no_rows

FILE = Path("datasets", "data", "digits.csv.gz")  # in scikit-learn's folder


def bundled_digits() -> tuple[Parts, str]:
    """The rows of scikit-learn's digits and their SHA-256."""
    table = _table()
    x, y = table[:, :-1].astype(np.uint8), table[:, -1].astype(np.int64)
    digest = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    # Every fifth row is a test row: upstream has no split, and a cut at the end would test on other writers.
    tested = np.arange(len(x)) % 5 == 4
    train, test = Part(x[~tested], y[~tested]), Part(x[tested], y[tested])
    return {"train": train, "valid": no_rows(x.shape[1], labels=True), "test": test}, digest


def _table() -> NDArray[np.float64]:
    """(1797, 65) pixels and label of every row."""
    found = find_spec("sklearn")
    path = Path(found.origin).parent / FILE if found is not None and found.origin is not None else FILE
    if path.exists():  # importing scikit-learn takes a second, as long as some runs on its digits
        with gzip.open(path, "rt") as lines:
            return np.loadtxt(lines, delimiter=",")
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return np.column_stack([pixels, labels])
