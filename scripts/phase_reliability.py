"""Measures phase labels on phantoms of several seeds and writes the tables of docs/phases.md.

    python scripts/phase_reliability.py [--patients 40] [--seeds 1 2 3] [--small 8]

Every twin is labelled as it is and with what descriptions, numbers and clocks say spoilt, with the masks of its
segmentations and without any.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hcc_tace_data import make_phantom, open_collection
from hcc_tace_data.open import Series
from hcc_tace_data.phases.enhancement import Enhancement
from hcc_tace_data.phases.organ_masks import load_masks
from hcc_tace_data.phases.pixels import measure_volume
from hcc_tace_data.phases.visit import VisitVolume, judge, volumes_of

DOCS = Path(__file__).resolve().parents[1] / "docs" / "phases.md"
BEGIN, END = "<!-- reliability: begin -->", "<!-- reliability: end -->"
WORDS = {"pre_contrast": "PRE LIVER", "arterial": "ARTERIAL", "portal_venous": "VENOUS", "delayed": "DELAYED"}
TIMES = ("acquisition_time", "content_time", "series_time", "instance_creation_time")
SCENARIOS = {
    "as written": (),
    "no descriptions": ("no names",),
    "one description of a visit wrong": ("one wrong",),
    "half of the descriptions wrong": ("wrong",),
    "no clocks, contrast route and numbers of sweeps": ("no clock",),
    "clocks shuffled": ("shuffled clock",),
    "no descriptions, clocks; numbers shuffled": ("no names", "no clock", "no numbers"),
    "half of the descriptions wrong, clocks and numbers shuffled": ("wrong", "shuffled clock", "no numbers"),
}
BINS = [0.0, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0]


@dataclass
class Visit:
    """One visit: its volumes, their true phases, and what was measured with masks and without."""

    volumes: list[VisitVolume]
    true: list[str]
    masked: list[Enhancement]
    free: list[Enhancement]


def visits_of(root: Path) -> Iterator[Visit]:
    truth = pd.read_csv(root / "truth" / "phases.csv").drop_duplicates(["series_uid", "volume"])
    phase = truth.set_index(["series_uid", "volume"])["phase"]
    for patient in open_collection(root).values():
        for day in sorted({study.date for study in patient.studies}):
            studies = [study for study in patient.studies if study.date == day]
            volumes = volumes_of([s for study in studies for s in study.series if s.modality == "CT"])
            masks = {
                study.study_uid: load_masks(study.segmentation.paths[0]) if study.segmentation else None
                for study in studies
            }
            yield Visit(
                volumes=volumes,
                true=[phase[volume.series.series_uid, volume.number] for volume in volumes],
                masked=[measure_volume(v.rows, root, masks[v.series.study_uid]) for v in volumes],
                free=[measure_volume(v.rows, root) for v in volumes],
            )


def spoilt(visit: Visit, how: tuple[str, ...], rng: np.random.Generator) -> list[VisitVolume]:
    """Return the visit's volumes with headers as `how` says; which slices belong together is left as it was found."""
    names = {volume.series.series_uid: volume.series.description for volume in visit.volumes}
    numbers = {volume.series.series_uid: volume.series.number for volume in visit.volumes}
    uids = list(names)
    held = {
        uid: [t for v, t in zip(visit.volumes, visit.true, strict=True) if v.series.series_uid == uid] for uid in uids
    }
    if "no names" in how:
        names = dict.fromkeys(uids, "")
    chosen = [uid for uid in uids if rng.random() < 0.5] if "wrong" in how else []
    chosen += [uids[int(rng.integers(len(uids)))]] if "one wrong" in how else []
    for uid in chosen:
        names[uid] = WORDS[str(rng.choice([phase for phase in WORDS if phase not in held[uid]]))]
    if "no numbers" in how:
        order = rng.permutation(len(uids))
        numbers = {uid: numbers[uids[place]] for uid, place in zip(uids, order, strict=True)}
    rows = [volume.rows.copy() for volume in visit.volumes]
    if "no clock" in how:
        for one in rows:
            one.loc[:, [*TIMES, "contrast_route"]] = ""
            one["acquisition_number"] = pd.array([pd.NA] * len(one), dtype="Int64")
    if "shuffled clock" in how:
        shuffled = [*TIMES, "acquisition_number"]
        clocks = [one[shuffled].iloc[0] for one in rows]
        for one, place in zip(rows, rng.permutation(len(rows)), strict=True):
            for column in shuffled:
                one[column] = clocks[place][column]
    result = []
    for volume, own in zip(visit.volumes, rows, strict=True):
        uid = volume.series.series_uid
        instances = volume.series.instances.assign(series_description=names[uid], series_number=numbers[uid])
        result.append(
            VisitVolume(
                series=Series(volume.series.root, instances, catalog=volume.series.catalog),
                number=volume.number,
                rows=own,
            )
        )
    return result


