"""Workbooks of unknown origin: guards before one is opened, and reading that raises one kind of error."""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hcc_tace_data.errors import DependencyError, HccTaceError
from hcc_tace_data.system.files import require_regular

__all__ = ["BAD_ZIP", "read_rows", "refuse_hostile"]

#: What the standard library raises for a damaged or hostile zip, besides OSError.
BAD_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, IndexError, KeyError,
           NotImplementedError, RuntimeError, ValueError, OverflowError, MemoryError)  # fmt: skip

# The collection's workbooks unpack to about 0.4 MB and 10,000 elements; an element takes some 200 bytes in memory.
_MAX_UNPACKED_BYTES = 32 * 2**20
_MAX_ELEMENTS = 1_000_000
_MAX_MEMBERS = 1_000
_BLOCK = 1 << 20
_FORMULA = re.compile(rb"<(?:\w+:)?f[\s/>]")


def read_rows(path: Path, sheet: str, *, error: type[HccTaceError], max_rows: int, max_columns: int) -> list[list[Any]]:
    """Return the values of one sheet of a workbook, a list per row; blank texts are None.

    The range of cells that a sheet states is not trusted: several exporters write A1. A formula without a calculated
    value is an error, not an empty cell.

    Parameters
    ----------
    path : pathlib.Path
        The .xlsx file.
    sheet : str
        Name of the sheet.
    error : type
        What is raised, whatever is wrong with the file.
    max_rows, max_columns : int
        More rows are an error; columns beyond are not read.
    """
    try:
        import openpyxl
    except ImportError as missing:
        raise DependencyError(f"Reading {path} needs openpyxl: pip install openpyxl") from missing
    refuse_hostile(path, error)
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            if sheet not in book.sheetnames:
                raise error(f"{path} has no sheet '{sheet}'; it has {', '.join(map(repr, book.sheetnames))}.")
            rows: list[list[Any]] = []
            book[sheet].reset_dimensions()
            for row in book[sheet].iter_rows(max_col=max_columns, values_only=True):
                rows.append([None if isinstance(cell, str) and not cell.strip() else cell for cell in row])
                if len(rows) > max_rows:
                    raise error(f"{path}: sheet '{sheet}' has more than {max_rows:,} rows.")
        finally:
            book.close()
        if _has_formulas(path):
            _refuse_uncalculated(path, sheet, rows, error)
        used = [max((i + 1 for i, cell in enumerate(row) if cell is not None), default=0) for row in rows]
        widest = max(used, default=0)
        return [row[:widest] + [None] * (widest - len(row)) for row in rows]
    except HccTaceError:
        raise
    except Exception as broken:  # openpyxl raises whatever its XML and zip layers raise
        raise error(f"{path} is not a readable workbook ({type(broken).__name__}: {broken}).") from broken


def _has_formulas(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(
            _FORMULA.search(archive.read(name)) is not None
            for name in archive.namelist()
            if name.endswith(".xml") and "sheet" in name.lower()
        )


def _refuse_uncalculated(path: Path, sheet: str, rows: list[list[Any]], error: type[HccTaceError]) -> None:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=False)
    try:
        book[sheet].reset_dimensions()
        cells = (cell for row in book[sheet].iter_rows(max_row=len(rows)) for cell in row if cell.data_type == "f")
        for cell in cells:
            row, column = cell.row - 1, cell.column - 1
            if row < len(rows) and (column < len(rows[row]) and rows[row][column] is None):
                raise error(
                    f"{path}: cell {cell.coordinate} of sheet '{sheet}' holds a formula that was never calculated. "
                    "Open the workbook in a spreadsheet program and save it."
                )
    finally:
        book.close()


def refuse_hostile(path: Path, error: type[HccTaceError]) -> None:
    """Refuse zip bombs, XML with more elements than any sheet has, and XML with a document type.

    Nothing is allocated by what the file claims: members are looked through in blocks of 1 MiB, up to 32 MiB unpacked
    and a million elements in all.

    Parameters
    ----------
    path : pathlib.Path
        The .xlsx file.
    error : type
        What is raised.
    """
    try:
        require_regular(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > _MAX_UNPACKED_BYTES or len(members) > _MAX_MEMBERS:
                raise error(f"{path} claims to unpack to {total:,} bytes in {len(members):,} parts; refused.")
            elements = 0
            for member in members:
                for part in _parts(archive, member):
                    if b"<!DOCTYPE" in part or b"<!ENTITY" in part:
                        raise error(f"{path}: {member.filename!r} declares a document type; refused.")
                    elements += part.count(b"<", 16)
                    if elements > _MAX_ELEMENTS:
                        raise error(f"{path} holds more than {_MAX_ELEMENTS:,} elements of XML; refused.")
                    if member.filename.endswith((".xml", ".rels")) and b"\0" in part:
                        raise error(f"{path}: {member.filename!r} is not in UTF-8; refused.")
    except HccTaceError:
        raise
    except (*BAD_ZIP, OSError) as broken:
        raise error(f"{path} is not a workbook: {broken}. Fetch it again.") from broken


def _parts(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield a member in blocks, each with the 16 bytes before it (blanks at the start): no word is cut in two."""
    before = b" " * 16
    with archive.open(member) as handle:
        while block := handle.read(_BLOCK):
            yield before + block
            before = (before + block)[-16:]
