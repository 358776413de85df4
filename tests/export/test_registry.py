"""The registry of export formats is what the command and the docs show, and every format's module is in it."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest
import typer

import hcc_tace_data.export
from hcc_tace_data.cli.export import app
from hcc_tace_data.cli.main import main
from hcc_tace_data.errors import UsageError
from hcc_tace_data.export.format import ExportSummary
from hcc_tace_data.export.nifti import export_nifti
from hcc_tace_data.export.registry import FORMATS, find_format, formats_table
from hcc_tace_data.export.run import export_cases
from hcc_tace_data.open import open_collection

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def test_every_format_module_is_registered() -> None:
    modules = [
        import_module(f"hcc_tace_data.export.{one.name}") for one in pkgutil.iter_modules(hcc_tace_data.export.__path__)
    ]
    declared = {module.FORMAT.name for module in modules if hasattr(module, "FORMAT")}
    assert declared == set(FORMATS)


def test_the_docs_show_the_registry() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert formats_table() in text, "run `make tables`"


def test_the_help_shows_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    command = typer.main.get_command(app)
    for one in FORMATS.values():
        assert f"{one.name}: {one.summary}." in str(command.help)
    assert main(["export", "--help"]) == 0
    shown = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    assert all(f" {name}: " in shown for name in FORMATS)


@pytest.mark.parametrize("name", list(FORMATS))
def test_options_that_a_format_does_not_take_are_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, words in {
        "labels": ["--labels", "liver"],
        "annotations": ["--annotations", "bamf"],
        "all_volumes": ["--all-volumes"],
        "patients": ["--patient", "HCC_001"],
    }.items():
        if option not in FORMATS[name].options:
            assert main(["export", name, str(tmp_path / "out"), *words]) == 2
            assert f"does not go with {name}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UsageError, match=r"Unknown format 'nnUnet'; use nifti, "):
        find_format("nnUnet")


def test_exports_work_when_they_are_called(twin: Path, tmp_path: Path) -> None:
    """Nothing has to be iterated over for the files to be written."""
    collection = open_collection(twin)
    patient = next(iter(collection))
    studies = export_nifti(collection, tmp_path / "nifti", patients=[patient], workers=1)
    cases = export_cases(collection, tmp_path / "monai", "monai", patients=[patient], workers=1)
    for done in (studies, cases):
        assert isinstance(done, ExportSummary)
        assert done.files
        assert all(path.is_file() for path in done.files)
        assert {one.patient_id for one in done} == {patient}
        assert repr(done).startswith(f"<ExportSummary {done.format} in ")
        assert (done.out / "provenance.json").is_file()
    with pytest.raises(UsageError, match="'nifti' does not hold annotated cases"):
        export_cases(collection, tmp_path / "x", "nifti")
