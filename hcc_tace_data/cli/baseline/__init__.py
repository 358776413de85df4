"""Verbs of the command ``hcc-tace baseline``."""
