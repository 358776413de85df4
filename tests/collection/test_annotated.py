"""Citations against geometry: what a SEG was drawn on, and when that cannot be determined."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from hcc_tace_data import open_collection
from hcc_tace_data.collection.annotated import AnnotatedVolume, find_annotated
from hcc_tace_data.collection.split import split_series
from hcc_tace_data.open import Study

Change = Callable[[Dataset, list[list[str]]], None]


@pytest.fixture
def changed(twin: Path, tmp_path: Path) -> Callable[..., tuple[AnnotatedVolume, Study]]:
    """Return a function that changes the SEG of a patient and finds what it was drawn on."""

    def run(patient: str, change: Change | None = None, table: Any = None) -> tuple[AnnotatedVolume, Study]:
        shutil.copytree(twin / patient, tmp_path / patient)
        study = open_collection(tmp_path, cache=False)[patient].baseline
        assert study is not None
        volumes = [
            rows["sop_uid"].tolist()
            for series in study.series
            if series.modality == "CT"
            for rows in split_series(series.instances)
        ]
        if change is not None:
            (path,) = tmp_path.glob(f"{patient}/*/SEG_*/*.dcm")
            data = pydicom.dcmread(path)
            change(data, volumes)
            data.save_as(path)
        if table is not None:
            study = Study(study.root, table(study.instances.copy()), catalog=study.catalog)
        return find_annotated(study), study

    return run


def _cite(data: Dataset, listed: list[str], framed: list[str]) -> None:
    """Let the list of images name `listed`, and each frame all of `framed`; nothing where they are empty."""
    if listed:
        items = []
        for uid in listed:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", uid
            items.append(item)
        data.ReferencedSeriesSequence[0].ReferencedInstanceSequence = items
    else:
        del data.ReferencedSeriesSequence
    for frame in data.PerFrameFunctionalGroupsSequence:
        if not framed and "DerivationImageSequence" in frame:
            del frame.DerivationImageSequence
        for derivation in frame.get("DerivationImageSequence", []):
            sample = derivation.SourceImageSequence[0]
            sources = []
            for uid in framed:
                source = Dataset()
                source.update(sample)
                source.ReferencedSOPInstanceUID = uid
                sources.append(source)
            derivation.SourceImageSequence = sources


def test_frames_count_before_the_list(changed: Any) -> None:
    """The list names all slices of the visit, two of its phases stacked in a series; the frames name those of one."""
    found, _ = changed("HCC_003", lambda data, v: _cite(data, [*v[0], *v[1], *v[2]], v[2]))
    assert found.volume is not None
    assert found.volume.volume == 1
    assert found.cited


def test_the_list_counts_where_frames_cite_nothing(changed: Any) -> None:
    found, _ = changed("HCC_003", lambda data, v: _cite(data, v[1], []))
    assert found.volume is not None
    assert found.volume.volume == 0


def test_several_acquisitions_cited_alike_cannot_be_told(changed: Any) -> None:
    found, _ = changed("HCC_003", lambda data, v: _cite(data, [*v[1], *v[2]], [*v[1], *v[2][1:]]))
    assert found.volume is None
    assert "alike" in found.reason
    assert not found.cited


def test_no_citation_and_several_grids_that_fit(changed: Any) -> None:
    found, _ = changed("HCC_003", lambda data, v: _cite(data, [], []))
    assert found.volume is None
    assert "cites no image" in found.reason


def test_no_citation_but_only_one_volume_has_a_slice_for_each_frame(changed: Any) -> None:
    """Two phases on one grid, one of them cut short: frames and slices of the other match one to one."""

    def shorter(rows: Any) -> Any:
        gone = []
        for uid, series in rows[rows["modality"] == "CT"].groupby("series_uid"):
            del uid
            for volume in split_series(series)[:1]:
                gone += volume.index[:2].tolist()
        return rows.drop(index=gone)

    found, _ = changed("HCC_003", lambda data, v: _cite(data, [], []), shorter)
    assert found.volume is not None
    assert found.volume.volume == 1
    assert "a frame for each slice" in found.reason
    assert not found.cited


def test_what_is_cited_fits_but_in_another_frame_of_reference(changed: Any) -> None:
    """One of the two frames of reference is wrong: another phase on the same grid is not taken instead."""

    before, study = changed("HCC_012")
    assert before.volume is not None
    rows = study.instances.copy()
    own = rows["series_uid"] == before.volume.series_uid
    rows.loc[own, "frame_of_reference_uid"] = "1.2.3"
    # another series of the study on the very same grid
    (other,) = {
        s.series_uid
        for s in study.series
        if s.modality == "CT" and s.series_uid != before.volume.series_uid and len(s.instances) == own.sum()
    }
    positions = rows.loc[own].sort_values("position_z")[["position_x", "position_y", "position_z"]].to_numpy()
    twins = rows[rows["series_uid"] == other].sort_values("position_z").index
    rows.loc[twins, ["position_x", "position_y", "position_z"]] = positions
    found = find_annotated(Study(study.root, rows, catalog=study.catalog))
    assert found.volume is None
    assert "another frame of reference" in found.reason


def test_what_is_cited_lies_elsewhere_and_one_grid_fits(twin: Path) -> None:
    study = open_collection(twin)["HCC_089"].baseline
    assert study is not None
    found = find_annotated(study)
    assert found.volume is not None
    assert not found.cited
    assert "another frame of reference" in found.reason


def test_no_frame_of_reference_in_common(changed: Any) -> None:
    found, _ = changed("HCC_012", lambda data, v: setattr(data, "FrameOfReferenceUID", "1.2.3.4"))
    assert found.volume is None
    assert "frame of reference" in found.reason
