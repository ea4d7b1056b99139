"""The lag regression by ridge regression: one map for all channels, to which each channel's own is shrunk.

How far is decided by the last fifth of the examples, given the others, and by the first fifth; so is whether the
regression is worth having: it must beat both the last value and the last season there.
"""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from svae_cli.config import Settings
from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet
from svae_cli.errors import UsageError
from svae_cli.models.lags import LagRegression, steps_ahead
from svae_cli.training.season_choice import predicts_by_itself

_SEASONAL = 336  # steps looked back on, at least, in whole seasons: two weeks of hours
_PLAIN = 48  # without a season
_LONGEST = 720  # longer seasons are not looked back on
_PART = 6  # of the longest series is looked back on at most
_FEWEST = 8  # lags worth a regression
_RIDGES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean square of a lag
_EXAMPLES = 300_000  # of all channels together
_NUMBERS = 15_000_000  # in the products of lags of all channels, of which three sets are in memory
_STRETCH = 4096  # steps read at once
_STRETCHES = 20_000  # looked at, each channel counting
_JUDGED = 0.2  # of the examples, the last ones and then the first ones, decide on what is learned from the others
_WORTH = 0.97  # squared errors relative to those of the better simple way, above which there is no regression
_CHANCE = 0.5  # over the root of the number of windows: random walks gain as much now and then
_ROUNDED = 1e-9  # of the squared error of the last value
_MOST_OPTIMISM = 4.0
_SEEN = 0.5  # of the values of an example that must be known


@dataclass(frozen=True)
class _Moments:
    """Sums over examples of one channel of products: of lags, of lags and what came, of what came; their number."""

    lags: Float[np.ndarray, "lag lag"]
    both: Float[np.ndarray, "lag ahead"]
    came: float
    count: float

    @classmethod
    def of(cls, past: Float[np.ndarray, "example lag"], future: Float[np.ndarray, "example ahead"]) -> "_Moments":
        return cls(past.T @ past, past.T @ future, float(np.sum(future**2)), float(len(past)))

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(
            self.lags + other.lags, self.both + other.both, self.came + other.came, self.count + other.count
        )

    def of_last(self, lags: int) -> "_Moments":
        """Of the last of the lags alone."""
        return _Moments(self.lags[-lags:, -lags:], self.both[-lags:], self.came, self.count)

    def errors(self, weights: Float[np.ndarray, "lag ahead"]) -> float:
        """Sum of squared errors of a map, as far as rounding lets it be told."""
        total = self.came - 2 * np.sum(weights * self.both) + np.sum(weights * (self.lags @ weights))
        return max(float(total), _ROUNDED * self.came)

    def ridge(self, ridge: float, centre: Float[np.ndarray, "lag ahead"]) -> Float[np.ndarray, "lag ahead"]:
        """The map of the smallest squared errors, shrunk to ``centre``."""
        size = len(self.lags)
        penalty = ridge * np.trace(self.lags) / size + 1e-12
        return centre + np.linalg.solve(self.lags + penalty * np.eye(size), self.both - self.lags @ centre)


