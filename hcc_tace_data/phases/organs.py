"""Finding aorta and liver in a few axial slices without a segmentation, well enough to measure their enhancement.

General image analysis, no training: the liver is the largest even region of soft tissue in the right half of the
trunk; the aorta is the brightest even disc just in front of the spine, or left of its front, that stays where it is
from slice to slice. Before contrast that disc may be another vessel or muscle, which is then as bright.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from hcc_tace_data.phases.enhancement import Enhancement
from hcc_tace_data.phases.planes import Planes

__all__ = ["measure_organs"]

_BODY = -250.0
_VERTEBRA = (22.0, 17.0)  # half width and half depth of a vertebral body, mm
_BONY = 0.3
_SOFT = (-10.0, 240.0)  # from a fatty to a strongly enhanced liver
_FLUID = 30.0  # necrosis, cysts, gallbladder and bowel are no brighter
_DEEP_MM = 16.0  # skin, fat and muscle of the wall are no deeper in most places
_LIVER_MM2 = 2500.0
_PIECE_MM2 = 400.0
_AORTA_MM = 6.5  # radius of the disc that is looked for, inside the vessel
_DRIFT_MM = 7.0  # how far the aorta may move between slices
_PERSISTENT = 0.5

Mask = npt.NDArray[np.bool_]
Image = npt.NDArray[np.float32]


def measure_organs(planes: Planes) -> Enhancement:
    """Measure aorta and liver.

    Parameters
    ----------
    planes : Planes
        Slices spread over the volume; those without a liver are found out.
    """
    body = _bodies(planes.hu, planes.pixel)
    areas = body.sum(axis=(1, 2)) * planes.pixel**2
    if not (areas > 10_000).any():
        return Enhancement(reason="no trunk in the slices")
    noise = _noise(planes, body)
    liver = _livers(planes, body, noise)
    sizes = liver.sum(axis=(1, 2)) * planes.pixel**2
    if sizes.max() < _LIVER_MM2:
        return Enhancement(reason="no liver found")
    at_liver = np.flatnonzero(sizes >= 0.35 * sizes.max())
    value = _mode(planes.hu[at_liver][liver[at_liver]])
    around = np.flatnonzero((areas > 10_000) & (np.abs(planes.z - np.median(planes.z[at_liver])) < 130))
    aorta = _aorta(planes, body, noise, around)
    reason = "" if aorta == aorta else "no aorta found in front of the spine"
    return Enhancement(aorta=aorta, liver=value, reason=reason)


def _size(mm: float, pixel: float) -> int:
    """Return the odd number of pixels, at least 3, that is nearest to a length."""
    return max(3, 2 * round((mm / pixel - 1) / 2) + 1)


def _bodies(hu: Image, pixel: float) -> Mask:
    """Return the trunk of each slice, without the table, lungs and bowel gas filled."""
    result = np.zeros(hu.shape, dtype=bool)
    for number, plane in enumerate(hu):
        tissue = plane > _BODY
        if pixel < 4:  # cut the sheet of the table from the back
            tissue = ndimage.binary_opening(tissue, iterations=max(1, round(4 / pixel)))
        labels, count = ndimage.label(tissue)
        if count:
            sizes = np.bincount(labels.ravel())[1:]
            result[number] = ndimage.binary_fill_holes(labels == 1 + int(sizes.argmax()))
    return result


def _spread(hu: Image, pixel: float) -> tuple[Image, Image]:
    """Return local means and standard deviations in windows of about 9 mm."""
    window = (1, _size(9.0, pixel), _size(9.0, pixel))
    mean = ndimage.uniform_filter(hu, window, mode="nearest")
    square = ndimage.uniform_filter(hu.astype(np.float64) ** 2, window, mode="nearest")
    return mean, np.sqrt(np.maximum(square - mean.astype(np.float64) ** 2, 0)).astype(np.float32)


def _noise(planes: Planes, body: Mask) -> float:
    """Return the noise of even soft tissue, HU."""
    mean, spread = _spread(planes.hu, planes.pixel)
    soft = body & (mean > -10) & (mean < 250)
    return float(np.percentile(spread[soft], 20)) if soft.any() else 10.0


def _livers(planes: Planes, body: Mask, noise: float) -> Mask:
    """Return the large even regions right of the midline in each slice."""
    mean, spread = _spread(planes.hu, planes.pixel)
    even = body & (mean > _SOFT[0]) & (mean < _SOFT[1]) & (spread < 1.7 * noise + 4)
    result = np.zeros(even.shape, dtype=bool)
    for number, plane in enumerate(even):
        if not plane.any():
            continue
        columns = np.flatnonzero(body[number].any(axis=0))
        middle = 0.5 * (planes.x[columns[0]] + planes.x[columns[-1]])
        deep = ndimage.distance_transform_edt(np.pad(body[number], 1))[1:-1, 1:-1] * planes.pixel > _DEEP_MM
        labels, count = ndimage.label(plane & deep & (planes.x < middle + 10)[None, :])
        if count:
            sizes = np.bincount(labels.ravel()) * planes.pixel**2
            large = sizes >= min(_PIECE_MM2, sizes[1:].max())
            large[0] = False
            result[number] = large[labels]
    return result


def _mode(values: Image) -> float:
    """Return the median around the most frequent value: vessels, tumours and neighbours do not shift it."""
    if (values > _FLUID).sum() > 0.2 * len(values):
        values = values[values > _FLUID]
    counts, edges = np.histogram(values, bins=np.arange(-40.0, 280.0, 2.0))
    peak = edges[int(ndimage.gaussian_filter1d(counts.astype(float), 3).argmax())] + 1
    return float(np.median(values[np.abs(values - peak) <= 16]))


def _aorta(planes: Planes, body: Mask, noise: float, around: Any) -> float:
    """Return the brightness of the brightest even disc in front of the spine that most slices have, or NaN."""
    spine = _spine(planes, body, around)
    if spine is None:
        return float("nan")
    pixel = planes.pixel
    columns = np.flatnonzero(np.abs(planes.x - spine[0] - 12) < 50)
    rows = np.flatnonzero(np.abs(planes.y - spine[1] + 28) < 58)
    window = planes.hu[np.ix_(around, rows, columns)]
    dx, dy = (planes.x[columns] - spine[0])[None, :], (planes.y[rows] - spine[1])[:, None]
    outside = (dx / (_VERTEBRA[0] + 5)) ** 2 + (dy / (_VERTEBRA[1] + 5)) ** 2 >= 1
    allowed = outside & (dx > -10) & (dx < 34) & (dy > -54) & (dy < 0)
    # in coarse pixels a disc no longer fits into the vessel wherever its centre lies; four pixels do
    disc = _ring(0.0, _AORTA_MM, pixel) if pixel < 4 else np.ones((2, 2), np.float32)
    mean = ndimage.correlate(window, disc[None] / disc.sum(), mode="nearest")
    square = ndimage.correlate(window**2, disc[None] / disc.sum(), mode="nearest")
    spread = np.sqrt(np.maximum(square - mean**2, 0))
    ring = _ring(15.0, 21.0, pixel)
    walled = np.stack([_brighter(plane, centre, ring) for plane, centre in zip(window, mean, strict=True)])
    fits = allowed[None] & (spread < 1.8 * noise + 8) & (mean > 0) & (mean < 700) & (walled < 0.5)
    value = np.where(fits, mean, -np.inf)
    drift = _size(_DRIFT_MM, pixel)
    near = ndimage.maximum_filter(value, size=(1, drift, drift))
    score = np.where(np.isfinite(near).mean(axis=0) >= _PERSISTENT, _median_of_finite(near), -np.inf)
    best = float(score.max()) if score.size else -np.inf
    return best if np.isfinite(best) else float("nan")


def _median_of_finite(values: Image) -> Image:
    """Return the medians along the first axis of what is finite; -inf where nothing is."""
    finite = np.isfinite(values)
    ranked = np.sort(np.where(finite, values, np.inf), axis=0)
    count = finite.sum(axis=0)
    low, high = (
        np.take_along_axis(ranked, np.maximum(place, 0)[None], axis=0)[0] for place in ((count - 1) // 2, count // 2)
    )
    # of an even number, or of none, the second place may lie beyond
    middle = np.where(count % 2 == 1, low, 0.5 * (low + np.where(count > 0, high, 0.0)))
    return np.asarray(np.where(count > 0, middle, -np.inf), np.float32)


def _ring(inner: float, outer: float, pixel: float) -> Image:
    reach = int(np.ceil(outer / pixel))
    far = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) * pixel
    return np.asarray((far >= inner) & (far <= outer), np.float32)


def _brighter(plane: Image, centre: Image, ring: Image) -> Image:
    """Share of the ring around each pixel that is far brighter than the disc in it: the rim of a vertebra."""
    result = np.zeros(plane.shape, np.float32)
    reach = ring.shape[0] // 2
    padded = np.pad(plane, reach, mode="edge")
    for row, column in np.argwhere(ring > 0):
        result += padded[row : row + plane.shape[0], column : column + plane.shape[1]] > centre + 50
    return np.asarray(result / ring.sum(), np.float32)


def _spine(planes: Planes, body: Mask, around: Any) -> tuple[float, float] | None:
    """Return the centre of the vertebral bodies, (x, y) in mm: the densest disc of their size in the back."""
    bony = np.clip((planes.hu[around] - 70) / 80, 0, 1).mean(axis=0)
    disc = _ring(0.0, _VERTEBRA[1] - 2, planes.pixel)
    score = ndimage.correlate(bony, disc / disc.sum(), mode="constant")
    trunk = body[around].mean(axis=0) > 0.5
    rows, columns = np.flatnonzero(trunk.any(axis=1)), np.flatnonzero(trunk.any(axis=0))
    if not len(rows):
        return None
    front, back = planes.y[rows[0]], planes.y[rows[-1]]
    middle = 0.5 * (planes.x[columns[0]] + planes.x[columns[-1]])
    where = (planes.y > 0.5 * (front + back))[:, None] & (np.abs(planes.x - middle) < 30)[None, :]
    score = np.where(where, score, 0)
    if score.max() < _BONY:
        return None
    # the score is flat inside a large vertebra: its middle, not its first maximum
    labels, _ = ndimage.label(score > 0.95 * score.max())
    row, column = ndimage.center_of_mass(labels == labels[np.unravel_index(int(score.argmax()), score.shape)])
    return float(planes.x[0] + column * planes.pixel), float(planes.y[0] + row * planes.pixel)
