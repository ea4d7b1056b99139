"""A glimpse of the data: how much of them is there, and what kind of numbers they are."""

from collections.abc import Iterator

import numpy as np

from svae_cli.config import LikelihoodKind
from svae_cli.data.series import SeriesSet

_COUNT_MEAN = 20.0  # whole numbers with a larger mean are as good as continuous
_SERIES, _STRETCHES, _STEPS = 64, 16, 64  # looked at, at most


def observed_share(data: SeriesSet) -> float:
    """Of the values looked at, those that are not missing."""
    return float(np.mean(~np.isnan(_glimpse(data))))


def guess_likelihood(data: SeriesSet) -> tuple[LikelihoodKind, str]:
    """What kind of numbers they are, and why."""
    seen = _glimpse(data)
    seen = seen[~np.isnan(seen)]
    if seen.size == 0 or (seen < 0).any() or (seen != np.round(seen)).any():
        return "gaussian", "the values are continuous"
    if seen.max() <= 1:
        return "bernoulli", "every value is 0 or 1"
    if seen.mean() < _COUNT_MEAN:
        return "poisson", f"whole numbers with a mean of {seen.mean():.2g}"
    return "gaussian", f"whole numbers, but with a mean of {seen.mean():.3g}"


def _glimpse(data: SeriesSet) -> np.ndarray:
    """All values of 16 stretches of 64 steps, spread over each of up to 64 series, spread over the set.

    The beginning alone may be a dry month, and its zeros no events.
    """
    chosen = np.unique(np.linspace(0, len(data) - 1, min(_SERIES, len(data))).astype(int))
    return np.concatenate([values.ravel() for i in chosen for values in _stretches(data, int(i))])


def _stretches(data: SeriesSet, series: int) -> Iterator[np.ndarray]:
    length = data.lengths[series]
    if length <= _STRETCHES * _STEPS:
        yield data.read(series, 0, length)
        return
    for begin in np.linspace(0, length - _STEPS, _STRETCHES).astype(int):
        yield data.read(series, int(begin), int(begin) + _STEPS)
