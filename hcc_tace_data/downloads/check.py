"""Is what arrived what was asked for: size, digest, and the UIDs inside every file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hcc_tace_data.dicom.headers import HeaderReader
from hcc_tace_data.downloads.selection import Wanted
from hcc_tace_data.errors import DicomReadError, IntegrityError
from hcc_tace_data.integrity.ledger import md5_of
from hcc_tace_data.system.masking import mask
from hcc_tace_data.system.words import count

__all__ = [
    "BadFiles", "Checked", "Digest", "Expected", "WrongContent", "check_series", "digest_matches", "digest_of",
]  # fmt: skip

_MIB = 1 << 20
_MB = 10**6
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the source says of one object: its size (None: it does not say) and its ETag or MD5 (may be empty)."""

    size: int | None
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A file that was found right."""

    path: Path
    sop_uid: str
    size: int
    md5: str


class BadFiles(IntegrityError):
    """Files whose bytes are not the source's: to be fetched again."""

    def __init__(self, files: Mapping[Path, str]) -> None:
        first = next(iter(files.values()))
        super().__init__(f"{count(len(files), 'file')} arrived damaged: {first}")
        self.files = dict(files)


class WrongContent(IntegrityError):
    """The bytes are the source's, and they are not this series: fetching them again gives the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """Size in bytes and MD5 of a file."""

    size: int
    md5: str


def digest_of(path: Path) -> Digest:
    """Read a file that has just arrived, and have the system begin to write it to disk, so that syncing it is quick."""
    found = Digest(size=path.stat().st_size, md5=md5_of(path))
    if hasattr(os, "posix_fadvise"):
        # Linux starts to write what is not on disk yet, and keeps in memory what it is still writing.
        with suppress(OSError), open(path, "rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return found


def digest_matches(path: Path, size: int, md5: str, etag: str) -> bool | None:
    """Return whether a file has the digest of an ETag; None where the ETag cannot tell.

    The ETag of an object that was stored in one part is its MD5. Of one stored in n parts it is the MD5 of the parts'
    MD5s with ``-n`` behind it; the size of the parts is not given, so all whole MiB and MB that give n parts are tried.
    """
    etag = etag.strip('"').lower()
    if re.fullmatch(r"[0-9a-f]{32}", etag):
        return md5 == etag
    parts = re.fullmatch(r"([0-9a-f]{32})-(\d{1,5})", etag)
    if not parts:
        return None
    count = int(parts[2])
    if count <= 1:
        return count == 1 and hashlib.md5(bytes.fromhex(md5), usedforsecurity=False).hexdigest() == parts[1]
    least, most = -(-size // count), (size - 1) // (count - 1)
    sizes = {unit * k for unit in (_MIB, _MB) for k in range(-(-least // unit), most // unit + 1)}
    return any(_of_parts(path, part) == parts[1] for part in sorted(sizes))


def _of_parts(path: Path, part: int) -> str:
    digests = b""
    with open(path, "rb") as handle:
        while block := handle.read(part):
            digests += hashlib.md5(block, usedforsecurity=False).digest()
    return hashlib.md5(digests, usedforsecurity=False).hexdigest()


def check_series(
    wanted: Wanted,
    files: Mapping[Path, Expected],
    *,
    exact_bytes: bool,
    recorded: Mapping[str, str] | None = None,
    digests: Mapping[Path, Future[Digest]] | None = None,
    sync: bool = True,
) -> list[Checked]:
    """Check all files of a series, and make them durable.

    Parameters
    ----------
    wanted : Wanted
        The series.
    files : mapping of path to Expected
        Its files, each with what the source says of it.
    exact_bytes : bool
        Whether the sum of the sizes must be the table's.
    recorded : mapping of str to str, optional
        MD5 by SOP Instance UID, as an earlier download from this source recorded them.
    digests : mapping of path to future of Digest, optional
        Of files that were read when they arrived; all others are read now.
    sync : bool
        Whether to wait until the files are on disk.

    Raises
    ------
    BadFiles
        Some have another size or digest than the source says, or are cut short.
    WrongContent
        They are the source's, but not this series, or not all of it, or not what was recorded before.
    """
    reader = HeaderReader()
    checked: list[Checked] = []
    bad: dict[Path, str] = {}
    for path, expected in files.items():
        found = digests[path].result() if digests and path in digests else digest_of(path)
        size, md5 = found.size, found.md5
        if expected.size is not None and size != expected.size:
            bad[path] = f"{count(size, 'byte')} where the source has {expected.size:,}"
            continue
        same = digest_matches(path, size, md5, expected.etag)
        if same is False:
            bad[path] = f"MD5 {md5} where the source has {expected.etag}"
            continue
        try:
            row = reader.read(str(path), path.name)
        except DicomReadError as error:
            if same:
                raise WrongContent(f"the source's own file cannot be read: {error}") from error
            bad[path] = str(error)
            continue
        _compare(wanted, row)
        checked.append(Checked(path=path, sop_uid=row["sop_uid"], size=size, md5=md5))
    if bad:
        raise BadFiles(bad)
    _compare_all(wanted, checked, exact_bytes, recorded or {})
    if sync:  # all together: the first one waits for what the others share
        for one in checked:
            _sync(one.path)
    return checked


def _compare(wanted: Wanted, row: Mapping[str, object]) -> None:
    if row["series_uid"] != wanted.series_uid or row["study_uid"] != wanted.study_uid:
        raise WrongContent(f"{row['path']} is of series {row['series_uid']}, study {row['study_uid']}")
    if row["patient_id"] != wanted.patient_id:
        raise WrongContent(f"{row['path']} names the patient {mask(row['patient_id'])}, not {wanted.patient_id}")
    if row["modality"] != wanted.modality:
        raise WrongContent(f"{row['path']} has the modality {row['modality']!r}, not {wanted.modality}")
    sop = str(row["sop_uid"])
    if not _UID.fullmatch(sop) or len(sop) > 64:  # it becomes a file's name
        raise WrongContent(f"{row['path']} has an invalid SOP Instance UID: {sop[:70]!r}")


def _compare_all(wanted: Wanted, checked: list[Checked], exact_bytes: bool, recorded: Mapping[str, str]) -> None:
    if len(checked) != wanted.instances:
        raise WrongContent(f"{count(len(checked), 'file')} where the table has {wanted.instances}")
    if len({one.sop_uid for one in checked}) != len(checked):
        raise WrongContent("two of its files have the same SOP Instance UID")
    size = sum(one.size for one in checked)
    if exact_bytes and size != wanted.bytes:
        raise WrongContent(f"{count(size, 'byte')} where the table has {wanted.bytes:,}")
    changed = [one.sop_uid for one in checked if recorded.get(one.sop_uid, one.md5) != one.md5]
    if changed:
        raise WrongContent(
            f"the source now has other bytes than were recorded before, in {count(len(changed), 'file')} "
            f"({changed[0]}, ...). "
            "If it was revised on purpose, remove .hcc-tace/ledger.sqlite and download again"
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
