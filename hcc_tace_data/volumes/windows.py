"""Windows: which HU are shown from black to white."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["ABDOMEN", "to_grey"]

#: Abdominal window in HU: level 50, width 400.
ABDOMEN = (-150.0, 250.0)


def to_grey(image: npt.NDArray[Any], window: tuple[float, float] = ABDOMEN) -> npt.NDArray[np.uint8]:
    """Return grey values, 0 at the lower end of the window and below, 255 at the upper end and above.

    Examples
    --------
    >>> to_grey(np.array([-1000, 50, 3000])).tolist()
    [0, 128, 255]
    """
    low, high = window
    scaled = (image.astype(np.float32) - low) * (255 / (high - low))
    result: npt.NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return result
