"""The twin's clinical sheet: invented patients whose columns agree with each other and with the images."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import numpy as np

from hcc_tace_data.facts.published import published_anatomy
from hcc_tace_data.phantom.seeding import generator
from hcc_tace_data.system.files import atomic_path

__all__ = ["GLOSSARY", "SHEET_NAME", "Course", "clinical_row", "days_to_baseline", "draw_course", "write_sheet"]

SHEET_NAME = "HCC-TACE-Seg_clinical_data-V2.xlsx"

#: The columns of the official sheet, in its order, each with a short explanation.
GLOSSARY: Mapping[str, str] = {
    "TCIA_ID": "Patient ID",
    "Interval_BL": "Days between diagnosis and baseline CT",
    "Interval_FU": "Weeks between baseline and follow-up CT",
    "TTP": "Time to progression (weeks)",
    "Death_1_StillAliveorLostToFU_0": "Died = 1, alive or lost to follow-up = 0",
    "Censored_0_progressed_1": "Censored = 0, progressed = 1",
    "OS": "Overall survival (weeks)",
    "hepatitis": "Hepatitis status",
    "age": "Age in years at diagnosis",
    "agegp": "Age group",
    "Sex": "1=Male, 2=Female",
    "Smoking": "Y = 1 N = 0",
    "Alcohol": "Y = 1 N = 0",
    "fhx_can": "Family history of cancer, Y = 1 N = 0",
    "fhx_livc": "Family history of liver cancer, Y = 1 N = 0",
    "Diabetes": "Y = 1 N = 0",
    "Personal history of cancer": "Y = 1 N = 0",
    "Evidence_of_cirh": "Evidence of cirrhosis, Y = 1 N = 0",
    "Pathology": "Pathological grading",
    "PS_bclc_0_0_1-2_1_3-4_3": "Performance status for the BCLC classification",
    "CPS": "Child-Pugh class (A, B, C)",
    "Tr_Size": "Tumour size (cm)",
    "tumor_nodul": "Tumour nodularity",
    "Vascular invasion": "Y = 1 N = 0",
    "Metastasis": "Y = 1 N = 0",
    "Lymphnodes": "Y = 1 N = 0",
    "Portal Vein Thrombosis": "Y = 1 N = 0",
    "T_involvment": "Tumour involvement of the liver",
    "AFP": "Alpha-fetoprotein (ng/ml)",
    "AFP_group": "Alpha-fetoprotein group",
    "CLIP_Score": "CLIP score (0-6)",
    "CLIP": "CLIP score group",
    "Okuda": "Okuda stage",
    "TNM": "TNM stage",
    "BCLC": "BCLC stage",
    "chemotherapy": "Chemotherapy of the TACE procedure",
    "1_EASL_BL": "EASL, reader 1, baseline (mm2)",
    "1_EASL_FU": "EASL, reader 1, follow-up (mm2)",
    "1_EASL": "EASL response, reader 1",
    **{
        f"{reader}_{rule}{suffix}": f"{rule}, reader {reader}, {text}"
        for rule in ("RECIST", "mRECIST")
        for reader in (1, 2, 3)
        for suffix, text in (("_BL", "baseline (mm)"), ("_FU", "follow-up (mm)"), ("", "response"))
    },
}


#: Size of the real cohort, and how many of it (first reader, mRECIST) were PD, CR and PR.
COHORT = 105
_PROGRESSIVE, _COMPLETE, _PARTIAL = 6, 22, 44
#: Progressed in the end; progressed early, so that some are refractory to the treatment.
_PROGRESSED, _EARLY = 45, 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What images and sheet of a patient agree on.

    Attributes
    ----------
    tumour_mm : float
        Largest diameter at baseline, mm.
    shrink : float
        Whole diameter at follow-up over the one at baseline.
    viable : tuple of float
        Viable diameter over whole diameter, at baseline and at follow-up.
    """

    tumour_mm: float
    shrink: float
    viable: tuple[float, float]


def _rank(seed: int, name: str, patient_id: str) -> int:
    """Place of a patient in a shuffled cohort: the first 37 of one shuffle are women, and so on.

    Shares taken this way are those of the real cohort exactly, when all its patients are made.
    """
    order = generator("cohort", seed, name).permutation(COHORT)
    return int(np.flatnonzero(order == (int(patient_id[-3:]) - 1) % COHORT)[0])


