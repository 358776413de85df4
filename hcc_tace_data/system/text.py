"""Text of unknown origin (file names, header values) on its way to a terminal, a report or a table."""

from __future__ import annotations

import csv
import io
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CsvWriter", "csv_cell", "csv_rows", "csv_table", "text_width", "visible", "visible_json", "visible_lines",
    "wrapped",
]  # fmt: skip

_Cell = TypeVar("_Cell")

#: Control characters (C0, DEL, C1), line and paragraph separators, marks that reorder text, lone surrogates (bytes of
#: a file name that are not UTF-8), noncharacters.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\uffff]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Return `text` with every character escaped that a terminal would act on rather than show.

    Escape sequences of a file name can recolour, rewrite or clear a terminal; marks of direction can make a name read
    backwards; a lone surrogate cannot be written at all. Everything else stays, letters of any script included.

    Examples
    --------
    >>> print(visible("IM\\x1b[31m01"), visible("a\\nb"), visible("Müller"))
    IM\\x1b[31m01 a\\nb Müller
    """
    return _HIDDEN.sub(_escape, text) if text else text


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python keeps a byte of a file name that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return _NAMED.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def visible_lines(text: str) -> str:
    """Return :func:`visible` of each line of a text of several."""
    return "\n".join(map(visible, text.split("\n")))


def visible_json(text: str) -> str:
    """Return a JSON document in which no character is left that a terminal acts on; its meaning is the same.

    Examples
    --------
    >>> import json
    >>> document = json.dumps("a\x9b31m", ensure_ascii=False)
    >>> print(visible_json(document), json.loads(visible_json(document)) == "a\x9b31m")
    "a\\u009b31m" True
    """
    return "\n".join(_HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in text.split("\n"))


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NUMBER = re.compile(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?(?:\\[-+]?[\d.]+(?:[eE][-+]?\d+)?)*")


def csv_cell(value: _Cell) -> _Cell | str:
    """Return a value for a cell of a CSV file that a person may open in a spreadsheet.

    A text that a spreadsheet would run as a formula gets an apostrophe in front; numbers, also those written as text,
    stay, and so does what is no text.

    Examples
    --------
    >>> csv_cell("=HYPERLINK(1)"), csv_cell("-1.5"), csv_cell(-2), csv_cell("ABD")
    ("'=HYPERLINK(1)", '-1.5', -2, 'ABD')
    """
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if value.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


class _TextSink(Protocol):
    def write(self, text: str, /) -> object: ...


class CsvWriter:
    """Writes rows of a CSV file, every text through :func:`csv_cell`; lines end with a newline.

    Parameters
    ----------
    stream : text file
        Opened with ``newline=""``.
    delimiter : str
        A tab makes it TSV.
    """

    def __init__(self, stream: _TextSink, delimiter: str = ",") -> None:
        self._writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")

    def writerow(self, row: Iterable[Any]) -> None:
        """Write one row."""
        self._writer.writerow([csv_cell(value) for value in row])

    def writerows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write several rows."""
        for row in rows:
            self.writerow(row)


def csv_rows(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Return mappings as CSV with a header line; a key that is missing or None gives an empty cell.

    Examples
    --------
    >>> csv_rows(["a", "b"], [{"a": "=1", "b": 2}])
    "a,b\\n'=1,2\\n"
    """
    text = io.StringIO(newline="")
    writer = CsvWriter(text)
    writer.writerow(columns)
    writer.writerows([row.get(name) for name in columns] for row in rows)
    return text.getvalue()


def csv_table(table: pd.DataFrame) -> str:
    """Return a table as CSV, every text of it through :func:`csv_cell`; numbers keep their types."""
    safe = table.copy(deep=False)
    for name in table.columns:
        if table[name].dtype.kind in "OUT" or str(table[name].dtype).startswith(("string", "str", "category")):
            safe[name] = table[name].astype(object).map(csv_cell)
    safe.columns = safe.columns.map(csv_cell)
    return str(safe.to_csv(index=False, lineterminator="\n"))


def text_width(stream: TextIO | None = None) -> int:
    """Return the columns for running text: those of the terminal, from 60 to 120; 80 elsewhere."""
    shown = (sys.stdout if stream is None else stream).isatty()
    return min(max(shutil.get_terminal_size().columns, 60), 120) if shown else 80


def wrapped(text: str, width: int, *, indent: int = 4) -> str:
    """Return text in lines of at most `width` columns, those after the first indented; paths and UIDs stay whole."""
    lines = [
        textwrap.fill(
            line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
        )
        for line in text.split("\n")
    ]  # fmt: skip
    return "\n".join(lines)
