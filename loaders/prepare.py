"""From a case to what training reads: all channels and the labels on one grid."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.ct import CTVolume, read_ct
from hcc_tace_data.dicom.headers import HeaderReader
from hcc_tace_data.errors import HccTaceError, OutputError
from hcc_tace_data.loaders.cases import Case, CaseArrays
from hcc_tace_data.loaders.sample import read_labels, read_masks, whole_liver
from hcc_tace_data.loaders.store import Store, StoredCase, StoreParameters, source_identities
from hcc_tace_data.loaders.supply.boxes import OUTSIDE_HU, Box
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.parallel import open_runner
from hcc_tace_data.system.partial import drop_abandoned
from hcc_tace_data.system.words import size
from hcc_tace_data.volumes.registration import register, resample

if TYPE_CHECKING:
    import highdicom as hd

__all__ = ["build_arrays", "estimate_bytes", "prepare_cases", "writing"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Grid:
    """The grid of the result: `factor` voxels of the CT, cut to `box`, are one voxel of it."""

    box: tuple[tuple[int, int], ...]
    factor: tuple[float, float, float]
    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def cut(self) -> tuple[slice, ...]:
        """The box as slices."""
        return tuple(slice(first, last) for first, last in self.box)


def build_arrays(case: Case, parameters: StoreParameters) -> CaseArrays:
    """Read, register and resample one case.

    The annotated CT is interpolated only where another spacing is asked for, every other phase exactly once, from
    its own grid to the final one, linearly. Labels take their nearest voxel.

    Parameters
    ----------
    case : Case
        With the files of each channel.
    parameters : StoreParameters
        Label set, spacing (mm along (D, H, W)), margin around the liver (mm), and whether to register deformably.

    Returns
    -------
    CaseArrays
        ``image`` (C, D, H, W). A channel without files, or whose registration failed or is implausible, is
        :data:`OUTSIDE_HU` throughout, marked in ``valid`` and named in ``missing``.

    Raises
    ------
    HccTaceError
        The annotated CT or its labels cannot be read.
    """
    fixed = read_ct(list(case.paths), on_gap="fill")
    masks = read_masks(case, fixed)
    label, liver, tumour = read_labels(case, parameters.classes, fixed, masks)
    organ = None if case.native else whole_liver(masks)
    del masks
    grid = _grid(fixed, liver, parameters)
    image = np.full((len(case.channels), *grid.shape), OUTSIDE_HU, dtype=np.int16)
    valid = np.zeros(image.shape, dtype=np.uint8)
    registrations, missing = {}, {}
    for channel, (phase, paths) in enumerate(zip(case.phases, case.channels, strict=True)):
        if paths == case.paths:
            image[channel] = _own(fixed, grid)
            valid[channel] = 1
        elif not paths:
            missing[phase] = "not acquired"
        else:
            try:
                moving = read_ct(list(paths), on_gap="fill", on_tilt="resample")
                registrations[phase] = found = register(fixed, moving, liver=organ, deformable=parameters.deformable)
                if found.plausible:
                    image[channel], valid[channel] = resample(moving, like=_like(grid, fixed), registration=found)
                else:
                    missing[phase] = f"registration is implausible: {found.reason}"
            except HccTaceError as error:
                missing[phase] = f"cannot be brought onto the annotated grid: {error}"
        if phase in registrations and registrations[phase].doubts:
            logger.info("%s: %s: doubtful: %s", case.patient_id, phase, "; ".join(registrations[phase].doubts))
        if phase in missing:
            logger.info("%s: %s: %s", case.patient_id, phase, missing[phase])
    return CaseArrays(
        image=image,
        label=_nearest(label, grid),
        spacing=np.linalg.norm(grid.affine[:3, :3], axis=0),
        affine=grid.affine,
        valid=None if valid.all() else valid,
        liver=_on_grid(liver, grid),
        tumour=_on_grid(tumour, grid),
        registrations=registrations,
        missing=missing,
    )


def estimate_bytes(case: Case, parameters: StoreParameters) -> int:
    """Return how many bytes `case` takes in a store, at most: a crop or a filled slice is not known before reading."""
    row = HeaderReader().read(str(case.paths[0]))
    shape = [len(case.paths), int(row["rows"] or 0), int(row["columns"] or 0)]
    if parameters.spacing is not None:
        last = HeaderReader().read(str(case.paths[-1]))
        span = math.dist(*([end[f"position_{axis}"] for axis in "xyz"] for end in (row, last)))
        lengths = [span, (shape[1] - 1) * float(row["spacing_row"]), (shape[2] - 1) * float(row["spacing_column"])]
        shape = [int(length / step) + 1 for length, step in zip(lengths, parameters.spacing, strict=True)]
    channels = len(case.channels)
    return math.prod(shape) * (2 * channels + 1 + (0 if case.native else channels))


@contextmanager
def writing(store: Store, cases: Sequence[Case]) -> Iterator[Callable[[int], None]]:
    """Announce that `cases` are about to be written to `store`, and yield the `done` of :func:`prepare_cases`.

    The announcement is a warning of the logger; on a terminal a bar on standard error shows the progress.
    """
    logger.warning(
        "storing %d %s%s in %s; 'hcc-tace prepare' does this ahead",
        len(cases), "case" if len(cases) == 1 else "cases", _up_to(store, cases), store.folder,
    )  # fmt: skip
    if not sys.stderr.isatty():
        yield lambda steps: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to import
    from rich.progress import Progress  # noqa: PLC0415 - slow to import

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("storing cases", total=len(cases))
        yield lambda steps: bar.update(task, advance=steps)


def _up_to(store: Store, cases: Sequence[Case]) -> str:
    try:
        return f", up to {size(sum(estimate_bytes(case, store.parameters) for case in cases))},"
    except (HccTaceError, TypeError):  # a damaged header is reported when its case is prepared
        return ""


def prepare_cases(
    store: Store,
    cases: Sequence[Case],
    *,
    workers: int | None = None,
    dask: str | None = None,
    done: Callable[[int], None] = lambda steps: None,
) -> tuple[list[StoredCase | None], dict[str, str]]:
    """Write all `cases` that the store does not hold yet.

    Parameters
    ----------
    store : Store
        Where.
    cases : sequence of Case
        What. Those already there are not read again, so that an interrupted run continues.
    workers : int, optional
        Processes; default 1, which is this one.
    dask : str, optional
        Address of a Dask scheduler whose workers see the same folders, instead of processes.
    done : callable, optional
        Called with 1 after each case.

    Returns
    -------
    stored : list of StoredCase or None
        In the order of `cases`; None for one that failed.
    failed : dict of str to str
        PatientID -> why.
    """
    drop_abandoned(store.folder)
    stored, failed = store.find_all(cases)
    todo = [number for number, item in enumerate(stored) if item is None and cases[number].patient_id not in failed]
    done(len(cases) - len(todo))
    with open_runner(min(workers or 1, len(todo)), dask) as runner:
        for place, result in runner.finished(_prepare_one, [(store, cases[number]) for number in todo]):
            number = todo[place]
            if isinstance(result, StoredCase):
                stored[number] = result
            else:
                failed[cases[number].patient_id] = result
            done(1)
    if todo:
        drop_abandoned(store.folder)  # what a worker left that was killed and whose case another one wrote
    return stored, failed


def _prepare_one(store: Store, case: Case) -> StoredCase | str:
    """Prepare one case; an error comes back as its text, so that one patient does not end the run."""
    try:
        identities = source_identities(case)
        return store.write(case, build_arrays(case, store.parameters), identities=identities)
    except OutputError:  # no room for this case is no room for the next one
        raise
    except Exception as error:
        return reason_of(error)


def _grid(fixed: CTVolume, liver: Box, parameters: StoreParameters) -> _Grid:
    own = np.asarray(fixed.spacing, dtype=np.float64)
    whole = tuple((0, int(length)) for length in fixed.array.shape)
    box = whole
    if parameters.margin_mm is not None and liver is not None:
        reach = [math.ceil(parameters.margin_mm / step - 1e-6) for step in own]
        box = tuple(
            (max(0, first - more), min(length, last + more))
            for (first, last), more, (_, length) in zip(liver, reach, whole, strict=True)
        )
    wanted = own if parameters.spacing is None else np.asarray(parameters.spacing, dtype=np.float64)
    factor = wanted / own
    # the first voxel keeps its centre and no voxel lies beyond the last one's: nothing is extrapolated
    d, h, w = (int((last - first - 1) / by + 1e-6) + 1 for (first, last), by in zip(box, factor, strict=True))
    affine = np.array(fixed.affine, dtype=np.float64)
    affine[:3, 3] = affine[:3, :3] @ [first for first, _ in box] + affine[:3, 3]
    affine[:3, :3] = affine[:3, :3] * factor
    return _Grid(box, (float(factor[0]), float(factor[1]), float(factor[2])), (d, h, w), affine)


def _own(fixed: CTVolume, grid: _Grid) -> npt.NDArray[np.int16]:
    if grid.factor == (1.0, 1.0, 1.0):
        return fixed.array[grid.cut]

    array: npt.NDArray[np.int16] = resample(fixed, like=_like(grid, fixed))[0]
    return array


def _like(grid: _Grid, fixed: CTVolume) -> hd.Volume:
    import highdicom as hd  # noqa: PLC0415 - slow to import

    # only its geometry is used: one value, shown everywhere
    empty = np.broadcast_to(np.zeros(1, dtype=np.int16), grid.shape)
    return hd.Volume(empty, grid.affine, "PATIENT", frame_of_reference_uid=fixed.frame_of_reference_uid)


def _nearest(label: npt.NDArray[np.uint8], grid: _Grid) -> npt.NDArray[np.uint8]:
    cut = label[grid.cut]
    if grid.factor == (1.0, 1.0, 1.0):
        return cut
    return cut[np.ix_(*_places(grid))]


def _places(grid: _Grid) -> list[npt.NDArray[np.int64]]:
    """For each axis, which voxel of the box is nearest to each voxel of the grid."""
    return [
        np.minimum(np.floor(np.arange(count) * by + 0.5).astype(np.int64), last - first - 1)
        for count, by, (first, last) in zip(grid.shape, grid.factor, grid.box, strict=True)
    ]


def _on_grid(box: Box, grid: _Grid) -> Box:
    """Return the bounds of `box` on the grid; a part thinner than a voxel keeps one."""
    if box is None:
        return None
    result = []
    for (first, last), (start, _), places in zip(box, grid.box, _places(grid), strict=True):
        low = int(np.searchsorted(places, first - start))
        high = int(np.searchsorted(places, last - start))
        low = min(low, len(places) - 1)
        result.append((low, max(high, low + 1)))
    return tuple(result)
