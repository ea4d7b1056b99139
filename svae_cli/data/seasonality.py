"""Seasonality: which periods stand out of a data set's spectrum."""

import numpy as np
from jaxtyping import Float

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet

_LONGEST = 16384  # steps of a stretch that the spectrum is taken of
_STRETCHES = 32
_PEAK = 15.0  # times the local median


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
