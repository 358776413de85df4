"""Facts that rules share are kept; what changes is looked at again, and the report is that of a first run."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hcc_tace_data.open import open_collection
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.context import Context, chunks_of
from hcc_tace_data.validators.facts import extra_headers, header_scan, masks, pixel_digest, segs
from hcc_tace_data.validators.facts.annotated import annotated_volumes
from hcc_tace_data.validators.facts.phases import phase_table
from hcc_tace_data.validators.facts.slices import ct_volumes

READERS = {
    "extra headers": (extra_headers, "read_extra"),
    "header scan": (header_scan, "scan_files"),
    "pixel digests": (pixel_digest, "digest_files"),
    "seg facts": (segs, "read_seg_facts"),
    "mask facts": (masks, "measure"),
}


@pytest.fixture
def root(twin: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    for name in ("HCC_003", "HCC_017"):
        shutil.copytree(twin / name, folder / name)
    return folder


def report(root: Path, *, kept: bool = True, depth: str = "headers") -> dict[str, Any]:
    if not kept:
        shutil.rmtree(root / ".hcc-tace")
    return validate(root, workers=1, depth=depth).as_dict()


def _one_slice(root: Path) -> Path:
    return next(path for path in sorted((root / "HCC_003").rglob("*.dcm")) if not path.parent.name.startswith("SEG"))


def _seg(root: Path) -> Path:
    return next(path for path in sorted((root / "HCC_003").rglob("*.dcm")) if path.parent.name.startswith("SEG"))


def _set(path: Path, **values: Any) -> None:
    """Change a header under the same time."""
    status = path.stat()
    data = pydicom.dcmread(path)
    for name, value in values.items():
        setattr(data, name, value)
    data.save_as(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _repeat(root: Path) -> None:
    """Give a slice the pixels of the next one, under the same size."""
    first = _one_slice(root)
    other = sorted(first.parent.glob("*.dcm"))[1]
    _set(first, PixelData=pydicom.dcmread(other).PixelData)


EDITS = {
    "a header": lambda root: _set(_one_slice(root), PatientName="Doe^Jane", ProtocolName="for Dr. Smith"),
    "pixels": _repeat,
    "a copy of a slice": lambda root: shutil.copy(_one_slice(root), _one_slice(root).with_name("copy.dcm")),
    "a slice is gone": lambda root: _one_slice(root).unlink(),
    "the SEG's links": lambda root: _set(_seg(root), ReferencedSeriesSequence=[]),
    "the SEG is another's": lambda root: shutil.copy(
        next(path for path in (root / "HCC_017").rglob("*.dcm") if path.parent.name.startswith("SEG")), _seg(root)
    ),
    "the SEG is cut short": lambda root: _seg(root).write_bytes(_seg(root).read_bytes()[:4000]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_report_after_an_edit_is_that_of_a_first_run(root, edit) -> None:
    depth = "pixels" if edit == "pixels" else "headers"
    before = report(root, depth=depth)
    EDITS[edit](root)
    after = report(root, depth=depth)
    assert after == report(root, kept=False, depth=depth)
    assert after != before


def test_nothing_is_read_twice(root, monkeypatch) -> None:
    first = report(root, depth="pixels")
    for module, name in READERS.values():
        monkeypatch.setattr(module, name, None)
    monkeypatch.setattr("hcc_tace_data.validators.facts.phases.label_visit", None)
    monkeypatch.setattr("hcc_tace_data.collection.annotated.open_seg", None)
    monkeypatch.setattr("hcc_tace_data.validators.facts.slices.split_series", None)
    assert report(root, depth="pixels") == first


def test_one_changed_file_costs_its_own_chunk(root, monkeypatch) -> None:
    report(root)
    _set(_one_slice(root), PatientName="Doe^Jane")
    read: list[str] = []
    whole = extra_headers.read_extra
    monkeypatch.setattr(extra_headers, "read_extra", lambda job: read.extend(job[1]) or whole(job))
    report(root)
    everything = len(open_collection(root).instances)
    assert str(_one_slice(root).relative_to(root)) in read
    assert len(read) < everything


@pytest.mark.parametrize("value", [None, 5, {"error": ""}, [[1]], [[["a", "b", "c", 1, 2]], [["x"]]]])
def test_a_fact_of_another_form_is_made_again(root, value) -> None:
    def facts() -> Any:
        context = Context(open_collection(root), depth="pixels")
        return [
            header_scan.header_scan(context).elements.keys(), extra_headers.extra_headers(context).to_dict(),
            repr(segs.seg_facts(context)), repr(annotated_volumes(context)), repr(masks.mask_facts(context)),
            phase_table(context).to_dict("records"), [part["path"].tolist() for part in ct_volumes(context)],
        ]  # fmt: skip

    first = facts()
    shutil.rmtree(root / ".hcc-tace")
    collection = open_collection(root)
    context = Context(collection, depth="pixels")
    put = collection.kept.store.put
    collection.kept.store.put = lambda kind, values, **more: put(kind, dict.fromkeys(values, value), **more)
    for fact in (header_scan.header_scan, extra_headers.extra_headers, segs.seg_facts, masks.mask_facts, phase_table):
        fact(context)
    ct_volumes(context)
    assert repr(facts()) == repr(first)


def test_headers_are_not_kept_in_a_shared_folder(root, monkeypatch, tmp_path) -> None:
    """They may name people: outside the collection's own folder nobody expects them."""
    monkeypatch.setenv("HCC_TACE_CACHE", str(tmp_path / "cache"))
    (root / ".hcc-tace").write_text("in the way: no folder can be made")
    context = Context(open_collection(root))
    phase_table(context)
    assert list((tmp_path / "cache").glob("derived-*.sqlite"))
    before = sorted((tmp_path / "cache").glob("derived-*.sqlite"))[0].read_bytes()
    header_scan.header_scan(context)
    extra_headers.extra_headers(context)
    assert sorted((tmp_path / "cache").glob("derived-*.sqlite"))[0].read_bytes() == before


def test_chunks_end_with_large_folders() -> None:
    paths = sorted(
        [*(f"a/{n:03}" for n in range(70)), *(f"b/{n:03}" for n in range(40)), *(f"c{n}/x" for n in range(50))]
    )
    chunks = chunks_of(paths, 60)
    assert [paths[first:last] for first, last in chunks] == [paths[0:60], paths[60:110], paths[110:142], paths[142:160]]
    assert sum(last - first for first, last in chunks) == len(paths)
    more = sorted([*paths, "a/zzz"])
    own = {tuple(more[first:last]) for first, last in chunks_of(more, 60)}
    assert {tuple(paths[first:last]) for first, last in chunks} & own
    assert chunks_of([], 5) == []
