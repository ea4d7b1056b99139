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
from jaxtyping import Complex

from svae_cli.models.dynamics import Dynamics

_LARGEST_CHANGE = 0.1  # of an entry of A; eigenvectors that are nearly alike would turn a small change into a large one


def with_unit_roots(dynamics: Dynamics, *, steps: int, window: int) -> Dynamics:
    """The same dynamics, but that levels which outlast a window and may be random walks are random walks.

    Args:
        dynamics: as estimated.
        steps: n, that they were estimated from.
        window: steps of a training window, which tells nothing of slower returns.
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
    # Without the pull there is no mean to be pulled to; what the bias would be then is drift.
    bias = ((vectors * ~chosen) @ inverse).real @ np.asarray(dynamics.bias, np.float64)
    dtype = dynamics.transition.dtype
    return replace(dynamics, transition=jnp.asarray(changed, dtype), bias=jnp.asarray(bias, dtype))


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
