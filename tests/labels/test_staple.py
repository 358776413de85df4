"""STAPLE as ITK computes it, and what it must do where ITK gives up."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from hcc_tace_data import fuse_staple
from hcc_tace_data.errors import FusionError, UsageError
from hcc_tace_data.labels.staple import fuse_masks
from hcc_tace_data.labels.votes import vote


def _readers(seed: int, count: int, shape: tuple[int, ...] = (4, 11, 9)) -> list[np.ndarray]:
    """Readers who see one true mask with their own sensitivity and specificity."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, bool)
    truth[1:3, 2:8, 2:7] = True
    readers = []
    for _ in range(count):
        p, q = rng.uniform(0.75, 0.98), rng.uniform(0.85, 0.995)
        said = np.where(truth, rng.random(shape) < p, rng.random(shape) > q)
        readers.append(said.astype(np.uint8))
    return readers


def _itk(readers: list[np.ndarray], weight: float = 1.0) -> tuple[np.ndarray, tuple, tuple, int]:
    staple = sitk.STAPLEImageFilter()
    staple.SetForegroundValue(1)
    staple.SetConfidenceWeight(weight)
    image = staple.Execute([sitk.GetImageFromArray(reader) for reader in readers])
    return (
        sitk.GetArrayFromImage(image),
        staple.GetSensitivity(),
        staple.GetSpecificity(),
        staple.GetElapsedIterations(),
    )


@pytest.mark.parametrize("count", range(2, 9))
def test_equal_to_itk(count: int) -> None:
    for seed in range(30):
        readers = _readers(1000 * count + seed, count)
        probability, sensitivity, specificity, iterations = _itk(readers)
        ours = fuse_staple(readers)
        assert ours.iterations[1] == iterations
        np.testing.assert_allclose(ours.probability[1], probability, rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours.sensitivity[1], sensitivity, rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.specificity[1], specificity, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(ours.label_map, probability >= 0.5)


@pytest.mark.parametrize("kind", ["sparse", "dense", "nearly identical", "against each other", "guessing", "nested"])
def test_equal_to_itk_to_the_last_bit_where_rounding_decides(kind: str) -> None:
    """Readers who stand against each other like for like: the iteration leaves the balance by rounding alone."""
    for seed in range(12):
        rng = np.random.default_rng([seed, len(kind)])
        shape = tuple(int(n) for n in rng.integers(1, 12, 3))
        truth = rng.random(shape) < {"sparse": 0.03, "dense": 0.97}.get(kind, 0.4)
        readers = []
        for number in range(int(rng.integers(2, 9))):
            p, q = rng.uniform(0.6, 0.99, 2) if kind != "guessing" else rng.uniform(0.1, 1, 2)
            if kind == "nearly identical":
                p = q = 0.99
            if kind == "against each other" and number % 2:
                p, q = 1 - p, 1 - q
            readers.append(np.where(truth, rng.random(shape) < p, rng.random(shape) > q).astype(np.uint8))
        if kind == "nested":
            readers = [readers[0] | readers[1], readers[0]]
        readers[0].flat[0], readers[-1].flat[-1] = 1, 0
        if not any(reader.any() for reader in readers) or all(reader.all() for reader in readers):
            continue  # defined apart: ITK divides by zero
        probability, sensitivity, _, iterations = _itk(readers)
        ours = fuse_staple(readers, labels=[1])
        np.testing.assert_array_equal(ours.probability[1], probability)
        np.testing.assert_array_equal(ours.sensitivity[1], sensitivity)
        np.testing.assert_array_equal(ours.label_map, probability >= 0.5)
        assert ours.iterations[1] == iterations
        single = fuse_staple(readers, labels=[1], dtype="float32")
        np.testing.assert_array_equal(single.label_map, ours.label_map)


def test_equal_to_itk_in_an_image_too_large_to_be_summed_voxel_by_voxel() -> None:
    readers = [np.kron(reader, np.ones((4, 16, 12), np.uint8)) for reader in _readers(8, 4)]
    assert readers[0].size > 1 << 18
    probability, sensitivity, specificity, iterations = _itk(readers)
    ours = fuse_staple(readers)
    assert ours.iterations[1] == iterations
    np.testing.assert_allclose(ours.probability[1], probability, rtol=0, atol=1e-8)
    np.testing.assert_allclose(ours.sensitivity[1], sensitivity, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.specificity[1], specificity, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours.label_map, probability >= 0.5)


def test_equal_to_itk_with_a_weight() -> None:
    readers = _readers(7, 3)
    probability, sensitivity, _, iterations = _itk(readers, 0.6)
    ours = fuse_staple(readers, weight=0.6)
    assert ours.iterations[1] == iterations
    np.testing.assert_allclose(ours.probability[1], probability, atol=1e-8)
    np.testing.assert_allclose(ours.sensitivity[1], sensitivity, atol=1e-9)


def test_planted_performance_is_recovered_and_fusion_beats_each_reader() -> None:
    rng = np.random.default_rng(0)
    truth = np.zeros((20, 60, 60), bool)
    truth[5:15, 15:45, 10:50] = True
    planted = [(0.95, 0.99), (0.85, 0.97), (0.75, 0.995)]
    readers = [
        np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) > q).astype(np.uint8) for p, q in planted
    ]
    fused = fuse_staple(readers)
    for number, (p, q) in enumerate(planted):
        # five standard errors of a share
        assert abs(fused.sensitivity[1][number] - p) < 5 * np.sqrt(p * (1 - p) / truth.sum())
        assert abs(fused.specificity[1][number] - q) < 5 * np.sqrt(q * (1 - q) / (~truth).sum())

    def dice(mask: np.ndarray) -> float:
        return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))

    assert dice(fused.label_map == 1) > max(dice(reader == 1) for reader in readers)


