"""HT3, what viewers draw over the pixels, and what hides in bits of the pixels that no value uses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.decode import decode_pixels, open_for_pixels
from hcc_tace_data.system.words import count, verb
from hcc_tace_data.validators.context import Context
from hcc_tace_data.validators.deid.facts import DeidFacts, Value, report
from hcc_tace_data.validators.deid.judge import ANNOTATIONS, OVERLAY_BITS, OVERLAY_POSITION
from hcc_tace_data.validators.deid.suspects import deid_facts
from hcc_tace_data.validators.rule import Draft, Partly

__all__ = ["drawn_over", "hidden_bits", "read_unused", "unused_bits"]

_LOOK = "Look at the image in a viewer that draws overlays; clear the plane."
_CHUNK = 200
#: Path, offset and length of native pixel data (-1: pydicom reads them), bits allocated, stored, high bit, padding.
Item = tuple[str, int, int, int, int, int, int | None]


def drawn_over(context: Context) -> Iterator[Draft]:
    """HT317: no overlay in unused bits of the pixels, no text or lines that viewers draw over the image."""
    facts = context.fact(deid_facts)
    yield from report(
        context,
        ((value, message, _LOOK) for value in facts.values() if (message := _drawn(facts, value))),
    )


def _drawn(facts: DeidFacts, value: Value) -> str:
    tag = value.tag
    if tag in ANNOTATIONS:
        return "Text or lines that viewers draw over the image."
    overlay = "An overlay plane in unused bits of the pixels, which viewers draw over the image."
    if OVERLAY_POSITION.fullmatch(tag) and _number(value) > 0:
        return overlay
    if OVERLAY_BITS.fullmatch(tag) and _number(value) > 1:
        # where the position says so, it is reported there
        beside = facts.scan.elements.get((f"{value.path[:-8]}{tag[:4]}0102", value.vr), {})
        if not any(raw.strip(b"\0") for raw in beside):
            return overlay
    return ""


def _number(value: Value) -> int:
    text = value.text.split("\\")[0]
    return int(text) if text.isdigit() else 0


class Unused(NamedTuple):
    """Pixels of one file that use bits outside BitsStored: how many, which bits; why it could not be read."""

    pixels: int
    bits: tuple[int, ...]
    problem: str = ""


def unused_bits(context: Context) -> list[tuple[int, Unused]]:
    """Return row and use of unused bits, of every image with more bits allocated than stored. Reads pixels."""
    table = context.instances
    allocated, stored = (table[name].fillna(0).astype(int) for name in ("bits_allocated", "bits_stored"))
    high = table["high_bit"].fillna(-1).astype(int) if "high_bit" in table else stored - 1
    spare = (stored > 0) & (stored < allocated) & (allocated <= 16) & (table["modality"] != "SEG")
    rows = [int(row) for row in np.flatnonzero(spare.to_numpy())]
    items: list[Item] = []
    for row in rows:
        padding = float(table["pixel_padding_value"].iloc[row])
        items.append(
            (
                f"{context.root}/{table['path'].iloc[row]}",
                int(table["pixel_offset"].iloc[row]),
                int(table["pixel_length"].iloc[row]),
                int(allocated.iloc[row]),
                int(stored.iloc[row]),
                int(high.iloc[row]) if high.iloc[row] >= stored.iloc[row] - 1 else int(stored.iloc[row]) - 1,
                None if padding != padding else int(padding),
            )
        )
    jobs = [items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK)]
    return list(zip(rows, [one for part in context.map(read_unused, jobs) for one in part], strict=True))


def read_unused(items: list[Item]) -> list[Unused]:
    """Look at the unused bits of some files."""
    return [_read(*item) for item in items]


def _read(path: str, offset: int, length: int, allocated: int, stored: int, high: int, padding: int | None) -> Unused:
    try:
        if offset >= 0:
            with open(path, "rb") as stream:
                stream.seek(offset)
                data = stream.read(length)
            pixels = np.frombuffer(data[: len(data) // (allocated // 8) * (allocated // 8)], f"<u{allocated // 8}")
        else:
            decoded = np.ascontiguousarray(decode_pixels(open_for_pixels(path), path))
            pixels = decoded.view(f"u{decoded.dtype.itemsize}").reshape(-1)
    except Exception as error:  # a decoder raises anything
        return Unused(0, (), type(error).__name__)
    return unused_in(pixels, allocated, stored, high, padding)


def unused_in(
    pixels: npt.NDArray[np.unsignedinteger], allocated: int, stored: int, high: int, padding: int | None = None
) -> Unused:
    """Return how many pixels use bits outside those that are stored.

    Bits above the value that repeat its sign are no use of them, and neither is the padding value.

    Examples
    --------
    >>> unused_in(np.array([0x0123, 0x1123, 0xFFFF], np.uint16), 16, 12, 11)
    Unused(pixels=1, bits=(12,), problem='')
    """
    whole = (1 << allocated) - 1
    value = ((1 << stored) - 1) << (high - stored + 1)
    outside, above = whole & ~value, whole & ~((2 << high) - 1)
    if not int(np.bitwise_or.reduce(pixels, initial=0)) & outside:
        return Unused(0, ())
    off = pixels & pixels.dtype.type(outside)
    signed = (off & pixels.dtype.type(above) == above) & (pixels & pixels.dtype.type(1 << high) != 0)
    off = np.where(signed, off & pixels.dtype.type(outside & ~above), off)
    if padding is not None:
        off = np.where(pixels == padding & whole, 0, off)
    used = int(np.bitwise_or.reduce(off, initial=0))
    return Unused(int(np.count_nonzero(off)), tuple(bit for bit in range(allocated) if used >> bit & 1))


def hidden_bits(context: Context) -> Iterator[Draft | Partly]:
    """HT318: bits outside BitsStored are empty."""
    for row, found in context.fact(unused_bits):
        if found.problem:
            yield Partly(f"the pixels of {context.place(row).path} cannot be decoded ({found.problem})")
        elif found.pixels:
            bits = ", ".join(map(str, found.bits))
            yield Draft(
                message=f"{count(found.pixels, 'pixel')} {verb(found.pixels, 'uses')} bits outside BitsStored "
                f"(bits {bits}): overlays hide there.",
                hint="Look at these bits as an image; clear them, or fetch the file again.",
                at=context.place(row),
                tag="7FE00010",
                evidence={"pixels": found.pixels, "bits": list(found.bits)},
            )
