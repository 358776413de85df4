"""Write the table of docs/export.md from the registry of export formats.

python scripts/make_format_docs.py
"""

from __future__ import annotations

from pathlib import Path

from hcc_tace_data.export.registry import formats_table
from hcc_tace_data.system.files import atomic_write_text

PAGE = Path(__file__).resolve().parent.parent / "docs" / "export.md"


def updated(text: str) -> str:
    """Return the page with its table of formats replaced."""
    head, _, rest = text.partition("| format |")
    lines = rest.splitlines()
    end = next(number for number, line in enumerate(lines) if number and not line.startswith("|"))
    return head + formats_table() + "\n" + "\n".join(lines[end:]) + "\n"


if __name__ == "__main__":
    atomic_write_text(PAGE, updated(PAGE.read_text(encoding="utf-8")))
