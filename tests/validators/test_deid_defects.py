"""Every code of HT3: a clean twin passes, and a twin with exactly that defect yields exactly that code."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hcc_tace_data.phantom.defects import apply_defect, defect_codes
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.rules.deid import RULES

CODES = [rule.code for rule in RULES]
DEPTH = {rule.code: rule.depth for rule in RULES if rule.depth == "pixels"} | {
    rule.code: "headers" for rule in RULES if rule.depth != "pixels"
}


@pytest.fixture(scope="module")
def clean(make_twin, tmp_path_factory):
    return make_twin(tmp_path_factory.mktemp("clean") / "twin", patients=1)


def test_every_code_has_a_defect():
    assert set(CODES) <= set(defect_codes())


def test_clean_twin_breaks_no_rule(clean):
    report = validate(clean, select=["HT3"])
    assert report.findings == ()
    pixels = {rule.code for rule in RULES if rule.depth == "pixels"}
    assert {rule.status for rule in report.rules if rule.code not in pixels} == {"passed"}


@pytest.mark.parametrize("code", [code for code in CODES if code != "HT312"])
def test_defect_yields_exactly_its_code(clean, tmp_path, code):
    # defects replace files and never write into them, so links will do for a copy
    copy = Path(shutil.copytree(clean, tmp_path / "copy", copy_function=os.link))
    before = {path: path.read_bytes() for path in sorted(clean.rglob("*")) if path.is_file()}
    apply_defect(copy, code)
    report = validate(copy, depth=DEPTH[code], ignore=["HT312", "HT212"])
    assert {path: path.read_bytes() for path in before} == before
    found = [finding for finding in report.findings if not finding.known]
    assert {finding.code for finding in found} == {code}, [f.as_dict() for f in found][:5]
    text = str(report.as_dict()).lower()
    assert "invented" not in text
    assert "simpson" not in text


def test_pixel_text(clean, tmp_path):
    pytest.importorskip("rapidocr_onnxruntime", reason="needs the extra [ocr], which is made for Python up to 3.12")
    copy = Path(shutil.copytree(clean, tmp_path / "copy"))
    for folder in sorted(copy.glob("HCC_*/*/CT_*"))[1:]:
        shutil.rmtree(folder)  # one series is enough to read
    assert validate(copy, select=["HT312"], depth="pixels").findings == ()
    apply_defect(copy, "HT312")
    report = validate(copy, select=["HT3"], depth="pixels")
    assert {finding.code for finding in report.findings} == {"HT312"}
    assert "SIMPSON" not in str(report.as_dict())
