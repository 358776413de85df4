"""A strip of CT slices with contours, for a page: pictures as data, contours as vector paths over them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.report.contours import WINDOW

__all__ = ["Contour", "Slice", "choose_slices", "contour_path", "make_strip"]

_AIR_HU = -300
_MARGIN = 4
_QUALITY = 80

Labels = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contour:
    """The outline of one label in one slice: class number, whether a model drew it, and an SVG path."""

    number: int
    predicted: bool
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One picture of a strip.

    Attributes
    ----------
    index : int
        Slice of the volume, from 0 at the feet.
    image : str
        JPEG as a ``data:`` address.
    width, height : int
        Pixels. Contours use half pixels: their view box is twice as wide and high.
    aspect : float
        Width by height in mm.
    contours : tuple of Contour
    """

    index: int
    image: str
    width: int
    height: int
    aspect: float
    contours: tuple[Contour, ...]


def choose_slices(label: Labels, *, count: int, tumour: int) -> list[int]:
    """Return up to `count` slices, head first: evenly over the labels, the largest section of the tumour among them.

    Parameters
    ----------
    label : ndarray of int, shape (D, H, W)
        Class numbers; without any label the whole volume is shown.
    count : int
        How many slices.
    tumour : int
        Class number of the tumour.
    """
    where = np.flatnonzero(label.any(axis=(1, 2)))
    first, last = (int(where[0]), int(where[-1])) if len(where) else (0, len(label) - 1)
    chosen = {round(first + (last - first) * (place + 0.5) / count) for place in range(count)}
    area = np.count_nonzero(label == tumour, axis=(1, 2))
    if area.any():
        largest = int(area.argmax())
        chosen.discard(min(chosen, key=lambda index: abs(index - largest)))
        chosen.add(largest)
    return sorted(chosen, reverse=True)


def contour_path(mask: npt.NDArray[np.bool_]) -> str:
    """Return the outline of a mask (H, W) as an SVG path in half pixels; empty for an empty mask.

    The outline cuts edges between pixel centres in the middle, so that its corners have whole coordinates.

    Examples
    --------
    >>> contour_path(np.array([[False, False, False], [False, True, False], [False, False, False]]))
    'M4 3l-1 -1l-1 1l1 1z'
    """
    import contourpy

    if not mask.any():
        return ""
    padded = np.pad(mask, 1).astype(np.float32)
    parts = []
    for line in contourpy.contour_generator(z=padded).lines(0.5):
        points = np.rint(2 * (np.asarray(line) - 1) + 1).astype(int)
        steps = np.diff(points, axis=0)
        # corners only: runs of equal steps become one
        starts = np.flatnonzero(np.r_[True, (steps[1:] != steps[:-1]).any(axis=1)])
        merged = np.add.reduceat(steps, starts, axis=0)[:-1]  # z closes the last
        moves = "".join(f"l{x} {y}" for x, y in merged.tolist())
        parts.append(f"M{points[0, 0]} {points[0, 1]}{moves}z")
    return "".join(parts)


def make_strip(
    image: npt.NDArray[Any],
    label: Labels,
    *,
    affine: npt.NDArray[np.float64],
    indices: Sequence[int],
    predicted: Labels | None = None,
    numbers: Mapping[int, str],
) -> list[Slice]:
    """Draw slices of a volume as radiologists look at them: from the feet, the patient's right on the left.

    Parameters
    ----------
    image : ndarray, shape (D, H, W)
        HU.
    label, predicted : ndarray of int, shape (D, H, W)
        Class numbers.
    affine : ndarray, shape (4, 4)
        Index (d, h, w) -> LPS mm.
    indices : sequence of int
        Which slices.
    numbers : mapping of int to str
        Class numbers to outline.
    """
    turn = _to_screen(affine)
    planes = [image[index][turn] for index in indices]
    rows, columns = _body(planes)
    spacing = np.linalg.norm(affine[:3, 1:3], axis=0)
    result = []
    for index, plane in zip(indices, planes, strict=True):
        shown = plane[rows, columns]
        contours = [
            Contour(number=number, predicted=by_model, path=path)
            for volume, by_model in ((label, False), (predicted, True))
            if volume is not None
            for number in numbers
            if (path := contour_path((volume[index][turn] == number)[rows, columns]))
        ]
        height, width = shown.shape
        aspect = float(width * spacing[1] / (height * spacing[0]))
        result.append(
            Slice(index=index, image=_jpeg(shown), width=width, height=height, aspect=aspect, contours=tuple(contours))
        )
    return result


def _to_screen(affine: npt.NDArray[np.float64]) -> tuple[slice, slice]:
    """Rows down the screen go to the patient's back, columns to the patient's left."""
    return slice(None, None, -1 if affine[1, 1] < 0 else 1), slice(None, None, -1 if affine[0, 2] < 0 else 1)


def _body(planes: Sequence[npt.NDArray[Any]]) -> tuple[slice, slice]:
    """Return the rectangle outside of which all slices show air."""
    body = np.logical_or.reduce([plane > _AIR_HU for plane in planes])
    edges = []
    for axis in (1, 0):
        where = np.flatnonzero(body.any(axis=axis))
        size = body.shape[1 - axis]
        low, high = (int(where[0]), int(where[-1]) + 1) if len(where) else (0, size)
        edges.append(slice(max(0, low - _MARGIN), min(size, high + _MARGIN)))
    return edges[0], edges[1]


def _jpeg(plane: npt.NDArray[Any]) -> str:
    from PIL import Image

    low, high = WINDOW
    grey = np.clip((plane.astype(np.float32) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
