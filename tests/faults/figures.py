"""What the fault tests injected, by name; counted once it has come out right."""

from __future__ import annotations

from collections import Counter

FIGURES: Counter[str] = Counter()
