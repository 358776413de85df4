from typing import Any

import numpy.typing as npt

def copy_all(targets: tuple[npt.NDArray[Any], ...], sources: tuple[npt.NDArray[Any], ...], /) -> bool: ...
