"""Neurodata Without Borders: a TimeSeries with its unit conversion and times, whole or cut into trials."""

from dataclasses import replace

import h5py
import numpy as np

from svae_cli.data.series import TimeAxis
from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.readers import beside, labels, times
from svae_cli.files.readers.joined import Stretch
from svae_cli.files.readers.source import ArrayBlock, Decoding, ReadOptions, Recording, check_numeric

_AXES = {1: "t", 2: "td", 3: "thw", 4: "thwc"}


def recognises(file: h5py.File) -> bool:
    """Whether the root says which version of NWB it is."""
    return safe.attribute(file, "nwb_version") is not None


def read(file: h5py.File, options: ReadOptions, name: str) -> Recording:
    """The only TimeSeries, or the one named by its path.

    Raises:
        DataError: none or several TimeSeries, or one that cannot be read.
    """
    group = _choose(file, options, name)
    where = f"{name}:{group.name}"
    dataset = safe.child(group, "data")
    if not isinstance(dataset, h5py.Dataset):
        raise DataError("not a TimeSeries with data in this file", where=where)
    safe.check_dataset(dataset)
    check_numeric(dataset)
    axes = options.axes or _AXES.get(dataset.ndim)
    if axes is None:
        raise DataError(f"data have shape {dataset.shape}", where=where, hint="1 to 4 dimensions, time first")
    block = ConvertedBlock(dataset, axes, _decoding(dataset, options))
    block.factors = _channel_factors(group, dataset)
    unit = safe.attribute(dataset, "unit")
    width = int(np.prod(block.step_shape))
    recording = Recording(
        (block,), ((group.name or "").rsplit("/", 1)[-1],), "single", units=(str(unit or ""),) * width
    )
    recording = beside.with_mask(recording, group, options, block)
    recording = _with_times(recording, group, options, where)
    return recording if options.trials is None else _cut(recording, file, options.trials, where)


def _choose(file: h5py.File, options: ReadOptions, name: str) -> h5py.Group:
    found = _time_series(file)
    if options.dataset is not None:
        node = safe.follow(file, options.dataset)
        if isinstance(node, h5py.Dataset):
            node = safe.parent(node)
        if isinstance(node, h5py.Group) and safe.child(node, "data") is not None:
            return node
        raise DataError(
            f"{name} has no TimeSeries {options.dataset!r}", hint=f"its TimeSeries: {', '.join(found) or 'none'}"
        )
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        raise DataError(f"{name} has no TimeSeries with data", hint="spike times must be counted in bins first")
    listed = ", ".join(f"{path} {safe.children(group)['data'].shape}" for path, group in list(found.items())[:8])  # pyright: ignore
    raise DataError(f"{name} has {len(found)} TimeSeries: {listed}", hint=f"name one: {name}:{next(iter(found))}")


def _time_series(file: h5py.File) -> dict[str, h5py.Group]:
    """Groups below acquisition, processing, stimulus and analysis that hold ``data`` and know their times."""
    found = {}
    for path, dataset in safe.datasets(file).items():
        group = safe.parent(dataset)
        inside = set(safe.children(group))
        if path.endswith("/data") and inside & {"timestamps", "starting_time"} and dataset.dtype.kind in "iufb":
            found[path.removesuffix("/data")] = group
    return found


class ConvertedBlock(ArrayBlock):
    """An array whose channels also have factors of their own.

    Attributes:
        factors: one a channel, or None.
    """

    factors: np.ndarray | None = None

    @property
    def dtype(self) -> np.dtype:
        """Converted values are float64."""
        return super().dtype if self.factors is None else np.dtype(np.float64)

    def read(self, row: int, start: int, stop: int) -> np.ndarray:
        """Steps of the series, converted."""
        values = super().read(row, start, stop)
        return values if self.factors is None else values * self.factors


def _decoding(dataset: h5py.Dataset, options: ReadOptions) -> Decoding:
    conversion, offset = safe.attribute(dataset, "conversion"), safe.attribute(dataset, "offset")
    return replace(
        labels.decoding(dataset, options.missing_value),
        scale=float(conversion) if isinstance(conversion, int | float) else 1.0,
        offset=float(offset) if isinstance(offset, int | float) else 0.0,
    )


def _channel_factors(group: h5py.Group, dataset: h5py.Dataset) -> np.ndarray | None:
    node = safe.child(group, "channel_conversion")
    if not isinstance(node, h5py.Dataset) or dataset.ndim != 2 or node.shape != dataset.shape[1:]:
        return None
    safe.check_dataset(node)
    check_numeric(node)
    return safe.read(node).astype(np.float64)


def _with_times(recording: Recording, group: h5py.Group, options: ReadOptions, where: str) -> Recording:
    inside = safe.children(group)
    stamps, start = inside.get("timestamps"), inside.get("starting_time")
    steps = recording.blocks[0].steps
    if isinstance(stamps, h5py.Dataset) and stamps.shape == (steps,) and stamps.dtype.kind == "f":
        safe.check_dataset(stamps)
        moments = times.Stamps(safe.read(stamps).astype(np.float64), "seconds")
        return beside.put_on_grid(recording, [moments], options, where=where)
    rate = safe.attribute(start, "rate") if isinstance(start, h5py.Dataset) else None
    if isinstance(start, h5py.Dataset) and start.shape == () and isinstance(rate, int | float) and rate > 0:
        first = float(safe.read(start).item())
        return replace(recording, time=TimeAxis(first, 1.0 / float(rate), "seconds"))
    raise DataError("neither timestamps nor a rate that can be used", where=where)


def _cut(recording: Recording, file: h5py.File, table: str, where: str) -> Recording:
    """One series a trial, from its start time up to its stop time."""
    if recording.steps is not None or recording.time is None:
        raise DataError("trials cannot be cut together with --regrid", where=where)
    group = safe.follow(file, f"intervals/{table}")
    if not isinstance(group, h5py.Group):
        known = safe.follow(file, "intervals")
        names = ", ".join(safe.children(known)) if isinstance(known, h5py.Group) else "none"
        raise DataError(f"there is no table of intervals {table!r}", where=where, hint=f"its tables: {names}")
    begins, ends = (_column(group, name, where) for name in ("start_time", "stop_time"))
    grid, steps = recording.time, recording.blocks[0].steps
    edges = [np.clip(np.ceil((x - grid.start) / grid.step - 1e-6), 0, steps).astype(int) for x in (begins, ends)]
    kept = [(i, int(a), int(b)) for i, (a, b) in enumerate(zip(*edges, strict=True)) if b > a]
    if not kept:
        raise DataError(f"no trial of {table!r} lies within the recording", where=where)
    left_out = len(begins) - len(kept)
    notes = (f"{left_out} of {len(begins)} trials lie outside the recording",) if left_out else ()
    block = recording.blocks[0]
    masks = None if recording.masks is None else [Stretch(recording.masks[0], a, b) for _, a, b in kept]
    return replace(
        recording,
        blocks=[Stretch(block, a, b) for _, a, b in kept],
        keys=[str(i) for i, _, _ in kept],
        layout="group",
        masks=masks,
        time=TimeAxis(0.0, grid.step, grid.units),
        notes=(*recording.notes, *notes),
    )


def _column(group: h5py.Group, name: str, where: str) -> np.ndarray:
    node = safe.child(group, name)
    if not isinstance(node, h5py.Dataset) or node.ndim != 1 or node.dtype.kind != "f":
        raise DataError(f"trials have no {name}", where=where)
    safe.check_dataset(node)
    return safe.read(node).astype(np.float64)
