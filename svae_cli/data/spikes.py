"""Spikes: values of a moment, far from those before and after, from which nothing is to be learned.

A few wrong values in a thousand multiply the noise that a Gaussian model finds, and everything it then says is as
blurred as they are. A spike is told by its own channel: by how far a value is from the median of its four
neighbours, where the channel's other values show what is usual, its steepest moments included (a median filter with
thresholds; Davies and Gather, "The identification of multiple outliers", 1993). Where many values are far away, or the
far ones are the end of a long tail, that is how the channel moves, and it is left as it is. So is a channel whose far
values come in unsettled moments, as heavy rain among rain: errors mostly come in ordinary ones. And so is what goes
from channel to channel: where a downpour is the only one of the record, no channel alone can tell it from an error, but
a failure comes and goes at once, in one channel or in many.
"""

from dataclasses import replace
from itertools import count
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from numpy.lib.stride_tricks import sliding_window_view
from scipy.special import pdtrc

from svae_cli.data.series import SeriesSet

_SIDE = 2  # neighbours on either side
_STEEP = 0.98  # quantile of the distances that is a steep moment, not a spike
_TIMES_STEEP = 6.0
_NEARLY = 2 / 3  # of the limit: where more values lie between than beyond, the far ones are the end of a long tail
_MOST = 0.01  # of a channel's values: more than that is no accident
_UNSETTLED = 0.2  # of a channel's far values: were they errors, one in fifty would have neighbours this far apart
_LEAST = 100  # distances that must be known
_SELDOM = 0.01  # probability of more far values beside a step than chance explains
_STRETCHES, _LENGTH = 64, 1024  # that are looked at


class SpikeLimits(NamedTuple):
    """What makes a value a spike.

    Attributes:
        far: distance from its neighbours from which a value is far from them; infinite where too few are known.
        spiky: channels whose far values are spikes, not the end of a long tail.
        by_chance: far values of other channels, beside a step with some, that accidents explain; where there are more,
            something goes on.
    """

    far: Float[np.ndarray, " channel"]
    spiky: Bool[np.ndarray, " channel"]
    by_chance: int


def spike_limits(data: SeriesSet) -> tuple[SpikeLimits, float]:
    """(What makes a value a spike, the share of values that are spikes).

    Args:
        data: up to 64 stretches of 1024 steps are looked at, spread over all series.
    """
    stretches = _stretches(data)
    away, outside = map(np.concatenate, zip(*map(_from_neighbours, stretches), strict=True))
    known = ~np.isnan(away)
    limits = SpikeLimits(np.full(away.shape[1], np.inf), np.ones(away.shape[1], bool), 0)
    for d in np.flatnonzero(known.sum(axis=0) >= _LEAST):
        limit = _TIMES_STEEP * np.quantile(away[known[:, d], d], _STEEP)
        limits.far[d] = limit if limit > 0 else np.inf
    far = _are_far(away, outside, limits)
    limits = limits._replace(by_chance=_by_chance(far[known.any(axis=1)]))
    ends = np.cumsum([len(stretch) for stretch in stretches])[:-1]
    alone = known & ~np.concatenate([_going_on(part, limits.by_chance) for part in np.split(far, ends)])
    doubtful = np.flatnonzero(np.any(far & alone, axis=0))
    spread = _spreads_without(far[:, doubtful], [stretch[:, doubtful] for stretch in stretches])
    for d, between in zip(doubtful, spread.T, strict=True):
        own = alone[:, d]
        limits.spiky[d] = _are_errors(away[own, d], between[own], far[own, d], limits.far[d])
    return limits, float(np.sum(far & alone & limits.spiky) / max(known.sum(), 1))


def _are_errors(
    away: Float[np.ndarray, " time"], spread: Float[np.ndarray, " time"], far: Bool[np.ndarray, " time"], limit: float
) -> bool:
    """Whether the far values of a channel are not how it moves: few, well apart from the rest, in ordinary moments."""
    beyond, nearly = np.sum(away > limit), np.sum(away > _NEARLY * limit)
    unsettled = np.mean(spread[far] > np.nanquantile(spread, _STEEP))
    return bool(nearly <= 2 * beyond and beyond <= _MOST * len(away) and unsettled <= _UNSETTLED)


def _by_chance(far: Bool[np.ndarray, "time channel"]) -> int:
    """How many far values there are seldom more of beside a step if each comes by accident: a Poisson number.

    Its rate is told by the steps without any, which hardly change when a few moments gather many.
    """
    quiet = np.mean(~far.any(axis=1)) if len(far) else 1.0
    rate = -2 * _SIDE * np.log(max(quiet, 1 / max(len(far), 2)))
    return next(n for n in count(1) if pdtrc(n, rate) < _SELDOM)


