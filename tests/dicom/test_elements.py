"""The element walk: against pydicom, and where sequences nest without end."""

from __future__ import annotations

from io import BytesIO
from struct import pack

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from hcc_tace_data.dicom.elements import MAX_DEPTH, Damaged, Leaf, end_of_sequence, walk_leaves
from hcc_tace_data.dicom.header_values import leaf_values

ITEM, ITEM_END, SEQUENCE_END = (pack("<HHI", 0xFFFE, one, 0) for one in (0xE000, 0xE00D, 0xE0DD))
OPEN_ITEM = pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)


def _dataset(draw_texts: list[str], children: list[Dataset], undefined: bool) -> Dataset:
    dataset = Dataset()
    for number, text in enumerate(draw_texts):
        dataset.add_new(0x00080100 + number, "SH", text)
    if children:
        dataset.add_new(0x0040A730, "SQ", Sequence(children))
        dataset["ContentSequence"].is_undefined_length = undefined
        for child in children:
            child.is_undefined_length_sequence_item = undefined
    return dataset


TEXTS = st.lists(st.text("ABC123", max_size=6), max_size=3)
DATASETS = st.recursive(
    st.builds(_dataset, TEXTS, st.just([]), st.booleans()),
    lambda inner: st.builds(_dataset, TEXTS, st.lists(inner, min_size=1, max_size=3), st.booleans()),
    max_leaves=12,
)


def _written(dataset: Dataset, *, implicit: bool) -> bytes:
    stream = pydicom.filebase.DicomBytesIO()
    stream.is_little_endian, stream.is_implicit_VR = True, implicit
    write_dataset(stream, dataset)
    return stream.getvalue()


def _expected(dataset: Dataset, prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for element in dataset:
        name = f"{prefix}{int(element.tag):08X}"
        if element.VR == "SQ":
            found += [one for child in element.value for one in _expected(child, name + "/")]
        else:
            found.append((name, str(element.value or "")))
    return found


@given(dataset=DATASETS, implicit=st.booleans())
def test_leaves_are_those_that_pydicom_reads(dataset, implicit):
    data = _written(dataset, implicit=implicit)
    again = pydicom.filereader.read_dataset(BytesIO(data), implicit, True)
    leaves: list[Leaf] = []
    assert walk_leaves(data, 0, len(data), leaves, explicit=not implicit) == len(data)
    assert [(one.path, data[one.start : one.end].decode().strip(" \0")) for one in leaves] == _expected(again)


@given(dataset=DATASETS, implicit=st.booleans(), after=st.binary(max_size=20))
def test_the_end_of_an_open_sequence_is_found_at_any_depth(dataset, implicit, after):
    outer = Dataset()
    outer.add_new(0x0040A730, "SQ", Sequence([dataset]))
    outer["ContentSequence"].is_undefined_length = True
    dataset.is_undefined_length_sequence_item = True
    data = _written(outer, implicit=implicit)
    first = 8 if implicit else 12
    assert end_of_sequence(data + after, first, not implicit) == len(data)


def _nested(depth: int, *, explicit: bool) -> bytes:
    """Return open sequences in one another; the innermost item holds one text."""
    head = pack("<HH2sH", 0x0040, 0xA730, b"SQ", 0) if explicit else pack("<HH", 0x0040, 0xA730)
    head += pack("<I", 0xFFFFFFFF)
    text = pack("<HH2sH", 0x0008, 0x0100, b"SH", 4) if explicit else pack("<HHI", 0x0008, 0x0100, 4)
    return (head + OPEN_ITEM) * depth + text + b"DEEP" + (ITEM_END + SEQUENCE_END) * depth


@pytest.mark.parametrize("explicit", [True, False])
def test_deep_nesting_is_walked_without_recursion(explicit):
    data = _nested(20_000, explicit=explicit)
    assert end_of_sequence(data, 12 if explicit else 8, explicit) == len(data)
    with pytest.raises(Damaged, match="too deep"):
        walk_leaves(data, 0, len(data), [], explicit=explicit)
    leaves: list[Leaf] = []
    data = _nested(MAX_DEPTH, explicit=explicit)
    walk_leaves(data, 0, len(data), leaves, explicit=explicit)
    assert [(one.path.count("/"), data[one.start : one.end]) for one in leaves] == [(MAX_DEPTH, b"DEEP")]


def _unknown(depth: int) -> bytes:
    """Return unknown values of known length in one another, as a private element holds them."""
    value = pack("<HHI", 0x0008, 0x0100, 4) + b"DEEP"
    for _ in range(depth):
        value = pack("<HHI", 0xFFFE, 0xE000, len(value)) + value
        value = pack("<HHI", 0x0009, 0x1001, len(value)) + value
    return value[8:]


def test_unknown_values_in_unknown_values():
    ((path, vr, raw),) = leaf_values("00091001", "UN", _unknown(200))
    assert (path.count("/"), path[-8:], vr, raw) == (200, "00080100", "SH", b"DEEP")
    with pytest.raises(Damaged, match="too deep"):
        leaf_values("00091001", "UN", _unknown(2_000))


def test_bytes_behind_a_delimiter_are_not_passed_over():
    """A delimiter inside an item of known length would hide what follows it."""
    hidden = ITEM_END + pack("<HH2sH", 0x0010, 0x0010, b"PN", 4) + b"NAME"
    item = pack("<HHI", 0xFFFE, 0xE000, len(hidden)) + hidden
    data = pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, len(item)) + item
    with pytest.raises(Damaged, match="delimiter"):
        walk_leaves(data, 0, len(data), [])
