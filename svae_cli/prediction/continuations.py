"""The simplest ways to go on from an origin: the last value with a drift beyond doubt, last seasons, a regression."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from svae_cli.prediction.own_season import OwnSeason

_CYCLES = 3  # seasons in the mean of the last ones
_DOUBT = 4.0  # times what a random walk shows by chance, to the square, is taken off a drift's


class Continuations(NamedTuple):
    """Ways to go on from an origin: the last value, the last season, the mean of the last three seasons, a regression.

    The last value drifts on as the record has drifted, if no random walk would have (``drift``).

    Attributes:
        table: forecasts by the step's phase in the model's season; with no season the last value is the only way, of
            one phase.
        known: channels of which any value was seen.
        regressed: what the regression on last values says of the steps ahead; no steps without one.
        drift: of the last value, a step.
        age: steps from the last value to the origin.
    """

    table: Float[Array, "way phase channel"]
    known: Bool[Array, " channel"]
    regressed: Float[Array, "ahead channel"]
    drift: Float[Array, " channel"]
    age: Int[Array, " channel"]

    @classmethod
    def of(
        cls,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        origin: Int[Array, ""],
        season: OwnSeason,
        regressed: Float[Array, "ahead channel"] | None = None,
    ) -> "Continuations":
        """From what was observed before the origin.

        Args:
            values: finite everywhere.
            observed: which of them count.
            origin: the first step to be forecast.
            season: of each channel.
            regressed: see above; None for no steps.
        """
        step = jnp.arange(len(values))[:, None]
        latest = jnp.max(jnp.where(observed & (step < origin), step, -1), axis=0)
        last = jnp.take_along_axis(values, jnp.maximum(latest, 0)[None], axis=0)
        phases = season.period or 1

        def repeated(period: int | None) -> Float[Array, "way phase channel"]:
            if period is None:
                return last[None]
            count, newest, mean = _last_cycles(values, observed, origin, period)
            ways = [jnp.broadcast_to(last, mean.shape), *(jnp.where(count > 0, way, last) for way in (newest, mean))]
            return jnp.stack(ways)[:, jnp.arange(phases) % period]

        nothing = jnp.zeros((0, values.shape[1]), values.dtype)
        drifting = drift(values, observed & (step < origin))
        ahead = nothing if regressed is None else regressed
        return cls(season.choose(repeated), latest >= 0, ahead, drifting, origin - latest)

    @property
    def period(self) -> int:
        """Steps of a season; 1 without."""
        return self.table.shape[1]

    def beyond(
        self, mean: Float[Array, "time channel"], ahead: Int[Array, " time"]
    ) -> Float[Array, "way time channel"]:
        """By how much each simple way differs from a forecast, 0 where it has nothing to say.

        Args:
            mean: the forecast.
            ahead: steps from the origin, 0 for the first.
        """
        said = self.table[:, ahead % self.period]
        said = said.at[0].add(self.drift * jnp.maximum(ahead[:, None] + self.age, 0))
        return jnp.where(self.known, said - mean, 0.0)

    def added(
        self, mean: Float[Array, "time channel"], ahead: Int[Array, " time"], unknown: Float[Array, "time channel"]
    ) -> Float[Array, "say time channel"]:
        """What each say adds to a forecast: the simple ways far ahead, the regression, the last value close by.

        Args:
            mean: the forecast.
            ahead: steps from the origin, 0 for the first.
            unknown: how little the model knows of a step, 0 to 1.
        """
        beyond = self.beyond(mean, ahead)
        regression = jnp.zeros((0, *mean.shape), mean.dtype)
        if len(self.regressed):
            inside = self.known & ((ahead >= 0) & (ahead < len(self.regressed)))[:, None]
            said = self.regressed[jnp.clip(ahead, 0, len(self.regressed) - 1)]
            regression = jnp.where(inside, said - mean, 0.0)[None]
        return jnp.concatenate([beyond * unknown, regression, beyond[:1] * (1 - unknown) ** 2])


def _last_cycles(
    values: Float[Array, "time channel"], observed: Bool[Array, "time channel"], origin: Int[Array, ""], period: int
) -> tuple[Int[Array, "phase channel"], Float[Array, "phase channel"], Float[Array, "phase channel"]]:
    """Of the last three seasons before an origin, by phase: how many values are known, the newest, their mean."""
    at = origin - period * jnp.arange(1, _CYCLES + 1)[:, None] + jnp.arange(period)[None]
    inside = jnp.clip(at, 0, len(values) - 1)
    known, cycles = observed[inside] & (at >= 0)[..., None], values[inside]
    count = jnp.sum(known, axis=0)
    mean = jnp.sum(jnp.where(known, cycles, 0.0), axis=0) / jnp.maximum(count, 1)
    return count, jnp.take_along_axis(cycles, jnp.argmax(known, axis=0)[None], axis=0)[0], mean


def drift(values: Float[Array, "time channel"], seen: Bool[Array, "time channel"]) -> Float[Array, " channel"]:
    """Mean change a step from the first value to the last, as far as it is beyond doubt.

    A random walk drifts by chance: its whole change, squared, is about the sum of the squares of what its changes
    differ from their mean. Four times that, two standard errors, relative to the square of the whole change, is taken
    off the drift.

    Args:
        values: finite everywhere.
        seen: which of them count.
    """
    step = jnp.arange(len(values))[:, None]
    latest = jax.lax.cummax(jnp.where(seen, step, -1))
    before = jnp.concatenate([jnp.full_like(latest[:1], -1), latest[:-1]])
    both = seen & (before >= 0)
    change = jnp.where(both, values - jnp.take_along_axis(values, jnp.maximum(before, 0), axis=0), 0.0)
    gap, count = jnp.where(both, step - before, 0), jnp.sum(both, axis=0)
    whole, span = jnp.sum(change, axis=0), jnp.sum(gap, axis=0)
    mean = whole / jnp.maximum(span, 1)
    chance = jnp.sum((change - gap * mean) ** 2, axis=0) * count / jnp.maximum(count - 1, 1)
    surely = jnp.clip(1 - _DOUBT * chance / jnp.where(whole == 0, 1.0, whole**2), 0.0, 1.0)
    return jnp.where(count > 1, surely * mean, 0.0)
