"""The engine: same results with every reader, known and reviewed findings, selection, and what the command prints."""

from __future__ import annotations

import datetime
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import CollectionNotFoundError, PatientNotFoundError, UsageError
from hcc_tace_data.phantom.defects import apply_defect
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.place import Place
from hcc_tace_data.validators.registry import RULES, find_rule
from hcc_tace_data.validators.reporters import to_sarif, to_text
from hcc_tace_data.validators.reviewed import read_reviews, write_reviews
from hcc_tace_data.validators.rule import Draft, Finding, Partly
from hcc_tace_data.validators.rules.conformance import dciodvfy_errors


@pytest.fixture(scope="module")
def spoiled(make_twin, tmp_path_factory) -> Path:
    """A twin with quirks of its own (known issues) and two planted defects."""
    root = make_twin(tmp_path_factory.mktemp("spoiled") / "twin", patients=["HCC_003", "HCC_041"])
    for code in ("HT501", "HT703"):
        apply_defect(root, code)
    return root


def new_codes(report):
    return [finding.code for finding in report.findings if not finding.known]


def test_known_issues_are_told_and_do_not_fail(spoiled):
    report = validate(spoiled)
    assert sorted(set(new_codes(report))) == ["HT501", "HT703"]
    known = {(finding.code, finding.patient_id) for finding in report.findings if finding.known}
    assert {("HT405", "HCC_003"), ("HT404", "HCC_041")} <= known
    assert report.counts["known"] == sum(bool(finding.known) for finding in report.findings)
    assert not report.ok


def test_workers_and_dask_give_the_same_report(spoiled, monkeypatch):
    monkeypatch.setattr("hcc_tace_data.system.parallel._FEW", 1)  # every job goes to the workers
    distributed = pytest.importorskip("distributed", reason="needs the extra [dask]")
    alone = validate(spoiled, workers=1, ignore=["HT312", "HT212"], depth="pixels").as_dict()
    assert validate(spoiled, workers=2, ignore=["HT312", "HT212"], depth="pixels").as_dict() == alone
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
    ) as cluster:
        address = cluster.scheduler_address
        assert validate(spoiled, dask=address, ignore=["HT312", "HT212"], depth="pixels").as_dict() == alone


def test_dask_without_scheduler_is_a_usage_error(spoiled, capsys):
    pytest.importorskip("distributed", reason="needs the extra [dask]")
    assert main(["validate", str(spoiled), "--dask", "nonsense://nowhere"]) == 2
    assert "scheduler" in capsys.readouterr().err


def test_only_the_chosen_patients_are_checked(spoiled, capsys):
    every = validate(spoiled, workers=1)
    table = spoiled / "series.csv"
    for patient in ("HCC_003", "HCC_041"):
        found = validate(spoiled, workers=1, patients=[patient])
        assert {finding.patient_id for finding in found.findings} <= {patient, ""}
        assert {f.fingerprint for f in found.findings} == {
            f.fingerprint for f in every.findings if f.patient_id == patient
        }
        assert found.collection["patients"] == 1
        (compared,) = (rule.reason for rule in found.rules if rule.code == "HT803")
        assert compared == "only the chosen patients are compared with each other"
    assert table.is_file(), "a patient that was not chosen is not missing from the table"
    with pytest.raises(PatientNotFoundError, match=r"No patient HCC_007 in .* \(2 patients; the first is HCC_00\d\)"):
        validate(spoiled, patients=["HCC_007"])
    main(["validate", str(spoiled), "--patients", "HCC_003,HCC_041", "--patients", "HCC_041", "--json"])
    assert json.loads(capsys.readouterr().out)["collection"]["patients"] == 2


def test_an_open_collection_or_a_part_of_it_is_checked(spoiled):
    collection = open_collection(spoiled)
    assert validate(collection, workers=1).findings == validate(spoiled, workers=1).findings
    part, chosen = collection.subset(["HCC_041"]), validate(spoiled, workers=1, patients=["HCC_041"])
    assert validate(part, workers=1).findings == chosen.findings
    assert validate(part, workers=1).collection == chosen.collection


def test_findings_by_patient(spoiled):
    report = validate(spoiled, workers=1)
    table = report.by_patient.set_index("patient_id")
    assert table[["error", "warning", "info", "known"]].sum().to_dict() == report.counts
    assert "HT404" in table.loc["HCC_041", "codes"]


