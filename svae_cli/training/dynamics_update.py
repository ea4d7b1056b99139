"""Closed-form updates of the dynamics from expected sufficient statistics of the latent states.

EM takes them all at once. ``ClosedFormDynamics`` takes those of one batch a step and forgets the older ones slowly:
stepwise EM (Cappe and Moulines, 2009), which is the stochastic natural gradient of Hoffman et al. (2013) for a point
estimate, the update that Johnson et al. (2016) train a structured VAE's prior with.
"""

from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

from svae_cli.data.windows import Batch
from svae_cli.inference import Posterior
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.posteriors import ChainPosterior
from svae_cli.models.svae import SVAE, AnyPosterior
from svae_cli.traced import kept
from svae_cli.training.batched import batched
from svae_cli.training.structure import Structure

RIDGE = 1e-4  # weight of a unit-variance pseudo-sample a state, relative to the number of samples
_PATHS = 16  # of a posterior without closed form
_FORGETTING = 0.6  # a batch's weight falls as its number to this power: above 1/2, at most 1
_DELAY = 2


class DynamicsStatistics(eqx.Module):
    """Expected sufficient statistics of the states, summed over windows; z_t = (x_t, u_t, 1).

    Attributes:
        first: sum of E[x_1].
        first_first: sum of E[x_1 x_1'].
        windows: number of windows.
        now_now: sum of E[x_{t+1} x_{t+1}'].
        now_then: sum of E[x_{t+1} z_t'].
        then_then: sum of E[z_t z_t'].
        transitions: number of steps summed.
    """

    first: Float[Array, " state"]
    first_first: Float[Array, "state state"]
    windows: Float[Array, ""]
    now_now: Float[Array, "state state"]
    now_then: Float[Array, "state regressor"]
    then_then: Float[Array, "regressor regressor"]
    transitions: Float[Array, ""]

    @classmethod
    def zero(cls, latent_dim: int, n_inputs: int) -> "DynamicsStatistics":
        """Of no windows, in float64 NumPy."""
        k, width = latent_dim, latent_dim + n_inputs + 1
        shapes = ((k,), (k, k), (), (k, k), (k, width), (width, width), ())
        arrays: list[Any] = [np.zeros(shape) for shape in shapes]
        return cls(*arrays)


class Moments(eqx.Module):
    """First and second moments of one window's states.

    Attributes:
        means: E[x_t].
        second: E[x_t x_t'].
        cross: E[x_{t+1} x_t'].
    """

    means: Float[Array, "time state"]
    second: Float[Array, "time state state"]
    cross: Float[Array, "transition state state"]


def moments(posterior: AnyPosterior) -> Moments:
    """Exact for message passing and chains; of a posterior that has only paths, those of its paths."""
    if isinstance(posterior, Posterior | ChainPosterior):
        mean = posterior.means
        if isinstance(posterior, Posterior):
            lagged = jnp.swapaxes(posterior.cross_covariances, 1, 2)
        else:
            lagged = posterior.chain.dynamics[1:] @ posterior.covariances[:-1]
        second = posterior.covariances + mean[:, :, None] * mean[:, None, :]
        return Moments(mean, second, lagged + mean[1:, :, None] * mean[:-1, None, :])
    x, n = posterior.paths, len(posterior.paths)
    pairs = lambda a, b: jnp.einsum("nti,ntj->tij", a, b) / n  # noqa: E731
    return Moments(jnp.mean(x, axis=0), pairs(x, x), pairs(x[:, 1:], x[:, :-1]))


