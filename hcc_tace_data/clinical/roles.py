"""What each column of the clinical table may be used for: known at baseline, treatment, known later, or outcome.

A model that predicts an outcome may use what was known before treatment and nothing else. Loaders, outcome models and
the docs read this one table.
"""

from __future__ import annotations

import re
from typing import Literal

from hcc_tace_data.errors import UsageError

__all__ = ["OUTCOMES", "Role", "role_of"]

Role = Literal["id", "baseline", "treatment", "post", "outcome"]

#: Endpoints and what is derived from them.
OUTCOMES = ("ttp_weeks", "progressed", "os_weeks", "died", "tace_response")

_ROLES: dict[str, Role] = {
    "patient_id": "id",
    "chemotherapy": "treatment",
    "interval_fu_weeks": "post",
    "reader1_easl_code": "post",
    **dict.fromkeys(OUTCOMES, "outcome"),
    **dict.fromkeys(
        (
            "interval_bl_days", "age_years", "age_group", "sex", "smoking", "alcohol", "family_history_cancer",
            "family_history_liver_cancer", "diabetes", "personal_history_cancer", "hepatitis", "cirrhosis", "pathology",
            "performance_status_bclc", "child_pugh", "tumour_size_cm", "tumour_nodularity", "vascular_invasion",
            "metastasis", "lymph_nodes", "portal_vein_thrombosis", "tumour_involvement", "afp_ng_ml", "afp_group",
            "clip_score", "clip_group", "okuda", "tnm", "bclc",
        ),
        "baseline",
    ),
}  # fmt: skip

#: Response measurements: those of the baseline CT, and everything that the follow-up decides.
_PATTERNS: tuple[tuple[str, Role], ...] = (
    (r"reader\d_(easl|recist|mrecist)_bl_(mm|mm2)", "baseline"),
    (r"reader\d_(easl|recist|mrecist)_fu_(mm|mm2)", "post"),
    (r"reader\d_(recist|mrecist)", "post"),
    (r"reader\d_(recist|mrecist)_change_pct", "post"),
    (r"(recist|mrecist)_consensus", "post"),
)


def role_of(column: str) -> Role:
    """Return the role of a column of the clinical table.

    Raises
    ------
    UsageError
        No such column.

    Examples
    --------
    >>> role_of("afp_ng_ml"), role_of("reader1_recist_fu_mm"), role_of("os_weeks")
    ('baseline', 'post', 'outcome')
    """
    if column in _ROLES:
        return _ROLES[column]
    for pattern, role in _PATTERNS:
        if re.fullmatch(pattern, column):
            return role
    raise UsageError(f"the clinical table has no column {column!r}; see hcc_tace_data.clinical.COLUMNS.")