def draw_course(seed: int, patient_id: str) -> Course:
    """Return the published size, and draw the response: by mRECIST, CR, PR, SD and PD are as many as in the cohort."""
    g = generator("course", seed, patient_id)
    drawn = float(np.clip(np.exp(g.normal(np.log(70.0), 0.5)), 24.0, 180.0))
    size = published_anatomy().get(patient_id, {}).get("tumour_diameter", drawn)
    rank = _rank(seed, "progression", patient_id)
    viable = float(g.uniform(0.65, 0.95))
    if patient_id == "HCC_017":  # its necrosis is a segment of its own, so there must be some to see
        viable = min(viable, 0.6)
    shrink = float(np.clip(g.normal(0.92, 0.16), 0.55, 1.14))
    if rank < _PROGRESSIVE:
        shrink = float(g.uniform(1.28, 1.4))
        after = viable * float(g.uniform(1.3, 1.4)) / shrink
    elif rank >= COHORT - _COMPLETE:
        after = 0.0
    elif rank >= COHORT - _COMPLETE - _PARTIAL:
        after = viable * float(g.uniform(0.3, 0.62)) / shrink
    else:
        after = viable * float(g.uniform(0.8, 1.08)) / shrink
    return Course(tumour_mm=round(size, 1), shrink=shrink, viable=(viable, float(min(after, 1.0))))


def _code(before: float, after: float) -> int:
    """1 complete, 2 partial response, 3 stable, 4 progressive disease."""
    if after == 0:
        return 1
    change = (after - before) / before
    return 2 if change <= -0.3 else 4 if change >= 0.2 else 3


def _absent_readers(rank: int) -> tuple[int, ...]:
    """Readers whose measurements the sheet lacks: of 105 patients 93 have all three, 96, 96 and 95 each."""
    return (1, 2, 3) if rank < 8 else {8: (1,), 9: (2,), 10: (3,), 11: (3,)}.get(rank, ())


def _sex(seed: int, patient_id: str) -> int:
    """1 male, 2 female (37 of the cohort); the one patient whose header tells is a woman."""
    women = _rank(seed, "sex", "HCC_017")
    rank = _rank(seed, "sex", patient_id)
    if patient_id == "HCC_017":
        rank = 0
    elif rank == 0:
        rank = women
    return 2 if rank < 37 else 1


def days_to_baseline(seed: int, patient_id: str) -> int:
    """Return the days from diagnosis to the first CT, as the sheet and the headers have them."""
    return int(generator("diagnosis", seed, patient_id).normal(15, 40))


