"""Seasonality: which periods stand out of a spectrum, and after how many steps series repeat themselves."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet

_LONGEST = 16384  # steps of a stretch that the spectrum is taken of
_STRETCHES = 32
_PEAK = 15.0  # times the local median
_SHORT, _SHORTEST = 500, 3  # steps of a record that may be too short for its spectrum; of a period of it
_STRONG = 20.0  # gain of the criterion that counts as a season; noise and random walks reach 17 in 800
_CHANGES = 3  # of each phase of each series that are known, on average, at least
_EXACT = 1e-9  # share of the squares that is rounding
_MULTIPLES = range(1, 9)  # of a period: the week of days
_MUCH_BETTER = 0.7  # of the squared change over a shorter one
_BETTER = 0.9  # of that over one nearby, or another that is much better too
_TOLD = 0.2  # of the variance of changes from day to day, by the phase of the week; with weeks it is 0.3 and more
_UNLIKE = 1.0  # change over a shorter one, in units of the variance, that is no help beside the season
_COMPARED = 5  # cycles of a multiple with the next, at least, over all series that are looked at
_SOME = 16  # one channel in so many that repeats itself better is enough
_NEAR = 3  # steps to either side of where a coarse spectrum puts a period, at most
_STILL = 1e-6  # variance of a channel that stands still
_PAIRS = 100  # of values so far apart, of a channel that is to be compared
_CHANNELS, _SERIES = 32, 8  # that are looked at for it


def detect_periods(data: SeriesSet, scaler: Scaler, *, longest: float, limit: int = 3) -> tuple[float, ...]:
    """Up to ``limit`` periods, in steps, the strongest first; none if nothing stands out.

    The power spectrum, averaged over series and channels, is divided by its running median in log frequency; a peak
    more than 15 times above is a period. A peak that is a neighbour of a stronger one is not counted twice. In the
    spectrum of a few cycles none stands out, or a part of the season does: of short records what means of changes by
    phase tell comes first, if they tell enough (``_by_phase``).

    Args:
        data: the series; gaps count as the channel's mean.
        scaler: change of units.
        longest: periods above this many steps are left out.
        limit: number of periods at most.
    """
    length = min(max(data.lengths), _LONGEST)
    usable = [i for i, n in enumerate(data.lengths) if n >= length][:_STRETCHES]
    if length < 16:
        return ()
    power = np.sum([_power(data.read(i, 0, length), scaler) for i in usable], axis=0)
    frequency = np.fft.rfftfreq(length)[1:]
    whitened = power / _running_median(power)
    allowed = (1 / frequency <= longest) & (1 / frequency >= 2.5) & (frequency * length >= 3)
    found = _peaks(np.where(allowed, whitened, 0.0), frequency, limit)
    if length > _SHORT:
        return found
    season = _by_phase([scaler.to_model(data.read(i).astype(np.float64)) for i in usable], min(longest, length / 3))
    others = tuple(p for p in found if all(abs(p - one) > max(0.05 * one, one**2 / length) for one in season))
    return (season + others)[:limit]


class Repetition(NamedTuple):
    """After how many steps series repeat themselves.

    Attributes:
        steps: a period, or the multiple of one after which they do so much better, as hours of a week do.
        periods: how many of them that is.
        change: mean squared change over so many steps in units of the variance; 2 is none.
        within: steps of the shorter season that other channels keep to, where only some repeat themselves better after
            so many periods, as traffic does after a week and the weather beside it does not; else 0.
    """

    steps: int
    periods: int
    change: float
    within: int = 0


def repetition(
    data: SeriesSet, scaler: Scaler, periods: tuple[float, ...], *, usual: float, longest: float
) -> Repetition | None:
    """After how many steps the series repeat themselves; None without a period that is short enough.

    That is the longest period up to ``usual`` steps, else that of the least change, unless another one or a multiple,
    of which six are seen in one series or more in several, does much better, or is longer than usual and does better in
    some channels.

    Args:
        data: the series; the 8 longest of them and 32 channels are looked at.
        scaler: change of units.
        periods: as ``detect_periods`` found them.
        usual: longer periods are only for what is much better.
        longest: more than so many steps are left out.
    """
    length = min(max(data.lengths), _LONGEST)
    fits = [p for p in periods if max(2, round(p)) <= min(longest, length / 2)]
    if not fits:
        return None
    found = _Changes.of(data, scaler)
    base = max([p for p in fits if p <= usual], default=0.0)
    first = max(2, round(base)) if base else min((found.least(p, 1, length) for p in fits), key=found.alone)
    others = {}
    for period in fits:
        for n in _MULTIPLES:
            if first < n * period < min(longest, length / 2) and found.cycles(n * period) >= _COMPARED:
                others.setdefault(found.least(period, n, length), n)
    best, times = first, 1
    for steps, n in sorted(others.items()):
        if found.relative(steps, first) < _MUCH_BETTER and found.relative(steps, best) < _BETTER:
            best, times = steps, n
    if best == first and (better := [n for n in others if n > max(usual, 2 * first - 1) and found.in_some(n, first)]):
        best = min(better, key=lambda steps: found.better_of(steps, first))
        return Repetition(best, others[best], found.better_of(best, first), within=first)
    return Repetition(best, times, found.alone(best))


def shorter_cycle(data: SeriesSet, scaler: Scaler, periods: tuple[float, ...], *, season: int) -> int:
    """The period, at most half of a season, after which series change least, as days of weeks; 0 if there is none.

    Of the periods and their multiples, as a spectrum may show parts of a day alone; one counts if the series change
    less after it than after a fourth more and less, as slow ones change least after the fewest steps.

    Args:
        data: the series; the 8 longest of them and 32 channels are looked at.
        scaler: change of units.
        periods: as ``detect_periods`` found them.
        season: steps of the season.
    """
    length, found = min(max(data.lengths), _LONGEST), _Changes.of(data, scaler)
    near = {found.least(p, n, length) for p in periods for n in _MULTIPLES if n * p <= season / 2}
    lags = sorted(lag for lag in near if 4 <= lag <= season // 2)
    clear = [lag for lag in lags if max(found.relative(lag, round(lag * f)) for f in (0.75, 1.25)) < _BETTER]
    best = min(clear, key=found.alone, default=0)
    return best if best and found.alone(best) < _UNLIKE else 0


class _Changes:
    """Mean squared changes over lags, each computed once."""

    def __init__(self, series: list[Float[np.ndarray, "time channel"]]):
        self._series = series
        self._known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def of(cls, data: SeriesSet, scaler: Scaler) -> "_Changes":
        """Of the longest series, and of channels that move."""
        chosen = np.unique(np.linspace(0, data.n_channels - 1, min(_CHANNELS, data.n_channels)).round().astype(int))
        longest = np.argsort([-n for n in data.lengths], kind="stable")[:_SERIES]
        read = (data.read(int(i), 0, min(data.lengths[i], _LONGEST)).astype(np.float64) for i in longest)
        series = [scaler.to_model(values)[:, chosen] for values in read]
        known = [~np.isnan(values) for values in series]
        count = sum(k.sum(axis=0) for k in known)
        sums = (
            sum(np.where(k, v**power, 0.0).sum(axis=0) for k, v in zip(known, series, strict=True)) for power in (1, 2)
        )
        mean, square = (total / np.maximum(count, 1) for total in sums)
        moving = square - mean**2 > _STILL
        return cls([values[:, moving] for values in series])

    def least(self, period: float, times: int, length: int) -> int:
        """So many periods in whole steps, or a number nearby after which the change is less; a spectrum is coarse."""
        middle, blur = times * period, int(np.clip(np.ceil(times * period**2 / (2 * length)), 0, _NEAR))
        near = {max(2, round(middle) + shift) for shift in range(-blur, blur + 1)}
        best, *others = sorted(near, key=lambda steps: abs(steps - middle))
        for steps in others:
            if self.relative(steps, best) < _BETTER:
                best = steps
        return best

    def cycles(self, period: float) -> float:
        """How many of so many steps are compared with the next, over all series."""
        return sum(max(0.0, len(values) / period - 1) for values in self._series)

    def alone(self, lag: int) -> float:
        """The mean over channels of which enough is known; 2, as of noise, without any."""
        total, count = self._over(lag)
        enough = count >= _PAIRS
        return float(np.mean(total[enough] / count[enough])) if enough.any() else 2.0

    def relative(self, lag: int, other: int) -> float:
        """The change over one lag relative to another's, of channels of which enough is known of both.

        1 without any, and where the other is none: nothing repeats itself better than exactly.
        """
        (total, count), (total_of_other, count_of_other) = self._over(lag), self._over(other)
        enough = np.minimum(count, count_of_other) >= _PAIRS
        if not enough.any():
            return 1.0
        change, of_other = (
            np.mean(total[enough] / count[enough]),
            np.mean(total_of_other[enough] / count_of_other[enough]),
        )
        return float(change / of_other) if of_other > _STILL else 1.0

    def in_some(self, lag: int, shorter: int) -> bool:
        """Whether enough channels change less over one lag than over a shorter one, by more than chance would have it.

        A mean over n cycles errs by less than 1 / sqrt(n) of itself. Where noise hides the difference, the phases tell.
        """
        change, of_shorter = self._by_channel(lag), self._by_channel(shorter)
        clear = change < of_shorter * (1 - 1 / np.sqrt(max(self.cycles(lag), 1.0)))
        clear |= (change < of_shorter) & (self._told(lag, shorter) > _TOLD + 2 / max(self.cycles(lag), 1.0))
        return bool(np.sum(clear & (change < _UNLIKE)) >= max(1.0, len(change) / _SOME))

    def _told(self, lag: int, shorter: int) -> Float[np.ndarray, " channel"]:
        """Share of the variance of changes over a shorter lag that phases of a longer one tell, by channel.

        Adjusted for as many means as there are phases: 0 on average where there is nothing to tell, and within 2 over
        the number of cycles where the changes of a whole day are as one.
        """
        changes = [values[shorter:] - values[:-shorter] for values in self._series if len(values) > shorter]
        left, total, means = np.sum([_left_by_phase(change, lag) for change in changes], axis=0)
        count = np.sum([(~np.isnan(change)).sum(axis=0) for change in changes], axis=0)
        enough = (count > means) & (total > 0)
        of_total = np.where(enough, total, 1.0) / np.maximum(count - 1, 1)
        return np.where(enough, 1 - left / np.maximum(count - means, 1) / of_total, 0.0)

    def better_of(self, lag: int, other: int) -> float:
        """The mean over channels of the change over that of two lags after which each of them changes less."""
        return float(np.mean(np.minimum(self._by_channel(lag), self._by_channel(other))))

    def _by_channel(self, lag: int) -> Float[np.ndarray, " channel"]:
        """2, as of noise, where too little is known."""
        total, count = self._over(lag)
        return np.where(count >= _PAIRS, total / np.maximum(count, 1), 2.0)

    def _over(self, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """(sum, count) of squared changes by channel."""
        if lag not in self._known:
            squares = [(values[lag:] - values[:-lag]) ** 2 for values in self._series if len(values) > lag]
            zero = np.zeros(self._series[0].shape[1])
            total = sum((np.nansum(square, axis=0) for square in squares), zero)
            self._known[lag] = total, sum(((~np.isnan(square)).sum(axis=0) for square in squares), zero)
        return self._known[lag]


def _power(values: np.ndarray, scaler: Scaler) -> Float[np.ndarray, " frequency"]:
    """Spectrum of one stretch without its zero frequency, summed over channels, Hann window."""
    filled = np.nan_to_num(scaler.to_model(values.astype(np.float64)))
    tapered = (filled - filled.mean(axis=0)) * np.hanning(len(filled))[:, None]
    return (np.abs(np.fft.rfft(tapered, axis=0)[1:]) ** 2).sum(axis=1) + 1e-12


def _by_phase(series: list[Float[np.ndarray, "time channel"]], longest: float) -> tuple[float, ...]:
    """The period whose phases explain most of the changes from step to step, as Enright's periodogram does; or none.

    By the Bayesian information criterion: each phase of each series has a mean of its own. Changes, as those of a
    random walk are independent of each other.
    """
    changes = [np.diff(values, axis=0) for values in series]
    count = float(np.mean([np.sum([(~np.isnan(c[:, d])).sum() for c in changes]) for d in range(changes[0].shape[1])]))
    gains = {}
    most = min(int(longest), int(count / (_CHANGES * len(series))))
    for period in range(_SHORTEST, most + 1):
        left, total, _ = np.sum([_left_by_phase(c, period) for c in changes], axis=(0, 2))
        if total > 0:
            explained = np.log(total / max(left, _EXACT * total))
            gains[period] = count * explained - len(series) * (period - 1) * np.log(count)
    best = max(gains, key=gains.__getitem__, default=0)
    return (float(best),) if best and gains[best] > _STRONG else ()


def _left_by_phase(changes: Float[np.ndarray, "time channel"], period: int) -> Float[np.ndarray, "3 channel"]:
    """Sums of squares of what means by phase leave of each channel's changes, of what one mean leaves; such phases."""
    count = -(-len(changes) // period)
    padded = np.full((count * period, changes.shape[1]), np.nan)
    padded[: len(changes)] = changes
    cycles = padded.reshape(count, period, changes.shape[1])
    known = ~np.isnan(cycles)
    often = known.sum(axis=0)
    means = np.nansum(cycles, axis=0) / np.maximum(often, 1)
    mean = np.nansum(changes, axis=0) / np.maximum(often.sum(axis=0), 1)
    left, total = np.nansum((cycles - means) ** 2, axis=(0, 1)), np.nansum((changes - mean) ** 2, axis=0)
    return np.stack([left, total, (often > 0).sum(axis=0)])


def _running_median(power: np.ndarray) -> np.ndarray:
    """Median over a factor of two in frequency, each way a factor of the square root of two, at least 4 bins."""
    bins = np.arange(1, len(power) + 1)
    low = np.minimum(np.floor(bins / np.sqrt(2)), bins - 4).clip(1).astype(int)
    high = np.maximum(np.ceil(bins * np.sqrt(2)), bins + 4).clip(max=len(power)).astype(int)
    grid = np.unique(np.geomspace(1, len(power), 200).round().astype(int))
    medians = [np.median(power[low[b - 1] - 1 : high[b - 1]]) for b in grid]
    return np.exp(np.interp(np.log(bins), np.log(grid), np.log(medians)))


def _peaks(whitened: np.ndarray, frequency: np.ndarray, limit: int) -> tuple[float, ...]:
    found: list[float] = []
    left = whitened.copy()
    while len(found) < limit and left.max(initial=0.0) > _PEAK:
        top = int(np.argmax(left))
        near = slice(max(top - 1, 0), top + 2)
        found.append(float(1 / np.average(frequency[near], weights=whitened[near])))
        left[np.abs(np.arange(len(left)) - top) <= max(3, 0.05 * top)] = 0.0
    return tuple(found)
