"""The typed clinical table as a pandera schema, for those who change it or make one of their own."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from hcc_tace_data.clinical.columns import COLUMNS, Column

if TYPE_CHECKING:
    import pandera.pandas as pa

__all__ = ["table_schema"]

_DTYPES = {"id": "string", "integer": "Int64", "number": "Float64", "flag": "boolean"}


@cache
def table_schema() -> pa.DataFrameSchema:
    """Return the schema of what :func:`hcc_tace_data.load_clinical` gives: types, ranges, categories.

    Derived columns are let through unchecked. The schema holds for the columns alone; whether they contradict each
    other is for :func:`hcc_tace_data.clinical.check_sheet` to say.

    Examples
    --------
    >>> table_schema().columns["age_years"].dtype
    DataType(Int64)
    """
    import pandera.pandas as pa

    return pa.DataFrameSchema({column.name: _column(column) for column in COLUMNS}, strict=False, name="clinical table")


def _column(column: Column) -> pa.Column:
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
        checks.append(pa.Check.str_matches(r"^HCC_\d{3}$"))
    return pa.Column(
        dtype,
        checks=checks,
        nullable=not column.required,
        unique=column.kind == "id",
        title=column.header,
        description=column.definition,
        metadata={"unit": column.unit},
    )
