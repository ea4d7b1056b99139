"""Self-check: whether the variances promised are right in the very data that are asked of.

A model's intervals hold where data are as they were in training. When sensors drift apart, they do not, and the data
with the gaps show it: hide a channel that is known, predict it from the rest, and compare the errors with the
variances promised. Where errors are larger than promised, gaps get wider intervals, where smaller, narrower ones, each
as far as it hangs on other channels. Forecasts have a check of their own (``prediction/forecast_check.py``).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from svae_cli.data.series import SeriesSet
from svae_cli.models.likelihoods import GaussianLikelihood
from svae_cli.models.svae import SVAE

GROUPS = 8
"""Passes of a check: the channels are hidden in so many groups, one by one where there are no more."""

CHECKED_VALUES = 4_000_000
"""More values than this are checked only if that is asked for: it takes as long as answering ``GROUPS`` times."""

PRIOR = 4.0
"""Channels' worth, or origins' worth, of belief that the model is right."""

CAP = 9.0
"""Largest ratio of one channel: a broken sensor is not a broken model."""

_FEW = 8.0  # observed steps at which a channel counts half


class SelfCheck(NamedTuple):
    """What a series says of the model's variances.

    Attributes:
        ratio: squared errors over the variances promised, of hidden channels; shrunk to 1.
        alone: predictive variance of each value when its channel is hidden, noise included.
    """

    ratio: Float[Array, ""]
    alone: Float[Array, "time channel"]

    def corrected(
        self, mean: Float[Array, "time channel"], variance: Float[Array, "time channel"]
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """Predictive moments, noise included, put right: the mean as it is, the variance times up to ``ratio``.

        ``ratio`` for values that are no better known than if their channel were hidden; hardly more than 1 for those
        that their own channel's neighbours hold.
        """
        hanging = jnp.clip(variance / self.alone, 0.0, 1.0) ** 2
        return mean, variance * (1.0 + (self.ratio - 1.0) * hanging)


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
    ratios = jnp.minimum(squares / jnp.maximum(counts, 1), CAP)
    weights = counts / (counts + _FEW)
    return SelfCheck((PRIOR + weights @ ratios) / (PRIOR + jnp.sum(weights)), alone)
