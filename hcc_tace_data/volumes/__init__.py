"""Volumes in space: grids, resampling, registration, NIfTI."""
