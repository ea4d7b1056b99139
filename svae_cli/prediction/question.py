"""A question to a model, and what a posterior says in answer, before and after the change to the data's units."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from svae_cli.models.fitted import FittedModel
from svae_cli.models.quantiles import predictive_quantiles
from svae_cli.models.season import Remembered
from svae_cli.models.svae import SVAE, HasMoments, gaussian_noise
from svae_cli.prediction.forecast_check import ForecastCheck
from svae_cli.prediction.gap_check import GapCheck
from svae_cli.prediction.self_check import Moments


@dataclass(frozen=True)
class Question:
    """What to compute for each series; hashable, so that it is part of what is compiled."""

    samples: int = 0
    levels: tuple[float, ...] = ()
    latents: bool = False
    filtered: bool = False
    last: int | None = None  # only so many steps at the end
    check: bool = False  # put the intervals to the test of the data themselves


@dataclass(frozen=True)
class Answer:
    """What was found for consecutive steps of one series; see ``Prediction`` for the fields."""

    mean: np.ndarray
    std: np.ndarray
    quantiles: np.ndarray | None
    samples: np.ndarray | None
    latent_mean: np.ndarray | None
    latent_cov: np.ndarray | None
    ignored: np.ndarray | None


Beside = tuple[Array, Array, Array]


class Seen(NamedTuple):
    """The observed values of a piece, and the residuals of the pieces on either side.

    Attributes:
        values: finite everywhere.
        observed: which of them count.
        before: (residuals, observed, key of their noise) of the piece before, or None.
        after: the same of the piece after.
        remembered: what other cycles say, those of other pieces included; None if this is the whole series.
        check: what the values say of the model's answers; None if they were not asked.
        end: the first step of a forecast, counted from the first of the piece; None where nothing is forecast.
    """

    values: Float[Array, "time channel"]
    observed: Bool[Array, "time channel"]
    before: Beside | None = None
    after: Beside | None = None
    remembered: Remembered | None = None
    check: GapCheck | ForecastCheck | None = None
    end: Int[Array, ""] | None = None

    @classmethod
    def nothing(cls, steps: int, channels: int, dtype: jnp.dtype) -> "Seen":
        """Steps at which nothing was observed."""
        return cls(jnp.zeros((steps, channels), dtype), jnp.zeros((steps, channels), bool))


def describe(
    model: SVAE,
    predictor: Moments,
    states: Float[Array, "sample time state"] | None,
    seen: Seen,
    ask: Question,
    key: Key[Array, ""],
    *,
    last: tuple[Array, int] | None = None,
) -> dict[str, Array]:
    """What a predictor's moments and sampled states say in answer to a question, time first, in model units.

    Args:
        model: the model.
        predictor: its posterior moments.
        states: joint paths, or None.
        seen: what was observed.
        ask: the question.
        key: for observation noise.
        last: (first step, number of steps) to answer for; None answers for all.
    """
    middle, spread = predictor
    noise_key, _ = jr.split(key)
    drawn = None
    if states is not None:
        drawn = sample_values(model, states, seen, noise_key, middle)
    (middle, spread), sure, drawn = _informed(model, _corrected(model, (middle, spread), seen), drawn, seen)
    sure = sure if seen.end is None else _without_walks(model, sure, seen.end)
    if last is not None:
        middle, spread, sure = (jax.lax.dynamic_slice_in_dim(a, *last) for a in (middle, spread, sure))
        drawn = None if drawn is None else jax.lax.dynamic_slice_in_dim(drawn, *last, axis=1)
    mean, variance = model.likelihood.predictive_moments(middle, spread)
    _, sure = model.likelihood.predictive_moments(middle, sure)
    found = {"mean": mean, "std": jnp.sqrt(variance), "sure_std": jnp.sqrt(sure)}
    if drawn is not None:
        found["samples"] = jnp.moveaxis(drawn, 0, 1)
    if ask.levels:
        levels = jnp.asarray(ask.levels, mean.dtype)
        found["quantiles"] = predictive_quantiles(model.likelihood, middle, spread, levels)
    return found


def latent_moments(posterior: HasMoments) -> dict[str, Array]:
    """Those of the states, by the names of their answers."""
    return {"latent_mean": posterior.means, "latent_cov": posterior.covariances}


def sample_values(
    model: SVAE,
    states: Float[Array, "sample time state"],
    seen: Seen,
    key: Key[Array, ""],
    middle: Float[Array, "time channel"] | None = None,
) -> Float[Array, "sample time channel"]:
    """Joint observations for joint paths of the states, in model units.

    Args:
        model: the model.
        states: the paths.
        seen: what was observed, for the residuals.
        key: for the observation noise.
        middle: posterior means of the predictor; not needed if nothing was observed.
    """
    predictor = jax.vmap(jax.vmap(model.decoder))(states)
    chains = model.residual
    if chains is None:
        return model.likelihood.sample(key, predictor)
    residuals, observed, begin = _around(seen.values if middle is None else middle, seen)
    (samples, steps, _), log_variance = predictor.shape, gaussian_noise(model)
    chain_key, white_key = jr.split(key)

    def noise(own: Array, like: Array) -> Array:
        return jr.normal(own, (like.shape[0], samples, like.shape[1]), like.dtype)

    sides = [[] if side is None else [noise(jr.split(side[2])[0], side[0])] for side in (seen.before, seen.after)]
    drawn = jnp.concatenate([*sides[0], noise(chain_key, predictor[0]), *sides[1]])
    lasting = chains.sample(drawn, residuals, observed, log_variance)[begin : begin + steps]
    white = noise(white_key, predictor[0]) * jnp.sqrt((1 - chains.share) * jnp.exp(log_variance))[None, None, :]
    return predictor + jnp.moveaxis(lasting + white, 1, 0)


def _around(middle: Array, seen: Seen) -> tuple[Array, Array, int]:
    """Residuals of a piece with those on either side, which of them were observed, and where the piece begins."""
    parts = [(jnp.where(seen.observed, seen.values - middle, 0.0), seen.observed)]
    if seen.before is not None:
        parts.insert(0, seen.before[:2])
    if seen.after is not None:
        parts.append(seen.after[:2])
    begin = 0 if seen.before is None else len(seen.before[0])
    return jnp.concatenate([r for r, _ in parts]), jnp.concatenate([o for _, o in parts]), begin


def _corrected(model: SVAE, predictor: tuple[Array, Array], seen: Seen) -> tuple[Array, Array]:
    """``SVAE.with_residual`` for a piece, with those on either side."""
    residuals, observed, begin = _around(predictor[0], seen)
    nothing = jnp.zeros_like(residuals)
    shift, certainty = model.with_residual(residuals, observed, (nothing, nothing))
    piece = slice(begin, begin + len(predictor[0]))
    return predictor[0] + shift[piece], predictor[1] + certainty[piece]


def _informed(
    model: SVAE, predictor: tuple[Array, Array], drawn: Float[Array, "sample time channel"] | None, seen: Seen
) -> tuple[tuple[Array, Array], Array, Float[Array, "sample time channel"] | None]:
    """Moments with what other cycles and the check say, the variance of which they are sure, and joint paths.

    The paths are moved and scaled to have these moments.
    """
    if model.season is None and seen.check is None:
        return predictor, predictor[1], drawn
    noise = jnp.exp(gaussian_noise(model))[None, :]
    informed = predictor
    if model.season is not None:
        remembered = model.season.remember(seen.values, seen.observed) if seen.remembered is None else seen.remembered
        informed = model.with_season(predictor, remembered)
    sure = informed[1]
    if seen.check is not None:
        mean, variance, sure = seen.check.corrected(informed[0], informed[1] + noise)
        informed, sure = (mean, variance - noise), sure - noise
    if drawn is None:
        return informed, sure, None
    scaled = jnp.sqrt((informed[1] + noise) / (predictor[1] + noise))
    return informed, sure, informed[0][None] + (drawn - predictor[0][None]) * scaled[None]


def _without_walks(model: SVAE, sure: Float[Array, "time channel"], end: Int[Array, ""]) -> Array:
    """The variance by which the mean of a bent channel is beyond its median, of a forecast that begins at ``end``.

    That of a random walk grows with every step, and the mean would drift where nothing did in the record: a drift
    beyond doubt moves the median.
    """
    ahead = jnp.maximum(jnp.arange(1, len(sure) + 1) - end.astype(int), 0).astype(sure.dtype)
    return jnp.maximum(sure - ahead[:, None] * model.wander()[None], jnp.minimum(sure, 0))


def in_data_units(
    fitted: FittedModel, found: dict[str, np.ndarray], ignored: Bool[np.ndarray, "known channel"] | None = None
) -> Answer:
    """What ``describe`` found, changed from model units to the data's own, and the known values it did without."""
    scaler = fitted.scaler
    up = {name: np.asarray(a, np.float64) for name, a in found.items() if not name.startswith("latent")}
    quantiles = up.get("quantiles")
    samples = up.get("samples")
    if quantiles is not None:
        quantiles = np.moveaxis(scaler.to_data(np.moveaxis(quantiles, -1, 0)), 0, -1)
    if samples is not None:
        samples = scaler.to_data(np.moveaxis(samples, 1, 0))
    mean = std = np.zeros((0, len(scaler.mean)))
    if "mean" in up:
        _, std = scaler.moments_to_data(up["mean"], up["std"])
        mean, _ = scaler.moments_to_data(up["mean"], up["sure_std"])
    return Answer(
        mean=mean,
        std=std,
        quantiles=quantiles,
        samples=samples,
        latent_mean=found.get("latent_mean"),
        latent_cov=found.get("latent_cov"),
        ignored=ignored,
    )
