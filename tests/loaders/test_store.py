"""The training store: whole, current, and equal to what was put in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hcc_tace_data.errors import StoreError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters, read_record

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
