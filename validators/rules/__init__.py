"""Curation rules, one module per family."""
