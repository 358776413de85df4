"""The typed clinical table as a pandera schema, for code that changes it or makes its own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from hcc_tace_data.clinical.columns import COLUMNS, Column
from hcc_tace_data.facts.catalog import Catalog, load_catalog

if TYPE_CHECKING:
    import pandera.pandas as pa

__all__ = ["table_schema"]

_DTYPES = {"id": "string", "integer": "Int64", "number": "Float64", "flag": "boolean"}


def table_schema(catalog: Catalog | None = None) -> pa.DataFrameSchema:
    """Return the schema of what :func:`hcc_tace_data.load_clinical` gives: types, ranges, categories.

    Derived columns are not checked. The schema covers each column on its own;
    :func:`hcc_tace_data.clinical.check_sheet` finds columns that contradict each other. `catalog` has the form of
    PatientIDs; default: the catalogue of HCC-TACE-Seg.

    Examples
    --------
    >>> table_schema().columns["age_years"].dtype
    DataType(Int64)
    """
    return _schema((load_catalog() if catalog is None else catalog).identity.patient_id_pattern)


@cache
def _schema(patient_id: str) -> pa.DataFrameSchema:
    import pandera.pandas as pa

    columns = {column.name: _column(column, patient_id) for column in COLUMNS}
    return pa.DataFrameSchema(columns, strict=False, name="clinical table")


def _column(column: Column, patient_id: str) -> pa.Column:
    import pandas as pd
    import pandera.pandas as pa

    dtype: Any = _DTYPES.get(column.kind)
    if column.kind == "category":
        names = list(dict.fromkeys(name for _, name in column.codes))
        dtype = pd.CategoricalDtype(names, ordered=column.ordered)
    checks = []
    if column.minimum is not None:
        checks.append(pa.Check.ge(column.minimum))
    if column.maximum is not None:
        checks.append(pa.Check.le(column.maximum))
    if column.kind == "id":
        checks.append(pa.Check.str_matches(rf"^(?:{patient_id})$"))
    return pa.Column(
        dtype,
        checks=checks,
        nullable=not column.required,
        unique=column.kind == "id",
        title=column.header,
        description=column.definition,
        metadata={"unit": column.unit},
    )
