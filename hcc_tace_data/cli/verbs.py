"""The verbs of `hcc-tace`: where each lives and the line that `--help` prints for it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VERBS", "Verb"]


class Verb(NamedTuple):
    """A verb: the module that holds its Typer `app`, and one line of help."""

    module: str
    summary: str


#: In the order `--help` shows them.
VERBS: dict[str, Verb] = {
    "demo": Verb("hcc_tace_data.cli.demo", "The main job from end to end, on a synthetic twin."),
    "info": Verb("hcc_tace_data.cli.info", "The facts of the collection."),
    "list": Verb("hcc_tace_data.cli.list", "The series of the collection, or of a phantom."),
    "cite": Verb("hcc_tace_data.cli.cite", "What to cite."),
    "cache": Verb("hcc_tace_data.cli.cache", "Where caches lie, and their clearing."),
    "download": Verb("hcc_tace_data.cli.download", "Fetch the collection, and check every file."),
    "verify": Verb("hcc_tace_data.cli.verify", "Are all files here and whole."),
    "validate": Verb("hcc_tace_data.cli.validate", "Check a folder against all curation rules."),
    "explain": Verb("hcc_tace_data.cli.explain", "What a rule checks, why, and how to repair."),
    "phases": Verb("hcc_tace_data.cli.phases", "Which contrast phase each CT volume is."),
    "measure": Verb("hcc_tace_data.cli.measure", "Measure lesions: sizes, shapes and HU, per lesion or patient."),
    "phantom": Verb("hcc_tace_data.cli.phantom", "Write a digital twin of the collection as real DICOM."),
    "prepare": Verb("hcc_tace_data.cli.prepare", "Register, resample and store what training reads."),
    "fuse": Verb("hcc_tace_data.cli.fuse", "Readers' masks into one: STAPLE, votes, agreement."),
    "export": Verb("hcc_tace_data.cli.export", "CT and segmentations in other formats."),
    "baseline": Verb(
        "hcc_tace_data.cli.baseline.app", "The reference cascaded U-Net: train, evaluate, predict, reproduce."
    ),
    "clinical": Verb("hcc_tace_data.cli.clinical", "The clinical table: checks, reader agreement, survival."),
    "outcome": Verb("hcc_tace_data.cli.outcome", "Score reference models of survival, progression and response."),
    "report": Verb("hcc_tace_data.cli.report", "One HTML page: cohort, findings, phases, contours of every patient."),
    "view": Verb("hcc_tace_data.cli.view", "A patient's CT with its labels, in the browser of this machine."),
}
