"""What is kept of a collection is never stale: each thing that it was made from is changed, and the answer with it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hcc_tace_data.clinical import find_sheet
from hcc_tace_data.collection import kept as module
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.errors import HccTaceError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.integrity import verify as checks
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.open import Collection, open_collection
from hcc_tace_data.phases.label import label_phases
from hcc_tace_data.system.identity import identity_of

PATIENT, STACKED = "HCC_003", "HCC_017"


@pytest.fixture
def root(twin: Path, tmp_path: Path) -> Path:
    """Two patients of the twin, to be spoilt."""
    folder = tmp_path / "root"
    for name in (PATIENT, STACKED):
        shutil.copytree(twin / name, folder / name)
    shutil.copytree(twin / "clinical", folder / "clinical")
    return folder


def answer(collection: Collection) -> dict[str, Any]:
    """Return all that is kept, as plain values."""
    cases, left_out = find_cases(collection, list(collection), phases=("portal_venous",))
    return {
        "phases": label_phases(collection, depth="headers").to_dict("records"),
        "volumes": [
            [uid for part in series.volumes for uid in part["sop_uid"]]
            for patient in collection.values()
            for study in patient.studies
            for series in study.series
        ],
        "annotated": [
            (found.volume, found.paths, found.reason, found.cited)
            for patient in collection.values()
            if patient.baseline is not None and patient.baseline.segmentation is not None
            for found in [_or_error(lambda study=patient.baseline: find_annotated(study))]
        ],
        "cases": [
            (one.patient_id, one.paths, one.sources, one.phases, one.series_uids, one.days, dict(one.clinical))
            for one in cases
        ],
        "left_out": {patient: str(reason) for patient, reason in left_out.items()},
    }


class _Broken:
    volume, paths, cited = None, (), False

    def __init__(self, error: Exception) -> None:
        self.reason = str(error)


def _or_error(find: Callable[[], Any]) -> Any:
    try:
        return find()
    except HccTaceError as error:
        return _Broken(error)


def same(one: Any, other: Any) -> bool:
    """Whether two answers are equal; NaN equals NaN."""
    return repr(one) == repr(other)


def segs(root: Path, patient: str = PATIENT) -> list[Path]:
    return sorted(path for path in (root / patient).rglob("*.dcm") if path.parent.name.startswith("SEG"))


def slices(root: Path, patient: str = PATIENT) -> list[Path]:
    return sorted(path for path in (root / patient).rglob("*.dcm") if not path.parent.name.startswith("SEG"))


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of what is built in place of being recalled."""
    names: list[str] = []
    fact = module.Kept.fact

    def watched(self: Any, kind: Any, paths: Any, build: Any, **options: Any) -> Any:
        def noted() -> Any:
            names.append(kind.name)
            return build()

        return fact(self, kind, paths, noted, **options)

    monkeypatch.setattr(module.Kept, "fact", watched)
    return names


def test_what_is_kept_is_what_is_found_without(root, built) -> None:
    without = answer(open_collection(root, cache=False))
    first = answer(open_collection(root))
    assert same(first, without)
    assert {"split", "annotated"} <= set(built)
    built.clear()
    assert same(answer(open_collection(root)), without)
    assert built == [], "all of it was kept"
    frame = label_phases(open_collection(root), depth="headers")
    pd.testing.assert_frame_equal(frame, label_phases(open_collection(root, cache=False), depth="headers"))


def test_pixels_are_kept_apart_from_headers(root, monkeypatch) -> None:
    without = label_phases(open_collection(root, cache=False))
    pd.testing.assert_frame_equal(label_phases(open_collection(root)), without)
    monkeypatch.setattr("hcc_tace_data.phases.pixels.measure_volumes", None)
    pd.testing.assert_frame_equal(label_phases(open_collection(root)), without)
    assert (label_phases(open_collection(root), depth="headers")["phase_pixels"] == "unknown").all()


def _describe(root: Path, text: str) -> None:
    """Give the series of the first slice another description, in every file of it."""
    folder = slices(root)[0].parent
    for path in folder.glob("*.dcm"):
        data = pydicom.dcmread(path)
        data.SeriesDescription = text
        data.save_as(path)


def _move(path: Path) -> None:
    """Put a file of the same bytes in place of another: only inode and time of change tell."""
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_mtime_ns == status.st_mtime_ns


