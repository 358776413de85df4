"""Batches of slices and patches for training."""
