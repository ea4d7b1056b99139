"""Season memory: what the same phase of neighbouring cycles says of a value, channel by channel.

A shared state that turns once a season forgets the shape of each channel's own cycle. The values seen one, two and
more periods away remember it. Their weighted mean is a second estimate of a value; it is combined with that of the
shared states as two Gaussian sources are, by their variances (docs/model.md). Near observed values the states are sure
and the memory hardly counts; in long gaps and forecasts it counts most.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

CYCLES = 8
"""Cycles looked at to either side."""

_SLOWEST = 0.75  # a cycle's weight relative to the next nearer one, at most: the last one counts for little


class Remembered(NamedTuple):
    """What other cycles say of the values of one series.

    Attributes:
        mean: their estimate; that of the values hereabouts alone where no other cycle was seen.
        weight: 1 for a value seen one period away, less for those farther away, added up.
        error: how much larger than usual the squared errors of such estimates are hereabouts, 1 where unknown.
    """

    mean: Float[Array, "time channel"]
    weight: Float[Array, "time channel"]
    error: Float[Array, "time channel"]


class SeasonMemory(eqx.Module):
    """The estimate m + b (l - m) + c (s - l) of a value, from the mean s of its phase and the mean l hereabouts.

    Its error's variance is v, times (1 + few / weight) where few cycles were seen, times how much larger than usual
    the errors are hereabouts.

    Attributes:
        level: m, the channel's mean.
        logit_level_share: of b.
        logit_share: of c.
        log_swing: usual mean square of s - l.
        log_usual: mean squared error of such estimates in training.
        log_variance: of v.
        log_gain: of the factor by which a difference from the states' estimate counts.
        logit_decay: of the weight of a cycle relative to the next nearer one, divided by 0.75.
        log_few: see above.
        log_doubt: number of values hereabouts that count as much as the channel's mean and usual error.
        period: steps of a cycle.
    """

    level: Float[Array, " channel"]
    logit_level_share: Float[Array, " channel"]
    logit_share: Float[Array, " channel"]
    log_swing: Float[Array, " channel"]
    log_usual: Float[Array, " channel"]
    log_variance: Float[Array, " channel"]
    log_gain: Float[Array, " channel"]
    logit_decay: Float[Array, ""]
    log_few: Float[Array, ""]
    log_doubt: Float[Array, ""]
    period: int = eqx.field(static=True)

    @property
    def reach(self) -> int:
        """Steps to either side that have a say."""
        return 2 * CYCLES * self.period

    def features(
        self, values: Float[Array, "time channel"], observed: Bool[Array, "time channel"]
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"], Float[Array, "time channel"]]:
        """(mean of the phase s, mean hereabouts l, weight of s) by observed values; none counts for its own s.

        Args:
            values: finite everywhere.
            observed: which of them count.
        """
        steps = len(values)
        seen = observed.astype(values.dtype)
        known = jnp.where(observed, values - self.level[None, :], 0.0)
        decay = _SLOWEST * jax.nn.sigmoid(self.logit_decay)
        total, weight = jnp.zeros_like(values), jnp.zeros_like(values)
        for cycle in range(1, min(CYCLES, (steps - 1) // self.period) + 1):
            far = cycle * self.period
            near_first = decay ** (cycle - 1)
            total += near_first * (_later(known, far) + _earlier(known, far))
            weight += near_first * (_later(seen, far) + _earlier(seen, far))
        around = self._around(known) / (self._around(seen) + jnp.exp(self.log_doubt))
        phase = jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), around)
        return self.level[None, :] + phase, self.level[None, :] + around, weight

    def remember(self, values: Float[Array, "time channel"], observed: Bool[Array, "time channel"]) -> Remembered:
        """What observed values say of each other and of hidden ones; see ``features``."""
        phase, around, weight = self.features(values, observed)
        level_share, share = (jax.nn.sigmoid(a)[None, :] for a in (self.logit_level_share, self.logit_share))
        base, swing = self.level[None, :] + level_share * (around - self.level[None, :]), phase - around
        counts, doubt = jnp.where(observed, self._certainty(weight), 0.0), jnp.exp(self.log_doubt)
        prior = doubt * jnp.exp(self.log_swing)[None, :]
        fits = self._around(counts * swing * jnp.where(observed, values - base, 0.0)) + prior * share
        share = jnp.clip(fits / (self._around(counts * swing**2) + prior), 0.0, 1.0)
        mean = base + share * swing
        squares = counts * jnp.where(observed, values - mean, 0.0) ** 2 / jnp.exp(self.log_usual)[None, :]
        error = (self._around(squares) + doubt) / (self._around(counts) + doubt)
        return Remembered(mean, weight, error)

    def combine(
        self,
        mean: Float[Array, "time channel"],
        variance: Float[Array, "time channel"],
        remembered: Remembered,
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"]]:
        """Mean and variance of each value given both estimates.

        Args:
            mean: of the value, by the states alone.
            variance: of the value, by the states alone, noise included.
            remembered: what other cycles say.
        """
        precision = self._certainty(remembered.weight) / (remembered.error * jnp.exp(self.log_variance)[None, :])
        trust = variance * precision
        gain = jnp.exp(self.log_gain)[None, :] * trust / (1 + trust)
        return mean + gain * (remembered.mean - mean), variance / (1 + trust)

    def _certainty(self, weight: Array) -> Array:
        """1 / (1 + few / weight): 0 without any cycle."""
        return weight / (weight + jnp.exp(self.log_few))

    def _around(self, series: Array) -> Array:
        """Sums over the cycles to either side of each step."""
        side = CYCLES * self.period
        sums = jnp.concatenate([jnp.zeros_like(series[:1]), jnp.cumsum(series, axis=0)])
        step = np.arange(len(series))
        return sums[np.minimum(step + side + 1, len(series))] - sums[np.maximum(step - side, 0)]

    @classmethod
    def of(
        cls,
        *,
        level_share: np.ndarray,
        share: np.ndarray,
        swing: np.ndarray,
        variance: np.ndarray,
        decay: float,
        few: float,
        doubt: float,
        period: int,
    ) -> "SeasonMemory":
        """A memory around level 0 with gain 1; shares inside (0, 1), decay inside (0, 0.75)."""
        logit = lambda p: jnp.log(jnp.asarray(p)) - jnp.log1p(-jnp.asarray(p))  # noqa: E731
        nothing, usual = jnp.zeros(np.shape(share)), jnp.log(jnp.asarray(variance))
        return cls(
            level=nothing,
            logit_level_share=logit(level_share),
            logit_share=logit(share),
            log_swing=jnp.log(jnp.asarray(swing)),
            log_usual=usual,
            log_variance=usual,
            log_gain=nothing,
            logit_decay=logit(decay / _SLOWEST),
            log_few=jnp.log(jnp.asarray(few)),
            log_doubt=jnp.log(jnp.asarray(doubt)),
            period=period,
        )

    @classmethod
    def unknown(cls, n_channels: int, period: int) -> "SeasonMemory":
        """A memory to be filled in, such as with a file's parameters."""
        half = np.full(n_channels, 0.5)
        return cls.of(
            level_share=half, share=half, swing=half, variance=half, decay=0.5, few=0.5, doubt=1.0, period=period
        )

    def astype(self, dtype: np.dtype) -> "SeasonMemory":
        """The same memory with parameters of another type."""
        return jax.tree.map(lambda a: a.astype(dtype), self)

    def in_units(self, mean: np.ndarray, std: np.ndarray) -> "SeasonMemory":
        """The same memory of values that are multiplied by ``std`` and moved by ``mean``."""
        dtype = self.level.dtype
        square, scale, centre = (jnp.asarray(a, dtype) for a in (2 * np.log(std), std, mean))
        moved = (
            self.level * scale + centre,
            self.log_swing + square,
            self.log_usual + square,
            self.log_variance + square,
        )
        return eqx.tree_at(lambda m: (m.level, m.log_swing, m.log_usual, m.log_variance), self, moved)


def _later(series: Array, steps: int) -> Array:
    """Moved to later times; zeros come in."""
    return jnp.concatenate([jnp.zeros_like(series[:steps]), series[:-steps]])


def _earlier(series: Array, steps: int) -> Array:
    """Moved to earlier times; zeros come in."""
    return jnp.concatenate([series[steps:], jnp.zeros_like(series[:steps])])
