"""Tables that pandas wrote with ``to_hdf`` in its fixed format: blocks of columns of one type, and an index."""

import re
from dataclasses import replace

import h5py
import numpy as np

from svae_cli.data.series import TimeAxis
from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import beside, times
from svae_cli.files.readers.joined import JoinedBlock
from svae_cli.files.readers.source import ArrayBlock, Block, Decoding, ReadOptions, Recording


def recognises(file: h5py.File) -> bool:
    """Whether any group at the root is a pandas object."""
    return any(_kind(node) is not None for node in safe.children(file).values())


def _kind(node: safe.Node | None) -> str | None:
    kind = safe.attribute(node, "pandas_type") if isinstance(node, h5py.Group) else None
    return kind if isinstance(kind, str) else None


def read(file: h5py.File, options: ReadOptions, name: str) -> Recording:
    """The only table, or the one named.

    Raises:
        DataError: several tables and none named, another format than fixed, or columns that are not numbers.
    """
    tables = {key: node for key, node in safe.children(file).items() if _kind(node) is not None}
    key = options.dataset.strip("/") if options.dataset is not None else None
    if key is None and len(tables) > 1:
        raise DataError(
            f"{name} has {len(tables)} tables: {', '.join(tables)}", hint=f"name one: {name}:/{next(iter(tables))}"
        )
    group = tables.get(key) if key is not None else next(iter(tables.values()))
    if not isinstance(group, h5py.Group):
        raise DataError(f"{name} has no table {key!r}", hint=f"its tables: {', '.join(tables)}")
    where = f"{name}:{group.name}"
    kind = _kind(group)
    if kind == "series":
        recording = _series(group, where, options)
    elif kind == "frame":
        recording = _frame(group, where, options)
    else:
        raise DataError(f"a pandas {kind}", where=where, hint="df.to_hdf(path, key='data', format='fixed')")
    return _with_index(recording, group, "index" if kind == "series" else "axis1", options, where)


def _series(group: h5py.Group, where: str, options: ReadOptions) -> Recording:
    values = _numbers(group, "values", where, options)
    label = safe.attribute(group, "name")
    names = (label,) if isinstance(label, str) and label else None
    return Recording((values,), ("0",), "single", channels=names)


def _frame(group: h5py.Group, where: str, options: ReadOptions) -> Recording:
    columns = _labels(group, "axis0", where)
    count = safe.attribute(group, "nblocks")
    parts: list[Block] = []
    held: list[str] = []
    for i in range(count if isinstance(count, int) else 0):
        parts.append(_numbers(group, f"block{i}_values", where, options))
        held += _labels(group, f"block{i}_items", where)
    if not parts or sorted(held) != sorted(columns) or len(set(columns)) != len(columns):
        raise DataError("columns are absent, repeated or do not fit their blocks", where=where)
    order = [held.index(name) for name in columns]
    return Recording((JoinedBlock(parts, order),), ("0",), "single", channels=columns)


def _numbers(group: h5py.Group, name: str, where: str, options: ReadOptions) -> ArrayBlock:
    node = safe.child(group, name)
    if not isinstance(node, h5py.Dataset):
        raise DataError(f"{name} is missing", where=where)
    if node.dtype.kind not in "iufb":
        names = ", ".join(_labels(group, name.replace("_values", "_items"), where)[:5])
        raise DataError(f"columns that are not numbers: {names}", where=where, hint="leave them out before to_hdf")
    safe.check_dataset(node)
    codes = () if options.missing_value is None else (options.missing_value,)
    axes = "t" if node.ndim == 1 else "td" if safe.attribute(node, "transposed") else "dt"
    return ArrayBlock(node, axes, Decoding(missing=codes))


def _labels(group: h5py.Group, name: str, where: str) -> list[str]:
    node = safe.child(group, name)
    if not isinstance(node, h5py.Dataset) or node.ndim != 1:
        raise DataError(f"{name} is missing", where=where)
    if node.dtype.kind in "SO" and safe.attribute(node, "kind") == "string":
        texts = safe.strings(node, node.shape[0])
        if texts is not None:
            return list(texts)
    if node.dtype.kind in "iu":
        return [str(value) for value in safe.read(node)]
    raise DataError(f"labels of {name} are neither text nor whole numbers", where=where, hint="rename the columns")


def _with_index(recording: Recording, group: h5py.Group, name: str, options: ReadOptions, where: str) -> Recording:
    """Times from the index: dates, or numbers that rise in equal steps; a plain counter is no time."""
    node = safe.child(group, name)
    steps = recording.blocks[0].steps
    if not isinstance(node, h5py.Dataset) or node.shape != (steps,):
        return recording
    kind = str(safe.attribute(node, "kind"))
    if kind.startswith("datetime64") and node.dtype.kind in "iu":
        unit = (re.findall(r"\[(\w+)", kind) or ["ns"])[0]
        moments = safe.read(node).astype(np.int64).view(f"datetime64[{unit}]")
        stamps = times.from_datetimes(moments)
    elif node.dtype.kind == "f":
        stamps = times.Stamps(safe.read(node).astype(np.float64), "")
    else:
        return recording
    if stamps is None:
        raise DataError("times are missing in the index", where=where, hint="drop those rows")
    placed = beside.put_on_grid(recording, [stamps], options, where=where)
    return replace(placed, time=placed.time or TimeAxis())
