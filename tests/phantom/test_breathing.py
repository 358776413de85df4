"""Motion of the twin's body between sweeps, and the ground truth of it."""

from __future__ import annotations

import numpy as np
import pytest

from hcc_tace_data.errors import UsageError
from hcc_tace_data.phantom.breathing import volume_motion
from hcc_tace_data.phantom.canvas import Canvas
from hcc_tace_data.phantom.plan import PatientPlan, load_table, plan_patient

ORIGIN = np.array([-12.0, 8.0, -260.0])


def motions(plan: PatientPlan) -> list:
    return [
        (series, volume, volume_motion(plan, series, volume, ORIGIN))
        for series in plan.series
        for volume in series.volumes
    ]


def points() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.uniform((-110, -70, -80), (60, 60, 80), (400, 3))


@pytest.mark.parametrize("breathing", ["affine", "deformable"])
def test_points_of_the_body_are_painted_where_the_truth_has_them(breathing: str) -> None:
    """The canvas looks places of a volume up in the body; the truth goes the other way."""
    plan = plan_patient(load_table(), "HCC_048", breathing=breathing)
    for _, _, motion in motions(plan):
        for point in points()[:20]:
            (at,) = motion.of(point[None])
            canvas = Canvas(*(np.array([one], np.float32) for one in at), motion.affine, motion.bend)
            back = [float(axis.ravel()[0]) for axis in (canvas.x, canvas.y, canvas.z)]
            assert back == pytest.approx(list(point), abs=0.02)


def test_breathing_of_people_is_not_affine() -> None:
    plan = plan_patient(load_table(), "HCC_048", breathing="deformable")
    annotated = plan.segmentation.annotated_series
    left = []
    for series, _, motion in motions(plan):
        if series.series_uid == annotated:
            assert motion.bend is None
            continue
        here = motion.of(points())
        found, *_ = np.linalg.lstsq(np.c_[points(), np.ones(400)], here, rcond=None)
        left.append(np.linalg.norm(np.c_[points(), np.ones(400)] @ found - here, axis=1))
    assert 0.6 < np.mean(left) < 4  # what the best affine transform leaves, mm
    assert 2 < np.max(left) < 15


def test_other_breathing_is_refused() -> None:
    with pytest.raises(UsageError, match="affine, deformable"):
        plan_patient(load_table(), "HCC_048", breathing="nasal")
