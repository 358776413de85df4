"""Several phases in one export: read back by the libraries that the formats are for."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from hcc_tace_data.clinical import load_clinical
from hcc_tace_data.errors import UsageError
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.export.run import export_cases
from hcc_tace_data.loaders.load import load_hcc_tace
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU
from hcc_tace_data.open import open_collection

PATIENT = "HCC_008"
PHASES = ("arterial", "portal_venous")


@pytest.fixture(scope="module")
def expected(twin: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """The patient as training code gets it."""
    dataset = load_hcc_tace(twin, phases=PHASES, cache=tmp_path_factory.mktemp("store"))
    sample = next(one for one in dataset if one["patient_id"] == PATIENT)
    return {name: np.asarray(sample[name]) for name in ("image", "label")}


def _array(path: Path) -> np.ndarray:
    image: Any = nibabel.load(path)
    return np.asarray(image.dataobj).transpose()


def _export(twin: Path, out: Path, format: str, **options: Any) -> Any:
    return export_cases(open_collection(twin), out, format, patients=[PATIENT], phases=PHASES, workers=1, **options)


def test_nnunet_has_a_channel_per_phase(twin: Path, tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    done = _export(twin, tmp_path / "out", "nnunet")
    *images, label = done.files
    assert [path.name[-12:] for path in images] == ["_0000.nii.gz", "_0001.nii.gz"]
    np.testing.assert_array_equal(np.stack([_array(path) for path in images]), expected["image"])
    np.testing.assert_array_equal(_array(label), expected["label"])
    document = json.loads((tmp_path / "out" / "dataset.json").read_text(encoding="utf-8"))
    assert document["channel_names"] == {"0": "CT", "1": "CT"}
    assert document["phases"] == {"0": "arterial", "1": "portal_venous"}
    with pytest.raises(UsageError, match="another phases"):
        export_cases(open_collection(twin), tmp_path / "out", "nnunet", patients=[PATIENT], workers=1)


def test_monai_stacks_the_phases(twin: Path, tmp_path: Path, expected: dict[str, np.ndarray]) -> None:
    data = pytest.importorskip("monai.data")
    transforms = pytest.importorskip("monai.transforms")
    _export(twin, tmp_path, "monai")
    document = json.loads((tmp_path / "dataset.json").read_text(encoding="utf-8"))
    part = "training" if document["training"] else "test"
    (item,) = data.load_decathlon_datalist(str(tmp_path / "dataset.json"), True, part)
    paths = {key: [str(tmp_path / name) for name in item[key]] for key in ("image", "valid")}
    loaded = transforms.LoadImaged(keys=["image", "valid"])(paths)
    np.testing.assert_array_equal(np.asarray(loaded["image"]).transpose(0, 3, 2, 1), expected["image"])
    valid = np.asarray(loaded["valid"]).transpose(0, 3, 2, 1)
    assert set(np.unique(valid)) <= {0, 1}
    assert (expected["image"][valid == 0] == OUTSIDE_HU).all()


def test_datasets_reads_an_image_and_a_mask_per_phase(
    twin: Path, tmp_path: Path, expected: dict[str, np.ndarray]
) -> None:
    datasets = pytest.importorskip("datasets")
    _export(twin, tmp_path / "out", "hf")
    (split,) = {path.name.split("-")[0] for path in (tmp_path / "out" / "data").iterdir()}
    row = datasets.load_dataset(str(tmp_path / "out"), split=split, cache_dir=str(tmp_path / "cache"))[0]
    for channel, phase in enumerate(PHASES):
        np.testing.assert_array_equal(np.asarray(row[f"image_{phase}"].dataobj).transpose(), expected["image"][channel])
        assert row[f"valid_{phase}"].shape == row["label"].shape
    assert "`image_arterial`, `valid_arterial`" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_radiomics_has_a_row_per_phase_and_structure(
    twin: Path, tmp_path: Path, expected: dict[str, np.ndarray]
) -> None:
    _export(twin, tmp_path, "radiomics")
    rows = list(csv.DictReader((tmp_path / "cases.csv").read_text(encoding="utf-8").splitlines()))
    numbers = [int(n) for n in np.unique(expected["label"]) if n]
    assert [(row["phase"], int(row["label"])) for row in rows] == [(p, n) for p in PHASES for n in numbers]
    for row in rows:
        image, mask = _array(tmp_path / row["image"]), _array(tmp_path / row["mask"])
        assert image.shape == mask.shape
        assert np.count_nonzero(mask == int(row["label"])) == int(row["voxels"])
        np.testing.assert_array_equal(image, expected["image"][PHASES.index(row["phase"])])
    batch = list(csv.DictReader((tmp_path / "pyradiomics.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["Image"], row["Mask"], row["Label"]) for row in batch] == [
        (row["image"], row["mask"], row["label"]) for row in rows
    ]


def test_patients_without_a_phase_are_left_out_with_the_reason(twin: Path, tmp_path: Path) -> None:
    collection = open_collection(twin)
    done = export_cases(collection, tmp_path, "nnunet", patients=["HCC_008"], phases="all", workers=1)
    assert not done.files
    assert "pre_contrast" in done.skipped[0].reason
    with pytest.raises(UsageError, match="labels alone"):
        export_cases(collection, tmp_path / "seg", "seg", phases=PHASES)
    with pytest.raises(UsageError, match="venous"):
        export_cases(collection, tmp_path / "nnunet", "nnunet", phases="venous")


def _table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle, delimiter="\t"))


def test_nifti_names_the_phase_of_every_volume(twin: Path, tmp_path: Path) -> None:
    collection = open_collection(twin)
    patients = [PATIENT, "HCC_021"]  # the second has two studies on one day
    done = export_nifti(collection, tmp_path, patients=patients, all_volumes=True, workers=1)
    volumes = collection.phase_volumes
    volumes = volumes[volumes["patient_id"].isin(patients)]
    true = {(row.series_uid, row.volume): row.phase for row in volumes.itertuples()}
    images = [path for path in done.files if path.name.endswith("_ct.nii.gz")]
    seen = {}
    for path in images:
        sidecar = json.loads(path.with_name(path.name.replace(".nii.gz", ".json")).read_text(encoding="utf-8"))
        seen[sidecar["SeriesInstanceUID"], sidecar["Volume"]] = sidecar["Phase"]
        assert f"_ce-{sidecar['Phase'].replace('_', '')}_run-" in path.name
        assert 0.5 < sidecar["PhaseConfidence"] <= 1
    assert seen == true

    tables = list(tmp_path.glob("*/*/*_scans.tsv"))
    listed = [(table.parent / row["filename"], row) for table in tables for row in _table(table)]
    assert {path for path, row in listed if row["kind"] == "image"} == set(images)
    assert all(path.is_file() for path, _ in listed)
    assert {
        (row["series_uid"], int(row["volume"])): row["phase"] for _, row in listed if row["kind"] == "image"
    } == true
    assert set(listed[0][1]) == set(json.loads((tmp_path / "scans.json").read_text(encoding="utf-8")))


def test_nifti_lists_its_participants(twin: Path, tmp_path: Path) -> None:
    collection = open_collection(twin)
    patients = [PATIENT, "HCC_003"]
    export_nifti(collection, tmp_path, patients=patients, workers=1)
    rows = _table(tmp_path / "participants.tsv")
    sidecar = json.loads((tmp_path / "participants.json").read_text(encoding="utf-8"))
    assert set(rows[0]) == set(sidecar)
    assert [row["participant_id"] for row in rows] == ["sub-HCC003", "sub-HCC008"]
    assert all((tmp_path / row["participant_id"]).is_dir() for row in rows)
    clinical = load_clinical(twin).set_index("patient_id")
    for row in rows:
        assert int(row["age_years"]) == clinical.loc[row["patient_id"], "age_years"]
        assert row["split"] in {"train", "test"}
        assert (row["fold"] == "n/a") == (row["split"] == "test")
    assert sidecar["age_years"]["Units"] == "years"
    roles = {name: sidecar[name]["Role"] for name in ("age_years", "chemotherapy", "interval_fu_weeks", "died")}
    assert list(roles.values()) == ["baseline", "treatment", "post", "outcome"]
    # a patient more, later
    export_nifti(collection, tmp_path, patients=[*patients, "HCC_017"], workers=1)
    assert len(_table(tmp_path / "participants.tsv")) == 3
