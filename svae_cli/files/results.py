"""Results as files: what they share, and the choice of the format; the formats are ``netcdf`` and ``tables``."""

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np

from svae_cli.data.series import Layout, SeriesSet, TimeAxis
from svae_cli.files import netcdf, tables
from svae_cli.files.atomic import STDOUT, replacing, writing
from svae_cli.results import LatentPath, Prediction

Kind = Literal["imputation", "forecast", "encoding", "sample", "simulation"]
Format = Literal["h5", "csv", "jsonl"]

DIMENSIONS: dict[str, tuple[str, ...]] = {
    "data": ("time", "channel"),
    "observed": ("time", "channel"),
    "ignored": ("time", "channel"),
    "mean": ("time", "channel"),
    "std": ("time", "channel"),
    "quantiles": ("time", "channel", "quantile"),
    "samples": ("sample", "time", "channel"),
    "latent_mean": ("time", "latent"),
    "latent_cov": ("time", "latent", "latent_other"),
}
"""The datasets that a result may hold for each series, with the names of their dimensions."""


@dataclass(frozen=True)
class Header:
    """What all series of a result share.

    Attributes:
        kind: what the result is.
        keys: names of the series.
        lengths: steps of each in the result.
        starts: index on the time grid of each series' first step in the result.
        channels: names of the channels.
        units: units of the channels.
        dtype: float32 or float64.
        layout: how the input held the series; only "group" is written as one group a series.
        channel_shape: height, width and colours where a step is a frame.
        time: the grid of the input, or None.
        quantiles: levels.
        settings: what was asked for and of which model, as JSON.
        seed: of the random draws.
        model_sha256: of the model file, empty if there is none.
    """

    kind: Kind
    keys: tuple[str, ...]
    lengths: tuple[int, ...]
    starts: tuple[int, ...]
    channels: tuple[str, ...]
    units: tuple[str, ...]
    dtype: np.dtype
    layout: Layout = "batch"
    channel_shape: tuple[int, ...] = ()
    time: TimeAxis | None = None
    quantiles: tuple[float, ...] = ()
    settings: str = "{}"
    seed: int = 0
    model_sha256: str = ""

    @classmethod
    def like(cls, kind: Kind, data: SeriesSet, *, settings: dict[str, Any], **more: Any) -> "Header":
        """The header of a result on the same steps as its input; ``more`` replaces fields."""
        fields: dict[str, Any] = {
            "keys": data.keys,
            "lengths": data.lengths,
            "starts": (0,) * len(data),
            "channels": data.channels,
            "units": data.units,
            "dtype": data.dtype,
            "layout": data.layout,
            "channel_shape": data.channel_shape,
            "time": data.time,
            "settings": json.dumps(settings, sort_keys=True),
        }
        return cls(kind=kind, **{**fields, **more})

    def times(self, index: int) -> np.ndarray:
        """Times of one series' steps in the result."""
        grid = self.time or TimeAxis()
        return grid.at(self.starts[index], self.lengths[index])


class Part(NamedTuple):
    """Consecutive steps of one series of a result.

    Attributes:
        row: which series.
        start: the first of the steps; 0 begins a series.
        fields: arrays by their names in the file.
    """

    row: int
    start: int
    fields: dict[str, np.ndarray]


def parts_of(rows: Iterable[Prediction | LatentPath | np.ndarray]) -> Iterator[Part]:
    """The rows with their places; the pieces of a long series follow each other."""
    number = -1
    for result in rows:
        start = 0 if isinstance(result, np.ndarray) else result.start
        number += start == 0
        yield Part(number, start, fields_of(result))


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fields_of(row: Prediction | LatentPath | np.ndarray) -> dict[str, np.ndarray]:
    """The arrays of one series by their names in the file, without those that are None; a bare array is the data."""
    if isinstance(row, np.ndarray):
        return {"data": row}
    if isinstance(row, LatentPath):
        return {"latent_mean": row.mean, "latent_cov": row.cov}
    found = {
        "data": row.values,
        "observed": row.observed,
        "ignored": None if row.observed is None else row.ignored,  # of a forecast they lie before it
        "mean": row.mean,
        "std": row.std,
        "quantiles": row.quantiles,
        "samples": row.samples,
        "latent_mean": row.latent_mean,
        "latent_cov": row.latent_cov,
    }
    return {name: array for name, array in found.items() if array is not None}


def write_results(
    target: Path,
    header: Header,
    rows: Iterable[Prediction | LatentPath | np.ndarray],
    *,
    format: Format,
    force: bool,
    only_missing: bool = False,
    extra: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write one series after another, as they come; the file appears whole or not at all.

    Args:
        target: the file; ``-`` is standard output, to which text is streamed.
        header: what the series share; keys in the order of ``rows``.
        rows: one result a series, or several pieces of it in order; a bare array (time, channel) is written as
            ``data``.
        format: h5 (valid netCDF-4), csv or jsonl (long form).
        force: replace an existing file.
        only_missing: keep only what was not observed: rows of text, or numbers in the file (the rest is NaN).
        extra: arrays to add to an HDF5 file, by path, such as ``truth/latents`` of a simulation.

    Raises:
        OutputError: the target is refused or cannot be written.
    """
    series = parts_of(rows)
    if format == "h5":
        chosen = (part._replace(fields=_blank_observed(part.fields)) for part in series) if only_missing else series
        with replacing(target, force=force) as path:
            netcdf.write(path, header, chosen, dimensions=DIMENSIONS, target=target, extra=extra or {})
    elif target == STDOUT:
        tables.write(sys.stdout, header, series, format=format, only_missing=only_missing)
        sys.stdout.flush()
    else:
        with replacing(target, force=force) as path, _text(path, target) as file:
            tables.write(file, header, series, format=format, only_missing=only_missing)


@contextmanager
def _text(path: Path, target: Path) -> Iterator[TextIO]:
    with writing(target), path.open("w", encoding="utf-8", newline="") as file:
        yield file


def _blank_observed(fields: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The fields with predictions of observed values made NaN, so that they take no room in a compressed file."""
    seen = fields["observed"]
    masks = {"mean": seen, "std": seen, "quantiles": seen[..., None], "samples": seen[None]}
    return {
        name: np.where(masks[name], np.nan, array).astype(array.dtype) if name in masks else array
        for name, array in fields.items()
    }
