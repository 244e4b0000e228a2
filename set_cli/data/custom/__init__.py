"""`dataset=custom`: the user's own tables, by the conventions of datasets/custom.md."""

from set_cli.data.custom.files import check_path, custom_checksums
from set_cli.data.custom.reading import read_custom, read_tables

__all__ = ["check_path", "custom_checksums", "read_custom", "read_tables"]
