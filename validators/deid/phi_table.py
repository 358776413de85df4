"""A table of every distinct header value, for a person to review before data are published."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.errors import UsageError
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.system.masking import mask
from hcc_tace_data.system.text import CsvWriter
from hcc_tace_data.validators.deid.facts import DeidFacts, Value
from hcc_tace_data.validators.deid.judge import codes_for
from hcc_tace_data.validators.deid.profile import element_name
from hcc_tace_data.validators.deid.redaction import Redactor
from hcc_tace_data.validators.deid.suspects import deid_facts
from hcc_tace_data.validators.facts.header_scan import header_scan

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["COLUMNS", "check_target", "phi_rows", "write_phi_table"]

COLUMNS = ("tag", "name", "vr", "value", "count", "suspected")
_LONGEST = 1000


def phi_rows(context: Context) -> Iterator[tuple[str, str, str, str, int, str]]:
    """Yield tag path, name, VR, value, count and the codes of the rules that suspect it, by tag path and value.

    A suspected value is masked: the review is for what the rules missed, and the table may go by mail. Empty values are
    rows as well; other bytes are given by their number.
    """
    facts = DeidFacts(context.catalog, context.fact(header_scan))
    context.fact(deid_facts)  # its suspicions are masked in tag paths, too
    redactor = Redactor(context)
    for (path, vr), values in sorted(facts.scan.elements.items()):
        rows, shown = [], redactor.tag(path)
        for raw, seen in values.items():
            value = Value(path, vr, raw, seen)
            text = value.text
            codes = codes_for(facts, value) if raw.strip(b" \0") else []
            rows.append((mask(text) if codes else _plain(text), seen.count, " ".join(codes)))
        for text, count, suspected in sorted(rows):
            yield shown, element_name(path), vr, text, count, suspected


def write_phi_table(context: Context, file: str | os.PathLike[str]) -> int:
    """Write the table as CSV (tab-separated if the name ends in ``.tsv``), readable by its owner alone.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    UsageError
        The file cannot be written there.
    """
    target = check_target(file)
    count = 0
    with atomic_path(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        temporary.chmod(0o600)
        writer = CsvWriter(stream, delimiter="\t" if target.suffix.lower() == ".tsv" else ",")
        writer.writerow(COLUMNS)
        for row in phi_rows(context):
            writer.writerow(row)
            count += 1
    return count


def check_target(file: str | os.PathLike[str]) -> Path:
    """Return the path of a file to write; refuse what cannot be written before hours are spent on reading.

    Raises
    ------
    UsageError
        There is no such folder, nothing may be written to it, or a folder has that name.
    """
    target = Path(file).expanduser()
    if not target.parent.is_dir():
        raise UsageError(
            f"{target} cannot be written: there is no folder {target.parent}. Make it, or name another file."
        )
    if not os.access(target.parent, os.W_OK):
        raise UsageError(f"{target} cannot be written: you may not write to {target.parent}. Name another file.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder. Name a file.")
    return target


def _plain(text: str) -> str:
    """Return a value no longer than a person reads."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"
