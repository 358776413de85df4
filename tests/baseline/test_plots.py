"""Pictures of an evaluation: what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hcc_tace_data.baseline import plots
from hcc_tace_data.baseline.run_files import write_log


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved."""
    figures: list[Any] = []

    def save(figure: Any, path: Path) -> Path:
        figures.append(figure)
        figure.draw_without_rendering()
        return path

    monkeypatch.setattr(plots, "_save", save)
    return figures


def write_run(folder: Path, *, by_step: bool) -> Path:
    stage = folder / "fold0" / "liver"
    stage.mkdir(parents=True)
    looks = [{"epoch": n, "steps": 20 * n, "loss": 1 / n, "dice": dice} for n, dice in ((1, 0.3), (2, 0.8), (3, 0.7))]
    write_log(stage / "log.csv", looks)
    if by_step:
        write_log(stage / "steps.csv", [{"step": n, "loss": 1 / n + 0.1 * (n % 2)} for n in range(1, 61)])
    return stage / "log.csv"


def test_curves_of_a_short_training_show_each_step(tmp_path: Path, drawn: list[Any]) -> None:
    plots.learning_curves(tmp_path / "curves.png", {"liver": [write_run(tmp_path, by_step=True)]})
    loss, dice = drawn[0].axes
    raw, mean, looks = loss.lines
    assert len(raw.get_xdata()) == len(mean.get_xdata()) == 60
    assert np.abs(np.diff(mean.get_ydata())[5:]).max() < 0.07 < np.abs(np.diff(raw.get_ydata())[5:]).max()
    assert mean.get_ydata().mean() == pytest.approx(raw.get_ydata().mean(), abs=0.02)
    scores, chosen = dice.lines
    for marked in (looks, scores):
        assert list(marked.get_xdata()) == [20, 40, 60]
        assert marked.get_marker() == "o"
    assert (float(chosen.get_xdata()[0]), float(chosen.get_ydata()[0])) == (40, 0.8)


def test_curves_of_a_run_without_losses_by_step(tmp_path: Path, drawn: list[Any]) -> None:
    plots.learning_curves(tmp_path / "curves.png", {"liver": [write_run(tmp_path, by_step=False)]})
    assert list(drawn[0].axes[0].lines[0].get_xdata()) == [20, 40, 60]


def test_limits_of_agreement_are_inside_the_plot(tmp_path: Path, drawn: list[Any]) -> None:
    values = [(100.0, -8.0), (200.0, 9.0), (300.0, -7.0)]
    cases = [
        {"labels": {label: {"volume_ml": v, "volume_error_ml": e} for label in ("liver", "tumour")}} for v, e in values
    ]
    plots.bland_altman(tmp_path / "volumes.png", cases)
    for axes in drawn[0].axes:
        low, high = axes.get_ylim()
        lines = [float(line.get_ydata()[0]) for line in axes.lines[1:]]
        assert len(lines) == 3
        assert all(low + 0.02 * (high - low) < y < high - 0.02 * (high - low) for y in lines)
