"""Every rule: a clean twin passes it, and a twin with exactly its defect yields exactly its code."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hcc_tace_data.phantom.defects import apply_defect, defect_codes
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.registry import ENGINE, RULES

#: De-identification has tests of its own; a crash of the engine cannot be planted.
CODES = [rule.code for rule in RULES if not rule.code.startswith("HT3") and rule.code != ENGINE.code]
DEPTH = {rule.code: rule.depth for rule in RULES}


@pytest.fixture(scope="module")
def clean(make_twin, tmp_path_factory) -> Path:
    """The twin that `hcc-tace phantom` makes by default, with its index cached."""
    root = make_twin(tmp_path_factory.mktemp("clean") / "twin")
    validate(root, depth="index")
    return root


def new_codes(report) -> set[str]:
    return {finding.code for finding in report.findings if not finding.known}


def test_every_rule_has_a_defect():
    assert {*CODES} <= set(defect_codes())


@pytest.mark.parametrize("depth", ["headers", "pixels"])
def test_clean_twin_passes_every_rule(clean, depth):
    report = validate(clean, depth=depth, ignore=["HT312"])
    assert new_codes(report) == set()
    known = {finding.code for finding in report.findings}
    status = {rule.code: rule.status for rule in report.rules}
    assert {code for code, state in status.items() if state == "failed"} == known == {"HT401", "HT604"}
    deeper = {code for code in status if DEPTH[code] == "pixels"} if depth != "pixels" else set()
    # nothing is published about a twin
    assert {code for code, state in status.items() if state == "skipped"} == deeper | {"HT515", "HT605", "HT606"}


@pytest.mark.parametrize("code", CODES)
def test_defect_yields_exactly_its_code(clean, tmp_path, code):
    # defects replace files and never write into them, so links will do for a copy
    copy = Path(shutil.copytree(clean, tmp_path / "copy", copy_function=os.link))
    before = {path: path.read_bytes() for path in sorted(clean.glob("HCC_*/*/SEG_*/*"))}
    said = apply_defect(copy, code)
    assert said
    dear = [
        rule for rule in ("HT312", "HT212") if DEPTH[code] == "pixels" and rule != code
    ]  # OCR, one process per series
    report = validate(copy, depth=DEPTH[code], ignore=dear)
    assert new_codes(report) == {code}, (said, [f.as_dict() for f in report.findings if not f.known][:6])
    assert not [rule for rule in report.rules if "crash" in rule.reason]
    assert {path: path.read_bytes() for path in before} == before
