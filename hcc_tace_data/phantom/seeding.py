"""Everything random or unique in a twin comes from here, by name: the same names give the same values."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

__all__ = ["UID_ROOT", "generator", "twin_uid"]

#: Root of every UID of a twin: an arc under 2.25 (UUID-derived) that no real object of the collection uses.
UID_ROOT = "2.25.1728"


def _digest(parts: tuple[object, ...]) -> bytes:
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=32).digest()


def generator(*names: object) -> np.random.Generator:
    """Return a random generator that depends on `names` alone, not on the order of the work.

    Examples
    --------
    >>> bool(generator(0, "HCC_001").random() == generator(0, "HCC_001").random())
    True
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(_digest(names), "little")))


def twin_uid(*names: object) -> str:
    """Return a UID under :data:`UID_ROOT` that depends on `names` alone; always 44 characters.

    Examples
    --------
    >>> len(twin_uid("study", 1)), twin_uid("a") == twin_uid("a"), twin_uid("a").startswith(UID_ROOT)
    (44, True, True)
    """
    return f"{UID_ROOT}{int.from_bytes(_digest(names), 'little') % 10**35:035d}"
