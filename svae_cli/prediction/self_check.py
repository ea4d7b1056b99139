"""Self-check: the data that are asked of put the model's answers to the test; what both kinds of test have in common.

A model holds where data are as they were in training. Whether they are, the very series with the gaps, or with the
unknown future, can tell: hide known values in the same manner, predict them, and compare with the truth and with
what the simplest methods say (``prediction/gap_check.py``, ``prediction/forecast_check.py``). The simple ways get a
say as far as they would have made the answers better (Bates and Granger, "The combination of forecasts", 1969).
"""

import itertools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from svae_cli.data.series import SeriesSet
from svae_cli.models.likelihoods import GaussianLikelihood
from svae_cli.models.svae import SVAE

PASSES = 8
"""Times that known values are hidden and predicted."""

CHECKED_VALUES = 4_000_000
"""More values than this are checked only if that is asked for: it takes as long as answering ``PASSES`` + 3 times."""

PRIOR = 4.0
"""Passes' worth of belief that the model is right."""

_TENTHS = 10  # a share is so many tenths


def can_check(model: SVAE) -> bool:
    """Only Gaussian noise has a variance to put right."""
    return isinstance(model.likelihood, GaussianLikelihood)


def is_checked(model: SVAE, data: SeriesSet, *, asked: bool | None = None) -> bool:
    """Whether answers about these data are checked; None as for ``prediction.impute``."""
    few = sum(data.lengths) * data.n_channels <= CHECKED_VALUES
    return can_check(model) and (few if asked is None else asked)


def best_shares(
    square: Float[Array, "way way channel"],
    linear: Float[Array, "way channel"],
    passes: Float[Array, "#channel"],
    centre: Float[Array, "way #channel"],
) -> Float[Array, "way channel"]:
    """The shares of the ways, in tenths that add up to 1 at most, that leave the smallest squared errors.

    ``centre`` is preferred by ``PRIOR`` passes.

    Args:
        square: mean over passes of products of what the ways add to the answers.
        linear: mean over passes of products of that and the answers' errors.
        passes: how many these means are of.
        centre: the shares where there are none.
    """
    choices = jnp.asarray(_simplex(len(linear)), linear.dtype)
    penalty = PRIOR / jnp.where(passes > 0, passes, 1.0) * jnp.einsum("wwc->wc", square)
    away = (choices[:, :, None] - centre[None]) ** 2
    loss = jnp.einsum("nv,vwc,nw->nc", choices, square, choices) - 2 * choices @ linear
    best = choices[jnp.argmin(loss + jnp.sum(away * penalty[None], axis=1), axis=0)].T
    return jnp.where(passes > 0, best, centre)


def errors_left(
    own: Float[Array, "pass channel"],
    with_ways: Float[Array, "pass way channel"],
    of_ways: Float[Array, "pass way way channel"],
    shares: Float[Array, "way channel"],
) -> Float[Array, "pass channel"]:
    """Squared errors once the ways have had their say, from products of the errors and of what the ways add."""
    left = own - 2 * jnp.einsum("wc,pwc->pc", shares, with_ways)
    return left + jnp.einsum("vc,pvwc,wc->pc", shares, of_ways, shares)


def _simplex(ways: int) -> np.ndarray:
    """All shares in tenths that add up to 1 at most; none first, which wins where all are alike."""
    tenths = itertools.product(range(_TENTHS + 1), repeat=ways)
    return np.array([t for t in tenths if sum(t) <= _TENTHS]) / _TENTHS
