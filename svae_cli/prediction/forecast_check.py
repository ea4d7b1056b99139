"""Forecasts put to the test of the steps that are known: are they better than the simplest ones, and as sure as right?

A model that fits what it was trained on need not fit what came since, and may then be beaten by the last value, or by
the last season again. The data that are to be continued show it: forecast their last steps from those before, from up
to 8 origins, and see by how much each of the simplest continuations would have made the model's forecast better. That
much of them goes into the forecast (Bates and Granger, "The combination of forecasts", 1969), most at the steps that
the model knows least of. So it is with exponential smoothing (``prediction/smoothing.py``), and with the regression of
each channel on its own last values, if the model has one, at all steps alike; with the last value, too, so that little
need be left of a model that is lost. The last value has a third say, at the steps that the model knows best: there it
may take for noise what has come to stay. Where the errors left are larger than promised, the intervals get wider, where
they are smaller, narrower, and they swing with the season as those errors do.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from svae_cli.models.svae import SVAE
from svae_cli.prediction.continuations import Continuations
from svae_cli.prediction.disagreement import apart, apart_in_all, weights
from svae_cli.prediction.own_season import OwnSeason
from svae_cli.prediction.phases import part_at
from svae_cli.prediction.self_check import (
    PASSES,
    PRIOR,
    Corrected,
    Errors,
    Moments,
    best_shares,
    checked,
    shrunk,
    swing,
)
from svae_cli.prediction.smoothing import LONGEST_RECORD

CAP = 9.0
"""Largest ratio of a channel after one origin, of its own if not after most: a broken sensor is not a broken model."""

_NEAR = 1 / 3  # of an origin: what its first steps say, which are few
_DOUBTED = 3.0  # times as much must speak for narrower intervals as for wider ones: the past is easier than the future
_SMOOTHING, _SHORT = 0.3, LONGEST_RECORD // 2  # its share before anything is known, to so many steps; 0 from twice
_REGRESSION = 0.4  # its share before anything is known, if all its lags are: in training it beat the simple ways


class ForecastCheck(NamedTuple):
    """What the past of a series says of the forecasts of its future.

    Attributes:
        shares: of each simple way in the forecast of the steps that are known least; of the last value, of smoothing
            and of the regression in all alike; of the last value in that of the steps that are known best. The rest is
            the model's.
        weight: how likely each of them is to be right, which says how much it counts that they part.
        ratio: squared errors over the variances promised, of known steps forecast from those before; each channel's
            own, shrunk to that of all, which is shrunk to the model's optimism; below 1 no channel's is smaller than
            that of all.
        swing: of the ratio with the season, 1 on average; its parts are counted from ``start``.
        farthest: predictive variance at the end of the forecasts of known steps.
        ways: the simplest continuations of the series.
        start: the first step that is not known.
    """

    shares: Float[Array, "say channel"]
    weight: Float[Array, "say channel"]
    ratio: Float[Array, " channel"]
    swing: Float[Array, "part channel"]
    farthest: Float[Array, " channel"]
    ways: Continuations
    start: Int[Array, ""]

    def corrected(self, mean: Float[Array, "time channel"], variance: Float[Array, "time channel"]) -> Corrected:
        """Predictive moments, noise included, put right; those of steps before ``start`` mean nothing."""
        unknown, ahead = _unknown(variance, self.farthest), jnp.arange(len(mean)) - self.start
        added = self.ways.added(mean, ahead, unknown)
        parted = apart(self.weight, self.shares, added)
        moved = mean + jnp.sum(self.shares[:, None] * added, axis=0)
        return Corrected.of(moved, variance, parted, self.ratio * self.swing[part_at(ahead, self.ways.period)])


def forecast_check(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    *,
    start: Int[Array, ""],
    horizon: int,
) -> ForecastCheck:
    """Forecast the last known steps from those before, and compare with the truth and with the simplest ways to go on.

    A series of fewer than two horizons is asked for half of itself, which counts for less. Origins are a horizon apart,
    or as close as it takes to leave half of what is known before the last of them.

    Args:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        observed: which of them count; none from ``start`` on.
        inputs: known inputs.
        start: the first step that is not known.
        horizon: steps of a forecast.
    """
    return checked(model, values, observed, inputs, ForecastPasses(model, values, start, horizon))


class _Found(NamedTuple):
    """What a pass finds.

    Attributes:
        errors: of the model and the ways, as large as where they did not learn.
        of_ways: products of what two ways add, as they are.
        farthest: predictive variance at the end of its forecast.
        past: what a regression looks back on.
    """

    errors: Errors
    of_ways: Float[Array, "say say part channel"]
    farthest: Float[Array, " channel"]
    past: Float[Array, "lag channel"]


@dataclass(frozen=True)
class ForecastPasses:
    """The passes of ``forecast_check``.

    Attributes:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        start: the first step that is not known.
        horizon: steps of a forecast.
    """

    model: SVAE
    values: Float[Array, "time channel"]
    start: Int[Array, ""]
    horizon: int

    @property
    def count(self) -> int:
        """One more with a regression, the future, which comes last: its past has gaps to be filled, too."""
        return PASSES + (self.model.lags is not None)

    @property
    def _back(self) -> Int[Array, ""]:
        """Steps of a pass's forecast."""
        return jnp.minimum(self.horizon, self.start // 2)

    @property
    def _between(self) -> Int[Array, ""]:
        """Steps between origins."""
        return jnp.clip((self.start - self._back) // (2 * (PASSES - 1)), 1, jnp.maximum(self._back, 1))

    def _independent(self, origins: Int[Array, " channel"]) -> Float[Array, " channel"]:
        """How many forecasts that do not overlap say as much."""
        news = jnp.minimum(self._between / jnp.maximum(self._back, 1), 1.0).astype(self.values.dtype)
        return jnp.minimum(origins, 1) + jnp.maximum(origins - 1, 0) * news

    def _origin(self, number: Int[Array, ""]) -> Int[Array, ""]:
        return jnp.where(number >= PASSES, self.start, self.start - self._back - number * self._between)

    def _ways(
        self,
        seen: Bool[Array, "time channel"],
        origin: Int[Array, ""],
        season: OwnSeason,
        steps: int,
        regressed: Float[Array, "_ channel"],
    ) -> Continuations:
        """From an origin; smoothing for all or for none, as what it said in the passes it must say in the end."""
        short = self.start <= LONGEST_RECORD
        return Continuations.of(self.values, seen, origin, season, steps, regressed, smoothing=short)

    def seen(self, known: Bool[Array, "time channel"], number: Int[Array, ""]) -> Bool[Array, "time channel"]:
        """What was known at the origin."""
        return known & (jnp.arange(len(known)) < self._origin(number))[:, None]

    def judged(
        self,
        known: Bool[Array, "time channel"],
        number: Int[Array, ""],
        seen: Bool[Array, "time channel"],
        moments: Moments,
    ) -> _Found:
        """The errors of the steps after the origin."""
        model, values, origin = self.model, self.values, self._origin(number)
        own, span = OwnSeason.of(model.season, values, known), min(self.horizon, max(len(values) // 2, 1))
        past = _past(model, jnp.where(seen, values, moments[0]), origin, own)
        truth, asked, mean, variance = (
            jax.lax.dynamic_slice_in_dim(a, origin, span) for a in (values, known & (origin > 0), *moments)
        )
        ahead = jnp.arange(span)
        within = (ahead < self._back)[:, None]
        farthest = jnp.max(jnp.where(within, variance, 0.0), axis=0)
        unknown = _unknown(variance, jnp.where(farthest > 0, farthest, 1.0))
        regressed = _regressed(model, past, origin, span)
        ways = self._ways(seen, origin, own, span, regressed)
        as_is, errors = Errors.as_is_and_unlearned(
            model.optimism,
            truth - mean,
            variance,
            lambda moved: ways.added(mean + moved, ahead, unknown),
            asked & within,
            period=own.period or 1,
            first=origin - self.start,
        )
        if model.lags is not None:
            errors = _out_of_sample(model.lags.optimism[model.lags.fitting(origin)], errors)
        return _Found(errors, as_is.of_ways, farthest, past)

    def concluded(self, known: Bool[Array, "time channel"], found: _Found) -> ForecastCheck:
        """Shares first, then the width of the intervals of what these make of the forecasts."""
        model, start, horizon = self.model, self.start, self.horizon
        own = OwnSeason.of(model.season, self.values, known)
        asked_of: _Found = jax.tree.map(lambda a: a[:PASSES], found)
        errors = asked_of.errors
        whole = (self._back / horizon).astype(self.values.dtype)  # one step says little of a hundred
        in_all, asked = errors.in_all(), jnp.any(errors.counts > 0, axis=1)
        ways = self._ways(known, start, own, horizon, _regressed(model, found.past[-1], start, horizon))
        shares = _shares(in_all, whole, *_first_shares(model, start, ways))
        often = self._independent(jnp.sum(asked, axis=0))
        spoke = jnp.einsum("nwwpc->wc", asked_of.of_ways) > 0
        weight = weights(in_all, spoke, shares, whole * often, again=len(ways.table))
        parted = apart_in_all(weight, shares, asked_of.of_ways)
        ratio = _ratio(_relative(in_all, shares, jnp.sum(parted, axis=1)), asked, whole, often, model.optimism)
        cycles = ((PASSES - 1) * self._between + self._back) / (own.period or 1)
        swings = _swing(errors, shares, parted, horizon, jnp.minimum(cycles / PASSES, 1.0))
        farthest = jnp.sum(jnp.where(asked, asked_of.farthest, 0.0), axis=0) / jnp.maximum(jnp.sum(asked, axis=0), 1)
        return ForecastCheck(shares, weight, ratio, swings, jnp.where(farthest > 0, farthest, 1.0), ways, start)


def _past(
    model: SVAE, filled: Float[Array, "time channel"], origin: Int[Array, ""], season: OwnSeason
) -> Float[Array, "lag channel"]:
    """What the model's regression looks back on; no steps without one."""
    return filled[:0] if model.lags is None else model.lags.last(filled, origin, season.period or 1)


def _regressed(
    model: SVAE, past: Float[Array, "lag channel"], known: Int[Array, ""], steps: int
) -> Float[Array, "ahead channel"]:
    """What the model's regression says of the steps to come; no steps without one."""
    return past if model.lags is None else model.lags.continued(past, known, steps)


def _out_of_sample(optimism: Float[Array, ""], errors: Errors) -> Errors:
    """Of a pass, with those of the regression, the last say but one, as large as where it did not learn."""
    squares = errors.own - 2 * errors.with_ways[-2] + errors.of_ways[-2, -2]
    return errors._replace(of_ways=errors.of_ways.at[-2, -2].add((optimism - 1) * squares))


def _relative(
    errors: Errors, shares: Float[Array, "say channel"], parted: Float[Array, "pass *part channel"]
) -> Float[Array, "pass *part channel"]:
    """Squared errors over what was promised and how far ways were apart; where they were larger, what is left of them.

    Sums over the variances promised, as how far ways were apart. See ``Corrected.of`` for what is larger.
    """
    left, counts = errors.left(shares), jnp.maximum(errors.counts, 1)
    return jnp.where(left > counts + parted, (left - parted) / counts, left / (counts + parted))


def _swing(
    errors: Errors,
    shares: Float[Array, "say channel"],
    parted: Float[Array, "pass part channel"],
    horizon: int,
    cycles: Float[Array, ""],
) -> Float[Array, "part channel"]:
    """How errors swing with the season.

    Args:
        errors: by origin and part of the season.
        shares: as in ``ForecastCheck``.
        parted: as in ``_relative``.
        horizon: steps of a forecast; all that one has in a part of the season count as one pass.
        cycles: looked back on for each origin, 1 at most: what was wrong once is no swing.
    """
    often = max(horizon / errors.counts.shape[1], 1.0)
    weight = cycles * jnp.minimum(errors.counts / often, 1.0)
    return swing(_relative(errors, shares, parted), weight, cap=CAP)


def _ratio(
    squares: Float[Array, "origin channel"],
    asked: Bool[Array, "origin channel"],
    whole: Float[Array, ""],
    often: Float[Array, " channel"],
    optimism: Float[Array, ""] | float,
) -> Float[Array, " channel"]:
    """By how much variances grow or shrink: that of all channels first, to which each channel's own is then shrunk.

    Args:
        squares: mean squared errors over variances.
        asked: channels of which there were any, by origin.
        whole: how much of a horizon an origin's forecast was.
        often: origins as far as their forecasts do not overlap: one event must not be taken for a habit.
        optimism: by how much where there are no origins.
    """
    squares = jnp.where(asked, jnp.maximum(squares, 0.0), 0.0)
    usual = jnp.sort(squares, axis=0)[(len(squares) - 1) // 2] * jnp.minimum(often / PRIOR, 1.0)
    capped = jnp.minimum(squares, CAP)
    by_origin = jnp.sum(capped, axis=1) / jnp.maximum(jnp.sum(asked, axis=1), 1)

    def drawn(total: Array, count: Array, centre: Array, apart: Array) -> Array:
        mean = total / jnp.maximum(count, 1)
        return shrunk(mean, whole * count, centre, doubt=_DOUBTED, independent=whole * apart)

    unlearned = jnp.maximum(jnp.asarray(optimism, whole.dtype), 1.0)
    of_all = drawn(jnp.sum(by_origin), jnp.sum(jnp.any(asked, axis=1)), unlearned, jnp.max(often))
    own = drawn(jnp.sum(jnp.minimum(squares, jnp.maximum(usual, CAP)), axis=0), jnp.sum(asked, axis=0), of_all, often)
    return jnp.maximum(own, jnp.minimum(of_all, 1.0))


def _unknown(variance: Float[Array, "time channel"], farthest: Float[Array, " channel"]) -> Array:
    """How much of a say the ways have: the standard deviation relative to that at the end of a forecast."""
    return jnp.sqrt(jnp.clip(variance / farthest, 0.0, 1.0))


def _first_shares(
    model: SVAE, start: Int[Array, ""], ways: Continuations
) -> tuple[Float[Array, ""], Float[Array, ""] | None]:
    """Of smoothing and of the regression, if there is one, where nothing is known of them.

    The fewer steps are known, the less they can say against a model that was wrong; of smoothing a few are enough, if
    they are enough for the season. The regression has the less, the less of what it looks back on there is.
    """
    smoothing = _SMOOTHING * jnp.clip(2 - start / _SHORT, 0.0, 1.0) * jnp.any(ways.smooth.known)
    if model.lags is None:
        return smoothing, None
    return smoothing, (1 - smoothing) * _REGRESSION * model.lags.covered(start)


def _shares(
    errors: Errors, whole: Float[Array, ""], smoothing: Float[Array, ""], regression: Float[Array, ""] | None
) -> Float[Array, "say channel"]:
    """Those with the smallest squared errors for all channels together, then each channel's own, to which it is shrunk.

    Args:
        errors: by origin.
        whole: how much of a horizon an origin's forecast was, and so how much it counts for.
        smoothing: the share of smoothing before anything is known.
        regression: that of a regression, the last say but one; None without one.
    """
    origins = jnp.sum(errors.counts > 0, axis=0)
    each = 1.0 / jnp.maximum(errors.counts * origins, 1)
    square = jnp.einsum("oc,ovwc->vwc", each, errors.of_ways)
    linear = jnp.einsum("oc,owc->wc", each, errors.with_ways)
    own = jnp.sum(each * errors.own, axis=0)
    own_of_all, square_of_all, linear_of_all = (jnp.mean(a, axis=-1, keepdims=True) for a in (own, square, linear))
    most = jnp.max(origins, keepdims=True) * whole
    given = jnp.stack([smoothing] if regression is None else [smoothing, regression]).astype(whole.dtype)
    first = jnp.zeros_like(linear_of_all).at[-1 - len(given) : -1, 0].set(given)
    flat = 1 + len(given)
    centre = _far_then_near(own_of_all, square_of_all, linear_of_all, most, first, flat)
    return _far_then_near(own, square, linear, origins * whole, centre, flat)


def _far_then_near(
    own: Float[Array, " channel"],
    square: Float[Array, "say say channel"],
    linear: Float[Array, "say channel"],
    passes: Float[Array, "#channel"],
    centre: Float[Array, "say #channel"],
    flat: int,
) -> Float[Array, "say channel"]:
    """``best_shares`` of all but the last, and, with these, of that: the last value close by.

    Of what the ``flat`` says before it leave, which are those at all steps alike: no step is moved beyond the ways.
    """
    far = best_shares(own, square[:-1, :-1], linear[:-1], passes, centre[:-1])
    left = own - 2 * jnp.sum(far * linear[:-1], axis=0) + jnp.einsum("vc,vwc,wc->c", far, square[:-1, :-1], far)
    close = linear[-1:] - jnp.sum(far * square[-1, :-1], axis=0)
    near = best_shares(left, square[-1:, -1:], close, passes * _NEAR, centre[-1:])
    return jnp.concatenate([far, jnp.minimum(near, jnp.maximum(1 - jnp.sum(far[-flat:], axis=0), 0.0))])
