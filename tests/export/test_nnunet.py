"""nnU-Net's own integrity check of what we export; `make nnunet` installs nnU-Net beside the project and runs this."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import nibabel
import numpy as np
import pytest

from hcc_tace_data import open_collection
from hcc_tace_data.export.run import export_cases

#: The interpreter of an environment that has nnU-Net (and this one's libraries).
NNUNET = Path(os.environ.get("HCC_TACE_NNUNET", Path(__file__).resolve().parents[2] / "build/nnunet/bin/python"))
_CHECK = """
import sys
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
if __name__ == "__main__":
    verify_dataset_integrity(sys.argv[1], num_processes=1)
"""


def _verify(folder: Path) -> subprocess.CompletedProcess[str]:
    home = {f"nnUNet_{name}": str(folder.parent / name) for name in ("raw", "preprocessed", "results")}
    command = [str(NNUNET), "-c", _CHECK, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **home})


@pytest.mark.parametrize("phases", ["annotated", ("portal_venous", "arterial")], ids=["one channel", "two channels"])
def test_nnunets_own_verification(twin: Path, tmp_path: Path, phases: str | tuple[str, ...]) -> None:
    if not NNUNET.is_file():
        pytest.skip(f"nnU-Net lives in an environment of its own, and none is at {NNUNET}: 'make nnunet' makes it")
    folder = tmp_path / "raw" / "Dataset555_HCC"
    list(export_cases(open_collection(twin), folder, "nnunet", workers=1, phases=phases))
    channels = 1 if phases == "annotated" else 2
    described = json.loads((folder / "dataset.json").read_text())
    assert len(described["channel_names"]) == channels
    assert len(list((folder / "imagesTr").iterdir())) == channels * described["numTraining"]
    done = _verify(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verify_dataset_integrity Done" in done.stdout
    assert "Error" not in done.stdout + done.stderr
    # the check does find what is wrong
    label = next((folder / "labelsTr").iterdir())
    image = nibabel.load(label)
    nibabel.save(nibabel.Nifti1Image(np.full(image.shape, 7, np.uint8), image.affine), label)
    assert _verify(folder).returncode != 0
    assert json.loads((folder / "dataset.json").read_text())["file_ending"] == ".nii.gz"
