"""Fixtures that every test may use."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from filelock import FileLock
from hypothesis import settings
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.phantom import make as phantom
from hcc_tace_data.phantom.patient import PatientResult, write_patient
from hcc_tace_data.phantom.plan import PatientPlan

# A run that was started in the background ignores Ctrl-C, and so would the programs that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The same examples in every run; HYPOTHESIS_PROFILE=default draws new ones.
settings.register_profile("steady", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))

#: Where real files to test with lie (they are not part of the project).
SHARED_DATA = Path(os.environ.get("HCC_TACE_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real files, set by ``$HCC_TACE_TEST_DATA`` (default ``../shared/data`` beside the checkout)."""
    if not SHARED_DATA.is_dir():
        if "HCC_TACE_TEST_DATA" in os.environ:
            pytest.fail(f"HCC_TACE_TEST_DATA names {SHARED_DATA}, which is not a folder")
        pytest.skip(f"real files are not part of the project, and none lie at {SHARED_DATA}; set HCC_TACE_TEST_DATA")
    return SHARED_DATA


#: Patients whose series or segmentations have a quirk.
QUIRKY = ["HCC_001", "HCC_003", "HCC_008", "HCC_011", "HCC_012", "HCC_017", "HCC_021", "HCC_041", "HCC_048"]
QUIRKY += ["HCC_065", "HCC_089", "HCC_099"]


@pytest.fixture(scope="session")
def make_twin(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return `make_phantom` for twins that a test only needs to have: a patient is drawn once for a run, then copied.

    The same seed, size and patient give the same bytes, whatever is made beside it: `tests/phantom/test_make.py`.
    """
    base = tmp_path_factory.getbasetemp()
    drawn = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "drawn"
    drawn.mkdir(exist_ok=True)

    def write(plan: PatientPlan, out: Path, rows: dict[str, dict[str, Any]]) -> PatientResult:
        place = drawn / hashlib.sha256(repr((plan, sorted(rows.items()))).encode()).hexdigest()[:16]
        with FileLock(f"{place}.lock"):
            if not (place / "result").is_file():
                result = write_patient(plan, place / "files", rows)
                (place / "result").write_bytes(pickle.dumps(result))
        shutil.copytree(place / "files", out, dirs_exist_ok=True)
        found: PatientResult = pickle.loads((place / "result").read_bytes())
        return found

    def make(out: Path, **options: Any) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(phantom, "write_patient", write)
            return phantom.make_phantom(out, **{**options, "workers": 1})

    return make


@pytest.fixture(scope="session")
def twin(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny twin of the patients with quirks."""
    return make_twin(tmp_path_factory.mktemp("twin") / "t", patients=QUIRKY)


@pytest.fixture(scope="session")
def small_twin(make_twin: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny twin with one patient of each fold and two of the test set."""
    patients = [*patients_of("test")[:2], *(patients_of("validation", fold)[0] for fold in range(5))]
    return make_twin(tmp_path_factory.mktemp("baseline") / "twin", patients=patients)


# a small CT of any orientation, with labels on it
ROWS, COLUMNS, DEPTH = 24, 30, 7


def turned_axes(seed: int, reverse: bool) -> np.ndarray:
    """Return the directions of a row's pixels, a column's pixels and the slices, as columns; axial for seed 0."""
    axes = np.eye(3)
    if seed:
        axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
        axes[:, 2] = np.cross(axes[:, 0], axes[:, 1])
    return axes * np.array([1, -1, -1]) if reverse else axes


@pytest.fixture
def write_ct() -> Callable[..., list[Path]]:
    """Return a function that writes a CT series and returns its files, feet first or last."""

    def write(
        folder: Path, seed: int = 0, reverse: bool = False, patient: str = "HCC_001", like: Path | None = None,
        shift: float = 0.0, depth: int = DEPTH,
    ) -> list[Path]:  # fmt: skip
        axes = turned_axes(seed, reverse)
        origin, spacing, step = np.array([-120.5, 33.25, -410.0]) + shift, (0.8, 0.7), 2.5
        study, series, frame = generate_uid(), generate_uid(), generate_uid()
        if like is not None:
            other = pydicom.dcmread(like, stop_before_pixels=True)
            study, frame = other.StudyInstanceUID, other.FrameOfReferenceUID
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        paths = []
        for d in range(depth):
            ds = pydicom.Dataset()
            ds.file_meta = pydicom.dataset.FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = generate_uid()
            ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, series, frame
            ds.PatientID, ds.PatientName, ds.Modality, ds.SeriesNumber = patient, patient, "CT", 1
            ds.StudyDate, ds.InstanceNumber = "20050101", depth - d
            ds.ImageType, ds.SliceThickness = ["ORIGINAL", "PRIMARY", "AXIAL"], step
            ds.ImageOrientationPatient = [float(v) for v in (*axes[:, 0], *axes[:, 1])]
            ds.ImagePositionPatient = [float(v) for v in origin + d * step * axes[:, 2]]
            ds.PixelSpacing, ds.Rows, ds.Columns = list(spacing), ROWS, COLUMNS
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
            ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
            ds.PixelData = rng.integers(0, 2000, (ROWS, COLUMNS)).astype("<i2").tobytes()
            paths.append(folder / f"{generate_uid()}.dcm")
            ds.save_as(paths[-1], enforce_file_format=True)
        return paths

    return write


@pytest.fixture
def draw_labels() -> Callable[[int], np.ndarray]:
    """Return a function that draws a label map with no symmetry that could hide a flip."""

    def draw(seed: int, shape: tuple[int, int, int] = (DEPTH, ROWS, COLUMNS)) -> np.ndarray:
        rng = np.random.default_rng(seed)
        labels = np.zeros(shape, np.uint8)
        labels[1:5, 2:15, 3:20] = 1
        labels[2:4, 5:9, 4:11] = 2
        labels[1:6, 16:19, 20:26] = 3
        labels[0, 20:22, 1:4] = 4
        labels[rng.random(shape) < 0.03] = 2
        return labels

    return draw
