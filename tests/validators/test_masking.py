"""Nothing that may identify a person stands in any output: planted identifiers of every kind are looked for in all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import openpyxl
import pydicom
import pytest
from pydicom.dataset import Dataset

from hcc_tace_data.cli.main import main
from hcc_tace_data.report import findings_page
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.reporters import to_json, to_sarif, to_text

#: What is planted; none of it may occur in any output, in any case.
PLANTED = {
    "name": "QUIZZLEWORTH",
    "first name": "BARTHOLOMEW",
    "patient id": "MRN7788991",
    "other id": "ZX554433",
    "birth date": "19610917",
    "study date": "20170611",
    "accession": "ACC20170611777",
    "phone": "713-555-0142",
    "mail": "bq@hospital.example",
    "address": "4711 Larkspur Lane",
    "institution": "Larkspur General Hospital",
    "url": "pacs.larkspur.example",
    "ip": "10.77.66.55",
    "scanner uid": "1.2.840.113619.2.55.3.778899",
    "tool uid": "1.2.276.0.7230010.3.1.4.778899.1",
    "folder": "Ottokar_Pfefferkorn",
    "sheet name": "WENCESLAUS",
    "label": "ZEBEDIAH",
    "creator": "ISIDORA",
}
#: What the table of all values may show: it is for review of what no rule suspects.
KEPT = {PLANTED["study date"], PLANTED["institution"], "Larkspur", PLANTED["label"]}
COMMAND = "import sys; from hcc_tace_data.cli.main import main; sys.exit(main(sys.argv[1:]))"
WORDS = [*PLANTED.values(), "2017-06-11", "PFEFFERKORN", "OTTOKAR", "Larkspur"]


@pytest.fixture(scope="module")
def leaking(make_twin, tmp_path_factory) -> Path:
    """A twin of one patient whose second study is another person's, hardly de-identified."""
    root = make_twin(tmp_path_factory.mktemp("leaking") / "t", patients=["HCC_004"])
    files = sorted(root.glob("HCC_*/*/CT_*/*.dcm"))
    studies = sorted({path.parent.parent for path in files})
    for number, path in enumerate(one for one in files if one.parent.parent == studies[-1]):
        spoil(path, number)
    named = root / PLANTED["folder"]
    studies[-1].rename(named)
    one = sorted(named.rglob("*.dcm"))
    shutil.copy(one[0], named / f"{PLANTED['patient id']}.dcm")  # one SOP UID twice, named by the record's number
    (named / "cut.dcm").write_bytes(one[1].read_bytes()[:700])
    seg = pydicom.dcmread(next(root.glob("HCC_*/*/SEG*/*.dcm")))
    seg.SegmentSequence[0].SegmentLabel = PLANTED["label"]
    del seg.SegmentSequence[0].SegmentedPropertyTypeCodeSequence
    seg.save_as(seg.filename)
    sheet = next(root.rglob("*linical*.xlsx"))
    book = openpyxl.load_workbook(sheet)
    table = book["data table"]
    table.append([f"{PLANTED['sheet name']} {PLANTED['name']}"])
    table.cell(2, 4).value = f"{PLANTED['sheet name']} {PLANTED['name']}"
    book.save(sheet)
    return root


def spoil(path: Path, number: int) -> None:
    dataset = pydicom.dcmread(path)
    dataset.PatientName = f"{PLANTED['name']}^{PLANTED['first name']}"
    dataset.PatientID = PLANTED["patient id"]
    dataset.OtherPatientIDs = PLANTED["other id"]
    dataset.PatientBirthDate = PLANTED["birth date"]
    dataset.AccessionNumber = PLANTED["accession"]
    dataset.InstitutionName = PLANTED["institution"]
    dataset.InstitutionAddress = PLANTED["address"]
    dataset.PatientTelephoneNumbers = PLANTED["phone"]
    dataset.SeriesDescription = f"LIVER {PLANTED['name']} {PLANTED['phone']}"
    dataset.StudyDescription = f"{PLANTED['first name']} {PLANTED['name']}"
    dataset.ImageComments = f"mail {PLANTED['mail']}, see {PLANTED['url']} {PLANTED['ip']}, {PLANTED['other id']}"
    dataset.Manufacturer = PLANTED["institution"]
    for name in ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(dataset, name, PLANTED["study date"])
    if "LongitudinalTemporalInformationModified" in dataset:
        del dataset.LongitudinalTemporalInformationModified
    dataset.StudyInstanceUID = PLANTED["scanner uid"]
    dataset.SOPInstanceUID = f"{PLANTED['tool uid']}.{number}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    item = Dataset()
    item.PersonName = f"{PLANTED['name']}^{PLANTED['first name']}"
    dataset.PersonIdentificationCodeSequence = [item]
    block = dataset.private_block(0x0009, f"{PLANTED['creator']} {PLANTED['name']}", create=True)
    block.add_new(0x01, "LO", f"{PLANTED['first name']} {PLANTED['name']}")
    block.add_new(0x02, "UN", f"{PLANTED['name']}^{PLANTED['first name']}".encode())
    dataset.save_as(path)


