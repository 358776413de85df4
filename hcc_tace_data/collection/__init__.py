"""A collection on disk: its instance table, patients, studies, series and phase volumes."""