def measure(roots: dict[str, Path]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for twin, root in roots.items():
        for visit in visits_of(root):
            for name, how in SCENARIOS.items():
                volumes = spoilt(visit, how, rng)
                for kind, found in (("with masks", visit.masked), ("without masks", visit.free), ("headers", None)):
                    for true, one, volume in zip(visit.true, judge(volumes, found), volumes, strict=True):
                        rows.append((twin, name, kind, true, one.phase, one.confidence, one.pixels,
                                     volume.series.patient_id))  # fmt: skip
    return pd.DataFrame(rows, columns=["twin", "scenario", "kind", "true", "phase", "confidence", "pixels", "patient"])


def tables(results: pd.DataFrame) -> str:
    """Return the tables as Markdown."""
    results = results.assign(right=results["phase"] == results["true"], alone=results["pixels"] == results["true"])
    plain = results[results["scenario"] == "as written"]
    text = [
        "Right labels, in percent; unknown counts as wrong.",
        "",
        "| headers | table and headers | with masks | without masks |",
    ]
    text.append("|---|---:|---:|---:|")
    shares = results.groupby(["scenario", "kind"], sort=False)["right"].mean()
    text += [
        f"| {name} | "
        + " | ".join(f"{100 * shares[name, kind]:.1f}" for kind in ("headers", "with masks", "without masks"))
        + " |"
        for name in SCENARIOS
    ]
    alone = plain.groupby("kind")["alone"].mean()
    text += ["", f"Pixels alone (column `phase_pixels`): {100 * alone['with masks']:.1f} with masks, "
             f"{100 * alone['without masks']:.1f} without.", ""]  # fmt: skip
    text += [
        "Reliability over all rows of that table: of the volumes with a confidence in a range, how many are right.",
        "",
    ]
    text += [
        "| confidence | with masks: volumes | mean | right | without: volumes | mean | right |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    ranges = pd.cut(results["confidence"], BINS)
    for interval in ranges.cat.categories:
        cells = []
        for kind in ("with masks", "without masks"):
            here = results[(results["kind"] == kind) & (ranges == interval)]
            # below the threshold a label is withheld: what counts is the likeliest phase, which is not kept
            right = f"{here['right'].mean():.3f}" if len(here) and interval.left >= 0.6 else "-"
            cells += [str(len(here)), f"{here['confidence'].mean():.3f}" if len(here) else "-", right]
        label = "below 0.6 (called unknown)" if interval.right <= 0.6 else f"{interval.left:g} to {interval.right:g}"
        text.append(f"| {label} | " + " | ".join(cells) + " |")
    for kind in ("with masks", "without masks"):
        here = results[(results["kind"] == kind) & (results["confidence"] >= 0.6)]
        gaps = here.groupby(pd.cut(here["confidence"], BINS), observed=True).apply(
            lambda g: len(g) * abs(g["right"].mean() - g["confidence"].mean()), include_groups=False
        )
        text += [
            "",
            f"Expected calibration error, {kind}: {gaps.sum() / len(here):.4f}.",
        ]
    return "\n".join(text)


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patients", type=int, default=40)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--small", type=int, default=8)
    parser.add_argument("--dry-run", action="store_true", help="print the tables, do not write the page")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        roots = {}
        for seed in options.seeds:
            roots[f"tiny, seed {seed}"] = make_phantom(
                Path(folder) / f"t{seed}", patients=options.patients, seed=seed, workers=2
            )
        if options.small:
            roots["small"] = make_phantom(Path(folder) / "s", patients=options.small, size="small", seed=9, workers=2)
        results = measure(roots)
    counts = results[(results["kind"] == "with masks") & (results["scenario"] == "as written")]
    head = (
        f"{len(counts)} volumes: {options.patients} tiny patients of each of the seeds "
        f"{', '.join(map(str, options.seeds))}, {options.small} small ones."
    )
    seeds = " ".join(map(str, options.seeds))
    head += (
        f" `python scripts/phase_reliability.py --patients {options.patients} --seeds {seeds} --small {options.small}`"
    )
    text = f"{head}\n\n{tables(results)}"
    say(text)
    if not options.dry_run:
        page = DOCS.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
