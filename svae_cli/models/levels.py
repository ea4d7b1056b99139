"""Unit roots: slow states whose return to a mean the data cannot tell from none become random walks.

Estimated on a finite record, a random walk always seems to return to its mean (Dickey and Fuller, 1979), and a
forecast from a level that was never seen before is pulled towards a past that is gone. With n steps and k unit roots,
the k-th largest eigenvalue of an estimated transition falls short of 1 by less than (6.5 + 7.7 k) / n in 95 of 100
records: a line, within 9 %, through simulated random walks with a constant for k = 1 to 16. For k = 1 it is Dickey and
Fuller's -14.1; the test for several is Stock and Watson's (1988) for common trends.
"""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Complex, Float

from svae_cli.models.dynamics import Dynamics

_ONE_SIDED = 1.645  # standard deviations: 95 % of a Gaussian are below
_LARGEST_CHANGE = 0.1  # of an entry of A; eigenvectors that are nearly alike would turn a small change into a large one


def with_unit_roots(dynamics: Dynamics, *, steps: int, window: int, drifts: bool = False) -> Dynamics:
    """The same dynamics, but that levels which outlast a window and may be random walks are random walks.

    Args:
        dynamics: as estimated.
        steps: n, that they were estimated from.
        window: steps of a training window, which tells nothing of slower returns.
        drifts: random walks that climb beyond doubt go on climbing.
    """
    transition = np.asarray(dynamics.transition, np.float64)
    if dynamics.stable or not np.isfinite(transition).all():
        return dynamics
    roots, vectors = np.linalg.eig(transition)
    chosen = _may_be_one(roots, steps, window)
    try:
        inverse = np.linalg.inv(vectors)
    except np.linalg.LinAlgError:
        return dynamics
    changed = ((vectors * np.where(chosen, 1.0, roots)) @ inverse).real
    if not chosen.any() or not np.abs(changed - transition).max() < _LARGEST_CHANGE:
        return dynamics
    # Without the pull there is no mean to be pulled to; what is left of the bias is no estimate of drift.
    bias = ((vectors * ~chosen) @ inverse).real @ np.asarray(dynamics.bias, np.float64)
    if drifts:
        bias += _drift(dynamics, vectors[:, chosen], inverse[chosen], steps, window)
    dtype = dynamics.transition.dtype
    return replace(dynamics, transition=jnp.asarray(changed, dtype), bias=jnp.asarray(bias, dtype))


def _drift(
    dynamics: Dynamics,
    vectors: Complex[np.ndarray, "state root"],
    inverse: Complex[np.ndarray, "root state"],
    steps: int,
    window: int,
) -> Float[np.ndarray, " state"]:
    """Mean change a step of random walks, as the dynamics expect it within a window; none if it may be chance.

    The squared mean of so many changes of k walks, relative to its variance, has a chi-squared distribution. If they do
    not drift, it is beyond Wilson and Hilferty's (1931) quantile in 5 of 100 records.
    """
    begin = mean = np.asarray(dynamics.initial_mean, np.float64)
    for _ in range(window - 1):
        mean = np.asarray(dynamics.matrix, np.float64) @ mean + np.asarray(dynamics.bias, np.float64)
    change = np.real(vectors @ inverse) @ (mean - begin) / max(window - 1, 1)
    k = len(inverse)
    along = np.linalg.svd(np.concatenate([np.real(vectors), np.imag(vectors)], axis=1))[0][:, :k]
    walks = np.real(along.T @ vectors @ inverse)  # from the states to coordinates along the walks
    drift, noise = along.T @ change, walks @ np.asarray(dynamics.noise_cov.matrix, np.float64) @ walks.T / steps
    by_chance = k * (1 - 2 / (9 * k) + _ONE_SIDED * np.sqrt(2 / (9 * k))) ** 3
    return change if drift @ np.linalg.solve(noise, drift) > by_chance else np.zeros_like(change)


def count_unit_roots(dynamics: Dynamics) -> int:
    """How many states, in some basis, are random walks."""
    gap = np.abs(1 - np.linalg.eigvals(np.asarray(dynamics.matrix, np.float64)))
    return int(np.sum(gap < 20 * np.finfo(dynamics.transition.dtype).eps * len(gap)))


def _may_be_one(roots: Complex[np.ndarray, " state"], steps: int, window: int) -> np.ndarray:
    """The largest set of slowest roots that passes the test for as many unit roots."""
    gap = np.abs(1 - roots)
    order = np.argsort(gap, kind="stable")
    count = np.arange(1, len(roots) + 1)
    passed = gap[order] * steps < 6.5 + 7.7 * count
    # A conjugate pair has one gap and stays together: the later of the two has the looser bound.
    most = int(count[passed].max(initial=0))
    chosen = np.zeros(len(roots), bool)
    chosen[order[:most]] = True
    return chosen & (gap * window < 2)
