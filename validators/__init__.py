"""Curation rules over a collection and the engine that runs them."""

from __future__ import annotations

if __name__ != "hcc_tace_data.validators":
    raise ImportError("import this package as hcc_tace_data.validators")
