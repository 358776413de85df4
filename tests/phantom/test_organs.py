"""Organs side by side: none within another, and none with the steps of the grid that it was computed on."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from hcc_tace_data.phantom.anatomy import paint
from hcc_tace_data.phantom.body import Body, draw_bodies
from hcc_tace_data.phantom.canvas import Canvas, ellipsoid
from hcc_tace_data.phantom.enhancement import Tissue
from hcc_tace_data.phantom.plan import load_table, plan_patient
from hcc_tace_data.phantom.sheet import draw_course

PATIENTS = ["HCC_012", "HCC_034", "HCC_055", "HCC_067"]


@cache
def body(name: str) -> Body:
    course = draw_course(0, name)
    person = plan_patient(load_table(), name, size="full").person
    return draw_bodies(person, shrink=course.shrink, viable=course.viable)[0]


def canvas(name: str) -> Canvas:
    one = body(name)
    xs, ys = (np.arange(-half - 30, half + 30, 2.0, dtype=np.float32) for half in one.cavity)
    return Canvas(xs, ys, np.arange(-one.height, one.height, 6.0, dtype=np.float32), np.eye(4))


@pytest.mark.parametrize("name", PATIENTS)
def test_no_bowel_lies_within_the_stomach(name: str) -> None:
    painted = paint(body(name), canvas(name))
    stomach = body(name).stomach
    at = np.broadcast_arrays(painted.canvas.x, painted.canvas.y, painted.canvas.z)
    inside = ellipsoid(*at, stomach.centre, stomach.radii) <= 1
    assert np.count_nonzero(inside & (painted.tissue == Tissue.STOMACH_WALL)) > 50
    assert not np.any(inside & (painted.tissue == Tissue.BOWEL))


@pytest.mark.parametrize("name", PATIENTS)
def test_a_liver_that_touches_the_wall_follows_it_smoothly(name: str) -> None:
    """Within 1.5 mm of its limit there is liver nearly wherever there is liver farther in."""
    one = body(name)
    a, b = (half - 1.5 for half in one.cavity)
    angle, z = np.meshgrid(np.linspace(0.6 * np.pi, 1.4 * np.pi, 400), np.linspace(-0.7, 0.7, 40) * one.height)
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = (cos / a) ** 2, (sin / b) ** 2
    wall = (u * u + v * v + one.square * u * v) ** -0.25  # mm from the axis

    def at(depth: float) -> np.ndarray:
        r = wall - depth
        return one.liver.at(*(axis.astype(np.float32) for axis in (r * cos, r * sin, z))) > 0

    touching = np.all([at(depth) for depth in (5.0, 7.0, 9.0)], axis=0)
    for shift in range(-12, 13):  # not at the borders of the area that touches
        touching &= np.roll(at(5.0), shift, axis=1)
    assert touching.sum() > 300
    assert at(1.5)[touching].mean() > 0.85


def test_spleens_differ() -> None:
    """The hollow takes different shares of them."""
    share = []
    for name in PATIENTS:
        spleen = body(name).spleen
        painted = paint(body(name), canvas(name))
        cubes = 2.0 * 2.0 * 6.0 * np.count_nonzero(painted.tissue == Tissue.SPLEEN)
        share.append(cubes / (4 / 3 * np.pi * np.prod(spleen.radii)))
    assert max(share) - min(share) > 0.18


@pytest.mark.parametrize("name", PATIENTS)
def test_the_liver_leaves_room_for_kidneys_and_the_muscles_of_the_back(name: str) -> None:
    one = body(name)
    at = np.broadcast_arrays(*one.liver.on.mesh)
    liver = one.liver.values > 0
    for kidney in one.kidneys:
        assert not np.any(liver & (ellipsoid(*at, kidney.centre, kidney.radii) <= 1))
    for side in (-33, 33):
        assert not np.any(liver & (np.hypot((at[0] - side) / 25, (at[1] - one.spine_y - 18) / 19) <= 1))
