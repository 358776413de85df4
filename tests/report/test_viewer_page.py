"""The viewer in a browser: pixels change with every control, and nothing leaves the machine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hcc_tace_data import open_collection
from hcc_tace_data.report.server import ViewerServer
from hcc_tace_data.report.volumes import PatientVolumes


@pytest.fixture
def viewer(browser: Any, twin: Path, predicted: Path) -> Iterator[Any]:
    """The page of one patient, loaded."""
    volumes = PatientVolumes(open_collection(twin), "HCC_003", prediction=predicted / "HCC_003.nii.gz")
    with ViewerServer(volumes) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            browser.size(1100, 700)
            browser.open(running.url)
            browser.wait("document.body.dataset.state !== 'loading'")
            yield browser
            browser.driver.get("about:blank")
        finally:
            running.shutdown()
            thread.join()


def pixels(browser: Any) -> np.ndarray[Any, Any]:
    """What the canvas shows."""
    browser.run("viewer.drawScene()")
    element = browser.driver.find_element("id", "canvas")
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def differs(a: Any, b: Any) -> bool:
    return bool((np.abs(a - b).max(axis=2) > 12).mean() > 0.002)


def test_every_control_changes_the_picture(viewer: Any) -> None:
    assert viewer.run("return [document.body.dataset.state, document.querySelector('#status').textContent]") == [
        "ready",
        "",
    ]
    seen = [pixels(viewer)]
    assert seen[0].max() > 200
    colourful = np.ptp(seen[0], axis=2) > 40
    assert colourful.mean() > 0.01  # the labels' colours

    def step(script: str) -> None:
        viewer.run(script)
        viewer.wait("document.body.dataset.state !== 'loading'")
        seen.append(pixels(viewer))
        assert differs(seen[-1], seen[-2]), script

    step("document.querySelectorAll('#windows button')[3].click()")
    step("document.querySelectorAll('#windows button')[0].click()")
    step("document.querySelector('[data-label=\"1\"]').click()")
    step("document.querySelector('#outline').click()")
    step("document.querySelector('#outline').click()")
    step("document.querySelector('#prediction').click()")
    step("const s = document.querySelector('#slice'); s.value = +s.value + 3; s.dispatchEvent(new Event('input'))")
    place = viewer.run("return +document.body.dataset.slice")
    step("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}))")
    assert viewer.run("return +document.body.dataset.slice") == place - 1
    volume = viewer.run("return document.body.dataset.volume")
    step("document.querySelectorAll('#phases button')[0].click()")
    viewer.wait(f"document.body.dataset.volume !== '{volume}'")
    step("document.querySelectorAll('#views button')[3].click()")
    viewer.shot("viewer")
    viewer.assert_quiet()
    assert any(url.endswith("/labels.nii") for url in viewer.requests)
    assert any(url.endswith("/prediction.nii") for url in viewer.requests)


def show_follow_up(viewer: Any) -> None:
    viewer.run("[...document.querySelectorAll('#phases button')].at(-1).click()")
    viewer.wait("document.body.dataset.volume === '5' && document.body.dataset.state !== 'loading'")


def text(viewer: Any, selector: str) -> str:
    return str(viewer.run("return document.querySelector(arguments[0]).innerText", selector))


def test_carried_labels_are_marked_as_such(viewer: Any) -> None:
    assert viewer.run("return document.querySelector('#carried').hidden"), "these were drawn on this volume"
    show_follow_up(viewer)
    assert text(viewer, "#carried") == "Labels carried from the baseline by registration, not drawn on this CT"
    assert "No reader drew on this CT" in text(viewer, "#labels-note")
    assert viewer.run("return document.querySelector('#prediction').disabled")
    shown = pixels(viewer)
    assert (np.ptp(shown, axis=2) > 40).mean() > 0.01  # the labels' colours
    viewer.shot("viewer-carried")
    viewer.run("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'l', bubbles: true}))")
    assert viewer.run("return document.querySelector('#carried').hidden"), "no labels, nothing to mark"
    assert differs(pixels(viewer), shown)
    viewer.run("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'l', bubbles: true}))")
    viewer.run("[...document.querySelectorAll('#phases button')].at(0).click()")
    viewer.wait("document.body.dataset.volume === '0' && document.body.dataset.state !== 'loading'")
    assert viewer.run("return document.querySelector('#carried').hidden")
    viewer.assert_quiet()


def test_no_labels_where_the_registration_is_implausible(viewer: Any, refused: list[int]) -> None:
    show_follow_up(viewer)
    assert refused, "the registration was asked for"
    assert viewer.run("return [document.body.dataset.state, viewer.volumes.length]") == ["ready", 1]
    assert viewer.run("return document.querySelector('#carried').hidden")
    assert text(viewer, "#labels-note") == (
        "Labels not carried to this volume: the registration is implausible (it turns by 90 degrees)."
    )


def test_on_a_phone(viewer: Any) -> None:
    viewer.size(390, 844, phone=True)
    assert viewer.run("return document.documentElement.scrollWidth") <= 390
    rows, columns = crossed(viewer)
    assert (len(rows), len(columns)) == (1, 1)
    viewer.shot("viewer-phone")
    viewer.assert_quiet()


def crossed(viewer: Any) -> tuple[list[int], list[int]]:
    """The rows and the columns of screen pixels that the cross-hair covers."""
    canvas = viewer.run(
        "const box = document.querySelector('#canvas').getBoundingClientRect();"
        "return [box.left, box.top, box.right, box.bottom].map(edge => Math.round(edge * devicePixelRatio))"
    )
    pictures = []
    for shown in ("", "none"):
        viewer.run("document.querySelector('#crosshair').style.display = arguments[0]; viewer.drawScene()", shown)
        picture = Image.open(io.BytesIO(viewer.driver.get_screenshot_as_png())).convert("RGB").crop(canvas)
        pictures.append(np.asarray(picture).astype(int))
    viewer.run("document.querySelector('#crosshair').style.display = ''")
    drawn = np.abs(pictures[0] - pictures[1]).max(axis=2) > 5
    return list(np.flatnonzero(drawn.mean(axis=1) > 0.3)), list(np.flatnonzero(drawn.mean(axis=0) > 0.3))


@pytest.mark.parametrize("density", [1, 1.25, 1.5, 2])
def test_the_cross_hair_is_one_pixel_of_the_screen_wide(viewer: Any, density: float) -> None:
    viewer.size(1300, 800, density=density)
    viewer.wait("viewer.uiData.dpr === devicePixelRatio")
    rows, columns = crossed(viewer)
    assert (len(rows), len(columns)) == (1, 1)
    viewer.run("viewer.moveCrosshairInVox(1, 1, 0)")
    moved = crossed(viewer)
    assert (len(moved[0]), len(moved[1])) == (1, 1)
    assert moved[0] < rows, "it moves with the voxel: anterior is up"
    assert moved[1] != columns
    viewer.run("document.querySelectorAll('#views button')[3].click()")
    rows, columns = crossed(viewer)
    assert (len(rows), len(columns)) == (2, 2), "three planes: two rows of pictures, two columns"
    viewer.assert_quiet()


def test_the_cross_hair_is_nearly_white_on_every_label(viewer: Any) -> None:
    viewer.run("viewer.scene.crosshairPos = [0.6, 0.5, viewer.scene.crosshairPos[2]]")
    viewer.run("const s = document.querySelector('#opacity'); s.value = 1; s.dispatchEvent(new Event('input'))")
    column = pixels(viewer)
    _rows, columns = crossed(viewer)
    beside = column[:, columns[0] + 2]
    line = column[:, columns[0]][np.ptp(beside, axis=1) > 60]
    assert len(line) > 20, "the line passes over labels"
    assert (line.min(axis=1) > 185).all()
    assert (np.ptp(line, axis=1) < 60).all()


def test_the_cross_hair_is_where_a_click_put_it(viewer: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    canvas = viewer.driver.find_element("id", "canvas")
    ActionChains(viewer.driver).move_to_element_with_offset(canvas, 61, -40).click().perform()
    rows, columns = crossed(viewer)
    assert abs(columns[0] - (canvas.size["width"] / 2 + 61)) < 8
    assert abs(rows[0] - (canvas.size["height"] / 2 - 40)) < 8
