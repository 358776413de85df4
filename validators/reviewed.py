"""Reviewed findings: a file of what a person has looked at, so that only new findings stand out.

A YAML (or JSON) file::

    reviewed:
      - code: HT501
        fingerprint: 5c1f0a...          # of the finding, as --write-reviewed and --format json give it
        patient_id: HCC_050             # where it is, for the reader; so are study_uid, series_uid, sop_uid, path, tag
        who: J. Curator
        when: 2026-01-31
        why: The scanner changed the slice spacing below the liver; masks end above.

An entry silences the one finding that was reviewed: it is reported as known, never dropped. Any other finding of that
code, of the same patient too, stays what it is; and so does the reviewed one once it says anything else.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from hcc_tace_data.errors import UsageError
from hcc_tace_data.system.documents import parse_yaml
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.validators.registry import RULES
from hcc_tace_data.validators.rule import Finding

__all__ = ["Review", "read_reviews", "write_reviews"]

_KEYS = ("code", "fingerprint", "who", "when", "why")
_PLACES = ("patient_id", "study_uid", "series_uid", "sop_uid", "path", "tag")
_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One reviewed finding: what, by whom, when, why. Its places are for the reader."""

    code: str
    fingerprint: str
    who: str
    when: str
    why: str
    patient_id: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    path: str = ""
    tag: str = ""

    @property
    def reason(self) -> str:
        """What the report says of a finding it matches."""
        return f"reviewed by {self.who} on {self.when}: {self.why}"

    def matches(self, finding: Finding) -> bool:
        """Whether this is the finding that was reviewed."""
        return finding.code == self.code and finding.fingerprint == self.fingerprint

    def as_dict(self) -> dict[str, str]:
        """Return what the entry says, without empty places."""
        return {name: value for name, value in asdict(self).items() if value}


def read_reviews(path: str | os.PathLike[str]) -> tuple[Review, ...]:
    """Read a file of reviewed findings.

    Raises
    ------
    UsageError
        No such file, or an entry without code, fingerprint, who, when or why, with an unknown key, or an
        invalid date; the entry is named.
    """
    file = Path(path).expanduser()
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{file} has {file.stat().st_size:,} bytes; a file of reviewed findings is small.")
        content = parse_yaml(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"No file of reviewed findings at {file}; 'hcc-tace validate --write-reviewed FILE' makes one."
        ) from None
    except (ValueError, OSError) as error:
        raise UsageError(f"{file} is not YAML or cannot be read ({type(error).__name__}).") from error
    entries = content.get("reviewed") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UsageError(f"{file} holds no list 'reviewed'; see 'hcc-tace validate --help'.")
    return tuple(_review(file, number, entry) for number, entry in enumerate(entries, 1))


def _review(file: Path, number: int, entry: Any) -> Review:
    where = f"{file}, entry {number}"
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is not a mapping of keys to values.")
    texts = {str(key): "" if value is None else str(value).strip() for key, value in entry.items()}
    unknown = sorted(set(texts) - {*_KEYS, *_PLACES})
    if unknown:
        raise UsageError(f"{where} has the unknown key {unknown[0]!r}; keys are {', '.join((*_KEYS, *_PLACES))}.")
    missing = [name for name in _KEYS if not texts.get(name)]
    if missing:
        raise UsageError(
            f"{where} lacks {', '.join(missing)}: say what was reviewed, by whom, when and why. A finding's "
            "fingerprint is in --format json, and --write-reviewed writes whole entries; a whole rule is left out with "
            "--ignore."
        )
    if texts["code"] not in {rule.code for rule in RULES}:
        raise UsageError(f"{where}: there is no rule {texts['code']!r}; 'hcc-tace explain' lists all.")
    try:
        datetime.date.fromisoformat(texts["when"])
    except ValueError:
        raise UsageError(f"{where}: 'when' is {texts['when']!r}, not a date such as 2026-01-31.") from None
    return Review(**texts)


def write_reviews(
    path: str | os.PathLike[str], findings: Iterable[Finding], *, who: str, why: str, when: datetime.date | None = None
) -> int:
    """Write a file that marks `findings` as reviewed, and return how many entries it has.

    Known findings need no entry. An existing file is not overwritten.
    """
    file = Path(path).expanduser()
    if file.exists():
        raise UsageError(f"{file} exists; name another file, or add to it by hand.")
    if not who.strip() or not why.strip():
        raise UsageError("The file says who reviewed the findings and why: give --who and --why.")
    day = (when or datetime.datetime.now(datetime.UTC).date()).isoformat()
    entries = []
    for finding in findings:
        places = {name: getattr(finding, name) for name in _PLACES if getattr(finding, name)}
        if finding.known:
            continue
        entry = {
            "code": finding.code,
            "fingerprint": finding.fingerprint,
            **places,
            "who": who.strip(),
            "when": day,
            "why": why.strip(),
        }
        if entry not in entries:
            entries.append(entry)
    atomic_write_text(file, yaml.safe_dump({"reviewed": entries}, sort_keys=False, allow_unicode=True))
    return len(entries)
