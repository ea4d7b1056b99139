"""EM for the linear-Gaussian model with gaps and inputs (Shumway and Stoffer, 1982): exact steps, no step size."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from svae_cli.data.windows import Batch, batches
from svae_cli.inference import Posterior
from svae_cli.models.dynamics import Dynamics
from svae_cli.models.likelihoods import NOISE_FLOOR
from svae_cli.models.svae import SVAE
from svae_cli.training.batched import batched

_RIDGE = 1e-4  # weight of a unit-variance pseudo-sample a state, relative to the number of samples


class Statistics(eqx.Module):
    """Expected sufficient statistics, summed over windows; z_t = (x_t, u_t, 1) and w_t = (x_t, 1).

    Attributes:
        initial: E[x_1], E[x_1 x_1'] and the number of windows.
        now_now: sum of E[x_{t+1} x_{t+1}'].
        now_then: sum of E[x_{t+1} z_t'].
        then_then: sum of E[z_t z_t'].
        transitions: number of steps summed.
        emission: per channel, sum over its observed steps of E[w w'].
        emission_value: per channel, sum of E[w] y.
        squares: per channel, sum of y^2.
        counts: per channel, number of observed steps.
    """

    initial: tuple[Float[Array, " state"], Float[Array, "state state"], Float[Array, ""]]
    now_now: Float[Array, "state state"]
    now_then: Float[Array, "state regressor"]
    then_then: Float[Array, "regressor regressor"]
    transitions: Float[Array, ""]
    emission: Float[Array, "channel w w"]
    emission_value: Float[Array, "channel w"]
    squares: Float[Array, " channel"]
    counts: Float[Array, " channel"]


def em_step(model: SVAE, windows: Batch, *, batch_size: int) -> SVAE:
    """One iteration: smooth every window under ``model``, then the parameters that maximise the expected log density.

    Args:
        model: a linear-Gaussian SVAE with exact recognition.
        windows: training windows.
        batch_size: windows smoothed at once.
    """
    total = None
    for piece in batches(windows, batch_size):
        part = _expectation(model, piece, groups=int(windows.alike and len(windows) % batch_size == 0))
        part = jax.tree.map(lambda a: np.asarray(a, np.float64), part)
        total = part if total is None else jax.tree.map(np.add, total, part)
    if total is None:
        raise ValueError("Expected at least one window; got none")
    return _maximization(model, total)


def _expectation(model: SVAE, piece: Batch, *, groups: int) -> Statistics:
    return _summed_statistics(model, piece.values, piece.observed, piece.inputs, piece.steps, groups=groups)


@eqx.filter_jit
def _summed_statistics(model, values, observed, inputs, steps, *, groups: int) -> Statistics:
    parts = batched(_statistics, model, values, observed, inputs, steps, groups=groups)
    return jax.tree.map(lambda a: jnp.sum(a, axis=0), parts)


def _statistics(model: SVAE, values: Array, observed: Array, inputs: Array, steps: Array) -> Statistics:
    """Statistics of one window; steps beyond the series' end do not count."""
    posterior = model.posterior(values, observed, inputs)
    if not isinstance(posterior, Posterior):
        raise TypeError(f"Expected exact recognition; got {type(posterior).__name__}")
    mean, dtype = posterior.means, values.dtype
    second = posterior.covariances + mean[:, :, None] * mean[:, None, :]
    cross = jnp.swapaxes(posterior.cross_covariances, 1, 2) + mean[1:, :, None] * mean[:-1, None, :]
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
    now_then = jnp.concatenate([cross, mean[1:, :, None] * known[:, None, :]], axis=2)
    ones = jnp.ones((len(mean), 1), dtype)
    with_one = jnp.concatenate([mean, ones], axis=1)
    regressor = jnp.concatenate([jnp.concatenate([second, mean[:, :, None]], axis=2), with_one[:, None, :]], axis=1)
    seen = observed.astype(dtype)
    present = (steps > 0).astype(dtype)
    return Statistics(
        initial=(present * mean[0], present * second[0], present),
        now_now=jnp.tensordot(inside, second[1:], axes=1),
        now_then=jnp.tensordot(inside, now_then, axes=1),
        then_then=jnp.tensordot(inside, then_then, axes=1),
        transitions=jnp.sum(inside),
        emission=jnp.tensordot(seen.T, regressor, axes=1),
        emission_value=(seen * values).T @ with_one,
        squares=jnp.sum(jnp.where(observed, values, 0.0) ** 2, axis=0),
        counts=jnp.sum(seen, axis=0),
    )


def _maximization(model: SVAE, s: Any) -> SVAE:
    """Closed-form updates, in float64 NumPy, with a weak prior that keeps few data from giving singular answers."""
    dtype = model.decoder.loadings.dtype
    dim = model.dynamics.latent_dim
    as_array = lambda a: jnp.asarray(a, dtype)  # noqa: E731
    ridge = _RIDGE * (1 + s.transitions) * np.eye(len(s.then_then))
    ridge[dim:, dim:] *= 1e-3
    weights = np.linalg.solve(s.then_then + ridge, s.now_then.T).T
    noise = s.now_now - weights @ s.now_then.T - s.now_then @ weights.T + weights @ s.then_then @ weights.T
    noise = _positive(noise / np.maximum(s.transitions, 1.0), _RIDGE)
    first, second, count = s.initial
    first = first / count
    emission = s.emission + _RIDGE * (1 + s.counts)[:, None, None] * np.eye(dim + 1) * np.r_[np.ones(dim), 1e-3]
    coefficients = np.linalg.solve(emission, s.emission_value[..., None])[..., 0]
    error = (
        s.squares
        - 2 * np.einsum("dw,dw->d", coefficients, s.emission_value)
        + np.einsum("dw,dwv,dv->d", coefficients, s.emission, coefficients)
    )
    variance = np.maximum((error + 2 * NOISE_FLOOR) / (s.counts + 2), NOISE_FLOOR)
    dynamics = Dynamics.from_moments(
        initial_mean=first,
        initial_cov=_positive(second / count - np.outer(first, first), 1e-3),
        transition=weights[:, :dim],
        bias=weights[:, -1],
        input_matrix=weights[:, dim:-1],
        noise_cov=noise,
        dtype=dtype,
        stable=model.dynamics.stable,
    )
    return eqx.tree_at(
        lambda m: (m.dynamics, m.decoder.loadings, m.decoder.offset, m.likelihood.log_variance),
        model,
        (dynamics, as_array(coefficients[:, :dim]), as_array(coefficients[:, dim]), as_array(np.log(variance))),
    )


def _positive(matrix: Any, floor: float) -> np.ndarray:
    """The nearest symmetric matrix whose eigenvalues are at least ``floor`` times its largest, and 1e-6."""
    values, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
    values = np.maximum(values, max(floor * values[-1] * 1e-2, 1e-6))
    return (vectors * values) @ vectors.T
