"""Which contrast phase each CT volume is.

The published table (:mod:`hcc_tace_data.facts.published`) decides for the series that it lists. Three more sources are
combined by :mod:`hcc_tace_data.phases.model`: the series table (:mod:`hcc_tace_data.phases.table`), the headers
(:mod:`hcc_tace_data.phases.headers`) and the enhancement of aorta, portal vein and liver in the pixels
(:mod:`hcc_tace_data.phases.pixels`). What each says alone is kept beside the result, as they may disagree.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hcc_tace_data.collection.annotated import find_annotated
from hcc_tace_data.errors import UsageError
from hcc_tace_data.facts.published import published_phases
from hcc_tace_data.phases.model import PUBLISHED_RIGHT
from hcc_tace_data.phases.names import KNOWN
from hcc_tace_data.phases.table import label_day
from hcc_tace_data.phases.visits_kept import COLUMNS, Visit, keep_visits, recall_visits, visits_of
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd

    from hcc_tace_data.collection.model import Collection, Series, Study
    from hcc_tace_data.facts.published import PublishedPhases
    from hcc_tace_data.phases.organ_masks import OrganMasks
    from hcc_tace_data.phases.table import TableLabel
    from hcc_tace_data.phases.visit import Judgement, VisitVolume

__all__ = [
    "COLUMNS", "PUBLISHED_FILE", "count_phases", "label_phases", "label_table", "label_visit", "overruled",
    "phase_frame", "phase_paths", "published_for", "refuted",
]  # fmt: skip

logger = logging.getLogger(__name__)

Depth = Literal["headers", "pixels"]
#: A published table of phases that a folder brings along, in place of the shipped one.
PUBLISHED_FILE = "published_phases.csv"
_OVERRULE = "pixels overrule"
_REFUTE = "pixels refute"
_THREADS = 2


def label_phases(
    collection: Collection,
    *,
    depth: Depth = "pixels",
    published: bool = True,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Label the contrast phase of every CT volume of a collection on disk.

    Parameters
    ----------
    collection : Collection
        From :func:`hcc_tace_data.open_collection`.
    depth : {"pixels", "headers"}
        Whether to look at a few slices of each volume, or at the headers only.
    published : bool
        Whether the published table decides for the series that it lists; False shows what the general rules give.
        A folder may bring its own table, ``published_phases.csv``. A twin has none: its UIDs are its own.
    workers : int, optional
        Threads that look at pixels; default two.
    progress : callable, optional
        Called with (patients done, patients) after each.

    Returns
    -------
    pandas.DataFrame
        One row per phase volume, with :data:`COLUMNS`. `volume` counts from 0 within a stacked series, in order of
        acquisition. `source` is "published" where the series holds as many volumes as the published table says, and
        `phase` is then the published one; else it is "inferred", and `phase` is "unknown" where no phase is likelier
        than 0.6. `confidence` is the probability of the phase by all sources together; `evidence` is a tuple of texts,
        at least one per source; `annotated` says whether a SEG of the study was drawn on the volume, None where that
        is unclear; `instances` counts slices; `phase_published`, `phase_table`, `phase_headers` and `phase_pixels`
        are what each source says alone, "unknown" where it says nothing or was not asked.

    Raises
    ------
    UsageError
        Another `depth`.

    Notes
    -----
    The volumes of one patient's day are labelled together, also where they are spread over several studies. A file
    whose pixels cannot be read is named in the evidence, and its volume labelled by the other sources.
    """
    _check(depth)
    known = published_for(collection.root) if published else {}
    rows: list[dict[str, Any]] = []
    for done, patient in enumerate(collection.values(), start=1):
        for visit in visits_of(patient, depth, known):
            rows += _rows_of(visit, workers or _THREADS)
        if progress is not None:
            progress(done, len(collection))
    return phase_frame(rows)


