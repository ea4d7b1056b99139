"""Simple ways to go on from an origin: last value and last seasons with a drift beyond doubt, smoothing, regression."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from svae_cli.prediction.own_season import OwnSeason
from svae_cli.prediction.smoothing import Smoothed, smoothed

_CYCLES = 3  # seasons in the mean of the last ones
_DOUBT = 4.0  # times what a random walk shows by chance, to the square, is taken off a drift's
_INDEPENDENT = 2  # changes that their variance is measured by, at least


class Continuations(NamedTuple):
    """Ways to go on from an origin: the last value, the last season, the mean of three, smoothing, a regression.

    They drift on as the record has drifted, if most random walks would not have (``drift``).

    Attributes:
        table: forecasts of the model's first season ahead; with no season the last value is the only way, of one step.
        known: channels of which any value was seen.
        smooth: what exponential smoothing says of the steps ahead.
        regressed: what the regression on last values says of the steps ahead; no steps without one.
        drift: a step.
    """

    table: Float[Array, "way phase channel"]
    known: Bool[Array, " channel"]
    smooth: Smoothed
    regressed: Float[Array, "_ channel"]
    drift: Float[Array, " channel"]

    @classmethod
    def of(
        cls,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        origin: Int[Array, ""],
        season: OwnSeason,
        steps: int,
        regressed: Float[Array, "_ channel"] | None = None,
        *,
        smoothing: Bool[Array, ""] | bool = True,
    ) -> "Continuations":
        """From what was observed before the origin.

        Args:
            values: finite everywhere.
            observed: which of them count.
            origin: the first step to be forecast.
            season: of each channel.
            steps: that are asked for.
            regressed: see above; None for no steps.
            smoothing: whether it has anything to say.
        """
        step = jnp.arange(len(values))[:, None]
        seen = observed & (step < origin)
        latest = jnp.max(jnp.where(seen, step, -1), axis=0)
        last = jnp.take_along_axis(values, jnp.maximum(latest, 0)[None], axis=0)
        first = jnp.arange(season.period or 1)[:, None]
        slope = season.choose(lambda period: drift(values, seen, period or 1))
        drifting = last + slope * (first + origin - latest)

        def repeated(period: int | None) -> Float[Array, "way phase channel"]:
            if period is None:
                return drifting[None]
            count, *cycles = _last_cycles(values, seen, origin, period, slope)
            phase = first[:, 0] % period
            again = [jnp.where(count > 0, way, 0.0)[phase] + slope * (first - phase[:, None]) for way in cycles]
            return jnp.stack([drifting, *(jnp.where((count > 0)[phase], way, drifting) for way in again)])

        nothing = jnp.zeros((0, values.shape[1]), values.dtype)
        smooth = season.choose(lambda period: smoothed(values, seen, origin, period or 1, slope, steps))
        smooth = smooth._replace(known=smooth.known & smoothing)
        return cls(season.choose(repeated), latest >= 0, smooth, nothing if regressed is None else regressed, slope)

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
        later = jnp.maximum(ahead - ahead % self.period, 0)[:, None]
        return jnp.where(self.known, self.table[:, ahead % self.period] + self.drift * later - mean, 0.0)

    def added(
        self, mean: Float[Array, "time channel"], ahead: Int[Array, " time"], unknown: Float[Array, "time channel"]
    ) -> Float[Array, "say time channel"]:
        """What each say adds to a forecast: the simple ways far ahead, the next three, the last value close by.

        Args:
            mean: the forecast.
            ahead: steps from the origin, 0 for the first.
            unknown: how little the model knows of a step, 0 to 1.
        """
        beyond = self.beyond(mean, ahead)

        def at_all_steps(said: Array, known: Array) -> Array:
            inside = known & ((ahead >= 0) & (ahead < len(said)))[:, None]
            return jnp.where(inside, said[jnp.clip(ahead, 0, len(said) - 1)] - mean, 0.0)[None]

        flat = [beyond[:1], at_all_steps(self.smooth.ahead, self.smooth.known)]
        flat += [at_all_steps(self.regressed, self.known)] if len(self.regressed) else []
        return jnp.concatenate([beyond * unknown, *flat, beyond[:1] * (1 - unknown) ** 2])


def _last_cycles(
    values: Float[Array, "time channel"],
    seen: Bool[Array, "time channel"],
    origin: Int[Array, ""],
    period: int,
    slope: Float[Array, " channel"],
) -> tuple[Int[Array, "phase channel"], Float[Array, "phase channel"], Float[Array, "phase channel"]]:
    """Of the last three seasons before an origin, by phase: how many values are known, the newest, their mean.

    Values drift to the first season ahead.
    """
    ago = period * jnp.arange(1, _CYCLES + 1)
    at = origin - ago[:, None] + jnp.arange(period)[None]
    inside = jnp.clip(at, 0, len(values) - 1)
    known, cycles = seen[inside] & (at >= 0)[..., None], values[inside] + slope * ago[:, None, None]
    count = jnp.sum(known, axis=0)
    mean = jnp.sum(jnp.where(known, cycles, 0.0), axis=0) / jnp.maximum(count, 1)
    return count, jnp.take_along_axis(cycles, jnp.argmax(known, axis=0)[None], axis=0)[0], mean


def drift(
    values: Float[Array, "time channel"], seen: Bool[Array, "time channel"], lag: int
) -> Float[Array, " channel"]:
    """Mean change a step, as far as it is beyond doubt: over a season, or from each value to the next one known.

    A random walk drifts by chance: the mean of so many independent changes has, squared, their variance over their
    number. Four times that, two standard errors, relative to the square of the mean, is taken off the drift. Of
    changes over a season that overlap, as many are independent as there are seasons between first and last.

    Args:
        values: finite everywhere.
        seen: which of them count.
        lag: steps of a season; 1 without.
    """
    if lag >= len(values):
        return jnp.zeros(values.shape[1], values.dtype)
    if lag > 1:
        both, gap = seen[lag:] & seen[:-lag], jnp.full(1, lag)
        change = jnp.where(both, values[lag:] - values[:-lag], 0.0)
    else:
        step = jnp.arange(len(values))[:, None]
        latest = jax.lax.cummax(jnp.where(seen, step, -1))
        before = jnp.concatenate([jnp.full_like(latest[:1], -1), latest[:-1]])
        both, gap = seen & (before >= 0), step - before
        change = jnp.where(both, values - jnp.take_along_axis(values, jnp.maximum(before, 0), axis=0), 0.0)
    gap, count = jnp.where(both, gap, 0), jnp.sum(both, axis=0)
    mean = jnp.sum(change, axis=0) / jnp.maximum(jnp.sum(gap, axis=0), 1)
    independent = count / lag
    variance = jnp.sum((change - gap * mean) ** 2, axis=0) / jnp.maximum(count, 1)
    chance = variance / jnp.maximum(independent - 1, 1.0)
    square = (jnp.sum(change, axis=0) / jnp.maximum(count, 1)) ** 2
    surely = jnp.clip(1 - _DOUBT * chance / jnp.where(square == 0, 1.0, square), 0.0, 1.0)
    return jnp.where(independent >= _INDEPENDENT, surely * mean, 0.0).astype(values.dtype)
