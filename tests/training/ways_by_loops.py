"""The simple ways to go on from an origin, by loops: what the vectorised ones are compared with."""

import itertools

import numpy as np


def drift_by_loops(values: np.ndarray, period: int | None) -> float:
    """Of one channel a step, less two standard errors of what a random walk shows by chance, in squares."""
    if period is None:
        at = np.flatnonzero(~np.isnan(values))
        changes, gaps, independent = np.diff(values[at]), np.diff(at), len(at) - 1
    else:
        changes = [values[t] - values[t - period] for t in range(period, len(values))]
        changes = np.array([c for c in changes if not np.isnan(c)])
        gaps, independent = np.full(len(changes), period), len(changes) / period
    if independent < 2:
        return 0.0
    slope = changes.sum() / gaps.sum()
    error = np.mean((changes - slope * gaps) ** 2) / (independent - 1)
    return slope * max(1 - 4 * error / np.mean(changes) ** 2, 0)


def ways_by_loops(values: np.ndarray, period: int | None, steps: int) -> np.ndarray:
    """(way, step, channel) of the last value, the last season and the mean of the last three, all drifting."""
    found = np.zeros((1 if period is None else 3, steps, values.shape[1]))
    for channel, step in itertools.product(range(values.shape[1]), range(steps)):
        own = values[:, channel]
        at, slope = np.flatnonzero(~np.isnan(own)), drift_by_loops(own, period)
        found[:, step, channel] = own[at[-1]] + slope * (len(own) + step - at[-1])
        if period is not None:
            ago = [(cycle + step // period) * period for cycle in (1, 2, 3)]
            cycles = [own[t] + slope * a for a in ago if (t := len(own) + step - a) >= 0 and not np.isnan(own[t])]
            if cycles:
                found[1:, step, channel] = cycles[0], np.mean(cycles)
    return found


def smoothed_by_loops(past: np.ndarray, period: int | None, steps: int) -> np.ndarray:
    """Exponential smoothing of each channel by loops over choices, steps and phases; the drift as of the last value."""
    found = np.zeros((steps, past.shape[1]))
    for channel in range(past.shape[1]):
        own, slope, season = past[:, channel], drift_by_loops(past[:, channel], period), np.zeros(period or 1)
        if period is not None:
            half, beyond = period // 2, [[] for _ in range(period)]
            for t in range(half, len(own) - half):
                around = own[t - half : t + half + 1]  # odd seasons
                if not np.isnan(own[t]) and np.isfinite(around).sum() >= period / 2:
                    beyond[t % period].append(own[t] - np.nanmean(around))
            season = np.array([np.mean(b) if b else 0.0 for b in beyond])
            season -= season.mean()
        futures, likelihoods = [], []
        for a, (b, left), g in itertools.product(
            (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0),
            ((0, 1), (0.1, 0.9), (0.3, 0.9), (0.1, 0.98)),
            (0, 0.1, 0.3, 0.6) if period else (0,),
        ):
            level, trend, now, count, squares = 0.0, 0.0, season.copy(), 0, []
            for t, value in enumerate(own):
                level, trend, phase = level + slope + left * trend, left * trend, t % (period or 1)
                if np.isnan(value):
                    continue
                error = value - level - now[phase]
                level += max(a, 1 / (1 + count)) * error
                trend += a * b * error * (count > 0)
                if count >= (period or 1):
                    now[phase] += (1 - a) * g * error
                    squares.append(error**2)
                count += 1
            ahead = np.arange(1, steps + 1)
            climbed = np.cumsum(left**ahead) * trend
            futures.append(level + slope * ahead + climbed + now[(len(own) + ahead - 1) % (period or 1)])
            likelihoods.append(-0.5 * len(squares) * np.log(np.mean(squares)))
        weight = np.exp(np.array(likelihoods) - max(likelihoods))
        found[:, channel] = weight / weight.sum() @ np.array(futures)
    return found
