"""What the catalogue says of a data set and of its files. The facts themselves are in catalog.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "valid", "test"]
Format = Literal["idx", "cifar", "made", "debd", "svmlight", "amat", "mat", "letters", "higgs"]


@dataclass(frozen=True, slots=True)
class Digest:
    """A checksum, and the size in bytes where it is known. git-sha1 is that of a git blob: it includes the size."""

    algorithm: Literal["sha256", "md5", "git-sha1"]
    value: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as its publisher names it; it lies at <data.dir>/<data set>/<name>, or <name>.gz where that is read too.

    part     which rows it holds
    urls     mirrors, in the order in which they are asked
    content  checksum of the uncompressed content
    packed   checksum of the published <name>.gz
    """

    name: str
    part: Split | Literal["all"]
    urls: tuple[str, ...] = ()
    content: Digest | None = None
    packed: Digest | None = None

    @property
    def published(self) -> str:
        """The name under which it is downloaded."""
        packed = bool(self.urls) and self.urls[0].endswith(".gz") and not self.name.endswith(".gz")
        return self.name + ".gz" if packed else self.name

    @property
    def digest(self) -> Digest | None:
        """The checksum of what is downloaded; None where none is known."""
        return self.packed if self.published != self.name else self.content

    @property
    def can_be_fetched(self) -> bool:
        return bool(self.urls) and (self.content or self.packed) is not None


@dataclass(frozen=True, slots=True)
class Form:
    """One way in which a data set is published: a format and its files.

    labels   whether the files say which class a row is of
    archive  a .tar.gz that holds all the files, as members of the same names
    note     how the split is made where the files do not say it; what else one should know
    """

    format: Format
    publisher: str
    files: tuple[SourceFile, ...]
    labels: bool = False
    archive: SourceFile | None = None
    note: str = ""

    @property
    def can_be_fetched(self) -> bool:
        return (self.archive is not None and self.archive.can_be_fetched) or all(f.can_be_fetched for f in self.files)

    def needed(self, *, with_test: bool) -> tuple[SourceFile, ...]:
        """The files to train from; without the official test rows, those that hold nothing else are left out."""
        return tuple(file for file in self.files if with_test or file.part != "test")


@dataclass(frozen=True, slots=True)
class Card:
    """One data set.

    kind      of values: 'binary' 0 and 1, 'bounded' 0 to maximum, 'real'
    classes   0 where no source has labels
    shape     of one image, (height, width) or (channels, height, width); None where rows are no images
    train, valid, test  rows in the source
    paper     (train, test) rows in the paper's Table 1; None where the paper does not use the set
    models    the paper's models for it
    mean      of the training rows' values, where the files have been seen
    per_class (fewest, most) training rows of a class, where labels have been seen
    forms     ways in which it is published, the one to fetch first
    folder    the data set whose files it reads; its own name by default
    class_names, feature_names  what the classes and the features are called, in their order; empty: their numbers
    """

    name: str
    title: str
    domain: str
    kind: Literal["binary", "bounded", "real"]
    features: int
    classes: int
    train: int
    valid: int
    test: int
    homepage: str
    licence: str
    citation: str
    shape: tuple[int, ...] | None = None
    maximum: int = 1
    paper: tuple[int, int] | None = None
    models: tuple[str, ...] = ()
    mean: float | None = None
    per_class: tuple[int, int] | None = None
    forms: tuple[Form, ...] = ()
    folder_name: str = ""
    bundled: bool = False
    notes: tuple[str, ...] = ()
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return self.folder_name or self.name

    @property
    def rows(self) -> int:
        return self.train + self.valid + self.test
