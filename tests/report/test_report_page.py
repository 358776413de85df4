"""The report in a browser: it shows, it filters, it asks nobody for anything."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def page(browser: Any, made: Any) -> Any:
    """The report, opened from disk at the width of a desk."""
    browser.size(1280, 1000)
    browser.dress("light")
    browser.open(made.summary.path.as_uri())
    return browser


def test_pictures_render_and_nothing_leaves_the_machine(page: Any, made: Any) -> None:
    page.wait("[...document.images].every(img => img.complete)")
    assert page.run("return document.images.length") == made.summary.pictures > 50
    assert page.run("return [...document.images].filter(img => !(img.naturalWidth > 20)).length") == 0
    assert page.run("return [...document.images].filter(img => img.alt.length < 30).length") == 0
    # every chart has a name and a description for those who cannot see it
    assert (
        page.run("return [...document.querySelectorAll('svg.chart')].filter(s => !s.querySelector('title')).length")
        == 0
    )
    # an outline lies over its picture, not beside it: the tumour's box is within the picture's
    assert page.run(
        "const path = document.querySelector('.strip path.k2');"
        "const a = path.getBoundingClientRect(), b = path.closest('.frame').getBoundingClientRect();"
        "return a.width > 2 && a.left > b.left && a.right < b.right && a.top > b.top && a.bottom < b.bottom"
    )
    page.shot("report-desk")
    page.assert_quiet()


def test_findings_are_filtered(page: Any) -> None:
    rows = page.run("return document.querySelectorAll('#f-table tbody tr').length")
    assert rows > 0
    shown = "return [...document.querySelectorAll('#f-table tbody tr')].filter(r => r.offsetParent).length"
    assert page.run(shown) == rows
    page.choose("#f-text", "no finding says this")
    assert page.run(shown) == 0
    assert page.run("return !!document.querySelector('#f-none').offsetParent")
    page.click("#f-reset")
    assert page.run(shown) == rows
    known = page.run("return document.querySelectorAll('#f-table tr[data-severity=known]').length")
    page.click(".chip[data-severity=known]")
    assert page.run(shown) == rows - known
    assert page.run("return document.querySelector('#f-count').textContent") == f"{rows - known} of {rows}"
    page.assert_quiet()


def test_patients_are_filtered_sorted_and_enlarged(page: Any, made: Any) -> None:
    shown = "return [...document.querySelectorAll('.patient')].filter(p => !p.hidden).map(p => p.dataset.id)"
    assert len(page.run(shown)) == made.summary.patients == 12
    page.choose("#p-text", "_04")
    assert page.run(shown) == ["HCC_041", "HCC_048"]
    page.choose("#p-text", "")
    page.choose("#p-sort", "dice")
    assert page.run(shown)[0] == made.scored
    page.choose("#p-response", "refractory")
    answers = page.run("return [...document.querySelectorAll('.patient:not([hidden])')].map(p => p.dataset.response)")
    assert set(answers) <= {"refractory"}
    page.choose("#p-response", "")
    page.click(".chip[data-layer=k1]")
    assert page.run("return getComputedStyle(document.querySelector('path.k1')).display") == "none"
    assert page.run("return getComputedStyle(document.querySelector('path.k2')).display") != "none"
    page.click(".slice")
    assert page.run("return document.querySelector('#zoom').open && !!document.querySelector('#zoomed img')")
    caption = "return document.querySelector('#zoomed figcaption').textContent"
    press = "document.querySelector('#zoom').dispatchEvent(new KeyboardEvent('keydown', {{key: '{}', bubbles: true}}))"
    first = page.run(caption)
    page.run(press.format("ArrowRight"))
    second = page.run(caption)
    assert second != first
    page.run(press.format("ArrowLeft"))
    assert page.run(caption) == first
    page.run(press.format("ArrowLeft"))
    assert page.run(caption) == first, "there is nothing before the first slice"
    page.assert_quiet()


def test_predictions_and_their_scores_are_shown(page: Any, made: Any) -> None:
    dashed = "return document.querySelectorAll(`#p-${arguments[0]} path.pred`).length"
    assert page.run(dashed, made.shifted) > 0
    assert page.run(dashed, "HCC_017") == 0
    text = "return document.querySelector(`#p-${arguments[0]}`).textContent.replace(/\\s+/g, ' ')"
    assert "Dice tumour0.420" in page.run(text, made.scored)
    assert "mm from its CT; not drawn" in page.run(text, "HCC_017")
    assert page.run("return document.querySelectorAll('#model tbody tr').length") >= 2


def test_curves_are_chosen(page: Any) -> None:
    shown = "return [...document.querySelectorAll('.curves')].filter(c => !c.hidden).map(c => c.dataset.by)"
    assert page.run(shown) == ["all"]
    page.choose("#s-by", "sex")
    assert page.run(shown) == ["sex"]
    assert "log-rank" in page.run("return document.querySelector('.curves[data-by=sex]').innerText")


def test_phone_dark_and_keyboard(page: Any) -> None:
    page.size(390, 844, phone=True)
    assert page.run("return document.documentElement.scrollWidth") <= 390
    light = page.run("return getComputedStyle(document.body).backgroundColor")
    page.dress("dark")
    assert page.run("return getComputedStyle(document.body).backgroundColor") != light
    page.shot("report-phone-dark")
    page.click("#theme")
    assert page.run("return getComputedStyle(document.body).backgroundColor") == light
    # whatever can be used can be reached with the keyboard, and says what it is
    unnamed = page.run(
        "return [...document.querySelectorAll('button, select, input, a[href]')].filter(e => !(e.textContent.trim() ||"
        " e.getAttribute('aria-label') || (e.labels && e.labels.length && e.labels[0].textContent.trim())) &&"
        " e.offsetParent).length"
    )
    assert unnamed == 0
    assert page.run("return [...document.querySelectorAll('[tabindex]')].filter(e => e.tabIndex > 0).length") == 0
    page.assert_quiet()


def test_print_shows_all_without_controls(page: Any) -> None:
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.run("return getComputedStyle(document.querySelector('.filters')).display") == "none"
    assert page.run("return getComputedStyle(document.querySelector('.scroll.tall')).overflowY") == "visible"
    assert page.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    # nobody scrolls paper: pictures far down are there as well
    assert page.run("return [...document.images].filter(img => !(img.complete && img.naturalWidth > 20)).length") == 0
    # what leads up to a table or a picture stays on its page; a flex row would let a patient's card be cut in two
    style = "return [...new Set([...document.querySelectorAll('{}')].map(e => getComputedStyle(e)['{}']))]"
    for selector in ("h2", "h3", ".lead", "ul.key", "ul.legend"):
        assert page.run(style.format(selector, "breakAfter")) == ["avoid"], selector
    assert page.run(style.format(".patient", "breakInside")) == ["avoid"]
    assert page.run(style.format(".strip", "display")) == ["block"]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_limits_of_agreement_are_inside_their_plots(page: Any) -> None:
    """The dashed lines are neither on the edge of the axes nor beyond."""
    found = page.run(
        "return [...document.querySelectorAll('svg.chart')].filter(s => s.querySelector('title').textContent"
        ".startsWith('Bland-Altman')).map(s => { const b = s.getBoundingClientRect(); return [b.top, b.bottom,"
        " ...[...s.querySelectorAll('.dashed')].map(l => l.getBoundingClientRect().top),"
        " s.querySelector('.axis').getBoundingClientRect().bottom]; })"
    )
    assert found
    for top, _, *lines, axis in found:
        assert len(lines) == 4
        assert all(top + 14 < line < axis - 2 for line in lines)


def test_inferred_phases_are_marked_and_explained(page: Any) -> None:
    counted = "return document.querySelectorAll('.matrix .cell{}').length"
    assert (
        page.run(counted.format(".inferred")) == page.run(counted.format(":not(.ph-unknown)")) > 0
    )  # a twin's all are
    corner = "return getComputedStyle(document.querySelector('{}'), '::after').backgroundImage"
    mark = page.run(corner.format(".matrix .cell.inferred"))
    assert "gradient" in mark
    assert page.run(corner.format(".key .inferred")) == mark
    hatched = page.run("return getComputedStyle(document.querySelector('.key .unsure')).backgroundImage")
    assert "repeating-linear-gradient" in hatched  # the colours of phases come later and must not hide it
    assert "inferred" in page.run("return document.querySelector('#phases .key').textContent")
    assert "inferred" in page.run("return document.querySelector('.matrix .inferred .sr').textContent")
