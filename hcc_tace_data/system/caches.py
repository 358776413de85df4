"""What the package keeps only to be faster: where each cache is stored, and how the caches are cleared.

A folder that holds caches also holds what cannot be made again: the ledger, staged downloads, export records, files set
aside. So caches are recognised by name, and nothing else is touched.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hcc_tace_data.system.roots import cache_folder

__all__ = ["CACHES", "Cache", "CacheKind", "clear_caches", "find_caches"]

#: What a killed process leaves of a file or folder that was being written.
_LEFTOVER = r"\.[0-9a-f]{12}\.part(\.\w+)*"


@dataclass(frozen=True, slots=True)
class CacheKind:
    """One kind of cache.

    Attributes
    ----------
    name : str
        What it holds.
    own : str
        Regular expression of its name in ``ROOT/.hcc-tace``.
    shared : str
        Regular expression of its name in the user's cache folder, used for collections that cannot be written; empty
        if it is never stored there.
    entries : str
        For a folder of caches, the names of the entries that are caches; other entries, and then the folder, stay.
    """

    name: str
    own: str
    shared: str = ""
    entries: str = ""


#: Every cache of the package. Add a row for a new one.
CACHES = (
    CacheKind("header table", r"index\.parquet", r"index-[0-9a-f]{16}\.parquet"),
    CacheKind("derived facts", r"derived\.sqlite(-\w+)?", r"derived-[0-9a-f]{16}\.sqlite(-\w+)?"),
    CacheKind("training store", r"store", r"store-[0-9a-f]{12}", rf"[0-9a-f]{{16}}|{_LEFTOVER}"),
    CacheKind("Hugging Face files", r"hf"),
    CacheKind("unfinished", _LEFTOVER, _LEFTOVER),
)


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache on disk."""

    kind: CacheKind
    path: Path

    @property
    def bytes(self) -> int:
        """Size of its files."""
        return sum(_size(path) for part in self._parts() for path in (part, *_below(part)))

    def clear(self) -> None:
        """Delete it; other entries of its folder stay.

        Raises
        ------
        OSError
            Something cannot be deleted.
        """
        for part in self._parts():
            if part.is_dir() and not part.is_symlink():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
        if self.path.is_dir():
            with suppress(OSError):  # not empty, or a link to a folder elsewhere, which stays for the next run
                self.path.rmdir()

    def _parts(self) -> list[Path]:
        if not self.kind.entries or not self.path.is_dir():
            return [self.path]
        return sorted(path for path in self.path.iterdir() if re.fullmatch(self.kind.entries, path.name))


def find_caches(root: Path) -> list[Cache]:
    """Return the caches of a collection, and those in the user's cache folder (``$HCC_TACE_CACHE``).

    Parameters
    ----------
    root : pathlib.Path
        The collection's folder.
    """
    own = root / ".hcc-tace"
    return [*_found(own, shared=False), *_found(cache_folder(), shared=True)]


def clear_caches(caches: list[Cache]) -> None:
    """Delete caches, and folders that are empty without them."""
    for cache in caches:
        cache.clear()
    for folder in {cache.path.parent for cache in caches}:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _found(folder: Path, *, shared: bool) -> Iterator[Cache]:
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        for kind in CACHES:
            pattern = kind.shared if shared else kind.own
            if pattern and re.fullmatch(pattern, path.name):
                yield Cache(kind, path)


def _below(path: Path) -> Iterator[Path]:
    return path.rglob("*") if path.is_dir() and not path.is_symlink() else iter(())


def _size(path: Path) -> int:
    with suppress(OSError):
        if path.is_file() and not path.is_symlink():
            return path.stat().st_size
    return 0
