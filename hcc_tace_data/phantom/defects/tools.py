"""What defects are planted with: edits of files, tables and sheets of a twin that leave everything else as it was.

Files are replaced, never written in place: a copy of a twin made of hard links does not spoil its original.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from functools import cached_property
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hcc_tace_data.clinical import find_sheet
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.open import open_collection
from hcc_tace_data.phantom.defects.registry import register
from hcc_tace_data.system.files import atomic_path, atomic_write_bytes, atomic_write_text
from hcc_tace_data.system.text import csv_rows
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

    from hcc_tace_data.open import Collection, Series

__all__ = ["Twin", "change", "in_series", "named", "plant", "read", "write"]


def read(path: Path) -> Dataset:
    """Read one file whole."""
    import pydicom

    return pydicom.dcmread(BytesIO(path.read_bytes()))


def write(path: Path, dataset: Dataset, **options: Any) -> None:
    """Write one file, in place of what was there."""
    buffer = BytesIO()
    dataset.save_as(buffer, **options)
    atomic_write_bytes(path, buffer.getvalue())


def change(paths: Iterable[Path], edit: Callable[[Dataset], Any]) -> None:
    """Apply `edit` to each file."""
    for path in paths:
        dataset = read(path)
        edit(dataset)
        write(path, dataset)


class Twin:
    """A finished twin, looked at for a place to plant a defect.

    Parameters
    ----------
    root : pathlib.Path
    code : str
        Code of the defect: patients in whom it is a known issue are passed over.
    """

    def __init__(self, root: Path, code: str) -> None:
        self.root = root
        self.code = code

    @cached_property
    def collection(self) -> Collection:
        """The files, read again."""
        return open_collection(self.root, workers=1, cache=False)

    @cached_property
    def patients(self) -> list[str]:
        """PatientIDs, those in whom the defect would be a known issue left out."""
        known = {one.patient_id for one in load_catalog().known_issues if one.code == self.code and not one.series}
        found = [patient for patient in self.collection if patient not in known]
        if not found:
            raise UsageError(f"{self.code} is a known issue in every patient of {self.root}; make another twin.")
        return found

    @property
    def patient(self) -> str:
        """The last of them: the first patients of the collection have most quirks."""
        return self.patients[-1]

    def two(self) -> tuple[str, str]:
        """Return two patients."""
        if len(self.patients) < 2:
            raise UsageError(f"{self.code} takes two patients; make a twin of two or more.")
        return self.patients[0], self.patients[-1]

    @cached_property
    def plain(self) -> Series:
        """The pre-contrast series of the patient's baseline, on which nothing else depends."""
        study = self.collection[self.patient].baseline
        scans = [] if study is None else [one for one in study.series if one.modality == "CT"]
        cited = self.annotated_series
        free = [one for one in scans if one.series_uid != cited]
        if not free:
            raise UsageError(f"{self.patient} has no series beside the annotated one; make a twin of another patient.")
        return free[0]

    @cached_property
    def slices(self) -> list[Path]:
        """Files of :attr:`plain`, feet to head."""
        rows = self.plain.instances.sort_values("position_z")
        return [self.root / path for path in rows["path"]]

    @cached_property
    def seg(self) -> Path:
        """The SEG of the patient."""
        return self._segmentation.paths[0]

    @property
    def _segmentation(self) -> Series:
        study = self.collection[self.patient].baseline
        found = None if study is None else study.segmentation
        if found is None:
            raise UsageError(f"{self.patient} has no segmentation to spoil.")
        return found

    @cached_property
    def annotated(self) -> list[Path]:
        """Files of the annotated volume, feet to head."""
        study = self.collection[self.patient].baseline
        found = find_annotated(study) if study is not None else None
        if found is None or found.volume is None:
            raise UsageError(f"The annotated volume of {self.patient} cannot be determined.")
        return list(found.paths)

    @cached_property
    def annotated_series(self) -> str:
        """UID of the annotated series."""
        return str(read(self.annotated[0]).SeriesInstanceUID)

    def masks(self) -> tuple[Dataset, NDArray[np.uint8]]:
        """Return the SEG and its frames (F, rows, columns)."""
        dataset = read(self.seg)
        shape = int(dataset.NumberOfFrames), int(dataset.Rows), int(dataset.Columns)
        bits = np.unpackbits(np.frombuffer(dataset.PixelData, np.uint8), bitorder="little")
        return dataset, bits[: shape[0] * shape[1] * shape[2]].reshape(shape).copy()

    def write_masks(self, dataset: Dataset, frames: NDArray[np.uint8]) -> None:
        """Write the SEG with other frames."""
        data = np.packbits(frames.reshape(-1), bitorder="little").tobytes()
        dataset.PixelData = data + b"\0" * (len(data) % 2)
        write(self.seg, dataset)

    def count_again(self) -> None:
        """Bring ``series.csv`` in line with the files: what is not there is no defect then."""
        file = self.root / "series.csv"
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        names = list(rows[0])
        self.__dict__.pop("collection", None)
        held = {row["series_uid"]: row for row in self.collection.series.to_dict("records")}
        kept = []
        for row in rows:
            own = held.pop(row["series_uid"], None)
            if own is not None:
                kept.append({**row, "instances": own["instances"], "bytes": own["bytes"]})
        for own in held.values():
            day = str(own["study_date"])
            place = {"study_date": f"{day[:4]}-{day[4:6]}-{day[6:]}", "bucket": "hcc-tace-phantom",
                     "source": "collection",
                     "prefix": own["series_uid"]}  # fmt: skip
            kept.append({**{str(key): value for key, value in own.items()}, **place})
        atomic_write_text(file, csv_rows(names, kept))

    def edit_sheet(self, edit: Callable[[dict[str, Any]], Any]) -> None:
        """Apply `edit` to the patient's row of the clinical sheet; returning False removes the row."""
        from openpyxl import load_workbook

        file = find_sheet(self.root)
        book = load_workbook(file)
        table = book["data table"]
        header = [cell.value for cell in table[1]]
        for number in range(2, table.max_row + 1):
            row = {name: table.cell(number, place + 1).value for place, name in enumerate(header)}
            if row["TCIA_ID"] != self.patient:
                continue
            if edit(row) is False:
                table.delete_rows(number)
            else:
                for place, name in enumerate(header):
                    table.cell(number, place + 1).value = row[name]
            break
        with atomic_path(file) as temporary:
            book.save(temporary)

    def write_splits(self, edit: Callable[[list[dict[str, str]]], Any]) -> None:
        """Write a split table of the folder's own: the shipped one, edited."""
        text = (files("hcc_tace_data") / "data" / "splits.csv").read_text(encoding="utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        names = list(rows[0])
        edit(rows)
        atomic_write_text(self.root / "splits.csv", csv_rows(names, rows))


def plant(code: str) -> Callable[[Callable[[Twin], str]], Callable[[Twin], str]]:
    """Register a defect under the code of the rule it breaks."""

    def keep(function: Callable[[Twin], str]) -> Callable[[Twin], str]:
        @register(code)
        def defect(root: Path, rng: np.random.Generator) -> str:
            return function(Twin(root, code))

        return function

    return keep


def named(twin: Twin, path: Path) -> str:
    return str(path.relative_to(twin.root))


def in_series(code: str, what: str, edit: Callable[[Any], Any], *, files: slice = slice(None)) -> None:
    """Register a defect that changes headers of the plain series."""

    @plant(code)
    def defect(twin: Twin) -> str:
        chosen = twin.slices[files]
        change(chosen, edit)
        return f"{what} in {count(len(chosen), 'file')} of {named(twin, chosen[0].parent)}"
