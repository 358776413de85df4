"""The 57 columns of the clinical sheet: header, snake_case name, type, unit and meaning.

Definitions follow the sheet's own glossary; what the glossary leaves open is said in `note`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["COLUMNS", "CRITERIA", "READERS", "RESPONSES", "Column", "by_header", "by_name", "name_of"]

Kind = Literal["id", "integer", "number", "flag", "category"]

#: Response categories of RECIST 1.1 and mRECIST; the sheet codes them 1 to 4 in this order.
RESPONSES = ("CR", "PR", "SD", "PD")
#: Readers of the response measurements, by the digit that starts their headers.
READERS = (1, 2, 3)
#: Response criteria that all three readers recorded.
CRITERIA = ("recist", "mrecist")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the sheet.

    Attributes
    ----------
    header : str
        As the sheet spells it.
    name : str
        As :func:`hcc_tace_data.load_clinical` calls it.
    kind : {"id", "integer", "number", "flag", "category"}
        Type of the loaded column.
    definition : str
        Meaning, from the sheet's glossary.
    unit : str
        Unit of measurement, or the empty string.
    codes : tuple of (object, str)
        For categories: value in the sheet and category it becomes, in the order of the categories.
    ordered : bool
        Whether the categories are ordered.
    minimum, maximum : float or None
        Bounds that a plausible value keeps (inclusive).
    required : bool
        Whether every patient has a value.
    """

    header: str
    name: str
    kind: Kind
    definition: str
    unit: str = ""
    codes: tuple[tuple[object, str], ...] = ()
    ordered: bool = False
    minimum: float | None = None
    maximum: float | None = None
    required: bool = True


def _same(*values: str) -> tuple[tuple[object, str], ...]:
    return tuple((value, value) for value in values)


def _flag(header: str, name: str, definition: str) -> Column:
    return Column(header=header, name=name, kind="flag", definition=definition)


def _measurements() -> list[Column]:
    """Columns of the response measurements: EASL by reader 1, RECIST and mRECIST by all three."""
    columns = [
        Column(
            header=f"1_EASL_{visit}",
            name=f"reader1_easl_{visit.lower()}_mm2",
            kind="number",
            unit="mm2",
            minimum=0,
            maximum=100_000,
            required=False,
            definition=f"EASL reading of reader 1, {study} study: enhancing area",
        )
        for visit, study in (("BL", "baseline"), ("FU", "follow-up"))
    ]
    columns.append(
        Column(
            header="1_EASL",
            name="reader1_easl_code",
            kind="integer",
            minimum=1,
            maximum=4,
            required=False,
            definition=(
                "EASL response code of reader 1. The glossary does not define it: in the published sheet it is 3 where "
                "no enhancing tumour is left and 4 otherwise, so it is kept as a number"
            ),
        )
    )
    for criterion, label in (("recist", "RECIST"), ("mrecist", "mRECIST")):
        for reader in READERS:
            for visit, study in (("BL", "baseline"), ("FU", "follow-up")):
                columns.append(
                    Column(
                        header=f"{reader}_{label}_{visit}",
                        name=f"reader{reader}_{criterion}_{visit.lower()}_mm",
                        kind="number",
                        unit="mm",
                        minimum=0,
                        maximum=1_000,
                        required=False,
                        definition=f"{label} reading of reader {reader}, {study} study: sum of diameters",
                    )
                )
            columns.append(
                Column(
                    header=f"{reader}_{label}",
                    name=f"reader{reader}_{criterion}",
                    kind="category",
                    codes=tuple((code, name) for code, name in enumerate(RESPONSES, start=1)),
                    ordered=True,
                    required=False,
                    definition=f"{label} response by reader {reader}",
                )
            )
    return columns


