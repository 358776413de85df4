"""What is common to headers that are built alike: where structure and values lie, and which values change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from hcc_tace_data.dicom.elements import Trace, walk

__all__ = ["HeaderStructure"]

_PREFIX_END = 132


class HeaderStructure:
    """The structure of one header that was walked.

    The way of a walk depends on nothing but tags, representations, lengths, the transfer syntax and the size of the
    file. Another file with the same bytes in these places would be walked the same way.

    Few of the values differ between the files of a series. Those that never did are compared together with the
    structure, in one step; only the others are looked at one by one.

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
    row : dict
    """

    __slots__ = (
        "_alike", "_elements", "_end", "_head", "_moving", "_moving_values", "_still", "_structural", "_structure",
        "row",
    )  # fmt: skip

    def __init__(self, data: bytes, size: int, vrs: Mapping[int, str], row: dict[str, Any]) -> None:
        trace = Trace()
        _, values, offset, length, _ = walk(data, size, vrs, trace)
        self._structural = np.full(offset, 255, dtype=np.uint8)
        self._structural[:_PREFIX_END] = 0  # a preamble may hold anything; the prefix was compared
        for first, last in trace.values:
            self._structural[first:last] = 0
        self._structure = (np.frombuffer(data, np.uint8, offset) & self._structural).tobytes()
        self._head = offset - 12, data[offset - 12 : offset], offset
        self._end = offset + length
        # of the wanted elements that are there, in order: tag, representation, value in this header, place
        self._elements = [(tag, vr, raw, slice(*trace.places[tag])) for tag, (vr, raw) in values.items()]
        self.row = row
        self._watch(())

    def _watch(self, moving: Iterable[int]) -> None:
        """Set which of the wanted elements are looked at one by one."""
        self._moving = tuple(sorted(moving))
        # empty places at the end: of one item alone itemgetter makes no tuple
        places = [self._elements[number][3] for number in self._moving]
        self._moving_values = itemgetter(*places, slice(0), slice(0))
        self._still, alike = self._structural.copy(), bytearray(self._structure)
        for number, (_, _, raw, place) in enumerate(self._elements):
            if number not in self._moving:
                self._still[place] = 255
                alike[place] = raw
        self._alike = bytes(alike)

    def changes(self, data: bytes, size: int) -> list[tuple[int, bytes, bytes]] | None:
        """Return what differs in another file.

        Parameters
        ----------
        data : bytes
            The start of that file.
        size : int
            Its size in bytes.

        Returns
        -------
        list of (tag, VR, raw value), or None
            The wanted elements whose values are others, in order; None if the file is built otherwise.
        """
        begin, head, offset = self._head
        if size < self._end or data[begin:offset] != head:  # mostly, the pixels then lie elsewhere
            return None
        header: npt.NDArray[np.uint8] = np.frombuffer(data, np.uint8, offset)
        if (header & self._still).tobytes() != self._alike:
            if (header & self._structural).tobytes() != self._structure:
                return None
            new = {number for number, (_, _, raw, place) in enumerate(self._elements) if data[place] != raw}
            self._watch(new.union(self._moving))
        found = []
        for number, value in zip(self._moving, self._moving_values(data), strict=False):
            tag, vr, raw, _ = self._elements[number]
            if value != raw:
                found.append((tag, vr, value))
        return found
