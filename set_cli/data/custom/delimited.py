"""CSV and its relatives: any encoding and separator, read by pandas once every line has as many cells as the header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from set_cli.data.custom.columns import MOST_UNNAMED, Columns, Frame
from set_cli.data.custom.labels import MISSING, NUMBER
from set_cli.data.custom.numbers import as_numbers, hint_for
from set_cli.data.custom.tables import quoted
from set_cli.data.readers.guard import one_line, reading
from set_cli.data.readers.text import bounded_lines
from set_cli.errors import DataError

LONGEST_LINE = 2**23  # bytes: 450,000 columns of 18
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
SAMPLE = 20  # lines that tell the separator
DECIMAL_COMMA = re.compile(r"[+-]?(?:[0-9]+,[0-9]*|,[0-9]+)(?:[eE][+-]?[0-9]+)?")
BLANKS = re.compile(r'"((?:[^"]|"")*)"|(\S+)')
# pandas knows a missing value by its exact spelling; others are found afterwards.
SPELLINGS = sorted({change(word) for word in MISSING for change in (str, str.upper, str.capitalize)} | {"NaN", "-NaN"})


@dataclass(frozen=True, slots=True)
class Text:
    """UTF-8 with lines that end in a line feed, and how its cells are separated.

    start   byte at which the rows begin, after the header
    line    number of the header's last line in the file
    quotes  whether a cell may be quoted
    """

    content: bytes
    separator: str
    start: int
    line: int
    quotes: bool
    path: str

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """Cells of every line that is not blank, and the number of its last line."""
        yield from _rows(self.content, self.start, self.line, self.separator, self.path)


def read_delimited(content: bytes, path: str, choose: Callable[[Sequence[str]], Columns]) -> tuple[Frame, Columns]:
    """The table below a header line; choose tells from the names what each column is.

    DataError, with line and column, where the text is no table or a feature is no number.
    """
    utf8, encoding = _as_utf8(content, path)
    text, header = _open(utf8, path)
    columns = choose(header)
    rows = _check_lines(text, len(header))
    frame = _read(text, columns, rows)
    if encoding:
        frame = replace(frame, notes=(f"the text is no UTF-8: it is read as {encoding}", *frame.notes))
    return frame, columns


def _as_utf8(content: bytes, path: str) -> tuple[bytes, str]:
    """The text as UTF-8 with plain line ends, and the encoding where it is one to speak of."""
    encoding = ""
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16",
             b"\xfe\xff": "utf-16"}  # fmt: skip
    mark = next((name for mark, name in marks.items() if content.startswith(mark)), None)
    with reading(path):
        if mark is not None:
            content = content.decode(mark).encode("utf-8", "surrogatepass")
        elif (wide := _without_mark(content)) is not None:
            content, encoding = content.decode(wide).encode(), wide.upper()
    zero = content.find(b"\0")
    if zero >= 0:
        raise DataError(f"{path}: expected text, found a zero byte in line {content.count(10, 0, zero) + 1}")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        encoding = "Windows-1252"
        try:
            content = content.decode("cp1252").encode()
        except UnicodeDecodeError:
            encoding = "Latin-1"
            content = content.decode("latin-1").encode()
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content, encoding


def _without_mark(content: bytes) -> str | None:
    """UTF-16 that does not say so: every other byte of Western text is zero."""
    head = content[:200]
    if len(head) >= 4 and len(content) % 2 == 0:
        for name, zeros, others in (("utf-16-le", head[1::2], head[::2]), ("utf-16-be", head[::2], head[1::2])):
            if not any(zeros) and all(others):
                return name
    return None


def _open(content: bytes, path: str) -> tuple[Text, list[str]]:
    """The text with its separator, and the header's names; a name more where rows are numbered as R does it."""
    start, line, blank = 0, 0, True
    for number, text in bounded_lines(content, LONGEST_LINE, f"{path}: expected lines of cells"):
        blank = blank and not text.strip()
        if blank:
            start, line = start + len(text), number
    said = re.match(rb'"?sep=([^\n])"?[^\S\n]*\n', content[start : start + 100], re.IGNORECASE)
    if said:  # Excel's
        start, line = start + said.end(), line + 1
    separator = said[1].decode("latin-1") if said else _separator(content, start, path)
    text_rows = _rows(content, start, line, separator, path)
    number, header = next(text_rows, (line, []))
    for _ in range(number - line):
        start = content.find(b"\n", start) + 1 or len(content)
    sample = [cells for _, cells in islice(text_rows, SAMPLE)]
    if sample and len(header) > 1 and all(len(cells) == len(header) + 1 for cells in sample):
        if all(not cells[-1].strip() for cells in sample):
            raise DataError(
                f"{path}: expected {len(header)} cells, found {len(header) + 1} in line {number + 1}, the last one "
                f"empty: the lines end in a separator, the header does not"
            )
        header = ["", *header]
    if header and all(re.fullmatch(r"\s*'.*'\s*", name) for name in header):
        header = [name.strip()[1:-1] for name in header]
    _check_header(header, path)
    return Text(content, separator, start, number, b'"' in content, path), header


