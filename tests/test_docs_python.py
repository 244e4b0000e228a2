"""The examples of docs/python.md that need no trained run do what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "python.md").read_text()
SECTIONS = (
    "A sparse layer in your own network",
    "A network that you have",
    "In scikit-learn",
    "A two-layer GPT",
    "A rule of your own",
    "What torch does with a layer",
)


def test_the_examples_run_one_after_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    printed = []
    for title in SECTIONS:
        section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]
        blocks = re.findall(r"^```(python)?\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        assert blocks
        for language, block in blocks:
            if language:
                exec(compile(block, title, "exec"), names)
                printed.append(capsys.readouterr().out)
            else:
                assert block == printed[-1]
            if title.startswith("A sparse layer"):
                assert names["evolution"].steps == 200
    assert names["losses"][-1] < 0.6 * names["losses"][0]
    assert names["evolution"].steps == 100
    assert names["accuracy"] > 0.8
    assert names["network"].density_ < 0.3
