"""A look at the heaps of variable-length data before HDF5 reads them: it does not end on some damaged ones.

HDF5 2.0.0 and earlier walk through a global heap collection object by object; a free object of size 0 makes them walk
for ever. Layout: HDF5 File Format Specification, section III.E.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_REACH = 1 << 29
_PIECE = 1 << 22
_HEADER = 16
_LARGEST = 1 << 24
_OBJECT = struct.Struct("<HHIQ")


def has_endless_heap(path: Path) -> bool:
    """Whether a global heap collection in the file would be walked through for ever.

    Of files of more than 1 GiB, the first and the last 512 MiB are looked at: that is where such data lie.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        middle = max(_REACH, size - _REACH)
        places = [*_collections(file, 0, min(_REACH, size)), *_collections(file, middle, size)]
        return any(_is_endless(file, at, size) for at in places)


def _collections(file: BinaryIO, start: int, stop: int) -> Iterator[int]:
    """Where global heap collections begin."""
    overlap = len(_SIGNATURE) - 1
    for first in range(start, stop, _PIECE):
        file.seek(first)
        piece = file.read(min(_PIECE, stop - first) + overlap)
        at = piece.find(_SIGNATURE)
        while at >= 0:
            yield first + at
            at = piece.find(_SIGNATURE, at + 1)


def _is_endless(file: BinaryIO, at: int, file_size: int) -> bool:
    file.seek(at + 8)
    (size,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    if at + size > file_size:
        return False  # HDF5 refuses it by itself
    file.seek(at)
    content = file.read(min(size, _LARGEST))
    here = _HEADER
    while here + _OBJECT.size <= len(content):
        index, _, _, length = _OBJECT.unpack_from(content, here)
        step = length if index == 0 else _OBJECT.size + (length + 7) // 8 * 8
        if step == 0:
            return True
        here += step
    return False
