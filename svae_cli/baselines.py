"""Simple predictions that every model has to beat: for gaps and for the future, each with an honest spread.

A spread is the root mean square error that the same method makes on visible values of the same data: for gaps, on
values hidden a second time by the same pattern (a little wide, since two gaps may touch); for the future, on earlier
stretches of the series.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

IMPUTERS = ("mean", "last", "linear", "seasonal")
FORECASTERS = ("mean", "last", "drift", "seasonal")

Fill = Callable[[Float[np.ndarray, "time channel"]], Float[np.ndarray, "time channel"]]
"""One way to fill the gaps of one series."""

_SMALLEST_STD = 1e-9


# ------------------------------------------------------------------------------------------------ gaps


def fill(
    values: Float[np.ndarray, "time channel"],
    method: str,
    *,
    means: Float[np.ndarray, " channel"],
    period: int | None = None,
) -> Float[np.ndarray, "time channel"]:
    """The series with its gaps (NaN) filled.

        mean      the channel's mean
        last      the last value seen, before the first one that first one
        linear    a straight line between neighbours, constant beyond the outermost
        seasonal  the same line through the values one, two, ... periods away; "linear" where a phase was never seen

    Args:
        values: one series, NaN where missing.
        method: one of ``IMPUTERS``.
        means: the channels' means in the training data, for channels without any value.
        period: steps in a season; needed for "seasonal".
    """
    if method == "mean":
        return np.where(np.isnan(values), means, values)
    if method == "last":
        return _last(values, means)
    line = _linear(values, means)
    if method == "linear":
        return line
    if method != "seasonal" or period is None:
        raise ValueError(f"no way to fill called {method!r} with period {period}")
    steps, width = values.shape
    seasons = np.full((-(-steps // period) * period, width), np.nan)
    seasons[:steps] = values
    by_phase = seasons.reshape(-1, period * width)  # one column a phase and channel
    filled = _linear(by_phase, np.full(period * width, np.nan)).reshape(-1, width)[:steps]
    return np.where(np.isnan(filled), line, filled)


def _last(values: np.ndarray, means: np.ndarray) -> np.ndarray:
    seen, step = ~np.isnan(values), np.arange(len(values))[:, None]
    source = np.maximum(np.maximum.accumulate(np.where(seen, step, -1), axis=0), seen.argmax(axis=0))
    return np.where(seen.any(axis=0), np.take_along_axis(values, source, axis=0), means)


def _linear(values: np.ndarray, means: np.ndarray) -> np.ndarray:
    seen, step = ~np.isnan(values), np.arange(len(values))[:, None]
    before = np.maximum.accumulate(np.where(seen, step, -1), axis=0)
    after = np.minimum.accumulate(np.where(seen, step, len(values))[::-1], axis=0)[::-1]
    left, right = np.where(before < 0, after, before), np.where(after == len(values), before, after)
    never = ~seen.any(axis=0)
    left, right = np.where(never, 0, left), np.where(never, 0, right)
    low, high = np.take_along_axis(values, left, axis=0), np.take_along_axis(values, right, axis=0)
    filled = low + (high - low) * ((step - left) / np.maximum(right - left, 1))
    return np.where(seen, values, np.where(never, means, filled))


def spread_in_gaps(
    series: Sequence[Float[np.ndarray, "time channel"]],
    hide_again: Callable[[int, np.ndarray], np.ndarray],
    fill_one: Fill,
    *,
    fallback: Float[np.ndarray, " channel"],
) -> Float[np.ndarray, " channel"]:
    """Root mean square error of a way to fill, on visible values hidden once more.

    Args:
        series: what the method sees, NaN where missing or hidden.
        hide_again: ``hide_again(index, observed)`` gives the values of a series to hide, by the pattern in question.
        fill_one: the method.
        fallback: the spread of channels where nothing could be hidden again.
    """
    errors = []
    for index, values in enumerate(series):
        hidden = hide_again(index, ~np.isnan(values))
        filled = fill_one(np.where(hidden, np.nan, values))
        errors.append(np.where(hidden, filled - values, np.nan))
    spread = _rms(errors)
    return np.maximum(np.where(np.isnan(spread), fallback, spread), _SMALLEST_STD)


# ------------------------------------------------------------------------------------------------ the future


def extend(
    values: Float[np.ndarray, "time channel"],
    horizon: int,
    method: str,
    *,
    means: Float[np.ndarray, " channel"],
    period: int | None = None,
) -> Float[np.ndarray, "horizon channel"]:
    """The series continued by ``horizon`` steps.

        mean      the channel's mean
        last      the last value seen ("naive")
        drift     the line through the first and the last value seen
        seasonal  the last season again ("seasonal naive"); gaps in it are filled as by ``fill``

    Args:
        values: the series so far, NaN where missing; one step at least.
        horizon: steps beyond the end.
        method: one of ``FORECASTERS``.
        means: the channels' means in the training data, for channels without any value.
        period: steps in a season; needed for "seasonal".
    """
    ahead = np.arange(1, horizon + 1)[:, None]
    if method == "mean":
        return np.broadcast_to(means, (horizon, len(means))).copy()
    latest = _last(values, means)[-1]
    if method == "last":
        return np.broadcast_to(latest, (horizon, len(means))).copy()
    if method == "drift":
        return latest + ahead * _slope(values)
    if method != "seasonal" or period is None:
        raise ValueError(f"no way to forecast called {method!r} with period {period}")
    season = min(period, len(values))
    recent = fill(values, "seasonal", means=means, period=season)[-season:]
    return recent[(ahead[:, 0] - 1) % season]


def _slope(values: np.ndarray) -> np.ndarray:
    """Change a step between the first and the last value seen of each channel; 0 with fewer than two."""
    seen = ~np.isnan(values)
    first, last = seen.argmax(axis=0), len(values) - 1 - seen[::-1].argmax(axis=0)
    channel = np.arange(values.shape[1])
    apart = np.where(seen.any(axis=0), last - first, 0)
    return np.where(apart > 0, (values[last, channel] - values[first, channel]) / np.maximum(apart, 1), 0.0)


def spread_ahead(
    series: Sequence[Float[np.ndarray, "time channel"]],
    horizon: int,
    method: str,
    *,
    means: Float[np.ndarray, " channel"],
    period: int | None = None,
) -> Float[np.ndarray, "horizon channel"]:
    """Root mean square error of ``extend`` at each step ahead, over every origin in what is known.

    An error ``lag`` steps apart is a difference of two known values. Where no two values are far enough apart, the
    widest known spread grows with the square root of the lag. "drift" is "last" with the uncertainty of its slope
    (Hyndman and Athanasopoulos, "Forecasting: principles and practice", section 5.5).

    Args:
        series: what was known before the forecast.
        horizon: steps ahead.
        method: one of ``FORECASTERS``.
        means: the channels' means in the training data.
        period: steps in a season; needed for "seasonal".
    """
    around = _rms([values - means for values in series])
    if method == "mean":
        return np.maximum(np.broadcast_to(np.nan_to_num(around), (horizon, len(means))), _SMALLEST_STD)
    ahead = np.arange(1, horizon + 1)
    lags = ahead if method != "seasonal" or period is None else -(-ahead // period) * period
    spread = np.stack([_spread_at(series, int(lag)) for lag in lags])
    spread = np.where(np.isnan(spread), np.sqrt(2) * around, spread)  # that of two values that nothing connects
    if method == "drift":
        length = np.mean([len(values) for values in series])
        spread = spread * np.sqrt(1 + ahead / max(length - 1, 1))[:, None]
    return np.maximum(np.nan_to_num(spread), _SMALLEST_STD)


def _spread_at(series: Sequence[np.ndarray], lag: int) -> np.ndarray:
    """Root mean square of values ``lag`` apart; from a smaller lag by the square-root law where there are none.

    NaN of channels without two values in a row.
    """
    known = min(lag, max(max(len(values) for values in series) - 1, 1))
    while True:
        spread = _rms([values[known:] - values[:-known] for values in series])
        if known == 1 or np.isfinite(spread).all():
            return spread * np.sqrt(lag / known)
        known = max(known // 2, 1)


def _rms(errors: Sequence[np.ndarray]) -> np.ndarray:
    """Root mean square over steps and series of each channel, NaN where a channel has no value."""
    total = sum(np.nansum(np.square(e), axis=0) for e in errors)
    count = sum((~np.isnan(e)).sum(axis=0) for e in errors)
    return np.sqrt(np.where(count > 0, total, np.nan) / np.maximum(count, 1))


# ------------------------------------------------------------------------------------------------ seasons


def season_length(series: Sequence[Float[np.ndarray, "time channel"]], periods: Sequence[float]) -> int | None:
    """The whole number of steps after which the series repeats best, or None without a candidate.

    That is the lag at one of the periods, rounded either way, with the highest autocorrelation of the changes from
    step to step, so that a day wins over its own half and a slow drift does not matter.

    Args:
        series: NaN where missing.
        periods: candidates in steps, as ``svae_cli.data.seasonality.detect_periods`` gives them.
    """
    longest = max(len(values) for values in series)
    near = {lag for period in periods for lag in (int(np.floor(period)), int(np.ceil(period)))}
    lags = sorted(lag for lag in near if 2 <= lag <= longest // 2)
    changes = [_changes(values) for values in series]
    return max(lags, key=lambda lag: _autocorrelation(changes, lag)) if lags else None


def _changes(values: np.ndarray) -> np.ndarray:
    """Differences of neighbouring steps, gaps filled, standardised; channels that never change become 0."""
    change = np.diff(_linear(values, np.zeros(values.shape[1])), axis=0)
    centred = change - change.mean(axis=0) if len(change) else change
    scale = centred.std(axis=0) if len(change) else np.zeros(values.shape[1])
    return centred / np.where(scale > 0, scale, np.inf)


def _autocorrelation(changes: Sequence[np.ndarray], lag: int) -> float:
    return float(np.mean([(values[lag:] * values[:-lag]).mean() for values in changes if len(values) > lag]))
