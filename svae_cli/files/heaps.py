"""A look at the heaps of variable-length data before HDF5 reads them: it does not end on some damaged ones.

HDF5 2.0.0 and earlier walk through a global heap collection object by object; a free object of size 0 makes them walk
for ever. Layout: HDF5 File Format Specification, section III.E.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

_SIGNATURE = b"GCOL\x01\x00\x00\x00"
_REACH = 1 << 29
_HEADER = 16
_OBJECT = struct.Struct("<HHIQ")


def has_endless_heap(path: Path) -> bool:
    """Whether a global heap collection in the file would be walked through for ever.

    Of files of more than 1 GiB, the first and the last 512 MiB are looked at: that is where such data lie.
    """
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(_is_endless(content, at) for at in _collections(content))


def _collections(content: mmap.mmap) -> Iterator[int]:
    """Where global heap collections begin."""
    middle = max(_REACH, len(content) - _REACH)
    for start, stop in ((0, _REACH), (middle, len(content))):
        at = content.find(_SIGNATURE, start, stop)
        while at >= 0:
            yield at
            at = content.find(_SIGNATURE, at + 1, stop)


def _is_endless(content: mmap.mmap, at: int) -> bool:
    if at + _HEADER > len(content):
        return False
    (size,) = struct.unpack_from("<Q", content, at + 8)
    end = at + size
    if end > len(content):
        return False  # HDF5 refuses it by itself
    here = at + _HEADER
    while here + _OBJECT.size <= end:
        index, _, _, length = _OBJECT.unpack_from(content, here)
        step = length if index == 0 else _OBJECT.size + (length + 7) // 8 * 8
        if step == 0:
            return True
        here += step
    return False