def phase_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows of :func:`label_visit` as a table; the log says where pixels contradict other sources."""
    volumes = _frame(rows)
    changed = overruled(volumes)
    if len(changed):
        logger.warning("pixels overrule the description of %s: %s", count(len(changed), "volume"), _names(changed))
    against = refuted(volumes)
    if len(against):
        logger.warning(
            "pixels contradict the published phase of %s: %s", count(len(against), "volume"), _names(against)
        )
    return volumes


def published_for(root: Path) -> Mapping[str, PublishedPhases]:
    """Return the published phases for a folder: its own table where it has one, else the shipped one."""
    own = Path(root) / PUBLISHED_FILE
    return published_phases(own if own.is_file() else None)


def label_table(table: pd.DataFrame, *, published: bool = True) -> pd.DataFrame:
    """Label the contrast phase of every CT volume from a series table alone, with no data on disk.

    Parameters
    ----------
    table : pandas.DataFrame
        From :func:`hcc_tace_data.facts.series_table.load_series_table`.
    published : bool
        Whether the published table decides for the series that it lists.

    Returns
    -------
    pandas.DataFrame
        As :func:`label_phases` gives; `annotated` is None, and `instances` of a stacked series are shared out evenly.
    """
    scans = table[table["modality"] == "CT"]
    known = published_phases() if published else {}
    rows: list[dict[str, Any]] = []
    for (_, day), visit in scans.groupby(["patient_id", "study_date"], sort=True):
        records = visit.sort_values(["series_number", "series_uid"]).to_dict("records")
        labels = label_day([{str(key): value for key, value in record.items()} for record in records])
        for record in records:
            rows += _table_rows(record, str(day), labels[str(record["series_uid"])], known)
    return _frame(rows)


def _table_rows(
    record: Mapping[Any, Any], day: str, label: TableLabel, known: Mapping[str, PublishedPhases]
) -> list[dict[str, Any]]:
    """Return the rows of one series, its slices shared out evenly."""
    one = known.get(str(record["series_uid"]))
    phases = one.phases if one is not None else label.phases
    share, more = divmod(int(record["instances"]), len(phases))
    rows = []
    for volume, phase in enumerate(phases):
        own = label.phases[volume] if volume < len(label.phases) else "unknown"
        evidence = (f"published: {phase}",) if one is not None else ()
        confidence = PUBLISHED_RIGHT if one is not None else label.confidence
        rows.append(
            {
                **{key: record[key] for key in ("patient_id", "study_uid", "series_uid", "series_number")},
                "study_date": day,
                "description": record["series_description"],
                "volume": volume,
                "phase": phase,
                "source": "published" if one is not None else "inferred",
                "confidence": confidence if phase != "unknown" else 0.0,
                "evidence": (*evidence, f"table: {own} ({label.reason})"),
                "annotated": None,
                "instances": share + (volume < more),
                "phase_published": phase if one is not None else "unknown",
                "phase_table": own,
                "phase_headers": "unknown",
                "phase_pixels": "unknown",
            }
        )
    return rows


def count_phases(volumes: pd.DataFrame) -> dict[str, int]:
    """Count volumes by phase, and the series that hold several.

    Returns
    -------
    dict of str to int
        `volumes`, each phase, `unknown`, and `stacked_series`.
    """
    stacked = int((volumes.groupby("series_uid").size() > 1).sum()) if len(volumes) else 0
    counts = {phase: int((volumes["phase"] == phase).sum()) for phase in (*KNOWN, "unknown")}
    return {"volumes": len(volumes), **counts, "stacked_series": stacked}


def _names(volumes: pd.DataFrame, most: int = 5) -> str:
    names = list(dict.fromkeys(f"{row.patient_id} series {row.series_number}" for row in volumes.itertuples()))
    return ", ".join(names[:most]) + (" ..." if len(names) > most else "")


def overruled(volumes: pd.DataFrame) -> pd.DataFrame:
    """Return the volumes of a phase table whose SeriesDescription names a phase that the pixels refute."""
    return _marked(volumes, _OVERRULE)


def refuted(volumes: pd.DataFrame) -> pd.DataFrame:
    """Return the volumes of a phase table whose published phase the pixels contradict beyond doubt."""
    return _marked(volumes, _REFUTE)


def _marked(volumes: pd.DataFrame, mark: str) -> pd.DataFrame:
    return volumes[[any(text.startswith(mark) for text in texts) for texts in volumes["evidence"]]]


def phase_paths(study: Study) -> Mapping[str, tuple[Path, ...]]:
    """Return the files of each phase of a study, by published table, series table and headers (no pixels are read).

    Parameters
    ----------
    study : Study
        Its volumes are labelled without those of other studies of the day.

    Returns
    -------
    dict of str to tuple of pathlib.Path
        Phase -> files of its volume, along +normal. Of two volumes of a phase the one with the higher confidence is
        taken, then the one with more slices. Volumes of unknown phase are left out.
    """
    from hcc_tace_data.phases.visit import judge, volumes_of  # noqa: PLC0415 - its libraries are slow to import

    volumes = volumes_of(_scans([study]))
    best: dict[str, tuple[float, int]] = {}
    paths: dict[str, tuple[Path, ...]] = {}
    for volume, found in zip(volumes, judge(volumes, published=published_for(study.root)), strict=True):
        rank = round(found.confidence, 4), len(volume.rows)
        if found.phase != "unknown" and rank > best.get(found.phase, (0.0, 0)):
            best[found.phase] = rank
            paths[found.phase] = tuple(study.root / path for path in volume.rows["path"])
    return {phase: paths[phase] for phase in KNOWN if phase in paths}


def _check(depth: str) -> None:
    if depth not in ("headers", "pixels"):
        raise UsageError(f"there is no depth {depth!r}; use 'headers' or 'pixels'.")


def _scans(studies: Sequence[Study]) -> list[Series]:
    return [series for study in studies for series in study.series if series.modality == "CT"]


def _rows_of(visit: Visit, workers: int) -> list[dict[str, Any]]:
    """Return the rows of one visit, kept or made."""
    (known,) = recall_visits([visit])
    if known is not None:
        return known
    rows, whole = label_visit(visit, workers)
    if whole:
        keep_visits({visit: rows})
    return rows


def label_visit(visit: Visit, workers: int = 1) -> tuple[list[dict[str, Any]], bool]:
    """Label the volumes of one visit.

    Returns
    -------
    rows : list of dict
        Rows of the phase table, as plain values.
    whole : bool
        Whether all files could be read; if not, the rows may be others the next time.
    """
    from hcc_tace_data.phases.pixels import UNREAD, measure_volumes  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.phases.visit import judge, volumes_of  # noqa: PLC0415 - its libraries are slow to import

    studies = visit.studies
    volumes = volumes_of(_scans(studies))
    enhancement = None
    whole = True
    if visit.depth == "pixels":
        masks: dict[str, OrganMasks | None] = {}
        for study in studies:
            masks[study.study_uid], read = _masks(study)
            whole &= read
        enhancement = measure_volumes(
            [(volume.rows, volume.series.root, masks[volume.series.study_uid]) for volume in volumes], workers=workers
        )
        whole &= not any(found.reason.startswith(UNREAD) for found in enhancement)
    drawn: dict[str, tuple[str, int] | None] = {}
    for study in studies:
        if study.segmentation is not None:
            drawn[study.study_uid], read = _drawn(study)
            whole &= read
    found = judge(volumes, enhancement, visit.published)
    return [_row(visit.day, volume, one, drawn) for volume, one in zip(volumes, found, strict=True)], whole


def _row(
    day: str, volume: VisitVolume, found: Judgement, drawn: Mapping[str, tuple[str, int] | None]
) -> dict[str, Any]:
    series = volume.series
    annotated: bool | None = False
    if series.study_uid in drawn:
        target = drawn[series.study_uid]
        annotated = None if target is None else target == (series.series_uid, volume.number)
    return {
        "patient_id": series.patient_id,
        "study_date": day,
        "study_uid": series.study_uid,
        "series_uid": series.series_uid,
        "series_number": series.number,
        "description": series.description,
        "volume": volume.number,
        "phase": found.phase,
        "source": found.source,
        "confidence": round(found.confidence, 4),
        "evidence": found.evidence,
        "annotated": annotated,
        "instances": len(volume.rows),
        "phase_published": found.published,
        "phase_table": found.table,
        "phase_headers": found.headers,
        "phase_pixels": found.pixels,
    }


def _masks(study: Study) -> tuple[OrganMasks | None, bool]:
    """Return the organs of the study's segmentation, None where they are missing, and whether it could be read."""
    from hcc_tace_data.phases.organ_masks import load_masks  # noqa: PLC0415 - its libraries are slow to import

    if study.segmentation is None:
        return None, True
    try:
        return load_masks(study.segmentation.paths[0]), True
    except Exception as error:  # whatever one file holds, the other studies are labelled
        logger.warning("the masks of study %s are not used: %s", study.study_uid, _without_path(error, study))
        return None, False


def _without_path(error: Exception, study: Study) -> str:
    """Return what an error says, without the path of the segmentation: folders may be named after people."""
    path = study.segmentation.paths[0] if study.segmentation is not None else ""
    return str(error).replace(str(path), "its file")


def _drawn(study: Study) -> tuple[tuple[str, int] | None, bool]:
    """Return the series and volume that the study's segmentation was drawn on, and whether it could be read.

    None for the former where it cannot be determined.
    """
    try:
        found = study.fact(find_annotated)
    except Exception as error:
        reason = _without_path(error, study)
        logger.warning(
            "what the segmentation of study %s was drawn on cannot be determined: %s", study.study_uid, reason
        )
        return None, False
    if found.volume is None:
        logger.info("study %s: %s", study.study_uid, found.reason)
        return None, True
    return (found.volume.series_uid, found.volume.volume), True


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["series_number"] = frame["series_number"].astype("Int64")
    frame["confidence"] = frame["confidence"].astype(float)  # of no rows as well
    return frame
