"""The sparse layer and its algorithm: arrays and generators only, no files, data sets or configuration."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from set_cli.sparse.convert import densify, sparsify
    from set_cli.sparse.export import to_exportable
    from set_cli.sparse.linear import SparseLinear
    from set_cli.sparse.schedule import Evolution

__all__ = ["Evolution", "SparseLinear", "densify", "sparsify", "to_exportable"]

MODULES = {
    "SparseLinear": "linear",
    "Evolution": "schedule",
    "sparsify": "convert",
    "densify": "convert",
    "to_exportable": "export",
}


def __getattr__(name: str) -> Any:
    """Import torch for these only: a report reads patterns without it."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"set_cli.sparse.{MODULES[name]}"), name)
