"""Segmentations as labels: what they were drawn on, readers, fusion, agreement, scores."""
