"""Seasonality: which periods stand out of a spectrum, and after how many steps series repeat themselves."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet

_LONGEST = 16384  # steps of a stretch that the spectrum is taken of
_STRETCHES = 32
_PEAK = 15.0  # times the local median
_MULTIPLES = range(2, 9)  # of the longest period: the week of days
_MUCH_BETTER = 0.7  # of the squared change over one period
_CYCLES = 6  # of a multiple, at least
_CHANNELS = 64  # that are looked at for it


def detect_periods(data: SeriesSet, scaler: Scaler, *, longest: float, limit: int = 3) -> tuple[float, ...]:
    """Up to ``limit`` periods, in steps, the strongest first; none if nothing stands out.

    The power spectrum, averaged over series and channels, is divided by its running median in log frequency; a peak
    more than 15 times above is a period. A peak that is a neighbour of a stronger one is not counted twice.

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
    return _peaks(np.where(allowed, whitened, 0.0), frequency, limit)


class Repetition(NamedTuple):
    """After how many steps series repeat themselves.

    Attributes:
        steps: the longest period, or the multiple of it after which they do so much better, as hours of a week do.
        periods: how many of them that is.
        change: mean squared change over so many steps in units of the variance; 2 is none.
    """

    steps: int
    periods: int
    change: float


def repetition(data: SeriesSet, scaler: Scaler, periods: tuple[float, ...], *, longest: float) -> Repetition | None:
    """After how many steps the series repeat themselves; None without a period.

    Args:
        data: the series; up to 32 of them and 64 channels are looked at.
        scaler: change of units.
        periods: as ``detect_periods`` found them.
        longest: more than so many steps are left out.
    """
    base = max(2, round(max(periods, default=0.0)))
    if not periods or base > longest:
        return None
    length = min(max(data.lengths), _LONGEST)
    usable = [i for i, n in enumerate(data.lengths) if n >= length][:_STRETCHES]
    chosen = np.unique(np.linspace(0, data.n_channels - 1, min(_CHANNELS, data.n_channels)).round().astype(int))
    series = [scaler.to_model(data.read(i, 0, length).astype(np.float64))[:, chosen] for i in usable]
    found = {base: _change(series, base)}
    fit = [n * base for n in _MULTIPLES if n * base <= min(longest, length / _CYCLES)]
    found |= {steps: _change(series, steps) for steps in fit}
    best = min(found, key=found.__getitem__)
    steps = best if found[best] < _MUCH_BETTER * found[base] else base
    return Repetition(steps, steps // base, found[steps])


def _change(series: list[Float[np.ndarray, "time channel"]], lag: int) -> float:
    """Mean squared change over a lag, of a channel of unit variance; what is missing does not count."""
    squares = np.concatenate([(values[lag:] - values[:-lag]) ** 2 for values in series])
    known = ~np.isnan(squares)
    counts = known.sum(axis=0)
    if not counts.any():
        return 2.0
    return float(np.mean(np.where(known, squares, 0.0).sum(axis=0)[counts > 0] / counts[counts > 0]))


def _power(values: np.ndarray, scaler: Scaler) -> Float[np.ndarray, " frequency"]:
    """Spectrum of one stretch without its zero frequency, summed over channels, Hann window."""
    filled = np.nan_to_num(scaler.to_model(values.astype(np.float64)))
    tapered = (filled - filled.mean(axis=0)) * np.hanning(len(filled))[:, None]
    return (np.abs(np.fft.rfft(tapered, axis=0)[1:]) ** 2).sum(axis=1) + 1e-12


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
