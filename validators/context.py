"""What rules look at: the collection, the catalogue, and what was read once for all rules."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hcc_tace_data.clinical import check_sheet, find_sheet, read_sheet
from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.collection.split import split_series
from hcc_tace_data.errors import ClinicalError, CollectionNotFoundError
from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.facts.series_table import load_series_table
from hcc_tace_data.open import Collection
from hcc_tace_data.phases.label import label_phases
from hcc_tace_data.validators.deid.facts import DeidFacts
from hcc_tace_data.validators.executors import Mapper
from hcc_tace_data.validators.facts.extra_headers import COLUMNS, read_extra
from hcc_tace_data.validators.facts.header_scan import scan_headers
from hcc_tace_data.validators.facts.masks import MaskJob, measure
from hcc_tace_data.validators.facts.pixel_digest import digest_files
from hcc_tace_data.validators.facts.segs import read_seg_facts
from hcc_tace_data.validators.rule import Skip

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.clinical import ClinicalProblem
    from hcc_tace_data.collection.annotated import AnnotatedVolume
    from hcc_tace_data.facts.catalog import Catalog
    from hcc_tace_data.open import Collection, Study
    from hcc_tace_data.phases.label import Depth
    from hcc_tace_data.validators.deid.facts import DeidFacts
    from hcc_tace_data.validators.facts.header_scan import HeaderScan
    from hcc_tace_data.validators.facts.masks import MaskFacts
    from hcc_tace_data.validators.facts.segs import SegFacts

__all__ = ["Context", "series_place"]

_CHUNK = 500
_PATIENTS = 5


class Context:
    """Read-only view of one collection; costly parts are made on first use, by the workers there are.

    Parameters
    ----------
    collection : Collection
        May be empty: then rules that need files are not run.
    mapper : Mapper, optional
        Runs the reading of files; default in this process.
    table : pandas.DataFrame, optional
        Series table; default the one beside the files, else the collection's own if the files belong to it.
    clinical : path-like, optional
        The clinical sheet; default the one of the folder.
    depth : str
        How deep rules may look.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        mapper: Mapper | None = None,
        table: pd.DataFrame | None = None,
        clinical: Path | None = None,
        depth: str = "headers",
    ) -> None:
        self.collection = collection
        self.root = Path(collection.root)
        self.map = mapper or Mapper()
        self.depth = depth
        self._table = table
        self._clinical = clinical

    @property
    def instances(self) -> pd.DataFrame:
        """The instance table."""
        return self.collection.instances

    @cached_property
    def catalog(self) -> Catalog:
        """The facts of the collection."""
        return load_catalog()

    @property
    def is_twin(self) -> bool:
        """Whether the folder brings a series table of its own, as a phantom does."""
        return (self.root / "series.csv").is_file()

    @cached_property
    def full_table(self) -> pd.DataFrame | None:
        """The series table with what was added to the collection later (BAMF AIMI), or None."""
        if self._table is not None:
            return self._table
        if self.is_twin:
            return load_series_table(self.root / "series.csv", with_bamf=True)
        shipped = load_series_table(with_bamf=True)
        return shipped if shipped["series_uid"].isin(set(self.instances["series_uid"])).any() else None

    @cached_property
    def table(self) -> pd.DataFrame | None:
        """The collection's own series table, or None where the files belong to none."""
        full = self.full_table
        return None if full is None else full[full["source"] == "collection"].reset_index(drop=True)

    @cached_property
    def sheet(self) -> pd.DataFrame:
        """The clinical sheet under its original headers.

        Raises
        ------
        Skip
            There is none, or it cannot be read (which HT702 reports).
        """
        try:
            return read_sheet(self.sheet_path)
        except ClinicalError:
            raise Skip("the clinical sheet cannot be read (HT702)") from None

    @property
    def sheet_path(self) -> Path:
        """The clinical sheet's file.

        Raises
        ------
        Skip
            There is none.
        """
        try:
            return find_sheet(self._clinical or self.root)
        except CollectionNotFoundError:
            raise Skip("no clinical sheet in the folder; name one with --clinical") from None

    @property
    def sheet_error(self) -> str:
        """Why the clinical sheet cannot be read; empty if it can.

        Raises
        ------
        Skip
            There is none.
        """
        path = self.sheet_path
        try:
            read_sheet(path)
        except ClinicalError as error:
            return str(error).replace(str(path), path.name)
        return ""

    @cached_property
    def sheet_problems(self) -> list[ClinicalProblem]:
        """Every defect that the sheet's own schema names."""
        return check_sheet(self.sheet)

    @cached_property
    def ct(self) -> pd.DataFrame:
        """Rows of CT slices: no localizers, no screens."""
        table = self.instances
        kinds = table["image_type"].str.upper()
        aside = kinds.str.contains("LOCALIZER") | kinds.str.contains("SCOUT") | kinds.str.contains("SCREEN SAVE")
        return table[(table["modality"] == "CT") & ~aside]

    @cached_property
    def volumes(self) -> list[pd.DataFrame]:
        """CT phase volumes, by series; rows along +normal."""
        return [part for _, rows in self.ct.groupby("series_uid", sort=True) for part in split_series(rows)]

    @cached_property
    def extra(self) -> pd.DataFrame:
        """Further header values as text, a row a file as in :attr:`instances`; missing where unreadable."""
        import pandas as pd

        paths = self.instances["path"].tolist()
        jobs = [(str(self.root), paths[i : i + _CHUNK]) for i in range(0, len(paths), _CHUNK)]
        blank = (None,) * (len(COLUMNS) + 1)
        rows = [row or blank for part in self.map(read_extra, jobs) for row in part]
        return pd.DataFrame(rows, columns=[*COLUMNS, "meta_sop_uid"], index=self.instances.index, dtype=object)

    @cached_property
    def segs(self) -> list[tuple[int, SegFacts]]:
        """Row of the instance table and links, of every SEG."""
        rows = [int(row) for row in (self.instances["modality"] == "SEG").to_numpy().nonzero()[0]]
        jobs = [(str(self.root), str(self.instances["path"].iloc[row])) for row in rows]
        return list(zip(rows, self.map(read_seg_facts, jobs), strict=True))

    @cached_property
    def annotated(self) -> list[AnnotatedVolume | None]:
        """The CT volume of each of :attr:`segs`; None for a SEG that cannot be read."""
        return self.map(
            _find_annotated,
            [
                (None if facts.error else self.study_of(row), str(self.instances["series_uid"].iloc[row]))
                for row, facts in self.segs
            ],
        )

    @cached_property
    def row_of(self) -> dict[str, int]:
        """SOP Instance UID -> its (first) row of the instance table."""
        rows: dict[str, int] = {}
        for row, uid in enumerate(self.instances["sop_uid"]):
            rows.setdefault(uid, row)
        return rows

    def study_of(self, row: int) -> Study:
        """Return the study that a row of the instance table belongs to."""
        record = self.instances.iloc[row]
        patient = self.collection[str(record["patient_id"])]
        return next(study for study in patient.studies if study.study_uid == record["study_uid"])

    @cached_property
    def masks(self) -> list[tuple[int, MaskFacts]]:
        """Row and measures of the masks of every SEG; reads pixels."""
        jobs = []
        for (row, facts), found in zip(self.segs, self.annotated, strict=True):
            paths = () if found is None or found.volume is None else tuple(map(str, found.paths))
            reason = facts.error if found is None else found.reason
            jobs.append(MaskJob(str(self.root / self.instances["path"].iloc[row]), paths, reason))
        return list(zip([row for row, _ in self.segs], self.map(measure, jobs), strict=True))

    @cached_property
    def digests(self) -> list[str]:
        """Digest of the stored pixels of each row; empty where there are none. Reads pixels."""
        table = self.instances
        numbers = [[int(v) for v in table[name]] for name in ("pixel_offset", "pixel_length")]
        items = list(zip([f"{self.root}/{path}" for path in table["path"]], *numbers, strict=True))
        jobs = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
        return [digest for part in self.map(digest_files, jobs) for digest in part]

    @cached_property
    def phases(self) -> pd.DataFrame:
        """The phase table, by all sources that the depth allows; patients are labelled apart from one another."""
        import pandas as pd

        depth: Depth = "pixels" if self.depth == "pixels" else "headers"
        groups = [rows for _, rows in self.instances.groupby("patient_id", sort=True)]
        parts = [groups[i : i + _PATIENTS] for i in range(0, len(groups), _PATIENTS)]
        jobs = [(self.root, pd.concat(part), self.collection.problems[:0], depth) for part in parts]
        tables = self.map(_label, jobs)
        filled = [table for table in tables if len(table)] or tables[:1]
        return pd.concat(filled, ignore_index=True) if filled else self.collection.phase_volumes

    @cached_property
    def headers(self) -> HeaderScan:
        """Every distinct value of every header element at any depth, private and unknown ones included."""
        return scan_headers(self.root, self.instances, run=self.map)

    @cached_property
    def deid(self) -> DeidFacts:
        """The header values, with what decides how the rules of de-identification judge them."""
        return DeidFacts(self, self.headers)

    def place(self, row: int) -> dict[str, Any]:
        """Return the fields of a finding that say which file row `row` is."""
        record = self.instances.iloc[row]
        return {name: str(record[name]) for name in ("patient_id", "study_uid", "series_uid", "sop_uid", "path")}


def _find_annotated(job: tuple[Study | None, str]) -> AnnotatedVolume | None:
    """Find the CT of one SEG series of a study; None where its frames cannot be read."""
    study, uid = job
    return None if study is None else find_annotated(study, next(s for s in study.series if s.series_uid == uid))


def _label(job: tuple[Path, pd.DataFrame, pd.DataFrame, Depth]) -> pd.DataFrame:
    """Label the phases of some patients."""
    root, instances, problems, depth = job
    return label_phases(Collection(root, instances.reset_index(drop=True), problems), depth=depth, workers=1)


def series_place(rows: pd.DataFrame) -> dict[str, str]:
    """Return the fields of a finding that say which series `rows` are of."""
    first = rows.iloc[0]
    return {name: str(first[name]) for name in ("patient_id", "study_uid", "series_uid")}