def clinical_row(seed: int, patient_id: str, course: Course, visits: Sequence[str]) -> dict[str, object]:
    """Return one row of the sheet; `visits` are the dates (YYYYMMDD) of baseline and follow-up."""
    g = generator("clinical", seed, patient_id)
    first, last = (date(int(v[:4]), int(v[4:6]), int(v[6:])) for v in (visits[0], visits[-1]))
    weeks = (last - first).days / 7
    row: dict[str, object] = dict.fromkeys(GLOSSARY)

    def pick(values: Sequence[object], shares: Sequence[float]) -> object:
        return values[int(g.choice(len(values), p=np.array(shares) / np.sum(shares)))]

    def yes(share: float) -> int:
        return int(g.random() < share)

    absent = _absent_readers(_rank(seed, "readers", patient_id))
    for reader in (1, 2, 3):
        # The first reader measures what the images hold; the others differ, and differ between the visits.
        errors = (1.0, 1.0) if reader == 1 else tuple(g.uniform(0.95, 1.05, 2))
        whole = (course.tumour_mm * errors[0], course.tumour_mm * course.shrink * errors[1])
        for rule, (before, after) in (
            ("RECIST", whole),
            ("mRECIST", (whole[0] * course.viable[0], whole[1] * course.viable[1])),
        ):
            if reader in absent:
                continue
            before, after = round(float(before), 1), round(float(after), 1)
            row[f"{reader}_{rule}_BL"], row[f"{reader}_{rule}_FU"] = before, after
            row[f"{reader}_{rule}"] = _code(before, after)
    across = float(g.uniform(0.75, 0.95))
    if 1 not in absent:
        viable = (course.tumour_mm * course.viable[0], course.tumour_mm * course.shrink * course.viable[1])
        row["1_EASL_BL"], row["1_EASL_FU"] = (round(mm**2 * across, 2) for mm in viable)
        row["1_EASL"] = 3 if row["1_EASL_FU"] == 0 else 4
    rank = _rank(seed, "progression", patient_id)
    ttp = weeks
    if rank >= _PROGRESSIVE:
        ttp += float(g.exponential(6.0 if rank < _EARLY else 26.0))
    survival = ttp + 1.0 + float(g.exponential(80.0))
    age = int(np.clip(g.normal(67.5, 11.3), 31, 93))
    if patient_id == "HCC_017":  # the one whose header tells
        age = 79
    size = course.tumour_mm / 10
    afp = round(max(1.4, float(np.exp(g.normal(4.0, 2.8)))), 1)
    invaded, spread, nodes = yes(0.22), yes(0.07), yes(0.13)
    clip = int(g.choice(6, p=np.array([25, 39, 24, 12, 2, 3]) / 105))
    row.update(
        {
            "TCIA_ID": patient_id,
            "Interval_BL": days_to_baseline(seed, patient_id),
            "Interval_FU": round(weeks, 2),
            "TTP": round(ttp, 8),
            "Death_1_StillAliveorLostToFU_0": int(_rank(seed, "death", patient_id) < 93),
            "Censored_0_progressed_1": int(rank < _PROGRESSED),
            "OS": round(survival, 8),
            "hepatitis": pick(["No virus", "HCV only", "HCV and HBV", "HBV only"], [54, 26, 16, 9]),
            "age": age,
            "agegp": next(
                name
                for limit, name in ((40, "<=40"), (50, "41-50"), (60, "51-60"), (70, "61-70"), (200, ">70"))
                if age <= limit
            ),
            "Sex": _sex(seed, patient_id),
            "Smoking": yes(0.56),
            "Alcohol": yes(0.53),
            "fhx_can": yes(0.62),
            "fhx_livc": yes(0.07),
            "Diabetes": yes(0.33),
            "Personal history of cancer": yes(0.18),
            "Evidence_of_cirh": yes(0.74),
            "Pathology": pick(
                [
                    "Well differentiated",
                    "Moderately differentiated",
                    "NOT STATED",
                    "Poorly differentiated",
                    "No biopsy",
                ],
                [37, 32, 15, 14, 7],
            ),
            "PS_bclc_0_0_1-2_1_3-4_3": pick([1, 0, 3], [52, 51, 2]),
            "CPS": pick(["A", "B", "C"], [86, 18, 1]),
            "Tr_Size": round(size, 1) if g.random() < 0.5 else None,
            "tumor_nodul": pick(["multinodular", "uninodular"], [53, 52]),
            "Vascular invasion": invaded,
            "Metastasis": spread,
            "Lymphnodes": nodes,
            "Portal Vein Thrombosis": invaded and yes(0.7),
            "T_involvment": ">50%" if size > 11 else "< or = 50%",
            "AFP": afp,
            "AFP_group": ">=400" if afp >= 400 else "<400",
            "CLIP_Score": f"Stage_{clip}",
            "CLIP": "Stage_ 0-2" if clip <= 2 else "Stage_3" if clip == 3 else "Stage_4-6",
            "Okuda": pick(["Stage I", "Stage II", "Stage III"], [71, 33, 1]),
            "TNM": "Stage-IVB"
            if spread
            else "Stage-IVA"
            if nodes
            else "Stage-IIIB"
            if invaded
            else pick(["Stage-I", "Stage-II", "Stage-IIIA"], [34, 23, 15]),
            "BCLC": pick(["Stage-C", "Stage-B", "Stage-A", "Stage-D"], [66, 24, 12, 3])
            if not (invaded or spread or nodes)
            else "Stage-C",
            "chemotherapy": pick(
                ["Cisplatin, doxorubicin, Mitomycin-C", "doxorubicin LC beads", "NA", "Cisplatin, Mitomycin-C"],
                [52, 33, 17, 3],
            ),
        }
    )
    return row


def write_sheet(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the workbook: 'data table' (57 columns) and 'glossary' (57 x 2, no header)."""
    from openpyxl import Workbook

    book = Workbook()
    table = book.active
    table.title = "data table"
    table.append(list(GLOSSARY))
    for row in rows:
        table.append([row[name] for name in GLOSSARY])
    glossary = book.create_sheet("glossary")
    for name, text in GLOSSARY.items():
        glossary.append([name, text])
    # Fixed times inside the workbook, so that the same seed gives the same bytes.
    book.properties.created = book.properties.modified = datetime(2000, 1, 1)
    with atomic_path(path) as temporary:
        book.save(temporary)
        _fix_times(temporary)


def _fix_times(path: Path) -> None:
    """Rewrite the archive with one fixed time per member and no trace of when it was saved."""
    with zipfile.ZipFile(path) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            if name == "docProps/core.xml":
                data = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2000-01-01T00:00:00Z", data)
            info = zipfile.ZipInfo(name, (2000, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