def run(*arguments: str, cwd: Path) -> str:
    """Run the command in a process of its own: what libraries and workers write counts as well."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    done = subprocess.run(command, capture_output=True, cwd=cwd, check=False, timeout=300)
    assert done.returncode == 1, done.stderr
    return (done.stdout + done.stderr).decode()


def assert_clean(text: str) -> None:
    found = [word for word in WORDS if word.lower() in text.lower()]
    assert found == []


def test_no_output_shows_a_planted_identifier(leaking, tmp_path):
    outputs = [
        "--workers", "2", "--depth", "pixels", "--ignore", "HT312,HT212", "--write-reviewed", "reviewed.yaml",
        "--who", "A. Curator", "--why", "a test", "--phi-table", "phi.csv", "--overlays", "pictures",
    ]  # fmt: skip
    text = run("--debug", "validate", str(leaking), *outputs, cwd=tmp_path)
    for code in ("HT203", "HT301", "HT302", "HT303", "HT306", "HT313", "HT314", "HT408", "HT707"):
        assert code in text  # it was found, so its absence below is masking
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"reviewed.yaml", "phi.csv", "sheet.png"} <= {path.name for path in written}
    for one in (text, (tmp_path / "reviewed.yaml").read_text(), *(str(path.relative_to(tmp_path)) for path in written)):
        assert_clean(one)
    table = (tmp_path / "phi.csv").read_text().lower()
    assert [word for word in WORDS if word.lower() in table and word not in KEPT] == []


def test_no_form_of_the_report_shows_a_planted_identifier(leaking):
    report = validate(leaking)
    document = report.as_dict()
    forms = [to_text(report), to_json(report), json.dumps(to_sarif(report)), findings_page(document)]
    for form in forms:
        assert_clean(form)


@pytest.mark.parametrize("select", ["HT2", "HT4", "HT6", "HT7", "HT8"])
def test_rules_mask_when_they_run_without_those_of_deidentification(leaking, select):
    assert_clean(to_json(validate(leaking, select=[select])))


def test_tool_uids_of_images_are_masked_and_those_of_segmentations_are_not(shared_data, tmp_path):
    for name in ("ctbrain1.dcm", "ctbrain2.dcm"):
        shutil.copy(shared_data / "dicom" / "phi_synthetic" / name, tmp_path)
    uid = str(pydicom.dcmread(tmp_path / "ctbrain1.dcm").SOPInstanceUID)
    report = validate(tmp_path)
    assert uid not in str(report.as_dict())
    assert any(finding.sop_uid == uid[0] + "*" * (len(uid) - 1) for finding in report.findings)


def test_root_that_names_a_patient_is_masked(leaking, tmp_path):
    named = tmp_path / "Quizzleworth_Bartholomew"
    shutil.copytree(leaking, named, copy_function=os.link)
    assert_clean(str(validate(named, select=["HT101"]).as_dict()))


@pytest.mark.parametrize("form", ["text", "json", "sarif", "html"])
def test_control_characters_of_names_and_headers_are_escaped(make_twin, tmp_path, capsys, form):
    """A file name and a description that would recolour the terminal, and a name that is not UTF-8."""
    root = make_twin(tmp_path / "t", patients=1)
    series = sorted(root.glob("HCC_*/*/CT_*"))[0]
    files = sorted(series.glob("*.dcm"))
    for path in files:
        dataset = pydicom.dcmread(path)
        dataset.SeriesDescription = "LIVER\x1b[31m call 713-555-0142"
        dataset.save_as(path)
    (series / "red\x1b[31m\u202egnp.dcm").write_bytes(b"no DICOM")
    (root / os.fsdecode(b"latin\xff.dcm")).write_bytes(b"no DICOM")
    assert main(["validate", str(root), "--format", form, "--select", "HT2,HT3"]) == 1
    shown = capsys.readouterr().out
    assert "HT201" in shown
    assert "red" in shown
    assert "latin" in shown
    assert not set(shown) & {"\x1b", "\u202e", "\udcff"}
    if form in ("json", "sarif"):
        texts = str(json.loads(shown))
        assert "\\u001b" not in shown
        assert "\x1b" not in texts
