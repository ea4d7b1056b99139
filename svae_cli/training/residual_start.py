"""The residual chains to start from: the best of a grid, channel by channel, at predicting hidden values."""

from itertools import product

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from svae_cli.data.gaps import hide
from svae_cli.data.windows import Batch
from svae_cli.models.residual import ResidualChains
from svae_cli.models.svae import SVAE
from svae_cli.traced import kept

_PERSISTENCE = (0.5, 0.8, 0.93, 0.98, 0.995)
_SHARE = (0.02, 0.3, 0.7, 0.9, 0.98)  # the first is as good as none
_WINDOWS = 32


def residual_start(linear: SVAE, windows: Batch, *, seed: int) -> ResidualChains:
    """Persistence and share of each channel's residuals under a linear-Gaussian model.

    A channel counts with what it says itself and with the average of all, so that few data do not decide by chance.

    Args:
        linear: the linear-Gaussian model, in standardised units.
        windows: training windows in the same units.
        seed: of what is hidden of them.
    """
    some = slice(0, _WINDOWS)
    values, observed, inputs = windows.values[some], windows.observed[some], windows.inputs[some]
    hidden = hide(observed, "mixed", 0.3, np.random.default_rng([seed, 0x4E51D]))
    grid = np.array(list(product(_PERSISTENCE, _SHARE)))
    arrays = map(jnp.asarray, (values, observed, inputs, hidden, grid))
    scores = np.asarray(_scores(linear, *arrays), np.float64)
    best = grid[np.argmax(scores + scores.mean(axis=1, keepdims=True), axis=0)]
    dtype = linear.decoder.loadings.dtype
    return ResidualChains.of(jnp.asarray(best[:, 0], dtype), jnp.asarray(best[:, 1], dtype))


@kept
def _scores(linear: SVAE, values: Array, observed: Array, inputs: Array, hidden: Array, grid: Array) -> Array:
    """Log predictive density of the hidden values, summed, (grid, channel)."""

    def seen(v: Array, o: Array, u: Array, h: Array) -> tuple[Array, Array]:
        return linear.predictor_moments(linear.posterior(v, o & ~h, u))

    centre = jax.vmap(seen)(values, observed, inputs, hidden)

    def one(choice: Array) -> Array:
        every = jnp.ones(values.shape[-1], values.dtype)
        chains = ResidualChains.of(choice[0].astype(values.dtype) * every, choice[1].astype(values.dtype) * every)
        model = eqx.tree_at(lambda m: m.residual, linear, chains, is_leaf=lambda leaf: leaf is None)

        def window(v: Array, o: Array, h: Array, predictor: tuple[Array, Array]) -> Array:
            mean, variance = model.with_residual(v, o & ~h, predictor)
            density: Array = model.likelihood.predictive_log_prob(jnp.where(o, v, 0.0), mean, variance)
            return jnp.where(h & o, density, 0.0)

        return jnp.sum(jnp.asarray(jax.vmap(window)(values, observed, hidden, centre)), axis=(0, 1))

    return jnp.asarray(jax.lax.map(one, grid))
