"""Gaps put to the test of the values that are known: are the answers better than a straight line, and as sure as right?

Hide known values in gaps like those that are there, at other times and in other channels, and fill them. By how much a
straight line over each gap, or the line through the same phase of other cycles, would have made the answers better,
so much of them goes into the answers; where errors are larger or smaller than promised, the intervals follow, with the
season as those errors do.
"""

from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from svae_cli.models.svae import SVAE
from svae_cli.prediction.own_season import OwnSeason
from svae_cli.prediction.phases import part_at
from svae_cli.prediction.self_check import PASSES, Corrected, Errors, Moments, best_shares, checked, shrunk, swing

CAP = 25.0
"""Largest squared error over variance of a channel, mean over a pass: a broken sensor is not a broken model."""

_FEW = 8.0  # hidden values at which a pass counts half
_COPIES = 8  # of the gaps hidden in a pass, at most
_COPIED = 0.2  # so many copies that about this share is hidden
_MOST_HIDDEN = 0.5  # of the values that are known, in a pass
_GOLDEN = 0.6180339887  # its multiples spread evenly, wherever one stops
_SILVER = 0.7548776662  # the same, unlike the other


class GapCheck(NamedTuple):
    """What the known values of a series say of the answers in its gaps.

    Attributes:
        shares: of each simple way in the answers; the rest is the model's.
        ratio: squared errors over the variances promised; each channel's own, shrunk to that of all, shrunk to 1.
        swing: of the ratio with the season, 1 on average.
        ways: what the simple ways say; nothing (NaN) where a value was observed.
    """

    shares: Float[Array, "way channel"]
    ratio: Float[Array, " channel"]
    swing: Float[Array, "time channel"]
    ways: Float[Array, "way time channel"]

    def corrected(self, mean: Float[Array, "time channel"], variance: Float[Array, "time channel"]) -> Corrected:
        """Predictive moments, noise included, put right."""
        moved = mean + jnp.sum(self.shares[:, None] * _beyond(self.ways, mean), axis=0)
        return Corrected.of(moved, variance, 0.0, self.ratio * self.swing)


def gap_check(
    model: SVAE,
    values: Float[Array, "time channel"],
    observed: Bool[Array, "time channel"],
    inputs: Float[Array, "time input"],
    *,
    steps: Int[Array, ""],
) -> GapCheck:
    """Hide known values of a series in gaps like its own, fill them, and compare.

    Args:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        observed: which of them count.
        inputs: known inputs.
        steps: of the series; what comes after is padding.
    """
    return checked(model, values, observed, inputs, GapPasses(model, values, steps))


@dataclass(frozen=True)
class GapPasses:
    """The passes of ``gap_check``.

    Attributes:
        model: with Gaussian noise.
        values: in model units, finite everywhere.
        steps: of the series; what comes after is padding.
    """

    model: SVAE
    values: Float[Array, "time channel"]
    steps: Int[Array, ""]
    count: int = PASSES

    def seen(self, known: Bool[Array, "time channel"], number: Int[Array, ""]) -> Bool[Array, "time channel"]:
        """All but gaps like those that are there."""
        return known & ~(like_gaps(known, self.steps, number) & (number < PASSES))

    def judged(
        self,
        known: Bool[Array, "time channel"],
        number: Int[Array, ""],
        seen: Bool[Array, "time channel"],
        moments: Moments,
    ) -> Errors:
        """The errors of what a pass hid."""
        del number
        own, (mean, variance) = OwnSeason.of(self.model.season, self.values, known), moments
        ways = simple_ways(self.values, seen, own)
        _, errors = Errors.as_is_and_unlearned(
            self.model.optimism,
            self.values - mean,
            variance,
            lambda moved: _beyond(ways, mean + moved),
            known & ~seen,
            period=own.period or 1,
        )
        return errors

    def concluded(self, known: Bool[Array, "time channel"], found: Errors) -> GapCheck:
        """Shares first, then the width of the intervals of what these make of the answers."""
        own, found = OwnSeason.of(self.model.season, self.values, known), jax.tree.map(lambda a: a[:PASSES], found)
        shares = _shares(found.in_all())
        left = found.left(shares)
        ratio = _ratio(jnp.sum(left, axis=1), jnp.sum(found.counts, axis=1))
        means, weight = left / jnp.maximum(found.counts, 1), _weight(found.counts)
        swings = swing(means, weight, cap=CAP)[part_at(jnp.arange(len(self.values)), own.period or 1)]
        ways = jnp.where(known[None], jnp.nan, simple_ways(self.values, known, own))
        return GapCheck(shares, ratio, swings, ways)


def like_gaps(
    observed: Bool[Array, "time channel"], steps: Int[Array, ""], number: Int[Array, ""]
) -> Bool[Array, "time channel"]:
    """Known values to be hidden: the gaps of a series moved to other times and, after the first pass, other channels.

    Small gaps are copied several times; where copies would hide more than half of what is known, some values stay.

    Args:
        observed: the values that are known.
        steps: of the series; what comes after is padding.
        number: of the pass, from 0.
    """
    length, width = observed.shape
    step, channel = jnp.arange(length), jnp.arange(width)
    missing = ~observed & (step < steps)[:, None]
    known = jnp.sum(observed)
    copies = jnp.clip(_COPIED * known / jnp.maximum(jnp.sum(missing), 1), 1, _COPIES).astype(jnp.int32)

    def copy(which: int) -> Array:
        at = number * _COPIES + which
        later = (jnp.mod((at + 1) * _GOLDEN, 1.0) * steps).astype(jnp.int32)
        beside = (jnp.mod(number * _SILVER, 1.0) * width).astype(jnp.int32)
        moved = missing[jnp.mod(step - later, jnp.maximum(steps, 1))][:, jnp.mod(channel - beside, width)]
        return moved & (which < copies)

    hidden = observed & reduce(jnp.logical_or, map(copy, range(_COPIES)))
    share = _MOST_HIDDEN * known / jnp.maximum(jnp.sum(hidden), 1)
    lot = jax.random.uniform(jax.random.fold_in(jax.random.key(0), number), hidden.shape)
    return hidden & (lot < share)


