"""Unit roots: slow states whose return to a mean the data cannot tell from none become random walks.

Estimated on a finite record, a random walk always seems to return to its mean (Dickey and Fuller, 1979), and a
forecast from a level that was never seen before is pulled towards a past that is gone. With n steps and k unit roots,
the k-th largest eigenvalue of an estimated transition falls short of 1 by less than (6.5 + 7.7 k) / n in 95 of 100
records: a line, within 9 %, through simulated random walks with a constant for k = 1 to 16. For k = 1 it is Dickey and
Fuller's -14.1; the test for several is Stock and Watson's (1988) for common trends. States that follow from no other
channel's are estimated, and tested, channel by channel.
"""

from dataclasses import replace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float

from svae_cli.models.dynamics import Dynamics

_DOUBT = 4.0  # times what a random walk moves by by chance, to the square, is taken off a drift's, as in forecasts
_LARGEST_CHANGE = 0.1  # of an entry of A; eigenvectors that are nearly alike would turn a small change into a large one
_REACH = 1e-3  # of a channel's loadings along a walk, below which its values say nothing of it


def with_unit_roots(dynamics: Dynamics, *, steps: int, window: int) -> Dynamics:
    """The same dynamics, but that levels which outlast a window and may be random walks are random walks.

    Args:
        dynamics: as estimated.
        steps: n, that they were estimated from.
        window: steps of a training window, which tells nothing of slower returns.
    """
    transition, bias = _numbers(dynamics)
    if dynamics.stable or (walks := _walks(transition, steps, window)) is None:
        return dynamics
    # Without the pull there is no mean to be pulled to; what is left of the bias is no estimate of drift.
    return _replaced(dynamics, walks.transition, walks.without(bias))


def with_own_unit_roots(
    dynamics: Dynamics,
    loadings: Float[np.ndarray, "channel state"],
    change: Float[np.ndarray, " channel"],
    *,
    steps: int,
    window: int,
) -> Dynamics:
    """The same of states of their own, first all levels, then all slopes; walks drift as their channels surely do.

    Four times the square of what a walk's mean change is by chance, two standard errors, relative to the square of the
    mean change, is taken off the drift.

    Args:
        dynamics: as estimated.
        loadings: of each channel on its states.
        change: of each channel, its mean change a step.
        steps: n, that the dynamics were estimated from.
        window: steps of a training window.
    """
    transition, bias = _numbers(dynamics)
    noise, width = np.asarray(dynamics.noise_cov.matrix, np.float64), len(change)
    if dynamics.stable:
        return dynamics
    for channel in range(width):
        own = np.array([channel, width + channel])
        block = np.ix_(own, own)
        if (walks := _walks(transition[block], steps, window)) is not None:
            transition[block] = walks.transition
            drift = _drift(walks, noise[block], np.asarray(loadings)[channel, own], change[channel], steps)
            bias[own] = walks.without(bias[own]) + drift
    return _replaced(dynamics, transition, bias)


class _Walks(NamedTuple):
    """A transition whose slowest roots are 1, its eigenvectors, their inverse, and which of them do not return."""

    transition: Float[np.ndarray, "state state"]
    vectors: Complex[np.ndarray, "state state"]
    inverse: Complex[np.ndarray, "state state"]
    chosen: Bool[np.ndarray, " state"]

    def without(self, bias: Float[np.ndarray, " state"]) -> Float[np.ndarray, " state"]:
        """What does not lie along the walks."""
        return np.real((self.vectors * ~self.chosen) @ self.inverse) @ bias


def _walks(transition: Float[np.ndarray, "state state"], steps: int, window: int) -> _Walks | None:
    """None if no root may be 1, or cannot be made so without changing much."""
    if not np.isfinite(transition).all():
        return None
    roots, vectors = np.linalg.eig(transition)
    chosen = _may_be_one(roots, steps, window)
    try:
        inverse = np.linalg.inv(vectors)
    except np.linalg.LinAlgError:
        return None
    changed = ((vectors * np.where(chosen, 1.0, roots)) @ inverse).real
    if not chosen.any() or not np.abs(changed - transition).max() < _LARGEST_CHANGE:
        return None
    return _Walks(changed, vectors, inverse, chosen)


def _drift(
    walks: _Walks,
    noise: Float[np.ndarray, "state state"],
    loadings: Float[np.ndarray, " state"],
    change: float,
    steps: int,
) -> Float[np.ndarray, " state"]:
    """Of one channel's states, a step; none where two of them walk, as the slope of one is the other then."""
    if walks.chosen.sum() != 1:
        return np.zeros(len(loadings))
    along, coordinate = np.real(walks.vectors[:, walks.chosen][:, 0]), np.real(walks.inverse[walks.chosen][0])
    reach = float(loadings @ along)  # what the channel moves by where the walk does by one
    if abs(reach) <= _REACH * float(np.linalg.norm(loadings) * np.linalg.norm(along)):
        return np.zeros(len(loadings))
    chance = reach**2 * float(coordinate @ noise @ coordinate) / steps
    surely = max(0.0, 1 - _DOUBT * chance / change**2) if change else 0.0
    return surely * change / reach * along


def _numbers(dynamics: Dynamics) -> tuple[Float[np.ndarray, "state state"], Float[np.ndarray, " state"]]:
    return np.array(dynamics.transition, np.float64), np.array(dynamics.bias, np.float64)


def _replaced(
    dynamics: Dynamics, transition: Float[np.ndarray, "state state"], bias: Float[np.ndarray, " state"]
) -> Dynamics:
    dtype = dynamics.transition.dtype
    return replace(dynamics, transition=jnp.asarray(transition, dtype), bias=jnp.asarray(bias, dtype))


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
