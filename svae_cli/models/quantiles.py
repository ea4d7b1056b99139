"""Quantiles of an observation whose predictor is Gaussian."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from svae_cli.models.likelihoods import (
    BernoulliLikelihood,
    GaussianLikelihood,
    Likelihood,
    PoissonLikelihood,
    gauss_hermite_nodes,
)

_DRAWS = 1000
_MOST_COUNTS = 1 << 12  # summed one by one; what lies above takes the normal distribution of the same moments


def predictive_quantiles(
    likelihood: Likelihood,
    mean: Float[Array, "time channel"],
    variance: Float[Array, "time channel"],
    levels: Float[Array, " quantile"],
    key: Key[Array, ""],
) -> Float[Array, "time channel quantile"]:
    """Quantiles of the observation, noise included.

    Closed for Gaussian noise and binary values; for counts from the distribution function, summed count by count up to
    4096, and beyond that of the normal distribution with the same moments; for heavy tails the empirical quantiles of
    1000 draws.

    Args:
        likelihood: of the observation given the predictor.
        mean: of the predictor.
        variance: of the predictor.
        levels: between 0 and 1.
        key: for the draws.
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
    state_key, noise_key = jr.split(key)
    noise = jr.normal(state_key, (_DRAWS, *mean.shape), mean.dtype)
    drawn = likelihood.sample(noise_key, mean[None] + jnp.sqrt(jnp.maximum(variance, 0))[None] * noise)
    return jnp.moveaxis(jnp.quantile(drawn, levels, axis=0), 0, -1)


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