def _shift_seg(root: Path) -> None:
    """Move the frames of the SEG far from its CT, under the same size and time."""
    (path,) = segs(root)
    status = path.stat()
    data = pydicom.dcmread(path)
    for frame in data.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        text = f"{float(place[0]):.3f}"
        place[0] = text if float(place[0]) else "0"
        place[1] = float(place[1]) + 60
    data.save_as(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


EDITS: dict[str, Callable[[Path], Any]] = {
    "a slice is removed": lambda root: slices(root)[3].unlink(),
    "a slice is added": lambda root: shutil.copy(slices(root)[3], slices(root)[3].with_name("copy.dcm")),
    "a series has another description": lambda root: _describe(root, "ABDOMEN DELAYED 5 MIN"),
    "the SEG is gone": lambda root: segs(root)[0].unlink(),
    "the SEG lies elsewhere": _shift_seg,
    "the SEG is another patient's": lambda root: shutil.copy(segs(root, STACKED)[0], segs(root)[0]),
    "the SEG is damaged": lambda root: segs(root)[0].write_bytes(segs(root)[0].read_bytes()[:3000]),
    "a patient is gone": lambda root: shutil.rmtree(root / STACKED),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_changed_file_changes_the_answer(root, edit) -> None:
    before = answer(open_collection(root))
    EDITS[edit](root)
    after = answer(open_collection(root))
    assert not same(after, before)
    assert same(after, answer(open_collection(root, cache=False)))


def test_a_file_of_same_bytes_but_another_inode_is_looked_at_again(root, built) -> None:
    before = answer(open_collection(root))
    _move(segs(root)[0])
    built.clear()
    assert same(answer(open_collection(root)), before)
    assert "annotated" in built


@pytest.mark.parametrize("what", ["size", "mtime_ns", "ctime_ns", "inode", "path"])
def test_each_part_of_an_identity_is_in_the_key(root, what) -> None:
    collection = open_collection(root)
    path, *rest = collection.instances["path"].tolist()
    kind, one = module.Kind("split"), collection.kept
    key = one.key(kind, [path, *rest[:3]])
    assert len(key) == 64
    if what == "path":
        files, path = {**one.files, "x" + path: one.files[path]}, "x" + path
    else:
        files = {**one.files, path: one.files[path]._replace(**{what: getattr(one.files[path], what) + 1})}
    changed = module.Kept(root, files, store=one.store)
    assert changed.key(kind, [path, *rest[:3]]) not in ("", key)
    path = collection.instances["path"].iloc[0]
    assert one.key(kind, rest[:3]) not in ("", key)
    assert one.key(kind, [path, *rest[:4]]) not in ("", key)
    assert one.key(module.Kind("other"), [path, *rest[:3]]) not in ("", key)
    assert one.key(kind, [path, *rest[:3]], "option") not in ("", key)
    assert one.key(kind, ["not in the index"]) == ""


def test_another_catalogue_is_another_answer(root, built) -> None:
    answer(open_collection(root))
    shipped = load_catalog()
    other = shipped.model_copy(update={"known_issues": ()})
    built.clear()
    answer(open_collection(root, catalog=other))
    assert "annotated" in built
    built.clear()
    answer(open_collection(root, catalog=other))
    answer(open_collection(root, catalog=shipped))
    assert built == []


def test_other_code_is_another_answer(root, built, monkeypatch, tmp_path) -> None:
    answer(open_collection(root))
    built.clear()
    monkeypatch.setattr(module, "code_digest", lambda packages: "other code")
    answer(open_collection(root))
    assert "annotated" in built
    monkeypatch.setattr(module, "code_digest", lambda packages: "")
    built.clear()
    answer(open_collection(root))
    answer(open_collection(root))
    assert built.count("annotated") >= 2, "without source to look at nothing is kept"


def test_the_code_digest_reads_the_source(monkeypatch, tmp_path) -> None:
    names = ("collection", "open", "data")
    before = module.code_digest.__wrapped__(names)
    sources = module._sources

    def changed(name: str) -> list[Path]:
        copies = []
        for path in sources(name):
            copies.append(tmp_path / path.name)
            copies[-1].write_bytes(path.read_bytes() + (b"\n" if path.name == "split.py" else b""))
        return copies

    assert module.code_digest.__wrapped__(names) == before
    assert {"split.py", "kept.py"} <= {path.name for path in sources("collection")}
    assert "published_phases.csv" in {path.name for path in sources("data")}
    monkeypatch.setattr(module, "_sources", changed)
    assert module.code_digest.__wrapped__(names) != before
    monkeypatch.setattr(module, "_sources", sources)
    monkeypatch.setattr(module, "version", lambda name: "0.0")
    assert module.code_digest.__wrapped__(names) != before


def test_a_published_table_beside_the_files_is_another_answer(root) -> None:
    before = answer(open_collection(root))
    collection = open_collection(root)
    series = next(one for one in collection[PATIENT].baseline.series if one.modality == "CT")
    table = root / "published_phases.csv"
    for phase in ("delayed", "arterial"):
        table.write_text(f"series_uid,phases\n{series.series_uid},{phase}\n")
        after = answer(open_collection(root))
        assert not same(after, before)
        assert same(after, answer(open_collection(root, cache=False)))
        before = after


def test_another_sheet_is_another_row(root) -> None:
    before = answer(open_collection(root))["cases"]
    sheet = find_sheet(root)
    table = pd.read_excel(sheet)
    column = next(name for name in table if str(name).lower() == "age")
    table[column] = table[column] + 1
    table.to_excel(sheet, index=False)
    after = answer(open_collection(root))["cases"]
    assert not same(after, before)
    assert same(after, answer(open_collection(root, cache=False))["cases"])
    sheet.unlink()
    assert all(not one[-1] for one in answer(open_collection(root))["cases"])


def test_a_segmentation_replaced_while_the_collection_is_open_is_not_answered_for(root, built) -> None:
    collection = open_collection(root)
    first = find_annotated(collection[PATIENT].baseline)
    _shift_seg(root)
    built.clear()
    assert find_annotated(collection[PATIENT].baseline).reason != first.reason
    assert built == ["annotated", *["split"] * built.count("split")]
    built.clear()
    find_annotated(open_collection(root)[PATIENT].baseline)
    assert "annotated" in built, "what was read of the new file is not kept under the old one's name"


def test_a_file_that_cannot_be_read_for_a_moment_leaves_no_trace(root, monkeypatch) -> None:
    without = answer(open_collection(root, cache=False))

    def fail(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as moment:
        moment.setattr("hcc_tace_data.collection.annotated.open_seg", fail)
        broken = open_collection(root)
        label_phases(broken, depth="headers")
        _, left_out = find_cases(broken, list(broken), phases=("portal_venous",))
        assert len(left_out) == 2
    assert same(answer(open_collection(root)), without)


def test_a_replaced_file_whose_identity_is_the_old_one_is_caught_by_deep(root, monkeypatch) -> None:
    """Same size and, as if by magic, same times and inode: only the bytes tell, and only ``--deep`` reads them."""
    collection = open_collection(root)
    checks.adopt(collection)
    answer(collection)
    path = segs(root)[0]
    old = identity_of(path.stat())
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    names = {"hcc_tace_data.dicom.folder.identity_of", "hcc_tace_data.collection.kept.identity_of"}
    for name in names:
        monkeypatch.setattr(name, lambda status: old if status.st_ino == path.stat().st_ino else identity_of(status))
    again = open_collection(root)
    assert len(again.kept.get(module.Kind("annotated"), _keys(again))) == 1, "taken for the old one"
    report = checks.verify(again, patients=[PATIENT], deep=True)
    assert [problem.path for problem in report.problems if "MD5" in problem.message] == [str(path.relative_to(root))]
    assert again.kept.get(module.Kind("annotated"), _keys(again)) == {}, "nothing is kept of files that are not theirs"


def _keys(collection: Collection) -> list[str]:
    study = collection[PATIENT].baseline
    scans = [path for one in study.series if one.modality == "CT" for path in one.instances["path"]]
    return [collection.kept.key(module.Kind("annotated"), [study.segmentation.instances["path"].iloc[0], *scans])]


@pytest.mark.parametrize("value", [None, 3, {}, {"volume": {"no": 1}}, [[0, 0]], [["x"]], {"case": 1}])
def test_a_value_of_another_form_is_made_again(root, value) -> None:
    without = answer(open_collection(root, cache=False))
    collection = open_collection(root)
    put = collection.kept.store.put
    collection.kept.store.put = lambda kind, values, **more: put(kind, dict.fromkeys(values, value), **more)
    assert same(answer(collection), without)
    assert same(answer(open_collection(root)), without)


def test_a_collection_opened_without_cache_writes_nothing(root) -> None:
    answer(open_collection(root, cache=False))
    assert not (root / ".hcc-tace").exists()


def test_a_collection_of_some_patients_knows_what_the_whole_does(root, built) -> None:
    answer(open_collection(root))
    built.clear()
    answer(open_collection(root).subset([PATIENT]))
    assert built == []


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.sampled_from(sorted(set(EDITS) - {"a patient is gone"})), min_size=1, max_size=4))
def test_after_any_edits_the_answer_is_that_without(twin, tmp_path_factory, edits) -> None:
    folder = tmp_path_factory.mktemp("edited") / "root"
    for name in (PATIENT, STACKED):
        shutil.copytree(twin / name, folder / name)
    for edit in edits:
        try:
            EDITS[edit](folder)
        except (IndexError, ValueError, pydicom.errors.InvalidDicomError, AttributeError):
            continue  # what it would change is gone or broken
        assert same(answer(open_collection(folder)), answer(open_collection(folder, cache=False))), edit
    np.testing.assert_equal(len(open_collection(folder)), 2)
