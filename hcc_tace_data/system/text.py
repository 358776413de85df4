"""Text of unknown origin (file names, header values) on its way to a terminal, a report or a table."""

from __future__ import annotations

import re

__all__ = ["visible"]

#: Control characters (C0, DEL, C1), line and paragraph separators, marks that reorder text, lone surrogates (bytes of
#: a file name that are not UTF-8), characters that are none.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufff9-\uffff]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str) -> str:
    """Return `text` with every character escaped that a terminal would act on rather than show.

    Escape sequences of a file name can recolour, rewrite or clear a terminal; marks of direction can make a name read
    backwards; a lone surrogate cannot be written at all. Everything else stays, letters of any script included.

    Examples
    --------
    >>> print(visible("IM\\x1b[31m01"), visible("a\\nb"), visible("Müller"))
    IM\\x1b[31m01 a\\nb Müller
    """
    return _HIDDEN.sub(_escape, text) if text else text


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # how Python keeps a byte of a file name that is not UTF-8
        return f"\\x{number - 0xDC00:02x}"
    return _NAMED.get(character) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")
