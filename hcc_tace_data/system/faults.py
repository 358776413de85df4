"""What to say of one patient, file or part of a page that failed while the others go on."""

from __future__ import annotations

import logging

from hcc_tace_data.errors import HccTaceError

__all__ = ["reason_of"]

logger = logging.getLogger(__name__)


def reason_of(error: Exception) -> str:
    """Return one line that says why something failed.

    Errors of this package say it themselves. Those of the system get the file's name. Anything else is unexpected:
    it is logged with where it was raised, for a report to the authors.

    Examples
    --------
    >>> reason_of(PermissionError(13, "Permission denied", "a.dcm"))
    'a.dcm: Permission denied'
    >>> reason_of(MemoryError())
    'not enough memory'
    """
    if isinstance(error, HccTaceError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    logger.debug("unexpected error", exc_info=error)
    return f"unexpected {type(error).__name__}: {error}"