def _check_header(header: list[str], path: str) -> None:
    unnamed = sum(not name.strip() for name in header)
    if unnamed > MOST_UNNAMED:
        raise DataError(f"{path}: expected a name for every column, found {unnamed:,} of {len(header):,} without one")
    numbered = [str(i) for i in range(len(header))]
    from_pandas = (
        len(header) > 1 and header[1:] == numbered[:-1] and not header[0].strip()
    )  # a frame whose columns have no names
    if not from_pandas and all(NUMBER.fullmatch(name.strip()) for name in header):
        found = f"numbers ({quoted(header[0])} …)" if header else "nothing"
        raise DataError(f"{path}: expected a header line that names the columns (such as x1, x2, label), found {found}")


def _separator(content: bytes, start: int, path: str) -> str:
    """The separator with which the first lines have equally many cells, and the most."""
    end = content.find(b"\n", min(start + 2**20, len(content)))
    head = content[start : end + 1] if end >= 0 else content[start:]
    best, most = ",", 1
    for separator in SEPARATORS:
        if separator.encode() not in head:
            continue
        try:
            widths = [len(cells) for _, cells in islice(_rows(head, 0, 0, separator, path), SAMPLE + 1)]
        except DataError:  # quotes that another separator makes whole
            continue
        if widths and widths[0] > most and set(widths[1:]) <= {widths[0], widths[0] + 1} and len(set(widths[1:])) <= 1:
            best, most = separator, widths[0]
    return best


def _rows(content: bytes, start: int, line: int, separator: str, path: str) -> Iterator[tuple[int, list[str]]]:
    """Cells of every line that is not blank, and its number; start and line: where to begin, after which line."""
    stream = io.BytesIO(content)
    stream.seek(start)
    lines = (text.decode("utf-8", "replace") for text in stream)
    if separator == " ":
        for number, text in enumerate(lines, start=line + 1):
            if cells := [found[1] if found[2] is None else found[2] for found in BLANKS.finditer(text)]:
                yield number, cells
        return
    reader = csv.reader(lines, delimiter=separator, strict=True, skipinitialspace=True)
    try:
        for cells in reader:
            if cells and (len(cells) > 1 or cells[0].strip()):
                yield line + reader.line_num, cells
    except csv.Error as error:
        raise DataError(f"{path}: malformed in line {line + reader.line_num} ({one_line(str(error))})") from None


def _check_lines(text: Text, width: int) -> int:
    """The number of rows; DataError at a line with another number of cells."""
    rows = 0
    for number, found in _widths(text):
        rows += 1
        if found != width:
            others = [word for mark, word in SEPARATORS.items() if mark != text.separator]
            hint = "" if width > 1 else f"; if cells are separated by {', '.join(others)}, every line must have as many"
            raise DataError(f"{text.path}: expected {width} cells, found {found} in line {number}{hint}")
    return rows


def _widths(text: Text) -> Iterator[tuple[int, int]]:
    """Line number and number of cells of every row."""
    if text.quotes:
        yield from ((number, len(cells)) for number, cells in text.rows())
        return
    stream, separator = io.BytesIO(text.content), text.separator.encode()
    stream.seek(text.start)
    for number, line in enumerate(stream, start=text.line + 1):
        if separator == b" ":
            cells = len(line.split())
        else:
            cells = line.count(separator) + 1 if separator in line or line.strip() else 0
        if cells:
            yield number, cells