def without_spikes(data: SeriesSet, limits: SpikeLimits) -> SeriesSet:
    """The same series with spikes as missing values, still read as needed."""
    if not np.any(np.isfinite(limits.far) & limits.spiky):
        return data
    fetch = data.fetch

    def read(index: int, start: int, stop: int) -> Float[np.ndarray, "time channel"]:
        first, last = max(start - 3 * _SIDE, 0), min(stop + 3 * _SIDE, data.lengths[index])
        values = fetch(index, first, last)
        spikes = _are_spikes(*_from_neighbours(values.astype(np.float64)), limits)
        kept = np.where(spikes, np.nan, values)[start - first : stop - first]
        return kept.astype(np.result_type(values.dtype, np.float32))  # whole numbers have no NaN

    return replace(data, fetch=read, uncut=None)


def _are_spikes(away: np.ndarray, outside: np.ndarray, limits: SpikeLimits) -> Bool[np.ndarray, "time channel"]:
    far = _are_far(away, outside, limits)
    return far & limits.spiky & ~_going_on(far, limits.by_chance)


def _are_far(away: np.ndarray, outside: np.ndarray, limits: SpikeLimits) -> Bool[np.ndarray, "time channel"]:
    return (away > limits.far) & (outside > limits.far / 2)


def _going_on(far: Bool[np.ndarray, "time channel"], by_chance: int) -> Bool[np.ndarray, "time 1"]:
    """Steps at or beside those around which other channels, too, are far: more of them than accidents explain."""
    padded, others = np.pad(far, ((_SIDE, _SIDE), (0, 0))), np.zeros(len(far), int)
    for shift in range(2 * _SIDE + 1):
        others += np.sum(padded[shift : shift + len(far)] & ~far, axis=1)
    many = far.any(axis=1) & (others > by_chance)
    return np.any(sliding_window_view(np.pad(many, _SIDE), 2 * _SIDE + 1), axis=1)[:, None]


def _from_neighbours(values: Float[np.ndarray, "time channel"]) -> tuple[np.ndarray, np.ndarray]:
    """How far each value is from the median of its neighbours, and outside the middle two of them.

    NaN where it or all but one of these are missing. Beside two wrong values the median is halfway to them, far from
    honest ones too; but those are not outside.
    """
    ordered, found = _neighbours(values)
    at = np.maximum(found - 1, 0) // 2, np.minimum(found // 2, 2 * _SIDE - 1)
    low, high = (np.take_along_axis(ordered, k[None], axis=0)[0] for k in at)
    outside = np.maximum(np.maximum(low - values, values - high), 0.0)
    enough = found >= _SIDE
    return np.where(enough, np.abs(values - (low + high) / 2), np.nan), np.where(enough, outside, np.nan)


def _spreads_without(
    far: Bool[np.ndarray, "time channel"], stretches: list[Float[np.ndarray, "step channel"]]
) -> Float[np.ndarray, "time channel"]:
    """How far apart the neighbours of each value are, far ones left out; NaN where fewer than two are known."""
    spreads, begin = [], 0
    for values in stretches:
        ordered, found = _neighbours(np.where(far[begin : begin + len(values)], np.nan, values))
        last = np.take_along_axis(ordered, np.maximum(found - 1, 0)[None], axis=0)[0]
        spreads.append(np.where(found >= _SIDE, last - ordered[0], np.nan))
        begin += len(values)
    return np.concatenate(spreads)


def _neighbours(values: Float[np.ndarray, "time channel"]) -> tuple[np.ndarray, np.ndarray]:
    """The neighbours of each value from the least to the greatest, missing ones last, and how many are known."""
    padded = np.pad(values, ((_SIDE, _SIDE), (0, 0)), constant_values=np.nan)
    beside = [padded[k : k + len(values)] for k in range(2 * _SIDE + 1) if k != _SIDE]
    ordered = np.sort(np.stack(beside), axis=0)
    return ordered, np.sum(~np.isnan(ordered), axis=0)


def _stretches(data: SeriesSet) -> list[Float[np.ndarray, "time channel"]]:
    """Consecutive steps, spread evenly over series and time."""
    places = [(i, start) for i, n in enumerate(data.lengths) for start in range(0, n, _LENGTH)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(_STRETCHES, len(places))).astype(int))
    return [
        data.read(i, start, min(start + _LENGTH, data.lengths[i])).astype(np.float64)
        for i, start in (places[k] for k in chosen)
    ]
