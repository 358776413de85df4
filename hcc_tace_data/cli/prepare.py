"""`hcc-tace prepare`: the training store, written ahead."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.cli.console import emit_json, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Annotations, Dask, Json, Patients, Quiet, Root, StoreFolder, chosen_patients
from hcc_tace_data.errors import CollectionNotFoundError, StoreError, UsageError
from hcc_tace_data.loaders.cases import find_cases
from hcc_tace_data.loaders.load import make_parameters, store_folder
from hcc_tace_data.loaders.store import Store
from hcc_tace_data.system.faults import reason_of
from hcc_tace_data.system.roots import resolve_root
from hcc_tace_data.system.words import count, size

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case
    from hcc_tace_data.loaders.store import StoredCase, StoreParameters

app = typer.Typer(add_completion=False)


@app.command()
def prepare(
    root: Root = None,
    phases: Annotated[
        str, typer.Option(help="Channels, separated by commas; 'all' is pre_contrast,arterial,portal_venous.")
    ] = "portal_venous",
    labels: Annotated[str, typer.Option(help="Label set: standard, lesion or liver.")] = "standard",
    annotations: Annotations = "collection",
    spacing: Annotated[str | None, typer.Option(help="mm along D,H,W to resample to, as 2.5,1,1.")] = None,
    margin: Annotated[float | None, typer.Option(help="Crop to the liver and this many mm around it.")] = None,
    deformable: Annotated[
        bool, typer.Option("--deformable", help="Follow what affine registration leaves; slower.")
    ] = False,
    patients: Patients = None,
    cache: StoreFolder = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default 1.")] = None,
    dask: Dask = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would take and write nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Bring phases and labels of each study onto one grid and store them, for `load_hcc_tace` with the same options.

    A study is written completely or not at all, and stored studies are kept, so an interrupted run can be resumed.
    Exit code 1 if a study could not be prepared or a registration is implausible.
    """
    from hcc_tace_data.loaders.prepare import prepare_cases  # noqa: PLC0415 - its libraries are slow to import

    if workers is not None and dask is not None:
        raise UsageError("--workers and --dask exclude each other: the scheduler has its own workers.")
    names = [name.strip() for name in annotations.split(",")]
    annotators: str | list[str] = names[0] if len(names) == 1 else names
    parameters = make_parameters(
        phases="all" if phases == "all" else [name.strip() for name in phases.split(",")],
        labels=labels,
        annotations=annotators,
        spacing=_numbers(spacing),
        margin=margin,
        deformable=deformable,
    )
    silent = quiet or as_json
    folder = resolve_root(root)
    collection = open_with_progress(folder, workers=workers, quiet=silent)
    if not len(collection):
        raise CollectionNotFoundError(
            f"No DICOM files at {folder}. 'hcc-tace phantom {folder}' writes a synthetic twin."
        )
    chosen = chosen_patients(patients, collection, where=str(folder))
    # a phase that was not acquired is marked in the store, for missing="nan"
    cases, left_out = find_cases(
        collection, chosen or list(collection), annotators, phases=parameters.phases, keep_incomplete=True
    )
    store = Store(store_folder(folder, cache), parameters)
    stored_before, unreadable = store.find_all(cases)
    todo = [case for case, item in zip(cases, stored_before, strict=True) if item is None]
    need = sum(_estimate(case, parameters) for case in todo if case.patient_id not in unreadable)
    place = next(parent for parent in (store.folder, *store.folder.parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    note(
        f"{count(len(cases), 'study')}, {len(cases) - len(todo)} already stored; "
        f"at most {size(need)} to write ({size(free)} free) to\n{store.folder}",
        quiet=silent,
    )
    document: dict[str, Any] = {
        "root": str(folder),
        "store": str(store.folder),
        "parameters": parameters.plain(),
        "studies": len(cases),
        "stored_before": len(cases) - len(todo),
        "bytes_needed": need,
        "free_bytes": free,
        "left_out": left_out,
    }
    if dry_run:
        if as_json:
            emit_json(document)
        return
    if need > free:
        raise StoreError(
            f"the store needs up to {size(need)} and {place} has {size(free)} free. Choose another folder "
            "with --cache, crop with --margin, or resample with --spacing."
        )
    with progress("preparing studies", len(cases), quiet=silent) as advance:
        stored, failed = prepare_cases(store, cases, workers=workers, dask=dask, done=advance)
    written = [item for item in stored if item is not None]
    document |= {
        "failed": failed,
        "bytes_stored": sum(path.stat().st_size for item in written for path in item.folder.glob("*.npy")),
        "cases": [_row(item) for item in written],
    }
    bad = _report(document, silent=silent)
    if as_json:
        emit_json(document)
    if bad:
        raise typer.Exit(1)


def _estimate(case: Case, parameters: StoreParameters) -> int:
    """Return the bytes a case will take; 0 for one that cannot be read, which is reported when it is prepared."""
    from hcc_tace_data.loaders.prepare import estimate_bytes  # noqa: PLC0415 - its libraries are slow to import

    try:
        return estimate_bytes(case, parameters)
    except Exception as error:
        note(f"{case.patient_id}: {reason_of(error)}")
        return 0


def _numbers(text: str | None) -> float | list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--spacing is {text!r}; give one number of mm, or three along D,H,W, as 2.5,1,1.") from None
    return numbers[0] if len(numbers) == 1 else numbers


def _row(item: StoredCase) -> dict[str, Any]:
    return {
        "patient_id": item.patient_id,
        "folder": str(item.folder),
        "phases": list(item.phases),
        "shape": list(item.shape),
        "spacing": list(item.spacing),
        "missing": dict(item.missing),
        "registrations": {phase: dict(found) for phase, found in item.registrations.items()},
    }


def _report(document: dict[str, Any], *, silent: bool) -> bool:
    """Print what is stored and what went wrong; return whether anything did."""
    for patient_id, reason in (document["left_out"] | document["failed"]).items():
        note(f"left out: {patient_id}: {reason}", quiet=silent)
    bad = bool(document["failed"] or document["left_out"])
    for case in document["cases"]:
        for phase, reason in case["missing"].items():
            note(f"marked: {case['patient_id']}: {phase}: {reason}", quiet=silent)
            bad = bad or phase in case["registrations"] or reason != "not acquired"
        for phase, found in case["registrations"].items():
            if found.get("doubts"):
                note(f"doubtful: {case['patient_id']}: {phase}: {'; '.join(found['doubts'])}", quiet=silent)
    registered = [found for case in document["cases"] for found in case["registrations"].values()]
    if not silent:
        say(f"{count(len(document['cases']), 'study')}, {size(document['bytes_stored'])} in {document['store']}")
        if registered:
            plausible = sum(found["plausible"] for found in registered)
            doubtful = sum(bool(found.get("doubts")) for found in registered)
            say(f"{count(len(registered), 'registration')}, {plausible} plausible, {doubtful} of them doubtful")
    return bad
