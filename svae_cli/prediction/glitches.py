"""Glitches: known values that cannot be, by all that is known beside them, count as missing.

A spike of a sensor, a code, a decimal point in the wrong place: for Gaussian noise the only explanation of one is a
state far away, so one value spoils all channels for as long as states last. Every value is predicted from about half
of the others, and those that are far off are in doubt: glitches, and the honest values beside them. With all of
those hidden they are predicted once more. The honest ones come back; what still is impossible is a glitch.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from svae_cli.models.svae import SVAE

LIMIT = 12.0
"""Standard deviations away from what all else says that no value is, in units of what is usual in its channel."""

_IN_DOUBT = 4.0  # standard deviations beyond which a value is predicted again, without all others in doubt
_MOST = 0.05  # of a channel's known values, or one; where there are more, it is the model that is wrong
_FEW = 16  # known values of a channel, below which what is usual in all channels is usual in it
_MEDIAN = 0.6745  # of the size of a standard Gaussian


def without_glitches(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
) -> Bool[Array, "time channel"]:
    """The observed values but for the glitches.

    Args:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        observed: which of them count.
        inputs: known inputs.
    """
    lot = jax.random.bernoulli(jax.random.key(0), shape=observed.shape)

    def predict(away: Array, number: Array) -> tuple[Array, None]:
        hidden = observed & jnp.where(number < 2, lot == (number == 0), jnp.abs(away) > _IN_DOUBT)
        return jnp.where(hidden, _standardised(model, values, observed & ~hidden, inputs), away), None

    away = jax.lax.scan(predict, jnp.zeros_like(values), jnp.arange(3))[0]
    glitch = observed & (jnp.abs(away) > LIMIT * _usual(away, observed))
    allowed = jnp.maximum(_MOST * jnp.sum(observed, axis=0), 1)
    return observed & ~(glitch & (jnp.sum(glitch, axis=0) <= allowed)[None])


def _standardised(model: SVAE, values: Array, seen: Array, inputs: Array) -> Float[Array, "time channel"]:
    """How far each value is from what the seen ones say, in standard deviations."""
    predictor = model.predictor_moments(model.posterior(values, seen, inputs))
    mean, variance = model.likelihood.predictive_moments(*model.informed(values, seen, predictor))
    return (values - mean) / jnp.sqrt(variance)


def _usual(away: Array, observed: Array) -> Float[Array, "1 channel"]:
    """By what distances are usually too large, 1 at least: a Gaussian's median is compared with theirs."""
    sizes = jnp.where(observed, jnp.abs(away), jnp.nan)
    of_all, own = jnp.nanmedian(sizes), jnp.nanmedian(sizes, axis=0)
    enough = jnp.sum(observed, axis=0) >= _FEW
    usual = jnp.nan_to_num(jnp.where(enough, jnp.maximum(own, of_all), of_all)) / _MEDIAN
    return jnp.maximum(usual, 1.0)[None]
