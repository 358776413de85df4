"""`hcc-tace baseline predict` and `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hcc_tace_data.baseline.options import PredictOptions
from hcc_tace_data.cli.console import emit_json, moving, note, open_with_progress, progress, say
from hcc_tace_data.cli.options import Json, Patients, Quiet, Root, StoreFolder, names_of
from hcc_tace_data.errors import BaselineError, PatientNotFoundError, UsageError
from hcc_tace_data.facts.splits import patients_of
from hcc_tace_data.system.names import safe_name
from hcc_tace_data.system.roots import resolve_root
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    from hcc_tace_data.baseline.predict import Cascade
    from hcc_tace_data.open import Collection

#: Split of `evaluate` and folder of its predictions; named here so that the command starts without torch.
OUT_OF_FOLD = "out-of-fold"
_MODEL_HELP = "Folder of the run, with fold0 ... in it; default ROOT/baseline/PRESET."


def predict(
    inputs: Annotated[list[str], typer.Argument(help="PatientIDs, folders of one CT's DICOM files, or NIfTI files.")],
    root: Annotated[Path | None, typer.Option(help="The collection, for PatientIDs.")] = None,
    model: Annotated[Path | None, typer.Option(help=_MODEL_HELP)] = None,
    preset: Annotated[str | None, typer.Option(help="Refuse networks of another preset.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Networks of these folds; default all, averaged.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results; default ROOT/predictions, else here.")] = None,
    true_liver: Annotated[bool, typer.Option("--true-liver", help="Patients: tumour in the annotated liver.")] = False,
    liver: Annotated[Path | None, typer.Option(help="NIfTI mask of the liver to look in, on the input's grid.")] = None,
    phase: Annotated[
        list[str] | None,
        typer.Option(help="PHASE=FOLDER: another phase of the study, registered onto the input."),
    ] = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Test-time augmentation: average with mirrored slices.")
    ] = False,
    seg: Annotated[bool, typer.Option("--seg", help="Also write DICOM-SEG, for DICOM inputs.")] = False,
    batch_size: Annotated[int, typer.Option(help="Slices at once.", min=1)] = 8,
    device: Annotated[str | None, typer.Option(help="cpu, cuda ...; default a GPU where there is one.")] = None,
    cache: StoreFolder = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Label liver and tumour on volumes of any grid; the result lies on the input's own grid."""
    patients = [item for item in inputs if _is_patient(item, root)]
    files = [item for item in inputs if item not in patients]
    if true_liver and files:
        raise UsageError("--true-liver needs an annotation, which only patients of the collection have; use --liver.")
    if liver is not None and len(inputs) != 1:
        raise UsageError("--liver belongs to one input; predict them one by one.")
    others = _phases_of(phase or [])
    if others and (len(inputs) != 1 or not Path(inputs[0]).is_dir() or patients):
        raise UsageError("--phase belongs to one folder of DICOM files; predict studies one by one.")
    if model is None and patients:
        model = resolve_root(root) / "baseline" / (preset or "paper")
    if model is None:
        raise UsageError("name the folder of the trained networks with --model.")
    _refuse_clashes(files, out or Path.cwd(), seg)
    cascade = load_cascade(model, fold, preset, device)
    networks = _Networks(cascade, model, fold)
    options = PredictOptions(true_liver=true_liver, flips=flips, batch_size=batch_size)
    rows: list[dict[str, Any]] = []
    lacking: list[str] = []
    if patients:
        if liver is not None:
            raise UsageError("--liver is for files; patients have --true-liver.")
        collection = open_with_progress(root, quiet=quiet)
        rows, lacking = _predict_patients(
            patients, networks, collection, out, options, cache=cache, seg=seg, quiet=quiet
        )
    for item in files:
        rows.append(_predict_file(Path(item), cascade, out or Path.cwd(), liver, options, others=others, seg=seg))
    if as_json:
        emit_json({"model": str(model), "preset": cascade.liver_config.name, "predictions": rows})
    else:
        for row in rows:
            say(f"{row['name']}: liver {row['liver_ml']:.1f} ml, tumour {row['tumour_ml']:.1f} ml -> {row['file']}")
    if lacking:  # when all others are done
        raise BaselineError("; ".join(lacking) + ".")


