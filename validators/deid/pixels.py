"""HT3, text in pixels: first by what kind of image it is, then by reading the pixels of a sample of slices."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hcc_tace_data.dicom.decode import decode_pixels, open_for_pixels
from hcc_tace_data.system.masking import mask
from hcc_tace_data.system.words import count
from hcc_tace_data.validators.deid.free_text import suspicions
from hcc_tace_data.validators.deid.suspects import deid_facts
from hcc_tace_data.validators.rule import Draft, Skip

if TYPE_CHECKING:
    from hcc_tace_data.validators.context import Context

__all__ = ["annotated", "burned_in", "pixel_text", "read_text", "suspect_kind"]

_SCREENS = (
    "1.2.840.10008.5.1.4.1.1.7",  # secondary capture, single and multi-frame
    "1.2.840.10008.5.1.4.1.1.6",  # ultrasound
    "1.2.840.10008.5.1.4.1.1.3",
    "1.2.840.10008.5.1.4.1.1.77.1",  # visible light photographs
    "1.2.840.10008.5.1.4.1.1.104",  # documents
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
)
_WORDS = ("LOCALIZER", "SCREEN", "DOSE", "CAPTURE", "SCOUT", "REPORT")
_SAMPLE = 3
_MOST = 12
_MIN_CHARACTERS = 4
_MIN_SCORE = 0.75
#: Images are enlarged to about so many pixels a side, small letters being no letters, but not more often than this:
#: time goes with the area.
_SIDE, _LARGEST_FACTOR = 512, 4
#: Grey values that the darkest pixel, the darkest and the brightest per cent, and the brightest pixel become.
_TONES = (0.0, 30.0, 200.0, 255.0)


def suspect_kind(sop_class: str, image_type: str) -> bool:
    """Return whether images of this SOP class and ImageType often show names in their pixels.

    Examples
    --------
    >>> suspect_kind("1.2.840.10008.5.1.4.1.1.7", "")
    True
    >>> suspect_kind("1.2.840.10008.5.1.4.1.1.2", "ORIGINAL, PRIMARY, AXIAL")
    False
    """
    screen = any(sop_class == root or sop_class.startswith(f"{root}.") for root in _SCREENS)
    return screen or any(word in image_type.upper() for word in _WORDS)


def burned_in(context: Context) -> Iterator[Draft]:
    """HT307: there are no images of kinds that often show names."""
    table = context.instances
    found: dict[str, list[int]] = {}
    kinds = list(zip(table["sop_class_uid"], table["image_type"], strict=True))
    suspect = {one for one in set(kinds) if suspect_kind(*one)}
    for row, one in enumerate(kinds):
        if one in suspect:
            found.setdefault(table["series_uid"].iloc[row], []).append(row)
    for rows in found.values():
        yield Draft(
            message=f"{count(len(rows), 'image')} of a kind that often shows names: screens, localizers, photos, "
            "dose pages.",
            hint="Look at their pixels, whatever BurnedInAnnotation says: NO is known to lie.",
            tag="00080008",
            evidence={"count": len(rows)},
            at=context.place(rows[0]),
        )


def annotated(context: Context) -> Iterator[Draft]:
    """HT316: BurnedInAnnotation (0028,0301) is not YES."""
    for row in range(len(context.instances)):
        if context.fact(deid_facts).mark(row, "00280301") == "YES":
            yield Draft(
                message="BurnedInAnnotation says that the pixels hold identifying text.",
                hint="Blank the region, or remove the image.",
                tag="00280301",
                at=context.place(row),
            )


class _Text(NamedTuple):
    text: str
    score: float


def pixel_text(context: Context) -> Iterator[Draft]:
    """HT312: a sample of each series shows no legible text."""
    try:
        import rapidocr_onnxruntime  # noqa: F401, PLC0415
    except ImportError:
        raise Skip("needs the extra [ocr]: pip install 'hcc-tace-data[ocr]' (Python up to 3.12)") from None
    rows = _sample(context)
    jobs = [
        (str(context.root), rows[i : i + 8], context.instances["path"].iloc[rows[i : i + 8]].tolist())
        for i in range(0, len(rows), 8)
    ]
    for part in context.map(read_files, jobs):
        for row, texts, problem in part:
            if problem:
                yield Draft(
                    severity="warning",
                    message=f"The pixels could not be read for text ({problem}).",
                    hint="Look at the image yourself.",
                    at=context.place(row),
                )
            elif texts:
                yield _finding(context, row, texts)


def _finding(context: Context, row: int, texts: list[str]) -> Draft:
    kinds = list(dict.fromkeys(kind for text in texts for kind in suspicions(text)))
    told = any(context.fact(deid_facts).tells(text) for text in texts)
    kinds += ["an identifier found elsewhere"] * told
    says = f", which may hold: {', '.join(kinds)}" if kinds else ""
    return Draft(
        message=f"The pixels show legible text{says}.",
        hint="Blank the region, or remove the image.",
        tag="7FE00010",
        evidence={"texts": [mask(text) for text in texts], "count": len(texts)},
        at=context.place(row),
    )


def _sample(context: Context) -> list[int]:
    """Choose what to read: images of suspect kinds, and slices of the start, middle and end of a series."""
    table = context.instances
    chosen: list[int] = []
    with_pixels = table["rows"].notna() & (table["bits_allocated"].fillna(0) >= 8) & (table["modality"] != "SEG")
    for rows in table[with_pixels].groupby("series_uid", sort=True).groups.values():
        places = sorted(int(row) for row in rows)
        kinds = zip(table["sop_class_uid"].iloc[places], table["image_type"].iloc[places], strict=True)
        suspect = [row for row, (uid, kind) in zip(places, kinds, strict=True) if suspect_kind(uid, kind)]
        chosen += spread(suspect, _MOST)
        chosen += [row for row in spread(places, _SAMPLE) if row not in suspect]
    return sorted(set(chosen))


def spread(items: Sequence[int], count: int) -> list[int]:
    """Return at most `count` items, evenly from the first to the last.

    Examples
    --------
    >>> spread([1, 2, 3, 4, 5], 3), spread([7], 3)
    ([1, 3, 5], [7])
    """
    if len(items) <= count:
        return list(items)
    return [items[round(k * (len(items) - 1) / (count - 1))] for k in range(count)]


def read_files(job: tuple[str, list[int], list[str]]) -> list[tuple[int, list[str], str]]:
    """Read the text in the pixels of some files: row, legible texts, problem."""
    root, rows, paths = job
    return [(row, *_read_file(Path(root) / path)) for row, path in zip(rows, paths, strict=True)]


def _read_file(path: Path) -> tuple[list[str], str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = open_for_pixels(path)
            pixels = decode_pixels(dataset, path)
    except Exception as error:  # decoders raise many kinds; a frame that is not read is said
        return [], type(error).__name__
    if int(dataset.get("NumberOfFrames", 1) or 1) > 1:
        pixels = pixels[len(pixels) // 2]
    return read_text(pixels), ""


def read_text(pixels: NDArray[Any]) -> list[str]:
    """Return the legible texts of one image, grey or RGB, of any type; texts of less than four characters are left out.

    Grey images are read in tones that show text among most of their pixels and text brighter than anything in the body.
    """
    image = _toned(np.asarray(pixels))
    if image is None:
        return []
    found: dict[str, None] = {}
    for text, score in _engine()(_enlarged(image)):
        if sum(c.isalnum() for c in text) >= _MIN_CHARACTERS and score >= _MIN_SCORE:
            found.setdefault(text)
    return list(found)


def _toned(pixels: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return an image of 8 bits; None for one whose pixels are all alike."""
    if pixels.ndim == 3 and pixels.dtype == np.uint8:
        return pixels[..., :3]
    grey = pixels.astype(np.float32)
    dark, bright = np.percentile(grey[::2, ::2], [1, 99])
    levels = np.array([grey.min(), dark, bright, grey.max()])
    kept = np.append(True, np.diff(levels) > 0)
    if kept.sum() < 2:
        return None
    return np.asarray(np.interp(grey, levels[kept], np.array(_TONES)[kept]), dtype=np.uint8)


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image that is large enough for small letters."""
    from PIL import Image

    factor = min(_LARGEST_FACTOR, -(-_SIDE // max(image.shape[:2])))
    if factor <= 1:
        return image
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width * factor, height * factor), Image.Resampling.BICUBIC))


@cache
def _engine() -> Callable[[NDArray[np.uint8]], list[_Text]]:
    """Return the reader; made once a process, as loading its models takes a second."""
    from rapidocr_onnxruntime import RapidOCR  # noqa: PLC0415 - slow to import

    # images come as large as they have to be: RapidOCR would make them larger still
    engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1, det_limit_side_len=_SIDE // 2)

    def read(image: NDArray[np.uint8]) -> list[_Text]:
        found, _ = engine(image, use_cls=False)
        return [_Text(str(text), float(score)) for _, text, score in found or []]

    return read