def test_the_text_fits_80_columns_and_groups_known_issues(spoiled):
    report = validate(spoiled, workers=1)
    lines = to_text(report).splitlines()
    assert max(map(len, lines)) <= 80
    known = {(finding.code, finding.known) for finding in report.findings if finding.known}
    assert sum(line[6:11] == "known" for line in lines) == len(known)
    assert sum(line.startswith(("HT501 error", "HT703")) for line in lines) == 2
    assert "with known issues only" in " ".join(lines)


def test_severity_leaves_lighter_findings_out(spoiled):
    assert {finding.severity for finding in validate(spoiled, severity="error").findings} == {"error"}
    with pytest.raises(UsageError, match="severity"):
        validate(spoiled, severity="grave")


def test_a_rule_that_could_not_look_everywhere_says_so(spoiled):
    rule = replace(find_rule("HT101"), check=lambda context: iter([Partly("one file"), Partly("one file")]))
    (status,) = validate(spoiled, rules=[rule]).rules
    assert (status.status, status.reason) == ("passed", "one file")


def test_crash_after_findings_keeps_them(spoiled):
    def check(context):
        yield Draft(message="found", at=Place(patient_id="HCC_003"))
        raise OSError("lost")

    report = validate(spoiled, rules=[replace(find_rule("HT101"), check=check)])
    assert [finding.code for finding in report.findings] == ["HT101", "HT901"]
    assert [(rule.code, rule.status) for rule in report.rules] == [("HT101", "failed"), ("HT901", "failed")]


def test_reviewed_findings_become_known(spoiled, tmp_path):
    report = validate(spoiled)
    file = tmp_path / "reviewed.yaml"
    count = write_reviews(file, report.findings, who="A. Curator", why="looked at", when=datetime.date(2026, 1, 31))
    assert count == len(new_codes(report))
    again = validate(spoiled, reviewed=file)
    assert again.ok
    assert new_codes(again) == []
    assert len(again.findings) == len(report.findings)
    assert "reviewed by A. Curator on 2026-01-31: looked at" in {finding.known for finding in again.findings}
    assert again.unused_reviews == ()
    stale = validate(spoiled, reviewed=file, ignore=["HT703"])
    assert [review.code for review in stale.unused_reviews] == ["HT703"]
    with pytest.raises(UsageError, match="exists"):
        write_reviews(file, report.findings, who="A", why="b")


def test_a_new_finding_beside_a_reviewed_one_is_reported(make_twin, tmp_path):
    """Same code, same patient; one in the same file and element as the reviewed one, one in another series."""
    import pydicom

    root = make_twin(tmp_path / "t", patients=["HCC_003"])
    series = sorted(root.glob("HCC_003/*/CT_*"))
    first, other = sorted(series[0].glob("*.dcm"))[0], sorted(series[1].glob("*.dcm"))[0]

    def write(path, text):
        dataset = pydicom.dcmread(path)
        dataset.ImageComments = text
        dataset.save_as(path)

    write(first, "call 713-555-0142")
    file = tmp_path / "reviewed.yaml"
    reviewed = validate(root, select=["HT303"])
    assert write_reviews(file, reviewed.findings, who="A. Curator", why="a test") == 1
    assert validate(root, select=["HT303"], reviewed=file).ok
    write(other, "call 713-555-0199")  # masked it looks the same
    report = validate(root, select=["HT303"], reviewed=file)
    new = [one.series_uid for one in report.findings if not one.known]
    assert (new, len(report.findings)) == ([str(pydicom.dcmread(other).SeriesInstanceUID)], 2)
    write(other, "call 713-555-0142")  # the reviewed value in one more file
    assert not validate(root, select=["HT303"], reviewed=file).ok
    write(other, "")
    write(first, "call 713-555-0142 or mail bq@hospital.org")
    report = validate(root, select=["HT303"], reviewed=file)
    assert [bool(one.known) for one in report.findings] == [False]
    assert [one.code for one in report.unused_reviews] == ["HT303"]


