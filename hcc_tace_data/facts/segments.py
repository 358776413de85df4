"""The segment vocabulary: which structures the collection's segmentations hold, and what they are called.

There is one vocabulary, made from ``catalog.yaml``; :attr:`hcc_tace_data.facts.catalog.Catalog.vocabulary` returns it.
Readers of SEG and label files, rules, stores and exports ask it for the key of a label, the parts of the whole liver,
and the classes of a label set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field

from hcc_tace_data.errors import CatalogError

__all__ = ["CodedConcept", "LabelClass", "Segment", "SegmentVocabulary"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class CodedConcept(_Record):
    """A coded concept of DICOM: value, scheme, meaning."""

    value: str
    scheme: str
    meaning: str


class Segment(_Record):
    """A segment of the collection's SEGs."""

    number: int = Field(ge=1, le=255)
    key: str = Field(pattern=r"^[a-z_]+$")
    name: str
    aliases: tuple[str, ...]
    colour: str = Field(pattern=r"^#[0-9A-F]{6}$")
    category: CodedConcept
    type: CodedConcept


class LabelClass(_Record):
    """A class number of a label set and the segments that become it."""

    number: int = Field(ge=1, le=255)
    name: str
    segments: tuple[str, ...] = Field(min_length=1)


@dataclass(frozen=True)
class SegmentVocabulary:
    """Segments, their names, and the label sets they are grouped into.

    Attributes
    ----------
    segments : tuple of Segment
        In the order of ``catalog.yaml``.
    label_sets : mapping of str to tuple of LabelClass
        Name of the set -> its classes, in painting order.
    """

    segments: tuple[Segment, ...]
    label_sets: Mapping[str, tuple[LabelClass, ...]]

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Keys of all segments ("liver", "tumour" ...)."""
        return tuple(segment.key for segment in self.segments)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Segment key -> the number that the collection gives it."""
        return {segment.key: segment.number for segment in self.segments}

    @cached_property
    def whole_liver(self) -> tuple[str, ...]:
        """Keys of the segments that make up the whole liver: readers drew tumours and vessels out of it."""
        return self.label_sets["liver"][0].segments

    @cached_property
    def tumour(self) -> tuple[str, ...]:
        """Keys of the segments that make up the tumour, necrosis included."""
        return next(item.segments for item in self.label_sets["standard"] if "tumour" in item.segments)

    @cached_property
    def liver_classes(self) -> tuple[int, ...]:
        """Class numbers of the standard label set that make up the whole liver."""
        return self._classes_within(self.whole_liver)

    @cached_property
    def tumour_classes(self) -> tuple[int, ...]:
        """Class numbers of the standard label set that are tumour."""
        return self._classes_within(self.tumour)

    def _classes_within(self, keys: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(item.number for item in self.label_sets["standard"] if set(item.segments) <= set(keys))

    def key_of(self, name: str = "", code: str = "", *, number: int | None = None) -> str | None:
        """Return the key of a label: by name, else by code, else, if it has no name, by number.

        Parameters
        ----------
        name : str
            Label text in any case.
        code : str
            Code value of the type (SNOMED CT), with or without its scheme: "10200004" or "SCT:10200004".
        number : int, optional
            Number of the label in its file, for files in which numbers have a meaning; a `name` that is a number
            written as text then stands for that number.

        Returns
        -------
        str or None
            None if the vocabulary does not have it.

        Examples
        --------
        >>> from hcc_tace_data.facts.catalog import Catalog
        >>> known = Catalog.load().vocabulary
        >>> known.key_of("Tumor"), known.key_of("lesion", "4147007"), known.key_of(number=1), known.key_of("spleen")
        ('tumour', 'tumour', 'liver', None)
        """
        text = name.strip().casefold()
        by_name = self._by_name.get(text) if text else None
        if by_name is not None:
            return by_name
        if code:
            scheme, _, value = code.rpartition(":")
            for segment in self.segments:
                if segment.type.value == value and scheme in {"", segment.type.scheme}:
                    return segment.key
        if number is None or (text and not (text.isascii() and text.isdigit())):
            return None
        wanted = int(text or number)
        return next((segment.key for segment in self.segments if segment.number == wanted), None)

    def classes(self, label_set: str) -> dict[int, tuple[str, ...]]:
        """Return class number -> segment keys of a label set, in painting order.

        Raises
        ------
        CatalogError
            There is no such label set.
        """
        if label_set not in self.label_sets:
            raise CatalogError(f"no label set {label_set!r}; there are {', '.join(self.label_sets)}.")
        return {item.number: item.segments for item in self.label_sets[label_set]}

    @cached_property
    def _by_name(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for segment in self.segments:
            for word in (segment.name, segment.key, *segment.aliases):
                found.setdefault(word.casefold(), segment.key)
        return found