def dynamics_statistics(
    found: Moments, inputs: Float[Array, "time input"], steps: Int[Array, ""]
) -> DynamicsStatistics:
    """Statistics of one window; steps beyond the series' end do not count.

    Args:
        found: of the window's states.
        inputs: known inputs.
        steps: how many of the window's steps are of the series.
    """
    mean, second, dtype = found.means, found.second, found.means.dtype
    inside = (jnp.arange(1, len(mean)) < steps).astype(dtype)
    known = jnp.concatenate([inputs[:-1], jnp.ones((len(mean) - 1, 1), dtype)], axis=1)
    mixed = mean[:-1, :, None] * known[:, None, :]
    then_then = jnp.concatenate(
        [
            jnp.concatenate([second[:-1], mixed], axis=2),
            jnp.concatenate([jnp.swapaxes(mixed, 1, 2), known[:, :, None] * known[:, None, :]], axis=2),
        ],
        axis=1,
    )
    now_then = jnp.concatenate([found.cross, mean[1:, :, None] * known[:, None, :]], axis=2)
    present = (steps > 0).astype(dtype)
    return DynamicsStatistics(
        first=present * mean[0],
        first_first=present * second[0],
        windows=present,
        now_now=jnp.tensordot(inside, second[1:], axes=1),
        now_then=jnp.tensordot(inside, now_then, axes=1),
        then_then=jnp.tensordot(inside, then_then, axes=1),
        transitions=jnp.sum(inside),
    )


def fitted_dynamics(s: DynamicsStatistics, like: Dynamics, structure: Structure | None = None) -> Dynamics:
    """The dynamics of largest expected log density, in float64 NumPy, under a weak prior that keeps them regular.

    Args:
        s: statistics, as float64 NumPy arrays.
        like: whose type of numbers and whose stability constraint are kept.
        structure: what is free to move; None for everything. Weights are then those given the noise of ``like``, and
            noise that given them: conditional maximization (Meng and Rubin, 1993) but for the prior on what lasts, in
            whose strength the noise does not count as moved.
    """
    dim = like.latent_dim
    ridge = RIDGE * (1 + s.transitions) * np.eye(len(s.then_then))
    ridge[dim:, dim:] *= 1e-3
    if structure is None:
        weights = np.linalg.solve(s.then_then + ridge, np.asarray(s.now_then).T).T
    else:
        times = 1.0 if structure.steps is None else float(s.transitions) / structure.steps
        weights = _structured_weights(s.then_then + ridge, np.asarray(s.now_then), like, structure, times)
    if like.stable:
        weights[:, :dim] /= max(1.0, float(np.linalg.norm(weights[:, :dim], ord=2)))
    noise = s.now_now - weights @ s.now_then.T - s.now_then @ weights.T + weights @ s.then_then @ weights.T
    if structure is not None:
        noise = np.where(structure.noise, noise, 0.0)
    first = np.asarray(s.first / s.windows)
    return Dynamics.from_moments(
        initial_mean=first,
        initial_cov=_positive(s.first_first / s.windows - np.outer(first, first), 1e-3),
        transition=weights[:, :dim],
        bias=weights[:, -1],
        input_matrix=weights[:, dim:-1],
        noise_cov=_positive(noise / np.maximum(s.transitions, 1.0), RIDGE),
        dtype=like.transition.dtype,
        stable=like.stable,
    )


def _structured_weights(
    then_then: Any, now_then: np.ndarray, like: Dynamics, structure: Structure, times: float
) -> Float[np.ndarray, "state regressor"]:
    """Generalised least squares for the free ones: rows with regressors of their own, whose noise is correlated.

    "Seemingly unrelated regressions": Zellner, Journal of the American Statistical Association, 1962.
    """
    dim = like.latent_dim
    known = np.ones((dim, len(then_then) - dim), bool)
    row, column = np.nonzero(np.concatenate([structure.transition, known], axis=1))
    noise = np.asarray(like.noise_cov.matrix, np.float64)
    inputs = (0, 0), (0, len(known[0]))
    precision, pull = np.linalg.inv(noise), np.pad(times * structure.pull(np.diag(noise)), inputs)
    normal = precision[np.ix_(row, row)] * then_then[np.ix_(column, column)] + np.diag(pull[row, column])
    weights = np.zeros_like(now_then)
    weights[row, column] = np.linalg.solve(normal, (precision @ now_then + pull)[row, column])
    return weights