def test_fingerprints_are_stable_distinct_and_the_same_in_every_form(spoiled, tmp_path):
    report = validate(spoiled)
    moved = Path(shutil.copytree(spoiled, tmp_path / "elsewhere"))
    prints = [finding.fingerprint for finding in report.findings]
    assert [finding.fingerprint for finding in validate(moved).findings] == prints
    assert len(set(prints)) == len(prints)
    assert [one["fingerprint"] for one in report.as_dict()["findings"]] == prints
    results = to_sarif(report)["runs"][0]["results"]
    assert [one["partialFingerprints"] for one in results] == [{"finding/v2": one} for one in prints]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reviewed: [{code: HT501, fingerprint: 1f, who: A, why: b}]", "lacks when"),
        ("reviewed: [{code: HT999, fingerprint: 1f, who: A, when: 2026-01-01, why: b}]", "no rule"),
        ("reviewed: [{code: HT501, patient_id: HCC_001, who: A, when: 2026-01-01, why: b}]", "lacks fingerprint"),
        ("reviewed: [{code: HT501, fingerprint: 1f, who: A, when: soon, why: b}]", "not a date"),
        ("reviewed: [{code: HT501, patients: HCC_001, who: A, when: 2026-01-01, why: b}]", "unknown key 'patients'"),
        ("reviewed: 5", "no list"),
        (": :", "YAML"),
    ],
)
def test_a_wrong_file_of_reviewed_findings_is_refused(tmp_path, text, said):
    file = tmp_path / "wrong.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_reviews(file)


#: What the schema of SARIF 2.1.0 requires, by the path of the object.
_REQUIRED = {
    "log": {"version", "runs"},
    "run": {"tool"},
    "tool": {"driver"},
    "driver": {"name"},
    "rule": {"id"},
    "result": {"message"},
    "notification": {"message"},
    "invocation": {"executionSuccessful"},
    "suppression": {"kind"},
}
_LEVELS = {"none", "note", "warning", "error"}


