"""How much of a long past a forecast looks at: what the model's parts can still tell from none at all.

A filter forgets, as fast as the model says. Seasons and the regression look back a number of steps, and the check goes
back to its first origin. What was before all of these says next to nothing of the future, but to look at it takes time
and memory that grow with the record.
"""

import numpy as np
from jaxtyping import Array

from svae_cli.data.series import SeriesSet
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.likelihoods import GaussianLikelihood
from svae_cli.models.recognition import PotentialRecognition
from svae_cli.models.svae import SVAE, gaussian_noise
from svae_cli.traced import kept

_FEWEST, _MOST = 512, 1 << 14  # values after which a filter's beginning counts as forgotten
_LEFT = 1e-6  # of what the beginning said
_SETTLED = 64  # steps of a filter's covariances between two looks at whether they still change
_ORIGINS = 16  # horizons: of these the check looks at half, at most


def recent(model: SVAE, data: SeriesSet, horizon: int) -> SeriesSet:
    """The same series without what is too long ago to matter to a forecast; they are read for where they have gaps.

    As many steps are left of each, so that series of one length stay so. Of frames and counts, whose values say little
    each, and for posteriors by networks alone, all is left.

    Args:
        model: the model.
        data: series with its channels, up to the origin.
        horizon: steps of the forecast.
    """
    least = least_steps(model, data, horizon)
    if least is None or max(data.lengths, default=0) <= least:
        return data
    values = forgotten(model)
    steps = max(
        length - _beginning(data, index, values) if length > least else length
        for index, length in enumerate(data.lengths)
    )
    steps += least - values
    return data.between([max(length - steps, 0) for length in data.lengths], data.lengths)


def least_steps(model: SVAE, data: SeriesSet, horizon: int) -> int | None:
    """Steps that are left of series without gaps; None if all are."""
    by_values = isinstance(model.likelihood, GaussianLikelihood) and isinstance(model.recognition, PotentialRecognition)
    if not by_values or data.channel_shape:
        return None
    season = 0 if model.season is None else model.season.reach
    lags = 0 if model.lags is None else model.lags.lags
    return forgotten(model) + season + lags + _ORIGINS * horizon


def forgotten(model: SVAE) -> int:
    """Values of every channel after which the filter has forgotten what it began with: by its slowest mode.

    The filter's covariances settle; then a difference between two beginnings is multiplied by (I - K C) A in each step
    (Anderson and Moore, "Optimal Filtering", 1979, chapter 4). Of a decoder with a network the linear part is taken.
    """
    transition, noise = (np.asarray(a, np.float64) for a in _matrices(model.dynamics))
    loadings = np.asarray(model.decoder.loadings, np.float64)
    scaled = loadings / np.exp(np.asarray(gaussian_noise(model), np.float64))[:, None]
    information, predicted = loadings.T @ scaled, noise
    shrunk = np.eye(len(noise))
    for _ in range(_MOST // _SETTLED):
        before = predicted
        for _ in range(_SETTLED):
            shrunk = np.linalg.inv(np.eye(len(noise)) + predicted @ information)  # I - K C
            predicted = transition @ shrunk @ predicted @ transition.T + noise
        if np.allclose(predicted, before, rtol=1e-6, atol=0):
            break
    slowest = np.abs(np.linalg.eigvals(shrunk @ transition)).max()
    if not slowest < 1:
        return _MOST
    return int(np.clip(np.log(_LEFT) / np.log(max(slowest, 1e-9)), _FEWEST, _MOST))


@kept
def _matrices(dynamics: Dynamics) -> tuple[Array, Array]:
    return dynamics.matrix, dynamics.noise_cov.matrix


def _beginning(data: SeriesSet, index: int, values: int) -> int:
    """The last step from which on every channel has so many values, or all that it has."""
    begin = data.lengths[index]
    counts, begins = np.zeros(data.n_channels, int), np.full(data.n_channels, begin)
    while begin > 0 and np.any(counts < values):
        begin, end = max(begin - values, 0), begin
        observed = ~np.isnan(data.read(index, begin, end))
        later = counts + np.cumsum(observed[::-1], axis=0)[::-1]  # a value and those after it
        needed = observed & (later <= values)
        begins = np.where(np.any(needed, axis=0), begin + np.argmax(needed, axis=0), begins)
        counts = later[0]
    return int(np.min(begins))
