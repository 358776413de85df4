"""Contours follow their masks exactly; slices are shown the right way round."""

from __future__ import annotations

import base64
import io
import re
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from hcc_tace_data.report.strips import choose_slices, contour_path, make_strip


def _inside(path: str, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Fill a path by the even-odd rule, sampled at pixel centres (half pixels of the path: 2 i + 1)."""
    winding = np.zeros(shape, dtype=int)
    for part in filter(None, path.split("z")):
        numbers = [int(n) for n in re.findall(r"-?\d+", part)]
        steps = np.array(numbers, dtype=float).reshape(-1, 2)
        points = np.cumsum(steps, axis=0)
        assert re.match(r"^M\d+ \d+(l-?\d+ -?\d+)+$", part)
        closed = np.vstack([points, points[:1]])
        rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
        x, y = 2.0 * columns + 1, 2.0 * rows + 1 + 1e-3
        for (x0, y0), (x1, y1) in pairwise(closed):
            if y0 == y1:
                continue
            crosses = (y0 > y) != (y1 > y)
            winding += crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return winding % 2 == 1


@given(arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))))
@settings(deadline=None, max_examples=150)
def test_a_contour_encloses_its_mask_and_nothing_else(mask: npt.NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(_inside(contour_path(mask), mask.shape), mask)


def test_slices_hold_the_largest_section_of_the_tumour() -> None:
    label = np.zeros((40, 8, 8), dtype=np.uint8)
    label[10:30, 2:6, 2:6] = 1
    label[13, 2, 2] = 2
    label[23, 2:5, 2:5] = 2
    chosen = choose_slices(label, count=5, tumour=2)
    assert 23 in chosen
    assert len(chosen) == 5
    assert chosen == sorted(chosen, reverse=True)
    assert all(10 <= index < 30 for index in chosen)
    assert choose_slices(np.zeros((3, 4, 4), dtype=np.uint8), count=5, tumour=2) == [2, 1, 0]


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_the_patients_right_is_on_the_left_and_the_back_below(rows: int, columns: int) -> None:
    """A bright voxel and its label at the patient's left back show at the lower right, however the grid runs."""
    image = np.full((1, 20, 30), 0, dtype=np.int16)
    label = np.zeros((1, 20, 30), dtype=np.uint8)
    place = (0, 15 if rows > 0 else 4, 25 if columns > 0 else 4)
    image[place], label[place] = 1000, 2
    affine = np.array([[0, 0, 0.8 * columns, 0], [0, 0.8 * rows, 0, 0], [5, 0, 0, 0], [0, 0, 0, 1]], dtype=float)
    (shown,) = make_strip(image, label, affine=affine, indices=[0], numbers={2: "tumour"})
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.image.split(",")[1]))))
    assert np.unravel_index(picture.argmax(), picture.shape) == (15, 25)
    (contour,) = shown.contours
    assert contour.path.startswith("M")
    np.testing.assert_array_equal(np.argwhere(_inside(contour.path, picture.shape)), [[15, 25]])
    assert shown.aspect == pytest.approx(1.5)
