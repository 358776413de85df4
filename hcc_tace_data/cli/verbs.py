"""The verbs of `hcc-tace`: the module of each and the line that `--help` prints for it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["VERBS", "Verb"]


class Verb(NamedTuple):
    """A verb: the module that holds its Typer `app`, and one line of help."""

    module: str
    summary: str


#: In the order `--help` shows them.
VERBS: dict[str, Verb] = {
    "demo": Verb("hcc_tace_data.cli.demo", "Run the whole pipeline on synthetic data."),
    "info": Verb("hcc_tace_data.cli.info", "The facts of the collection, and what is in a folder."),
    "list": Verb("hcc_tace_data.cli.list", "List the series of the collection, or of a phantom."),
    "cite": Verb("hcc_tace_data.cli.cite", "What to cite."),
    "cache": Verb("hcc_tace_data.cli.cache", "Show or clear caches."),
    "download": Verb("hcc_tace_data.cli.download", "Download the collection and check every file."),
    "verify": Verb("hcc_tace_data.cli.verify", "Check that every file is present and complete."),
    "validate": Verb("hcc_tace_data.cli.validate", "Check a folder against all curation rules."),
    "explain": Verb("hcc_tace_data.cli.explain", "What a rule checks, why, and how to fix what it finds."),
    "phases": Verb("hcc_tace_data.cli.phases", "Label the contrast phase of each CT volume."),
    "measure": Verb("hcc_tace_data.cli.measure", "Measure lesions: sizes, shapes and HU, per lesion or patient."),
    "phantom": Verb("hcc_tace_data.cli.phantom", "Write a digital twin of the collection as real DICOM."),
    "prepare": Verb("hcc_tace_data.cli.prepare", "Register, resample and store the data for training."),
    "fuse": Verb("hcc_tace_data.cli.fuse", "Fuse readers' masks (STAPLE or voting) and report their agreement."),
    "compare": Verb("hcc_tace_data.cli.compare", "Compare your masks with those of the collection."),
    "export": Verb("hcc_tace_data.cli.export", "Write CT and labels in other formats."),
    "baseline": Verb("hcc_tace_data.cli.baseline.app", "The reference networks: train, evaluate, predict, reproduce."),
    "clinical": Verb("hcc_tace_data.cli.clinical", "The clinical table: checks, reader agreement, survival."),
    "outcome": Verb("hcc_tace_data.cli.outcome", "Score reference models of survival, progression and response."),
    "report": Verb("hcc_tace_data.cli.report", "Write one HTML page: cohort, findings, phases, contours."),
    "view": Verb("hcc_tace_data.cli.view", "View a patient's CT with its labels in the browser."),
}
