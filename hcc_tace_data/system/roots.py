"""Which folder holds the collection."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from hcc_tace_data.errors import CollectionNotFoundError

__all__ = ["cache_folder", "default_root", "resolve_root"]


def default_root() -> Path:
    """Return ``$HCC_TACE_HOME``, else the user's data folder. Nothing is created."""
    home = os.environ.get("HCC_TACE_HOME")
    if home:
        return Path(home).expanduser()

    return user_data_path("hcc-tace-data")


def cache_folder() -> Path:
    """Return ``$HCC_TACE_CACHE``, else the user's cache folder. Nothing is created."""
    place = os.environ.get("HCC_TACE_CACHE")
    if place:
        return Path(place).expanduser()

    return user_cache_path("hcc-tace-data")


def resolve_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the collection, which must exist and hold something.

    Raises
    ------
    CollectionNotFoundError
        Nothing there; the message names the commands that help.
    """
    folder = default_root() if root is None else Path(root).expanduser()
    if folder.is_file():
        raise CollectionNotFoundError(f"{folder} is a file. Name the folder that holds the DICOM files.")
    if not folder.is_dir() or next(folder.iterdir(), None) is None:
        raise CollectionNotFoundError(
            f"No data of HCC-TACE-Seg at {folder}. 'hcc-tace download {folder}' fetches the collection; "
            f"'hcc-tace phantom {folder}' writes a synthetic twin of it. "
            "Another folder: pass it as root, or set $HCC_TACE_HOME."
        )
    return folder
