"""Glitches: known values that cannot be, by all that is known beside them, count as missing.

A spike of a sensor, a code, a decimal point in the wrong place: for Gaussian noise the only explanation of one is a
state far away, so one value spoils all channels for as long as states last. Every value is predicted from about half
of the others, and those that are far off are in doubt: glitches, and the honest values beside them. With all of
those hidden they are predicted once more. The honest ones come back; what still is impossible, and off the straight
line between honest values too, is a glitch, unless there are many, or several after one another: then the level moved.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from svae_cli.models.svae import SVAE
from svae_cli.prediction.gap_check import known_around, straight_line
from svae_cli.prediction.self_check import LOOKS, Moments, predicted

LIMIT = 12.0
"""Standard deviations away from what all else says that no value is, in units of what is usual in its channel."""

_IN_DOUBT = 4.0  # standard deviations beyond which a value is predicted again, without all others in doubt
_OFF_THE_LINE = 0.5  # distance from a line between honest values of the channel, in units of that from the model
_FARTHEST = 1e6  # standard deviations that are looked at: farther ones would leave float32
_MOST = 0.05  # of a channel's known values, or one; where there are more, it is the model that is wrong
_MOST_OF_ALL = 0.02  # the same of all channels together
_FEW = 16  # known values of a channel, below which what is usual in all channels is usual in it
_USUAL, _GAUSSIAN = 0.9, 1.645  # so many distances are usual; what they stay below if the model is right


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

    def look(doubts: Doubts, number: Array) -> tuple[Doubts, None]:
        seen = doubts.seen(observed, number)
        return doubts.after(observed & ~seen, predicted(model, doubts.values, seen, inputs)[1]), None

    return jax.lax.scan(look, Doubts.none(values), jnp.arange(LOOKS))[0].cleared(observed)


class Doubts(NamedTuple):
    """What the looks so far have shown.

    Attributes:
        values: in model units, as far away as float32 can tell.
        away: how far from what the model says of them, in standard deviations, when last hidden.
        hidden: in the last look.
        mean: what the model said then.
    """

    values: Float[Array, "time channel"]
    away: Float[Array, "time channel"]
    hidden: Bool[Array, "time channel"]
    mean: Float[Array, "time channel"]

    @classmethod
    def none(cls, values: Float[Array, "time channel"]) -> "Doubts":
        """Before the first look."""
        nothing = jnp.zeros_like(values)
        return cls(jnp.clip(values, -_FARTHEST, _FARTHEST), nothing, jnp.zeros(values.shape, bool), nothing)

    def seen(self, observed: Bool[Array, "time channel"], number: Int[Array, ""]) -> Bool[Array, "time channel"]:
        """Without one half of the values, then the other, then those in doubt."""
        lot = jax.random.bernoulli(jax.random.key(0), shape=observed.shape)
        return observed & ~jnp.where(number < LOOKS - 1, lot == (number == 0), jnp.abs(self.away) > _IN_DOUBT)

    def after(self, hidden: Bool[Array, "time channel"], moments: Moments) -> "Doubts":
        """With what the model says of all values, some of them hidden."""
        mean, variance = moments
        away = jnp.where(hidden, (self.values - mean) / jnp.sqrt(variance), self.away)
        return Doubts(self.values, away, hidden, mean)

    def cleared(self, observed: Bool[Array, "time channel"]) -> Bool[Array, "time channel"]:
        """The observed values but for the glitches, after the last look."""
        values, away, in_doubt, mean = self
        line = straight_line(values, observed & ~in_doubt)
        both_say_so = jnp.isnan(line) | (jnp.abs(values - line) > _OFF_THE_LINE * jnp.abs(values - mean))
        glitch = in_doubt & both_say_so & (jnp.abs(away) > LIMIT * _usual(away, observed))
        glitch = glitch & ~_in_a_run(glitch, observed)
        few = jnp.sum(glitch, axis=0) <= jnp.maximum(_MOST * jnp.sum(observed, axis=0), 1)
        few_of_all = jnp.sum(glitch) <= jnp.maximum(_MOST_OF_ALL * jnp.sum(observed), 1)
        return observed & ~(glitch & few[None] & few_of_all)


def _in_a_run(flag: Bool[Array, "time channel"], observed: Bool[Array, "time channel"]) -> Bool[Array, "time channel"]:
    """Flags of three or more known values of a channel after one another, or two at either end: the level moved."""
    length = len(flag)
    before, after = known_around(observed)
    # The known values before and after each step; what is beyond an end goes on as it ended, once.
    before = jnp.concatenate([jnp.full_like(before[:1], -1), before[:-1]])
    after = jnp.concatenate([after[1:], jnp.full_like(after[:1], length)])

    def at(flags: Array, place: Array, *, beyond: bool) -> Array:
        inside = (place >= 0) & (place < length)
        return jnp.where(inside, jnp.take_along_axis(flags, jnp.clip(place, 0, length - 1), axis=0), beyond)

    one_before, one_after = at(flag, before, beyond=True), at(flag, after, beyond=True)
    two_before, two_after = at(one_before, before, beyond=False), at(one_after, after, beyond=False)
    between = one_before & one_after & ((before >= 0) | (after < length))
    return flag & ((one_before & two_before) | between | (one_after & two_after))


def _usual(away: Array, observed: Array) -> Float[Array, "1 channel"]:
    """By what distances are usually too large, 1 at least: nine of ten are compared with those of a Gaussian."""
    sizes = jnp.where(observed, jnp.abs(away), jnp.nan)
    of_all, own = jnp.nanquantile(sizes, _USUAL), jnp.nanquantile(sizes, _USUAL, axis=0)
    enough = jnp.sum(observed, axis=0) >= _FEW
    usual = jnp.nan_to_num(jnp.where(enough, jnp.maximum(own, of_all), of_all)) / _GAUSSIAN
    return jnp.maximum(usual, 1.0)[None]
