"""The training store: whole, current, and equal to what was put in."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcc_tace_data.errors import StoreError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters, read_record
from hcc_tace_data.system.partial import drop_abandoned, partial_folder

MakeCase = Callable[..., tuple[Case, CaseArrays]]
PARAMETERS = StoreParameters(classes={1: ("liver",), 2: ("tumour",)})


def test_round_trip(make_case: MakeCase, tmp_path: Path) -> None:
    case, arrays = make_case(1)
    written = Store(tmp_path, PARAMETERS).write(case, arrays)
    assert read_record(written.folder) == written
    np.testing.assert_array_equal(written.image[0], arrays.image)
    np.testing.assert_array_equal(written.label, arrays.label)
    assert written.valid is None
    assert written.liver == ((1, 5), (3, 9), (4, 10))
    assert written.tumour == ((2, 3), (5, 7), (5, 8))
    assert written.clinical == case.clinical
    np.testing.assert_array_equal(written.affine, arrays.affine)
    assert not written.image.flags.writeable


@pytest.mark.parametrize(
    "other",
    [
        StoreParameters(classes={2: ("tumour",), 1: ("liver",)}),
        StoreParameters(classes={1: ("liver",)}),
        replace(PARAMETERS, spacing=(2.5, 1.0, 1.0)),
        replace(PARAMETERS, margin_mm=10.0),
        replace(PARAMETERS, deformable=True),
        replace(PARAMETERS, phases=("arterial", "portal_venous")),
        replace(PARAMETERS, annotations=("bamf",)),
    ],
)
def test_a_changed_parameter_finds_nothing_stale(make_case: MakeCase, tmp_path: Path, other: StoreParameters) -> None:
    case, arrays = make_case(1)
    Store(tmp_path, PARAMETERS).write(case, arrays)
    assert Store(tmp_path, PARAMETERS).find(case) is not None
    assert Store(tmp_path, other).find(case) is None


def test_a_changed_source_finds_nothing_stale(make_case: MakeCase, tmp_path: Path) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)
    store.write(case, arrays)
    assert store.find(replace(case, clinical={"age_years": 1.0})) is None
    stat = case.segmentation.stat()
    os.utime(case.segmentation, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert store.find(case) is None


def test_only_what_is_missing_is_read(make_case: MakeCase, tmp_path: Path) -> None:
    made = [make_case(number) for number in range(3)]
    arrays = {case.patient_id: array for case, array in made}
    store, read = Store(tmp_path / "store", PARAMETERS), []

    def reader(case: Case) -> CaseArrays:
        read.append(case.patient_id)
        return arrays[case.patient_id]

    store.fill([case for case, _ in made[:2]], reader)
    found = store.fill([case for case, _ in made], reader)
    assert read == ["HCC_000", "HCC_001", "HCC_002"]
    assert [item.patient_id for item in found] == ["HCC_000", "HCC_001", "HCC_002"]


def test_a_crash_while_writing_leaves_nothing(
    make_case: MakeCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OSError, match="No space"):
        store.write(case, arrays)
    assert list(store.folder.iterdir()) == []
    assert store.find(case) is None


def test_damage_is_named(stored: list[StoredCase]) -> None:
    image = stored[0].folder / "image.npy"
    image.write_bytes(image.read_bytes()[:-7])
    with pytest.raises(StoreError, match="cannot be read"):
        _ = stored[0].image
    np.save(stored[1].folder / "label.npy", np.zeros((1, 2, 3), np.uint8))
    with pytest.raises(StoreError, match="has shape"):
        _ = stored[1].label
    (stored[2].folder / "case.json").write_text("{}")
    with pytest.raises(StoreError, match="not a stored case"):
        read_record(stored[2].folder)


def test_wrong_types_are_refused(make_case: MakeCase, tmp_path: Path) -> None:
    case, arrays = make_case(1)
    with pytest.raises(StoreError, match="float32"):
        Store(tmp_path, PARAMETERS).write(case, replace(arrays, image=arrays.image.astype(np.float32)))
    with pytest.raises(StoreError, match="do not make"):
        Store(tmp_path, PARAMETERS).write(case, replace(arrays, label=arrays.label[1:]))


def test_validity_is_kept_where_it_says_something(make_case: MakeCase, tmp_path: Path) -> None:
    case, arrays = make_case(1)
    valid = np.ones((1, *arrays.label.shape), np.uint8)
    valid[0, :, :3] = 0
    written = Store(tmp_path, PARAMETERS).write(case, replace(arrays, valid=valid))
    assert written.valid is not None
    np.testing.assert_array_equal(written.valid, valid)


WRONG: dict[str, Any] = {
    "patient_id": 7, "shape": [1, 2, 3], "spacing": ["a", 1.0, 1.0], "affine": [[1, 2], [3, 4]], "liver": [[5, 1]] * 3,
    "phases": "portal_venous", "readers": "three", "clinical": [], "missing": {"a": 1}, "registrations": [],
    "masked": "no", "format": "3", "labelled": [[0, 10**9]] * 3,
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_record_of_wrong_types_is_damage_and_is_made_again(make_case: MakeCase, tmp_path: Path, name: str) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)
    place = store.write(case, arrays).folder
    record = json.loads((place / "case.json").read_text())
    (place / "case.json").write_text(json.dumps({**record, name: WRONG[name]}))
    with pytest.raises(StoreError):
        read_record(place)
    assert store.find(case) is None
    again = store.write(case, arrays)
    assert again == store.find(case)
    assert [path.name for path in store.folder.iterdir()] == [place.name]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "record not UTF-8": lambda place: (place / "case.json").write_bytes(b'{"format": 3, "x": "\xff"}'),
    "record nested deeply": lambda place: (place / "case.json").write_text("[" * 100_000),
    "record is a list": lambda place: (place / "case.json").write_text("[]"),
    "empty image": lambda place: (place / "image.npy").write_bytes(b""),
    "image of another type": lambda place: np.save(
        place / "image.npy", np.load(place / "image.npy").astype(np.float32)
    ),
    "unsigned image": lambda place: np.save(place / "image.npy", np.load(place / "image.npy").view(np.uint16)),
    "image in another byte order": lambda place: np.save(
        place / "image.npy", np.load(place / "image.npy").astype(">i2")
    ),
    "image in Fortran order": lambda place: np.save(
        place / "image.npy", np.asfortranarray(np.load(place / "image.npy"))
    ),
    "image cut short": lambda place: (place / "image.npy").write_bytes((place / "image.npy").read_bytes()[:-2]),
    "header that is not Python": lambda place: (place / "image.npy").write_bytes(b"\x93NUMPY\1\0\x10\0{'descr': ((((("),
    "label is text": lambda place: (place / "label.npy").write_text("hello"),
    "no label": lambda place: (place / "label.npy").unlink(),
    "image is a folder": lambda place: ((place / "image.npy").unlink(), (place / "image.npy").mkdir()),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_before_it_is_served_and_made_again(make_case: MakeCase, tmp_path: Path, kind: str) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)
    place = store.write(case, arrays).folder
    DAMAGE[kind](place)
    assert store.find(case) is None
    np.testing.assert_array_equal(store.write(case, arrays).image[0], arrays.image)
    assert [path.name for path in store.folder.iterdir()] == [place.name]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["case.json", "image.npy"])
def test_a_pipe_does_not_block(make_case: MakeCase, tmp_path: Path, name: str) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)
    place = store.write(case, arrays).folder
    (place / name).unlink()
    os.mkfifo(place / name)
    assert store.find(case) is None


def test_a_source_replaced_under_the_same_size_and_time_is_found(make_case: MakeCase, tmp_path: Path) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)
    store.write(case, arrays)
    before, data = case.segmentation.stat(), case.segmentation.read_bytes()
    case.segmentation.write_bytes(bytes(byte ^ 1 for byte in data))
    os.utime(case.segmentation, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert case.segmentation.stat().st_mtime_ns == before.st_mtime_ns
    assert store.find(case) is None
    store.write(case, arrays)
    assert store.find(case) is not None


def test_a_source_that_was_only_moved_is_not_prepared_again(
    make_case: MakeCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)
    store.write(case, arrays)
    copy = case.segmentation.with_name("copy")
    shutil.copy2(case.segmentation, copy)
    copy.replace(case.segmentation)  # another inode, the same bytes
    assert store.find(case) is not None
    monkeypatch.setattr("hcc_tace_data.loaders.store.source_digests", None)  # noted: not compared by bytes twice
    assert store.find(case) is not None


def test_too_many_open_files_are_not_damage(
    make_case: MakeCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, arrays = make_case(1)
    store = Store(tmp_path / "store", PARAMETERS)
    stored = store.write(case, arrays)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(np, "load", full)
    for look in (lambda: stored.image, lambda: store.find(case)):
        with pytest.raises(StoreError, match="ulimit") as found:
            look()
        assert "elete" not in str(found.value)
    assert stored.folder.is_dir()


def test_a_path_in_an_identifier_stays_in_the_store(make_case: MakeCase, tmp_path: Path) -> None:
    case, arrays = make_case(1)
    for name in ("../../out", str(tmp_path / "out"), "a\0b", "x" * 400):
        store = Store(tmp_path / "store" / "deep", PARAMETERS)
        hostile = replace(case, patient_id=name)
        written = store.write(hostile, arrays)
        assert written.folder.parent == store.folder
        assert written.patient_id == name
        assert store.find(hostile) == written
    assert not (tmp_path / "out").exists()


def test_what_a_killed_run_left_goes_and_what_another_writes_stays(tmp_path: Path) -> None:
    (tmp_path / ".0123456789ab.part").mkdir()
    (tmp_path / ".0123456789ab.part" / "image.npy").write_bytes(b"x")
    (tmp_path / ".0123456789ac.part.lock").touch()
    with partial_folder(tmp_path) as mine:
        (mine / "image.npy").write_bytes(b"x")
        assert [path.name for path in drop_abandoned(tmp_path)] == [".0123456789ab.part"]
        assert (mine / "image.npy").exists()
    assert list(tmp_path.iterdir()) == []
