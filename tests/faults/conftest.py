"""The figures that the fault tests add up, printed at their end."""

from __future__ import annotations

from collections import Counter

import pytest

FIGURES: Counter[str] = Counter()


@pytest.fixture
def record() -> Counter[str]:
    """What was injected, by name; counted once it has come out right."""
    return FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("faults")
        for name, count in FIGURES.items():
            terminalreporter.write_line(f"{name:45} {count:6,}")
