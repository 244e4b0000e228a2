"""The sparse layer and its algorithm: arrays and generators only, no files, data sets or configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from set_cli.sparse.linear import SparseLinear

__all__ = ["SparseLinear"]


def __getattr__(name: str) -> Any:
    """Import torch for the layer only: a report reads patterns without it."""
    if name != "SparseLinear":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from set_cli.sparse.linear import SparseLinear

    return SparseLinear