#: All columns, in the order of the sheet.
COLUMNS: tuple[Column, ...] = (
    Column(header="TCIA_ID", name="patient_id", kind="id", definition="PatientID of the collection"),
    Column(
        header="Interval_BL",
        name="interval_bl_days",
        kind="integer",
        unit="days",
        minimum=-3_650,
        maximum=3_650,
        definition="Date of diagnosis minus date of the baseline CT",
    ),
    Column(
        header="Interval_FU",
        name="interval_fu_weeks",
        kind="number",
        unit="weeks",
        minimum=-104,
        maximum=104,
        required=False,
        definition="From the baseline study before TACE to the follow-up study after it",
    ),
    Column(
        header="TTP",
        name="ttp_weeks",
        kind="number",
        unit="weeks",
        minimum=0,
        maximum=1_500,
        definition="Time from TACE to radiological progression by mRECIST, or to censoring",
    ),
    _flag("Death_1_StillAliveorLostToFU_0", "died", "Died; false if still alive or lost to follow-up"),
    _flag("Censored_0_progressed_1", "progressed", "Progressed; false if censored for time to progression"),
    Column(
        header="OS",
        name="os_weeks",
        kind="number",
        unit="weeks",
        minimum=0,
        maximum=1_500,
        definition="Overall survival: time to death, or to the last sign of life",
    ),
    Column(
        header="hepatitis",
        name="hepatitis",
        kind="category",
        codes=_same("No virus", "HBV only", "HCV only", "HCV and HBV"),
        definition="Hepatitis status",
    ),
    Column(
        header="age",
        name="age_years",
        kind="integer",
        unit="years",
        minimum=18,
        maximum=110,
        definition="Age at diagnosis",
    ),
    Column(
        header="agegp",
        name="age_group",
        kind="category",
        ordered=True,
        codes=_same("<=40", "41-50", "51-60", "61-70", ">70"),
        definition="Age group in years",
    ),
    Column(header="Sex", name="sex", kind="category", codes=((1, "male"), (2, "female")), definition="Sex"),
    _flag("Smoking", "smoking", "Smoking"),
    _flag("Alcohol", "alcohol", "Alcohol use"),
    _flag("fhx_can", "family_history_cancer", "Family history of cancer"),
    _flag("fhx_livc", "family_history_liver_cancer", "Family history of liver cancer"),
    _flag("Diabetes", "diabetes", "Diabetes"),
    _flag("Personal history of cancer", "personal_history_cancer", "Personal history of cancer"),
    _flag("Evidence_of_cirh", "cirrhosis", "Evidence of cirrhosis"),
    Column(
        header="Pathology",
        name="pathology",
        kind="category",
        codes=_same(
            "Well differentiated",
            "Well-moderately differentiated",
            "Moderately differentiated",
            "Moderately-poorly differentiated",
            "Poorly differentiated",
            "NOT STATED",
            "No biopsy",
        ),
        definition="Pathological grade (differentiation)",
    ),
    Column(
        header="PS_bclc_0_0_1-2_1_3-4_3",
        name="performance_status_bclc",
        kind="category",
        ordered=True,
        codes=((0, "0"), (1, "1-2"), (3, "3-4")),
        definition="ECOG performance status as BCLC groups it (coded 0 for 0, 1 for 1-2, 3 for 3-4)",
    ),
    Column(
        header="CPS",
        name="child_pugh",
        kind="category",
        ordered=True,
        codes=_same("A", "B", "C"),
        definition="Child-Pugh class of cirrhosis",
    ),
    Column(
        header="Tr_Size",
        name="tumour_size_cm",
        kind="number",
        unit="cm",
        minimum=0.1,
        maximum=40,
        required=False,
        definition="Tumour size",
    ),
    Column(
        header="tumor_nodul",
        name="tumour_nodularity",
        kind="category",
        codes=_same("uninodular", "multinodular"),
        definition="Tumour nodularity",
    ),
    _flag("Vascular invasion", "vascular_invasion", "Vascular invasion"),
    _flag("Metastasis", "metastasis", "Metastasis"),
    _flag("Lymphnodes", "lymph_nodes", "Lymph node involvement"),
    _flag("Portal Vein Thrombosis", "portal_vein_thrombosis", "Portal vein thrombosis"),
    Column(
        header="T_involvment",
        name="tumour_involvement",
        kind="category",
        ordered=True,
        codes=(("< or = 50%", "<=50%"), (">50%", ">50%")),
        definition="Share of the liver that the tumour involves",
    ),
    Column(
        header="AFP",
        name="afp_ng_ml",
        kind="number",
        unit="ng/ml",
        minimum=0,
        maximum=10_000_000,
        definition="Alpha-fetoprotein level",
    ),
    Column(
        header="AFP_group",
        name="afp_group",
        kind="category",
        ordered=True,
        codes=_same("<400", ">=400"),
        definition="Alpha-fetoprotein group, ng/ml",
    ),
    Column(
        header="CLIP_Score",
        name="clip_score",
        kind="category",
        ordered=True,
        codes=tuple((f"Stage_{score}", str(score)) for score in range(7)),
        definition="Cancer of the Liver Italian Program score, 0 to 6",
    ),
    Column(
        header="CLIP",
        name="clip_group",
        kind="category",
        ordered=True,
        codes=(("Stage_ 0-2", "0-2"), ("Stage_3", "3"), ("Stage_4-6", "4-6")),
        definition="CLIP score in three groups",
    ),
    Column(
        header="Okuda",
        name="okuda",
        kind="category",
        ordered=True,
        codes=(("Stage I", "I"), ("Stage II", "II"), ("Stage III", "III")),
        definition="Okuda stage",
    ),
    Column(
        header="TNM",
        name="tnm",
        kind="category",
        ordered=True,
        codes=tuple((f"Stage-{stage}", stage) for stage in ("I", "II", "IIIA", "IIIB", "IIIC", "IVA", "IVB")),
        definition="TNM stage",
    ),
    Column(
        header="BCLC",
        name="bclc",
        kind="category",
        ordered=True,
        codes=tuple((f"Stage-{stage}", stage) for stage in ("0", "A", "B", "C", "D")),
        definition="Barcelona Clinic Liver Cancer stage (1999)",
    ),
    Column(
        header="chemotherapy",
        name="chemotherapy",
        kind="category",
        required=False,
        codes=(
            ("doxorubicin LC beads", "doxorubicin LC beads"),
            ("Cisplatin, doxorubicin, Mitomycin-C", "cisplatin, doxorubicin, mitomycin-C"),
            ("Cisplatin, Mitomycin-C", "cisplatin, mitomycin-C"),
            ("Cisplatin", "cisplatin"),
        ),
        definition="Chemotherapy used for TACE; missing where the sheet says 'NA' (details of the procedure not known)",
    ),
    *_measurements(),
)

