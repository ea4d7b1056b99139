"""Plain HDF5: one dataset of 1 to 5 dimensions, a group of ragged series, or variable-length rows.

netCDF-4 files (dimension scales, packed integers) and MATLAB v7.3 files (reversed axes) are read here too: they differ
from plain ones by attributes of the dataset, which ``labels`` knows.
"""

import h5py
import numpy as np

from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import groups, labels, single, times
from svae_cli.files.readers.source import ListBlock, ReadOptions, Recording


def recognises(file: h5py.File) -> bool:
    """Every HDF5 file is at least plain."""
    return True


def read(file: h5py.File, options: ReadOptions, name: str) -> Recording:
    """Find the series and what describes them.

    Raises:
        DataError: none or several candidates, or something about the chosen one cannot be read.
    """
    return read_node(choose(file, options, name), options, name)


def read_node(node: safe.Node, options: ReadOptions, name: str) -> Recording:
    """A dataset, or a group of series, as a recording."""
    if isinstance(node, h5py.Group):
        return groups.read_group(node, options, name)
    if h5py.check_vlen_dtype(node.dtype) is not None:
        return _read_rows(node, options)
    return single.read_dataset(node, options)


def choose(file: h5py.File, options: ReadOptions, name: str) -> safe.Node:
    """The dataset or group that holds the series, named by the caller or the only one that could be.

    Raises:
        DataError: the named one does not exist; there is none; or there are several.
    """
    if options.dataset is not None:
        found = safe.follow(file, options.dataset)
        if found is None:
            listed = ", ".join(list(safe.datasets(file))[:8]) or "none"
            raise DataError(f"{name} has no {options.dataset!r}", hint=f"its datasets: {listed}")
        return found
    inside = safe.children(file)
    for node in (inside[name] for name in single.preferred_in(file) if name in inside):
        if isinstance(node, h5py.Group) or (single.could_be(node) and not labels.is_scale(node)):
            return node
    candidates = {path: d for path, d in safe.datasets(file).items() if single.is_candidate(d)}
    if len(candidates) == 1:
        return next(iter(candidates.values()))
    if (group := groups.ragged_group(file, candidates)) is not None:
        return group
    raise _ambiguous(file, candidates, name)


def _ambiguous(file: h5py.File, found: dict[str, h5py.Dataset], name: str) -> DataError:
    if not found:
        lines = [path for path, d in safe.datasets(file).items() if single.could_be(d) and d.ndim == 1]
        hint = (
            f"{name}:{lines[0]} is one series of one channel" if lines else "numbers of shape (series, time, channel)"
        )
        return DataError(f"{name} has no numeric dataset of 2 to 5 dimensions", hint=hint)
    listed = [f"{path} {d.shape} {d.dtype.str.lstrip('<>|=')}" for path, d in list(found.items())[:8]]
    more = f" and {len(found) - 8} more" if len(found) > 8 else ""
    path = next(iter(found))
    whole = path.rsplit("/", 1)[0] or "/"
    return DataError(
        f"{name} has {len(found)} datasets that could be the series: {', '.join(listed)}{more}",
        hint=f"name one, {name}:{path}, or a group of series, {name}:{whole}",
    )


def _read_rows(dataset: h5py.Dataset, options: ReadOptions) -> Recording:
    safe.check_dataset(dataset)
    if np.dtype(h5py.check_vlen_dtype(dataset.dtype)).kind not in "iufb" or dataset.ndim not in (1, 2):
        raise DataError(
            f"has shape {dataset.shape} of {dataset.dtype}", where=str(dataset.name), hint="rows of numbers"
        )
    decode = labels.decoding(dataset, options.missing_value)
    rows = [ListBlock(dataset, i, decode) for i in range(dataset.shape[0])]
    return Recording(rows, tuple(str(i) for i in range(len(rows))), "group", time=times.from_rate(dataset))
