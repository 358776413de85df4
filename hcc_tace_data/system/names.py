"""Names of files that come from data: the one way from a text of unknown origin to a path component."""

from __future__ import annotations

import hashlib
import re

__all__ = ["is_safe_name", "safe_name"]

_LONGEST = 100
_KEPT = 60
_PLAIN = re.compile(r"[0-9A-Za-z_][0-9A-Za-z_.-]*")
#: What :func:`safe_name` appends; a text that ends like this already is changed too, so that no two texts meet.
_MARK = re.compile(r".*-[0-9a-f]{16}", re.DOTALL)
#: Names that Windows keeps for devices, with any extension.
_DEVICES = frozenset({"con", "prn", "aux", "nul", "conin$", "conout$"}
                     | {f"{port}{n}" for port in ("com", "lpt") for n in range(10)})  # fmt: skip


def is_safe_name(text: str) -> bool:
    """Return whether `text` can name a file on every system as it is."""
    return (
        len(text) <= _LONGEST
        and _PLAIN.fullmatch(text) is not None
        and not text.endswith(".")
        and text.partition(".")[0].lower() not in _DEVICES
    )


def safe_name(text: str) -> str:
    """Return a text from a file (an identifier, a description, a file name) as a single path component.

    A plain text is returned as it is. Any other loses what is not an ASCII letter, a digit, ``_``, ``.`` or ``-``,
    and gets a digest of the whole text, so that different texts give different names.

    Parameters
    ----------
    text : str
        Anything: ``..``, absolute paths, NUL, device names of Windows, texts of any length.

    Examples
    --------
    >>> safe_name("HCC_001"), safe_name("../7")
    ('HCC_001', '7-beae2509d5e71509')
    """
    if is_safe_name(text) and not _MARK.fullmatch(text):
        return text
    plain = re.sub(r"[^0-9A-Za-z_.-]+", "-", text).strip("-.")[:_KEPT].rstrip("-.")
    if plain.partition(".")[0].lower() in _DEVICES:
        plain = f"_{plain}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{plain or 'unnamed'}-{digest}"
