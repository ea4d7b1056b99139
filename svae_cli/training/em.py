"""EM for the linear-Gaussian model with gaps and inputs (Shumway and Stoffer, 1982): exact steps, no step size."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from svae_cli.data.windows import Batch, batches
from svae_cli.inference import Posterior
from svae_cli.models.likelihoods import noise_floor
from svae_cli.models.svae import SVAE
from svae_cli.traced import kept
from svae_cli.training.batched import batched
from svae_cli.training.dynamics_update import (
    RIDGE,
    DynamicsStatistics,
    dynamics_statistics,
    fitted_dynamics,
    moments,
)
from svae_cli.training.structure import Structure


class Statistics(eqx.Module):
    """Expected sufficient statistics, summed over windows; w_t = (x_t, 1).

    Attributes:
        dynamics: of the states among themselves.
        emission: per channel, sum over its observed steps of E[w w'].
        emission_value: per channel, sum of E[w] y.
        squares: per channel, sum of y^2.
        counts: per channel, number of observed steps.
    """

    dynamics: DynamicsStatistics
    emission: Float[Array, "channel w w"]
    emission_value: Float[Array, "channel w"]
    squares: Float[Array, " channel"]
    counts: Float[Array, " channel"]


def em_step(model: SVAE, windows: Batch, *, batch_size: int, structure: Structure | None = None) -> SVAE:
    """One iteration: smooth every window under ``model``, then the parameters that maximise the expected log density.

    Args:
        model: a linear-Gaussian SVAE with exact recognition.
        windows: training windows.
        batch_size: windows smoothed at once.
        structure: what is free to move; None for everything.
    """
    total = None
    for piece in batches(windows, batch_size):
        part = _expectation(model, piece, groups=int(windows.alike and len(windows) % batch_size == 0))
        part = jax.tree.map(lambda a: np.asarray(a, np.float64), part)
        total = part if total is None else jax.tree.map(np.add, total, part)
    if total is None:
        raise ValueError("Expected at least one window; got none")
    return _maximization(model, total, structure)


def _expectation(model: SVAE, piece: Batch, *, groups: int) -> Statistics:
    found = _summed_statistics(model, piece.values, piece.observed, piece.inputs, piece.steps, groups=groups)
    return Statistics(dynamics=DynamicsStatistics(**found.pop("dynamics")), **found)


@kept
def _summed_statistics(model, values, observed, inputs, steps, *, groups: int) -> dict[str, Any]:
    parts = batched(_statistics, model, values, observed, inputs, steps, groups=groups)
    total = jax.tree.map(lambda a: jnp.sum(a, axis=0), parts)
    return vars(total) | {"dynamics": vars(total.dynamics)}


def _statistics(model: SVAE, values: Array, observed: Array, inputs: Array, steps: Array) -> Statistics:
    """Statistics of one window; steps beyond the series' end do not count."""
    posterior = model.posterior(values, observed, inputs)
    if not isinstance(posterior, Posterior):
        raise TypeError(f"Expected exact recognition; got {type(posterior).__name__}")
    found = moments(posterior)
    mean, second, dtype = found.means, found.second, values.dtype
    ones = jnp.ones((len(mean), 1), dtype)
    with_one = jnp.concatenate([mean, ones], axis=1)
    regressor = jnp.concatenate([jnp.concatenate([second, mean[:, :, None]], axis=2), with_one[:, None, :]], axis=1)
    seen = observed.astype(dtype)
    return Statistics(
        dynamics=dynamics_statistics(found, inputs, steps),
        emission=jnp.tensordot(seen.T, regressor, axes=1),
        emission_value=(seen * values).T @ with_one,
        squares=jnp.sum(jnp.where(observed, values, 0.0) ** 2, axis=0),
        counts=jnp.sum(seen, axis=0),
    )


def _maximization(model: SVAE, s: Any, structure: Structure | None) -> SVAE:
    """Closed-form updates, in float64 NumPy, with a weak prior that keeps few data from giving singular answers."""
    dtype = model.decoder.loadings.dtype
    dim = model.dynamics.latent_dim
    as_array = lambda a: jnp.asarray(a, dtype)  # noqa: E731
    emission = s.emission + RIDGE * (1 + s.counts)[:, None, None] * np.eye(dim + 1) * np.r_[np.ones(dim), 1e-3]
    if structure is not None:  # what is held at zero neither has a say nor gets one
        free = np.pad(structure.loadings, ((0, 0), (0, 1)), constant_values=True)
        emission = np.where(free[:, :, None] & free[:, None, :], emission, np.eye(dim + 1))
        s = replace(s, emission_value=np.where(free, s.emission_value, 0.0))
    coefficients = np.linalg.solve(emission, s.emission_value[..., None])[..., 0]
    error = (
        s.squares
        - 2 * np.einsum("dw,dw->d", coefficients, s.emission_value)
        + np.einsum("dw,dwv,dv->d", coefficients, s.emission, coefficients)
    )
    floor = noise_floor(len(error))
    variance = np.maximum((error + 2 * floor) / (s.counts + 2), floor)
    return eqx.tree_at(
        lambda m: (m.dynamics, m.decoder.loadings, m.decoder.offset, m.likelihood.log_variance),
        model,
        (
            fitted_dynamics(s.dynamics, model.dynamics, structure),
            as_array(coefficients[:, :dim]),
            as_array(coefficients[:, dim]),
            as_array(np.log(variance)),
        ),
    )
