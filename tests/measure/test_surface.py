"""The surface of an outline: against bodies computed by hand, another library's surfels, and PyRadiomics and MIRP."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from surface_distance.lookup_tables import create_table_neighbour_code_to_surface_area

from hcc_tace_data.measure.lesions import find_lesions, split_lesions
from hcc_tace_data.measure.surface import outline_surface

SPACINGS = [(1.0, 1.0, 1.0), (2.5, 0.75, 0.75), (5.0, 0.9, 0.7)]
masks = arrays(bool, st.tuples(*[st.integers(1, 6)] * 3))


def _blob(seed: int) -> np.ndarray:
    """Return a lump of many bays and, mostly, one part."""
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(24, 40, 44)), (2, 4, 4))
    d, h, w = np.mgrid[:24, :40, :44]
    ball = ((d - 12) / 9) ** 2 + ((h - 20) / 15) ** 2 + ((w - 22) / 17) ** 2
    return smooth / smooth.std() * 0.3 > ball - 1


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_box_is_a_box_with_its_edges_cut_off(spacing: tuple[float, float, float]) -> None:
    """The outline is half a voxel outside the centres of the outermost voxels."""
    size = np.array([4, 5, 7])
    flat = (size - 1) * spacing
    half = np.array(spacing) / 2
    surface, volume = outline_surface(np.ones(size, dtype=bool), spacing)
    faces = 2 * (flat[0] * flat[1] + flat[0] * flat[2] + flat[1] * flat[2])
    edges = 4 * sum(flat[i] * np.hypot(half[(i + 1) % 3], half[(i + 2) % 3]) for i in range(3))
    a, b, c = half
    corners = 8 * 0.5 * np.sqrt((a * b) ** 2 + (a * c) ** 2 + (b * c) ** 2)
    assert surface == pytest.approx(faces + edges + corners)
    inner = flat.prod() + 2 * (flat[0] * flat[1] * c + flat[0] * flat[2] * b + flat[1] * flat[2] * a)
    inner += 4 * (flat[0] * b * c + flat[1] * a * c + flat[2] * a * b) / 2 + 8 * a * b * c / 6
    assert volume == pytest.approx(inner)


@given(mask=masks, spacing=st.sampled_from(SPACINGS))
def test_the_surface_is_closed_and_does_not_ask_where(mask: np.ndarray, spacing: tuple[float, ...]) -> None:
    """An open surface would enclose another volume as soon as the mask is moved."""
    expected = outline_surface(mask, spacing)
    moved = np.pad(mask, ((3, 1), (0, 7), (11, 2)))
    assert outline_surface(moved, spacing) == pytest.approx(expected, abs=1e-9)
    assert (expected[0] > 0) == bool(mask.any())
    assert 0 <= expected[1] <= mask.sum() * np.prod(spacing)


@pytest.mark.parametrize("seed", range(3))
def test_which_way_a_mask_runs_hardly_matters(seed: int) -> None:
    """Only where a pattern's corners lie in no plane does it matter in which order they are joined."""
    mask, spacing = _blob(seed), np.array([2.5, 0.8, 0.7])
    expected = outline_surface(mask, spacing)
    for mirrored in (mask[::-1], mask[:, ::-1], mask[:, :, ::-1]):
        assert outline_surface(mirrored, spacing) == pytest.approx(expected, rel=0.01)
    assert outline_surface(mask.transpose(2, 0, 1), spacing[[2, 0, 1]]) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("seed", range(3))
def test_the_surfels_of_surface_distance_add_up_to_it(seed: int, spacing: tuple[float, float, float]) -> None:
    mask = _blob(seed)
    table = create_table_neighbour_code_to_surface_area(spacing)
    padded = np.pad(mask, 1)
    code = np.zeros(np.array(padded.shape) - 1, dtype=int)
    for number, (d, h, w) in enumerate(np.ndindex(2, 2, 2)):
        code += (1 << (7 - number)) * padded[
            d : padded.shape[0] - 1 + d, h : padded.shape[1] - 1 + h, w : padded.shape[2] - 1 + w
        ]
    assert outline_surface(mask, spacing)[0] == pytest.approx(float(table[code].sum()), rel=0.02)


def _by_pyradiomics(mask: np.ndarray, spacing: tuple[float, float, float], folder: Path) -> dict[str, float]:
    shape = pytest.importorskip("radiomics.shape", reason="PyRadiomics is not here; see docs/measure.md")
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    features = shape.RadiomicsShape(sitk.Cast(image, sitk.sitkFloat32), image, label=1)
    names = {
        "volume_ml": "VoxelVolume", "surface_mm2": "SurfaceArea", "sphericity": "Sphericity",
        "diameter_mm": "Maximum2DDiameterSlice", "diameter_3d_mm": "Maximum3DDiameter",
    }  # fmt: skip
    found = {ours: float(getattr(features, f"get{theirs}FeatureValue")()) for ours, theirs in names.items()}
    return {**found, "volume_ml": found["volume_ml"] / 1000}


def _by_mirp(mask: np.ndarray, spacing: tuple[float, float, float], folder: Path) -> dict[str, float]:
    pytest.importorskip("mirp", reason="the extra [radiomics] is not installed")
    mirp: Any = importlib.import_module("mirp")
    for name, array in {"image": 40 * mask.astype(np.float32), "mask": mask.astype(np.uint8)}.items():
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing[::-1])
        sitk.WriteImage(image, folder / f"{name}.nii.gz")
    features = mirp.extract_features(
        image=str(folder / "image.nii.gz"), mask=str(folder / "mask.nii.gz"), image_modality="ct",
        base_feature_families="morphological",
    )[0].iloc[0]  # fmt: skip
    return {
        "volume_ml": features["morph_vol_approx"] / 1000, "surface_mm2": features["morph_area_mesh"],
        "sphericity": features["morph_sphericity"], "diameter_3d_mm": features["morph_diam"],
    }  # fmt: skip


@pytest.mark.parametrize("peer", [_by_pyradiomics, _by_mirp])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_shape_features_of_other_software(peer: Any, spacing: tuple[float, float, float], tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    mask = split_lesions(_blob(1))[0] == 1
    (lesion,) = find_lesions(mask, affine)
    theirs = peer(mask, spacing, tmp_path)
    for name, bound in {
        "volume_ml": 1e-6, "surface_mm2": 0.01, "sphericity": 0.01, "diameter_mm": 1e-6, "diameter_3d_mm": 1e-6,
    }.items():  # fmt: skip
        if name in theirs:
            assert getattr(lesion, name) == pytest.approx(theirs[name], rel=bound), name
