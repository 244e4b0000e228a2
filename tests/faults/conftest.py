"""What the fault tests add up; tests/conftest.py prints it at their end."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.figures import FIGURES


@pytest.fixture
def record() -> Counter[str]:
    """What was injected, by name."""
    return FIGURES
