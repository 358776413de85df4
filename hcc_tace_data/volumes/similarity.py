"""How alike two CT volumes are: coarse images, mutual information, and a rough placing of one over the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import highdicom

__all__ = [
    "AIR_HU",
    "LOWEST_HU",
    "NOTHING",
    "blurred",
    "body_mask",
    "body_overlap",
    "coarse_image",
    "coarse_mask",
    "crop_to",
    "likeness",
    "looked_up",
    "moved_by",
    "mutual_information",
    "place_roughly",
    "rough_image",
    "to_image",
    "transformed",
]

#: What fills voxels without data.
AIR_HU = -1024
#: What :func:`looked_up` gives where there are no data: no HU.
NOTHING = 1e4
#: Soft tissue and its surroundings; bone and metal weigh no more than the brightest vessel.
LOWEST_HU, _HIGHEST_HU = -250.0, 450.0
_BINS = 48
_LEAST_VOXELS = 1000
# Above this lies tissue, fat included; the table's foam and the lungs lie below.
_TISSUE_HU = -150.0
# The rough search looks at voxels of this size, and at offsets along the body this far apart.
_ROUGH_MM = 8.0
_ROUGH_STEP_MM = 8.0
_LEAST_OVERLAP = 0.3
# Voxels averaged at a time.
_SLAB_VOXELS = 1_000_000
# Neighbours within a slice.
_IN_PLANE = np.zeros((3, 3, 3), bool)
_IN_PLANE[1] = [[False, True, False], [True, True, True], [False, True, False]]

Matrix = npt.NDArray[np.float64]


def to_image(array: npt.NDArray[Any], affine: Matrix) -> Any:
    """Return a SimpleITK image of an array (D, H, W) with its affine index (d, h, w) -> LPS mm."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    return image


def coarse_image(volume: highdicom.Volume, size_mm: float) -> Any:
    """Return a float32 SimpleITK image of about `size_mm` voxels, by averaging whole blocks of voxels.

    Axes whose spacing is above half of `size_mm` stay as they are. HU are cut to soft tissue (-250 to 450).
    """
    return _coarse(volume.array, np.array(volume.affine, dtype=float), size_mm)


def coarse_mask(mask: npt.NDArray[Any], affine: Matrix, size_mm: float) -> Any:
    """Return the share of each voxel of :func:`coarse_image` that a mask (D, H, W) on the volume's grid covers."""
    return _coarse(mask, np.array(affine, dtype=float), size_mm)


