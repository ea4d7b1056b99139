"""Objectives: what training raises, for one window; all in nats."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from svae_cli.inference import log_normalizer
from svae_cli.models.decoder import LinearDecoder
from svae_cli.models.recognition import Recognition
from svae_cli.models.svae import SVAE, gaussian_noise

_LOG_2PI = float(np.log(2 * np.pi))


def log_evidence(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
) -> Float[Array, ""]:
    """Log p(observed values) of a linear-Gaussian model with exact recognition: the bound at its tightest.

    log N(y | C x + d, R) is the potential's log plus a constant, so the evidence is log Z plus the constants
    (docs/model.md, section 3).
    """
    if not isinstance(model.recognition, Recognition):
        raise TypeError(f"Expected exact recognition; got {type(model.recognition).__name__}")
    potentials = model.potentials(values, observed)
    log_variance = gaussian_noise(model)[None, :]
    centred = jnp.where(observed, values - model.decoder.offset[None, :], 0.0)
    constants = -0.5 * (_LOG_2PI + log_variance + centred**2 * jnp.exp(-log_variance))
    return log_normalizer(model.dynamics.prior(inputs), potentials) + jnp.sum(jnp.where(observed, constants, 0.0))


def hidden_log_density(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    hidden: Bool[Array, "time channel"],
    key: Key[Array, ""],
    around: Float[Array, "longer channel"] | None = None,
    *,
    samples: int = 2,
) -> Float[Array, ""]:
    """Sum over the hidden values of their log predictive density given what is left.

    The masked objective of Zhao and Linderman (2023) scores E_q[log p(y | x)] at hidden values; this is
    log E_q[p(y | x)], which is the larger (Jensen) and does not reward a posterior that is too sure. Where other cycles
    are remembered, the mean of this without and with what they say: the states must do without them, too, as they have
    to in series of a cycle or less.

    Args:
        model: the model.
        values: one window, finite everywhere.
        observed: real observations.
        inputs: known inputs.
        hidden: what recognition must not see.
        key: for the antithetic samples that a nonlinear decoder is averaged over.
        around: what lies around the window; see ``SeasonMemory.remember``.
        samples: pairs of them.
    """
    posterior = model.posterior(values, observed & ~hidden, inputs)
    points = None
    if not isinstance(model.decoder, LinearDecoder):
        centre = posterior.means[None]
        away = posterior.sample(key, samples) - centre
        points = jnp.concatenate([centre + away, centre - away])
    seen, scored = observed & ~hidden, hidden & observed
    alone = model.with_residual(values, seen, model.predictor_moments(posterior, points))
    log_density = model.likelihood.predictive_log_prob(jnp.where(scored, values, 0.0), *alone)
    if model.season is not None:
        informed = model.with_season(alone, model.season.remember(values, seen, around))
        both = model.likelihood.predictive_log_prob(jnp.where(scored, values, 0.0), *informed)
        log_density = 0.5 * (log_density + both)
    return jnp.sum(jnp.where(scored, log_density, 0.0))
