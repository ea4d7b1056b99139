"""Results as HDF5 that is also valid netCDF-4: dimension scales, UTF-8 names, no clock, equal bytes for equal runs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from svae_cli import __version__
from svae_cli.files.sink import Sink, new_hdf5

if TYPE_CHECKING:
    from svae_cli.files.results import Header, Part

FORMAT = "svae-result-1"
_CHUNK_STEPS = 512
_TEXT = h5py.string_dtype("utf-8")
_SPATIAL = ("y", "x", "color")
_FLAGS = {"observed": "missing observed", "ignored": "not_ignored ignored"}
_LONG_NAMES = {
    "data": "the input with its gaps filled",
    "observed": "whether the input had a value",
    "ignored": "whether answers do without that value because it cannot be",
    "mean": "predictive mean",
    "std": "predictive standard deviation, noise included",
    "quantiles": "predictive quantiles",
    "samples": "joint sample paths over time and channels",
    "latent_mean": "posterior mean of the latent states",
    "latent_cov": "posterior covariance of the latent states",
}


def write(
    path: Path,
    header: "Header",
    series: Iterator["Part"],
    *,
    dimensions: Mapping[str, tuple[str, ...]],
    target: Path,
    extra: Mapping[str, np.ndarray],
) -> None:
    """Write the series as they come: one group a series if the input was a group, else stacked along ``series``.

    Args:
        path: a file of one's own, replaced.
        header: what the series share.
        series: named arrays of each series, long ones in pieces.
        dimensions: names of the dimensions of each array, the series' own left out.
        target: the file's name in messages.
        extra: further arrays, by path.

    Raises:
        OutputError: the file cannot be written.
    """
    with new_hdf5(path, target) as (file, sink):
        _write_root(file, header)
        checked = _checked(series, sink)
        if header.layout == "group":
            _write_groups(file, header, checked, dimensions)
        else:
            _write_batch(file, header, checked, dimensions)
        for name, array in extra.items():
            file.create_dataset(name, data=array, track_times=False)


def _checked(series: Iterator["Part"], sink: Sink) -> Iterator["Part"]:
    """The series as they come, as long as writing works."""
    for part in series:
        yield part
        sink.check()


def _write_root(file: h5py.File, header: "Header") -> None:
    file.attrs["Conventions"] = "CF-1.10"
    file.attrs["svae_format"] = FORMAT
    file.attrs["svae_version"] = __version__
    file.attrs["kind"] = header.kind
    file.attrs["settings"] = header.settings
    file.attrs["seed"] = np.int64(header.seed)
    file.attrs["model_sha256"] = header.model_sha256


def _write_groups(
    file: h5py.File, header: "Header", series: Iterator["Part"], dimensions: Mapping[str, tuple[str, ...]]
) -> None:
    created: dict[str, h5py.Dataset] = {}
    scales: _Scales | None = None
    for part in series:
        if scales is None or part.start == 0:
            group = file.create_group(header.keys[part.row].replace("/", "_"))
            group.attrs["key"] = header.keys[part.row]
            scales = _Scales(group, header, part.fields)
            scales.add_time(header.times(part.row))
            created = {}
        _fill(created, scales, part, dimensions, steps=header.lengths[part.row])


def _write_batch(
    file: h5py.File, header: "Header", series: Iterator["Part"], dimensions: Mapping[str, tuple[str, ...]]
) -> None:
    created: dict[str, h5py.Dataset] = {}
    scales: _Scales | None = None
    for part in series:
        if scales is None:
            scales = _Scales(file, header, part.fields)
            scales.add("series", np.array(header.keys, dtype=object))
            scales.add_time(_shared_times(header))
            _write_lengths(file, header, scales)
        _fill(created, scales, part, dimensions, steps=max(header.lengths), stacked=len(header.keys))


def _fill(
    created: dict[str, h5py.Dataset],
    scales: "_Scales",
    part: "Part",
    dimensions: Mapping[str, tuple[str, ...]],
    *,
    steps: int,
    stacked: int | None = None,
) -> None:
    """Write a part to its place in the datasets, which are made for ``steps`` when their first part comes."""
    for name, array in part.fields.items():
        dims = dimensions[name]
        if name not in created:
            shape = tuple(steps if d == "time" else n for d, n in zip(dims, array.shape, strict=True))
            outer = () if stacked is None else (("series", stacked),)
            names, sizes = zip(*outer, *zip(dims, shape, strict=True), strict=True)
            created[name] = scales.create(name, names, sizes, array.dtype)
        stored = scales.stored(array, dims)
        place = [slice(0, n) for n in stored.shape]
        at = dims.index("time")
        place[at] = slice(part.start, part.start + array.shape[at])
        created[name][(*(() if stacked is None else (part.row,)), *place)] = stored


def _shared_times(header: "Header") -> np.ndarray:
    longest = int(np.argmax(header.lengths))
    if len(set(header.starts)) == 1:
        return header.times(longest)
    step = header.time.step if header.time is not None else 1.0
    return step * np.arange(1, header.lengths[longest] + 1)


def _write_lengths(file: h5py.File, header: "Header", scales: "_Scales") -> None:
    if len(set(header.lengths)) > 1:
        dataset = file.create_dataset("lengths", data=np.array(header.lengths, np.int64))
        dataset.dims[0].attach_scale(scales.made["series"])
        dataset.attrs["long_name"] = "true length of each series; what follows is padding"


class _Scales:
    """Dimension scales of one group, made as they are needed, and datasets attached to them."""

    def __init__(self, group: h5py.Group, header: "Header", fields: dict[str, np.ndarray]):
        self.group = group
        self.header = header
        self.made: dict[str, h5py.Dataset] = {}
        self.sizes = {"sample": fields["samples"].shape[0]} if "samples" in fields else {}
        if "latent_mean" in fields:
            self.sizes.update(latent=fields["latent_mean"].shape[1], latent_other=fields["latent_mean"].shape[1])

    def add(self, name: str, values: np.ndarray) -> h5py.Dataset:
        dtype = _TEXT if values.dtype == object else values.dtype
        dataset = self.group.create_dataset(name, data=values, dtype=dtype)
        dataset.make_scale(name)
        self.made[name] = dataset
        return dataset

    def add_time(self, values: np.ndarray) -> None:
        dataset = self.add("time", values)
        together = self.header.layout == "group" or len(set(self.header.starts)) == 1
        if self.header.time is not None and self.header.time.units:
            units = self.header.time.units
            dataset.attrs["units"] = units if together else units.split(" since ")[0]
        dataset.attrs["axis"] = "T"
        if not together:
            dataset.attrs["long_name"] = "time after the end of each series"

    def scale(self, name: str) -> h5py.Dataset:
        if name not in self.made:
            self.made[name] = self._new_scale(name)
        return self.made[name]

    def _new_scale(self, name: str) -> h5py.Dataset:
        if name == "channel":
            dataset = self.add(name, np.array(self.header.channels, dtype=object))
            if len(set(self.header.units)) > 1:
                units = self.group.create_dataset(
                    "channel_units", data=np.array(self.header.units, object), dtype=_TEXT
                )
                units.dims[0].attach_scale(dataset)
            return dataset
        if name == "quantile":
            return self.add(name, np.array(self.header.quantiles, np.float64))
        if name in _SPATIAL:
            return self.add(name, np.arange(self.header.channel_shape[_SPATIAL.index(name)], dtype=np.int64))
        return self.add(name, np.arange(self.sizes[name], dtype=np.int64))

    def expand(self, dims: tuple[str, ...]) -> tuple[str, ...]:
        """Dimensions in the file: a channel that is a frame becomes y, x and color."""
        spatial = _SPATIAL[: len(self.header.channel_shape)] or ("channel",)
        return tuple(name for dim in dims for name in (spatial if dim == "channel" else (dim,)))

    def stored(self, array: np.ndarray, dims: tuple[str, ...]) -> np.ndarray:
        """The array as the file holds it: frames unfolded, masks as small integers, the result's own precision."""
        typed = array.astype(np.uint8 if array.dtype == bool else self.header.dtype, copy=False)
        if not self.header.channel_shape or "channel" not in dims:
            return typed
        at = dims.index("channel")
        return typed.reshape(*array.shape[:at], *self.header.channel_shape, *array.shape[at + 1 :])

    def create(self, name: str, dims: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype) -> h5py.Dataset:
        mask = dtype.kind == "b"
        full = self._full_shape(dims, shape)
        names = self.expand(dims)
        chunks = tuple(
            max(1, 1 if n in ("series", "sample") else min(size, _CHUNK_STEPS) if n == "time" else size)
            for n, size in zip(names, full, strict=True)
        )
        options: dict[str, Any] = {"chunks": chunks, "compression": "gzip", "compression_opts": 4, "shuffle": True}
        stored = np.dtype(np.uint8) if mask else self.header.dtype
        dataset = self.group.create_dataset(name, full, stored, fillvalue=0 if mask else np.nan, **options)
        for axis, dim in enumerate(names):
            dataset.dims[axis].attach_scale(self.scale(dim))
        dataset.attrs["long_name"] = _LONG_NAMES.get(name, name)
        if mask:
            dataset.attrs["flag_values"] = np.array([0, 1], np.uint8)
            dataset.attrs["flag_meanings"] = _FLAGS[name]
        elif name not in ("latent_mean", "latent_cov") and len(set(self.header.units)) == 1 and self.header.units[0]:
            dataset.attrs["units"] = self.header.units[0]
        return dataset

    def _full_shape(self, dims: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
        if not self.header.channel_shape or "channel" not in dims:
            return shape
        at = dims.index("channel")
        return (*shape[:at], *self.header.channel_shape, *shape[at + 1 :])
