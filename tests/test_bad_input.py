"""What a user may point the package at by mistake: a typed error or a reported skip, never a wrong array."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import generate_uid

from hcc_tace_data import load_hcc_tace, open_collection
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.dicom.ct import read_ct
from hcc_tace_data.dicom.seg import read_seg
from hcc_tace_data.errors import CollectionNotFoundError, DicomReadError, FrameOfReferenceError, NotAVolumeError


@pytest.fixture
def one(make_twin: Callable[..., Path], tmp_path: Path) -> Path:
    """A tiny twin of two patients, for a test to spoil."""
    return make_twin(tmp_path / "twin", patients=["HCC_002", "HCC_008"])


def test_damaged_files_are_named_and_the_rest_is_served(one: Path) -> None:
    study = open_collection(one)["HCC_002"].baseline
    victims = [path for series in study.series if series.modality == "CT" for path in series.paths][:3]
    victims[0].write_bytes(b"")
    victims[1].write_bytes(victims[1].read_bytes()[:900])
    victims[2].write_text("<html>502 Bad Gateway</html>")
    again = open_collection(one)
    reasons = dict(zip(again.problems["path"], again.problems["reason"], strict=True))
    assert len(reasons) == 3
    told = [reasons[str(path.relative_to(one))] for path in victims]
    assert "empty" in told[0]
    assert "cut short" in told[1]
    assert "not a DICOM file" in told[2]
    with pytest.raises(DicomReadError):
        read_ct(victims)


def test_an_unreadable_folder_is_reported(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = next(path for path in one.glob("HCC_002/*/CT_*"))
    scandir = os.scandir

    def refuse(path: Any) -> Any:  # permissions do not stop the superuser, whom tests may run as
        if Path(path) == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    collection = open_collection(one)
    assert list(collection.problems["path"]) == [str(locked.relative_to(one))]
    assert "Permission denied" in collection.problems["reason"].iloc[0]
    with pytest.raises(DicomReadError, match="Permission denied"):
        read_ct(locked.parent)


def test_two_patients_in_one_folder(one: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    collection = open_collection(one)
    for patient in collection.values():
        for path in patient.baseline.series[0].paths:
            shutil.copy(path, flat / f"{patient.patient_id}_{path.name}")
    assert sorted(open_collection(flat)) == ["HCC_002", "HCC_008"]
    with pytest.raises(NotAVolumeError, match="2 series"):
        read_ct(flat)


def test_a_seg_without_its_ct_is_left_out_with_a_reason(one: Path, caplog: pytest.LogCaptureFixture) -> None:
    annotated = find_annotated(open_collection(one)["HCC_002"].baseline)
    for series in one.glob("HCC_002/*/CT_*"):
        shutil.rmtree(series)
    assert annotated.volume is not None
    with caplog.at_level(logging.WARNING):
        volumes = load_hcc_tace(one)
    assert volumes.patient_ids == ("HCC_008",)
    assert "HCC_002: cannot tell which CT was annotated" in caplog.text
    with pytest.raises(CollectionNotFoundError, match="HCC_002"):
        load_hcc_tace(one, missing="raise")


def test_ct_of_another_frame_of_reference(one: Path) -> None:
    study = open_collection(one)["HCC_002"].baseline
    annotated = find_annotated(study)
    frame = generate_uid()
    for path in annotated.paths:
        data = pydicom.dcmread(path)
        data.FrameOfReferenceUID = frame
        data.save_as(path)
    with pytest.raises(FrameOfReferenceError):
        read_seg(study.segmentation.paths[0], like=read_ct(list(annotated.paths)))
    found = find_annotated(open_collection(one)["HCC_002"].baseline)
    if found.volume is not None:  # another phase whose grid fits as well
        before = (annotated.volume.series_uid, annotated.volume.volume)
        assert (found.volume.series_uid, found.volume.volume) != before


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear colleague")
    assert len(open_collection(tmp_path)) == 0
    with pytest.raises(CollectionNotFoundError, match="hcc-tace phantom"):
        load_hcc_tace(tmp_path)
    with pytest.raises(NotAVolumeError, match="No CT slices"):
        read_ct(tmp_path)
