"""Extracting files from an untrusted zip."""

from __future__ import annotations

import csv
import io
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hcc_tace_data.errors import HccTaceError, IntegrityError
from hcc_tace_data.system.words import count
from hcc_tace_data.system.workbook import BAD_ZIP

__all__ = ["Unpacked", "unpack_series"]

_DIGESTS = "md5hashes.csv"
_BESIDE = (".csv", ".txt", ".pdf", ".html", ".htm", ".md", ".json")
_MORE_MEMBERS = 16
_SMALL = 4 << 20
_BLOCK = 1 << 20
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What came out: files written -> the digest that the archive gives for each."""

    digests: dict[Path, str]


def unpack_series(archive: Path, folder: Path, *, files: int, limit: int) -> Unpacked:
    """Write the DICOM files of a zip into `folder`, under names of our own.

    Parameters
    ----------
    archive : pathlib.Path
        The zip.
    folder : pathlib.Path
        An empty folder.
    files : int
        How many DICOM files it should hold, exactly.
    limit : int
        Bytes that all members together may have, unpacked.

    Raises
    ------
    IntegrityError
        It is no zip, is cut short, holds another number of files, lacks digests, or is hostile: absolute names or
        ``..``, links, devices, encrypted or doubled members, sizes that lie or are too large. Nothing is written
        outside `folder` in any case, and never more than `limit` bytes.
    """
    try:
        with open(archive, "rb") as handle, _reading(archive), zipfile.ZipFile(handle) as opened:
            members = _members(opened, files, limit)
            digests = _digests(opened, members)
            images = [item for item in members if not _beside(item.filename)]
            if len(images) != files:
                raise IntegrityError(f"the archive holds {count(len(images), 'file')} where the series has {files}")
            found: dict[Path, str] = {}
            budget = limit
            for number, item in enumerate(images):
                digest = digests.get(item.filename) or digests.get(item.filename.rpartition("/")[2])
                if digest is None:
                    raise IntegrityError(f"{_DIGESTS} of the archive has no digest for {item.filename[:80]!r}")
                path = folder / f"{number:06d}.dcm"
                budget -= _write(opened, item, path, budget)
                found[path] = digest
            return Unpacked(digests=found)
    except _TargetError as error:
        raise error.fault from None


class _TargetError(Exception):
    """A file could not be written: a fault of this machine, not of the archive."""

    def __init__(self, fault: OSError) -> None:
        super().__init__(str(fault))
        self.fault = fault


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _TargetError(error) from error


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn everything that zipfile raises for a damaged or hostile archive into one error."""
    try:
        yield
    except (HccTaceError, _TargetError):
        raise
    except zipfile.BadZipFile as error:
        with open(archive, "rb") as handle:
            start = handle.read(512).lstrip().lower()
        what = "an HTML page" if start.startswith((b"<!doctype", b"<html", b"<?xml")) else f"no whole zip ({error})"
        raise IntegrityError(f"what came is {what}") from error
    # damaged data, unknown methods of compression, encryption, impossible headers, offsets and names
    except (*BAD_ZIP, OSError) as error:
        raise IntegrityError(f"the archive cannot be unpacked ({type(error).__name__}: {error})") from error


def _members(opened: zipfile.ZipFile, files: int, limit: int) -> list[zipfile.ZipInfo]:
    """Return the members that are files; refuse the archive if any of its members is out of place."""
    found = []
    seen: set[str] = set()
    total = 0
    if len(opened.infolist()) > files + _MORE_MEMBERS:
        raise IntegrityError(
            f"the archive has {count(len(opened.infolist()), 'member')} where the series has {count(files, 'file')}"
        )
    for item in opened.infolist():
        name = item.filename
        shown = repr(name[:80])
        parts = name.replace("\\", "/").split("/")
        if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in item.orig_filename:
            raise IntegrityError(f"the archive is hostile: a member is called {shown}")
        kind = stat.S_IFMT(item.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise IntegrityError(f"the archive is hostile: {shown} is a link or a device")
        if item.is_dir():
            continue
        if item.flag_bits & 0x1 or item.compress_type not in _METHODS:
            raise IntegrityError(f"the archive cannot be read: {shown} is encrypted or packed in an unusual way")
        if name.lower() in seen:
            raise IntegrityError(f"the archive is hostile: {shown} is there twice")
        seen.add(name.lower())
        total += item.file_size
        if total > limit:
            raise IntegrityError(f"the archive would unpack to more than {limit:,} bytes")
        found.append(item)
    return found


def _beside(name: str) -> bool:
    last = name.rpartition("/")[2]
    return last.upper().startswith("LICENSE") or last.lower().endswith(_BESIDE)


def _digests(opened: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> dict[str, str]:
    """Return member name -> MD5, from the archive's own list."""
    for item in members:
        if item.filename.rpartition("/")[2].lower() != _DIGESTS:
            continue
        if item.file_size > _SMALL:
            raise IntegrityError(f"{_DIGESTS} of the archive has {item.file_size:,} bytes")
        with opened.open(item) as handle:
            text = handle.read(_SMALL).decode("utf-8-sig", "replace")
        rows = list(csv.reader(io.StringIO(text)))
        return {row[0].strip(): row[1].strip().lower() for row in rows if len(row) >= 2}
    raise IntegrityError(f"the archive has no {_DIGESTS}, so nothing says whether its files are whole")


def _write(opened: zipfile.ZipFile, item: zipfile.ZipInfo, path: Path, budget: int) -> int:
    """Write one member; return its size. Its checksum is compared when its end is reached."""
    size = 0
    with _writing():
        target = open(path, "xb")  # noqa: SIM115 - closed below
    try:
        with opened.open(item) as source:
            while block := source.read(_BLOCK):
                size += len(block)
                if size > budget or size > item.file_size:
                    raise IntegrityError(f"the archive lies about the size of {item.filename[:80]!r}")
                with _writing():
                    target.write(block)
    finally:
        with _writing():
            target.close()  # writes what is left
    if size != item.file_size:
        raise IntegrityError(f"the archive lies about the size of {item.filename[:80]!r}")
    return size
