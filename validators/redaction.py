"""Hide what may identify a person in every field of a finding, whichever rule made it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from hcc_tace_data.masking import mask
from hcc_tace_data.validators.deid_files import name_kinds
from hcc_tace_data.validators.deid_profile import safe_uid
from hcc_tace_data.validators.free_text import suspicions
from hcc_tace_data.validators.rule import Finding

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["redact", "redact_path", "redact_uids"]

_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}(?![\d.]*\d)")
_CREATOR = re.compile(r"\[([^]]*)\]")


def redact(finding: Finding, context: Context) -> Finding:
    """Return the finding with foreign patient IDs, UIDs of scanners and hospitals, and telling names masked.

    Names that a patient's own code or safe UIDs make up stay readable.
    """
    pattern = context.catalog.identity.patient_id_pattern
    patient = finding.patient_id
    hidden = patient if patient and not re.fullmatch(pattern, patient) else ""
    path = redact_path(finding.path, patient=hidden)

    def clean(text: str) -> str:
        if finding.path and path != finding.path:
            text = text.replace(finding.path, path)
        if hidden:
            text = text.replace(hidden, mask(hidden))
        return redact_uids(text)

    return replace(
        finding,
        patient_id=mask(patient) if hidden else patient,
        study_uid=clean(finding.study_uid),
        series_uid=clean(finding.series_uid),
        sop_uid=clean(finding.sop_uid),
        path=path,
        tag=_CREATOR.sub(lambda m: f"[{mask(m[1]) if suspicions(m[1]) else m[1]}]", finding.tag),
        message=clean(finding.message),
        hint=clean(finding.hint),
        evidence=_deep(finding.evidence, clean),
    )


def redact_uids(text: str) -> str:
    """Return `text` with the UIDs masked that lead back to a scanner or a hospital.

    Examples
    --------
    >>> redact_uids("series 1.3.6.1.4.1.14519.5.2.1.7.8 of 1.2.840.113619.2.55.3.1")
    'series 1.3.6.1.4.1.14519.5.2.1.7.8 of 1**********************'
    """
    return _UID.sub(lambda m: m[0] if safe_uid(m[0], derived=True) else mask(m[0]), text)


@lru_cache(maxsize=1 << 16)
def redact_path(path: str, *, patient: str = "") -> str:
    """Return a path below the root with every part masked that may hold an identifier.

    Examples
    --------
    >>> redact_path("HCC_001/a/IM0001.dcm"), redact_path("Simpson_Homer/IM0001.dcm")
    ('HCC_001/a/IM0001.dcm', 'S************/IM0001.dcm')
    """
    if not path:
        return path

    def part(name: str) -> str:
        if (patient and patient in name) or name_kinds(name):
            return mask(name)
        return redact_uids(name)

    return "/".join(part(name) for name in PurePosixPath(path).parts)


def _deep(value: Any, clean: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: _deep(one, clean) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_deep(one, clean) for one in value]
    return value
