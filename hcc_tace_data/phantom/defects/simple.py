"""Defects of single files: missing, cut, emptied, altered, or with a name in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from hcc_tace_data.errors import UsageError
from hcc_tace_data.phantom.defects.registry import register
from hcc_tace_data.phantom.defects.tools import read, write
from hcc_tace_data.system.files import atomic_write_bytes

__all__: list[str] = []


def _ct_series(root: Path) -> list[Path]:
    """Folders of CT series, first patient first, longest first: the annotated ones are long."""
    found = [folder for folder in sorted(root.glob("HCC_*/*/CT_*")) if folder.is_dir()]
    if not found:
        raise UsageError(f"No CT series under {root}: plant defects into a phantom only.")
    return found


def _pick(root: Path, rng: np.random.Generator) -> Path:
    series = _ct_series(root)
    folder = series[int(rng.integers(len(series)))]
    files = sorted(folder.glob("*.dcm"))
    return files[len(files) // 2]


@register("missing-file")
def _missing_file(root: Path, rng: np.random.Generator) -> str:
    path = _pick(root, rng)
    path.unlink()
    return f"removed {path.relative_to(root)}"


@register("truncated-file")
def _truncated_file(root: Path, rng: np.random.Generator) -> str:
    path = _pick(root, rng)
    data = path.read_bytes()
    atomic_write_bytes(path, data[: len(data) // 2])
    return f"cut {path.relative_to(root)} to half its length"


@register("empty-file")
def _empty_file(root: Path, rng: np.random.Generator) -> str:
    path = _pick(root, rng)
    atomic_write_bytes(path, b"")
    return f"emptied {path.relative_to(root)}"


@register("altered-pixel")
def _altered_pixel(root: Path, rng: np.random.Generator) -> str:
    path = _pick(root, rng)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    atomic_write_bytes(path, bytes(data))
    return f"changed one bit of the pixels of {path.relative_to(root)}"


@register("patient-name")
def _patient_name(root: Path, rng: np.random.Generator) -> str:
    path = _pick(root, rng)
    dataset = read(path)
    dataset.PatientName = "INVENTED^PERSON"
    dataset.PatientBirthDate = "19410203"
    write(path, dataset)
    return f"put an invented name and birth date into {path.relative_to(root)}"


@register("missing-seg")
def _missing_seg(root: Path, rng: np.random.Generator) -> str:
    found = sorted(root.glob("HCC_*/*/SEG_*"))
    folder = found[int(rng.integers(len(found)))]
    shutil.rmtree(folder)
    return f"removed {folder.relative_to(root)}"