def test_sarif_has_what_its_schema_requires(spoiled):
    report = validate(spoiled)
    log = json.loads(json.dumps(to_sarif(report)))
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert log["version"] == "2.1.0"
    for name, objects in {
        "log": [log], "run": [run], "tool": [run["tool"]], "driver": [driver], "rule": driver["rules"],
        "result": run["results"], "invocation": run["invocations"],
        "notification": run["invocations"][0]["toolConfigurationNotifications"],
        "suppression": [one for result in run["results"] for one in result.get("suppressions", [])],
    }.items():  # fmt: skip
        assert objects
        assert all(_REQUIRED[name] <= set(one) for one in objects), name
    assert len(run["results"]) == len(report.findings)
    assert {rule["id"] for rule in driver["rules"]} == {rule.code for rule in RULES}
    for result in run["results"]:
        assert result["message"]["text"]
        assert result["level"] in _LEVELS
        assert driver["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        for location in result["locations"]:
            uri = location.get("physicalLocation", {}).get("artifactLocation", {}).get("uri", "x")
            assert not uri.startswith("/")
    prints = [result["partialFingerprints"]["finding/v2"] for result in run["results"]]
    assert len(set(prints)) == len(prints)


def test_json_document(spoiled, capsys):
    assert main(["validate", str(spoiled), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {"ok", "counts", "findings", "rules", "collection"} <= set(document)
    assert set(document["counts"]) == {"error", "warning", "info", "known"}
    assert {rule["code"] for rule in document["rules"]} == {rule.code for rule in RULES}
    assert {rule["status"] for rule in document["rules"]} <= {"passed", "failed", "skipped"}
    assert all(rule["reason"] for rule in document["rules"] if rule["status"] == "skipped")
    assert all(finding["message"] and finding["hint"] for finding in document["findings"])


def test_command_writes_files_and_reviewed_findings(spoiled, tmp_path, capsys):
    file, base = tmp_path / "report.sarif", tmp_path / "base.yaml"
    words = ["validate", str(spoiled), "--select", "HT5,HT7", "--ignore", "HT513"]
    assert main([*words, "--format", "sarif", "--out", str(file)]) == 1
    assert json.loads(file.read_text())["version"] == "2.1.0"
    assert main([*words, "--write-reviewed", str(base)]) == 2
    assert main([*words, "--write-reviewed", str(base), "--who", "A", "--why", "b", "--quiet"]) == 1
    capsys.readouterr()
    assert main([*words, "--reviewed", str(base)]) == 0
    assert "reviewed by A" in capsys.readouterr().out
    assert main([*words, "--reviewed", str(tmp_path / "none.yaml")]) == 2
    assert main(["validate", str(tmp_path / "nothing")]) == 3


def test_empty_folder_is_not_a_pass(tmp_path):
    with pytest.raises(CollectionNotFoundError, match="hcc-tace phantom"):
        validate(tmp_path)


def test_overlays_follow_the_links(spoiled, tmp_path):
    from PIL import Image

    copy = Path(shutil.copytree(spoiled, tmp_path / "copy", copy_function=os.link))
    for path in sorted(copy.glob("HCC_003/*/*/*.dcm")):  # names tell nothing
        path.rename(copy / f"{abs(hash(path.name)):x}.bin")
    assert main(["validate", str(copy), "--overlays", str(tmp_path / "out"), "--select", "HT201", "--quiet"]) == 0
    folders = sorted((tmp_path / "out").glob("HCC_*/*"))
    assert [folder.parent.name for folder in folders] == ["HCC_003", "HCC_041"]
    for folder in folders:
        slices = sorted(folder.glob("slice_*.png"))
        assert len(slices) > 5
        assert (folder / "sheet.png").stat().st_size > 10_000
        pictures = np.stack([np.asarray(Image.open(path)) for path in slices])
        for colour in ((86, 180, 233), (213, 94, 0)):  # liver and tumour, as the catalogue has them
            assert (pictures == colour).all(axis=-1).any()


def test_dciodvfy_counts_error_lines_of_any_encoding(tmp_path):
    program = tmp_path / "fake"
    program.write_text(
        "#!/bin/sh\nprintf 'Error - </PatientName(0010,0010)[1]> - Value invalid = <M\\374LLER>\\nWarning\\n' >&2\n"
    )
    program.chmod(0o755)
    (line,) = dciodvfy_errors((str(program), "any"))
    assert "PatientName" in line
    assert "LLER" not in line
    assert dciodvfy_errors((str(tmp_path / "absent"), "any")) is None


def test_explain_tells_every_rule(capsys):
    assert main(["explain", "ht404"]) == 0
    assert "frames-on-slices" in capsys.readouterr().out
    assert main(["explain", "HT999"]) == 2
    assert main(["explain"]) == 0
    out = capsys.readouterr().out
    assert all(rule.code in out for rule in RULES)


def test_rules_are_well_formed():
    codes = [rule.code for rule in RULES]
    assert len(set(codes)) == len(codes)
    assert len({rule.name for rule in RULES}) == len(codes)
    for rule in RULES:
        assert all((rule.summary, rule.why, rule.fix, rule.source)), rule.code
        assert rule.summary.endswith("."), rule.code


def test_intervals_of_the_real_sheet(shared_data, capsys):
    """Facts about the published sheet and the real study dates, found from tables alone."""
    sheet = shared_data / "HCC-TACE-Seg_clinical_data-V2.xlsx"
    assert main(["validate", "--from-table", "--clinical", str(sheet), "--select", "HT701", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    rows = {finding["patient_id"]: finding["evidence"] for finding in document["findings"]}
    assert len(rows) == 22
    assert {"HCC_017", "HCC_077", "HCC_082", "HCC_104"} <= set(rows)
    assert rows["HCC_077"]["difference_days"] == -1
    assert rows["HCC_082"]["fits"] == "HCC_083"
    assert sum(bool(row["fits"]) for row in rows.values()) == 17
    assert [finding["patient_id"] for finding in document["findings"] if finding["known"]] == ["HCC_017"]


def test_html_page_names_what_was_found(spoiled, tmp_path):
    file = tmp_path / "report.html"
    assert main(["validate", str(spoiled), "--select", "HT5,HT7", "--format", "html", "-o", str(file), "--quiet"]) == 1
    page = file.read_text(encoding="utf-8")
    assert "<html" in page.lower()
    assert "HT501" in page
    assert "HT703" in page
    assert 'src="http' not in page  # it stands alone


@pytest.mark.parametrize("option", ["--out", "--write-reviewed", "--phi-table", "--overlays"])
def test_what_cannot_be_written_is_refused_before_anything_is_read(spoiled, tmp_path, capsys, monkeypatch, option):
    monkeypatch.setattr(
        "hcc_tace_data.validators.engine.open_collection", lambda *_, **__: pytest.fail("files were read")
    )
    (tmp_path / "file").write_text("")
    places = [tmp_path / "file" / "below"] if option == "--overlays" else [tmp_path, tmp_path / "none" / "x"]
    for place in places:
        assert main(["validate", str(spoiled), option, str(place), "--who", "A", "--why", "b"]) == 2
        assert str(place) in capsys.readouterr().err


def test_places_in_the_text_report_fit_the_width(twin):
    path = f"HCC_003/{'1.2.840' * 8}/{'SEG_' + '2.25.1' * 10}/{'2.25.17287' * 4}.dcm"
    report = validate(twin, select=["HT101"], depth="index", workers=1)
    for width in (80, 100):
        found = (Finding(code="HT507", severity="error", message="A part of the tumour is elsewhere.", path=path),)
        lines = to_text(replace(report, findings=found), width=width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[1].startswith("    HCC_003/1.2")
        assert lines[1].endswith("87.dcm")
