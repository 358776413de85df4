"""One page that shows which phases every visit of every patient has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hcc_tace_data.phases.names import PHASES, UNKNOWN, phase_records
from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.system.words import count

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["draw_phases", "phase_figure"]

_ROWS = 35  # patients in a column of the page
_GAP = 0.6
#: A filled lower right corner: what is inferred.
_CORNER = [(-1, -1), (1, -1), (1, 1)]


def draw_phases(volumes: pd.DataFrame, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Write the picture as PNG (or whatever the suffix names), whole or not at all."""
    with atomic_path(path) as temporary:
        phase_figure(volumes, title=title).savefig(temporary, dpi=150)


def phase_figure(volumes: pd.DataFrame, *, title: str = "") -> Figure:
    """Draw patients x phases.

    Parameters
    ----------
    volumes : pandas.DataFrame
        A phase table.
    title : str
        First line of the page.

    Returns
    -------
    matplotlib.figure.Figure
        A4 for the whole collection. A square a phase and visit, the fainter the less certain; a number where a visit
        has several volumes of a phase; a dot where the segmentation was drawn; a bar below volumes that one series
        stacks; a red frame where sources disagree; a black corner where the phase is inferred, not published.
    """
    from matplotlib.figure import Figure

    patients = sorted(volumes["patient_id"].unique())
    columns = [patients[start : start + _ROWS] for start in range(0, len(patients), _ROWS)] or [[]]
    visits = max((rows["study_date"].nunique() for _, rows in volumes.groupby("patient_id")), default=1)
    longest = max(len(column) for column in columns)
    wide = len(PHASES) * visits + _GAP * (visits - 1)
    width = max(5.0, len(columns) * (wide * 0.21 + 0.85) + 0.3)
    figure = Figure(figsize=(width, 1.75 + 0.26 * longest + 0.3))
    height = figure.get_figheight()
    figure.text(0.15 / width, 1 - 0.22 / height, title or "Contrast phases", fontsize=12, weight="bold", va="top")
    figure.text(0.15 / width, 1 - 0.5 / height, _totals(volumes), fontsize=8, va="top")
    for place, names in enumerate(columns):
        left = (place * (wide * 0.21 + 0.85) + 0.85) / width
        tall = 0.26 * max(1, len(names))
        axes = figure.add_axes((left, 1 - (1.2 + tall) / height, wide * 0.21 / width, tall / height))
        _column(axes, volumes, names, visits, wide)
    _legend(figure, width, height)
    return figure


def _totals(volumes: pd.DataFrame) -> str:
    counts = volumes["phase"].value_counts()
    parts = [f"{_name(phase)} {counts.get(phase, 0)}" for phase in PHASES if phase != UNKNOWN or counts.get(phase, 0)]
    return f"{count(volumes['patient_id'].nunique(), 'patient')}, {count(len(volumes), 'volume')}: {', '.join(parts)}"


def _name(phase: str) -> str:
    return phase_records()[phase].name.lower()


def _column(axes: Any, volumes: pd.DataFrame, names: Sequence[str], visits: int, wide: float) -> None:
    axes.set(xlim=(0, wide), ylim=(len(names) or 1, 0))
    axes.set_yticks([row + 0.5 for row in range(len(names))], names, fontsize=7)
    starts = [visit * (len(PHASES) + _GAP) for visit in range(visits)]
    axes.set_xticks(
        [start + cell + 0.5 for start in starts for cell in range(len(PHASES))],
        [phase_records()[phase].short for _ in starts for phase in PHASES],
        fontsize=6,
    )
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    for number, start in enumerate(starts, start=1):
        axes.annotate(
            f"visit {number}", (start + len(PHASES) / 2, 0), (0, 14), fontsize=7, ha="center",
            textcoords="offset points", annotation_clip=False,
        )  # fmt: skip
    for row, name in enumerate(names):
        days = sorted(volumes.loc[volumes["patient_id"] == name, "study_date"].unique())
        for day, start in zip(days, starts, strict=False):
            here = volumes[(volumes["patient_id"] == name) & (volumes["study_date"] == day)]
            _visit(axes, here, row, start)


def _visit(axes: Any, here: pd.DataFrame, row: int, start: float) -> None:
    from matplotlib.patches import Rectangle

    for cell, phase in enumerate(PHASES):
        x = start + cell
        rows = here[here["phase"] == phase]
        if not len(rows):
            axes.add_patch(Rectangle((x + 0.1, row + 0.12), 0.8, 0.68, color="#eeeeee", lw=0))
            continue
        strength = float(rows["confidence"].max()) if phase != UNKNOWN else 1.0
        colour, alpha = phase_records()[phase].colours.light, max(0.15, strength**2)
        axes.add_patch(Rectangle((x + 0.1, row + 0.12), 0.8, 0.68, color=colour, alpha=alpha, lw=0))
        if any(_disagree(one) for one in rows.to_dict("records")):
            axes.add_patch(Rectangle((x + 0.1, row + 0.12), 0.8, 0.68, fill=False, ec="#e00000", lw=1.2))
        if len(rows) > 1:
            axes.text(x + 0.5, row + 0.46, str(len(rows)), fontsize=6, ha="center", va="center", color="white")
        if (rows["annotated"] == True).any():  # noqa: E712  (None where it cannot be determined)
            axes.plot(x + 0.5, row + 0.46, "o", ms=3.2, color="white", mec="black", mew=0.6)
        if phase != UNKNOWN and (rows["source"] == "inferred").any():
            axes.plot(x + 0.81, row + 0.7, marker=_CORNER, ms=3.4, color="black", mew=0, gid="inferred")
    for _, stack in here.groupby("series_uid"):
        cells = [PHASES.index(phase) for phase in stack["phase"]]
        if len(cells) > 1:
            axes.plot([start + min(cells) + 0.1, start + max(cells) + 0.9], [row + 0.9] * 2, lw=1.4, color="black")


def _disagree(row: dict[Any, Any]) -> bool:
    said = {row[f"phase_{source}"] for source in ("table", "headers", "pixels")} - {"unknown"}
    return len(said) > 1


def _legend(figure: Figure, width: float, height: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=phase_records()[phase].colours.light, label=_name(phase)) for phase in PHASES]
    handles += [
        Line2D([], [], marker="o", color="none", mfc="white", mec="black", ms=5, label="segmentation drawn here"),
        Line2D([], [], color="black", lw=1.4, label="stacked in one series"),
        Patch(fill=False, ec="#e00000", label="sources disagree"),
        Line2D([], [], marker=_CORNER, color="none", mfc="black", mec="none", ms=4, label="inferred, not published"),
        Patch(color=phase_records()["portal_venous"].colours.light, alpha=0.3, label="faint: uncertain"),
    ]
    columns = len(handles) if width > 9 else 5 if width > 6.5 else 3
    figure.legend(
        handles=handles, loc="lower left", ncols=columns, fontsize=7, frameon=False, handlelength=1.2,
        columnspacing=1.2, bbox_to_anchor=(0.05 / width, 0.02 / height),
    )  # fmt: skip
