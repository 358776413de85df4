"""Getting the collection, whole, whatever happens.

    plan (series table, minus what the ledger already has) -> stage -> check -> move -> record

`download` is public as :func:`hcc_tace_data.download`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hcc_tace_data.downloads.retries import RetryPolicy
from hcc_tace_data.downloads.run import DownloadReport, FailedSeries, download, terms
from hcc_tace_data.downloads.selection import Plan, make_plan

__all__ = ["DownloadReport", "FailedSeries", "Plan", "RetryPolicy", "download", "ensure", "make_plan", "terms"]


def ensure(root: str | os.PathLike[str] | None = None, **options: Any) -> Path:
    """Return the folder of the collection after fetching what is missing of it.

    A folder that a phantom was written into (it has a ``series.csv`` and was never downloaded to) is taken as it is.

    Parameters
    ----------
    root : path-like, optional
        The folder; default as for :func:`download`.
    **options
        Those of :func:`download`.

    Raises
    ------
    DownloadError
        Something could not be fetched.
    """
    from hcc_tace_data.integrity.ledger import ledger_path  # noqa: PLC0415 - its libraries are slow to import
    from hcc_tace_data.system.roots import default_root  # noqa: PLC0415 - its libraries are slow to import

    folder = default_root() if root is None else Path(root).expanduser()
    if (folder / "series.csv").is_file() and not ledger_path(folder).is_file():
        return folder
    return download(folder, **options).root
