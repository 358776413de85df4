"""`make_phantom`: a digital twin of the collection as real DICOM files."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hcc_tace_data.errors import UsageError
from hcc_tace_data.phantom.defects import apply_defect, defect_codes, unknown_defect
from hcc_tace_data.phantom.patient import PatientResult, write_patient
from hcc_tace_data.phantom.plan import PatientPlan, load_table, plan_patient
from hcc_tace_data.phantom.sheet import SHEET_NAME, write_sheet
from hcc_tace_data.phantom.truth import TABLE_COLUMNS, write_csv, write_truth
from hcc_tace_data.system.documents import parse_json
from hcc_tace_data.system.parallel import open_runner

__all__ = ["make_phantom"]

#: Stands in the folder while it is being written.
_MARK = ".phantom-unfinished.json"
#: Patients times pixels below which one process is quicker than several.
_NO_POOL = 4 * 64

_log = logging.getLogger(__name__)


def make_phantom(
    out: str | os.PathLike[str],
    *,
    patients: int | Sequence[str] = 2,
    size: str = "tiny",
    seed: int = 0,
    defect: str | None = None,
    breathing: str = "affine",
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Path:
    """Write a digital twin of patients of the collection.

    The twin has the real PatientIDs, study dates, series numbers and descriptions, invented anatomy, and UIDs
    of its own. The same `seed`, `size` and patient give the same bytes, whatever else is made beside it.

    Parameters
    ----------
    out : path-like
        Folder to make; it must be empty or missing, or hold what a run with the same patients, size and seed left when
        it was stopped. Such a run is begun again.
    patients : int or sequence of str
        How many patients, from HCC_001 on, or which.
    size : {"tiny", "small", "full"}
        64, 128 or 512 pixels wide, with about a fifth, half or all of the real slices.
    seed : int
        Seed of everything random.
    defect : str, optional
        Code of a defect to plant when all is written (:func:`hcc_tace_data.phantom.defects.registry.defect_codes`).
    breathing : {"affine", "deformable"}
        How organs move between sweeps: as a whole, so that an affine registration can be exact, or as in people, where
        the dome of the liver moves most. ``truth/transforms.json`` has the affine part and points of the liver in
        the annotated volume (`annotated`) and in each other one (`here`), mm.
    workers : int, optional
        Processes; default one per core (a few tiny patients: one). One means this process.
    progress : callable, optional
        Called with 1 after every patient.

    Returns
    -------
    pathlib.Path
        `out`.

    Raises
    ------
    UsageError
        `out` holds something, `patients` or `size` makes no sense, or the defect is unknown.
    PatientNotFoundError
        A patient that the collection does not have.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     root = make_phantom(f"{folder}/twin", patients=["HCC_004"], workers=1)
    ...     sorted(path.name for path in root.iterdir())
    ['HCC_004', 'annotations', 'clinical', 'series.csv', 'truth']
    """
    root = Path(out).expanduser()
    if defect is not None and defect not in defect_codes():
        raise UsageError(unknown_defect(defect))
    table = load_table()
    names = _names(table, patients)
    plans = [plan_patient(table, name, size=size, seed=seed, breathing=breathing) for name in names]
    addresses = _addresses(plans)
    with _unfinished(root, {"patients": names, "size": size, "seed": seed, "breathing": breathing}):
        results = _run(plans, root, addresses, workers, progress)
        write_csv(root / "series.csv", TABLE_COLUMNS, [row for one in results for row in one.series_rows])
        write_sheet(root / "clinical" / SHEET_NAME, [one.clinical for one in results])
        write_truth(root, results, seed=seed, size=size)
        if defect is not None:
            _log.info("planted %s: %s", defect, apply_defect(root, defect, seed=seed))
    return root


@contextmanager
def _unfinished(root: Path, parameters: dict[str, Any]) -> Iterator[None]:
    """Mark a folder as being written, so that a run that is killed can be begun again; yield when it is empty.

    Raises
    ------
    UsageError
        The folder holds something else, or another process writes there.
    """
    mark = root / _MARK
    if root.is_dir() and not mark.exists() and next(root.iterdir(), None) is not None:
        raise UsageError(f"{root} is not empty. Name another folder, or empty this one first.")
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(mark, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)  # the system drops it when the process dies
    except Timeout:
        raise UsageError(f"Another process is writing to {root}. Wait for it to end, or name another folder.") from None
    try:
        _clear(root, mark, parameters)
        mark.write_text(json.dumps(parameters), encoding="utf-8")
        yield
        mark.unlink()
    finally:
        lock.release()


def _clear(root: Path, mark: Path, parameters: dict[str, Any]) -> None:
    """Remove what a run with the same parameters left; nothing else."""
    left = [path for path in root.iterdir() if path != mark]
    if not left:
        return
    try:
        same = parse_json(mark.read_bytes()) == parameters
    except ValueError:
        same = False
    parts = re.compile("|".join(rf"\.{re.escape(name)}\.[0-9a-f]+\.part" for name in parameters["patients"]))
    own = {*parameters["patients"], "annotations", "clinical", "truth", "series.csv"}
    foreign = [path.name for path in left if path.name not in own and not parts.fullmatch(path.name)]
    if not same or foreign:
        raise UsageError(
            f"{root} holds a phantom that was not finished, with other patients, size or seed, or other files. Name "
            "another folder, or empty this one first."
        )
    for path in left:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _names(table: Any, patients: int | Sequence[str]) -> list[str]:
    known = sorted(table["patient_id"].unique())
    if isinstance(patients, int):
        if not 1 <= patients <= len(known):
            raise UsageError(f"patients={patients}: choose 1 to {len(known)}, or name them (HCC_001 ...).")
        return known[:patients]
    if isinstance(patients, str):
        raise UsageError(f"patients={patients!r}: pass a list of PatientIDs, such as [{patients!r}].")
    names = list(dict.fromkeys(patients))
    if not names:
        raise UsageError("patients is empty: name at least one PatientID.")
    return names


def _addresses(plans: Sequence[PatientPlan]) -> dict[str, dict[str, Any]]:
    """Address in an object store of each series of the twin (nothing is stored there; the columns are the table's)."""
    return {
        uid: {"bucket": "hcc-tace-phantom", "prefix": uid}
        for plan in plans
        for uid in [*(one.series_uid for one in plan.series), plan.segmentation.series_uid]
    }


def _run(
    plans: Sequence[PatientPlan],
    root: Path,
    addresses: dict[str, dict[str, Any]],
    workers: int | None,
    progress: Callable[[int], None] | None,
) -> list[PatientResult]:
    """Write the patients, in this process or in several; results come in the order of `plans`."""
    # Starting a process costs more than a few tiny patients.
    small = plans[0].size.pixels * len(plans) <= _NO_POOL
    count = min(len(plans), workers if workers is not None else 1 if small else (os.cpu_count() or 1))
    mine = [
        {uid: addresses[uid] for uid in [*(s.series_uid for s in plan.series), plan.segmentation.series_uid]}
        for plan in plans
    ]
    done: dict[int, PatientResult] = {}
    with open_runner(count) as runner:
        for place, result in runner.finished(write_patient, [(plan, root, mine[k]) for k, plan in enumerate(plans)]):
            done[place] = result
            if progress is not None:
                progress(1)
    return [done[k] for k in range(len(plans))]
