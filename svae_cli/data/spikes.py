"""Spikes: values of a moment, far from those before and after, from which nothing is to be learned.

A few wrong values in a thousand multiply the noise that a Gaussian model finds, and everything it then says is as
blurred as they are. A spike is told by its own channel alone: by how far a value is from the median of its four
neighbours, where the channel's other values show what is usual, its steepest moments included (a median filter with
thresholds; Davies and Gather, "The identification of multiple outliers", 1993). Where many values are far away, that is
how the channel moves, and it is left as it is.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from svae_cli.data.series import SeriesSet

_SIDE = 2  # neighbours on either side
_STEEP = 0.98  # quantile of the distances that is a steep moment, not a spike
_TIMES_STEEP = 6.0
_TIMES_USUAL = 12.0  # standard deviations, were the distances Gaussian
_MEDIAN = 0.6745  # of the size of a standard Gaussian
_MOST = 0.01  # of a channel's values: more than that is no accident
_LEAST = 100  # distances that must be known
_STRETCHES, _LENGTH = 64, 1024  # that are looked at


def spike_limits(data: SeriesSet) -> tuple[Float[np.ndarray, " channel"], float]:
    """(distance from its neighbours that makes a value a spike, infinite where none is one; share of such values).

    Args:
        data: up to 64 stretches of 1024 steps are looked at, spread over all series.
    """
    away = np.abs(np.concatenate([_from_neighbours(stretch) for stretch in _stretches(data)]))
    known = ~np.isnan(away)
    limits = np.full(away.shape[1], np.inf)
    for d in np.flatnonzero(known.sum(axis=0) >= _LEAST):
        own = away[known[:, d], d]
        limit = max(_TIMES_STEEP * np.quantile(own, _STEEP), _TIMES_USUAL * np.median(own) / _MEDIAN)
        if limit > 0 and 0 < np.mean(own > limit) <= _MOST:
            limits[d] = limit
    return limits, float(np.sum(away > limits) / max(known.sum(), 1))


def without_spikes(data: SeriesSet, limits: Float[np.ndarray, " channel"]) -> SeriesSet:
    """The same series with spikes as missing values, still read as needed."""
    if not np.isfinite(limits).any():
        return data
    fetch = data.fetch

    def read(index: int, start: int, stop: int) -> Float[np.ndarray, "time channel"]:
        first, last = max(start - _SIDE, 0), min(stop + _SIDE, data.lengths[index])
        values = fetch(index, first, last)
        away = np.abs(_from_neighbours(values.astype(np.float64)))
        return np.where(away > limits, np.nan, values)[start - first : stop - first].astype(values.dtype)

    return replace(data, fetch=read)


def _from_neighbours(values: Float[np.ndarray, "time channel"]) -> Float[np.ndarray, "time channel"]:
    """Each value minus the median of its neighbours; NaN where it or all but one of these are missing."""
    padded = np.pad(values, ((_SIDE, _SIDE), (0, 0)), constant_values=np.nan)
    beside = [padded[k : k + len(values)] for k in range(2 * _SIDE + 1) if k != _SIDE]
    ordered = np.sort(np.stack(beside), axis=0)  # NaN come last
    count = np.sum(~np.isnan(ordered), axis=0)
    middle = [np.maximum(count - 1, 0) // 2, np.minimum(count // 2, 2 * _SIDE - 1)]
    median = sum(np.take_along_axis(ordered, at[None], axis=0)[0] for at in middle) / 2
    return np.where(count >= _SIDE, values - median, np.nan)


def _stretches(data: SeriesSet) -> list[Float[np.ndarray, "time channel"]]:
    """Consecutive steps, spread evenly over series and time."""
    places = [(i, start) for i, n in enumerate(data.lengths) for start in range(0, n, _LENGTH)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(_STRETCHES, len(places))).astype(int))
    return [
        data.read(i, start, min(start + _LENGTH, data.lengths[i])).astype(np.float64)
        for i, start in (places[k] for k in chosen)
    ]
