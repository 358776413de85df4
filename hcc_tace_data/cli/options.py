"""Options that several verbs have: one name, one help text, one way to read them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hcc_tace_data.errors import PatientNotFoundError
from hcc_tace_data.system.words import no_patient

__all__ = ["Annotations", "Json", "Patients", "Quiet", "Root", "StoreFolder", "chosen_patients", "names_of"]

Root = Annotated[
    Path | None, typer.Argument(help="Folder of the collection; default: $HCC_TACE_HOME, else the user's data folder.")
]
Patients = Annotated[
    list[str] | None,
    typer.Option("--patients", metavar="ID,...", help="Only these patients; may be repeated. Default: all."),
]
Annotations = Annotated[
    str, typer.Option("--annotations", help="Whose masks: collection, bamf, staple, a reader, or several: a,b.")
]
StoreFolder = Annotated[
    Path | None, typer.Option("--cache", help="Folder of training stores; default ROOT/.hcc-tace/store.")
]
Dask = Annotated[
    str | None, typer.Option("--dask", help="Address of a Dask scheduler (tcp://host:8786) to run on instead.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars, no remarks, no summary.")]


def names_of(values: Sequence[str] | None) -> list[str]:
    """Return the names in the values of an option that may be repeated and may hold several, separated by commas.

    Examples
    --------
    >>> names_of(["HCC_001,HCC_002", "HCC_001", " HCC_003 "])
    ['HCC_001', 'HCC_002', 'HCC_003']
    """
    parts = [part.strip() for value in values or () for part in value.split(",")]
    return list(dict.fromkeys(part for part in parts if part))


def chosen_patients(
    values: Sequence[str] | None, known: Collection[str] | None = None, *, where: str = ""
) -> list[str] | None:
    """Return the patients that `--patients` names, or None for all of them.

    Parameters
    ----------
    values : sequence of str, optional
        Values of the option.
    known : collection of str, optional
        The patients there are; names outside it are refused.
    where : str
        What holds `known`, for the message.

    Raises
    ------
    PatientNotFoundError
        A patient is not in `known`.
    """
    names = names_of(values)
    unknown = [name for name in names if name not in known] if known is not None else []
    if unknown and known is not None:
        raise PatientNotFoundError(no_patient(unknown, known, where))
    return names or None
