"""What a picture of a file shows, as plain arrays: read here, drawn by ``svae_cli.plots``."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from svae_cli.data.series import SeriesSet
from svae_cli.errors import DataError
from svae_cli.files import safe
from svae_cli.files.kinds import kind_of
from svae_cli.files.model_header import read_header
from svae_cli.files.readers import ReadOptions, open_series, split_spec

MAX_STEPS = 4000
"""Longer series are shown by their last steps."""


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: what it shows.
        x: horizontal positions.
        observed: values that were seen, NaN elsewhere; None without any.
        mean: predictions or a curve; None without any.
        low: lower edge of a 90 % interval; None without one.
        high: upper edge.
        x_label: what is on the horizontal axis.
    """

    title: str
    x: np.ndarray
    observed: np.ndarray | None = None
    mean: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    x_label: str = "time"


@dataclass(frozen=True)
class Picture:
    """Panels below one another.

    Attributes:
        kind: of what file.
        title: above all panels.
        panels: from top to bottom.
    """

    kind: Literal["data", "model", "imputation", "forecast", "encoding", "sample", "simulation"]
    title: str
    panels: tuple[Panel, ...]


def read_picture(spec: str, options: ReadOptions, *, series: str | None, channels: int) -> Picture:
    """What to show of a file.

    Args:
        spec: a data, model or result file.
        options: how to read data.
        series: key of the series to show; None takes the first.
        channels: how many channels at most.

    Raises:
        DataError: the file or the series is not there.
    """
    kind = kind_of(spec)
    if kind == "checkpoint":
        raise DataError("a checkpoint has no picture", where=spec, hint="plot the model beside it")
    if kind == "model":
        return _model(Path(spec))
    if kind == "result" and options.dataset is None:
        return _result(split_spec(spec)[0], series, channels)
    with open_series(spec, options) as opened:
        return _data(opened.data, series, channels)


def _model(path: Path) -> Picture:
    rows = read_header(path).history
    panels = []
    for name in ("elbo", "score", "train"):
        points = [(i, row[name]) for i, row in enumerate(rows) if name in row]
        if len(points) > 1:
            at, values = zip(*points, strict=True)
            panels.append(Panel(name, np.array(at), mean=np.array(values), x_label="validation round"))
    if not panels:
        raise DataError("the model has no history to show", where=str(path))
    return Picture("model", f"training of {path.name}", tuple(panels))


def _data(data: SeriesSet, series: str | None, channels: int) -> Picture:
    index = _index(data.keys, series, data.source)
    stop = data.lengths[index]
    start = max(0, stop - MAX_STEPS)
    values = data.read(index, start, stop)
    x = np.arange(start, stop) if data.time is None else data.time.at(start, stop - start)
    shown = range(min(channels, data.n_channels))
    panels = tuple(Panel(data.channels[d], x, observed=values[:, d]) for d in shown)
    return Picture("data", f"{data.source}: series {data.keys[index]}", panels)


def _index(keys: tuple[str, ...], wanted: str | None, where: str) -> int:
    if wanted is None:
        return 0
    if wanted not in keys:
        raise DataError(f"no series {wanted!r}", where=where, hint=f"one of {', '.join(keys[:8])}")
    return keys.index(wanted)


def _result(path: Path, series: str | None, channels: int) -> Picture:
    with safe.open_file(path, name=path.name) as file:
        kind = safe.attribute(file, "kind")
        if kind not in ("imputation", "forecast", "encoding", "sample", "simulation"):
            raise DataError(f"a result of an unknown kind {kind!r}", where=path.name)
        keys, group = _keys(file)
        index = _index(keys, series, path.name)
        if group:
            node = safe.follow(file, keys[index].replace("/", "_"))
            arrays = _Arrays(node if isinstance(node, h5py.Group) else file, None)
        else:
            arrays = _Arrays(file, index)
        panels = _encoding(arrays, channels) if kind == "encoding" else _values(arrays, channels)
    return Picture(kind, f"{path.name}: series {keys[index]}", tuple(panels))


def _keys(file: h5py.File) -> tuple[tuple[str, ...], bool]:
    scale = safe.child(file, "series")
    if isinstance(scale, h5py.Dataset) and scale.ndim == 1:
        return safe.strings(scale, scale.shape[0]) or (), False
    groups = [str(safe.attribute(g, "key")) for g in safe.children(file).values() if isinstance(g, h5py.Group)]
    if not groups:
        raise DataError("the result holds no series", where=str(file.filename))
    return tuple(groups), True


