"""The sparse layer and its algorithm: arrays and generators only, no files, data sets or configuration."""

from set_cli.sparse.linear import SparseLinear

__all__ = ["SparseLinear"]
