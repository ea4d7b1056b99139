"""Self-check: the data that are asked of put the model's answers to the test; what both kinds of test have in common.

A model holds where data are as they were in training. Whether they are, the very series with the gaps, or with the
unknown future, can tell: hide known values in the same manner, predict them, and compare with the truth and with
what the simplest methods say (``prediction/gap_check.py``, ``prediction/forecast_check.py``). The simple ways get a
say as far as they would have made the answers better (Bates and Granger, "The combination of forecasts", 1969).

The noise of a model is the same at all times; that of demand, sunshine or traffic is not. Errors are therefore told
apart by the phase of the season: nights are easier to predict than days, and intervals should say so.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from svae_cli.data.series import SeriesSet
from svae_cli.models.likelihoods import GaussianLikelihood
from svae_cli.models.svae import SVAE
from svae_cli.prediction.phases import in_cycles, in_parts, parts_of
from svae_cli.prediction.recent import least_steps
from svae_cli.prediction.smoothing import LONGEST_SEASON, choices

PASSES = 8
"""Times that known values are hidden and predicted."""

LOOKS = 3
"""At the values before that, for glitches: at one half, at the other half, at those in doubt."""

CHECKED_VALUES = 4_000_000
"""More values than this are checked only if that is asked for: it takes ``PASSES + LOOKS`` times as long."""

PRIOR = 4.0
"""Passes' worth of belief that the model is right."""

_TENTHS = 10  # a share is so many tenths
_STATES = 4  # of each choice of exponential smoothing, beside those of the season
_ROUNDED = 1e-4  # of the variance
_LEAST = 1e-3  # is the mean square of the errors of exact repetition, whatever is found


def can_check(model: SVAE) -> bool:
    """Only Gaussian noise has a variance to put right."""
    return isinstance(model.likelihood, GaussianLikelihood)


def is_checked(model: SVAE, data: SeriesSet, *, asked: bool | None = None, horizon: int | None = None) -> bool:
    """Whether answers about data, or forecasts of so many steps, are checked; None as for ``prediction.impute``."""
    if not can_check(model) or asked is not None:
        return can_check(model) and bool(asked)
    least = None if horizon is None else least_steps(model, data, horizon)
    steps = sum(n if least is None else min(n, least) for n in data.lengths)
    return steps * data.n_channels <= CHECKED_VALUES


def numbers_kept(model: SVAE) -> int:
    """Numbers that a check of one series has in memory at once, beside those of an answer."""
    period = 1 if model.season is None else model.season.period
    says = (1 if model.season is None else 3) + 3 + (model.lags is not None)
    by_phase = 2 * (LOOKS + PASSES + 1) * says**2 * parts_of(period)
    smoothing = (min(period, LONGEST_SEASON) + _STATES) * choices(period)
    shares = math.comb(_TENTHS + says - 1, _TENTHS) * says
    by_channel = by_phase + smoothing + shares
    return by_channel * len(model.decoder.offset)


Moments = tuple[Float[Array, "time channel"], Float[Array, "time channel"]]
"""Means and variances."""


class Corrected(NamedTuple):
    """Answers put right.

    Attributes:
        mean: of the values.
        variance: of them, noise included.
        sure: the variance that was promised, if that is less: by this the mean of a bent channel is beyond its median.
            That errors were large, or ways part, does not say on which side.
    """

    mean: Float[Array, "time channel"]
    variance: Float[Array, "time channel"]
    sure: Float[Array, "time channel"]

    @classmethod
    def of(cls, mean: Array, variance: Array, more: Array | float, ratio: Array) -> "Corrected":
        """By what was promised, what comes on top of it, and errors relative to both.

        Where they were larger, it was the promise that was too small: what comes on top is no multiple of that.
        """
        right = jnp.where(ratio > 1, variance * ratio + more, (variance + more) * ratio)
        return cls(mean, right, jnp.minimum(variance, right))


Conclusion = TypeVar("Conclusion", covariant=True)


class Passes(Protocol[Conclusion]):
    """What a check hides, and what it makes of the answers; ``known`` says which values count."""

    @property
    def count(self) -> int:
        """Number of passes: ``PASSES``, or one more in which nothing is hidden."""
        ...

    def seen(self, known: Bool[Array, "time channel"], number: Int[Array, ""]) -> Bool[Array, "time channel"]:
        """The known values that a pass shows to the model: all of them from pass ``PASSES`` on."""
        ...

    def judged(
        self,
        known: Bool[Array, "time channel"],
        number: Int[Array, ""],
        seen: Bool[Array, "time channel"],
        moments: Moments,
    ) -> Any:
        """What a pass finds, given what the model says of all values, noise included."""
        ...

    def concluded(self, known: Bool[Array, "time channel"], found: Any) -> Conclusion:
        """What all passes say together; their findings have a first axis of ``count``, or one more."""
        ...


