"""Findings of unchanged patients are kept: no report differs from one that looks at everything."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hcc_tace_data.clinical import find_sheet
from hcc_tace_data.open import open_collection
from hcc_tace_data.phantom.defects import apply_defect, defect_codes
from hcc_tace_data.validators import unchanged, validate
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.facts import extra_headers
from hcc_tace_data.validators.registry import RULES, find_rule
from hcc_tace_data.validators.reviewed import write_reviews
from hcc_tace_data.validators.rule import Draft, Finding, Skip
from hcc_tace_data.validators.unchanged import linked_patients

LOCAL = [rule for rule in RULES if rule.local]
PATIENTS = 3


@pytest.fixture(scope="module")
def clean(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("clean") / "twin", patients=PATIENTS)


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    # what is kept is never linked to another name; defects and edits replace files and never write into them
    return Path(shutil.copytree(clean, tmp_path / "root", copy_function=os.link, ignore=_kept))


def _kept(_: str, names: list[str]) -> list[str]:
    return [name for name in names if name == ".hcc-tace"]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The patients that local rules are run on, a list for each run."""
    runs: list[list[str]] = []
    whole = unchanged._look

    def look(context: Context, rules: Any, patients: frozenset[str]) -> Any:
        runs.append(sorted(patients))
        return whole(context, rules, patients)

    monkeypatch.setattr(unchanged, "_look", look)
    return runs


def report(root: Path, **options: Any) -> str:
    options = {"ignore": ["HT312", "HT212"], **options}
    return json.dumps(validate(root, workers=1, **options).as_dict(), indent=1)


