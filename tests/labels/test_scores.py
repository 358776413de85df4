"""Scores against cases computed by hand and another library's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data.errors import UsageError
from hcc_tace_data.labels.scores import dice, lesion_detection, score_masks

SPACING = (2.5, 0.75, 0.75)


def _blob(seed: int, shape: tuple[int, int, int] = (9, 14, 13)) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return noise > np.quantile(noise, 0.8)


def test_shifted_cube_by_hand() -> None:
    true = np.zeros((20, 20, 20), bool)
    true[5:10, 5:10, 5:10] = True
    predicted = np.roll(true, 2, axis=0)
    scores = score_masks(predicted, true, (3.0, 1.0, 1.0))
    assert scores.dice == pytest.approx(2 * 75 / 250)
    assert scores.iou == pytest.approx(75 / 175)
    assert scores.hd95_mm == pytest.approx(6.0)
    assert scores.volume_ml == pytest.approx(0.375)
    assert scores.volume_error_ml == 0


def test_surface_dice_counts_what_lies_within_the_tolerance() -> None:
    true = np.zeros((3, 30, 30), bool)
    true[1, 5:15, 5:15] = True
    predicted = np.zeros_like(true)
    predicted[1, 5:15, 5:18] = True
    # one-slice masks are all surface: 100 and 130 voxels, of which 30 lie 1 to 3 mm outside
    scores = score_masks(predicted, true, (1.0, 1.0, 1.0), tolerance_mm=1.5)
    assert scores.surface_dice == pytest.approx((100 + 100 + 10) / 230)


@pytest.mark.parametrize(
    ("first", "second", "overlap", "distance"),
    [(False, False, 1.0, 0.0), (True, False, 0.0, np.sqrt(30**2 + 8**2 + 8**2)), (False, True, 0.0, np.sqrt(1028.0))],
)
def test_empty_masks(first: bool, second: bool, overlap: float, distance: float) -> None:
    masks = [np.zeros((10, 8, 8), bool), np.zeros((10, 8, 8), bool)]
    masks[0][4, 4, 4], masks[1][4, 4, 4] = first, second
    scores = score_masks(*masks, (3.0, 1.0, 1.0))
    assert (scores.dice, scores.surface_dice) == (overlap, overlap)
    assert scores.hd95_mm == scores.hd95_pooled_mm == scores.assd_mm == pytest.approx(distance)


@given(st.integers(0, 40))
@settings(deadline=None, max_examples=15)
def test_as_medpy_computes_them(seed: int) -> None:
    medpy = pytest.importorskip("medpy.metric.binary", reason="medpy is not installed; it is only a reference")
    predicted, true = _blob(seed), _blob(seed + 1000)
    scores = score_masks(predicted, true, SPACING)
    assert scores.dice == pytest.approx(medpy.dc(predicted, true))
    assert scores.iou == pytest.approx(medpy.jc(predicted, true))
    assert scores.hd95_pooled_mm == pytest.approx(medpy.hd95(predicted, true, voxelspacing=SPACING))
    assert scores.assd_mm == pytest.approx(medpy.assd(predicted, true, voxelspacing=SPACING))


@pytest.mark.parametrize("shape", ["voxel", "border", "plate"])
def test_as_medpy_computes_small_and_cut_off_masks(shape: str) -> None:
    """A single voxel is its own surface; what lies outside the image is outside the mask."""
    medpy = pytest.importorskip("medpy.metric.binary", reason="medpy is not installed; it is only a reference")
    true = np.zeros((8, 12, 10), bool)
    true[2:6, 3:9, 2:7] = True
    predicted = np.zeros_like(true)
    if shape == "voxel":
        predicted[7, 11, 9] = True
    elif shape == "border":
        predicted[:, :6, :] = True
    else:
        predicted[3] = True
    scores = score_masks(predicted, true, SPACING)
    assert scores.hd95_pooled_mm == pytest.approx(medpy.hd95(predicted, true, voxelspacing=SPACING))
    assert scores.assd_mm == pytest.approx(medpy.assd(predicted, true, voxelspacing=SPACING))
    assert scores.predicted_ml == pytest.approx(predicted.sum() * np.prod(SPACING) / 1000)


def _monai_hd95(predicted: np.ndarray, true: np.ndarray) -> float:
    import torch
    from monai.metrics import HausdorffDistanceMetric

    metric = HausdorffDistanceMetric(include_background=True, percentile=95, directed=False)
    pair = [torch.from_numpy(mask[None, None].astype(np.float32)) for mask in (predicted, true)]
    return float(metric(*pair, spacing=list(SPACING)))


@given(st.integers(0, 40))
@settings(deadline=None, max_examples=15)
def test_hd95_as_monai_has_it(seed: int) -> None:
    predicted, true = _blob(seed), _blob(seed + 1000)
    scores = score_masks(predicted, true, SPACING)
    assert scores.hd95_mm == pytest.approx(_monai_hd95(predicted, true), rel=1e-5)
    assert scores.hd95_pooled_mm <= scores.hd95_mm


def test_a_distant_false_positive_shows_in_hd95() -> None:
    """Pooled distances hide it behind the many voxels that are right."""
    true = np.zeros((20, 60, 60), bool)
    true[4:16, 5:25, 5:25] = True
    predicted = true.copy()
    predicted[8:12, 46:52, 46:52] = True
    scores = score_masks(predicted, true, SPACING)
    assert scores.dice > 0.98
    assert scores.hd95_mm == pytest.approx(_monai_hd95(predicted, true), rel=1e-5)
    assert scores.hd95_mm > 20
    assert scores.hd95_pooled_mm == 0


@given(st.integers(0, 30))
@settings(deadline=None, max_examples=8)
def test_surface_dice_by_surfels_as_deepmind_has_it(seed: int) -> None:
    """Also on whole images: what is cut away around the masks makes no difference."""
    theirs = pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    predicted, true = _blob(seed), _blob(seed + 500)
    found = score_masks(predicted, true, SPACING, tolerance_mm=1.0, surfels=True)
    distances = theirs.compute_surface_distances(true, predicted, list(SPACING))
    expected = theirs.compute_surface_dice_at_tolerance(distances, 1.0)
    assert found.surface_dice_surfels == pytest.approx(expected)
    assert score_masks(predicted, true, SPACING).surface_dice_surfels is None


def test_surface_dice_by_surfels_of_empty_masks_and_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("surface_distance", reason="surface-distance is not installed")
    from hcc_tace_data.labels import scores

    one, none = np.ones((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    found = [score_masks(a, b, SPACING, surfels=True).surface_dice_surfels for a, b in ((one, none), (none, none))]
    assert found == [0.0, 1.0]
    monkeypatch.setattr(scores, "find_spec", lambda name: None)
    assert score_masks(one, one, SPACING, surfels=True).surface_dice_surfels is None


def test_two_single_voxels_by_hand() -> None:
    one, other = np.zeros((5, 6, 7), bool), np.zeros((5, 6, 7), bool)
    one[0, 0, 0], other[2, 4, 0] = True, True
    scores = score_masks(one, other, SPACING)
    assert scores.hd95_mm == scores.assd_mm == pytest.approx(np.hypot(2 * 2.5, 4 * 0.75))
    assert scores.surface_dice == scores.dice == 0


@given(st.integers(0, 40), st.tuples(*[st.integers(0, 5)] * 3))
@settings(deadline=None, max_examples=20)
def test_scores_are_symmetric_and_do_not_see_the_margin(seed: int, margin: tuple[int, int, int]) -> None:
    predicted, true = _blob(seed), _blob(seed + 7)
    pad = [(m, m) for m in margin]
    one = score_masks(predicted, true, SPACING)
    other = score_masks(np.pad(true, pad), np.pad(predicted, pad), SPACING)
    for name in ("dice", "iou", "hd95_mm", "hd95_pooled_mm", "assd_mm", "surface_dice"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))
    assert one.volume_error_ml == pytest.approx(-other.volume_error_ml)


def test_lesions_match_once() -> None:
    true = np.zeros((1, 20, 20), bool)
    true[0, 2:6, 2:6] = True
    true[0, 12:16, 12:16] = True
    predicted = np.zeros_like(true)
    predicted[0, 2:6, 2:4] = True
    predicted[0, 2:6, 5:6] = True
    predicted[0, 18, 18] = True
    result = lesion_detection(predicted, true)
    assert result == {"lesions": 2, "found": 1, "false_positives": 2, "sensitivity": 0.5, "precision": 1 / 3}
    assert lesion_detection(true, true)["found"] == 2
    assert lesion_detection(np.zeros_like(true), np.zeros_like(true))["sensitivity"] == 1.0


def test_nonsense_is_refused() -> None:
    with pytest.raises(UsageError, match="resample"):
        dice(np.zeros((2, 2)), np.zeros((2, 3)))
    with pytest.raises(UsageError, match="spacing"):
        score_masks(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), (1, 0, 1))


@pytest.mark.parametrize(("shift", "radius"), [((0, 0, 0), 14.0), ((4, 3, 0), 12.0), ((0, 2, 5), 10.0)])
def test_as_surface_meshes_have_it(shift: tuple[int, int, int], radius: float) -> None:
    """Meshes lie between voxels and weigh by area, voxel centres do neither: distances agree to a part of a voxel."""
    meshes = pytest.importorskip(
        "meshmetrics", reason="pymeshmetrics (extra 'bench') is not installed; a reference only"
    )
    import SimpleITK

    step = np.array([2.0, 1.0, 1.0])
    place = np.stack(np.mgrid[:24, :48, :48], axis=-1) * step
    true = np.linalg.norm(place - [24, 24, 24], axis=-1) < 12
    predicted = np.linalg.norm(place - np.add([24, 24, 24], shift), axis=-1) < radius
    images = []
    for mask in (true, predicted):
        image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
        image.SetSpacing(step[::-1].tolist())
        images.append(image)
    theirs = meshes.compute_metrics(*images, taus=(2.0,))
    ours = score_masks(predicted, true, step)
    assert ours.dice == pytest.approx(theirs["DSC"])
    assert ours.iou == pytest.approx(theirs["IoU"])
    assert ours.hd95_mm == pytest.approx(theirs["HD_95"], abs=1.0)  # half the longest side of a voxel
    assert ours.assd_mm == pytest.approx(theirs["ASSD"], abs=0.5)
    assert ours.surface_dice == pytest.approx(theirs["NSD_2.0"], abs=0.15)
