"""Quantiles of an observation whose predictor is Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from svae_cli.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
    PoissonLikelihood,
    StudentTLikelihood,
    gauss_hermite_nodes,
)

_LOG_RATIOS = np.linspace(-12.0, 12.0, 97)  # of the predictor's variance to the squared scale of heavy-tailed noise
_GAMMA_NODES = np.linspace(-34.0, 8.0, 129)  # in units of sqrt(2 / freedom), where log gamma variates are
_GRID = np.linspace(-16.0, 16.0, 65)  # asinh of a value
_NEWTON_STEPS = 4
_MOST_COUNTS = 1 << 12  # summed one by one; what lies above takes the normal distribution of the same moments


def predictive_quantiles(
    likelihood: Likelihood,
    mean: Float[Array, "time channel"],
    variance: Float[Array, "time channel"],
    levels: Float[Array, " quantile"],
) -> Float[Array, "time channel quantile"]:
    """Quantiles of the observation, noise included.

    Closed for Gaussian noise and binary values; for counts from the distribution function, summed count by count up to
    4096, and beyond that of the normal distribution with the same moments; for heavy tails from a table.

    Args:
        likelihood: of the observation given the predictor.
        mean: of the predictor.
        variance: of the predictor.
        levels: between 0 and 1.
    """
    wide = jnp.broadcast_to(levels, (*mean.shape, len(levels)))
    if isinstance(likelihood, GaussianLikelihood):
        centre, total = likelihood.predictive_moments(mean, variance)
        return centre[..., None] + jnp.sqrt(total)[..., None] * jax.scipy.stats.norm.ppf(wide)
    if isinstance(likelihood, BernoulliLikelihood):
        probability, _ = likelihood.predictive_moments(mean, variance)
        return (wide > 1 - probability[..., None]).astype(mean.dtype)
    if isinstance(likelihood, PoissonLikelihood):
        return _count_quantiles(likelihood, mean, variance, wide)
    return _heavy_tailed_quantiles(likelihood, mean, variance, levels)


def _heavy_tailed_quantiles(likelihood: StudentTLikelihood, mean: Array, variance: Array, levels: Array) -> Array:
    """Of a Gaussian predictor plus Student-t noise: a function of the ratio of their sizes alone, read off a table."""
    scale = jnp.broadcast_to(jnp.exp(likelihood.log_variance), mean.shape)
    variance = jnp.maximum(variance, 0)
    tables = jax.lax.map(lambda freedom: _standard_quantiles(freedom, levels), likelihood.freedom)
    grid = jnp.asarray(_LOG_RATIOS, mean.dtype)
    at = jnp.clip((jnp.log(variance / scale) - grid[0]) / (grid[1] - grid[0]), 0.0, len(_LOG_RATIOS) - 1.001)
    below, share = jnp.floor(at).astype(int), (at - jnp.floor(at))[..., None]
    channel = jnp.broadcast_to(jnp.arange(mean.shape[-1]), below.shape)
    standard = (1 - share) * tables[channel, below] + share * tables[channel, below + 1]
    return mean[..., None] + jnp.sqrt(variance + scale)[..., None] * standard


def _standard_quantiles(freedom: Float[Array, ""], levels: Float[Array, " quantile"]) -> Float[Array, "ratio quantile"]:
    """Of (sqrt(r) Z + T) / sqrt(r + 1) for each ratio r, Z standard normal and T Student-t.

    T is Z over the root of a gamma variate g with mean 1, so the distribution is a mixture of Gaussians over log g; its
    density dies off at both ends, where the trapezoidal rule converges fastest. Newton's method starts from a grid.
    """
    log_gamma = jnp.asarray(_GAMMA_NODES, levels.dtype) * jnp.sqrt(2 / freedom)
    weights = jax.nn.softmax(0.5 * freedom * (log_gamma - jnp.exp(log_gamma)))
    ratios = jnp.exp(jnp.asarray(_LOG_RATIOS, levels.dtype))

    def of_ratio(ratio: Array) -> Array:
        deviation = jnp.sqrt((ratio + jnp.exp(-log_gamma)) / (ratio + 1))

        def reached(place: Array) -> Array:
            return jnp.sum(weights * jax.scipy.stats.norm.cdf(jnp.sinh(place) / deviation))

        def newton(_: int, place: Array) -> Array:
            value, slope = jax.vmap(jax.value_and_grad(reached))(place)
            step = (value - levels) / jnp.maximum(slope, jnp.finfo(levels.dtype).tiny)
            return place - jnp.clip(step, -0.1, 0.1)

        grid = jnp.asarray(_GRID, levels.dtype)
        start = jnp.interp(levels, jax.vmap(reached)(grid), grid)
        return jnp.sinh(jax.lax.fori_loop(0, _NEWTON_STEPS, newton, start))

    return jax.lax.map(of_ratio, ratios)


def _count_quantiles(likelihood: PoissonLikelihood, mean: Array, variance: Array, levels: Array) -> Array:
    """The smallest count whose distribution function reaches the level: one more for each count that does not."""
    nodes, weights = gauss_hermite_nodes(mean, variance)

    def unfinished(state):
        count, reached, _ = state
        return (count < _MOST_COUNTS) & jnp.any(reached[..., None] < levels)

    def add(state):
        count, reached, quantile = state
        counts = jnp.broadcast_to(jnp.asarray(count, nodes.dtype), nodes.shape)
        probability = jnp.exp(likelihood.log_prob(counts, nodes)) @ weights
        reached = reached + probability
        return count + 1, reached, quantile + (reached[..., None] < levels).astype(mean.dtype)

    start = (0, jnp.zeros_like(mean), jnp.zeros_like(levels))
    _, reached, quantile = jax.lax.while_loop(unfinished, add, start)
    centre, total = likelihood.predictive_moments(mean, variance)
    normal = jnp.round(centre[..., None] + jnp.sqrt(total)[..., None] * jax.scipy.stats.norm.ppf(levels))
    return jnp.where(reached[..., None] < levels, jnp.maximum(normal, quantile), quantile)
