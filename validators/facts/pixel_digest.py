"""Digests of stored pixels: two slices of equal digest hold the same image, whatever their headers say."""

from __future__ import annotations

import hashlib

from hcc_tace_data.collection.kept import Kind
from hcc_tace_data.dicom.decode import decode_pixels, open_for_pixels
from hcc_tace_data.validators.context import Context, chunks_of

__all__ = ["UNREADABLE", "digest_files", "pixel_digests"]

#: In place of the digest of a file whose pixels cannot be read or decoded.
UNREADABLE = "?"

Item = tuple[str, int, int]
_CHUNK = 500
_KIND = Kind("pixel digests", ("validators",))


def pixel_digests(context: Context) -> list[str]:
    """Return the digest of the stored pixels of each row; empty if missing. Reads pixels."""
    table = context.instances
    numbers = [[int(v) for v in table[name]] for name in ("pixel_offset", "pixel_length")]
    paths = table["path"].tolist()
    items = list(zip([f"{context.root}/{path}" for path in paths], *numbers, strict=True))
    chunks = chunks_of(paths, _CHUNK)
    found = context.kept_map(
        _KIND,
        digest_files,
        [items[first:last] for first, last in chunks],
        [paths[first:last] for first, last in chunks],
        encode=lambda digests: None if UNREADABLE in digests else digests,
        decode=lambda value: [str(digest) for digest in value],
    )
    return [digest for part in found for digest in part]


def digest_files(items: list[Item]) -> list[str]:
    """Return a digest of each file's pixel data.

    Parameters
    ----------
    items : list of (str, int, int)
        Path, offset and length of native pixel data; -1 where they have to be asked of pydicom.

    Returns
    -------
    list of str
        Hexadecimal digests; empty for a file without pixels, or whose pixels are all equal (empty slices are alike
        without being copies); :data:`UNREADABLE` where they cannot be read.
    """
    return [_digest(*item) for item in items]


def _digest(path: str, offset: int, length: int) -> str:
    data = _stored(path, offset, length)
    if data is None:
        return UNREADABLE
    if not data or data == data[:2] * (len(data) // 2):
        return ""
    return hashlib.sha256(data).hexdigest()[:32]  # which processors have instructions for


def _stored(path: str, offset: int, length: int) -> bytes | None:
    if offset >= 0:
        try:
            with open(path, "rb") as stream:
                stream.seek(offset)
                return stream.read(length)
        except OSError:
            return None
    try:
        data = open_for_pixels(path)
        if "PixelData" not in data:
            return b""
        return (
            decode_pixels(data, path).tobytes()
            if data.file_meta.TransferSyntaxUID.is_encapsulated
            else bytes(data.PixelData)
        )
    except Exception:  # a decoder may raise anything
        return None
