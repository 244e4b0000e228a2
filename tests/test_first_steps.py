"""The notebook of the first steps runs from its first cell to its figure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "first_steps.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive:UserWarning")
def test_the_notebook_ends_in_its_figure() -> None:
    matplotlib.use("Agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    assert len(names["figure"].axes) == 2
    accuracies = names["table"]["test accuracy, last epoch, %"]
    assert accuracies["sparse, evolving"] > accuracies["dense"]
    assert all(85 < accuracy < 100 for accuracy in accuracies)
    assert names["table"].parameters["sparse, evolving"] < 0.05 * names["table"].parameters["dense"]
