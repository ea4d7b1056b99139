"""Links: a linear-Gaussian model of standardised values, carried over to the log rates of counts and to log odds.

Channel by channel the predictor's variance is chosen such that the signal keeps the variance that the linear model
found for it, and the offset such that the mean is kept.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from svae_cli.models.dynamics import Dynamics

_LEAST_MEAN = 1e-3  # counts a bin, and share of ones, to start from
_MOST_LOGIT_SPREAD = 9.0
_LEAST_SPREAD = 1e-4  # variance of a predictor that hardly varies
_SETTLED = 256  # steps over which the prior's variance is averaged
_NODES, _RAW_WEIGHTS = np.polynomial.hermite_e.hermegauss(32)
_WEIGHTS = _RAW_WEIGHTS / _RAW_WEIGHTS.sum()


@dataclass(frozen=True)
class Link:
    """What takes the place of a linear decoder's loadings C and offset d.

    Attributes:
        slope: factor of each row of C.
        offset: in place of d.
        spread: variance of each channel's predictor under the prior.
    """

    slope: Float[np.ndarray, " channel"]
    offset: Float[np.ndarray, " channel"]
    spread: Float[np.ndarray, " channel"]


def log_link(
    dynamics: Dynamics, loadings: Float[np.ndarray, "channel state"], mean: np.ndarray, std: np.ndarray
) -> Link:
    """Log rates: a lognormal rate of mean mu and variance s^2 has log variance log(1 + s^2 / mu^2).

    Args:
        dynamics: the prior, shared by both models.
        loadings: C of the linear model of standardised values.
        mean: of each channel, in counts.
        std: of each channel, in counts.
    """
    linear = signal_variance(dynamics, loadings)
    rate = np.maximum(mean, _LEAST_MEAN)
    spread = np.maximum(np.log1p(np.minimum(linear, 1.0) * std**2 / rate**2), _LEAST_SPREAD)
    return Link(slope=np.sqrt(spread / linear), offset=np.log(rate) - spread / 2, spread=spread)


def logit_link(
    dynamics: Dynamics, loadings: Float[np.ndarray, "channel state"], mean: np.ndarray, std: np.ndarray
) -> Link:
    """Log odds: those whose probability has the mean and, up to a limit, the variance that the linear model found.

    Args:
        dynamics: the prior, shared by both models.
        loadings: C of the linear model of standardised values.
        mean: of each channel, its share of ones.
        std: of each channel.
    """
    linear = signal_variance(dynamics, loadings)
    share = np.clip(mean, _LEAST_MEAN, 1 - _LEAST_MEAN)
    signal = linear * std**2
    low, high = np.full_like(share, np.log(_LEAST_SPREAD)), np.full_like(share, np.log(_MOST_LOGIT_SPREAD))
    for _ in range(20):  # bisection: the variance of the probability grows with that of the log odds
        middle = (low + high) / 2
        _, variance = _logit_normal(_odds_of_mean(share, np.exp(middle)), np.exp(middle))
        low, high = np.where(variance < signal, middle, low), np.where(variance < signal, high, middle)
    spread = np.exp(low)
    return Link(slope=np.sqrt(spread / linear), offset=_odds_of_mean(share, spread), spread=spread)


def _odds_of_mean(share: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """The mean log odds for which E[probability] = ``share``: MacKay's approximation (1992) and Newton's method."""
    odds = np.log(share / (1 - share)) * np.sqrt(1 + np.pi * spread / 8)
    for _ in range(6):
        found, variance = _logit_normal(odds, spread)
        odds = odds + np.clip((share - found) / (found * (1 - found) - variance), -1.0, 1.0)
    return odds


def _logit_normal(odds: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the probability whose log odds are N(odds, spread)."""
    p = 1 / (1 + np.exp(-(odds[:, None] + np.sqrt(spread)[:, None] * _NODES)))
    mean = p @ _WEIGHTS
    return mean, p**2 @ _WEIGHTS - mean**2


def signal_variance(dynamics: Dynamics, loadings: Float[np.ndarray, "channel state"]) -> np.ndarray:
    """Variance of each channel's C x under the prior, averaged over its first steps; above zero."""
    transition, noise = np.asarray(dynamics.matrix, np.float64), np.asarray(dynamics.noise_cov.matrix, np.float64)
    cov = np.asarray(dynamics.initial_cov.matrix, np.float64)
    total = np.zeros_like(cov)
    for _ in range(_SETTLED):
        total += cov
        cov = transition @ cov @ transition.T + noise
    rows = np.asarray(loadings, np.float64)
    return np.maximum(np.einsum("di,ij,dj->d", rows, total / _SETTLED, rows), 1e-12)