def predicted(
    model: SVAE,
    values: Float[Array, "time channel"],
    seen: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
) -> tuple[Moments, Moments]:
    """Posterior moments of the predictor; those of values, with what lasts of noise and what other cycles say."""
    predictor = model.predictor_moments(model.posterior(values, seen, inputs))
    return predictor, model.likelihood.predictive_moments(*model.informed(values, seen, predictor))


def checked(
    model: SVAE,
    values: Float[Array, "time channel"],
    known: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    passes: Passes[Conclusion],
) -> Conclusion:
    """One pass after the other."""

    def look(_: None, number: Array) -> tuple[None, Any]:
        seen = passes.seen(known, number)
        return None, passes.judged(known, number, seen, predicted(model, values, seen, inputs)[1])

    return passes.concluded(known, jax.lax.scan(look, None, jnp.arange(passes.count))[1])


def best_shares(
    own: Float[Array, " channel"],
    square: Float[Array, "way way channel"],
    linear: Float[Array, "way channel"],
    passes: Float[Array, "#channel"],
    centre: Float[Array, "way #channel"],
) -> Float[Array, "way channel"]:
    """The shares of the ways, in tenths that add up to 1 at most, that leave the smallest squared errors.

    ``centre`` is preferred by ``PRIOR`` passes. What going away from it costs in each is at first what the ways add,
    and with more passes no more than the errors that are left at best: of a model that is far off little stays.

    Args:
        own: mean over passes of the answers' squared errors.
        square: mean over passes of products of what the ways add to the answers.
        linear: mean over passes of products of that and the answers' errors.
        passes: how many these means are of.
        centre: the shares where there are none.
    """
    choices = jnp.asarray(_simplex(len(linear)), linear.dtype)
    loss = jnp.einsum("nv,vwc,nw->nc", choices, square, choices) - 2 * choices @ linear
    least = jnp.maximum(own + jnp.min(loss, axis=0), 0.0)
    added = jnp.einsum("wwc->wc", square)
    cost = (PRIOR * added + passes * jnp.minimum(added, least)) / (PRIOR + passes)
    penalty = PRIOR / jnp.where(passes > 0, passes, 1.0) * cost
    away = (choices[:, :, None] - centre[None]) ** 2
    best = choices[jnp.argmin(loss + jnp.sum(away * penalty[None], axis=1), axis=0)].T
    return jnp.where(passes > 0, best, centre)


def shrunk(
    mean: Float[Array, "*n"],
    passes: Float[Array, "*#n"],
    to: Float[Array, "*#n"],
    *,
    doubt: float = 1.0,
    independent: Float[Array, "*#n"] | None = None,
) -> Float[Array, "*n"]:
    """A mean of squared errors over variances, drawn to another by ``PRIOR`` passes.

    To a smaller one as the arithmetic mean of both; to a larger one as the geometric: where all errors are a hundredth
    of what was promised, the arithmetic one would leave intervals as wide as if they were half of it.

    Args:
        mean: over passes.
        passes: how many.
        to: where it is drawn.
        doubt: times as many passes draw a smaller one.
        independent: of the passes; what was calm once may have been so by chance. None for all.
    """
    wider = (PRIOR * to + passes * mean) / (PRIOR + passes)
    much, most = (n / (doubt * PRIOR + n) for n in (passes, passes if independent is None else independent))
    narrower = to * jnp.maximum(jnp.clip(mean / to, 0.0, 1.0) ** much, _LEAST**most)
    return jnp.where(mean > to, wider, jnp.maximum(narrower, jnp.minimum(to, _LEAST)))