def fresh(root: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    """Return the report of a run that keeps nothing, and finds nothing kept."""
    with monkeypatch.context() as patch:
        patch.setattr("hcc_tace_data.validators.engine.open_collection",
                      lambda path, **more: open_collection(path, cache=False, **more))  # fmt: skip
        return report(root, **options)


def _patients(root: Path) -> list[Path]:
    return sorted(root.glob("HCC_*"))


def _slices(patient: Path) -> list[Path]:
    return sorted(patient.glob("*/CT_*/*.dcm"))


def _change(path: Path, **values: Any) -> None:
    data = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(data, name, value)
    path.unlink()
    data.save_as(path)


def _one(root: Path) -> Path:
    return _slices(_patients(root)[1])[2]


EDITS: dict[str, Callable[[Path], object]] = {
    "a header of the extra ones": lambda root: _change(_one(root), ProtocolName="another", PatientSex="F"),
    "a header of the index": lambda root: _change(_one(root), SeriesTime="010203", KVP="70", BitsAllocated=8),
    "a position": lambda root: _change(_one(root), ImagePositionPatient=[0, 0, 1234]),
    "a slice is gone": lambda root: _slices(_patients(root)[1])[3].unlink(),
    "a copy of a slice": lambda root: shutil.copy(_one(root), _one(root).with_name("copy.dcm")),
    "a patient is gone": lambda root: shutil.rmtree(_patients(root)[1]),
    "a slice moves to another patient": lambda root: _change(_one(root), PatientID=_patients(root)[0].name),
    "a slice of another's series": lambda root: _change(
        _one(root), SeriesInstanceUID=str(pydicom.dcmread(_slices(_patients(root)[2])[0]).SeriesInstanceUID)
    ),
    "a file is cut short": lambda root: [
        data := _one(root).read_bytes(), _one(root).unlink(), _one(root).write_bytes(data[:900])
    ],
    "no PatientID": lambda root: _change(_one(root), PatientID=""),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_twin(tmp_path_factory.mktemp("pair") / "twin", patients=2)


#: The defects that local rules find, and every eighth of the others.
SPOILED = [
    *(rule.code for rule in LOCAL if rule.code in defect_codes()),
    *[code for code in defect_codes() if code not in {rule.code for rule in LOCAL}][::8],
]


@pytest.mark.parametrize("code", SPOILED)
def test_local_rules_find_of_all_what_they_find_of_each(pair: Path, tmp_path: Path, code: str) -> None:
    root = Path(shutil.copytree(pair, tmp_path / "root", copy_function=os.link, ignore=_kept))
    apply_defect(root, code)
    context = Context(open_collection(root, cache=False))
    linked = linked_patients(context)
    patients = sorted(set(context.instances["patient_id"]))
    groups = [frozenset([one]) for one in patients if one not in linked] + [linked] * bool(linked)
    for rule in LOCAL:
        whole: list[Finding] = []
        unchecked: list[str] = []
        parts: list[Finding] = []
        try:
            rule.collect(context, whole, unchecked)
        except Skip:
            for group in groups:
                with pytest.raises(Skip):
                    rule.collect(context.among(group), parts, [])
            continue
        for group in groups:
            left: list[str] = []
            rule.collect(context.among(group), parts, left)
            assert left == unchecked, rule.code
        assert {one.patient_id for one in whole} <= set(patients)
        assert unchanged.by_patient(parts) == unchanged.by_patient(whole), rule.code


@pytest.mark.parametrize("edit", EDITS)
def test_the_report_after_an_edit_is_that_of_a_run_without_a_cache(root, monkeypatch, edit) -> None:
    before = report(root)
    assert report(root) == before == fresh(root, monkeypatch)
    EDITS[edit](root)
    after = report(root)
    assert after == fresh(root, monkeypatch)
    assert after != before
    assert report(root) == after


LATER = ("HT201", "HT204", "HT206", "HT406", "HT501", "HT504", "HT513", "HT706")


@pytest.mark.parametrize("code", LATER)
def test_a_defect_that_comes_later_is_found_and_goes_again(root, clean, monkeypatch, looked, code) -> None:
    before = report(root)
    apply_defect(root, code)
    broken = report(root)
    assert broken == fresh(root, monkeypatch)
    assert broken != before
    # the others are not looked at, unless the sheet is another one
    assert sum(map(len, looked[1:])) < PATIENTS or code == "HT706"
    shutil.rmtree(root / "truth")
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_file() and ".hcc-tace" not in path.parts:
            path.unlink()
    shutil.copytree(clean, root, copy_function=os.link, ignore=_kept, dirs_exist_ok=True)
    assert report(root) == before


def test_only_the_patient_that_changed_is_looked_at(root, looked) -> None:
    names = [one.name for one in _patients(root)]
    first = report(root)
    report(root)
    _change(_one(root), KVP="70")
    changed = json.loads(report(root))
    assert looked == [names, [names[1]]]
    was = json.loads(first)["findings"]
    assert [one for one in changed["findings"] if one["patient_id"] != names[1]] == [
        one for one in was if one["patient_id"] != names[1]
    ]


def test_patients_that_share_a_series_are_looked_at_together(root, monkeypatch, looked) -> None:
    names = [one.name for one in _patients(root)]
    report(root)
    EDITS["a slice of another's series"](root)
    report(root)
    report(root)
    assert looked == [names, names[1:], names[1:]]
    # a change of one of them alone
    _change(_slices(_patients(root)[2])[5], SeriesTime="010203")
    assert report(root) == fresh(root, monkeypatch)
    # what was said of a patient alone does not count where it is seen with another
    alone = report(root, patients=[names[1]])
    assert alone == fresh(root, monkeypatch, patients=[names[1]])
    assert report(root) == fresh(root, monkeypatch)


OPTIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "index": {"depth": "index"},
    "one rule": {"select": ["HT204"]},
    "without it": {"ignore": ["HT204", "HT312"]},
    "errors": {"severity": "error"},
    "one patient": {"patients": ["HCC_002"]},
}


def test_options_of_one_run_do_not_show_in_the_next(root, monkeypatch) -> None:
    for code in ("HT204", "HT206", "HT501"):
        apply_defect(root, code)
    reports = {name: fresh(root, monkeypatch, **options) for name, options in OPTIONS.items()}
    assert len(set(reports.values())) == len(reports)
    for name in (*reversed(OPTIONS), *OPTIONS):
        assert report(root, **OPTIONS[name]) == reports[name], name


def test_reviews_and_masks_are_not_kept(root, monkeypatch, tmp_path) -> None:
    apply_defect(root, "HT204")
    plain = report(root)
    findings = [one for one in validate(root, workers=1).findings if one.code == "HT204"]
    assert findings
    write_reviews(tmp_path / "reviewed.csv", findings, who="me", why="seen")
    reviewed = report(root, reviewed=tmp_path / "reviewed.csv")
    assert reviewed == fresh(root, monkeypatch, reviewed=tmp_path / "reviewed.csv") != plain
    assert report(root) == plain


def test_a_changed_sheet_is_compared_again(root, monkeypatch) -> None:
    apply_defect(root, "HT706")
    before = report(root)
    assert '"HT706"' in before
    moved = find_sheet(root).rename(root.parent / "elsewhere.xlsx")
    without = report(root)
    assert without == fresh(root, monkeypatch) != before
    given = report(root, clinical=moved)
    assert given == fresh(root, monkeypatch, clinical=moved)
    assert '"HT706"' in given
    assert report(root) == without


def test_another_rule_of_the_same_code_is_run(root) -> None:
    report(root)

    def says(context: Context) -> Any:
        yield Draft(message="from elsewhere")

    other = replace(find_rule("HT501"), check=says)
    found = validate(root, workers=1, rules=[other]).findings
    assert [one.message for one in found] == ["from elsewhere"]
    assert not [one for one in validate(root, workers=1).findings if one.message == "from elsewhere"]


def test_what_could_not_be_read_is_looked_at_again(root, monkeypatch, looked) -> None:
    whole = extra_headers.read_extra
    name = _patients(root)[1].name

    def read(job: Any) -> Any:
        return [None if name in path else row for path, row in zip(job[1], whole(job), strict=True)]

    with monkeypatch.context() as patch:
        patch.setattr(extra_headers, "read_extra", read)
        report(root)
    assert report(root) == fresh(root, monkeypatch)
    assert looked[1] == [name]


def test_a_file_that_changes_during_the_run_is_looked_at_again(root, monkeypatch, looked) -> None:
    whole, path = extra_headers.read_extra, _one(root)
    data, status = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    def read(job: Any) -> Any:
        os.utime(path)
        return whole(job)

    with monkeypatch.context() as patch:
        patch.setattr(extra_headers, "read_extra", read)
        report(root)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    report(root)
    assert looked[1] == [_patients(root)[1].name]


@pytest.mark.parametrize("value", [None, 5, {}, {"HT204": 1}, {"HT204": [[{"message": "x"}], []]}, [["HT204"]]])
def test_kept_findings_of_another_form_are_looked_for_again(root, monkeypatch, value) -> None:
    apply_defect(root, "HT204")
    first = report(root)
    kept = open_collection(root).kept
    assert kept.store is not None
    whole = type(kept.store).get

    def get(self: Any, kind: str, keys: Any, **more: Any) -> dict[str, Any]:
        found = whole(self, kind, keys, **more)
        return dict.fromkeys(found, value) if kind == "findings" else found

    monkeypatch.setattr(type(kept.store), "get", get)
    assert report(root) == first


def test_findings_are_kept_beside_the_files_or_nowhere(root, monkeypatch, tmp_path) -> None:
    """They may quote headers, which may name people."""
    monkeypatch.setenv("HCC_TACE_CACHE", str(tmp_path / "cache"))
    shutil.rmtree(root / ".hcc-tace", ignore_errors=True)
    (root / ".hcc-tace").write_text("in the way: no folder can be made")
    report(root)
    kinds = set()
    for file in (tmp_path / "cache").glob("derived-*.sqlite"):
        with sqlite3.connect(file) as base:
            kinds |= {kind for (kind,) in base.execute("SELECT DISTINCT kind FROM kept")}
        base.close()
    assert kinds
    assert not kinds & {"findings", "sifted headers"}
