"""Crops round lesions, pictures for teaching, and the flow of patients beside every export."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import UsageError
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.export.png import chosen_slices, upright
from hcc_tace_data.export.roi import crop_arrays
from hcc_tace_data.export.run import export_cases
from hcc_tace_data.loaders.cases import CaseArrays, find_cases
from hcc_tace_data.loaders.sample import read_case
from hcc_tace_data.open import open_collection

PATIENT = "HCC_003"
CLASSES = {1: ("liver",), 2: ("tumour", "necrosis"), 3: ("portal_vein",), 4: ("aorta",)}


@pytest.fixture(scope="module")
def whole(twin: Path) -> CaseArrays:
    (case,), _ = find_cases(open_collection(twin), [PATIENT])
    return read_case(case, CLASSES)


def test_a_crop_holds_all_lesions_where_they_were(twin: Path, tmp_path: Path, whole: CaseArrays) -> None:
    command = ["export", "nnunet", str(tmp_path / "out"), str(twin), "--patients", PATIENT, "--roi", "lesions"]
    assert main([*command, "--margin", "15", "-q"]) == 0
    (path,) = (tmp_path / "out").glob("labels*/*.nii.gz")
    label: Any = nibabel.load(path)
    image: Any = nibabel.load(next((tmp_path / "out").glob("images*/*.nii.gz")))
    found = np.asarray(label.dataobj).transpose()
    assert (found == 2).sum() == (whole.label == 2).sum()
    assert found.size < whole.label.size / 2
    # the same voxel is in the same place with the same HU
    w, h, d = (int(n[0]) for n in np.nonzero(np.asarray(label.dataobj) == 2))
    point = np.diag([-1.0, -1, 1, 1]) @ label.affine @ [w, h, d, 1]
    there = np.rint(np.linalg.inv(whole.affine) @ point)[:3].astype(int)
    assert np.allclose(whole.affine @ [*there, 1], point, atol=1e-3)
    assert whole.label[tuple(there)] == 2
    assert np.asarray(image.dataobj)[w, h, d] == whole.image[tuple(there)]
    # 15 mm on each side, or the end of the volume
    rows = np.flatnonzero((found == 2).any(axis=(0, 2)))
    assert rows[0] in (int(np.ceil(15 / whole.spacing[1] - 1e-9)), there[1] - h + rows[0])
    # another margin is another export
    assert main([*command, "--margin", "10", "-q"]) == 2


def test_a_crop_of_nothing_is_nothing(whole: CaseArrays) -> None:
    assert crop_arrays(replace(whole, tumour=None), "lesions", 5) is None
    liver = crop_arrays(whole, "liver", 0)
    assert liver is not None
    assert liver.liver == tuple((0, size) for size in liver.label.shape)


def test_pictures_are_upright_and_say_what_they_show(twin: Path, tmp_path: Path, whole: CaseArrays) -> None:
    done = export_cases(open_collection(twin), tmp_path, "png", patients=[PATIENT], workers=1)
    assert len(done.files) == 10
    assert (tmp_path / "KEY.txt").read_text().count("#") == 4
    places = chosen_slices(whole.label)
    assert sorted(places) == places
    assert (whole.label[places[2]] == 2).any() or not (whole.label == 2).any()
    hu = upright(whole.image, whole.affine)
    for number, place in enumerate(places, start=1):
        with Image.open(tmp_path / PATIENT / f"{PATIENT}_annotated_{number}.png") as picture:
            assert f"slice {place} of" in picture.info["Description"]
            grey = np.asarray(picture)
        assert grey.shape[1] == hu.shape[2]
        assert (grey[..., 0] == grey[..., 2]).all()
        if grey.shape[0] == hu.shape[1]:
            assert (grey[hu[place] <= -150] == 0).all()
            assert (grey[hu[place] >= 250] == 255).all()
        with Image.open(tmp_path / PATIENT / f"{PATIENT}_annotated_{number}_outlined.png") as picture:
            outlined = np.asarray(picture)
        assert (outlined != grey).any() == whole.label[place].any()


def test_turned_axes_are_turned_back() -> None:
    array = np.arange(8).reshape(2, 2, 2)
    plain = np.eye(4)
    plain[:3, :3] = [[0, 0, 1], [0, 1, 0], [1, 0, 0]]  # d along z, h along y, w along x
    assert (upright(array, plain) == array).all()
    turned = np.eye(4)
    turned[:3, :3] = [[0, 0, -1], [0, -1, 0], [1, 0, 0]]  # d along z, h against y, w against x
    assert (upright(array, turned) == array[:, ::-1, ::-1]).all()


def test_every_export_has_its_flow(twin: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collection = open_collection(twin)
    cases = export_cases(
        collection, tmp_path / "a", "radiomics", patients=[PATIENT, "HCC_008"], phases="all", workers=1
    )
    assert cases.flow is not None
    left = {step.code: step.patients for step in cases.flow.steps}
    assert left["no_phase"] == ("HCC_008",)
    assert cases.flow.steps[-1].remaining == sum(not one.skipped for one in cases)
    rows = list(csv.DictReader((tmp_path / "a" / "cohort_flow.csv").read_text().splitlines()))
    assert rows[0]["remaining"] == "105"
    assert (tmp_path / "a" / "cohort_flow.svg").read_text().startswith("<svg")
    studies = export_nifti(collection, tmp_path / "b", patients=[PATIENT], workers=1)
    assert studies.flow is not None
    assert studies.flow.steps[-1].remaining == 1
    command = ["export", "seg", str(tmp_path / "c"), str(twin), "--patients", PATIENT, "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["flow"][-1]["remaining"] == 1
    with pytest.raises(UsageError, match="not cropped"):
        export_cases(collection, tmp_path / "d", "seg", roi="lesions")
    with pytest.raises(UsageError, match="'lesions' or 'liver'"):
        export_cases(collection, tmp_path / "d", "nnunet", roi="tumour")  # type: ignore[arg-type]
