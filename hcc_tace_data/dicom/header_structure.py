"""What is common to headers that are built alike: where structure and values lie."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from hcc_tace_data.dicom.elements import Trace, walk

__all__ = ["HeaderStructure"]

_PREFIX_END = 132


class HeaderStructure:
    """The structure of one header that was walked.

    The way of a walk depends on nothing but tags, representations, lengths, the transfer syntax and the size of the
    file. Another file with the same bytes in these places would be walked the same way.

    Parameters
    ----------
    data : bytes
        The start of a file, up to its native pixel data at least.
    size : int
        Size of the file in bytes.
    vrs : mapping
        The tags that are wanted.
    row : dict
        What was read of this header; rows of others begin as its copy.

    Attributes
    ----------
    tags, vrs, raws : tuple
        Of the wanted elements that are there, in order: tag, representation, value in this header.
    row : dict
    """

    __slots__ = ("_end", "_expected", "_head", "_index", "_values", "raws", "row", "tags", "vrs")

    def __init__(self, data: bytes, size: int, vrs: Mapping[int, str], row: dict[str, Any]) -> None:
        trace = Trace()
        _, values, offset, length, _ = walk(data, size, vrs, trace)
        structural = np.ones(offset, dtype=bool)
        structural[:_PREFIX_END] = False  # a preamble may hold anything; the prefix was compared
        for first, last in trace.values:
            structural[first:last] = False
        self._index = np.flatnonzero(structural)
        self._expected = np.frombuffer(data, np.uint8, offset)[self._index].tobytes()
        self._head = offset - 12, data[offset - 12 : offset], offset
        self._end = offset + length
        self.tags = tuple(values)
        self.vrs = tuple(vr for vr, _ in values.values())
        self.raws = tuple(raw for _, raw in values.values())
        places = [slice(*trace.places[tag]) for tag in values]
        # an empty place at the end: of one item alone itemgetter makes no tuple
        self._values = itemgetter(*places, slice(0), slice(0))
        self.row = row

    def values_in(self, data: bytes, size: int) -> tuple[bytes, ...] | None:
        """Return the raw values of the wanted elements of another file, None if that is built otherwise."""
        begin, head, offset = self._head
        if size < self._end or data[begin:offset] != head:  # mostly, the pixels then lie elsewhere
            return None
        if np.frombuffer(data, np.uint8, offset)[self._index].tobytes() != self._expected:
            return None
        values: tuple[bytes, ...] = self._values(data)
        return values[:-2]
