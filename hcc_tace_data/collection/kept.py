"""What was found out about a collection, kept beside its index, so that the same files are not taken apart twice.

The key of an entry is a digest of everything that it was made from: path, size, times and inode of every file, the
catalogue, the options, and the source code that made it. Whatever changes, the old entry is never found again; nothing
has to be invalidated.
"""

from __future__ import annotations

import hashlib
import logging
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hcc_tace_data.facts.catalog import load_catalog
from hcc_tace_data.system.identity import Identity, identity_of
from hcc_tace_data.system.kept import KeptFile
from hcc_tace_data.system.roots import cache_folder

if TYPE_CHECKING:
    from hcc_tace_data.facts.catalog import Catalog

__all__ = ["NOTHING_KEPT", "Kept", "Kind", "code_digest", "kept_beside"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: Packages below :mod:`hcc_tace_data.open`: what every kind may be made with.
_BELOW = ("open", "labels", "phases", "collection", "clinical", "volumes", "dicom", "facts", "system", "data")
_LIBRARIES = ("pydicom", "numpy", "pandas", "scipy", "SimpleITK")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entry.

    Attributes
    ----------
    name : str
    packages : tuple of str
        Packages of ours that make it, beside those below :mod:`hcc_tace_data.open`.
    private : bool
        Whether it quotes headers, which may name people: then it is kept in the collection's own folder or nowhere.
    """

    name: str
    packages: tuple[str, ...] = ()
    private: bool = False


class Kept:
    """The entries of one collection. Made by :func:`kept_beside`; :data:`NOTHING_KEPT` keeps nothing.

    Worker processes get one that keeps nothing: what they compute is kept by the process that asked for it.

    Parameters
    ----------
    root : pathlib.Path
        The collection's folder.
    files : mapping of str to Identity
        Path below the root -> the file as it was when the collection was opened.
    catalog : Catalog
        Facts that entries may depend on.
    store : KeptFile, optional
        Where entries lie.
    """

    def __init__(
        self,
        root: Path,
        files: Mapping[str, Identity],
        *,
        catalog: Catalog | None = None,
        store: KeptFile | None = None,
    ) -> None:
        self.root = root
        self.files = files
        self.catalog = catalog
        self.store = store

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, ()

    @cached_property
    def _facts(self) -> str:
        return _catalogues(self.catalog)

    def key(self, kind: Kind, paths: Iterable[str], *options: Any) -> str:
        """Return the key of what is made from some files; empty where nothing can be kept.

        Parameters
        ----------
        kind : Kind
        paths : iterable of str
            All files that it is made from, below the root, in an order that does not change by itself.
        options
            What else decides: JSON-ready values.
        """
        code = "" if self.store is None else code_digest((*_BELOW, *kind.packages))
        if not code:
            return ""
        digest = hashlib.sha256(f"{kind.name}\0{code}\0{self._facts}\0{dumps(options, sort_keys=True)}".encode())
        for path in paths:
            identity = self.files.get(path)
            if identity is None:
                return ""
            digest.update(f"\0{path}\0{identity[0]}\0{identity[1]}\0{identity[2]}\0{identity[3]}".encode())
        return digest.hexdigest()

    def get(self, kind: Kind, keys: Iterable[str]) -> dict[str, Any]:
        """Return the JSON values of those keys that are kept."""
        wanted = [key for key in keys if key]
        return self.store.get(kind.name, wanted, first_only=kind.private) if self.store is not None and wanted else {}

    def put(self, kind: Kind, values: Mapping[str, Any]) -> None:
        """Keep JSON values by key; an empty key is left out."""
        named = {key: value for key, value in values.items() if key}
        if self.store is not None and named:
            self.store.put(kind.name, named, first_only=kind.private)

    def unchanged(self, paths: Iterable[str]) -> bool:
        """Whether files are still those that were there when the collection was opened."""
        try:
            return all(identity_of((self.root / path).stat()) == self.files.get(path) for path in paths)
        except OSError:
            return False

    def fact(
        self,
        kind: Kind,
        paths: Sequence[str],
        build: Callable[[], T],
        *,
        encode: Callable[[T], Any],
        decode: Callable[[Any], T],
        read: Sequence[str] = (),
        options: Sequence[Any] = (),
    ) -> T:
        """Return what `build` gives, from the store where it is there.

        Parameters
        ----------
        kind, paths, options
            See :meth:`key`.
        build : callable
            Makes it. What it raises is not kept.
        encode : callable
            To a JSON-ready value; None says that it is not to be kept.
        decode : callable
            Back; a ValueError, TypeError, KeyError or IndexError says that the value makes no sense.
        read : sequence of str
            Those of `paths` that `build` opens again: they are looked at before a kept value is given, and after it
            is made.
        """
        key = self.key(kind, paths, *options)
        if not key or not self.unchanged(read):
            return build()
        for value in self.get(kind, [key]).values():
            try:
                return decode(value)
            except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
                logger.warning("a kept %s makes no sense and is made again: %s", kind.name, error)
        made = build()
        value = encode(made)
        if value is not None and self.unchanged(read):
            self.put(kind, {key: value})
        return made

    def clear(self) -> None:
        """Forget everything: files are not what their size and times say."""
        if self.store is not None:
            self.store.clear()


def _catalogues(catalog: Catalog | None) -> str:
    """Return a digest of the catalogues that code may look into: the one given, and the one shipped."""
    shipped = load_catalog()
    given = shipped if catalog is None else catalog
    return hashlib.sha256(f"{shipped.model_dump_json()}\0{given.model_dump_json()}".encode()).hexdigest()


def _nothing() -> Kept:
    return NOTHING_KEPT


def kept_beside(root: Path, files: Mapping[str, Identity], *, catalog: Catalog | None = None) -> Kept:
    """Return what is kept in ``ROOT/.hcc-tace``, or, where that cannot be written, in the user's cache folder."""
    digest = hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    places = (root / ".hcc-tace" / "derived.sqlite", cache_folder() / f"derived-{digest}.sqlite")
    return Kept(root, files, catalog=catalog, store=KeptFile(places))


@cache
def code_digest(packages: tuple[str, ...]) -> str:
    """Return a digest of the source of some packages and modules of ours, and of the libraries that they use.

    Parameters
    ----------
    packages : tuple of str
        Names below ``hcc_tace_data``.

    Returns
    -------
    str
        Hexadecimal; empty where there is no source to look at: then nothing is kept.
    """
    digest = hashlib.sha256(platform.python_version().encode())
    for name in _LIBRARIES:
        try:
            digest.update(f"\0{name} {version(name)}".encode())
        except PackageNotFoundError:
            digest.update(f"\0{name} none".encode())
    for name in packages:
        files = _sources(name)
        if not files:
            return ""
        for path in files:
            data = path.read_bytes()
            digest.update(f"\0{name}/{path.name} {len(data)}\0".encode() + data)
    return digest.hexdigest()


def _sources(name: str) -> list[Path]:
    """Return the files of a module or package, tables included."""
    folder = Path(__file__).resolve().parents[1] / name
    if name == "data":
        return sorted(path for path in folder.glob("*.csv*") if path.is_file())
    spec = find_spec(f"hcc_tace_data.{name}")
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    if origin is None or not origin.is_file():
        return []
    return sorted(origin.parent.rglob("*.py")) if origin.name == "__init__.py" else [origin]


#: Keeps nothing and knows nothing.
NOTHING_KEPT = Kept(Path(), {})