def resolve_lags(
    settings: Settings, data: SeriesSet, scaler: Scaler, choices: dict[str, str]
) -> tuple[Settings, LagRegression | None]:
    """How far a regression looks back, and the regression, if there is to be one.

    Args:
        settings: with a season, or 0 for none.
        data: what is learned from.
        scaler: to the model's units.
        choices: the reason is added to it.

    Raises:
        UsageError: more lags are asked for than the series can show or memory can hold.
    """
    longest = max(series.length for series in _wholes(data))
    most = min(longest // 2, math.isqrt(_NUMBERS // data.n_channels))
    if settings.lags is not None and settings.lags > most:
        raise UsageError(
            f"--lags is {settings.lags}; series of up to {longest} steps and {data.n_channels} channels allow {most}",
            hint=f"--lags {most} at most, or --lags 0",
        )
    if settings.lags == 0 or not predicts_by_itself(settings, data):
        return settings.changed(lags=0), None
    season = settings.season or 0
    lags = settings.lags or usual_lags(season, longest, data.n_channels)
    if lags < _FEWEST and settings.lags is None:
        return settings.changed(lags=0), None
    tried = shorter_lags(lags, season) if settings.lags is None else [lags]
    found = _regression(data, scaler, tried, season, always=settings.lags is not None)
    if found is None:
        return settings.changed(lags=0), None
    regression, left = found
    lags = regression.lags
    choices["lags"] = (
        f"{lags} steps: a regression on them has a say in forecasts; alone it leaves {left:.0%} of the squared error "
        "of the last value or season"
    )
    return settings.changed(lags=lags), jax.tree.map(lambda a: jnp.asarray(a, settings.precision), regression)


def usual_lags(season: int, longest: int, n_channels: int) -> int:
    """Whole seasons that make two weeks of hours or more, as far as the series show them several times; else 0."""
    most = min(longest // _PART, math.isqrt(_NUMBERS // n_channels))
    if not season:
        return min(_PLAIN, most)
    if season > min(most, _LONGEST):
        return 0  # it could not know the last season
    return min(-(-_SEASONAL // season), most // season) * season


def shorter_lags(lags: int, season: int) -> list[int]:
    """It and half of it, and half of that: whole seasons, as far as a map looks back as many steps as it goes ahead."""
    found, least = [lags], max(steps_ahead(lags), season, 1)
    while (half := found[-1] // (2 * max(season, 1)) * max(season, 1)) >= least:
        found.append(half)
    return found


def _regression(
    data: SeriesSet, scaler: Scaler, tried: list[int], season: int, *, always: bool
) -> tuple[LagRegression, float] | None:
    """The best one and what it leaves of the simple ways' squared errors; None if that is too much, or cannot be told.

    Of those that are no worse than others by more than chance it is the one that looks back farthest.

    Args:
        data: what is learned from.
        scaler: to the model's units.
        tried: numbers of lags, the largest first; all of them are asked for the same examples.
        season: steps of a cycle; 0 without.
        always: there is to be one.
    """
    parts = list(_parts(data, scaler, tried[0], steps_ahead(tried[0]), season))
    found = [_of_lags([[m.of_last(lags) for m in part] for part in parts], season, always=always) for lags in tried]
    # What is promised too much goes on being promised where a record is continued that was learned from.
    told = [(each, float(each[0].optimism) * each[1]) for each in found if each is not None]
    least = min((worth for _, worth in told), default=0.0)
    return next((each for each, worth in told if worth * (1 - _chance(parts)) <= least), None)


def _chance(parts: list[list[_Moments]]) -> float:
    """By what share errors differ by chance: of what judges, first and last, windows that do not overlap count."""
    windows = sum(m.count for part in (parts[0], parts[-1]) for m in part) / parts[0][0].both.shape[1] / len(parts[0])
    return _CHANCE / math.sqrt(max(windows, 1.0))


def _of_lags(parts: list[list[_Moments]], season: int, *, always: bool) -> tuple[LagRegression, float] | None:
    """That of all lags, by the first fifth of the examples, the middle and the last fifth."""
    first, middle, last = parts
    (lags, ahead), width = first[0].both.shape, len(first)
    folds = [_Fold(middle, first, last), _Fold(middle, last, first)]
    wholes = [fold.whole for fold in folds]
    if not always and (any(w.count < 2 * lags for w in wholes) or not all(fold.asked for fold in folds)):
        return None
    nothing = np.zeros((lags, ahead))
    tried = {r: [whole.ridge(r, nothing) for whole in wholes] for r in _RIDGES}
    ridge = min(_RIDGES, key=lambda r: sum(f.left([m] * width) for f, m in zip(folds, tried[r], strict=True)))
    shared, maps, own = (wholes[0] + _total(last)).ridge(ridge, nothing), [], ([], [])
    for d in range(width):
        learned, known = [fold.learned(d) for fold in folds], first[d] + middle[d] + last[d]
        options: dict[float | None, list[np.ndarray]] = {None: tried[ridge]}
        for r in _RIDGES if known.count else ():
            options[r] = [part.ridge(r, m) for part, m in zip(learned, tried[ridge], strict=True)]
        best = min(options, key=lambda r: sum(f.judged[d].errors(m) for f, m in zip(folds, options[r], strict=True)))
        maps.append(shared if best is None else known.ridge(best, shared))
        for chosen, of_fold in zip(own, options[best], strict=True):
            chosen.append(of_fold)
    remains = [f.left(chosen) / f.simple(lags, ahead, season) for f, chosen in zip(folds, own, strict=True)]
    useful = np.mean(remains) < min(_WORTH, 1 - _chance(parts)) and max(remains) < 1
    optimism = np.clip(np.exp(np.mean([f.optimism(c) for f, c in zip(folds, own, strict=True)])), 1.0, _MOST_OPTIMISM)
    found = LagRegression(jnp.asarray(np.stack(maps)), jnp.asarray(optimism))
    return (found, float(np.mean(remains))) if always or useful else None


@dataclass(frozen=True)
class _Fold:
    """What is learned from, two parts, and what judges it: moments of each channel."""

    some: list[_Moments]
    others: list[_Moments]
    judged: list[_Moments]

    def learned(self, channel: int) -> _Moments:
        """Of what a channel learns from."""
        return self.some[channel] + self.others[channel]

    @property
    def whole(self) -> _Moments:
        """The same of all channels together."""
        return _total(self.some) + _total(self.others)

    @property
    def asked(self) -> list[int]:
        """Channels that can judge."""
        return [d for d, moments in enumerate(self.judged) if moments.came > 0]

    def left(self, maps: list[np.ndarray]) -> float:
        """Mean over channels of squared errors relative to those of the last value."""
        return float(np.mean([self.judged[d].errors(maps[d]) / self.judged[d].came for d in self.asked] or [1.0]))

    def optimism(self, maps: list[np.ndarray]) -> float:
        """Mean over channels of the log of what maps leave of the errors of the last value, judged over learned."""
        asked = [d for d in self.asked if self.learned(d).came > 0]
        parts = [(m.errors(maps[d]) / m.came for m in (self.judged[d], self.learned(d))) for d in asked]
        return float(np.mean([np.log(judged / learned) for judged, learned in parts] or [0.0]))

    def simple(self, lags: int, ahead: int, season: int) -> float:
        """The same of the last value or the last season, the better one."""
        repeated = _last_season(lags, ahead, season)
        better = [min(1.0, self.judged[d].errors(repeated) / self.judged[d].came) for d in self.asked]
        return float(np.mean(better or [1.0]))


def _last_season(lags: int, ahead: int, season: int) -> Float[np.ndarray, "lag ahead"]:
    """The map that repeats the last season; that of the last value without one."""
    weights = np.zeros((lags, ahead))
    if 0 < season <= lags:
        weights[lags - season + np.arange(ahead) % season, np.arange(ahead)] = 1.0
    return weights


def _total(moments: list[_Moments]) -> _Moments:
    total = moments[0]
    for more in moments[1:]:
        total = total + more
    return total


def _parts(
    data: SeriesSet, scaler: Scaler, lags: int, ahead: int, season: int
) -> tuple[list[_Moments], list[_Moments], list[_Moments]]:
    """Moments of each channel's examples: of the first fifth of them, of the middle, of the last fifth."""
    span, width = lags + ahead, data.n_channels
    wholes = _wholes(data)
    places = [(w, start) for w in wholes for start in range(0, w.length - span + 1, _STRETCH)]
    every = max(1, sum(max(w.length - span + 1, 0) for w in wholes) * width // _EXAMPLES)
    # Of a very long record, and of very many series, only every so many stretches are read.
    few = max(every // _STRETCH + 1, -(-len(places) * width // _STRETCHES))
    places, every = places[::few], max(1, every // few)
    begins = np.cumsum([0, *(min(_STRETCH, w.length - span + 1 - start) for w, start in places)])
    empty = _Moments(np.zeros((lags, lags)), np.zeros((lags, ahead)), 0.0, 0.0)
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
                    part[d] = part[d] + _Moments.of(past[low:high], future[low:high])
    return parts


@dataclass(frozen=True)
class _Whole:
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


def _wholes(data: SeriesSet) -> list[_Whole]:
    """The series that were cut: what is held out of them is a gap. Parts of one follow each other, under its name."""
    found: list[_Whole] = []
    last = None
    for number, steps in enumerate(data.lengths):
        length, first = steps, 0
        if data.uncut is not None:
            index, first = data.uncut[1][number]
            length = data.uncut[0].lengths[index]
        name = (data.keys[number], length)
        if not found or name != last or first < sum(found[-1].parts[-1][1:]):
            found.append(_Whole(length, []))
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
