"""The contrast phase of every CT volume."""