_BY_HEADER = {column.header: column for column in COLUMNS}
_BY_NAME = {column.name: column for column in COLUMNS}


def by_header(header: str) -> Column:
    """Return the column with this header of the sheet (KeyError if missing)."""
    return _BY_HEADER[header]


def by_name(name: str) -> Column:
    """Return the column with this snake_case name (KeyError if missing)."""
    return _BY_NAME[name]


#: Names for people of columns whose own name would not do.
_NAMES = {
    "age_years": "Age",
    "sex": "Sex",
    "tace_response": "TACE response",
    "performance_status_bclc": "Performance status (BCLC)",
    "afp_ng_ml": "AFP",
    "afp_group": "AFP group",
    "clip_score": "CLIP score",
    "clip_group": "CLIP",
    "tnm": "TNM stage",
    "bclc": "BCLC stage",
    "okuda": "Okuda stage",
    "child_pugh": "Child-Pugh class",
    "ttp_weeks": "Time to progression",
    "os_weeks": "Overall survival",
    "interval_fu_weeks": "Baseline to follow-up CT",
    "mrecist_consensus": "mRECIST consensus",
    "tumour_involvement": "Liver involved",
}


def name_of(column: str) -> str:
    """Return a column's name for people."""
    return _NAMES.get(column, column.removesuffix("_cm").replace("_", " ").capitalize())
