"""Season memory: what the same phase of neighbouring cycles says of a value, channel by channel.

A shared state that turns once a season forgets the shape of each channel's own cycle. The values seen one, two and
more periods away remember it. Their weighted mean is a second estimate of a value; it is combined with that of the
shared states as two Gaussian sources are, by their variances (docs/model.md). Near observed values the states are sure
and the memory hardly counts; in long gaps and forecasts it counts most.
"""

from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

CYCLES = 8
"""Cycles looked at to either side."""

_BLOCK = 64  # steps
_MOST_ROWS = 256  # of a matrix over cycles
_SLOWEST = 0.75  # a cycle's weight relative to the next nearer one, at most: the last one counts for little


class Remembered(NamedTuple):
    """What other cycles say of the values of one series.

    Attributes:
        mean: their estimate; that of the values hereabouts alone where no other cycle was seen.
        weight: 1 for a value seen one period away, less for those farther away, added up.
        error: how much larger than usual the squared errors of such estimates are hereabouts, 1 where unknown.
        within: the same with what the deviations of shorter cycles nearby add, if they are remembered.
    """

    mean: Float[Array, "time channel"]
    weight: Float[Array, "time channel"]
    error: Float[Array, "time channel"]
    within: "Remembered | None" = None


class SeasonMemory(eqx.Module):
    """The estimate m + b (l - m) + c (s - l) of a value, from the mean s of its phase and the mean l hereabouts.

    Its error's variance is v, times (1 + few / weight) where few cycles were seen, times how much larger than usual
    the errors are hereabouts.

    Of two cycles, one within the other as days are in weeks, the shorter one remembers what the longer one did not
    foresee: that yesterday was warmer than such a day of the week is.

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
        within: of the shorter cycle, of deviations from this one's estimates; None if there is none.
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
    within: "SeasonMemory | None" = None

    @property
    def reach(self) -> int:
        """Steps to either side that have a say; in how large errors are, those of half as many more have a little."""
        return 2 * CYCLES * self.period + (0 if self.within is None else self.within.reach)

    def features(
        self, values: Float[Array, "time channel"], observed: Bool[Array, "time channel"]
    ) -> tuple[Float[Array, "time channel"], Float[Array, "time channel"], Float[Array, "time channel"]]:
        """(mean of the phase s, mean hereabouts l, weight of s) by observed values; none counts for its own s.

        Args:
            values: finite everywhere.
            observed: which of them count.
        """
        seen = observed.astype(values.dtype)
        known = jnp.where(observed, values - self.level[None, :], 0.0)
        decay = _SLOWEST * jax.nn.sigmoid(self.logit_decay)
        total, weight = (over_cycles(a, decay, self.period) for a in (known, seen))
        around = self._around(known) / (self._around(seen) + jnp.exp(self.log_doubt))
        phase = jnp.where(weight > 0, total / jnp.where(weight > 0, weight, 1.0), around)
        return self.level[None, :] + phase, self.level[None, :] + around, weight

    def remember(
        self,
        values: Float[Array, "time channel"],
        observed: Bool[Array, "time channel"],
        around: Float[Array, "longer channel"] | None = None,
    ) -> Remembered:
        """What observed values say of each other and of hidden ones; see ``features``.

        Args:
            values: finite everywhere.
            observed: which of them count.
            around: the same steps with as many before as after them, NaN where unknown; no steps at all are no more
                than ``values``. What it has of ``values`` themselves is not looked at. Of as many of its own cycles as
                these are of this one, a shorter one within is told.
        """
        if around is None or not len(around):
            return self._remember(values, observed, 0)
        margin = (len(around) - len(values)) // 2
        inside = slice(margin, margin + len(values))
        known = (~jnp.isnan(around)).at[inside].set(observed)
        return self._remember(jnp.where(known, around, 0.0).at[inside].set(values), known, margin)

    def _remember(
        self, values: Float[Array, "longer channel"], observed: Bool[Array, "longer channel"], margin: int
    ) -> Remembered:
        """What is said of all but the first and last ``margin`` steps."""
        said = self._by_itself(values, observed)
        if self.within is None:
            return _without_ends(said, margin)
        near = min(margin, -(-margin // self.period) * self.within.period)  # as many of its own cycles
        foreseen = self.foresees(said, observed)
        deviations = jnp.where(observed, values - said.mean, 0.0), observed & foreseen
        beside = self.within._remember(*_without_ends(deviations, margin - near), near)
        said, foreseen = _without_ends((said, foreseen), margin)
        weight = jnp.where(foreseen, beside.weight, 0.0)
        return said._replace(within=beside._replace(mean=said.mean + beside.mean, weight=weight))

    @staticmethod
    def foresees(said: Remembered, observed: Bool[Array, "time channel"]) -> Bool[Array, "time channel"]:
        """Where deviations from what was said mean something: another cycle was seen there.

        Of a channel no value of which has another cycle, the deviations are all there is to remember, where nothing
        was said.
        """
        known = said.weight > 0
        alone = ~jnp.any(known & observed, axis=0)[None, :]
        return known != alone

    def _by_itself(self, values: Float[Array, "time channel"], observed: Bool[Array, "time channel"]) -> Remembered:
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
        mean, variance = mean + gain * (remembered.mean - mean), variance / (1 + trust)
        if self.within is None or remembered.within is None:
            return mean, variance
        return self.within.combine(mean, variance, remembered.within)

    def _certainty(self, weight: Array) -> Array:
        """1 / (1 + few / weight): 0 without any cycle."""
        return weight / (weight + jnp.exp(self.log_few))

    def _around(self, series: Array) -> Array:
        """Sums over the cycles to either side of each step; one sum for all steps where they reach all others."""
        steps = len(series)
        side = CYCLES * self.period
        if side >= steps - 1:
            return jnp.broadcast_to(jnp.sum(series, axis=0, keepdims=True), series.shape)
        sums = prefix_sums(series)
        last = jnp.broadcast_to(sums[-1:], (side, *series.shape[1:]))
        return jnp.concatenate([sums[side + 1 :], last]) - _later(sums[:-1], side)

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
    def unknown(cls, n_channels: int, period: int, within: int = 0) -> "SeasonMemory":
        """A memory to be filled in, such as with a file's parameters.

        Args:
            n_channels: D.
            period: steps of a cycle.
            within: steps of a shorter one; 0 if there is none.
        """
        half = np.full(n_channels, 0.5)
        memory = cls.of(
            level_share=half, share=half, swing=half, variance=half, decay=0.5, few=0.5, doubt=1.0, period=period
        )
        return memory.with_within(cls.unknown(n_channels, within)) if within else memory

    def with_within(self, within: "SeasonMemory | None") -> "SeasonMemory":
        """The same memory with another one, or none, of deviations from its estimates."""
        return eqx.tree_at(lambda m: m.within, self, within, is_leaf=lambda leaf: leaf is None)

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
        memory = eqx.tree_at(lambda m: (m.level, m.log_swing, m.log_usual, m.log_variance), self, moved)
        if memory.within is None:
            return memory
        return memory.with_within(memory.within.in_units(np.zeros_like(mean), std))  # deviations have no mean


Arrays = TypeVar("Arrays")


def _without_ends(arrays: Arrays, margin: int) -> Arrays:
    """All but the first and last ``margin`` steps."""
    return jax.tree.map(lambda a: a[margin : len(a) - margin], arrays)


def over_cycles(series: Float[Array, "time channel"], decay: Array, period: int) -> Float[Array, "time channel"]:
    """Sums of the values one, two, ... periods to either side; each cycle has ``decay`` times the weight of the nearer.

    Of few cycles, as training windows show, sums so far are carried from one to the next. Of more, as one product of
    matrices: cycles are rows, and shifts of the series would each be a pass over memory. Of many, the matrix would be
    large and nearly empty.

    Args:
        series: 0 where unknown.
        decay: above 0.
        period: steps of a cycle.
    """
    steps, width = series.shape
    cycles = -(-steps // period)
    if cycles > _MOST_ROWS:
        shifts = [(decay ** (n - 1), n * period) for n in range(1, CYCLES + 1)]
        return sum((w * (_later(series, far) + _earlier(series, far)) for w, far in shifts), jnp.zeros_like(series))
    padded = jnp.pad(series, ((0, cycles * period - steps), (0, 0)))
    if cycles <= CYCLES + 1:  # each reaches all others
        return _carried(padded.reshape(cycles, period, width), decay).reshape(-1, width)[:steps]
    apart = np.abs(np.subtract.outer(np.arange(cycles), np.arange(cycles)))
    weights = jnp.where(
        (apart > 0) & (apart <= CYCLES), decay ** jnp.asarray(np.maximum(apart - 1, 0), decay.dtype), 0.0
    )
    rows = padded.reshape(cycles, period * width)
    return (weights.astype(series.dtype) @ rows).reshape(cycles * period, width)[:steps]


def _carried(cycles: Float[Array, "cycle phase channel"], decay: Array) -> Float[Array, "cycle phase channel"]:
    """Sums of all cycles before and of all after each."""
    before, after = [jnp.zeros_like(cycles[0])], [jnp.zeros_like(cycles[0])]
    for earlier, later in zip(cycles[:-1], cycles[:0:-1], strict=True):
        before.append(decay * before[-1] + earlier)
        after.append(decay * after[-1] + later)
    return jnp.stack(before) + jnp.stack(after[::-1])


def prefix_sums(series: Float[Array, "time channel"]) -> Float[Array, "time_and_one channel"]:
    """Sums of the first 0, 1, ... steps, as products with triangles: XLA's own take many passes over memory."""
    steps, width = series.shape
    blocks = -(-steps // _BLOCK)
    rows = jnp.pad(series, ((0, blocks * _BLOCK - steps), (0, 0))).reshape(blocks, _BLOCK, width)
    inside = jnp.einsum("ij,bjd->bid", jnp.tri(_BLOCK, dtype=series.dtype), rows)
    before = jnp.tri(blocks, k=-1, dtype=series.dtype) @ inside[:, -1]
    sums = (inside + before[:, None]).reshape(blocks * _BLOCK, width)[:steps]
    return jnp.concatenate([jnp.zeros_like(series[:1]), sums])


def _later(series: Array, steps: int) -> Array:
    """Moved to later times; zeros come in."""
    return jnp.concatenate([jnp.zeros_like(series[:steps]), series[: len(series) - steps]])


def _earlier(series: Array, steps: int) -> Array:
    """Moved to earlier times; zeros come in."""
    return jnp.concatenate([series[steps:], jnp.zeros_like(series[:steps])])