def _read(text: Text, columns: Columns, rows: int) -> Frame:
    words = {i: column for i, column in _pandas(text, columns.words, dtype=str, na_filter=False).items()}
    cell = _finder(text, columns)
    numbers, notes = np.empty((rows, 0)), list[str]()
    if columns.features:
        try:
            numbers = _stacked(_pandas(text, columns.features, dtype=np.float64))
        except (ValueError, TypeError):  # a column of words, or True and False: each by itself
            numbers, notes = _column_by_column(text, columns, cell)
    lengths = {len(numbers), *(len(column) for column in words.values())}
    if lengths != {rows}:
        raise DataError(f"{text.path}: malformed (expected {rows:,} rows, found {max(lengths - {rows}):,})")
    return Frame(numbers, words, cell, tuple(notes))


def _pandas(text: Text, wanted: Sequence[int], **options: Any) -> dict[int, NDArray[Any]]:
    """The wanted columns by position."""
    if not wanted:
        return {}
    import pandas as pd  # most of a second to import

    stream = io.BytesIO(text.content)
    stream.seek(text.start)
    if pd.__version__.startswith("2."):  # later ones are exact of themselves
        options |= {"float_precision": "round_trip"}
    try:
        frame = pd.read_csv(
            stream,
            sep=r"\s+" if text.separator == " " else text.separator,
            header=None,
            usecols=list(wanted),
            keep_default_na=False,
            na_values=SPELLINGS if options.get("na_filter", True) else None,
            skipinitialspace=True,
            low_memory=False,
            encoding_errors="replace",
            **options,
        )
    except pd.errors.EmptyDataError:
        return {i: np.empty(0, object if options.get("dtype") is str else np.float64) for i in wanted}
    except pd.errors.ParserError as error:
        raise DataError(f"{text.path}: malformed ({one_line(str(error))})") from None
    if options.get("dtype") is np.float64:
        return dict(zip(sorted(wanted), frame.to_numpy().T, strict=True))
    return {int(i): frame[i].to_numpy() for i in frame.columns}


def _stacked(columns: dict[int, NDArray[Any]]) -> NDArray[np.float64]:
    """(rows, columns) in the order of their positions, without a copy where they are one array's."""
    arrays = list(columns.values())
    whole = arrays[0].base if arrays and arrays[0].base is not None else None
    if whole is not None and whole.shape == (len(arrays), len(arrays[0])) and whole.dtype == np.float64:
        return whole.T
    return np.column_stack(arrays).astype(np.float64, copy=False)


def _column_by_column(
    text: Text, columns: Columns, cell: Callable[[int, int], str], decimal: str = "."
) -> tuple[NDArray[np.float64], list[str]]:
    """The features where some are no plain numbers; DataError at the first cell that is none, naming every column."""
    options = {} if decimal == "." else {"decimal": decimal}
    found = _pandas(text, columns.features, **options)
    numbers = np.empty((len(found[columns.features[0]]), len(columns.features)))
    odds: dict[int, int] = {}  # by column, the first row whose cell is no number
    for j, i in enumerate(columns.features):
        values, odd = as_numbers(found[i])
        if odd is None:
            numbers[:, j] = values
            continue
        odds[i] = odd
        if decimal == "." and text.separator != "," and DECIMAL_COMMA.fullmatch(str(found[i][odd]).strip()):
            numbers, notes = _column_by_column(text, columns, cell, ",")
            return numbers, [*notes, f"numbers are read with a decimal comma ({str(found[i][odd]).strip()[:30]})"]
    if odds:
        i, odd = next(iter(odds.items()))
        hint = hint_for(found[i][odd], [columns.names[other] for other in odds])
        hint = f"numbers have a decimal comma elsewhere; {hint}" if decimal == "," else hint
        raise DataError(f"{text.path}: expected a number, found {cell(odd, i)}; {hint}")
    return numbers, []


def _finder(text: Text, columns: Columns) -> Callable[[int, int], str]:
    def cell(row: int, position: int) -> str:
        number, cells = next(islice(text.rows(), row, None))
        return f"{quoted(cells[position].strip())} in line {number}, column {quoted(columns.names[position])}"

    return cell