def simple_ways(
    values: Float[Array, "time channel"], observed: Bool[Array, "time channel"], season: OwnSeason
) -> Float[Array, "way time channel"]:
    """A straight line over each gap, and the line through the same phase of other cycles; NaN where unknown.

    Beyond the outermost values a line is level. Without a season the straight line is the only way.

    Args:
        values: finite everywhere.
        observed: which of them count.
        season: of each channel.
    """
    line = straight_line(values, observed)
    length, width = values.shape

    def through_cycles(period: int | None) -> Float[Array, "time channel"]:
        if period is None or period >= length:
            return line
        cycles = -(-length // period)
        fill = ((0, cycles * period - length), (0, 0))
        by_phase = (jnp.pad(a, fill).reshape(cycles, period * width) for a in (values, observed))
        cycle = straight_line(*by_phase).reshape(-1, width)[:length]
        return jnp.where(jnp.isnan(cycle), line, cycle)

    shortest = season.within or season.period
    return line[None] if shortest is None or shortest >= length else jnp.stack([line, season.choose(through_cycles)])


def known_around(
    observed: Bool[Array, "time channel"],
) -> tuple[Int[Array, "time channel"], Int[Array, "time channel"]]:
    """The last observed step up to each step, -1 without one, and the first from it on, the length without one."""
    length = len(observed)
    step = jnp.arange(length)[:, None]
    before = jax.lax.cummax(jnp.where(observed, step, -1), axis=0)
    return before, jax.lax.cummin(jnp.where(observed, step, length), axis=0, reverse=True)


def straight_line(
    values: Float[Array, "time channel"], observed: Bool[Array, "time channel"]
) -> Float[Array, "time channel"]:
    """The line between the observed values before and after each step, level beyond the outermost; NaN without any."""
    length = len(values)
    step = jnp.arange(length)[:, None]
    before, after = known_around(observed)
    left, right = jnp.where(before < 0, after, before), jnp.where(after == length, before, after)
    low, high = (jnp.take_along_axis(values, jnp.clip(at, 0, length - 1), axis=0) for at in (left, right))
    way = (step - left) / jnp.maximum(right - left, 1)
    return jnp.where((before >= 0) | (after < length), low + (high - low) * way, jnp.nan)


def _beyond(ways: Float[Array, "way time channel"], mean: Float[Array, "time channel"]) -> Array:
    """By how much each way differs from the answers, 0 where it has nothing to say."""
    return jnp.where(jnp.isnan(ways), 0.0, ways - mean[None])


def _shares(errors: Errors) -> Float[Array, "way channel"]:
    """Those that are best for all channels together, then each channel's own, to which it is shrunk."""
    of_all = jax.tree.map(lambda a: jnp.sum(a, axis=-1, keepdims=True), errors)
    none = jnp.zeros((errors.with_ways.shape[1], 1), errors.own.dtype)
    return _shares_about(errors, _shares_about(of_all, none))


def _shares_about(errors: Errors, centre: Float[Array, "way #channel"]) -> Float[Array, "way channel"]:
    """Every pass counts by n / (n + few) for the n values that it hid."""
    weight = 1.0 / (errors.counts + _FEW)
    passes = jnp.sum(_weight(errors.counts), axis=0)
    whole = jnp.where(passes > 0, passes, 1.0)
    square = jnp.einsum("pc,pvwc->vwc", weight, errors.of_ways) / whole
    linear = jnp.einsum("pc,pwc->wc", weight, errors.with_ways) / whole
    own = jnp.einsum("pc,pc->c", weight, errors.own) / whole
    return best_shares(own, square, linear, passes, centre)


def _ratio(squares: Float[Array, "pass channel"], counts: Float[Array, "pass channel"]) -> Float[Array, " channel"]:
    """By how much variances grow or shrink: that of all channels first, to which each channel's own is then shrunk.

    Args:
        squares: sums of squared errors over variances.
        counts: of the values that were hidden.
    """
    total, number = jnp.sum(squares, axis=1), jnp.sum(counts, axis=1)
    of_all = _shrunk(total, number, jnp.ones((), squares.dtype))
    return _shrunk(squares, counts, of_all)


def _shrunk(squares: Float[Array, "pass *n"], counts: Float[Array, "pass *n"], to: Float[Array, ""]) -> Array:
    """Mean over passes of the mean square of each, drawn to one."""
    weight, means = _weight(counts), jnp.clip(squares / jnp.maximum(counts, 1), 0.0, CAP)
    passes = jnp.sum(weight, axis=0)
    return shrunk(jnp.sum(weight * means, axis=0) / jnp.where(passes > 0, passes, 1.0), passes, to)


def _weight(counts: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """What a pass counts for that hid so many values."""
    return counts / (counts + _FEW)
