"""A question to a model, and what a posterior says in answer, before and after the change to the data's units."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from svae_cli.models.fitted import FittedModel
from svae_cli.models.quantiles import predictive_quantiles
from svae_cli.models.svae import SVAE, HasMoments


@dataclass(frozen=True)
class Question:
    """What to compute for each series; hashable, so that it is part of what is compiled."""

    samples: int = 0
    levels: tuple[float, ...] = ()
    latents: bool = False
    filtered: bool = False
    last: int | None = None  # only so many steps at the end


@dataclass(frozen=True)
class Answer:
    """What was found for consecutive steps of one series; see ``Prediction`` for the fields."""

    mean: np.ndarray
    std: np.ndarray
    quantiles: np.ndarray | None
    samples: np.ndarray | None
    latent_mean: np.ndarray | None
    latent_cov: np.ndarray | None


def describe(
    model: SVAE,
    posterior: HasMoments,
    states: Float[Array, "sample time state"] | None,
    ask: Question,
    key: Key[Array, ""],
    *,
    last: tuple[Array, int] | None = None,
) -> dict[str, Array]:
    """What a posterior and sampled states say in answer to a question, time first, in model units.

    Args:
        model: the model.
        posterior: of the states.
        states: joint paths, or None.
        ask: the question.
        key: for observation noise.
        last: (first step, number of steps) to answer for; None answers for all.
    """
    found: dict[str, Array] = {}
    if ask.latents:
        found |= {"latent_mean": posterior.means, "latent_cov": posterior.covariances}
    middle, spread = model.predictor_moments(posterior)
    if last is not None:
        middle, spread = (jax.lax.dynamic_slice_in_dim(a, *last) for a in (middle, spread))
        states = None if states is None else jax.lax.dynamic_slice_in_dim(states, *last, axis=1)
    mean, variance = model.likelihood.predictive_moments(middle, spread)
    found |= {"mean": mean, "std": jnp.sqrt(variance)}
    noise_key, quantile_key = jr.split(key)
    if states is not None:
        drawn = model.likelihood.sample(noise_key, jax.vmap(jax.vmap(model.decoder))(states))
        found["samples"] = jnp.moveaxis(drawn, 0, 1)
    if ask.levels:
        levels = jnp.asarray(ask.levels, mean.dtype)
        found["quantiles"] = predictive_quantiles(model.likelihood, middle, spread, levels, quantile_key)
    return found


def in_data_units(fitted: FittedModel, found: dict[str, np.ndarray]) -> Answer:
    """What ``describe`` found, changed from model units to the data's own."""
    scaler = fitted.scaler
    up = {name: np.asarray(a, np.float64) for name, a in found.items() if not name.startswith("latent")}
    quantiles = up.get("quantiles")
    samples = up.get("samples")
    if quantiles is not None:
        quantiles = np.moveaxis(scaler.to_data(np.moveaxis(quantiles, -1, 0)), 0, -1)
    if samples is not None:
        samples = scaler.to_data(np.moveaxis(samples, 1, 0))
    empty = np.zeros((0, len(scaler.mean)))
    return Answer(
        mean=scaler.to_data(up["mean"]) if "mean" in up else empty,
        std=scaler.spread_to_data(up["std"]) if "std" in up else empty,
        quantiles=quantiles,
        samples=samples,
        latent_mean=found.get("latent_mean"),
        latent_cov=found.get("latent_cov"),
    )
