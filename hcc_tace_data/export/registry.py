"""All export formats. The command, docs/export.md and the tests read this table; a new format is one line here."""

from __future__ import annotations

from hcc_tace_data.errors import UsageError
from hcc_tace_data.export import croissant, decathlon, nifti, nnunet, parquet, png, radiomics, seg_files
from hcc_tace_data.export.format import Format

__all__ = ["FORMATS", "find_format", "formats_table"]

#: Name -> format, in the order of the help and the docs.
FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        nifti.FORMAT,
        nnunet.FORMAT,
        decathlon.FORMAT,
        parquet.FORMAT,
        seg_files.FORMAT,
        radiomics.FORMAT,
        png.FORMAT,
        croissant.FORMAT,
    )
}


def find_format(name: str) -> Format:
    """Return the format called `name`.

    Raises
    ------
    UsageError
        There is no such format.
    """
    if name not in FORMATS:
        raise UsageError(f"Unknown format {name!r}; use {', '.join(FORMATS)}.")
    return FORMATS[name]


def formats_table() -> str:
    """Return the table of docs/export.md, in Markdown."""
    rows = [f"| `{one.name}` | {one.written} | {one.read_with} |" for one in FORMATS.values()]
    return "\n".join(["| format | files | read with |", "|---|---|---|", *rows])