def _coarse(array: npt.NDArray[Any], affine: Matrix, size_mm: float) -> Any:
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    blocks = [
        max(1, min(round(size_mm / length), count // 2)) for length, count in zip(spacing, array.shape, strict=True)
    ]
    shape = [count // block for count, block in zip(array.shape, blocks, strict=True)]
    means = np.empty(shape, np.float32)
    step = max(1, _SLAB_VOXELS // (array.shape[1] * array.shape[2] * blocks[0]))
    for first in range(0, shape[0], step):  # a slab fits into the processor's cache
        slab = array[first * blocks[0] : min(first + step, shape[0]) * blocks[0]]
        means[first : first + step] = _block_means(np.clip(slab, LOWEST_HU, _HIGHEST_HU), blocks, shape[1:])
    coarse = affine.copy()
    coarse[:3, :3] = affine[:3, :3] * blocks
    coarse[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((np.array(blocks) - 1) / 2)
    return to_image(means, coarse)


def _block_means(values: npt.NDArray[Any], blocks: list[int], across: list[int]) -> npt.NDArray[np.float32]:
    """Average whole blocks of voxels, one axis after the other; what is left over at the ends of a slice is dropped."""
    values = values[:, : across[0] * blocks[1], : across[1] * blocks[2]].astype(np.float32, copy=False)
    for axis, block in enumerate(blocks):
        if block > 1:
            every = [values[(slice(None),) * axis + (slice(first, None, block),)] for first in range(block)]
            values = every[0] + every[1]
            for more in every[2:]:
                values += more
            values /= block
    return values


def body_mask(image: Any) -> Any:
    """Return the body in an image of :func:`coarse_image` as a float32 mask, without the table, lungs filled in."""
    import SimpleITK as sitk
    from scipy import ndimage

    tissue = sitk.GetArrayFromImage(image) > _TISSUE_HU
    opened = ndimage.binary_opening(tissue, np.ones((1, 3, 3)), iterations=2)  # cuts the table off the back
    parts, count = ndimage.label(opened)
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:]) if count else np.ones_like(tissue)
    holes, count = ndimage.label(~body, _IN_PLANE)
    outside = np.zeros(count + 1, bool)
    for edge in (holes[:, 0], holes[:, -1], holes[:, :, 0], holes[:, :, -1]):
        outside[edge.ravel()] = True
    filled = body | ~outside[holes]
    mask = sitk.GetImageFromArray(filled.astype(np.float32))
    mask.CopyInformation(image)
    return mask


def body_overlap(fixed: Any, moving: Any, matrix: Matrix) -> float:
    """Return the Dice of two masks of :func:`body_mask` where both images have data; 0 where they do not meet.

    Parameters
    ----------
    fixed, moving : SimpleITK.Image
    matrix : ndarray of float64, shape (4, 4)
        From a point of `fixed` (LPS, mm) to one of `moving`.
    """
    import SimpleITK as sitk

    outside = 2.0
    moved = sitk.GetArrayFromImage(
        sitk.Resample(moving, fixed, _transform(matrix), sitk.sitkLinear, outside, sitk.sitkFloat32)
    )
    inside = moved < (1 + outside) / 2
    one, two = (sitk.GetArrayFromImage(fixed) > 0.5) & inside, (moved > 0.5) & inside
    total = np.count_nonzero(one) + np.count_nonzero(two)
    return 2 * np.count_nonzero(one & two) / total if total else 0.0


def crop_to(image: Any, mask: Any, margin: int = 3) -> Any:
    """Return `image` within the bounds of `mask`, which lies on the same grid, and `margin` voxels more."""
    import SimpleITK as sitk

    where = np.argwhere(sitk.GetArrayFromImage(mask) > 0)
    size = np.array(mask.GetSize())[::-1]
    first = np.maximum(where.min(axis=0) - margin, 0)[::-1].tolist()
    last = np.minimum(where.max(axis=0) + margin + 1, size)[::-1].tolist()
    return image[tuple(slice(low, high) for low, high in zip(first, last, strict=True))]


def moved_by(image: Any, matrix: Matrix) -> Any:
    """Return the image lying where its voxels show what `matrix`, a rigid motion, looks up: exact, no interpolation."""
    import SimpleITK as sitk

    back = np.linalg.inv(matrix)
    turned = sitk.Image(image)
    turned.SetOrigin((back[:3, :3] @ np.array(image.GetOrigin()) + back[:3, 3]).tolist())
    turned.SetDirection((back[:3, :3] @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
    return turned


def mutual_information(fixed: Any, moving: Any, matrix: Matrix) -> float:
    """Return the normalised mutual information (1 to 2) of two SimpleITK images where they overlap.

    Parameters
    ----------
    fixed, moving : SimpleITK.Image
        From :func:`coarse_image`.
    matrix : ndarray of float64, shape (4, 4)
        From a point of `fixed` (LPS, mm) to one of `moving`.

    Returns
    -------
    float
        (H(fixed) + H(moving)) / H(both) of 48 x 48 bins; 1.0 where they do not overlap. It does not depend on which
        tissue is brighter, so it compares phases.
    """
    return likeness(blurred(fixed), blurred(moving), matrix)


def blurred(image: Any) -> Any:
    """Blur by 1.2 voxels: interpolation blurs too, and would make any transform less alike than none."""
    import SimpleITK as sitk

    return sitk.SmoothingRecursiveGaussian(image, [1.2 * float(length) for length in image.GetSpacing()])


def transformed(points: Matrix, matrix: Matrix) -> Matrix:
    """Return points (N, 3) after an affine transform (4, 4)."""
    return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


def looked_up(moving: Any, fixed: Any, matrix: Matrix, field: Any = None) -> npt.NDArray[np.float32]:
    """Return `moving` on the grid of `fixed`, (D, H, W); :data:`NOTHING` where it has no data.

    A point of `fixed` goes through `field`, a SimpleITK transform, if there is one, and then through `matrix`.
    """
    import SimpleITK as sitk

    affine = _transform(matrix)
    transform = affine if field is None else sitk.CompositeTransform([affine, field])
    return np.asarray(
        sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, NOTHING, sitk.sitkFloat32))
    )


def likeness(
    fixed: Any, moving: Any, matrix: Matrix, region: npt.NDArray[np.bool_] | None = None, field: Any = None
) -> float:
    """Return :func:`mutual_information` of images that are blurred already, within a `region` (D, H, W) if given."""
    import SimpleITK as sitk

    moved = looked_up(moving, fixed, matrix, field)
    inside = moved < NOTHING / 2
    if region is not None:
        inside &= region
    if np.count_nonzero(inside) < _LEAST_VOXELS:
        return 1.0
    joint = _joint_histogram(sitk.GetArrayFromImage(fixed)[inside], moved[inside])
    share = joint / joint.sum()
    return float((_entropy(share.sum(0)) + _entropy(share.sum(1))) / max(_entropy(share), 1e-12))


def place_roughly(fixed: Any, moving: Any) -> npt.NDArray[np.float64]:
    """Return the shift (3,) in mm, from `fixed` to `moving`, that lays one body over another without a common frame.

    The bodies' centroids give the shift across; along the axis of the slices the shift with the highest correlation
    of 8 mm voxels wins, among those where the shorter volume overlaps by 30 % at least.
    """
    import SimpleITK as sitk

    small = [rough_image(image) for image in (fixed, moving)]
    across = [_centroid(image) for image in small]
    shift = np.array(across[1]) - np.array(across[0])
    ends = [(_corner(image, 0)[2], _corner(image, 1)[2]) for image in small]
    (low, high), (m_low, m_high) = (sorted(pair) for pair in ends)
    shortest = min(high - low, m_high - m_low)
    best, chosen = -np.inf, float(shift[2])
    still = sitk.GetArrayFromImage(small[0])
    for along in np.arange(m_low - high + _LEAST_OVERLAP * shortest, m_high - low, _ROUGH_STEP_MM):
        if min(high + along, m_high) - max(low + along, m_low) < _LEAST_OVERLAP * shortest:
            continue
        transform = sitk.TranslationTransform(3, (float(shift[0]), float(shift[1]), float(along)))
        moved = sitk.GetArrayFromImage(sitk.Resample(small[1], small[0], transform, sitk.sitkLinear, 1e4))
        inside = moved < 5e3
        if np.count_nonzero(inside) < 100:
            continue
        score = float(np.corrcoef(still[inside], moved[inside])[0, 1])
        # a longer overlap of equal likeness is the better one
        score *= 1 + 0.05 * np.count_nonzero(inside) / inside.size
        if score > best:
            best, chosen = score, float(along)
    return np.array([shift[0], shift[1], chosen])


def _transform(matrix: Matrix) -> Any:
    import SimpleITK as sitk

    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    return transform


def _joint_histogram(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> Matrix:
    codes = []
    for values in (one, two):
        scaled = (values - LOWEST_HU) * (_BINS / (_HIGHEST_HU - LOWEST_HU))
        codes.append(np.clip(scaled, 0, _BINS - 1).astype(np.int64))
    found = np.bincount(codes[0] * _BINS + codes[1], minlength=_BINS * _BINS)
    counts: Matrix = found.reshape(_BINS, _BINS).astype(np.float64)
    # what is air in both says nothing of the bodies, and its share depends on the field of view alone
    counts[0, 0] = 0
    return counts if counts.any() else np.ones((_BINS, _BINS))


def _entropy(share: Matrix) -> float:
    some = share[share > 0]
    return float(-(some * np.log(some)).sum())


def rough_image(image: Any, size_mm: float = _ROUGH_MM) -> Any:
    """Return an image of :func:`coarse_image` in voxels of at most about `size_mm`."""
    import SimpleITK as sitk

    factors = [max(1, int(size_mm / length)) for length in image.GetSpacing()]
    return sitk.BinShrink(image, factors)


def _centroid(image: Any) -> tuple[float, ...]:
    import SimpleITK as sitk

    body = sitk.GetArrayFromImage(image) > LOWEST_HU + 100
    where = np.argwhere(body)
    middle = where.mean(axis=0)[::-1] if len(where) else (np.array(image.GetSize()) - 1) / 2
    return tuple(image.TransformContinuousIndexToPhysicalPoint([float(x) for x in middle]))


def _corner(image: Any, end: int) -> tuple[float, ...]:
    size = [int(n) - 1 if end else 0 for n in image.GetSize()]
    return tuple(image.TransformIndexToPhysicalPoint(size))
