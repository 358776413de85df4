"""Readers of CT and SEG, and the data sets built on them."""

from __future__ import annotations

if __name__ != "hcc_tace_data.loaders":
    raise ImportError("import this package as hcc_tace_data.loaders")
