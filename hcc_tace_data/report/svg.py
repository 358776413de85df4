"""Charts as SVG text whose colours follow the page's light or dark dress."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import count

import numpy as np

__all__ = ["Chart", "nice_ticks"]

_numbers = count(1)


def nice_ticks(low: float, high: float, wanted: int = 6) -> list[float]:
    """Return round numbers from `low` to `high`.

    Examples
    --------
    >>> nice_ticks(0, 523)
    [0.0, 100.0, 200.0, 300.0, 400.0, 500.0]
    """
    span = max(high - low, 1e-9)
    power = 10.0 ** np.floor(np.log10(span / wanted))
    step = min((power * factor for factor in (1, 2, 2.5, 5, 10)), key=lambda s: abs(span / s - wanted))
    return [float(tick) for tick in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]


class Chart:
    """An SVG picture with one pair of axes.

    Parameters
    ----------
    title, description : str
        What a screen reader says.
    width, height : int
        Of the picture, in its own units (CSS pixels at natural size).
    x, y : tuple of float
        Ends of the axes in data units.
    margins : tuple of int
        Top, right, bottom, left.
    """

    def __init__(
        self,
        title: str,
        description: str,
        *,
        width: int,
        height: int,
        x: tuple[float, float],
        y: tuple[float, float],
        margins: tuple[int, int, int, int] = (16, 16, 44, 52),
    ) -> None:
        self.title, self.description = title, description
        self.width, self.height = width, height
        self._x, self._y = x, y
        self.top, self.right, self.bottom, self.left = margins
        self._parts: list[str] = []

    def x(self, value: float) -> float:
        """Place of a data value on the picture, from the left."""
        low, high = self._x
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Place of a data value on the picture, from the top."""
        low, high = self._y
        return self.height - self.bottom - (value - low) / (high - low) * (self.height - self.top - self.bottom)

    def text(self, x: float, y: float, text: str, *, anchor: str = "middle", kind: str = "") -> None:
        """Write at a place of the picture."""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="t {kind}">{escape(text)}</text>'
        )

    def line(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Draw a line through data points."""
        places = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        self._parts.append(f'<polyline points="{places}" class="{kind}" fill="none"/>')

    def area(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Fill a polygon of data points."""
        places = " ".join(f"{self.x(a):.1f},{self.y(b):.1f}" for a, b in points)
        self._parts.append(f'<polygon points="{places}" class="{kind}"/>')

    def bar(self, x: float, y0: float, y1: float, *, width: float, kind: str, tip: str) -> None:
        """Draw an upright bar of `width` data units around `x`, with a text shown when pointed at."""
        top, low = sorted((self.y(y0), self.y(y1)))
        left = self.x(x - width / 2)
        self._parts.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{self.x(x + width / 2) - left:.1f}" '
            f'height="{max(low - top, 1):.1f}" class="{kind}"><title>{escape(tip)}</title></rect>'
        )

    def dot(self, x: float, y: float, *, kind: str, tip: str, radius: float = 3) -> None:
        """Draw a dot at a data point, with a text shown when pointed at."""
        self._parts.append(
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius:g}" class="{kind}">'
            f"<title>{escape(tip)}</title></circle>"
        )

    def tick(self, x: float, y: float, kind: str) -> None:
        """Draw a short upright stroke at a data point, as for a censored patient."""
        a, b = self.x(x), self.y(y)
        self._parts.append(f'<path d="M{a:.1f} {b - 4:.1f}v8" class="{kind}"/>')

    def axes(
        self,
        x_ticks: Sequence[float],
        y_ticks: Sequence[float],
        *,
        x_label: str = "",
        y_label: str = "",
        percent: bool = False,
    ) -> None:
        """Draw grid lines, numbers and names of the axes."""
        floor = self.height - self.bottom
        for value in y_ticks:
            shown = f"{value:.0%}" if percent else f"{value:g}"
            self._parts.append(f'<path d="M{self.left} {self.y(value):.1f}H{self.width - self.right}" class="grid"/>')
            self.text(self.left - 8, self.y(value) + 4, shown, anchor="end")
        for value in x_ticks:
            self._parts.append(f'<path d="M{self.x(value):.1f} {floor}v5" class="axis"/>')
            self.text(self.x(value), floor + 19, f"{value:g}")
        self._parts.append(f'<path d="M{self.left} {floor}H{self.width - self.right}" class="axis"/>')
        if x_label:
            self.text((self.left + self.width - self.right) / 2, floor + 37, x_label, kind="name")
        if y_label:
            middle = (self.top + floor) / 2
            self._parts.append(
                f'<text transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle" class="t name">'
                f"{escape(y_label)}</text>"
            )

    def svg(self) -> str:
        """Return the whole picture."""
        number = next(_numbers)
        return (
            f'<svg class="chart" viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}" '
            f'role="img" aria-labelledby="c{number}t c{number}d"><title id="c{number}t">{escape(self.title)}</title>'
            f'<desc id="c{number}d">{escape(self.description)}</desc>{"".join(self._parts)}</svg>'
        )
