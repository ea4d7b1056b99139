"""Rank: how many directions across channels carry something that lasts from one step to the next."""

import numpy as np

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet

_LONGEST = 4096  # steps of a series that are looked at
_SERIES = 64
_EDGES = 2.0  # times the largest eigenvalue that white noise gives by chance


def signal_rank(data: SeriesSet, scaler: Scaler) -> int:
    """Number of eigenvalues of the lag-1 autocovariance, made symmetric, that stand out of white noise.

    Counting noise is white, so what is left at lag 1 is signal. For N pairs of steps of D white channels of unit
    variance the largest eigenvalue is about sqrt(2 D / N).

    Args:
        data: the series; pairs of steps with a gap are left out, channel by channel.
        scaler: change of units.
    """
    total = np.zeros((data.n_channels, data.n_channels))
    pairs = np.zeros_like(total)
    for i in np.unique(np.linspace(0, len(data) - 1, min(_SERIES, len(data))).astype(int)):
        values = scaler.to_model(data.read(int(i), 0, min(data.lengths[i], _LONGEST)).astype(np.float64))
        seen = (~np.isnan(values)).astype(np.float64)
        filled = np.nan_to_num(values)
        total += filled[1:].T @ filled[:-1]
        pairs += seen[1:].T @ seen[:-1]
    lagged = total / np.maximum(pairs, 1)
    edge = np.sqrt(2 * data.n_channels / max(float(np.median(pairs)), 1.0))
    return int(np.sum(np.linalg.eigvalsh((lagged + lagged.T) / 2) > _EDGES * edge))