class Errors(NamedTuple):
    """Sums over the values that a pass hid of products of errors, over variances; passes are the first axis.

    Attributes:
        own: of the answers' errors, by part of the season (without that axis: in all) and channel, as the others.
        with_ways: of these and what each simple way adds to the answers.
        of_ways: of what two ways add.
        counts: values.
    """

    own: Float[Array, "pass *part channel"]
    with_ways: Float[Array, "pass way *part channel"]
    of_ways: Float[Array, "pass way way *part channel"]
    counts: Float[Array, "pass *part channel"]

    @classmethod
    def of(
        cls,
        own: Float[Array, "time channel"],
        variance: Float[Array, "time channel"],
        beyond: Float[Array, "way time channel"],
        hidden: Bool[Array, "time channel"],
        *,
        period: int,
        first: Int[Array, ""] | int = 0,
    ) -> "Errors":
        """Of one pass, whose axis is left out.

        Args:
            own: the answers' errors.
            variance: as promised, noise included.
            beyond: what each simple way adds to the answers.
            hidden: the values that were asked for.
            period: steps of a season; 1 without.
            first: where the first step is in the season.
        """
        own, beyond = in_cycles(own, period), in_cycles(beyond, period)
        counts = in_cycles(hidden.astype(own.dtype), period)
        weight = in_cycles(jnp.where(hidden, 1.0 / variance, 0.0), period)
        sums = (
            jnp.einsum("kpc,kpc->pc", weight, own**2),
            jnp.einsum("kpc,kpc,wkpc->wpc", weight, own, beyond),
            jnp.einsum("kpc,vkpc,wkpc->vwpc", weight, beyond, beyond),
            jnp.sum(counts, axis=0),
        )
        return cls(*(in_parts(a, first, period) for a in sums))

    @classmethod
    def as_is_and_unlearned(
        cls,
        optimism: Float[Array, ""] | float,
        own: Float[Array, "time channel"],
        variance: Float[Array, "time channel"],
        added: Callable[[Array], Float[Array, "way time channel"]],
        hidden: Bool[Array, "time channel"],
        *,
        period: int,
        first: Int[Array, ""] | int = 0,
    ) -> "tuple[Errors, Errors]":
        """``of`` answers, and as if what was asked had not been learned from: as wrong, and more, independently.

        Args:
            optimism: as in ``SVAE``.
            own: as in ``of``, as the others below.
            variance: likewise.
            added: what each simple way adds to answers that are moved by so much.
            hidden: likewise.
            period: likewise.
            first: likewise.
        """
        more = jnp.sqrt(jnp.maximum(optimism - 1, 0)) * own
        beyond = added(jnp.zeros_like(own))
        as_is = cls.of(own, variance, beyond, hidden, period=period, first=first)
        rest = cls.of(more, variance, added(-more) - beyond, hidden, period=period, first=first)
        both: Errors = jax.tree.map(jnp.add, as_is, rest)
        return as_is, both._replace(counts=as_is.counts)

    def in_all(self) -> "Errors":
        """Over the whole season: without the axis of its parts."""
        return Errors(*(jnp.sum(a, axis=-2) for a in self))

    def left(self, shares: Float[Array, "way channel"]) -> Float[Array, "pass *part channel"]:
        """Squared errors once the ways have had their say."""
        linear = jnp.einsum("wc,nw...c->n...c", shares, self.with_ways)
        return self.own - 2 * linear + jnp.einsum("vc,nvw...c,wc->n...c", shares, self.of_ways, shares)


def swing(
    squares: Float[Array, "pass part channel"], weight: Float[Array, "pass part channel"], *, cap: float
) -> Float[Array, "part channel"]:
    """Mean squared errors in each part of the season relative to those in all, 1 on average.

    Those of all channels together first, shrunk to 1, then each channel's own, shrunk to these.

    Args:
        squares: mean squared errors over variances.
        weight: what each counts for; 1 is a pass.
        cap: the largest that a square may be, times the channel's median where that is above 1.
    """
    median = jnp.nanmedian(jnp.where(weight > 0, squares, jnp.nan), axis=(0, 1))
    squares = jnp.clip(squares, 0.0, cap * jnp.maximum(jnp.nan_to_num(median), 1.0))
    total, passes = jnp.sum(weight * squares, axis=0), jnp.sum(weight, axis=0)
    usual = jnp.sum(total, axis=0) / jnp.maximum(jnp.sum(passes, axis=0), 1e-6)
    asked = (usual > _ROUNDED).astype(total.dtype)  # what is filled in exactly leaves errors of rounding, if any
    relative, passes = asked * total / jnp.maximum(usual, _ROUNDED), passes * asked
    channels = jnp.maximum(jnp.sum(asked), 1.0)
    of_all = (PRIOR + jnp.sum(relative, axis=1) / channels) / (PRIOR + jnp.sum(passes, axis=1) / channels)
    own = (PRIOR * of_all[:, None] + relative) / (PRIOR + passes)
    return own / jnp.mean(own, axis=0)


@functools.lru_cache
def _simplex(ways: int) -> np.ndarray:
    """All shares in tenths that add up to 1 at most; none first, which wins where all are alike."""

    def tenths(ways: int, left: int) -> list[tuple[int, ...]]:
        return [(t, *rest) for t in range(left + 1) for rest in tenths(ways - 1, left - t)] if ways else [()]

    return np.array(tenths(ways, _TENTHS)) / _TENTHS
