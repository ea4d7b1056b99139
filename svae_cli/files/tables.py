"""Results as text in long form: one row a series, time and channel, as CSV or JSON lines."""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np

if TYPE_CHECKING:
    from svae_cli.files.results import Header, Part


def write(
    file: TextIO,
    header: "Header",
    series: Iterable["Part"],
    *,
    format: Literal["csv", "jsonl"],
    only_missing: bool = False,
) -> None:
    """Write rows ``series,time,channel,mean,std,q0.05,...`` as the series come.

    An encoding has ``latent`` for ``channel``; drawn and simulated series have one column ``value``. Samples are not
    written: they are for HDF5.

    Args:
        file: an open text file.
        header: what the series share.
        series: named arrays of each series, long ones in pieces.
        format: csv or jsonl.
        only_missing: leave out rows of observed values.
    """
    rows = _rows(header, series, only_missing=only_missing)
    if format == "jsonl":
        for row in rows:
            file.write(json.dumps({name: _finite(value) for name, value in row.items()}) + "\n")
        return
    writer = csv.writer(file, lineterminator="\n")
    for number, row in enumerate(rows):
        if number == 0:
            writer.writerow(row)
        writer.writerow(["" if value != value else value for value in row.values()])


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(header: "Header", series: Iterable["Part"], *, only_missing: bool) -> Iterator[dict[str, Any]]:
    times: np.ndarray = np.empty(0)
    for index, start, fields in series:
        what, columns = _columns(header, fields)
        times = header.times(index) if start == 0 else times
        names = header.channels if what == "channel" else [str(k) for k in range(fields["latent_mean"].shape[1])]
        left_out = fields["observed"] if only_missing else None
        values = {column: _plain(array) for column, array in columns.items()}
        steps = len(next(iter(columns.values())))
        for t, time in enumerate(times[start : start + steps].tolist()):
            for d, name in enumerate(names):
                if left_out is None or not left_out[t, d]:
                    numbers = {column: array[t][d] for column, array in values.items()}
                    yield {"series": header.keys[index], "time": time, what: name, **numbers}


def _plain(array: np.ndarray) -> list[list[float]]:
    """Python numbers that print as short as the array's own precision allows: float32 0.1 is 0.1."""
    if array.dtype == np.float32:
        texts = array.astype(str)
        return [[float(x) for x in row] for row in texts.tolist()]
    return array.tolist()


def _columns(header: "Header", fields: dict[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    cast = {name: array.astype(header.dtype) for name, array in fields.items() if array.dtype.kind == "f"}
    if "mean" in cast:
        columns = {"mean": cast["mean"], "std": cast["std"]}
        for q, level in enumerate(header.quantiles):
            columns[f"q{level:g}"] = cast["quantiles"][:, :, q]
        return "channel", columns
    if "latent_mean" in cast:
        spread = np.sqrt(np.maximum(np.diagonal(cast["latent_cov"], axis1=1, axis2=2), 0))
        return "latent", {"mean": cast["latent_mean"], "std": spread}
    return "channel", {"value": cast["data"]}
