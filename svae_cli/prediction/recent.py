"""How much of a long past a forecast looks at: what the model's parts can still tell from none at all.

A filter forgets: after a thousand values the state that it began with is without effect. Seasons and the regression
look back a number of steps, and the check goes back to its first origin. What was before all of these says nothing of
the future, but to look at it takes time and memory that grow with the record.
"""

import numpy as np

from svae_cli.data.series import SeriesSet
from svae_cli.models.svae import SVAE

FORGOTTEN = 1024
"""Values of a channel after which a filter's beginning is forgotten."""

_ORIGINS = 16  # horizons: of these the check looks at half, at most


def recent(model: SVAE, data: SeriesSet, horizon: int) -> SeriesSet:
    """The same series without what is too long ago to matter to a forecast; they are read for where they have gaps.

    Args:
        model: the model.
        data: series with its channels, up to the origin.
        horizon: steps of the forecast.
    """
    reach = _reach(model) + _ORIGINS * horizon
    starts = [max(_beginning(data, index) - reach, 0) for index in range(len(data))]
    return data.between(starts, data.lengths) if any(starts) else data


def _reach(model: SVAE) -> int:
    """Steps that seasons and the regression look back on."""
    season = 0 if model.season is None else model.season.reach
    return season + (0 if model.lags is None else model.lags.lags)


def _beginning(data: SeriesSet, index: int) -> int:
    """The last step from which on every channel has ``FORGOTTEN`` values, or all that it has."""
    begin = data.lengths[index]
    counts, begins = np.zeros(data.n_channels, int), np.full(data.n_channels, begin)
    while begin > 0 and np.any(counts < FORGOTTEN):
        begin, end = max(begin - FORGOTTEN, 0), begin
        observed = ~np.isnan(data.read(index, begin, end))
        later = counts + np.cumsum(observed[::-1], axis=0)[::-1]  # a value and those after it
        needed = observed & (later <= FORGOTTEN)
        begins = np.where(np.any(needed, axis=0), begin + np.argmax(needed, axis=0), begins)
        counts = later[0]
    return int(np.min(begins))
