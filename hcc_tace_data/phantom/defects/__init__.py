"""Defects that can be planted in a phantom: a registry and one module per family.

Importing a family registers its defects; the registry knows none of them.
"""

from __future__ import annotations

from hcc_tace_data.phantom.defects import deid, files, links, simple, tables
from hcc_tace_data.phantom.defects.registry import apply_defect, defect_codes, unknown_defect

__all__ = ["FAMILIES", "apply_defect", "defect_codes", "unknown_defect"]

#: The modules whose import registers defects.
FAMILIES = (deid, files, links, simple, tables)
