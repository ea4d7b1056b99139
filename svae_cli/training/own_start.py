"""The other linear start, where shared states are lost: each channel has a level and a slope of its own.

Where all states may follow from all others, a short record teaches which channels moved together by chance, and
forecasts of what leaves the range that was learned from go wherever that leads. Here only what moves them at the same
step is shared, as in exponential smoothing by Holt's method, channel by channel, whose errors are correlated.
"""

import numpy as np
from jaxtyping import Float

from svae_cli.data.windows import Batch
from svae_cli.models.build import linear_model
from svae_cli.models.svae import SVAE
from svae_cli.training.linear_start import fill_gaps

_LASTING = 0.99  # of a level, per step
_FADING = 0.8  # of a slope
_OF_LEVEL, _OF_SLOPE, _OF_NOISE = 0.5, 0.09, 0.1  # parts of the variance of the changes from step to step
_SHRUNK = 0.7  # correlations of changes
_LEAST = 1e-3  # variance of noise, and of changes, in standardised units


def own_start(windows: Batch, *, stable: bool = False) -> SVAE:
    """A linear-Gaussian SVAE of two states a channel (``Structure.own``), to be improved by EM.

    Args:
        windows: training windows in model units.
        stable: hold the dynamics' largest singular value at 1 or below.
    """
    filled = fill_gaps(windows.values.astype(np.float64), windows.observed)
    width = filled.shape[-1]
    changes = (np.diff(filled, axis=1) if filled.shape[1] > 1 else filled).reshape(-1, width)
    variance = changes.var(axis=0) + _LEAST
    level, slope = np.sqrt(_OF_LEVEL * variance), np.sqrt(_OF_SLOPE * variance)
    nothing, unit = np.zeros((width, width)), np.eye(width)
    return linear_model(
        transition=np.block([[_LASTING * unit, np.diag(slope)], [nothing, _FADING * unit]]),
        noise_cov=np.block(
            [[np.outer(level, level) * _correlations(changes), nothing], [nothing, (1 - _FADING**2) * unit]]
        ),
        loadings=np.concatenate([unit, nothing], axis=1),
        offset=filled.mean(axis=(0, 1)),
        noise_variance=np.maximum(_OF_NOISE * variance, _LEAST),
        n_inputs=windows.inputs.shape[-1],
        stable=stable,
        dtype=windows.values.dtype,
    )


def _correlations(changes: Float[np.ndarray, "step channel"]) -> Float[np.ndarray, "channel channel"]:
    """Drawn to none."""
    away = changes - changes.mean(axis=0)
    covariance = away.T @ away / len(away)
    deviation = np.sqrt(np.diag(covariance) + _LEAST)
    found = _SHRUNK * covariance / np.outer(deviation, deviation)
    return found - np.diag(np.diag(found)) + np.eye(len(found))
