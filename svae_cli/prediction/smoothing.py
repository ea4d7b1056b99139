"""Exponential smoothing: level, slope and season follow each value by a part of what they were wrong by.

A few numbers are all that a short record can teach, and these have served for long: Holt (1957), Winters, "Forecasting
sales by exponentially weighted moving averages" (Management Science, 1960), and, for slopes that fade, Gardner and
McKenzie, "Forecasting trends in time series" (Management Science, 1985). None is chosen here: each of a grid of them
has a weight by its likelihood, that is, by how well it foretold the record from one step to the next.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_LEVELS = (0.02, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)  # part of an error that the level follows by
_SLOPES = ((0.0, 1.0), (0.1, 0.9), (0.3, 0.9), (0.1, 0.98))  # part of that for the slope; what a step leaves of one
_SEASONS = (0.0, 0.1, 0.3, 0.6)  # part of the rest of an error that the season follows by
LONGEST_RECORD = 256
"""Steps, beyond which there are better ways."""

LONGEST_SEASON = LONGEST_RECORD // 2
"""Steps; a record must have two of them."""

_FEWEST = 4  # values; with a season, two cycles of them
_NO_ERROR = 1e-6  # of the mean square; errors below do not make one weight larger than another


class Smoothed(NamedTuple):
    """What level, slope and season say.

    Attributes:
        ahead: of the steps from the origin on.
        known: channels with enough values to say anything.
    """

    ahead: Float[Array, "ahead channel"]
    known: Bool[Array, " channel"]


class _State(NamedTuple):
    """Of each choice of numbers and each channel: what it knows, how wrong it was, and values so far."""

    level: Float[Array, "choice channel"]
    slope: Float[Array, "choice channel"]
    season: Float[Array, "phase choice channel"]
    squares: Float[Array, "choice channel"]
    number: Float[Array, " channel"]


def smoothed(
    values: Float[Array, "time channel"],
    seen: Bool[Array, "time channel"],
    origin: Int[Array, ""],
    period: int,
    drift: Float[Array, " channel"],
    steps: int,
) -> Smoothed:
    """Forecasts by exponential smoothing of what was seen in the 256 steps before an origin; with long seasons, none.

    Args:
        values: finite everywhere.
        seen: which of them count; none from the origin on.
        origin: the first step to be forecast.
        period: steps of a season; 1 without.
        drift: a step, beside the slopes, which begin at 0.
        steps: how many are asked for.
    """
    back = min(len(values), LONGEST_RECORD)
    if 2 * period > back:
        return Smoothed(jnp.zeros((steps, values.shape[1]), values.dtype), jnp.zeros(values.shape[1], bool))
    at = origin - back + jnp.arange(back)
    inside = jnp.clip(at, 0, len(values) - 1)
    known = seen[inside] & (at >= 0)[:, None]
    past = jnp.where(known, values[inside], 0.0)
    usual = _usual_season(past, known, period, back - origin)
    rest = jnp.where(known, past - usual[np.arange(back) % period], 0.0)
    numbers = _grid(period)
    state = _followed(rest, known, period, drift, jnp.asarray(numbers, values.dtype))
    weight = _weights(state, rest, known, period)
    ahead = np.arange(1, steps + 1)
    kept = jnp.asarray(np.cumsum(numbers[:, 2] ** ahead[:, None], axis=0), values.dtype)  # of a slope, added up
    level = jnp.sum(weight * state.level, axis=0) + drift * ahead[:, None]
    climbed = jnp.sum(kept[:, :, None] * (weight * state.slope), axis=1)
    season = usual + jnp.sum(weight * state.season, axis=1)
    enough = state.number >= (2 * period if period > 1 else _FEWEST)
    return Smoothed(level + climbed + season[(back + ahead - 1) % period], enough)


def choices(period: int) -> int:
    """How many choices of numbers are followed at once, each with a season of so many steps."""
    return len(_grid(period))


def _grid(period: int) -> Float[np.ndarray, "choice 4"]:
    """For the level, for the slope, what a step leaves of a slope, for the season."""
    seasons = _SEASONS if period > 1 else _SEASONS[:1]
    grid = itertools.product(_LEVELS, _SLOPES, seasons)
    return np.array([(level, level * part, left, (1 - level) * season) for level, (part, left), season in grid])


def _followed(
    rest: Float[Array, "time channel"],
    known: Bool[Array, "time channel"],
    period: int,
    drift: Float[Array, " channel"],
    numbers: Float[Array, "choice 4"],
) -> _State:
    """The states after the last step, and their squared errors from the second season on.

    The first value is the first level, and of the first ones the level is the mean, until its own part is larger.
    """
    level_part, slope_part, left, season_part = (column[:, None] for column in numbers.T)

    def step(state: _State, now: tuple[Array, Array, Array]) -> tuple[_State, None]:
        value, there, phase = now
        season = state.season[phase]
        expected, settled = state.level + drift + left * state.slope, (state.number >= period).astype(value.dtype)
        error = there * (value - expected - season)
        level = expected + jnp.maximum(level_part, 1 / (1 + state.number)) * error
        slope = left * state.slope + slope_part * (state.number > 0) * error
        season = season + season_part * settled * error
        seasons = state.season.at[phase].set(season) if period > 1 else state.season
        squares = state.squares + settled * error**2
        return _State(level, slope, seasons, squares, state.number + there), None

    nothing = jnp.zeros((len(numbers), rest.shape[1]), rest.dtype)
    begin = _State(nothing, nothing, jnp.zeros((period, *nothing.shape), rest.dtype), nothing, nothing[0])
    return jax.lax.scan(step, begin, (rest, known.astype(rest.dtype), jnp.arange(len(rest)) % period))[0]


def _weights(
    state: _State, rest: Float[Array, "time channel"], known: Bool[Array, "time channel"], period: int
) -> Float[Array, "choice channel"]:
    """By the likelihood of Gaussian errors whose variance is the most likely one."""
    count = jnp.maximum(state.number - period, 0)
    number = jnp.maximum(state.number, 1)
    away = jnp.where(known, rest - jnp.sum(rest, axis=0) / number, 0.0)
    rounding = _NO_ERROR * jnp.sum(away**2, axis=0) / number
    variance = state.squares / jnp.maximum(count, 1) + jnp.maximum(rounding, jnp.finfo(rest.dtype).tiny)
    return jax.nn.softmax(-0.5 * count * jnp.log(variance), axis=0)


def _usual_season(
    past: Float[Array, "time channel"], known: Bool[Array, "time channel"], period: int, first: Int[Array, ""]
) -> Float[Array, "phase channel"]:
    """Mean by phase of what values are beyond the mean of the season around them, from a step on; 0 on average."""
    steps = len(past)
    if period == 1:
        return jnp.zeros((period, past.shape[1]), past.dtype)
    sums, counts = (jnp.pad(jnp.cumsum(a.astype(past.dtype), axis=0), ((1, 0), (0, 0))) for a in (past, known))
    begin = np.arange(steps)[:, None] - period // 2 + np.array([0, 1 - period % 2])  # an even season has two middles
    whole = jnp.all((begin >= jnp.maximum(first, 0)) & (begin + period <= steps), axis=1)
    begin = np.clip(begin, 0, steps - period)
    number = counts[begin + period] - counts[begin]
    around = jnp.mean((sums[begin + period] - sums[begin]) / jnp.maximum(number, 1), axis=1)
    told = known & whole[:, None] & (jnp.min(number, axis=1) >= period / 2)
    to_end = ((0, -steps % period), (0, 0))
    beyond, told = (jnp.pad(a, to_end).reshape(-1, period, a.shape[1]) for a in (past - around, told))
    mean = jnp.sum(jnp.where(told, beyond, 0.0), axis=0) / jnp.maximum(jnp.sum(told, axis=0), 1)
    return mean - jnp.mean(mean, axis=0)
