"""Augmentation as the data sets have it, under the name the baseline knows."""

from __future__ import annotations

from hcc_tace_data.loaders.augment import Augment

__all__ = ["Augment"]