@dataclass(frozen=True)
class _Arrays:
    """The arrays of one series of a result: a row of stacked ones, or a group of its own."""

    group: h5py.Group
    row: int | None

    def get(self, name: str, *, by_time: int = 0) -> np.ndarray | None:
        """An array of the series, its last steps only; ``by_time`` is the axis of time in the series' own array."""
        node = safe.child(self.group, name)
        if not isinstance(node, h5py.Dataset):
            return None
        safe.check_dataset(node)
        offset = 0 if self.row is None else 1
        if node.ndim <= by_time + offset:
            raise DataError(f"{name} has shape {node.shape}", where=str(self.group.file.filename))
        steps = node.shape[by_time + offset]
        selection = [slice(None)] * node.ndim
        selection[by_time + offset] = slice(max(0, steps - MAX_STEPS), steps)
        chosen = tuple(selection[offset:]) if self.row is None else (self.row, *selection[1:])
        return safe.read(node, chosen)

    def times(self, steps: int) -> np.ndarray:
        """Times of the last steps."""
        node = safe.child(self.group, "time")
        if isinstance(node, h5py.Dataset) and node.ndim == 1 and node.shape[0] >= steps:
            return safe.read(node)[-steps:]
        return np.arange(steps)

    def names(self, count: int) -> tuple[str, ...]:
        """Names of the channels."""
        node = safe.child(self.group, "channel")
        found = safe.strings(node, count) if isinstance(node, h5py.Dataset) else None
        return found or tuple(str(d) for d in range(count))


def _values(arrays: _Arrays, channels: int) -> list[Panel]:
    found = {name: _flat(arrays.get(name)) for name in ("data", "observed", "mean", "std")}
    mean = found["mean"] if found["mean"] is not None else found["data"]
    if mean is None:
        raise DataError("the result holds neither data nor mean", where=str(arrays.group.file.filename))
    x, names = arrays.times(len(mean)), arrays.names(mean.shape[1])
    edges = _interval(arrays, mean, found["std"])
    panels = []
    for d in range(min(channels, mean.shape[1])):
        panel = Panel(names[d], x, mean=mean[:, d])
        if found["observed"] is not None and found["data"] is not None:
            panel = replace(panel, observed=np.where(found["observed"][:, d], found["data"][:, d], np.nan))
        if edges is not None:
            panel = replace(panel, low=edges[0][:, d], high=edges[1][:, d])
        panels.append(panel)
    return panels


def _interval(arrays: _Arrays, mean: np.ndarray, std: np.ndarray | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Edges (time, channel) of the 90 % interval: by quantiles where the file has these, else of a Gaussian."""
    levels, quantiles = safe.child(arrays.group.file, "quantile"), arrays.get("quantiles")
    if isinstance(levels, h5py.Dataset) and levels.dtype.kind == "f" and quantiles is not None:
        safe.check_dataset(levels)
        if quantiles.size == mean.size * (levels.size or 0) and quantiles.shape[0] == len(mean) and levels.ndim == 1:
            at = [np.flatnonzero(np.isclose(safe.read(levels), level)) for level in (0.05, 0.95)]
            if all(len(where) for where in at):
                edges = quantiles.reshape(*mean.shape, -1)
                return edges[..., int(at[0][0])], edges[..., int(at[1][0])]
    return None if std is None else (mean - 1.6449 * std, mean + 1.6449 * std)


def _flat(array: np.ndarray | None) -> np.ndarray | None:
    return None if array is None else array.reshape(len(array), -1)


def _encoding(arrays: _Arrays, channels: int) -> list[Panel]:
    mean, cov = arrays.get("latent_mean"), arrays.get("latent_cov")
    if mean is None or cov is None or mean.ndim != 2 or cov.shape != (*mean.shape, mean.shape[1]):
        raise DataError("the result holds no latent states", where=str(arrays.group.file.filename))
    reach = 1.6449 * np.sqrt(np.maximum(np.diagonal(cov, axis1=1, axis2=2), 0))
    x = arrays.times(len(mean))
    return [
        Panel(f"latent {k}", x, mean=mean[:, k], low=mean[:, k] - reach[:, k], high=mean[:, k] + reach[:, k])
        for k in range(min(channels, mean.shape[1]))
    ]