@given(seed=st.integers(0, 500), count=st.integers(2, 5))
@settings(deadline=None, max_examples=40)
def test_order_of_readers_and_place_in_the_image_do_not_matter(seed: int, count: int) -> None:
    readers = _readers(seed, count)
    order = np.random.default_rng(seed).permutation(count)
    one, other = fuse_staple(readers), fuse_staple([readers[i][::-1, :, ::-1] for i in order])
    np.testing.assert_allclose(other.probability[1][::-1, :, ::-1], one.probability[1], atol=1e-9)
    np.testing.assert_allclose(other.sensitivity[1], one.sensitivity[1][order], atol=1e-9)


def test_each_label_is_fused_on_its_own_and_conflicts_go_to_the_higher_probability() -> None:
    maps = [np.where(_readers(s, 1)[0] == 1, 1 + (np.indices((4, 11, 9))[2] > 4), 0) for s in (1, 2, 3)]
    fused = fuse_staple(maps)
    for label in (1, 2):
        alone = fuse_staple([(m == label).astype(np.uint8) for m in maps])
        np.testing.assert_array_equal(fused.probability[label], alone.probability[1])
    both = np.stack([fused.probability[1], fused.probability[2]])
    expected = np.where(both.max(axis=0) >= 0.5, both.argmax(axis=0) + 1, 0)
    np.testing.assert_array_equal(fused.label_map, expected)


def test_float32_agrees() -> None:
    readers = _readers(3, 3)
    single, double = fuse_staple(readers, dtype="float32"), fuse_staple(readers)
    assert single.probability[1].dtype == np.float32
    np.testing.assert_allclose(single.probability[1], double.probability[1], atol=1e-6)


def test_many_readers() -> None:
    readers = _readers(5, 20)
    truth = fuse_staple(readers[:16]).label_map
    assert (fuse_staple(readers).label_map != truth).mean() < 0.01


