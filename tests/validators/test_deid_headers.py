"""Header values: any depth, UN, private creators, file meta, transfer syntaxes, damage; scanning equals reading."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from struct import pack

import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from hcc_tace_data.dicom.header_values import creator_of, header_values, tag_of, value_text
from hcc_tace_data.open import open_collection
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.facts.header_scan import scan_headers


def nested() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "2.25.7"
    dataset.PatientName = "HIDDEN^TOP"
    deep = Dataset()
    deep.PatientComments = "hidden in an item"
    deep.private_block(0x0011, "MAKER/1.0", create=True).add_new(0x02, "LO", "hidden in a private item")
    outer = Dataset()
    outer.RequestAttributesSequence = [deep]
    dataset.ReferencedStudySequence = [outer]
    block = dataset.private_block(0x0009, "MAKER/1.0", create=True)
    block.add_new(0x01, "LO", "hidden in a private element")
    block.add_new(0x03, "US", 7)
    frame = Dataset()
    content = Dataset()
    content.FrameComments = "hidden in a frame"
    frame.FrameContentSequence = [content]
    dataset.PerFrameFunctionalGroupsSequence = [frame]
    return dataset


def save(dataset: Dataset, path: Path, syntax: str) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.SourceApplicationEntityTitle = "HIDDENMETA"
    dataset.save_as(path, enforce_file_format=True)
    return path


def texts(path: Path) -> dict[str, str]:
    keys, problem = header_values(path)
    assert problem == ""
    return {name: value_text(vr, raw) for name, vr, raw in keys}


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian]
)
def test_every_depth_in_every_uncompressed_syntax(tmp_path, syntax):
    found = texts(save(nested(), tmp_path / "a.dcm", syntax))
    assert found["00100010"] == "HIDDEN^TOP"
    assert found["00081110/00400275/00104000"] == "hidden in an item"
    assert found["00081110/00400275/0011[MAKER/1.0]02"] == "hidden in a private item"
    assert found["0009[MAKER/1.0]01"] == "hidden in a private element"
    assert found["52009230/00209111/00209158"] == "hidden in a frame"
    assert found["00020016"] == "HIDDENMETA"


def test_tag_of_a_creator_with_a_slash():
    assert tag_of("00081110/0011[MAKER/1.0]02") == "0011[MAKER/1.0]02"
    assert creator_of("0011[MAKER/1.0]02") == "MAKER/1.0"


@pytest.mark.parametrize("implicit", [True, False])
def test_unknown_representation_is_read_as_what_it_is(tmp_path, implicit):
    item = Dataset()
    item.PatientName = "HIDDEN^INSIDE"
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    pydicom.filewriter.write_sequence_item(buffer, item, ["iso8859"])
    dataset = nested()
    dataset.private_block(0x0009, "MAKER/1.0").add_new(0x10, "UN", buffer.getvalue())
    dataset[0x00100010] = pydicom.DataElement(0x00100010, "UN", b"HIDDEN^TOP")
    found = texts(save(dataset, tmp_path / "a.dcm", ExplicitVRLittleEndian))
    assert found["0009[MAKER/1.0]10/00100010"] == "HIDDEN^INSIDE"
    keys, _ = header_values(tmp_path / "a.dcm")
    assert ("00100010", "PN", b"HIDDEN^TOP") in keys


def test_what_follows_the_pixels_and_the_preamble_is_seen(twin, tmp_path):
    source = sorted(twin.rglob("CT_*/*.dcm"))[0]
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    element = pydicom.DataElement(0xFFFCFFFC, "OB", b"Homer Simpson")
    pydicom.filewriter.write_data_element(buffer, element, ["iso8859"])
    data = source.read_bytes()
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(b"Marge Simpson".ljust(128, b"\0") + data[128:] + buffer.getvalue())
    scan = scan_headers(folder, open_collection(folder).instances)
    assert any(b"Homer Simpson" in raw for raw in scan.elements["FFFCFFFC", "OB"])
    assert any(b"Marge Simpson" in raw for raw in scan.elements["PREAMBLE", "OB"])
    assert scan.problems == []


def test_damage_inside_an_item_is_told_and_the_rest_is_read(tmp_path):
    path = save(nested(), tmp_path / "a.dcm", ExplicitVRLittleEndian)
    data = path.read_bytes()
    place = data.index(b"LT", data.index(b"\x40\x00\x75\x02"))
    path.write_bytes(data[: place + 2] + b"\xff\x7f" + data[place + 4 :])
    keys, problem = header_values(path)
    assert problem
    assert ("0009[MAKER/1.0]01" in {key[0] for key in keys}) or ("00080018" in {key[0] for key in keys})


def test_scanning_counts_what_reading_one_by_one_finds(twin):
    table = open_collection(twin).instances
    table = table[table["patient_id"].isin(["HCC_001", "HCC_017", "HCC_048"])].reset_index(drop=True)
    scan = scan_headers(twin, table)
    expected: Counter[tuple[str, str, bytes]] = Counter()
    for path in table["path"]:
        keys, problem = header_values(twin / path)
        assert problem == ""
        expected.update(keys)
    assert {key: seen.count for key, seen in scan.items()} == dict(expected)
    for key, seen in random.Random(1).sample(list(scan.items()), 200):
        assert key in header_values(twin / table["path"].iloc[seen.row])[0]
    assert len(scan.marks) == len(table)


def test_scanning_equals_reading_on_changed_bytes(twin, tmp_path):
    """Files that differ from a template anywhere, structure included, give what a walk of their own gives."""
    rng = random.Random(2)
    source = sorted(twin.rglob("CT_*/*.dcm"))[:2]
    data = source[0].read_bytes()
    offset = len(data) - 2 * 64 * 64
    names = ["a.dcm"]
    (tmp_path / "a.dcm").write_bytes(data)
    for k in range(150):
        changed = bytearray(data)
        for _ in range(rng.choice([1, 1, 2, 5])):
            changed[rng.randrange(140, offset)] = rng.randrange(256)
        names.append(f"{k}.dcm")
        (tmp_path / names[-1]).write_bytes(bytes(changed))
    table = pd.DataFrame({"path": names, "pixel_offset": offset, "pixel_length": len(data) - offset})
    together = scan_headers(tmp_path, table)
    alone: Counter[tuple[str, str, bytes]] = Counter()
    problems = set()
    for row in range(len(names)):
        scan = scan_headers(tmp_path, table.iloc[[row]].reset_index(drop=True))
        alone.update({key: seen.count for key, seen in scan.items()})
        if scan.problems:
            problems.add(row)
    assert {key: seen.count for key, seen in together.items()} == dict(alone)
    assert {row for row, _ in together.problems} == problems


@pytest.mark.filterwarnings("ignore::UserWarning")  # the files are odd on purpose
def test_values_equal_those_of_pydicom_on_its_own_files():
    """Text values of the real files that pydicom carries: the walk leaves none out."""
    checked = 0
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").rglob("*.dcm")):
        if path.stat().st_size > 2_000_000:
            continue
        try:
            dataset = pydicom.dcmread(path)
        except Exception:
            continue
        keys, problem = header_values(path)
        if problem:
            continue
        found = {value_text(vr, raw) for _, vr, raw in keys}
        for element in dataset.iterall():
            if element.VR in ("LO", "PN", "SH", "UI", "ST", "LT") and element.VM == 1 and str(element.value).isascii():
                text = str(element.value).strip(" \0\r\n\t")
                assert text in found, (path.name, element.tag)
                checked += 1
    assert checked > 1000


def test_a_header_without_end_is_a_problem(tmp_path):
    path = save(nested(), tmp_path / "a.dcm", ExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-5])
    assert header_values(path)[1]


def test_value_text_of_numbers():
    assert value_text("AT", b"\x10\x00\x20\x00") == "(0010,0020)"
    assert value_text("FD", b"\0\0\0\0\0\0\xf0?") == "1"
    assert value_text("UN", b"\x00\x01\x02") == "<3 bytes>"


@pytest.mark.parametrize("defined", [True, False])
def test_one_header_without_end_leaves_no_other_unchecked(make_twin, tmp_path, defined):
    """Unknown values nested 2,000 deep: the file is reported, and the rules look at all the others."""
    root = make_twin(tmp_path / "twin", patients=1)
    files = sorted(root.glob("HCC_*/*/CT_*/*.dcm"))
    value = pack("<HHI", 0x0008, 0x0100, 4) + b"DEEP"
    for _ in range(2_000):
        size = len(value) if defined else 0xFFFFFFFF
        end = b"" if defined else pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        whole = len(value) + 8 if defined else 0xFFFFFFFF
        value = pack("<HHIHHI", 0x0009, 0x1001, whole, 0xFFFE, 0xE000, size) + value + end
    value = value[8:]
    data = files[0].read_bytes()
    place = data.index(pack("<HH2s", 0x0010, 0x0010, b"PN"))
    head = pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, len(value) if defined else 0xFFFFFFFF)
    files[0].write_bytes(data[:place] + head + value + data[place:])
    dataset = pydicom.dcmread(files[-1])
    dataset.PhysiciansOfRecord = "INVENTED^DOCTOR"
    dataset.save_as(files[-1])
    report = validate(root, select=["HT2", "HT3"])
    found = {(one.code, one.path) for one in report.findings if not one.known}
    paths = [str(one.relative_to(root)) for one in (files[0], files[-1])]
    assert found == {("HT308" if defined else "HT201", paths[0]), ("HT301", paths[1])}
