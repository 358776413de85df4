"""The page of findings: hostile text stays text, and the filters act together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hcc_tace_data import validate
from hcc_tace_data.report import findings_page

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>"


def _report() -> dict[str, Any]:
    findings = [
        {"code": "HT101", "severity": "error", "message": HOSTILE, "patient_id": "HCC_004", "hint": "look"},
        {"code": "HT201", "severity": "warning", "message": "cut short", "patient_id": "HCC_004", "path": "a/b.dcm"},
        {"code": "HT201", "severity": "error", "message": "empty", "patient_id": "HCC_007"},
        {
            "code": "HT102",
            "severity": "error",
            "message": "three studies",
            "patient_id": "HCC_021",
            "known": "so it is",
        },
        {"code": "HT901", "severity": "error", "message": "a rule crashed"},
    ]
    rules = [
        {"code": "HT101", "status": "failed", "reason": ""},
        {"code": "HT102", "status": "failed", "reason": ""},
        {"code": "HT201", "status": "failed", "reason": ""},
        {"code": "HT301", "status": "skipped", "reason": "needs pixels"},
    ]
    return {
        "ok": False,
        "counts": {"error": 3, "warning": 1, "info": 0, "known": 1},
        "findings": findings,
        "rules": rules,
        "collection": {"patients": 3},
    }


def test_nothing_is_lost_and_text_stays_text() -> None:
    html = findings_page(_report())
    assert "<script>document.title" not in html
    assert html.count("<tr data-severity=") == 5
    assert "needs pixels" in html
    assert "HT901" in html
    assert "src=x" not in html.replace("&lt;img src=x", "")
    assert 'http-equiv="Content-Security-Policy"' in html


def test_no_finding_at_all() -> None:
    html = findings_page({"ok": True, "counts": {}, "findings": [], "rules": [], "collection": {}})
    assert "No rule was run" in html
    assert "f-table" not in html.split("<script>")[0].split("</style>")[1]


def test_filters_act_together(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "findings.html"
    path.write_text(findings_page(_report()), encoding="utf-8")
    browser.size(1280, 900)
    browser.open(path.as_uri())
    assert browser.run("return document.title") == "Curation findings"
    rows = "[...document.querySelectorAll('#f-table tbody tr')]"
    shown = f"return {rows}.filter(row => row.offsetParent).map(row => row.dataset.code)"
    assert browser.run(shown) == ["HT101", "HT201", "HT901", "HT201", "HT102"]
    browser.choose("#f-code", "HT201")
    assert browser.run(shown) == ["HT201", "HT201"]
    browser.choose("#f-patient", "HCC_004")
    assert browser.run(shown) == ["HT201"]
    browser.choose("#f-text", "CUT b.dcm")
    assert browser.run(shown) == ["HT201"]
    browser.click(".chip[data-severity=warning]")
    assert browser.run(shown) == []
    browser.click(".pick[data-code=HT102]")
    assert browser.run(shown) == ["HT102"]
    browser.shot("findings")
    browser.assert_quiet()


def test_the_page_takes_what_validate_returns(twin: Path) -> None:
    report = validate(twin, select=["HT1"], depth="index")
    page = findings_page(report)
    assert page == findings_page(report.as_dict())
    assert "HT101" in page
