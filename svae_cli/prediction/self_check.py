"""Self-check: whether the variances promised are right in the very data that are asked of.

A model's intervals hold where data are as they were in training. When sensors drift apart, they do not, and the data
with the gaps show it: hide a channel that is known, predict it from the rest, and compare the errors with the
variances promised. Where errors are larger than promised, gaps get wider intervals, where smaller, narrower ones, each
as far as it hangs on other channels. Forecasts are checked alike, on the last steps that are known: forecast them from
those before; only wider.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from svae_cli.data.series import SeriesSet
from svae_cli.models.likelihoods import GaussianLikelihood
from svae_cli.models.svae import SVAE

GROUPS = 8
"""Passes of a check: the channels are hidden in so many groups, one by one where there are no more."""

CHECKED_VALUES = 4_000_000
"""More values than this are checked only if that is asked for: it takes as long as answering ``GROUPS`` times."""

_PRIOR = 4.0  # channels' worth, or origins' worth, of belief that variances are right
_CAP = 9.0  # of one channel's ratio: a broken sensor is not a broken model
_FEW = 8.0  # observed steps at which a channel counts half
_ORIGINS = 8  # forecasts of known steps


class SelfCheck(NamedTuple):
    """What a series says of the model's variances.

    Attributes:
        ratio: squared errors over the variances promised, of hidden channels; shrunk to 1.
        alone: predictive variance of each value when its channel is hidden, noise included.
    """

    ratio: Float[Array, ""]
    alone: Float[Array, "time channel"]

    def factor(self, variance: Float[Array, "time channel"]) -> Float[Array, "time channel"]:
        """What a predictive variance, noise included, is to be multiplied by.

        ``ratio`` for values that are no better known than if their channel were hidden; hardly more than 1 for those
        that their own channel's neighbours hold.
        """
        hanging = jnp.clip(variance / self.alone, 0.0, 1.0) ** 2
        return 1.0 + (self.ratio - 1.0) * hanging


class ForecastCheck(NamedTuple):
    """What the past of a series says of the variances of its forecasts.

    Attributes:
        ratio: squared errors over the variances promised, of known steps forecast from those before; shrunk to 1, and
            not below it.
    """

    ratio: Float[Array, ""]

    def factor(self, variance: Float[Array, "time channel"]) -> Float[Array, "time channel"]:
        """What a predictive variance, noise included, is to be multiplied by."""
        return jnp.full_like(variance, self.ratio)


def can_check(model: SVAE, *, ahead: bool = False) -> bool:
    """Only Gaussian noise has a variance to put right; and in gaps, one channel has no others to be told from."""
    return isinstance(model.likelihood, GaussianLikelihood) and (ahead or len(model.decoder.offset) > 1)


def is_checked(model: SVAE, data: SeriesSet, *, asked: bool | None = None, ahead: bool = False) -> bool:
    """Whether gaps in these data, or forecasts, get checked intervals; None as for ``prediction.impute``."""
    few = sum(data.lengths) * data.n_channels <= CHECKED_VALUES
    return can_check(model, ahead=ahead) and (few if asked is None else asked)


def self_check(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
) -> SelfCheck:
    """Hide the channels of a series, group by group, and compare errors with variances.

    Args:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        observed: which of them count.
        inputs: known inputs.
    """
    width = values.shape[1]
    groups = min(GROUPS, width)
    group_of = jnp.arange(width) % groups

    def hide(sums: tuple[Array, Array], group: Array) -> tuple[tuple[Array, Array], None]:
        alone, squares = sums
        own = (group_of == group)[None, :]
        seen = observed & ~own
        predictor = model.predictor_moments(model.posterior(values, seen, inputs))
        mean, variance = model.likelihood.predictive_moments(*model.informed(values, seen, predictor))
        square = jnp.sum(jnp.where(observed & own, (values - mean) ** 2 / variance, 0.0), axis=0)
        return (jnp.where(own, variance, alone), squares + square), None

    start = jnp.zeros_like(values), jnp.zeros(width, values.dtype)
    alone, squares = jax.lax.scan(hide, start, jnp.arange(groups))[0]
    counts = jnp.sum(observed, axis=0).astype(values.dtype)
    ratios = jnp.minimum(squares / jnp.maximum(counts, 1), _CAP)
    weights = counts / (counts + _FEW)
    return SelfCheck((_PRIOR + weights @ ratios) / (_PRIOR + jnp.sum(weights)), alone)


def forecast_check(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    *,
    start: Int[Array, ""],
    horizon: int,
) -> ForecastCheck:
    """Forecast the last known steps from those before, from up to 8 origins, and compare errors with variances.

    Args:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        observed: which of them count; none from ``start`` on.
        inputs: known inputs.
        start: the first step that is not known.
        horizon: steps of a forecast, and from one origin to the next.
    """
    step = jnp.arange(len(values))

    def look_back(total: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], None]:
        origin = start - number * horizon
        seen = observed & (step < origin)[:, None]
        asked = observed & ((step >= origin) & (step < origin + horizon))[:, None] & (origin > 0)
        predictor = model.predictor_moments(model.posterior(values, seen, inputs))
        mean, variance = model.likelihood.predictive_moments(*model.informed(values, seen, predictor))
        counts = jnp.sum(asked, axis=0)
        squares = jnp.sum(jnp.where(asked, (values - mean) ** 2 / variance, 0.0), axis=0)
        ratios = jnp.minimum(squares / jnp.maximum(counts, 1), _CAP)
        ratio = jnp.sum(ratios) / jnp.maximum(jnp.sum(counts > 0), 1)
        return (total[0] + ratio, total[1] + jnp.any(counts > 0)), None

    nothing = jnp.zeros((), values.dtype)
    ratios, origins = jax.lax.scan(look_back, (nothing, nothing), jnp.arange(1, _ORIGINS + 1))[0]
    # Never narrower: steps that training has seen are easier to forecast than the future.
    return ForecastCheck(jnp.maximum((_PRIOR + ratios) / (_PRIOR + origins), 1.0))