def _phases_of(given: list[str]) -> dict[str, Path]:
    """Return the folders of further phases from what was given as PHASE=FOLDER."""
    found: dict[str, Path] = {}
    for item in given:
        name, sign, folder = item.partition("=")
        if not (name and sign and folder) or name in found:
            raise UsageError(f"--phase {item}: give each phase once, as PHASE=FOLDER, such as arterial=ct/arterial.")
        found[name] = Path(folder)
    return found


def _is_patient(item: str, root: Path | None) -> bool:
    """Whether an input is a PatientID; a folder of that name in the collection is the patient, not one CT."""
    bare = Path(item).name == item
    return not Path(item).exists() or (bare and root is not None and Path(item).resolve() == (root / item).resolve())


def load_cascade(model: Path, folds: list[int] | None, preset: str | None, device: str | None) -> Cascade:
    """Read the networks of a run and put them on a device."""
    from hcc_tace_data.baseline.predict import Cascade  # noqa: PLC0415 - its libraries are slow to import

    try:
        return Cascade.load_folds(model, folds, preset=preset, device=device)
    except (RuntimeError, AssertionError) as error:  # torch says so when the device is not there
        raise UsageError(f"device {device}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Networks:
    """Networks and the run that they come from."""

    cascade: Cascade
    model: Path
    folds: list[int] | None

    def have_seen(self, patients: list[str]) -> list[str]:
        """Return those of the patients on whom the networks were trained or chosen."""
        from hcc_tace_data.baseline.folds import seen_in_training  # noqa: PLC0415 - its libraries are slow to import

        return sorted(set(patients) & seen_in_training(self.model, self.folds))


def _predict_patients(
    patients: list[str],
    networks: _Networks,
    collection: Collection,
    out: Path | None,
    options: PredictOptions,
    *,
    cache: Path | None,
    seg: bool,
    quiet: bool,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what was predicted, and why others could not be."""
    from hcc_tace_data.baseline.data import load_cohort  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.outputs import label_volumes, save_seg  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.scoring import TRUE_LIVER, predict_cases, read_prediction  # noqa: PLC0415 - its libraries are slow to import

    cascade = networks.cascade
    unknown = [name for name in patients if name not in collection]
    if unknown:
        raise PatientNotFoundError(
            f"{', '.join(unknown)}: no such file, and no such patient among the {len(collection)} of {collection.root}."
        )
    cohort = load_cohort(collection, patients=patients, phases=cascade.liver_config.input.phases, cache=cache)
    lacking = [
        f"{patient} cannot be predicted: {cohort.left_out.get(patient, 'not in the store')}"
        for patient in patients
        if patient not in cohort.stored
    ]
    seen = networks.have_seen(patients)
    if seen:
        note(f"{', '.join(seen)}: seen in training; scores of them prove nothing", quiet=quiet)
    folder = out or collection.root / "predictions"
    if options.true_liver:  # apart, where 'evaluate' looks for it: it is no prediction of the cascade
        folder = folder / TRUE_LIVER
    with progress("predicting", len(patients), quiet=quiet) as advance:
        files = predict_cases(
            cascade,
            cohort.pick(patients),
            folder,
            options,
            refuse=True,
            progress=lambda done, total: advance(1),
        )
    rows = []
    for patient, path in files.items():
        case = cohort.stored[patient]
        label = read_prediction(path, case)
        row = {"name": patient, "file": str(path), **label_volumes(label, case.spacing)}
        if seg:
            row["seg"] = str(
                save_seg(path.with_name(f"{safe_name(patient)}.dcm"), label, cohort.cases[patient].paths, cascade)
            )
        rows.append(row)
    return rows, lacking


def _result_of(source: Path, out: Path) -> Path:
    from hcc_tace_data.baseline.outputs import stem_of  # noqa: PLC0415 - its libraries are slow to import

    return out / f"{stem_of(source)}-prediction.nii.gz"


def _refuse_clashes(files: list[str], out: Path, seg: bool) -> None:
    """Find out before anything is written what could not be."""
    results: dict[Path, str] = {}
    for item in files:
        path = _result_of(Path(item), out)
        if path in results:
            raise UsageError(f"{results[path]} and {item} would both become {path}; predict them into two folders.")
        results[path] = item
        if seg and not Path(item).is_dir():
            raise UsageError(
                f"{item} is not a folder of DICOM files; a DICOM-SEG must cite the images it was made from."
            )


def _predict_file(
    source: Path,
    cascade: Cascade,
    out: Path,
    liver: Path | None,
    options: PredictOptions,
    *,
    others: dict[str, Path],
    seg: bool,
) -> dict[str, Any]:
    from hcc_tace_data.baseline.outputs import label_volumes, predict_input, save_nifti, save_seg  # noqa: PLC0415 - its libraries are slow to import

    found = predict_input(
        source, cascade, others=others, liver=liver, flips=options.flips, batch_size=options.batch_size
    )
    path = save_nifti(_result_of(source, out), found.label, found.volume)
    row = {
        "name": found.volume.name,
        "file": str(path),
        "resampled": found.resampled,
        **label_volumes(found.label, found.volume.spacing),
    }
    if seg:
        name = path.name.replace(".nii.gz", ".dcm")
        row["seg"] = str(save_seg(path.with_name(name), found.label, found.volume.sources, cascade))
    return row


def evaluate(
    root: Root = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Folder of predicted label maps; default ROOT/predictions.")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="Predict first, with the networks of this run.")] = None,
    preset: Annotated[str | None, typer.Option(help="Refuse networks of another preset.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Networks of these folds; default all, averaged.")] = None,
    split: Annotated[str, typer.Option(help="test; validation of one fold; or out-of-fold.")] = "test",
    patients: Patients = None,
    flips: Annotated[
        bool, typer.Option("--flips", help="Test-time augmentation: average with mirrored slices.")
    ] = False,
    plots: Annotated[bool, typer.Option(help="Also write plots.")] = True,
    cache: StoreFolder = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score predictions against the annotation and write evaluation.json and pictures beside them."""
    from hcc_tace_data.baseline.data import load_cohort  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.scoring import annotated_phases, evaluate_predictions, write_evaluation  # noqa: PLC0415 - its libraries are slow to import

    cascade = None if model is None else load_cascade(model, fold, preset, None)
    phases = ("annotated",) if cascade is None else cascade.liver_config.input.phases
    collection = open_with_progress(root, quiet=quiet)
    cohort = load_cohort(collection, phases=phases, cache=cache)
    folder = predictions or collection.root / "predictions"
    if split == OUT_OF_FOLD:
        document = _out_of_fold(collection, cohort, model, fold, Path(folder) / OUT_OF_FOLD, flips=flips, quiet=quiet)
        if as_json:
            emit_json(document)
            return
        say_summary(document)
        say(f"Written: {Path(folder) / OUT_OF_FOLD / 'evaluation.json'}")
        return
    names = _who(cohort, split, fold, names_of(patients))
    if cascade is not None and model is not None:
        _predict_unseen(_Networks(cascade, model, fold), cohort, names, split, folder, flips=flips, quiet=quiet)
    with progress("scoring", len(names), quiet=quiet) as advance:
        document = evaluate_predictions(
            cohort,
            names,
            folder,
            phases=annotated_phases(collection),
            trivial=_fit_trivial(cohort, names),
            about={
                "split": split if not patients else "chosen",
                "store_digest": cohort.digest,
                "model": str(model or ""),
            },
            progress=lambda done, total: advance(1),
        )
    path = write_evaluation(folder, document)
    if plots:
        from hcc_tace_data.baseline.plots import draw_all  # noqa: PLC0415 - its libraries are slow to import

        draw_all(Path(folder) / "plots", document, cohort, folder, model)
    if as_json:
        emit_json(document)
        return
    say_summary(document)
    say(f"Written: {path}")


def _who(cohort: Any, split: str, fold: list[int] | None, patients: list[str] | None) -> list[str]:
    from hcc_tace_data.baseline.data import held_out, part_of  # noqa: PLC0415 - its libraries are slow to import

    if patients:
        unknown = [name for name in patients if name not in cohort.stored]
        if unknown:
            raise PatientNotFoundError(f"{', '.join(unknown)}: no annotated CT among the {len(cohort.stored)} here.")
        return sorted(set(patients))
    if split == "test":
        return [case.patient_id for case in held_out(cohort)]
    if split == "validation":
        if fold is None or len(fold) != 1:
            raise UsageError("--split validation belongs to one fold; name it with --fold.")
        return [case.patient_id for case in part_of(cohort, fold[0]).validation]
    raise UsageError(f"split is {split!r}; use test or validation, out-of-fold, or name patients with --patients.")


def _out_of_fold(
    collection: Collection,
    cohort: Any,
    model: Path | None,
    folds: list[int] | None,
    out: Path,
    *,
    flips: bool,
    quiet: bool,
) -> dict[str, Any]:
    from hcc_tace_data.baseline.data import part_of  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.out_of_fold import evaluate_out_of_fold  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.baseline.scoring import annotated_phases  # noqa: PLC0415 - its libraries are slow to import

    if model is None:
        raise UsageError(f"--split {OUT_OF_FOLD} predicts by fold; name the folder of the networks with --model.")
    found = sorted(int(path.name[4:]) for path in model.glob("fold[0-9]"))
    parts = [part_of(cohort, number) for number in folds or found]
    total = sum(len(part.validation) for part in parts)
    with progress("predicting", total, quiet=quiet) as advance:
        return evaluate_out_of_fold(
            model,
            cohort,
            parts,
            out,
            options=PredictOptions(flips=flips),
            phases=annotated_phases(collection),
            progress=moving(advance),
        )


def _predict_unseen(
    networks: _Networks, cohort: Any, names: list[str], split: str, folder: Path, *, flips: bool, quiet: bool
) -> None:
    from hcc_tace_data.baseline.scoring import TRUE_LIVER, predict_cases  # noqa: PLC0415 - its libraries are slow to import

    seen = networks.have_seen(names)
    if seen and split == "test":
        raise BaselineError(
            f"the networks in {networks.model} have seen {', '.join(seen)}: scores of them would be void. "
            "Score other patients, or train again."
        )
    if seen:
        note("validation patients chose the epoch: their scores flatter", quiet=quiet)
    cases = cohort.pick(names)
    for inside, place in ((False, folder), (True, Path(folder) / TRUE_LIVER)):
        with progress("predicting", len(cases), quiet=quiet) as advance:
            predict_cases(
                networks.cascade,
                cases,
                place,
                PredictOptions(true_liver=inside, flips=flips),
                keep=True,
                progress=lambda done, total, move=advance: move(1),  # type: ignore[misc]
            )


def _fit_trivial(cohort: Any, scored: list[str]) -> Any:
    """Fit thresholds on patients of the training part who are not scored; None if missing."""
    from hcc_tace_data.baseline.trivial import TrivialPredictors  # noqa: PLC0415 - its libraries are slow to import

    test = {*patients_of("test"), *scored}
    rest = [case for patient, case in cohort.stored.items() if patient not in test and case.liver is not None]
    return TrivialPredictors.fit(rest) if rest else None


def say_trivial(trivial: dict[str, Any] | None, what: str) -> None:
    """Print what predictors scored that know next to nothing."""
    for name, row in (trivial or {}).items():
        dice = row["dice"]
        title = name.replace("_", " ").replace("hu ", "HU ")
        say(f"{what}: {title:<13} liver {dice['liver']:.3f}, tumour {dice['tumour']:.3f}")


def say_summary(document: dict[str, Any]) -> None:
    """Print an evaluation for a person."""
    summary = document["summary"]
    say(f"{count(summary['patients'], 'patient')}; Dice by patient, mean [95 % interval], median:")
    for label, figures in summary["labels"].items():
        say(_row(label, figures["dice"]))
    second = document.get("true_liver")
    if second:
        say(_row("tumour in true liver", second["summary"]["labels"]["tumour"]["dice"]))
    say_trivial(document.get("trivial"), "  trivial")
    for label, empty in summary["empty_predictions"].items():
        if empty["patients"]:
            say(
                f"  {label}: nothing predicted in {count(empty['patients'], 'patient')}, {empty['annotated']} annotated"
            )
    lesions = summary["lesions"]
    say(f"  lesions found {lesions['found']} of {lesions['lesions']}, {lesions['false_positives']} false")


def _row(name: str, row: dict[str, float]) -> str:
    return f"  {name:<22} {row['mean']:.3f} [{row['low']:.3f}, {row['high']:.3f}], {row['median']:.3f}"
