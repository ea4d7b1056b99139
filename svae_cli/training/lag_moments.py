"""What a regression on last values needs to know of a record: moments of what was known and of what came, by channel.

A record of any length is read once, stretch by stretch; gaps are filled by earlier cycles or by lines. What validation
holds out is a gap.
"""

import functools
import operator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet

_EXAMPLES = 300_000  # of all channels together, at most
_JUDGED = 0.2  # of the examples, the last ones and then the first ones, decide on what is learned from the others
_STRETCH = 4096  # steps read at once
_STRETCHES = 20_000  # looked at, each channel counting
_ROUNDED = 1e-9  # of the squared error of the last value
_SEEN = 0.5  # of the values of an example that must be known


@dataclass(frozen=True)
class Moments:
    """Sums over examples of one channel of products: of lags, of lags and what came, of what came; their number."""

    lags: Float[np.ndarray, "lag lag"]
    both: Float[np.ndarray, "lag ahead"]
    came: float
    count: float

    @classmethod
    def of(cls, past: Float[np.ndarray, "example lag"], future: Float[np.ndarray, "example ahead"]) -> "Moments":
        """Of examples, one a row."""
        return cls(past.T @ past, past.T @ future, float(np.sum(future**2)), float(len(past)))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.lags + other.lags, self.both + other.both, self.came + other.came, self.count + other.count)

    def of_last(self, lags: int) -> "Moments":
        """Of the last of the lags alone."""
        return Moments(self.lags[-lags:, -lags:], self.both[-lags:], self.came, self.count)

    def errors(self, weights: Float[np.ndarray, "lag ahead"]) -> float:
        """Sum of squared errors of a map, as far as rounding lets it be told."""
        total = self.came - 2 * np.sum(weights * self.both) + np.sum(weights * (self.lags @ weights))
        return max(float(total), _ROUNDED * self.came)

    def ridge(self, ridge: float, centre: Float[np.ndarray, "lag ahead"]) -> Float[np.ndarray, "lag ahead"]:
        """The map of the smallest squared errors, shrunk to ``centre``."""
        size = len(self.lags)
        penalty = ridge * np.trace(self.lags) / size + 1e-12
        return centre + np.linalg.solve(self.lags + penalty * np.eye(size), self.both - self.lags @ centre)


def total(moments: list[Moments]) -> Moments:
    """Of all of them together."""
    return functools.reduce(operator.add, moments)


def moments_in_parts(
    data: SeriesSet, scaler: Scaler, lags: int, ahead: int, season: int
) -> tuple[list[Moments], list[Moments], list[Moments]]:
    """Moments of each channel's examples: of the first fifth of them, of the middle, of the last fifth."""
    span, width = lags + ahead, data.n_channels
    wholes = whole_series(data)
    places = [(w, start) for w in wholes for start in range(0, w.length - span + 1, _STRETCH)]
    every = max(1, sum(max(w.length - span + 1, 0) for w in wholes) * width // _EXAMPLES)
    # Of a very long record, and of very many series, only every so many stretches are read.
    few = max(every // _STRETCH + 1, -(-len(places) * width // _STRETCHES))
    places, every = places[::few], max(1, every // few)
    begins = np.cumsum([0, *(min(_STRETCH, w.length - span + 1 - start) for w, start in places)])
    empty = Moments(np.zeros((lags, lags)), np.zeros((lags, ahead)), 0.0, 0.0)
    parts = [empty] * width, [empty] * width, [empty] * width
    borders = np.array([0.0, _JUDGED, 1 - _JUDGED, 1.0]) * begins[-1]
    for (series, start), begin in zip(places, begins, strict=False):
        raw = series.read(data, start, min(start + _STRETCH + span - 1, series.length))
        values = _filled(scaler.to_model(raw.astype(np.float64)), season)
        for d in range(width):
            past, future, which = _examples(values[:, d], ~np.isnan(raw[:, d]), lags, ahead, every)
            cuts = np.searchsorted(begin + which, borders)
            for part, low, high in zip(parts, cuts, cuts[1:], strict=False):
                if low < high:
                    part[d] = part[d] + Moments.of(past[low:high], future[low:high])
    return parts


@dataclass(frozen=True)
class Whole:
    """A series as it was before parts of it were held out: steps, and (number, first step, steps) of what was kept."""

    length: int
    parts: list[tuple[int, int, int]]

    def read(self, data: SeriesSet, start: int, stop: int) -> Float[np.ndarray, "time channel"]:
        """Values of these steps: NaN where missing, and where they are held out."""
        values = np.full((stop - start, data.n_channels), np.nan)
        for number, first, steps in self.parts:
            low, high = max(first, start), min(first + steps, stop)
            if low < high:
                values[low - start : high - start] = data.read(number, low - first, high - first)
        return values


def whole_series(data: SeriesSet) -> list[Whole]:
    """The series that were cut: what is held out of them is a gap. Parts of one follow each other, under its name."""
    found: list[Whole] = []
    last = None
    for number, steps in enumerate(data.lengths):
        length, first = steps, 0
        if data.uncut is not None:
            index, first = data.uncut[1][number]
            length = data.uncut[0].lengths[index]
        name = (data.keys[number], length)
        if not found or name != last or first < sum(found[-1].parts[-1][1:]):
            found.append(Whole(length, []))
        found[-1].parts.append((number, first, steps))
        last = name
    return found


def _examples(
    values: Float[np.ndarray, " time"], known: Bool[np.ndarray, " time"], lags: int, ahead: int, every: int
) -> tuple[Float[np.ndarray, "example lag"], Float[np.ndarray, "example ahead"], Int[np.ndarray, " example"]]:
    """Windows of one channel whose last value before the future is known, and half of the others; their first steps."""
    span = lags + ahead
    sums = np.concatenate([[0], np.cumsum(known)])
    before, after = sums[lags:-ahead] - sums[:-span], sums[span:] - sums[lags:-ahead]
    good = known[lags - 1 : len(known) - ahead] & (before >= _SEEN * lags) & (after >= _SEEN * ahead)
    which = np.flatnonzero(good & (np.arange(len(good)) % every == 0))
    rows = np.lib.stride_tricks.sliding_window_view(values, span)[which]
    rows = rows - rows[:, lags - 1 : lags]
    return rows[:, :lags], rows[:, lags:], which


def _filled(values: Float[np.ndarray, "time channel"], season: int) -> Float[np.ndarray, "time channel"]:
    """Earlier cycles in gaps of half a season and more, straight lines in others; the mean, 0, if nothing is known."""
    filled, steps, missing = values.copy(), np.arange(len(values)), np.isnan(values)
    for d in np.flatnonzero(missing.any(axis=0) & ~missing.all(axis=0)) if season else ():
        known = np.flatnonzero(~missing[:, d])
        before, after = np.searchsorted(known, steps, "right") - 1, np.searchsorted(known, steps)
        ends = np.concatenate([known, [-len(values), 2 * len(values)]])  # -2 and -1: before the first, after the last
        gap = ends[np.where(after < len(known), after, -1)] - ends[np.where(before >= 0, before, -2)]
        for back in range(season, len(values), season):
            wanted = np.flatnonzero(np.isnan(filled[:, d]) & (gap > season / 2) & (steps >= back))
            if not len(wanted):
                break
            filled[wanted, d] = values[wanted - back, d]
    for column in filled.T:
        known = ~np.isnan(column)
        column[:] = np.interp(steps, steps[known], column[known]) if known.any() else 0.0
    return filled
