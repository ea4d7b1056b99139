"""The mean change a step of each channel over a record: what a random walk's drift is estimated by."""

import numpy as np
from jaxtyping import Float

from svae_cli.data.scaler import Scaler
from svae_cli.data.series import SeriesSet

_EDGE = 1024  # steps in which a channel is first or last known, or the series does not count for it


def mean_change(data: SeriesSet, scaler: Scaler) -> Float[np.ndarray, " channel"]:
    """From the first known value to the last, in model units; of several series over all their steps; 0 of none.

    Args:
        data: what is learned from.
        scaler: to the model's units.
    """
    moved, steps = np.zeros((2, data.n_channels))
    for i, length in enumerate(data.lengths):
        begin, end = (scaler.to_model(data.read(i, at, min(at + _EDGE, length))) for at in (0, max(0, length - _EDGE)))
        first, last = np.argmax(~np.isnan(begin), axis=0), np.argmax(~np.isnan(end[::-1]), axis=0)
        channel = np.arange(data.n_channels)
        change = end[len(end) - 1 - last, channel] - begin[first, channel]
        known = ~np.isnan(change)
        moved += np.where(known, change, 0.0)
        steps += np.where(known, length - 1 - last - first, 0)
    return moved / np.maximum(steps, 1)