def test_the_unions_box_has_a_lower_specificity_than_the_image() -> None:
    readers = [np.pad(reader, 20) for reader in _readers(9, 3)]
    image, box = fuse_staple(readers), fuse_staple(readers, region="union")
    assert image.prior[1] < box.prior[1]
    assert (image.specificity[1] > box.specificity[1]).all()
    assert box.region == "union"


def test_degenerate_readers() -> None:
    mask = _readers(2, 1)[0]
    empty, full = np.zeros_like(mask), np.ones_like(mask)
    one = fuse_staple([mask])
    np.testing.assert_array_equal(one.label_map, mask)
    np.testing.assert_array_equal(fuse_staple([mask, mask, mask]).label_map, mask)
    nobody = fuse_staple([empty, empty], labels=[1])
    assert not nobody.probability[1].any()
    assert np.isnan(nobody.sensitivity[1]).all()
    everybody = fuse_staple([full, full])
    assert (everybody.probability[1] == 1).all()
    assert np.isnan(everybody.specificity[1]).all()
    for readers in ([mask, mask, empty], [mask, full, mask], [mask, 1 - mask]):
        fused = fuse_staple(readers)
        assert np.isfinite(fused.probability[1]).all()
    np.testing.assert_array_equal(fuse_staple([mask, mask, empty]).label_map, mask)
    assert fuse_staple([empty]).label_map.max() == 0


def test_nonsense_is_refused() -> None:
    mask = _readers(2, 1)[0]
    with pytest.raises(FusionError, match="no readers"):
        fuse_staple([])
    with pytest.raises(FusionError, match="reader 2 has shape"):
        fuse_staple([mask, mask[1:]])
    with pytest.raises(FusionError, match="float64"):
        fuse_staple([mask, mask * 0.5])
    with pytest.raises(UsageError, match="each label once"):
        fuse_staple([mask], labels=[1, 1])
    with pytest.raises(UsageError, match="threshold"):
        fuse_staple([mask], threshold=0)


@pytest.mark.parametrize(
    ("readers", "message"),
    [
        ([[[1, 0], [1]]], "not an array of labels"),
        ([np.array([0, -1])], "holds the value -1"),
        ([np.array([0.0, np.nan])], "float64"),
        (["one.nii.gz", np.array([0, 1])], "all as files, or all as arrays"),
    ],
)
def test_what_is_no_label_map_is_refused(readers: list[object], message: str) -> None:
    with pytest.raises(FusionError, match=message):
        fuse_staple(readers)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [np.inf, np.nan, -1.0])
def test_a_weight_that_is_none_is_refused(weight: float) -> None:
    with pytest.raises(UsageError, match="weight"):
        fuse_staple([np.array([0, 1])], weight=weight)


def test_masks_of_probabilities_are_refused() -> None:
    with pytest.raises(FusionError, match="float64"):
        fuse_masks([{1: np.array([0.0, np.nan])}, {1: np.array([0.0, 1.0])}])
    with pytest.raises(UsageError, match="background"):
        fuse_masks([{0: np.array([0, 1])}])


@pytest.mark.parametrize("label", [255, 256, 2**31, 2**40, 2**64 - 1])
def test_labels_of_any_size(label: int) -> None:
    reader = np.array([0, label], dtype=np.uint64)
    assert fuse_staple([reader, reader]).label_map.tolist() == [0, label]
    assert vote([reader, reader]).tolist() == [0, label]


def test_views_and_types_do_not_matter() -> None:
    readers = _readers(4, 3)
    plain = fuse_staple(readers)
    for other in (
        [np.asfortranarray(reader) for reader in readers],
        [np.repeat(reader, 2, axis=2)[:, :, ::2] for reader in readers],
        [reader[::-1].copy()[::-1] for reader in readers],
        [reader.astype(bool) for reader in readers],
        [reader.astype(np.int64) for reader in readers],
    ):
        again = fuse_staple(other)
        np.testing.assert_array_equal(again.probability[1], plain.probability[1])
        np.testing.assert_array_equal(again.label_map, plain.label_map)