def predicted_statistics(dynamics: Dynamics, s: DynamicsStatistics) -> DynamicsStatistics:
    """What ``s`` would have been, had each state followed from the one before as ``dynamics`` says.

    ``fitted_dynamics`` of these gives ``dynamics`` back, up to its weak prior: that is where stepwise EM begins.
    """
    as_double = lambda a: np.asarray(a, np.float64)  # noqa: E731
    weights = np.concatenate(
        [as_double(dynamics.matrix), as_double(dynamics.input_matrix), as_double(dynamics.bias)[:, None]], axis=1
    )
    mean = as_double(dynamics.initial_mean)
    now_then: Any = weights @ s.then_then
    return DynamicsStatistics(
        first=s.windows * mean,
        first_first=s.windows * (as_double(dynamics.initial_cov.matrix) + np.outer(mean, mean)),
        windows=s.windows,
        now_now=now_then @ weights.T + s.transitions * as_double(dynamics.noise_cov.matrix),
        now_then=now_then,
        then_then=s.then_then,
        transitions=s.transitions,
    )


class Stepping(Protocol):
    """An optimiser: ``Optimizer``, or one around it."""

    steps: int

    def start(self, model: SVAE) -> Any:
        """Its arrays before its first step."""
        ...

    def step(self, model: SVAE, arrays: Any, step: int) -> tuple[SVAE, Any, float]:
        """The next model, its arrays and the objective before the step."""
        ...


class ClosedFormDynamics:
    """An optimiser whose dynamics are refitted to the states' expected statistics, while ``inner`` moves the rest.

    Both halves of a step start from the same model: q comes from it, the gradient is taken at it.

    Args:
        inner: moves everything but the dynamics.
        drawn: the batch of a step with what is hidden of it, and its groups; the same that ``inner`` learns from.
        latent_dim: K.
        n_inputs: known inputs.
        seed: of the paths of a posterior without closed form.
    """

    def __init__(
        self,
        inner: Stepping,
        drawn: Callable[[int], tuple[Batch, np.ndarray, int]],
        *,
        latent_dim: int,
        n_inputs: int,
        seed: int,
    ):
        self.steps = inner.steps
        self._inner, self._drawn, self._seed = inner, drawn, seed
        self._zero = DynamicsStatistics.zero(latent_dim, n_inputs)

    def start(self, model: SVAE) -> Any:
        """The optimiser's arrays before its first step."""
        return {"inner": self._inner.start(model), "statistics": self._zero}

    def step(self, model: SVAE, arrays: Any, step: int) -> tuple[SVAE, Any, float]:
        """One step on the batch that belongs to it; the objective is that of the model before the step."""
        batch, hidden, groups = self._drawn(step)
        key = jr.fold_in(jr.key(self._seed), step)
        found = _summed(model, batch.values, batch.observed & ~hidden, batch.inputs, batch.steps, key, groups=groups)
        found = jax.tree.map(lambda a: np.asarray(a, np.float64), DynamicsStatistics(**found))
        moved, inner, objective = self._inner.step(model, arrays["inner"], step)
        if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, objective))):
            return model, arrays, np.nan
        begun = np.any(arrays["statistics"].windows)
        before = arrays["statistics"] if begun else predicted_statistics(model.dynamics, found)
        share = (step + _DELAY) ** -_FORGETTING
        mixed = jax.tree.map(lambda old, new: (1 - share) * old + share * new, before, found)
        moved = eqx.tree_at(lambda m: m.dynamics, moved, fitted_dynamics(mixed, moved.dynamics))
        return moved, {"inner": inner, "statistics": mixed}, objective


@kept
def _summed(model, values, observed, inputs, steps, key, *, groups: int) -> dict[str, Array]:
    def of_window(model, values, observed, inputs, steps, key):
        posterior = model.infer(values, observed, inputs, key=key, paths=_PATHS).posterior
        return dynamics_statistics(moments(posterior), inputs, steps)

    keys = jr.split(key, len(values))
    parts = batched(of_window, model, values, observed, inputs, steps, keys, groups=groups)
    return vars(jax.tree.map(lambda a: jnp.sum(a, axis=0), parts))


def _positive(matrix: Any, floor: float) -> np.ndarray:
    """The nearest symmetric matrix whose eigenvalues are at least ``floor`` times its largest, and 1e-6."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    values = np.maximum(values, max(floor * values[-1] * 1e-2, 1e-6))
    return (vectors * values) @ vectors.T
