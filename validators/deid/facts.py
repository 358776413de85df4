"""What the de-identification rules share: header values, whose file is whose, identifiers that a file tells."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from hcc_tace_data.dicom.header_values import TEXT_VRS, tag_of, value_text
from hcc_tace_data.system import words
from hcc_tace_data.system.masking import mask
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.deid.profile import element_name, is_dummy, load_profile
from hcc_tace_data.validators.deid.wordlists import word
from hcc_tace_data.validators.facts.header_scan import WATCHED, HeaderScan, Seen
from hcc_tace_data.validators.rule import Draft

if TYPE_CHECKING:
    from hcc_tace_data.facts.catalog import Catalog

__all__ = ["NAME_TAGS", "DeidFacts", "Value", "is_derived_class", "report"]

#: PatientName and PatientID.
NAME_TAGS = frozenset({"00100010", "00100020"})
#: SOP classes of objects that were made from images: segmentations, structures, reports, presentation states,
#: registrations.
_DERIVED = tuple(
    f"1.2.840.10008.5.1.4.1.1.{branch}" for branch in ("66.", "481.3", "88.", "11.", "67", "104.", "77.1.6")
)
_PARTS = re.compile(r"[^\W_]+")
#: So many values of one element in one series are named one by one; the rest are counted.
_EACH = 20


def is_derived_class(sop_class: str) -> bool:
    """Return whether objects of this SOP class are made by software from images."""
    return sop_class.startswith(_DERIVED)


class Value(NamedTuple):
    """One distinct value of one element."""

    path: str
    vr: str
    raw: bytes
    seen: Seen

    @property
    def tag(self) -> str:
        return tag_of(self.path)

    @property
    def text(self) -> str:
        return value_text(self.vr, self.raw)


_WATCHED = {path: place for place, path in enumerate(WATCHED)}


class DeidFacts:
    """Header values with what decides how to judge them.

    Parameters
    ----------
    catalog : Catalog
    scan : HeaderScan
    """

    def __init__(self, catalog: Catalog, scan: HeaderScan) -> None:
        self.scan = scan
        self.profile = load_profile()
        identity = catalog.identity
        self.pattern = re.compile(identity.patient_id_pattern)
        self._name = _plain(identity.name)
        self._projects: dict[str, str] = {}
        self._texts: dict[bytes, str] = {}  # few, and asked for with every file

    def values(self, vrs: Iterable[str] | None = None) -> Iterator[Value]:
        """Yield every distinct value that is not empty, of elements with one of `vrs` (default all)."""
        wanted = None if vrs is None else frozenset(vrs)
        for (path, vr), values in self.scan.elements.items():
            if wanted is None or vr in wanted:
                for raw, seen in values.items():
                    if raw.strip(b" \0"):
                        yield Value(path, vr, raw, seen)

    def mark(self, row: int, path: str) -> str | None:
        """Return what file `row` holds at a watched path; None where the element is absent."""
        raw = self.scan.marks[row][_WATCHED[path]]
        if raw is None:
            return None
        if raw not in self._texts:
            self._texts[raw] = value_text("LO", raw)
        return self._texts[raw]

    def derived(self, row: int) -> bool:
        """Return whether a file holds a segmentation, report or the like, made by software from images."""
        return is_derived_class(self.mark(row, "00080016") or "")

    def archived(self, row: int) -> bool:
        """Return whether a file went through the archive's own tool (CTP)."""
        return bool(self.mark(row, "0013[CTP]10"))

    def elsewhere(self, row: int) -> str:
        """Return the collection that a file says it was published in, empty if it is this one or says nothing."""
        project = self.mark(row, "0013[CTP]10") or ""
        return "" if self._named(project) == self._name else project

    def _named(self, project: str) -> str:
        """Return a project's name as it is compared; there are few, and they are asked for with every value."""
        if project not in self._projects:
            self._projects[project] = _plain(project)
        return self._projects[project]

    def is_code(self, text: str, row: int) -> bool:
        """Return whether `text` is a patient's code, of this collection or of the one the file was published in."""
        if self.pattern.fullmatch(text):
            return True
        project = self._named(self.elsewhere(row))
        if not project:
            return False
        code = _plain(text)
        return code != project and code.startswith(project)

    def harmless(self, value: Value) -> bool:
        """Return whether a value is a patient's code or what a tool writes in place of an identifier."""
        row, text = value.seen.row, value.text
        return (
            not text.strip("^= ") or self.is_code(text, row) or is_dummy(value.path, text, archived=self.archived(row))
        )

    def names(self, value: Value) -> bool:
        """Return whether a value is a text of an identifying element, and may hold words of :attr:`told`."""
        named = value.tag in NAME_TAGS or value.vr == "PN" or self.profile.removed(value.path)
        return named and value.vr in TEXT_VRS and value.vr not in ("DA", "TM", "CS") and not self.harmless(value)

    @cached_property
    def told(self) -> frozenset[str]:
        """Words and numbers of identifying elements, in lower case: nowhere may they occur."""
        found: set[str] = set()
        for value in self.values(TEXT_VRS):
            if not self.names(value):
                continue
            for part in _PARTS.findall(value.text.lower()):
                digits = sum(c.isdigit() for c in part)
                known = word(part)
                if digits >= 5 or (len(part) >= 4 and not digits and not known.technical and not known.english):
                    found.add(part)
        return frozenset(found)

    def tells(self, text: str) -> bool:
        """Return whether `text` repeats an identifier that some element tells."""
        return not self.told.isdisjoint(_PARTS.findall(text.lower()))


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def report(context: Context, found: Iterable[tuple[Value, str, str]]) -> Iterator[Draft]:
    """Turn (value, message, hint) into the fields of findings, values masked.

    The first values of an element in a series come one by one; what exceeds them is counted in one more finding.
    """
    series = context.instances["series_uid"].tolist()
    several: dict[tuple[str, str, str], list[tuple[Value, str, str]]] = defaultdict(list)
    for value, message, hint in found:
        several[value.path, series[value.seen.row], message].append((value, message, hint))
    for same in several.values():
        for value, message, hint in same[:_EACH]:
            evidence = {"value": mask(value.text), "vr": value.vr, "count": value.seen.count}
            name = element_name(value.path)
            message = f"{name}: {message}" if name else message
            yield Draft(
                message=message,
                hint=hint,
                tag=value.path,
                evidence=evidence,
                at=context.place(value.seen.row),
            )
        rest = same[_EACH:]
        if rest:
            value, message, hint = rest[0]
            count = sum(one.seen.count for one, _, _ in rest)
            yield Draft(
                message=f"{message} {words.count(len(rest), 'more value')} of this element in the series.",
                hint=hint,
                tag=value.path,
                evidence={"vr": value.vr, "distinct": len(rest), "count": count},
                at=context.place(value.seen.row),
            )
