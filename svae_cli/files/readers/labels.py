"""What a file says about a dataset's dimensions: names of axes, series, channels and units, and how numbers decode."""

from collections.abc import Sequence

import h5py
import numpy as np

from svae_cli.files import safe
from svae_cli.files.readers.source import Axes, Decoding

_TIME = {"time", "times", "t", "step", "steps", "date", "datetime", "timestamp", "timestamps", "valid_time", "frame"}
_SERIES = {"series", "n", "trial", "trials", "batch", "subject", "record", "recording", "sample", "samples", "session"}
_SERIES |= {"realization", "ensemble", "member", "id"}
_HEIGHT = {"y", "height", "row", "rows", "lat", "latitude"}
_WIDTH = {"x", "width", "column", "lon", "longitude"}
_COLOUR = {"c", "color", "colour", "rgb", "band"}
_DEFAULT_AXES = {1: "t", 2: "td", 3: "ntd", 4: "nthw", 5: "nthwc"}


def default_axes(ndim: int) -> Axes | None:
    """The axes that a dataset has if nothing says otherwise, or None."""
    return _DEFAULT_AXES.get(ndim)


def dimension_names(dataset: h5py.Dataset) -> list[str]:
    """Names of the dimensions from dimension scales or labels (netCDF-4), empty where there is none."""
    names = []
    for axis in range(dataset.ndim):
        scale = dimension_scale(dataset, axis)
        with safe.reading(dataset.name or "a dataset"):
            label = dataset.dims[axis].label
        names.append(label or ((scale.name or "").rsplit("/", 1)[-1] if scale is not None else ""))
    return names


def dimension_scale(dataset: h5py.Dataset, axis: int) -> h5py.Dataset | None:
    """The dimension scale attached to an axis, or None."""
    with safe.reading(dataset.name or "a dataset"):
        scales = dataset.dims[axis]
        return scales[0] if len(scales) else None


def axes_from_names(names: Sequence[str]) -> Axes | None:
    """The axes that names of dimensions state; None if no time or more than one is among them.

    Names that are neither time nor a known word for series, height, width or colour are channels; of two such, the
    first is the series.
    """
    lowered = [name.lower() for name in names]
    if sum(name in _TIME for name in lowered) != 1:
        return None
    letters = [
        "t" if n in _TIME else "n" if n in _SERIES else "h" if n in _HEIGHT else "w" if n in _WIDTH else
        "c" if n in _COLOUR else "?"
        for n in lowered
    ]  # fmt: skip
    if not {"h", "w"} <= set(letters):
        letters = ["?" if a in "hwc" else a for a in letters]
    unknown = [i for i, a in enumerate(letters) if a == "?"]
    for i, letter in zip(unknown, "nd" if len(unknown) == 2 and "n" not in letters else "d", strict=False):
        letters[i] = letter
    axes = "".join(letters)
    return axes if len(set(axes)) == len(axes) and "?" not in axes else None


def is_scale(dataset: safe.Node) -> bool:
    """Whether a dataset is a dimension scale: the names of an axis of others, not a series."""
    return safe.attribute(dataset, "CLASS") == "DIMENSION_SCALE"


def is_matlab(dataset: h5py.Dataset) -> bool:
    """Whether MATLAB (v7.3) wrote the dataset, which stores dimensions in reverse."""
    return safe.attribute(dataset, "MATLAB_class") is not None


def decoding(dataset: h5py.Dataset, missing_value: float | None) -> Decoding:
    """How the stored numbers become values, from netCDF's attributes and the caller's own missing value."""
    codes = [safe.attribute(dataset, "_FillValue"), safe.attribute(dataset, "missing_value"), missing_value]
    known = [np.ravel(c) for c in codes if isinstance(c, int | float | np.ndarray)]
    numbers = np.concatenate([np.zeros(0), *(array for array in known if array.dtype.kind in "iuf")])
    scale, offset = safe.attribute(dataset, "scale_factor"), safe.attribute(dataset, "add_offset")
    return Decoding(
        missing=tuple(dict.fromkeys(float(x) for x in numbers if x == x)),
        scale=float(scale) if isinstance(scale, int | float) else 1.0,
        offset=float(offset) if isinstance(offset, int | float) else 0.0,
    )


def series_names(dataset: h5py.Dataset, axes: Axes) -> tuple[str, ...]:
    """Names of the series of a dataset with a series axis: from a scale, a dataset beside it, or numbers."""
    axis, count = axes.index("n"), dataset.shape[axes.index("n")]
    beside = _beside(dataset, ("series_names", "series", "record_id", "ids", "keys"))
    found = next((names for d in (dimension_scale(dataset, axis), *beside) if (names := _as_names(d, count))), None)
    return found if found is not None and len(set(found)) == count else tuple(str(i) for i in range(count))


def channel_names(dataset: h5py.Dataset, axes: Axes) -> tuple[str, ...] | None:
    """Names of the channels: an attribute, a scale, or a dataset of text beside the values; None without any."""
    if "d" not in axes:
        return None
    axis, count = axes.index("d"), dataset.shape[axes.index("d")]
    for owner in (dataset, safe.parent(dataset)):
        for name in ("channel_names", "channels", "columns", "feature_names"):
            listed = safe.attribute(owner, name)
            if isinstance(listed, np.ndarray) and listed.dtype.kind == "O" and listed.shape == (count,):
                return tuple(str(v) for v in listed)
    beside = _beside(dataset, ("channel_names", "channels", "channel", "columns", "feature_names", "variables"))
    scale = dimension_scale(dataset, axis)
    names = next((names for d in (scale, *beside) if (names := _as_names(d, count))), None)
    return names if names is not None and len(set(names)) == count else None


def channel_units(dataset: h5py.Dataset, axes: Axes) -> tuple[str, ...] | None:
    """Units of the channels: one attribute for all or one a channel, or a dataset of text beside the values."""
    count = dataset.shape[axes.index("d")] if "d" in axes else 1
    units = safe.attribute(dataset, "units") or safe.attribute(dataset, "unit")
    if isinstance(units, str):
        return (units,) * int(np.prod([s for a, s in zip(axes, dataset.shape, strict=True) if a not in "nt"]))
    if isinstance(units, np.ndarray) and units.shape == (count,):
        return tuple(str(v) for v in units)
    return next((n for d in _beside(dataset, ("channel_units", "units")) if (n := safe.strings(d, count))), None)


def _as_names(dataset: h5py.Dataset | None, count: int) -> tuple[str, ...] | None:
    if dataset is None:
        return None
    if (names := safe.strings(dataset, count)) is not None:
        return names
    blank = safe.attribute(dataset, "NAME")
    if (
        dataset.shape != (count,)
        or dataset.dtype.kind not in "iu"
        or str(blank).startswith("This is a netCDF dimension")
    ):
        return None
    return tuple(str(v) for v in safe.read(dataset))


def _beside(dataset: h5py.Dataset, names: Sequence[str]) -> list[h5py.Dataset]:
    folder = safe.parent(dataset)
    found = [safe.child(folder, name) for name in names]
    return [node for node in found if isinstance(node, h5py.Dataset)]
