"""Hide what may identify a person in every field of a finding, whichever rule made it.

Rules mask what they judge themselves. But a rule of geometry may name a file, and the file a person; so all texts of
all findings pass through a :class:`Redactor`, which knows what the index, and the headers if they were scanned, hold
that may identify.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from pathlib import PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

from hcc_tace_data.system.masking import mask
from hcc_tace_data.system.text import visible
from hcc_tace_data.validators.deid.facts import is_derived_class
from hcc_tace_data.validators.deid.files import name_kinds
from hcc_tace_data.validators.deid.free_text import suspicions
from hcc_tace_data.validators.deid.judge import codes_for
from hcc_tace_data.validators.deid.profile import safe_uid
from hcc_tace_data.validators.deid.suspects import deid_facts, suspects
from hcc_tace_data.validators.deid.wordlists import word
from hcc_tace_data.validators.rule import Finding

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["Redactor", "redact_path", "redact_uids"]

_UID = re.compile(r"(?<![\d.])[0-2](?:\.\d+){5,}(?![\d.]*\d)")
_CREATOR = re.compile(r"\[([^]]*)\]")
_TOKEN = re.compile(r"[^\W_]+")
#: Columns of the instance table that people may have written into.
_TEXTS = ("study_description", "series_description", "image_type", "contrast_agent", "manufacturer", "modality")
_UIDS = ("study_uid", "series_uid", "sop_uid", "frame_of_reference_uid")
#: Shorter values are no identifiers but codes: "F", "M", "CT".
_SHORTEST = 3


class Redactor:
    """Masks in texts whatever this collection holds that may identify a person.

    Parameters
    ----------
    context : Context
        Its header values count only if a rule has had them scanned.
    """

    def __init__(self, context: Context) -> None:
        self._pattern = re.compile(context.catalog.identity.patient_id_pattern)
        self._secrets: set[str] = set()
        self._longest = 1
        self._unsafe_uids = _unsafe_uids(context)
        table = context.instances
        self._patients = {str(one) for one in table["patient_id"].unique() if not self._pattern.fullmatch(str(one))}
        self._add(self._patients)
        for name in _TEXTS:
            self._add(text for text in table[name].unique() if suspicions(str(text)))
        paths = [*table["path"], *context.collection.problems["path"]]
        self._add(part for part in dict.fromkeys(chain.from_iterable(map(_parts, paths))) if self._names(part))
        if context.has(suspects):
            self._add(_flagged(context))

    def finding(self, finding: Finding) -> Finding:
        """Return the finding with all its texts masked where they have to be, and control characters escaped."""
        clean = self.text
        patient = finding.patient_id
        foreign = bool(patient) and not self._pattern.fullmatch(patient)
        if foreign and patient not in self._patients:  # as a clinical sheet or a split table may bring
            self._patients.add(patient)
            self._add([patient])
        return replace(
            finding,
            patient_id=visible(mask(patient)) if foreign else patient,
            study_uid=clean(finding.study_uid),
            series_uid=clean(finding.series_uid),
            sop_uid=clean(finding.sop_uid),
            path=self.path(finding.path),
            tag=self.tag(finding.tag),
            message=clean(finding.message),
            hint=clean(finding.hint),
            evidence=_deep(finding.evidence, clean),
        )

    def text(self, text: str) -> str:
        """Return `text` with UIDs of scanners and known identifiers masked, and control characters escaped."""
        return visible(self._words(_UID.sub(lambda m: mask(m[0]) if self._telling(m[0]) else m[0], text)))

    def tag(self, path: str) -> str:
        """Return a tag path with private creators masked that may hold an identifier."""
        return visible(_CREATOR.sub(lambda m: f"[{mask(m[1]) if suspicions(m[1]) else self.text(m[1])}]", path))

    def path(self, path: str) -> str:
        """Return a path with every part masked that may hold an identifier."""
        parts = PurePath(path).parts
        shown = (visible(mask(part)) if self._names(part) else self.text(part) for part in parts)
        return str(PurePath(*shown)) if path else ""

    def _telling(self, uid: str) -> bool:
        return uid in self._unsafe_uids or not safe_uid(uid, derived=True)

    def _names(self, part: str) -> bool:
        return any(one in part for one in self._patients if len(one) >= _SHORTEST) or bool(name_kinds(part))

    def _add(self, values: Iterable[object]) -> None:
        for value in values:
            tokens = _TOKEN.findall(str(value).lower())
            if len("".join(tokens)) < _SHORTEST or (len(tokens) == 1 and _ordinary(tokens[0])):
                continue
            self._secrets.add("\0".join(tokens))
            self._longest = max(self._longest, len(tokens))

    def _words(self, text: str) -> str:
        """Mask runs of words that are a secret, the longest first; what stands between words does not matter."""
        if not self._secrets or not text:
            return text
        found = list(_TOKEN.finditer(text))
        lower = [one[0].lower() for one in found]
        result, end, place = "", 0, 0
        while place < len(found):
            for last in range(min(len(found), place + self._longest), place, -1):
                if "\0".join(lower[place:last]) in self._secrets:
                    start, stop = found[place].start(), found[last - 1].end()
                    result += text[end:start] + mask(text[start:stop])
                    end, place = stop, last
                    break
            else:
                place += 1
        return result + text[end:]


def _parts(path: object) -> list[str]:
    """Return the names that a path below the root is made of."""
    return str(path).split("/")


def _ordinary(token: str) -> bool:
    known = word(token)
    return known.technical or known.english


def _unsafe_uids(context: Context) -> frozenset[str]:
    """Return the UIDs of images that carry the root of a tool, which only derived objects may."""
    table = context.instances
    images = table[~table["sop_class_uid"].map(lambda uid: is_derived_class(str(uid))).astype(bool)]
    found = {str(uid) for name in _UIDS for uid in images[name].unique()}
    return frozenset(uid for uid in found if uid and not safe_uid(uid, derived=False))


def _flagged(context: Context) -> Iterable[str]:
    """Yield what the rules of de-identification suspect in headers."""
    facts = context.fact(deid_facts)
    yield from facts.told
    for value in facts.values():
        if value.vr not in ("OB", "OW", "UN") and value.vr != "UI" and codes_for(facts, value):
            yield from value.text.split("\\")


def redact_uids(text: str) -> str:
    """Return `text` with the UIDs masked that lead back to a scanner or a hospital.

    Examples
    --------
    >>> redact_uids("series 1.3.6.1.4.1.14519.5.2.1.7.8 of 1.2.840.113619.2.55.3.1")
    'series 1.3.6.1.4.1.14519.5.2.1.7.8 of 1**********************'
    """
    return _UID.sub(lambda m: m[0] if safe_uid(m[0], derived=True) else mask(m[0]), text)


def redact_path(path: str) -> str:
    """Return a path below the root with every part masked that may hold an identifier by itself.

    Examples
    --------
    >>> redact_path("HCC_001/a/IM0001.dcm"), redact_path("Simpson_Homer/IM0001.dcm")
    ('HCC_001/a/IM0001.dcm', 'S************/IM0001.dcm')
    """
    return "/".join(mask(part) if name_kinds(part) else redact_uids(part) for part in PurePosixPath(path).parts)


def _deep(value: Any, clean: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {key: _deep(one, clean) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_deep(one, clean) for one in value]
    return value
