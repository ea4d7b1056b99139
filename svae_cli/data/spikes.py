"""Spikes: values of a moment, far from those before and after, from which nothing is to be learned.

A few wrong values in a thousand multiply the noise that a Gaussian model finds, and everything it then says is as
blurred as they are. A spike is told by its own channel alone: by how far a value is from the median of its four
neighbours, where the channel's other values show what is usual, its steepest moments included (a median filter with
thresholds; Davies and Gather, "The identification of multiple outliers", 1993). Where many values are far away, or the
far ones are the end of a long tail, as with rain, that is how the channel moves, and it is left as it is.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from svae_cli.data.series import SeriesSet

_SIDE = 2  # neighbours on either side
_STEEP = 0.98  # quantile of the distances that is a steep moment, not a spike
_TIMES_STEEP = 6.0
_NEARLY = 2 / 3  # of the limit: where more values lie between than beyond, the far ones are the end of a long tail
_MOST = 0.01  # of a channel's values: more than that is no accident
_LEAST = 100  # distances that must be known
_STRETCHES, _LENGTH = 64, 1024  # that are looked at


def spike_limits(data: SeriesSet) -> tuple[Float[np.ndarray, " channel"], float]:
    """(distance from its neighbours that makes a value a spike, infinite where none is one; share of such values).

    Args:
        data: up to 64 stretches of 1024 steps are looked at, spread over all series.
    """
    away, outside = map(np.concatenate, zip(*map(_from_neighbours, _stretches(data)), strict=True))
    known = ~np.isnan(away)
    limits = np.full(away.shape[1], np.inf)
    for d in np.flatnonzero(known.sum(axis=0) >= _LEAST):
        own = away[known[:, d], d]
        limit = _TIMES_STEEP * np.quantile(own, _STEEP)
        beyond = np.sum(own > limit)
        if limit > 0 and np.sum(own > _NEARLY * limit) <= 2 * beyond and beyond <= _MOST * len(own):
            limits[d] = limit
    return limits, float(np.sum(_are_spikes(away, outside, limits)) / max(known.sum(), 1))


def without_spikes(data: SeriesSet, limits: Float[np.ndarray, " channel"]) -> SeriesSet:
    """The same series with spikes as missing values, still read as needed."""
    if not np.isfinite(limits).any():
        return data
    fetch = data.fetch

    def read(index: int, start: int, stop: int) -> Float[np.ndarray, "time channel"]:
        first, last = max(start - _SIDE, 0), min(stop + _SIDE, data.lengths[index])
        values = fetch(index, first, last)
        spikes = _are_spikes(*_from_neighbours(values.astype(np.float64)), limits)
        kept = np.where(spikes, np.nan, values)[start - first : stop - first]
        return kept.astype(np.result_type(values.dtype, np.float32))  # whole numbers have no NaN

    return replace(data, fetch=read)


def _are_spikes(away: np.ndarray, outside: np.ndarray, limits: np.ndarray) -> Bool[np.ndarray, "time channel"]:
    return (away > limits) & (outside > limits / 2)


def _from_neighbours(values: Float[np.ndarray, "time channel"]) -> tuple[np.ndarray, np.ndarray]:
    """How far each value is from the median of its neighbours, and outside the middle two of them.

    NaN where it or all but one of these are missing. Beside two wrong values the median is halfway to them, far from
    honest ones too; but those are not outside.
    """
    padded = np.pad(values, ((_SIDE, _SIDE), (0, 0)), constant_values=np.nan)
    beside = [padded[k : k + len(values)] for k in range(2 * _SIDE + 1) if k != _SIDE]
    ordered = np.sort(np.stack(beside), axis=0)  # NaN come last
    count = np.sum(~np.isnan(ordered), axis=0)
    at = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, 2 * _SIDE - 1)
    low, high = (np.take_along_axis(ordered, k[None], axis=0)[0] for k in at)
    outside = np.maximum(np.maximum(low - values, values - high), 0.0)
    enough = count >= _SIDE
    return np.where(enough, np.abs(values - (low + high) / 2), np.nan), np.where(enough, outside, np.nan)


def _stretches(data: SeriesSet) -> list[Float[np.ndarray, "time channel"]]:
    """Consecutive steps, spread evenly over series and time."""
    places = [(i, start) for i, n in enumerate(data.lengths) for start in range(0, n, _LENGTH)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(_STRETCHES, len(places))).astype(int))
    return [
        data.read(i, start, min(start + _LENGTH, data.lengths[i])).astype(np.float64)
        for i, start in (places[k] for k in chosen)
    ]
