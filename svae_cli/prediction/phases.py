"""Parts of the season: sums over the steps of a series told apart by their phase.

No clock is needed: phases count from a step of the very series that is asked about. A period of 1 is no season.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

_PARTS = 48  # of a season, at most: of a year's days each has too few errors


def part_at(step: Int[Array, " time"], period: int) -> Int[Array, " time"]:
    """The part of the season that each step is in; the first begins at step 0."""
    return step % period * min(period, _PARTS) // period


def in_cycles(series: Float[Array, "*n time channel"], period: int) -> Float[Array, "*n cycle phase channel"]:
    """A series cut into cycles, the last one filled up with zeros."""
    *before, steps, channels = series.shape
    missing = -steps % period
    padded = jnp.pad(series, [(0, 0)] * len(before) + [(0, missing), (0, 0)])
    return padded.reshape(*before, (steps + missing) // period, period, channels)


def in_parts(sums: Float[Array, "*n phase channel"], first: Int[Array, ""] | int) -> Float[Array, "*n part channel"]:
    """Sums over phases as sums over the parts of the season.

    Args:
        sums: by phase.
        first: the step of the first phase, counted as in ``part_at``.
    """
    *before, period, channels = sums.shape
    empty = jnp.zeros((*before, min(period, _PARTS), channels), sums.dtype)
    return empty.at[..., part_at(first + jnp.arange(period), period), :].add(sums)
