"""Labels as DICOM-SEG, one file a patient: fused, chosen or renumbered, on the CT of the collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hcc_tace_data.export.dicom_seg import Algorithm, write_seg
from hcc_tace_data.files import atomic_path

if TYPE_CHECKING:
    from hcc_tace_data.export.records import Record
    from hcc_tace_data.export.run import Classes
    from hcc_tace_data.loaders.cases import Case, CaseArrays

__all__ = ["finish", "write_case"]


def write_case(case: Case, arrays: CaseArrays, out: Path, split: str, classes: Classes) -> list[Path]:
    """Write the labels of one case."""
    from hcc_tace_data import __version__

    path = out / case.patient_id / f"{case.patient_id}_seg.dcm"
    by = "+".join(one.reader for one in case.annotations)
    fused = len(case.annotations) > 1
    algorithm = Algorithm(
        name="STAPLE of readers' masks" if fused else f"Labels of {by}",
        version=__version__,
        kind="SEMIAUTOMATIC",
        parameters={"annotations": by, "readers": str(case.readers)},
    )
    write_seg(
        path,
        arrays.label,
        case.paths,
        algorithm=algorithm,
        segments={number: keys[0] for number, keys in classes.items()},
        series_description=f"Labels: {by}"[:64],
    )
    return [path]


def finish(out: Path, records: dict[str, Record], classes: Classes, names: dict[int, str]) -> None:
    """Write the table of files."""
    lines = ["patient_id,file,series_uid,annotations,readers"]
    for name, record in sorted(records.items()):
        source = record.sources
        (file,) = record.files
        lines.append(f"{name},{file},{source['series_uid']},{'+'.join(source['annotations'])},{source['readers']}")
    with atomic_path(out / "segmentations.csv") as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
