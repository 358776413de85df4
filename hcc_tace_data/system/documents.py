"""JSON and YAML of unknown origin: whatever is wrong with it is a ValueError."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from hcc_tace_data.system.files import read_regular

if TYPE_CHECKING:
    import yaml

__all__ = ["parse_json", "parse_yaml", "read_json_object"]

_MAX_BYTES = 64 << 20
#: Nodes that YAML may stand for once its aliases are written out.
_MAX_NODES = 100_000
_TOO_DEEP = "it is nested too deep"


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON document holds.

    Raises
    ------
    ValueError
        Not JSON, not UTF-8, or nested deeper than the parser can follow.

    Examples
    --------
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: it is nested too deep
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8"))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def read_json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises
    ------
    ValueError
        See :func:`parse_json`; or the document is no object.
    OSError
        It cannot be read, is no regular file, or is larger than 64 MiB.
    """
    document = parse_json(read_regular(path, limit=_MAX_BYTES))
    if not isinstance(document, dict):
        raise ValueError(f"it holds a {type(document).__name__}, not an object")
    return document


def parse_yaml(text: str) -> Any:
    """Return what a YAML document holds.

    Raises
    ------
    ValueError
        Not YAML, nested deeper than the parser can follow, or small only because of aliases of aliases.

    Examples
    --------
    >>> parse_yaml("lr: 0.1")
    {'lr': 0.1}
    """
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if _size(node, {}) > _MAX_NODES:
            raise ValueError(f"its aliases stand for more than {_MAX_NODES:,} values")
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _size(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Return how many nodes a node stands for; each is counted once, however many aliases name it."""
    if node is None or not isinstance(node.value, list):  # a scalar
        return 1
    if id(node) not in known:
        known[id(node)] = _MAX_NODES + 1  # an alias of a node within itself stands for no end of nodes
        # a mapping holds pairs, a sequence single nodes
        parts = [one for part in node.value for one in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]
