"""Defects to plant into a finished twin: a registry from a code to a function that spoils the files under a root.

A defect is a function ``(root, rng) -> str``: it changes files below `root` and says what it did.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from hcc_tace_data.errors import UsageError
from hcc_tace_data.files import atomic_write_bytes

__all__ = ["Defect", "apply_defect", "defect_codes", "register"]

Defect = Callable[[Path, np.random.Generator], str]

_REGISTRY: dict[str, Defect] = {}


def register(code: str) -> Callable[[Defect], Defect]:
    """Register a defect under `code`; used as a decorator at the top of a module."""

    def keep(function: Defect) -> Defect:
        if code in _REGISTRY:
            raise UsageError(f"A defect '{code}' is registered already.")
        _REGISTRY[code] = function
        return function

    return keep


def defect_codes() -> tuple[str, ...]:
    """Return the codes of all defects."""
    return tuple(sorted(_REGISTRY))


def apply_defect(root: Path, code: str, *, seed: int = 0) -> str:
    """Plant the defect `code` into the twin at `root` and return what was done.

    Raises
    ------
    UsageError
        No such defect.
    """
    from hcc_tace_data.phantom.seeding import generator

    if code not in _REGISTRY:
        raise UsageError(f"There is no defect '{code}'. Known: {', '.join(defect_codes())}.")
    return _REGISTRY[code](root, generator("defect", seed, code))


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
    from hcc_tace_data.phantom.defect_tools import read, write

    path = _pick(root, rng)
    dataset = read(path)
    dataset.PatientName = "INVENTED^PERSON"
    dataset.PatientBirthDate = "19410203"
    write(path, dataset)
    return f"put an invented name and birth date into {path.relative_to(root)}"


@register("missing-seg")
def _missing_seg(root: Path, rng: np.random.Generator) -> str:
    import shutil

    found = sorted(root.glob("HCC_*/*/SEG_*"))
    folder = found[int(rng.integers(len(found)))]
    shutil.rmtree(folder)
    return f"removed {folder.relative_to(root)}"


# each registers its defects
import hcc_tace_data.phantom.defects_deid  # noqa: E402
import hcc_tace_data.phantom.defects_files  # noqa: E402
import hcc_tace_data.phantom.defects_links  # noqa: E402
import hcc_tace_data.phantom.defects_tables  # noqa: E402, F401
