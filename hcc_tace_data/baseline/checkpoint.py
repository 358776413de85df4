"""Checkpoints: weights as safetensors, the training's state beside them, both written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hcc_tace_data.errors import BaselineError
from hcc_tace_data.system.documents import parse_json
from hcc_tace_data.system.files import atomic_path

__all__ = ["load_state", "load_weights", "save_state", "save_weights"]


def save_weights(path: str | os.PathLike[str], weights: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write weights as safetensors with `about` (JSON-ready) in the file's metadata."""
    from safetensors.torch import save_file  # noqa: PLC0415 - slow to import

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, str(temporary), metadata={"about": json.dumps(about)})


def load_weights(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and what is said about them.

    Raises
    ------
    BaselineError
        No such file, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - slow to import

    if not Path(path).is_file():
        raise BaselineError(f"no checkpoint at {path}; 'hcc-tace baseline train' makes one.")
    try:
        with safe_open(str(path), framework="pt") as handle:
            about = parse_json((handle.metadata() or {})["about"])
            return {name: handle.get_tensor(name) for name in handle.keys()}, about  # noqa: SIM118 - not a dict
    except (SafetensorError, KeyError, ValueError) as error:
        raise BaselineError(f"{path} is not a checkpoint of this baseline ({error}).") from error


def save_state(path: str | os.PathLike[str], state: dict[str, Any]) -> None:
    """Write the state of a training: tensors, numbers, strings, lists and dicts of them."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the state of a training; a file that would run code is refused.

    Raises
    ------
    BaselineError
        No such file, or it holds more than plain data.
    """
    if not Path(path).is_file():
        raise BaselineError(f"no training to resume at {path}.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError ... for a broken file
        raise BaselineError(f"{path} is not the state of a training ({type(error).__name__}: {error}).") from error
    return state
