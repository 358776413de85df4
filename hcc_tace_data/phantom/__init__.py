"""The phantom: a seeded digital twin of the collection, written as real DICOM, with its ground truth beside it."""

from __future__ import annotations

from hcc_tace_data.phantom.make import make_phantom

__all__ = ["make_phantom"]
