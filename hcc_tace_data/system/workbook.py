"""Guards before a workbook of unknown origin is opened."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hcc_tace_data.errors import HccTaceError

__all__ = ["refuse_hostile"]

_MAX_UNPACKED_BYTES = 256 * 2**20


def refuse_hostile(path: Path, error: type[HccTaceError]) -> None:
    """Refuse zip bombs and XML with a document type, which no workbook needs.

    Parameters
    ----------
    path : pathlib.Path
        The .xlsx file.
    error : type
        What is raised.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if total > _MAX_UNPACKED_BYTES:
                raise error(f"{path} claims to unpack to {total:,} bytes; refused.")
            for member in archive.infolist():
                if member.filename.endswith((".xml", ".rels")):
                    with archive.open(member) as handle:
                        head = handle.read(4096)
                    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
                        raise error(f"{path}: {member.filename} declares a document type; refused.")
    except (zipfile.BadZipFile, OSError, EOFError) as broken:
        raise error(f"{path} is not a workbook: {broken}. Fetch it again.") from broken
