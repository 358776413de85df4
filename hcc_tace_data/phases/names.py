"""Small frozen records that the pieces of the package hand to each other."""

from __future__ import annotations

__all__ = ["PHASES"]

#: Contrast phases, in order of acquisition; `unknown` where nothing tells.
PHASES = ("pre_contrast", "arterial", "portal_venous", "delayed", "unknown")
