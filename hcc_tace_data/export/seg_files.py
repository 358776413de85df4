"""Labels as DICOM-SEG, one file per patient: fused, chosen or renumbered, on the CT of the collection."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.dicom.seg_write import Algorithm, write_seg
from hcc_tace_data.export.format import CaseWriter, Classes, Exported, Format
from hcc_tace_data.system.files import atomic_write_text
from hcc_tace_data.system.text import CsvWriter
from hcc_tace_data.version import __version__

if TYPE_CHECKING:
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["FORMAT"]


def files(out: Path, name: str, split: str, phases: tuple[str, ...]) -> list[Path]:
    """Return the one file of a case."""
    return [out / name / f"{name}_seg.dcm"]


def write_case(case: Case, arrays: CaseArrays, files: list[Path], classes: Classes) -> None:
    """Write the labels of one case."""
    by = "+".join(one.reader for one in case.annotations)
    fused = len(case.annotations) > 1
    algorithm = Algorithm(
        name="STAPLE of readers' masks" if fused else f"Labels of {by}",
        version=__version__,
        kind="AUTOMATIC" if {one.kind for one in case.annotations} == {"model"} and not fused else "SEMIAUTOMATIC",
        parameters={"annotations": by, "readers": str(case.readers)},
    )
    write_seg(
        files[0],
        arrays.label,
        case.paths,
        algorithm=algorithm,
        segments={number: keys[0] for number, keys in classes.items()},
        series_description=f"Labels: {by}"[:64],
    )


def finish(exported: Exported) -> None:
    """Write the table of files."""
    table = io.StringIO(newline="")
    writer = CsvWriter(table)
    writer.writerow(["patient_id", "file", "series_uid", "annotations", "readers"])
    for _, record in sorted(exported.records.items()):
        made, (file,) = record.sources, record.files
        row = [record.patient_id, file, made["series_uid"], "+".join(made["annotations"]), made["readers"]]
        writer.writerow(row)
    atomic_write_text(exported.out / "segmentations.csv", table.getvalue())


FORMAT = Format(
    name="seg",
    summary="the labels as DICOM-SEG",
    written="`<patient>/<patient>_seg.dcm`: the labels as DICOM-SEG, and `segmentations.csv`",
    read_with="3D Slicer, OHIF, highdicom, dcmqi",
    needs="annotated",
    options=frozenset({"patients", "labels", "annotations"}),
    write=CaseWriter(files=files, write_case=write_case, finish=finish),
)
