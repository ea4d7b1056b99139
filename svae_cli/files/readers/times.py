"""Time grids: from timestamps, from a start and a rate, and onto a regular grid where steps are unequal."""

from dataclasses import dataclass

import h5py
import numpy as np

from svae_cli.data.series import TimeAxis
from svae_cli.errors import DataError
from svae_cli.files import safe

NAMES = ("time", "times", "timestamps", "timestamp", "t", "date", "datetime")
"""Names under which a dataset beside the values is taken for their times."""

TOLERANCE = 1e-3
"""Steps may differ from the usual one by this share of it."""

_SECONDS = {"days": 86400.0, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


@dataclass(frozen=True)
class Stamps:
    """Times of the steps of one series, in ``units``."""

    values: np.ndarray
    units: str


def read_stamps(dataset: h5py.Dataset, steps: int) -> Stamps | None:
    """The times in a dataset of ``steps`` numbers or ISO texts; None if it holds something else."""
    if dataset.shape != (steps,):
        return None
    safe.check_dataset(dataset)
    if (texts := safe.strings(dataset, steps)) is not None:
        return from_texts(texts)
    if dataset.dtype.kind not in "iuf":
        return None
    units = safe.attribute(dataset, "units") or safe.attribute(dataset, "unit") or ""
    return Stamps(safe.read(dataset).astype(np.float64), units if isinstance(units, str) else "")


def from_texts(texts: tuple[str, ...]) -> Stamps | None:
    """ISO dates and times as numbers since the first, in the largest unit that keeps them whole; None if not ISO."""
    try:
        moments = np.array(texts, dtype="datetime64[ms]")
    except ValueError:
        return None
    return from_datetimes(moments)


def from_datetimes(moments: np.ndarray) -> Stamps | None:
    """datetime64 as numbers since the first, in the largest of days, hours, minutes, seconds that keeps steps whole."""
    if np.isnat(moments).any() or not len(moments):
        return None
    seconds = (moments - moments[0]) / np.timedelta64(1, "s")
    usual = np.median(np.diff(seconds)) if len(seconds) > 1 else 1.0
    unit = next((name for name, size in _SECONDS.items() if usual % size == 0 and usual >= size), "seconds")
    first = np.datetime_as_string(moments[0].astype("datetime64[s]")).replace("T", " ")
    return Stamps(seconds / _SECONDS[unit], f"{unit} since {first}")


def grid(stamps: Stamps, *, where: str) -> TimeAxis:
    """The regular grid that the times lie on.

    Raises:
        DataError: times that are missing, do not rise, or are unequally spaced; the worst gap is named.
    """
    values = stamps.values
    if not len(values):
        raise DataError("there are no steps: the times are empty", where=where)
    if not np.isfinite(values).all():
        raise DataError(f"{np.count_nonzero(~np.isfinite(values))} times are missing or infinite", where=where)
    if len(values) == 1:
        return TimeAxis(float(values[0]), 1.0, stamps.units)
    steps = np.diff(values)
    usual = float(np.median(steps))
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0))
        raise DataError(f"times do not rise: {values[at]:.10g} is followed by {values[at + 1]:.10g}", where=where)
    rounding = 4 * np.finfo(np.float32).eps * float(np.abs(values).max()) if _is_float32(values) else 0.0
    if (off := np.abs(steps - usual)).max() > TOLERANCE * usual + rounding:
        at = int(np.argmax(off))
        raise DataError(
            f"{np.count_nonzero(off > TOLERANCE * usual + rounding)} of {len(steps)} steps differ from the usual "
            f"{usual:.6g}; the worst is {steps[at]:.6g}, after step {at} (time {values[at]:.10g})",
            where=where,
            hint=f"--regrid {usual:.6g} puts the values on a regular grid; empty steps become missing",
        )
    return TimeAxis(float(values[0]), float(values[-1] - values[0]) / (len(values) - 1), stamps.units)


def _is_float32(values: np.ndarray) -> bool:
    return bool((values == values.astype(np.float32)).all())


def regrid(stamps: Stamps, step: float, *, where: str) -> tuple[TimeAxis, np.ndarray]:
    """A regular grid of the given step, and for each of its steps the row of the value there, or -1.

    Raises:
        DataError: times that do not rise, two values at one step, or a grid too long to be meant.
    """
    values = stamps.values
    if not len(values):
        raise DataError("there are no steps: the times are empty", where=where)
    if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
        raise DataError("times are missing or do not rise; they cannot be put on a grid", where=where)
    places = np.rint((values - values[0]) / step).astype(np.int64)
    if (clash := np.diff(places) == 0).any():
        at = int(np.argmax(clash))
        raise DataError(
            f"--regrid {step:g} puts {np.count_nonzero(clash)} values on steps that are taken, "
            f"first {values[at + 1]:.10g} beside {values[at]:.10g}",
            where=where,
            hint=f"--regrid {float(np.diff(values).min()):.6g}",
        )
    if places[-1] >= 1000 * len(values):
        raise DataError(f"--regrid {step:g} needs {places[-1] + 1} steps for {len(values)} values", where=where)
    index = np.full(places[-1] + 1, -1, np.int64)
    index[places] = np.arange(len(values))
    return TimeAxis(float(values[0]), step, stamps.units), index


def from_rate(node: safe.Node) -> TimeAxis | None:
    """A grid from attributes: ``rate`` or ``sampling_rate`` in Hz, and ``starting_time`` in seconds."""
    rate = safe.attribute(node, "rate") or safe.attribute(node, "sampling_rate")
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not np.isfinite(rate) or rate <= 0:
        return None
    start = safe.attribute(node, "starting_time")
    return TimeAxis(float(start) if isinstance(start, int | float) else 0.0, 1.0 / float(rate), "seconds")
